"""Every kernel behind the door, as far as a CPU has it, and the libraries' interfaces on stand-ins."""

import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor

from infinitetalk.core.attention import NAMES, find
from infinitetalk.ops.attention import attention, sdpa
from infinitetalk.ops.attention_kernels import load_kernel
from infinitetalk.runtime.attention import usable_backends
from infinitetalk.runtime.device import Device
from tests.nets.random_nets import noise

CPU = Device.choose("cpu")


@pytest.mark.parametrize("name", usable_backends(CPU))
@pytest.mark.parametrize(("length", "told", "width"), [(96, 96, 16), (40, 7, 16), (5, 33, 3)])
def test_all_that_serve_agree(name: str, length: int, told: int, width: int) -> None:
    q, k, v = noise(2, length, 3, 16), noise(2, told, 3, 16, seed=1), noise(2, told, 3, width, seed=2)
    answer = attention(q, k, v, kernel=load_kernel(name, None))
    assert answer.shape == (2, length, 3, width)
    torch.testing.assert_close(answer, attention(q, k, v), atol=1e-6, rtol=0)


def test_a_cpu_has_two_kernels_and_they_are_different_ones() -> None:
    """The plain one keeps the weights of all pairs; the fused one is told apart by the operation that runs."""
    q = noise(1, 8, 1, 8)
    ran: dict[str, set[str]] = {}
    for name in ("math", "flash"):
        with torch.profiler.profile() as profile:
            load_kernel(name, None)(q, q, q)
        ran[name] = {event.key for event in profile.key_averages()}
    assert any("flash" in operation for operation in ran["flash"])
    assert not any("flash" in operation for operation in ran["math"])


@pytest.mark.parametrize("extra", [False, True], ids=["answer", "answer and sums"])
def test_flash_attention_3_is_called_as_its_interface_says(monkeypatch: pytest.MonkeyPatch, extra: bool) -> None:
    def flash_attn_func(q: Tensor, k: Tensor, v: Tensor) -> object:
        return (sdpa(q, k, v), None) if extra else sdpa(q, k, v)

    library = ModuleType("fa3_fwd_interface")
    monkeypatch.setattr(library, "flash_attn_func", flash_attn_func, raising=False)
    monkeypatch.setitem(sys.modules, "fa3_fwd_interface", library)
    q, k, v = noise(1, 9, 2, 8), noise(1, 5, 2, 8, seed=1), noise(1, 5, 2, 3, seed=2)
    assert torch.equal(attention(q, k, v, kernel=load_kernel("fa3", "fa3_fwd_interface")), attention(q, k, v))


def test_sage_attention_is_called_as_its_interface_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def sageattn(q: Tensor, k: Tensor, v: Tensor, *, tensor_layout: str) -> Tensor:
        assert tensor_layout == "NHD"
        assert q.is_contiguous()
        answer = sdpa(q, k, v)
        k -= k.mean(dim=1, keepdim=True)  # as version 1 does
        return answer

    monkeypatch.setitem(sys.modules, "sageattention", SimpleNamespace(sageattn=sageattn))
    for keys in (noise(1, 9, 2, 8), noise(1, 9, 4, 8)[:, :, :2]):
        before, answer = keys.clone(), attention(keys, keys, keys)
        assert torch.equal(attention(keys, keys, keys, kernel=load_kernel("sage", "sageattention")), answer)
        assert torch.equal(keys, before), "keys are the caller's"


def test_every_name_has_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        modules: list[str | None] = [*(one.module for one in find(name).sources)] or [None]
        for module in modules:
            if module is not None:
                monkeypatch.setitem(sys.modules, module, ModuleType(module))
            assert callable(load_kernel(name, module))


def test_importing_loads_no_library_and_measures_nothing() -> None:
    code = (
        "import sys; import infinitetalk.engine.engine, infinitetalk.runtime.attention as chosen;"
        "found = {'sageattention', 'fa3_fwd_interface', 'flash_attn_interface'} & set(sys.modules);"
        "print(sorted(found), chosen.installed.cache_info().currsize)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["[]", "0"]
