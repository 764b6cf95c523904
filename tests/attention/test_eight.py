"""Attention in 8-bit floats: how far off it is, what makes it better, and where networks attend exactly."""

import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor

from infinitetalk.engine.denoise import exact_blocks
from infinitetalk.models.dit import AudioDiT
from infinitetalk.ops import attention_eight
from infinitetalk.ops.attention import sdpa
from infinitetalk.ops.attention_eight import (
    ROOM,
    SEEN,
    EightAttention,
    Ready,
    emulated,
    exact_of,
    hadamard,
    ready,
    seen,
)
from infinitetalk.ops.attention_kernels import load_kernel
from tests.kernels.test_eight import SMALL, ask
from tests.nets.random_nets import noise, shaken

EMULATED = EightAttention(emulated, least=0)


def relative(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).norm() / truth.norm())


def given(length: int = 300) -> tuple[Tensor, Tensor, Tensor]:
    return noise(2, length, 3, 16), noise(2, 80, 3, 16, seed=1), noise(2, 80, 3, 16, seed=2)


def test_it_is_near_the_exact_one() -> None:
    error = relative(EMULATED(*given()), sdpa(*given()))
    assert 1e-3 < error < 0.06


def test_the_matrix_only_turns() -> None:
    turn = hadamard(64, torch.device("cpu"), torch.float32) / 8
    torch.testing.assert_close(turn @ turn.t(), torch.eye(64), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="48 is no power of two"):
        hadamard(48, torch.device("cpu"), torch.float32)


def test_a_mean_of_keys_costs_nothing() -> None:
    q, k, v = given()
    plain = relative(EMULATED(q, k, v), sdpa(q, k, v))
    moved = k + 50 * noise(1, 1, 3, 16, seed=3)
    assert relative(EMULATED(q, moved, v), sdpa(q, k, v)) < 1.2 * plain


def test_a_channel_that_is_large_in_queries_and_keys_is_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = noise(1, 200, 2, 64), noise(1, 80, 2, 64, seed=1), noise(1, 80, 2, 64, seed=2)
    q[..., 3], k[..., 3] = q[..., 3] * 8, k[..., 3] * 8
    truth = sdpa(q, k, v)
    turned = relative(EMULATED(q, k, v), truth)
    monkeypatch.setattr(attention_eight, "hadamard", lambda width, *_: torch.eye(width) * width**0.5)
    assert turned < 0.8 * relative(EMULATED(q, k, v), truth)


def test_scales_are_those_of_heads() -> None:
    q, k, v = given()
    for one in ready(q, k, v * torch.tensor([1.0, 1e4, 1e-4])[:, None]):
        assert one.data.dtype == torch.float8_e4m3fn
        assert one.scale.shape == (2, 3)
        largest = one.data.float().abs().amax(dim=(1, 3))
        assert (largest <= 448 / ROOM).all()
        assert (largest > 448 / ROOM / 4).all()


def test_tokens_that_were_not_seen_have_room_and_are_cut_off_beyond_it() -> None:
    x = noise(1, 4 * SEEN, 1, 16)
    assert seen(x).shape[1] == SEEN
    largest = x[:, ::4].abs().max()
    x[0, 1], x[0, 2] = 0.9 * ROOM * largest, 9 * ROOM * largest
    made = ready(x, x, x)[2]
    wide = made.data[0].float() * made.scale[0, 0]
    torch.testing.assert_close(wide[1], x[0, 1], rtol=2**-4, atol=0)
    torch.testing.assert_close(wide[2], torch.full((1, 16), float(ROOM * largest)), rtol=1e-5, atol=0)


def test_flash_attention_3_is_given_8_bits_where_there_are_many_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.dtype] = []

    def flash_attn_func(
        q: Tensor, k: Tensor, v: Tensor, *, q_descale: Tensor | None = None, k_descale: Tensor | None = None,
        v_descale: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        asked.append(q.dtype)
        if q_descale is None or k_descale is None or v_descale is None:
            return sdpa(q, k, v)
        return emulated(Ready(q, q_descale), Ready(k, k_descale), Ready(v, v_descale))

    library = ModuleType("fa3_fwd_interface")
    monkeypatch.setattr(library, "flash_attn_func", flash_attn_func, raising=False)
    monkeypatch.setitem(sys.modules, "fa3_fwd_interface", library)
    kernel = load_kernel("fp8", "fa3_fwd_interface")
    q, k, v = noise(1, 9, 1, 16), noise(1, 1024, 1, 16, seed=1), noise(1, 1024, 1, 16, seed=2)
    assert torch.equal(kernel(q, k, v), EMULATED(q, k, v))
    assert torch.equal(kernel(q, k[:, :1023], v[:, :1023]), sdpa(q, k[:, :1023], v[:, :1023]))
    assert asked == [torch.float8_e4m3fn, torch.float32]


def test_the_first_blocks_may_attend_exactly() -> None:
    net = shaken(AudioDiT(SMALL))
    truth = ask(net)
    seen: list[bool] = []

    def exact(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen.append(True)
        return sdpa(q, k, v)

    def eighth(*given: Ready) -> Tensor:
        seen.append(False)
        return emulated(*given)

    net.attend_by = EightAttention(eighth, exact, least=20)
    evaluate = net.evaluate
    for blocks in (0, 1, SMALL.num_layers):
        seen.clear()
        net.evaluate = lambda *some, blocks=blocks, **more: evaluate(*some, exact_blocks=blocks, **more)  # type: ignore[method-assign]
        error = relative(ask(net), truth)
        own = seen[::4]
        assert own == [True] * blocks + [False] * (SMALL.num_layers - blocks)
        assert (error == 0) == (blocks == SMALL.num_layers)


def test_kernels_that_are_exact_stand_for_themselves() -> None:
    assert exact_of(sdpa) is sdpa
    assert exact_of(EightAttention(emulated, load_kernel("math", None))) is not sdpa


def test_which_blocks_attend_exactly_in_which_step() -> None:
    assert list(exact_blocks(40, 4)) == [1, 1, 1, 1]
    assert list(exact_blocks(40, 8)) == [1] * 8
    assert list(exact_blocks(40, 10)) == [40, 0, 0, 0, 0, 0, 0, 0, 0, 40]
