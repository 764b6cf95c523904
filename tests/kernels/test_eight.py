"""Products in 8 bits: scales by row, the network that computes with them, and what cannot serve is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.errors import ModelError, RequestError
from infinitetalk.core.memory import MemorySettings
from infinitetalk.engine import model as loading
from infinitetalk.engine.engine import Engine
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.dit_blocks import USES, Block
from infinitetalk.models.layers import Linear
from infinitetalk.ops.eight import FP8, INT8, Eight, product
from infinitetalk.ops.pack import pack_int8
from infinitetalk.ops.regions import Regions
from infinitetalk.ops.stored import Scaled
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.regions import check_regions, choose_regions, coding_dtype
from tests.nets.random_nets import noise, shaken

SMALL = DiTConfig(
    text_len=12, dim=64, ffn_dim=96, freq_dim=16, text_dim=10, num_heads=4, num_layers=3, clip_dim=14, clip_tokens=5,
    audio_blocks=2, audio_channels=6, intermediate_dim=8, output_dim=32, context_tokens=3,
)  # fmt: skip
KINDS = pytest.mark.parametrize("eight", [FP8, INT8], ids=lambda one: one.name)


def relative(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).norm() / truth.norm())


def ask(net: AudioDiT, seed: int = 0, **more: Any) -> Tensor:
    with torch.no_grad():
        answer: Tensor = net(
            noise(1, 16, 3, 4, 8, seed=seed),
            torch.tensor([500.0]),
            condition=noise(1, 20, 3, 4, 8, seed=1),
            audio=noise(1, 1, 9, 5, 2, 6, seed=2),
            text=noise(1, 7, 10, seed=3),
            clip=noise(1, 5, 14, seed=4),
            **more,
        )
    return answer


@KINDS
def test_each_row_has_the_scale_of_its_largest_number(eight: Eight) -> None:
    x = noise(2, 5, 32) * torch.logspace(-6, 6, 5)[:, None]
    x[0, 0] = 0
    rows = eight.quantise(x)
    assert rows.scale.shape == (2, 5, 1)
    torch.testing.assert_close(rows.data.float().abs().amax(-1)[1], torch.full((5,), eight.largest))
    assert not rows.wide()[0, 0].any()
    step = 2**-4 if eight is FP8 else 0.5 / 127
    within = x.abs() * step if eight is FP8 else rows.scale * 0.5
    assert ((rows.wide() - x).abs() <= within * 1.01 + rows.scale * 2**-9).all()


@KINDS
@pytest.mark.parametrize("bias", [None, noise(48, seed=5)], ids=["no bias", "bias"])
def test_a_product_is_that_of_the_values(eight: Eight, bias: Tensor | None) -> None:
    rows, packed = eight.quantise(noise(2, 5, 32)), eight.pack(noise(48, 32, seed=1))
    truth = rows.wide() @ packed.dequantise(torch.float32).t() + (0 if bias is None else bias)
    torch.testing.assert_close(product(rows, packed, bias), truth, atol=1e-5, rtol=1e-5)


def test_a_matrix_of_the_same_format_stays_as_it_is() -> None:
    data = noise(48, 32).to(torch.float8_e4m3fn)
    for scale, wanted in ((None, torch.ones(48)), (torch.tensor([0.5]), torch.full((48,), 0.5))):
        packed = FP8.pack(Scaled(data, scale))
        assert packed.data is data
        assert packed.scale is not None and torch.equal(packed.scale, wanted)
    other = FP8.pack(pack_int8(noise(48, 32)))
    assert other.data.dtype == torch.float8_e4m3fn


@KINDS
def test_a_side_branch_is_added_to_a_product_in_8_bits(eight: Eight) -> None:
    layer = Linear(32, 48)
    down, up = noise(4, 32, seed=2), noise(48, 4, seed=3)
    layer.hold_eight(eight)
    rows = eight.quantise(noise(3, 32))
    with torch.no_grad():
        bare = layer(rows)
        layer.add_branch(down, up)
        torch.testing.assert_close(layer(rows), bare + rows.wide() @ down.t() @ up.t(), atol=1e-4, rtol=1e-4)


def eightfold(eight: Eight, config: DiTConfig = SMALL) -> AudioDiT:
    net = shaken(AudioDiT(config))
    for block in net.blocks:
        assert isinstance(block, Block)
        block.hold_eight(eight)
    net.regions = Regions(eight)
    return net


@KINDS
def test_a_network_in_8_bits_is_near_the_exact_one(eight: Eight) -> None:
    truth = ask(shaken(AudioDiT(SMALL)))
    net = eightfold(eight)
    error = relative(ask(net), truth)
    assert 1e-4 < error < (0.08 if eight is FP8 else 0.03)
    held = {name for name, layer in net.blocks[0].named_modules() if isinstance(layer, Linear) and layer.form}
    linears = {name for name, layer in net.blocks[0].named_modules() if isinstance(layer, Linear)}
    assert held == linears - set(USES)


@KINDS
def test_frames_may_pass_one_after_the_other(eight: Eight) -> None:
    net = eightfold(eight)
    whole = ask(net)
    net.frames_at_once = 1
    torch.testing.assert_close(ask(net), whole, atol=1e-5, rtol=1e-5)


def test_sides_that_8_bit_products_do_not_take_are_refused() -> None:
    with pytest.raises(ValueError, match="64 → 40: both must be multiples of 16"):
        eightfold(FP8, replace(SMALL, ffn_dim=40))


def test_a_folder_is_loaded_in_8_bits(tiny_folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFINITETALK_PRETEND", "h100")
    model = Engine.from_pretrained(tiny_folder, memory=MemorySettings(linears="fp8", fused="off")).model
    block = model.dit.blocks[0]
    assert isinstance(block, Block)
    assert isinstance(block.self_attn.q.stored, Scaled)
    assert block.self_attn.q.stored.kind == "fp8_e4m3fn"
    assert model.dit.regions.eight is FP8
    assert next(model.vae.parameters()).dtype == torch.bfloat16


def test_what_cannot_serve_is_refused_before_a_weight_is_loaded(
    tiny_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> object:
        raise AssertionError("weights were asked for")

    for name in ("open_loras", "plan_folder", "load_dit", "_network"):
        monkeypatch.setattr(loading, name, never)
    for settings, why in (
        (MemorySettings(linears="fp8"), r"linears = fp8: .*capability 8.9 or later.*exact would work"),
        (MemorySettings(linears="int8"), r"linears = int8: .*needs an NVIDIA GPU.*exact would work"),
        (MemorySettings(fused="on"), r"fused = on: Triton's kernels need an NVIDIA GPU.*auto or off would work"),
    ):
        with pytest.raises(RequestError, match=why):
            Engine.from_pretrained(tiny_folder, device="cpu", memory=settings)


def test_cards_refuse_what_they_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFINITETALK_PRETEND", "t4")
    t4 = Device.choose()
    with pytest.raises(RequestError, match=r"linears = fp8: .*7\.5.*int8 or exact would work here"):
        check_regions(t4, MemorySettings(linears="fp8"))
    check_regions(t4, MemorySettings(linears="int8"))
    with pytest.raises(RequestError, match="fused = on"):
        check_regions(t4, MemorySettings(fused="on"))
    with pytest.raises(RequestError, match=r"vae_dtype = bfloat16: .* does not compute in it; float32 would work"):
        coding_dtype(t4, MemorySettings(vae_dtype="bfloat16"))
    assert type(choose_regions(t4, MemorySettings())) is Regions
    monkeypatch.setenv("INFINITETALK_PRETEND", "h100")
    h100 = Device.choose()
    check_regions(h100, MemorySettings(linears="fp8"))
    with pytest.raises(RequestError, match=r"linears = fp8: .*bfloat16.*int8 or exact would work"):
        check_regions(Device.choose(dtype="float16"), MemorySettings(linears="fp8"))
    assert coding_dtype(h100, MemorySettings()) == torch.bfloat16
    assert coding_dtype(h100, MemorySettings(vae_dtype="float32")) == torch.float32


def test_the_error_of_a_model_that_cannot_be_packed_names_the_setting() -> None:
    from infinitetalk.engine.lodging import _packed

    with pytest.raises(ModelError, match="linears = fp8: this network cannot compute so: 64 → 40"):
        _packed(Block(replace(SMALL, ffn_dim=40)), FP8)
