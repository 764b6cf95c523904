"""umT5 and its tokenizer: the golden case, and transformers, sentencepiece and ftfy as oracles."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ftfy
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import T5Tokenizer

from infinitetalk.core.configs import TextConfig
from infinitetalk.core.errors import ModelError
from infinitetalk.models.text import TextEncoder
from infinitetalk.models.tokenizer import PromptEncoder, Tokenizer, clean
from infinitetalk.weights.keymaps import TEXT
from infinitetalk.weights.load import assemble

Error = Callable[[Tensor, Tensor], float]
PROMPTS = [
    "A person talks, calmly.",
    "a man sings under blue light by the window with lively eyes",
    "ﬁne Ｆull width, ½ and ①",
    "日本語 text, 色调艳丽",
    "emoji 😀😀 ok",
    "<extra_id_0> hi",
    "punctuation!? (brackets) – dashes… \"quotes\" and 'more'",
    "x",
    "",
]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(TextConfig(vocab=512, dim=32, dim_attn=16, dim_ffn=48, num_heads=2, num_layers=2)).eval()


def test_golden(golden_case: Callable[[str], Any], relative_error: Error) -> None:
    case = golden_case("t5_encoder")
    config = TextConfig.read(case.meta["config"])
    encoder = assemble(lambda: TextEncoder(config), case.state, TEXT, dtype=torch.float32)
    ids, mask, expected = case.tensors["ids"], case.tensors["mask"], case.tensors["output"]
    real = mask.bool()
    assert relative_error(encoder.encode_ids(ids, mask)[real], expected[real]) < 1e-5
    for row, length in enumerate(mask.sum(1).tolist()):
        alone = encoder.encode(ids[row, :length].tolist())
        assert relative_error(alone, expected[row, :length]) < 1e-5


def test_hugging_face_layout_and_one_embedding(encoder: TextEncoder) -> None:
    state = dict(encoder.network.state_dict())
    assert {"shared.weight", "encoder.embed_tokens.weight"} <= set(state)
    for kept in (state, {name: value for name, value in state.items() if "embed_tokens" not in name}):
        loaded = assemble(lambda: TextEncoder(encoder.config), kept, TEXT, dtype=torch.float32)
        assert loaded.network.shared.weight is loaded.network.encoder.embed_tokens.weight
        torch.testing.assert_close(loaded.encode([5, 9, 1]), encoder.encode([5, 9, 1]))


def test_long_prompts_reach_all_distance_buckets(encoder: TextEncoder, relative_error: Error) -> None:
    """Padding beyond the real tokens changes nothing, also where distances are counted in coarse steps."""
    torch.manual_seed(1)
    ids = torch.randint(0, 512, (1, 300))
    mask = (torch.arange(300) < 260).long()[None]
    with torch.no_grad():
        padded = encoder.encode_ids(ids, mask)[0, :260]
    assert relative_error(encoder.encode(ids[0, :260].tolist()), padded) < 1e-5


@pytest.mark.parametrize("changes", [{"shared_pos": True}, {"num_heads": 5}])
def test_other_networks_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="text: "):
        TextEncoder(TextConfig.read({"dim": 32, "dim_attn": 16, "num_heads": 2, "vocab": 8, **changes}))


@pytest.fixture(scope="module")
def fast_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tokenizer as transformers stores it."""
    folder = tmp_path_factory.mktemp("fast")
    T5Tokenizer.from_pretrained(str(tiny_folder / "tokenizer"), extra_ids=0).save_pretrained(str(folder))
    return folder


def test_tokens_are_transformers_own(tiny_folder: Path, fast_folder: Path) -> None:
    oracle = T5Tokenizer.from_pretrained(str(tiny_folder / "tokenizer"), extra_ids=0)
    pieces, fast = Tokenizer.open(tiny_folder / "tokenizer", 512), Tokenizer.open(fast_folder, 512)
    assert pieces.size == fast.size == len(oracle)
    for prompt in PROMPTS:
        expected = oracle(clean(prompt)).input_ids
        assert pieces(prompt) == expected
        assert fast(prompt) == expected


@pytest.mark.parametrize("limit", [2, 8])
def test_long_prompts_are_cut_with_a_warning(
    tiny_folder: Path, fast_folder: Path, caplog: pytest.LogCaptureFixture, limit: int
) -> None:
    prompt = "a man sings under blue light by the window with lively eyes"
    oracle = T5Tokenizer.from_pretrained(str(tiny_folder / "tokenizer"), extra_ids=0)
    expected = oracle(prompt, truncation=True, max_length=limit).input_ids
    for folder in (tiny_folder / "tokenizer", fast_folder):
        caplog.clear()
        assert Tokenizer.open(folder, limit)(prompt) == expected
        assert f"was cut to the {limit}" in caplog.text


def test_a_prompt_that_just_fits_is_whole(tiny_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    prompt = "a man sings outdoors."
    whole = Tokenizer.open(tiny_folder / "tokenizer", 512)(prompt)
    assert Tokenizer.open(tiny_folder / "tokenizer", len(whole))(prompt) == whole
    assert not caplog.text


def test_round_trip_through_sentencepiece(tiny_folder: Path) -> None:
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor(model_file=str(tiny_folder / "tokenizer" / "spiece.model"))
    prompt = "a woman talks calmly into the camera."
    numbers = Tokenizer.open(tiny_folder / "tokenizer", 512)(prompt)
    assert processor.decode(numbers[:-1]) == prompt
    assert numbers[-1] == processor.eos_id()


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("  a   person\n\ttalks ", "a person talks"),
        ("Tom &amp;amp; Jerry", "Tom & Jerry"),
        ("&lt;b&gt;bold&lt;/b&gt;", "<b>bold</b>"),
        ("schÃ¶n", "schön"),
        ("â€œquotedâ€\x9d", '"quoted"'),
        ("a\u3000wide\u00a0blank", "a wide blank"),
        ("", ""),
    ],
)
def test_cleaning(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned
    assert clean(cleaned) == cleaned


def test_cleaning_repairs_what_ftfy_repairs() -> None:
    broken = "l’ÃƒÂ©tÃƒÂ© â€” café"
    assert clean(broken) == " ".join(ftfy.fix_text(broken).split())


def test_prompts_keep_their_true_length(tiny_folder: Path, encoder: TextEncoder) -> None:
    prompts = PromptEncoder(Tokenizer.open(tiny_folder / "tokenizer", 32), encoder)
    texts = ["A man talks.", "", "A man talks."]
    encoded = prompts.encode(texts)
    assert [tuple(text.shape) for text in encoded] == [(len(prompts.tokenizer(text)), 32) for text in texts]
    assert encoded[1].shape[0] == 1
    assert torch.equal(encoded[0], encoded[2])


def test_broken_tokenizers_are_refused(tmp_path: Path, tiny_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"neither tokenizer\.json nor spiece\.model"):
        Tokenizer.open(tmp_path, 8)
    (tmp_path / "spiece.model").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="is not a sentencepiece model"):
        Tokenizer.open(tmp_path, 8)
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="is not a tokenizer"):
        Tokenizer.open(tmp_path, 8)
    tokenizer = Tokenizer.open(tiny_folder / "tokenizer", 8)
    small = TextEncoder(TextConfig(vocab=tokenizer.size - 1, dim=8, dim_attn=8, dim_ffn=8, num_heads=1, num_layers=1))
    with pytest.raises(ModelError, match="the tokenizer has"):
        PromptEncoder(tokenizer, small)


def test_a_tokenizer_inside_comfys_text_encoder_is_the_same(tiny_folder: Path, tmp_path: Path) -> None:
    pieces = (tiny_folder / "tokenizer" / "spiece.model").read_bytes()
    file = tmp_path / "umt5.safetensors"
    save_file({"spiece_model": torch.frombuffer(bytearray(pieces), dtype=torch.uint8)}, file)
    inside, beside = Tokenizer.open(file, 32), Tokenizer.open(tiny_folder / "tokenizer", 32)
    assert inside("A person talks calmly.") == beside("A person talks calmly.")
    save_file({"other": torch.zeros(1)}, file)
    with pytest.raises(ModelError, match=r"umt5\.safetensors: has no tokenizer inside"):
        Tokenizer.open(file, 32)
