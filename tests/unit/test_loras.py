"""LoRAs in a request: how they are written, read and paired, and what a file's name says."""

from pathlib import Path
from typing import Any

import pytest

from infinitetalk.core.defaults import STANDARD_BUCKETS, ModelDefaults, ModelFacts, resolve
from infinitetalk.core.errors import RequestError
from infinitetalk.core.loras import Lora, paired, read_loras
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import Pixels

FACTS = ModelFacts(name="large", defaults=ModelDefaults(), buckets=STANDARD_BUCKETS, has_text=True, max_people=2)


def request(**changes: Any) -> TalkRequest:
    return TalkRequest(**{"image": Path("a.png"), "audio": (Path("a.wav"),), **changes})


@pytest.mark.parametrize(
    ("text", "path", "strength"),
    [
        ("face.safetensors", "face.safetensors", 1.0),
        ("face.safetensors:0.8", "face.safetensors", 0.8),
        ("face.safetensors:-1", "face.safetensors", -1.0),
        ("C:/loras/face.safetensors", "C:/loras/face.safetensors", 1.0),
        ("C:/loras/face.safetensors:2", "C:/loras/face.safetensors", 2.0),
        ("odd:name.safetensors", "odd:name.safetensors", 1.0),
    ],
)
def test_a_text_is_a_file_and_perhaps_a_strength(text: str, path: str, strength: float) -> None:
    assert Lora.parse(text) == Lora(Path(path), strength)


@pytest.mark.parametrize("text", ["", ":0.5", "face.safetensors:nan", "face.safetensors:inf"])
def test_texts_that_are_none(text: str) -> None:
    with pytest.raises(RequestError, match="lora"):
        Lora.parse(text)


def test_a_request_takes_them_in_many_forms_and_gives_them_back() -> None:
    given = request(loras=["a.safetensors:0.5", Path("b.safetensors"), ("c:1.safetensors", 2), Lora(Path("d"), 3.0)])
    assert given.loras == (
        Lora(Path("a.safetensors"), 0.5), Lora(Path("b.safetensors")), Lora(Path("c:1.safetensors"), 2.0),
        Lora(Path("d"), 3.0),
    )  # fmt: skip
    assert TalkRequest.from_json(given.to_json()) == given
    assert request(loras=Lora(Path("d"), 3.0)).loras == (Lora(Path("d"), 3.0),)
    for wrong in ([["a", "b"]], [["a", True]], [1], 0.5, [["a", 1, 2]]):
        with pytest.raises(RequestError, match="must be a list of files, FILE:STRENGTH or"):
            request(loras=wrong)


def test_an_engine_takes_them_in_the_same_forms() -> None:
    assert read_loras(["a:0.5", Path("b"), ("c", 2), Lora(Path("d"))]) == (
        Lora(Path("a"), 0.5), Lora(Path("b")), Lora(Path("c"), 2.0), Lora(Path("d")),
    )  # fmt: skip
    with pytest.raises(RequestError, match="loras = None: must be a LoRA"):
        read_loras(["a", None])


def test_two_lists_must_match() -> None:
    files = [Path("a"), Path("b")]
    assert paired(files, []) == (Lora(Path("a")), Lora(Path("b")))
    assert paired(files, [0.5, 2]) == (Lora(Path("a"), 0.5), Lora(Path("b"), 2))
    with pytest.raises(RequestError, match=r"lora_scale = 1.2: must be one per LoRA: 2 would work"):
        paired(files, [1.2])
    with pytest.raises(RequestError, match="needs the files"):
        paired([], [1.2])


@pytest.mark.parametrize(
    ("name", "distilled"),
    [
        ("Wan21_I2V_14B_lightx2v_cfg_step_distill_lora_rank64.safetensors", True),
        ("lightx2v_I2V_14B_480p_cfg_step_distill_rank64_bf16.safetensors", True),
        ("Wan2.1_I2V_14B_FusionX_LoRA.safetensors", True),
        ("Wan21_CausVid_14B_T2V_lora_rank32.safetensors", True),
        ("Wan21_AccVid_I2V_480P_14B_lora_rank32_fp16.safetensors", True),
        ("Wan2.1-I2V-14B-4steps-lora.safetensors", True),
        ("SelfForcing_lora.safetensors", True),
        ("Wan_2_1_T2V_14B_480p_rCM_lora_average_rank_83_bf16.safetensors", True),
        ("FastWan_T2V_14B_480p_lora_rank_128_bf16.safetensors", True),
        ("circumstances_dmdx.safetensors", False),
        ("my_face_3000steps.safetensors", False),
        ("style-000250-step.safetensors", False),
        ("portrait_stepsister.safetensors", False),
        ("face.safetensors", False),
    ],
)
def test_names_say_what_is_distilled(name: str, distilled: bool) -> None:
    assert Lora(Path("lightx2v") / name).distilled is distilled


def test_a_distilled_lora_shifts_less_unless_the_user_says_otherwise() -> None:
    fast, slow, source = Lora(Path("lightx2v.safetensors")), Lora(Path("face.safetensors")), Pixels(1000, 1000)
    assert resolve(request(loras=[slow]), FACTS, source).shift == 7.0
    assert resolve(request(loras=[slow, fast]), FACTS, source).shift == 2.0
    assert resolve(request(loras=[fast], size="720"), FACTS, source).shift == 2.0
    assert resolve(request(loras=[fast], shift=7.0), FACTS, source).shift == 7.0
    assert resolve(request(loras=[fast._replace(strength=0.0)]), FACTS, source).shift == 7.0
