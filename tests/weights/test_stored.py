"""Tensors in 8 bits, and linear layers that compute with them."""

import copy

import pytest
import torch
from torch import Tensor, nn

from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.errors import ModelError
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.layers import Linear, replace_linears
from infinitetalk.ops.stored import Scaled, Stored
from infinitetalk.weights.keymaps import IDENTITY, KeyMap, Row
from infinitetalk.weights.load import assemble

FORMATS = [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8]


def numbers(dtype: torch.dtype, *shape: int) -> Tensor:
    torch.manual_seed(0)
    return (torch.randn(*shape) * 20).clamp(-120, 120).to(dtype)


def scales(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    torch.manual_seed(1)
    return (torch.rand(shape) * 0.02 + 0.001).to(dtype)


@pytest.mark.parametrize("number", FORMATS)
@pytest.mark.parametrize("shape", [(), (1,), (6,), (6, 1)])
@pytest.mark.parametrize("scale_dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_values_are_the_float32_product_rounded_once(
    number: torch.dtype, shape: tuple[int, ...], scale_dtype: torch.dtype, dtype: torch.dtype
) -> None:
    data, scale = numbers(number, 6, 5), scales(shape, scale_dtype)
    stored = Scaled.of("w", data, scale)
    exact = data.double() * scale.double().reshape(-1, 1)
    # A product of 8 and 24 significant bits is rounded to float32 first, then to the wanted format.
    assert torch.equal(stored.dequantise(dtype), exact.float().to(dtype))
    assert stored.shape == (6, 5)


@pytest.mark.parametrize("number", FORMATS[:2])
def test_fp8_without_scale_is_itself(number: torch.dtype) -> None:
    data = numbers(number, 6, 5)
    stored = Scaled.of("w", data, None)
    assert torch.equal(stored.dequantise(torch.float16).float(), data.float())
    assert stored.bytes == 30


def test_a_kernel_of_a_convolution_has_scales_by_row() -> None:
    data, scale = numbers(torch.int8, 6, 3, 1, 2, 2), scales((6,))
    stored = Scaled.of("w", data, scale)
    assert torch.equal(stored.dequantise(torch.float32), data.float() * scale[:, None, None, None, None])


def test_rows_are_views() -> None:
    for scale in (None, scales((1,)), scales((6,))):
        stored = Scaled.of("w", numbers(torch.float8_e4m3fn, 6, 5), scale)
        part = stored.rows(2, 4)
        assert torch.equal(part.dequantise(torch.float32), stored.dequantise(torch.float32)[2:4])
        assert part.data.untyped_storage().data_ptr() == stored.data.untyped_storage().data_ptr()


@pytest.mark.parametrize(
    ("data", "scale", "words"),
    [
        (torch.ones(6, 5), torch.ones(6), "the tensor w has a scale, but it is float32"),
        (numbers(torch.int8, 6, 5), None, "the tensor w is int8 and has no scale"),
        (numbers(torch.int8, 6, 5), torch.ones(5), r"the scale of the tensor w is float32 \[5\]"),
        (numbers(torch.int8, 6, 5), torch.ones(1, 6), r"float32 \[1, 6\]: for \[6, 5\]"),
        (numbers(torch.int8, 6, 5), torch.ones(6, 5), r"float32 \[6, 5\]"),
        (numbers(torch.int8, 6, 5), torch.ones(6, dtype=torch.int32), r"the scale of the tensor w is int32"),
        (numbers(torch.int8, 6, 5), torch.tensor(float("nan")), "the scale of the tensor w is not finite"),
    ],
)
def test_what_does_not_fit_is_named(data: Tensor, scale: Tensor | None, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        Scaled.of("w", data, scale)


# The layer


def held(number: torch.dtype = torch.float8_e4m3fn) -> tuple[Linear, Linear]:
    """A layer that holds a stored matrix, and a dense one with the same values."""
    torch.manual_seed(2)
    layer, dense = Linear(5, 6), Linear(5, 6)
    stored = Scaled.of("w", numbers(number, 6, 5), scales((6,)))
    dense.load_state_dict({"weight": stored.dequantise(torch.float32), "bias": layer.bias})
    layer.hold(stored)
    return layer, dense


@pytest.mark.parametrize("number", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_held_matrix_computes_as_the_dense_one(number: torch.dtype, dtype: torch.dtype) -> None:
    layer, dense = held(number)
    x = torch.randn(3, 5).to(dtype)
    assert torch.equal(layer(x), dense.to(dtype)(x))


def test_a_held_matrix_lies_in_buffers() -> None:
    layer, _ = held()
    assert {name: tensor.dtype for name, tensor in layer.state_dict().items()} == {
        "bias": torch.float32,
        "stored_data": torch.float8_e4m3fn,
        "stored_scale": torch.float32,
    }
    assert [name for name, _ in layer.named_parameters()] == ["bias"]
    assert layer.form is not None
    assert all(part.is_meta for part in layer.form.parts().values())
    assert "fp8_e4m3fn" in repr(layer)


def test_other_tensors_in_the_buffers_are_what_is_computed_with() -> None:
    layer, _ = held()
    layer.stored_scale = layer.get_buffer("stored_scale") * 2  # as a streamed slot gets another block's numbers
    assert layer.stored is not None
    twice = Scaled.of("w", numbers(torch.float8_e4m3fn, 6, 5), scales((6,)) * 2).dequantise(torch.float32)
    assert torch.equal(layer.stored.dequantise(torch.float32), twice)
    moved = copy.deepcopy(layer).to("meta")
    assert moved.get_buffer("stored_data").is_meta
    assert not layer.get_buffer("stored_data").is_meta


@pytest.mark.parametrize("number", FORMATS)
def test_a_change_of_number_format_leaves_the_held_numbers(number: torch.dtype) -> None:
    layer, dense = held(number)
    layer.half()
    assert layer.bias.dtype == torch.half
    assert layer.stored is not None
    assert torch.equal(layer.stored.dequantise(torch.float32), dense.weight)


def test_another_matrix_or_a_dense_one_takes_the_place() -> None:
    layer, dense = held()
    layer.hold(Scaled.of("w", numbers(torch.float8_e5m2, 6, 5), None))
    assert set(layer.state_dict()) == {"bias", "stored_data"}
    layer.release()
    layer.weight = dense.weight
    x = torch.randn(3, 5)
    assert torch.equal(layer(x), dense(x))
    with pytest.raises(ValueError, match=r"a \[5, 6\] matrix for a layer 5 → 6"):
        layer.hold(Scaled.of("w", numbers(torch.float8_e5m2, 5, 6), None))


def test_linear_layers_of_others_are_replaced_with_their_parameters() -> None:
    inner = nn.Sequential(nn.Linear(5, 6), nn.ReLU())
    network = nn.Sequential(inner, nn.Linear(6, 4, bias=False))
    before = {name: id(value) for name, value in network.named_parameters()}
    x = torch.randn(2, 5)
    answer = network(x)
    replace_linears(network)
    assert {name: id(value) for name, value in network.named_parameters()} == before
    assert [type(module) for module in network.modules() if isinstance(module, nn.Linear)] == [Linear, Linear]
    assert torch.equal(network(x), answer)


# Loading


SHAPE = DiTConfig(
    dim=16, ffn_dim=32, num_heads=2, num_layers=2, text_dim=8, clip_dim=8, clip_tokens=3, text_len=4, freq_dim=8,
    audio_blocks=2, audio_channels=4, intermediate_dim=8, output_dim=8, context_tokens=2,
)  # fmt: skip


def stored_state(*, keep: bool) -> dict[str, Tensor | Stored]:
    """Weights of a transformer with every matrix in 8 bits, or with the values of those."""
    torch.manual_seed(3)
    state: dict[str, Tensor | Stored] = {}
    for index, (name, value) in enumerate(AudioDiT(SHAPE).state_dict().items()):
        state[name] = value
        if value.ndim == 2:
            number = FORMATS[index % 3]
            scale = value.abs().amax(dim=1) / 120
            stored = Scaled.of(name, (value / scale[:, None]).to(number), scale)
            state[name] = stored if keep else stored.dequantise(torch.float32)
    return state


def answer(network: AudioDiT) -> Tensor:
    torch.manual_seed(4)
    with torch.no_grad():
        found: Tensor = network(
            torch.randn(1, 16, 2, 4, 4), torch.tensor(500.0), condition=torch.randn(1, 20, 2, 4, 4),
            audio=torch.randn(1, 5, SHAPE.audio_window, 2, 4), text=torch.randn(1, 3, 8), clip=torch.randn(1, 3, 8),
        )  # fmt: skip
    return found


def test_a_transformer_of_mixed_kinds_computes_what_the_dense_one_does() -> None:
    dense = assemble(lambda: AudioDiT(SHAPE), stored_state(keep=False), IDENTITY, dtype=torch.float32)
    kept = assemble(lambda: AudioDiT(SHAPE), stored_state(keep=True), IDENTITY, dtype=torch.float32, keep_stored=True)
    opened = assemble(lambda: AudioDiT(SHAPE), stored_state(keep=True), IDENTITY, dtype=torch.float32)
    layers = [module for module in kept.modules() if isinstance(module, nn.Linear)]
    assert len(layers) == sum(value.ndim == 2 for value in dense.state_dict().values())
    assert all(isinstance(layer, Linear) and layer.stored is not None for layer in layers)
    assert not any(parameter.ndim == 2 for parameter in kept.parameters())
    assert torch.equal(answer(kept), answer(dense))
    assert torch.equal(answer(opened), answer(dense))


def test_stored_matrices_are_cut_and_squeezed_as_dense_ones() -> None:
    stored = Scaled.of("w", numbers(torch.int8, 6, 5), scales((6,)))
    dense = stored.dequantise(torch.float32)
    keymap = KeyMap((Row(r"qkv", ("q", "k", "v")), Row(r"flat", ("flat",), squeeze=1)))
    for (name, part), value in zip(keymap.convert("qkv", stored), dense.chunk(3), strict=True):
        assert isinstance(part, Stored), name
        assert torch.equal(part.dequantise(torch.float32), value)
    ((_, flat),) = keymap.convert("flat", stored.rows(0, 1))
    assert isinstance(flat, Tensor)
    assert torch.equal(flat, dense[0])
