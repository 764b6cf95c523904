"""The guard of kernels that a card lacks: every violation is planted, and the product passes."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from infinitetalk.engine.engine import Engine
from infinitetalk.ops.attention import attention
from infinitetalk.runtime import guard as guarding
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.guard import ForbiddenKernelError, at_work, guard
from infinitetalk.runtime.pretend import VARIABLE
from tests.engine.inputs import Memory, pictures, talk, voice


@pytest.fixture
def t4(monkeypatch: pytest.MonkeyPatch) -> Device:
    monkeypatch.setenv(VARIABLE, "t4")
    return Device.choose()


@pytest.fixture(params=[False, True], ids=["gradients", "inference"])
def mode(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both ways in which networks run: operations reach the guard in different forms."""
    with torch.inference_mode(request.param):
        yield


def half(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.bfloat16)


def eighth(*shape: int) -> Tensor:
    return torch.ones(shape).to(torch.float8_e4m3fn)


def heads() -> Tensor:
    return torch.ones(1, 8, 2, 16, dtype=torch.float16)


def scaled_product() -> Tensor:
    one = torch.ones(())
    return torch._scaled_mm(eighth(16, 16), eighth(16, 16).t(), one, one, out_dtype=torch.float32)


BFLOAT16: dict[str, Callable[[], object]] = {
    "product": lambda: half(4, 4) @ half(4, 4),
    "sum": lambda: half(4) + 1,
    "linear layer": lambda: F.linear(half(2, 4), half(3, 4)),
    "norm": lambda: F.layer_norm(half(2, 4), (4,)),
    "in place": lambda: half(4).mul_(2),
    "made by a mixed operation": lambda: torch.ones(4) * half(4),
    "noise": lambda: torch.randn(4, dtype=torch.bfloat16),
    "convolution": lambda: F.conv2d(half(1, 1, 4, 4), half(1, 1, 3, 3)),
    "under autocast": lambda: autocast(torch.ones(4, 4)),
}


def autocast(x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return x @ x


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("plant", BFLOAT16.values(), ids=BFLOAT16)
def test_bfloat16_arithmetic_is_caught(plant: Callable[[], object], t4: Device) -> None:
    with at_work(t4), pytest.raises(ForbiddenKernelError, match="Tesla T4 has no bfloat16 arithmetic, but aten"):
        plant()


@pytest.mark.usefixtures("mode")
def test_8_bit_arithmetic_and_scaled_products_are_caught(t4: Device) -> None:
    with at_work(t4):
        with pytest.raises(ForbiddenKernelError, match="arithmetic in 8-bit floats"):
            eighth(4) * 2
        with pytest.raises(ForbiddenKernelError, match=r"products of 8-bit floats, but aten\._scaled_mm"):
            scaled_product()


@pytest.mark.usefixtures("mode")
def test_storing_moving_and_converting_are_allowed(t4: Device) -> None:
    with at_work(t4):
        for stored in (half(4, 4), eighth(4, 4)):
            kept = torch.empty_like(stored)
            kept.copy_(stored)
            rows = torch.cat([kept[:2], kept.t().contiguous()[2:]])
            assert float((rows.to(torch.float16) * 2).sum()) == 32


@pytest.mark.usefixtures("mode")
def test_flash_attention_is_caught_and_the_door_avoids_it(t4: Device) -> None:
    q = heads()
    with guard(t4), pytest.raises(ForbiddenKernelError, match=r"no FlashAttention.*_flash_attention_for_cpu"):
        F.scaled_dot_product_attention(q, q, q)
    with at_work(t4):
        assert attention(q, q, q).shape == q.shape
        assert F.scaled_dot_product_attention(q, q, q).shape == q.shape


@pytest.mark.parametrize(
    "operation",
    [
        "aten._scaled_dot_product_cudnn_attention.default",
        "aten._scaled_dot_product_flash_attention.default",
        "aten._flash_attention_forward.default",
        "flash_attn_3.fwd.default",
        "fa3_fwd.fwd.default",
        "aten._scaled_mm.default",
        "aten._scaled_mm_v2.default",
        "aten._scaled_grouped_mm.default",
        "triton_kernel_wrapper_mutation",
    ],
)
def test_names_of_kernels_that_a_t4_lacks(operation: str, t4: Device) -> None:
    with pytest.raises(ForbiddenKernelError):
        guarding._Watch(t4)._check_name(operation)


@pytest.mark.parametrize(
    "operation", ["aten._scaled_dot_product_efficient_attention.default", "aten._int_mm.default", "aten.mm.default"]
)
def test_names_of_kernels_that_a_t4_has(operation: str, t4: Device) -> None:
    guarding._Watch(t4)._check_name(operation)


def test_triton_launches_are_caught_and_work_again_afterwards(t4: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in where Triton is not installed; the launcher of torch's own kernels likewise."""
    launched: list[str] = []
    for module, kind, method in guarding._LAUNCHERS:
        launcher = type(kind, (), {method: lambda self, *_args, **_more: launched.append(type(self).__name__)})
        planted = ModuleType(module)
        planted.__dict__[kind] = launcher
        monkeypatch.setitem(sys.modules, module, planted)
        with guard(t4), pytest.raises(ForbiddenKernelError, match=rf"no Triton, but a kernel \({kind}\)"):
            getattr(launcher(), method)(1, grid=(1,))
        getattr(launcher(), method)(1, grid=(1,))
    assert launched == [kind for _, kind, _ in guarding._LAUNCHERS]


def test_a_real_triton_kernel_is_caught(t4: Device) -> None:
    triton = pytest.importorskip("triton", reason="Triton comes with torch for GPUs only")

    def nothing(_pointer: object) -> None:
        """A kernel that does nothing."""

    with guard(t4), pytest.raises(ForbiddenKernelError, match="no Triton"):
        triton.jit(nothing)[(1,)](torch.zeros(1))


def test_compiled_functions_are_caught(t4: Device) -> None:
    compiled = torch.compile(lambda x: x * 2, backend="eager")
    with at_work(t4), pytest.raises(ForbiddenKernelError, match=r"no Triton, but a function of torch\.compile"):
        compiled(torch.ones(2))
    assert compiled(torch.ones(2)).tolist() == [2, 2]


def test_a_card_with_everything_is_refused_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infinitetalk.runtime.device.find_spec", lambda _name: object())
    monkeypatch.setenv(VARIABLE, "h100")
    device = Device.choose()
    q = heads().bfloat16()
    with at_work(device):
        assert F.scaled_dot_product_attention(q, q, q).dtype == torch.bfloat16
        assert scaled_product().shape == (16, 16)


def test_a_real_device_has_no_guard() -> None:
    with at_work(Device.choose("cpu")):
        assert half(2).mul(2).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["tiny", pytest.param("nano", marks=pytest.mark.full)])
def test_whole_pipelines_keep_to_a_t4(name: str, t4: Device, tiny_folder: Path) -> None:
    """Speech, text, picture, key frames, denoising and decoding of two windows, all looked at."""
    engine = Engine.from_pretrained(tiny_folder if name == "tiny" else name)
    assert engine.model.runs_on == t4
    assert next(engine.model.dit.parameters()).dtype == torch.float16
    engine = Engine(engine.model, media=Memory(pictures(), (voice(17),)))
    windows = list(engine.stream(talk(1, model=name, steps=1, window_frames=13, motion_frames=5)))
    assert len(windows) == 2
    assert all(bool(window.frames.isfinite().all()) for window in windows)


@pytest.mark.usefixtures("t4")
def test_the_pipeline_is_really_looked_at(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine.from_pretrained(tiny_folder)
    engine = Engine(engine.model, media=Memory(pictures(), (voice(9),)))
    block = engine.model.dit.blocks[-1]
    plain = block.forward
    monkeypatch.setattr(block, "forward", lambda *values: plain(*values).bfloat16().mul(1).half())
    with pytest.raises(ForbiddenKernelError, match="bfloat16"):
        engine.generate(talk(1, steps=1))
    with pytest.raises(ForbiddenKernelError, match="FlashAttention"):
        monkeypatch.setattr(block, "forward", plain)
        monkeypatch.setattr(guarding, "only", lambda _backends: SimpleContext())
        engine.generate(talk(1, steps=1))


class SimpleContext(SimpleNamespace):
    """A context that changes nothing."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_reason: object) -> None: ...
