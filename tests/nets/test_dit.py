"""The audio DiT: who hears whom and when, optional parts, batches, precision, refusals."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.errors import ModelError
from infinitetalk.models.audio_attention import attention_to_places, people_centres, place_positions
from infinitetalk.models.dit import AudioDiT, Branch
from infinitetalk.models.dit_blocks import Block, Setting, Use
from infinitetalk.ops.attention import HEADS_AT_ONCE, attention, attention_in_place, sdpa
from infinitetalk.ops.rope import Grid, video_rotation
from tests.nets.random_nets import noise, shaken

SMALL = DiTConfig(
    text_len=12, dim=48, ffn_dim=64, freq_dim=16, text_dim=10, num_heads=4, num_layers=2, clip_dim=14, clip_tokens=5,
    audio_blocks=2, audio_channels=6, intermediate_dim=8, output_dim=20, context_tokens=3,
)  # fmt: skip
SOUND_ONLY = replace(SMALL, text_dim=0, clip_dim=0)
FRAMES, ROWS, COLUMNS = 3, 4, 8


def build(config: DiTConfig = SMALL, seed: int = 0) -> AudioDiT:
    return shaken(AudioDiT(config), seed)


def inputs(people: int = 1, batch: int = 1, config: DiTConfig = SMALL, seed: int = 0) -> dict[str, Tensor]:
    """Random inputs; person i of P stands in the i-th of P + 1 upright strips, or nearly so."""
    frames = 4 * (FRAMES - 1) + 1
    given = {
        "latent": noise(batch, 16, FRAMES, ROWS, COLUMNS, seed=seed),
        "timestep": torch.linspace(100, 900, batch),
        "condition": noise(batch, 20, FRAMES, ROWS, COLUMNS, seed=seed + 1),
        "audio": noise(batch, people, frames, 5, config.audio_blocks, config.audio_channels, seed=seed + 2),
    }
    strips = (torch.arange(COLUMNS) * (people + 1) // COLUMNS).expand(batch, 1, ROWS, COLUMNS)
    given["masks"] = (strips == torch.arange(people + 1).view(1, -1, 1, 1)).float()
    if config.text_dim:
        given["text"] = noise(batch, 7, config.text_dim, seed=seed + 3)
    if config.clip_dim:
        given["clip"] = noise(batch, config.clip_tokens, config.clip_dim, seed=seed + 4)
    return given


@torch.no_grad()
def run(net: AudioDiT, given: dict[str, Tensor], **changed: Tensor) -> Tensor:
    rest = given | changed
    answer = net(rest.pop("latent"), rest.pop("timestep"), **rest)
    assert isinstance(answer, Tensor)
    return answer


@pytest.mark.parametrize("people", [1, 2, 3])
def test_a_batch_answers_as_its_samples_do_alone(people: int) -> None:
    net, given = build(), inputs(people, batch=2)
    given["masks"][1] = given["masks"][1].flip(-1)
    together = run(net, given)
    assert together.shape == (2, 16, FRAMES, ROWS, COLUMNS)
    for sample in range(2):
        alone = run(net, {name: value[sample : sample + 1] for name, value in given.items()})
        torch.testing.assert_close(together[sample : sample + 1], alone, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("people", [1, 2])
def test_one_sample_needs_no_batch_axis_of_audio_and_masks(people: int) -> None:
    net, given = build(), inputs(people)
    plain = run(net, given, audio=given["audio"][0], masks=given["masks"][0], timestep=given["timestep"][0])
    torch.testing.assert_close(plain, run(net, given), atol=0, rtol=0)


def test_one_person_needs_no_masks() -> None:
    net, given = build(), inputs()
    with_masks = run(net, given)
    del given["masks"]
    torch.testing.assert_close(run(net, given), with_masks, atol=0, rtol=0)


def test_two_people_with_one_voice_are_one_person_where_keys_cannot_tell_them_apart() -> None:
    net, one = build(), inputs()
    with torch.no_grad():
        for name, value in net.named_parameters():
            if "audio_cross_attn.kv_linear" in name:
                value[: SMALL.dim] = 0
    two = one | {"audio": one["audio"].repeat(1, 2, 1, 1, 1, 1), "masks": inputs(2)["masks"]}
    torch.testing.assert_close(run(net, two), run(net, one), atol=2e-5, rtol=1e-4)


def test_two_people_differ_by_their_places() -> None:
    net, given = build(), inputs(2)
    swapped = given["masks"][:, [1, 0, 2]]
    assert (run(net, given) - run(net, given, masks=swapped)).abs().max() > 1e-3


def test_sound_of_a_frame_reaches_that_latent_frame_alone() -> None:
    net = build(replace(SMALL, num_layers=1))
    given = inputs()
    later = given["audio"].clone()
    later[:, :, 5:9] += 1
    change = (run(net, given, audio=later) - run(net, given)).abs().amax(dim=(0, 1, 3, 4))
    assert change[:2].max() == 0
    assert change[2] > 1e-3


@pytest.mark.parametrize(("frame", "heard"), [(0, range(5)), (1, range(3)), (2, (2,)), (3, (2,)), (4, range(2, 5))])
def test_which_part_of_a_frame_window_is_heard(frame: int, heard: range | tuple[int, ...]) -> None:
    """The first frame whole; of the four behind a latent frame the past of the first, the future of the last."""
    net, given = build(), inputs()
    truth = run(net, given)
    changed = set()
    for place in range(5):
        audio = given["audio"].clone()
        audio[:, :, frame, place] += 1
        if not torch.equal(run(net, given, audio=audio), truth):
            changed.add(place)
    assert changed == set(heard)


def test_text_is_padded_with_zeros() -> None:
    net, given = build(), inputs()
    padded = torch.cat([given["text"], torch.zeros(1, 5, SMALL.text_dim)], dim=1)
    torch.testing.assert_close(run(net, given, text=padded), run(net, given), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("text_dim", "clip_dim", "absent"),
    [
        (10, 0, ("img_emb", "cross_attn.k_img", "cross_attn.v_img", "cross_attn.norm_k_img")),
        (0, 14, ("text_embedding", "cross_attn.k.", "cross_attn.v.", "cross_attn.norm_k.")),
        (0, 0, ("img_emb", "text_embedding", ".cross_attn.", "norm3")),
    ],
)
def test_parts_that_a_network_does_not_have(text_dim: int, clip_dim: int, absent: tuple[str, ...]) -> None:
    config = replace(SMALL, text_dim=text_dim, clip_dim=clip_dim)
    net = build(config)
    names = [name for name in net.state_dict() if any(part in name for part in absent)]
    assert not names
    assert run(net, inputs(config=config)).isfinite().all()
    with pytest.raises(ModelError, match="no part for"):
        run(net, inputs())


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"text": None}, "needs text embeddings"),
        ({"clip": None}, "needs vision tokens"),
        ({"masks": None}, "2 people need masks"),
        ({"masks": torch.ones(1, 2, ROWS, COLUMNS)}, "2 people need 3 masks"),
        ({"text": torch.zeros(1, 13, 10)}, "text of 13 tokens"),
        ({"audio": torch.zeros(1, 2, 9, 5, 2, 7)}, "do not fit this network"),
        ({"audio": torch.zeros(1, 2, 8, 5, 2, 6)}, "do not fit this network"),
        ({"audio": torch.zeros(1, 2, 5, 5, 2, 6)}, "3 latent frames need 9"),
    ],
)
def test_inputs_that_are_refused(changed: dict[str, Tensor], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        run(build(), inputs(2), **changed)


def test_heads_must_divide_the_channels() -> None:
    with pytest.raises(ModelError, match="dim 50"):
        AudioDiT(replace(SMALL, dim=50))


@pytest.mark.parametrize("people", [1, 2])
def test_bfloat16_stays_near_float32(people: int) -> None:
    net, given = build(), inputs(people)
    truth = run(net, given)
    answer = run(net.bfloat16(), given)
    assert answer.dtype == torch.float32
    assert (answer - truth).norm() / truth.norm() < 0.05


def told(net: AudioDiT, given: dict[str, Tensor]) -> Branch:
    (text,) = net.prepare_texts([given["text"]])
    (sound,) = net.prepare_sounds([(given["audio"], given["masks"])], net.grid(given["latent"]))
    return Branch(text, net.prepare_picture(given["clip"]), sound)


@torch.no_grad()
def test_what_pads_a_text_is_kept_once() -> None:
    """A short text gives what it gives with zeros up to the full length, and keeps as many tokens as it has and one."""
    net, given = build(), inputs(1)
    length = net.config.text_len
    text = given["text"]
    zeros = torch.nn.functional.pad(text, (0, 0, 0, length - text.shape[1]))
    short, long = net.prepare_texts([text, zeros])
    assert short is not None
    assert long is not None
    assert {part.shape[1] for pair in short.prepared for part in pair} == {text.shape[1] + 1}
    assert text.shape[1] + 1 < length
    for index in range(len(net.blocks)):
        for kept, whole in zip(short.at(index).whole(), long.at(index).whole(), strict=True):
            assert kept.shape == whole.shape
            torch.testing.assert_close(kept, whole, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(run(net, given, text=text), run(net, given, text=zeros), atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_branches_together_are_branches_alone() -> None:
    """Block by block through all branches, exactly what each of them gives by itself."""
    net, first, second = build(), inputs(2), inputs(2, seed=50)
    order: list[int] = []
    for index, block in enumerate(net.blocks):
        block.register_forward_hook(lambda *_, index=index: order.append(index))
    both = [told(net, first), told(net, second)]
    answers = net.evaluate(first["latent"], first["timestep"], condition=first["condition"], branches=both)
    assert order == [0, 0, 1, 1]
    changed = {name: second[name] for name in ("text", "clip", "audio")}
    for answer, alone in zip(answers, (run(net, first), run(net, first, **changed)), strict=True):
        torch.testing.assert_close(answer, alone, atol=0, rtol=0)
    assert not torch.equal(*answers)


@torch.no_grad()
@pytest.mark.parametrize("people", [1, 2])
@pytest.mark.parametrize("at_once", [None, 1])
def test_branches_share_the_self_attention_of_the_first_block(people: int, at_once: int | None) -> None:
    """Nothing was told before it; one of the branches may hear people who have places, and another one silence."""
    net, given = build(), inputs(people)
    net.frames_at_once = at_once
    asked: list[tuple[int, ...]] = []

    def counted(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        asked.append(tuple(k.shape))
        return sdpa(q, k, v)

    net.attend_by = counted
    heard = told(net, given)
    grid = net.grid(given["latent"])
    silence = torch.zeros_like(given["audio"][:, :1])
    (silent,) = net.prepare_sounds([(silence, None)], grid, silent=[0])
    ways = [heard, heard._replace(sound=silent), heard]
    ask = partial(net.evaluate, given["latent"], given["timestep"], condition=given["condition"])
    alone = [ask(branches=[way])[0] for way in ways]
    apart = sum(shape[1] == grid.tokens for shape in asked)
    asked.clear()
    for answer, truth in zip(ask(branches=ways), alone, strict=True):
        assert torch.equal(answer, truth)
    together = sum(shape[1] == grid.tokens for shape in asked)
    blocks = len(net.blocks)
    assert (apart / blocks) % 3 == 0
    assert together == apart - 2 * apart // (3 * blocks)


@pytest.mark.parametrize("people", [1, 2])
@pytest.mark.parametrize("at_once", [1, 2])
def test_a_few_frames_at_a_time_give_the_same(people: int, at_once: int) -> None:
    net, given = build(), inputs(people, batch=2)
    whole = run(net, given)
    net.frames_at_once = at_once
    torch.testing.assert_close(run(net, given), whole, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_the_head_and_attention_in_pieces_are_bit_equal() -> None:
    """Tokens do not meet in the head, heads do not meet in attention."""
    net, grid = build(), Grid(3, 4, 6)
    x, time = torch.randn(2, grid.tokens, SMALL.dim), torch.randn(2, SMALL.dim)
    rotation = video_rotation(grid, SMALL.dim // SMALL.num_heads, x.device)
    whole = net.head(x, time, Setting(grid, rotation, torch.float32, at_once=3))
    for at_once in (1, 2):
        assert torch.equal(net.head(x, time, Setting(grid, rotation, torch.float32, at_once)), whole)
    q, k, v = torch.randn(3, 2, grid.tokens, 2 * HEADS_AT_ONCE + 1, 8)
    expected = attention(q, k, v)
    answer = attention_in_place(q, k, v)
    assert torch.equal(answer, expected)
    assert answer.data_ptr() == q.data_ptr()


@torch.no_grad()
def test_silence_is_kept_in_two_frames() -> None:
    net, given = build(), inputs() | {"audio": torch.zeros(1, 1, 9, 5, 2, 6)}
    grid = net.grid(given["latent"])
    (whole,) = net.prepare_sounds([(given["audio"], None)], grid)
    (short,) = net.prepare_sounds([(given["audio"], None)], grid, silent=[0])
    for index, (full, kept) in enumerate(zip(whole.prepared, short.prepared, strict=True)):
        assert full.keys.shape[1] == 3
        assert kept.keys.shape[1] == 2
        torch.testing.assert_close(short.at(index), full, atol=1e-6, rtol=1e-5)


def test_blocks_may_be_lent() -> None:
    """Each use of the weights is one walk over the blocks, and the numbers are those of the network's own blocks."""
    net, given, walks = build(), inputs(2), list[Use]()
    whole, blocks = run(net, given), list(net.blocks)
    net.blocks = torch.nn.ModuleList()

    def lender(use: Use) -> Iterator[Block]:
        walks.append(use)
        for block in blocks:
            assert isinstance(block, Block)
            yield block

    net.lend(lender)
    torch.testing.assert_close(run(net, given), whole, atol=0, rtol=0)
    assert sorted(walks, key=str) == sorted(Use, key=str)


def test_float16_survives_channels_beyond_its_range() -> None:
    """Trained networks have channels of 3e5 between their blocks, and float16 ends at 65504."""
    net, given = build(), inputs(2)
    with torch.no_grad():
        first = net.blocks[0]
        assert isinstance(first, Block)
        first.self_attn.o.bias[7] = 60.0
        first.modulation[0, 2, 7] = 5000.0
        for value in net.parameters():  # the same numbers in both types
            value.copy_(value.half().float())
    largest: list[float] = []
    for block in net.blocks:
        block.register_forward_hook(lambda _module, _given, x: largest.append(float(x.abs().max())))
    truth = run(net, given)
    answer = run(net.half(), given)
    assert min(largest) > 2.5e5
    assert answer.isfinite().all()
    assert (answer - truth).norm() / truth.norm() < 1e-2


def test_training_under_autocast_reaches_every_weight() -> None:
    net, given = build(), inputs(2, batch=2)
    with torch.autocast("cpu", torch.bfloat16):
        answer = net(given.pop("latent"), given.pop("timestep"), **given)
    assert answer.dtype == torch.float32
    torch.autograd.backward(answer.square().mean())
    idle = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    assert not idle


def test_a_network_built_on_meta_has_nothing_but_its_weights() -> None:
    real = build()
    with torch.device("meta"):
        net = AudioDiT(SMALL)
    assert not dict(net.named_buffers())
    net.load_state_dict(real.state_dict(), strict=True, assign=True)
    given = inputs(2)
    torch.testing.assert_close(run(net, given), run(real, given), atol=0, rtol=0)


def test_first_weights_are_reproducible_and_predict_nothing() -> None:
    nets = [AudioDiT(SOUND_ONLY), AudioDiT(SOUND_ONLY)]
    for net in nets:
        net.init_weights(torch.Generator().manual_seed(5))
    first, second = (net.state_dict() for net in nets)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not run(nets[0], inputs(config=SOUND_ONLY)).any()


def test_places_draw_the_attention_that_softmax_gives_them() -> None:
    q, k = noise(2, 24, 4, 8), noise(2, 24, 4, 8, seed=1)
    places = (noise(2, 3, 6, seed=2) > 0).float()
    places[0, 0] = 0  # an empty place draws none
    places[1] = torch.eye(6)[:3]
    weights = (torch.einsum("blhd,bshd->bhls", q, k[:, :6]) / 8**0.5).softmax(-1).mean(1)
    expected = torch.einsum("bls,bps->bpl", weights, places) / places.sum(-1).clamp_min(1).unsqueeze(-1)
    torch.testing.assert_close(attention_to_places(q, k, places=places, heads=q.shape[2]), expected)
    assert not attention_to_places(q, k, places=places, heads=q.shape[2])[0, 0].any()


def test_positions_follow_the_place_that_draws_most() -> None:
    attention_map = torch.tensor([[[0.0, 0.2, 0.4, 0.1], [0.1, 0.6, 0.1, 0.3], [0.3, 0.1, 0.1, 0.9]]])
    positions = place_positions(attention_map, class_range=24, interval=4)
    torch.testing.assert_close(positions, torch.tensor([[12.0, 24.0, 4.0, 12.0]]))


def test_people_stand_apart_from_each_other_and_the_background() -> None:
    assert people_centres(2, 24, 4).tolist() == [2, 22]
    for people in range(2, 7):
        stands = [*people_centres(people, 24, 4).tolist(), 12.0]
        assert len(stands) == people + 1
        assert min(abs(a - b) for i, a in enumerate(stands) for b in stands[:i]) >= 2


@pytest.mark.parametrize("people", [1, 2])
def test_blocks_compile_into_one_graph(people: int) -> None:
    net, given = build(), inputs(people)
    truth = run(net, given)
    for block in net.blocks:
        block.compile(backend="eager", fullgraph=True)
    torch.testing.assert_close(run(net, given), truth)


def test_a_single_latent_frame_works() -> None:
    net, given = build(), inputs(2)
    single = {name: given[name][:, :, :1] for name in ("latent", "condition", "audio")}
    assert run(net, given | single).shape == (1, 16, 1, ROWS, COLUMNS)
