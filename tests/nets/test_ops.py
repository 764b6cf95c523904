"""Attention, rotary positions and convolutions against their definitions."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from infinitetalk.ops.attention import attention
from infinitetalk.ops.conv import conv_frames, conv_time, conv_video, conv_video_direct, conv_video_stacked
from infinitetalk.ops.pixels import channel_norm
from infinitetalk.ops.rope import Grid, axis_widths, line_rotation, rotate, video_rotation

CPU = torch.device("cpu")


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("value_channels", [8, 3])
def test_attention_is_softmax_of_products(value_channels: int) -> None:
    q, k, v = noise(2, 5, 3, 8), noise(2, 7, 3, 8, seed=1), noise(2, 7, 3, value_channels, seed=2)
    weights = (torch.einsum("blhd,bshd->bhls", q, k) / 8**0.5).softmax(-1)
    expected = torch.einsum("bhls,bshe->blhe", weights, v)
    torch.testing.assert_close(attention(q, k, v), expected)


def test_attention_answers_in_the_dtype_of_its_values() -> None:
    q, k, v = (noise(1, 4, 2, 8, dtype=torch.float32) for _ in range(3))
    assert attention(q, k, v.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(("head_dim", "widths"), [(128, (44, 42, 42)), (80, (28, 26, 26)), (64, (24, 20, 20))])
def test_head_channels_are_shared_among_the_axes(head_dim: int, widths: tuple[int, int, int]) -> None:
    assert axis_widths(head_dim) == widths


def test_video_rotation_turns_each_channel_pair_by_its_axis_position() -> None:
    grid, head_dim = Grid(3, 4, 5), 28
    x = noise(1, grid.tokens, 2, head_dim)
    turned = rotate(x, video_rotation(grid, head_dim, CPU)).view(1, *grid, 2, head_dim)
    frame, row, column = 2, 3, 1
    angles = torch.cat(
        [
            position * 10_000.0 ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
            for position, width in zip((frame, row, column), axis_widths(head_dim), strict=True)
        ]
    )
    pairs = torch.view_as_complex(x.view(*grid, 2, -1, 2)[frame, row, column])
    expected = torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)
    torch.testing.assert_close(turned[0, frame, row, column], expected.float(), atol=1e-5, rtol=1e-5)


def test_products_on_a_line_depend_on_distance_alone() -> None:
    q, k = noise(1, 1, 1, 16), noise(1, 1, 1, 16, seed=1)

    def product(at: float, other: float) -> Tensor:
        turned = [rotate(x, line_rotation(torch.tensor([p]), 16)) for x, p in ((q, at), (k, other))]
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(product(2.5, 22.0), product(5.5, 25.0))
    assert abs(product(2.5, 22.0) - product(22.0, 2.5)) > 1e-3


def test_positions_made_while_sampling_can_be_trained_with() -> None:
    grid = Grid(1, 2, 3)
    with torch.inference_mode():
        video_rotation(grid, 16, CPU)
    x = noise(1, grid.tokens, 1, 16, dtype=torch.float32).requires_grad_()
    torch.autograd.backward(rotate(x, video_rotation(grid, 16, CPU)).sum())
    assert x.grad is not None


@pytest.mark.parametrize("form", [conv_video, conv_video_stacked, conv_video_direct])
@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 3)])
def test_video_convolution(form: Callable[[Tensor, Tensor, Tensor], Tensor], kernel: tuple[int, int, int]) -> None:
    x, weight, bias = noise(2, 5, 6, 7, 4), noise(3, 4, *kernel, seed=1), noise(3, seed=2)
    expected = F.conv3d(x.permute(0, 4, 1, 2, 3), weight, bias, padding=(0, 1, 1)).permute(0, 2, 3, 4, 1)
    torch.testing.assert_close(form(x, weight, bias), expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_over_time(stride: int) -> None:
    x, weight, bias = noise(2, 7, 2, 3, 4), noise(5, 4, 3, 1, 1, seed=1), noise(5, seed=2)
    expected = F.conv3d(x.permute(0, 4, 1, 2, 3), weight, bias, stride=(stride, 1, 1)).permute(0, 2, 3, 4, 1)
    torch.testing.assert_close(conv_time(x, weight, bias, stride=stride), expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_of_frames(stride: int) -> None:
    x, weight, bias = noise(2, 3, 6, 8, 4), noise(5, 4, 3, 3, seed=1), noise(5, seed=2)
    answer = conv_frames(x, weight, bias, stride=stride, padding=1)
    expected = F.conv2d(x[1, 2].permute(2, 0, 1), weight, bias, stride, 1).permute(1, 2, 0)
    torch.testing.assert_close(answer[1, 2], expected)


def test_channel_norms_are_the_same_with_and_without_gradients() -> None:
    x, gamma = noise(2, 3, 5, 7, 24).float(), noise(24, 1, 1, 1).float()
    x[0, 0, 0, 0] = 0
    plain = channel_norm(x, gamma)
    with torch.no_grad():
        torch.testing.assert_close(channel_norm(x, gamma), plain, atol=1e-5, rtol=1e-5)
    assert not plain[0, 0, 0, 0].any(), "a black pixel stays black"
