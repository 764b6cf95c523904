"""Choosing a device: automatic, by name, and one clear line for what is not there."""

import pytest
import torch

from infinitetalk.core.errors import MachineError, RequestError
from infinitetalk.runtime.device import Device


def test_cpu_computes_in_float32() -> None:
    device = Device.choose("cpu")
    assert device.torch_device == torch.device("cpu")
    assert device.dtype == torch.float32
    assert device.capability is None
    assert device.name


def test_numbers_can_be_chosen() -> None:
    assert Device.choose("cpu", "bfloat16").dtype == torch.bfloat16


def test_automatic_finds_something_that_computes() -> None:
    device = Device.choose()
    assert float(torch.ones(2, device=device.torch_device, dtype=device.dtype).sum()) == 2


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "quantum", "meta", ""])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(RequestError, match=f"device = {name}: no such device; auto, cpu"):
        Device.choose(name)


def test_missing_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MachineError, match=r"device = cuda: .*device cpu would work"):
        Device.choose("cuda")
    assert Device.choose("auto").torch_device.type in ("cpu", "mps")


def test_missing_second_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(MachineError, match="there are 1 CUDA devices"):
        Device.choose("cuda:1")


@pytest.mark.parametrize(
    ("capability", "dtype"), [((9, 0), torch.bfloat16), ((8, 0), torch.bfloat16), ((7, 5), torch.float16)]
)
def test_cuda_numbers_follow_its_capability(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Some GPU")
    device = Device.choose("cuda")
    assert (device.dtype, device.name, device.capability) == (dtype, "Some GPU", capability)


def test_unknown_numbers_are_refused() -> None:
    with pytest.raises(MachineError, match="dtype = int4: must be auto, float32"):
        Device.choose("cpu", "int4")
