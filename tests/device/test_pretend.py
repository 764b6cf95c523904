"""Pretended cards: every answer of a `Device` falls as on the card, whatever this machine is."""

import ast
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn.attention import SDPBackend

import infinitetalk
from infinitetalk.core.cards import CARDS, find_card, recognise
from infinitetalk.core.errors import MachineError, RequestError
from infinitetalk.core.units import GIB
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.pretend import VARIABLE


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return monkeypatch


def test_a_t4_computes_in_float16_without_flash_fp8_or_triton(pretend: pytest.MonkeyPatch) -> None:
    pretend.setenv(VARIABLE, "t4")
    device = Device.choose()
    assert (device.name, device.capability, device.dtype) == ("Tesla T4", (7, 5), torch.float16)
    assert not (device.bfloat16 or device.fp8 or device.flash or device.triton)
    assert device.attention == (SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)
    assert device.memory == device.free_memory == round(14.74 * GIB)
    assert device.main_memory <= round(12.7 * GIB)
    assert device.free_main_memory <= device.main_memory
    assert device.where == f"pretended on {device.torch_device}"
    assert float(torch.ones(2, device=device.torch_device, dtype=device.dtype).sum()) == 2


@pytest.mark.parametrize(("card", "bfloat16", "fp8"), [("a100", True, False), ("l4", True, True), ("h100", True, True)])
def test_capabilities_follow_the_card(card: str, bfloat16: bool, fp8: bool, pretend: pytest.MonkeyPatch) -> None:
    pretend.setenv(VARIABLE, card)
    device = Device.choose("cuda")
    assert (device.bfloat16, device.fp8, device.flash) == (bfloat16, fp8, True)
    assert device.dtype == torch.bfloat16
    assert device.card is CARDS[card]


def test_triton_needs_the_card_and_the_library(pretend: pytest.MonkeyPatch) -> None:
    pretend.setattr("infinitetalk.runtime.device.find_spec", lambda _name: object())
    pretend.setenv(VARIABLE, "h100")
    assert Device.choose().triton
    pretend.setenv(VARIABLE, "t4")
    assert not Device.choose().triton


def test_the_processor_stays_the_processor(pretend: pytest.MonkeyPatch) -> None:
    pretend.setenv(VARIABLE, "t4")
    device = Device.choose("cpu")
    assert (device.dtype, device.capability, device.pretended) == (torch.float32, None, None)


def test_a_second_pretended_gpu_is_not_there(pretend: pytest.MonkeyPatch) -> None:
    pretend.setenv(VARIABLE, "t4")
    with pytest.raises(MachineError, match="device = cuda:1"):
        Device.choose("cuda:1")


def test_bfloat16_on_a_t4_is_refused(pretend: pytest.MonkeyPatch) -> None:
    pretend.setenv(VARIABLE, "t4")
    with pytest.raises(MachineError, match="dtype = bfloat16: Tesla T4 does not compute in it; float16"):
        Device.choose(dtype="bfloat16")
    assert Device.choose(dtype="float32").dtype == torch.float32


def test_an_unknown_card_is_refused_with_those_that_work(pretend: pytest.MonkeyPatch) -> None:
    pretend.setenv(VARIABLE, "voodoo2")
    with pytest.raises(RequestError, match="INFINITETALK_PRETEND = voodoo2: no such card in the table; t4, l4"):
        Device.choose()


def test_a_larger_gpu_is_held_to_the_pretended_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: SimpleNamespace(total_memory=80 * GIB))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (70 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda part, _device: held.append(part))
    monkeypatch.setenv(VARIABLE, "t4")
    device = Device.choose()
    assert device.torch_device == torch.device("cuda", 0)
    assert held == [pytest.approx((14.74 - 0.5) / 80)]
    assert device.free_memory == CARDS["t4"].vram


@pytest.mark.parametrize("text", ["T4", "RTX 4090", "4090", "rtx_3060_12gb", "A100-80GB", "NVIDIA-L4", "a100-40gb"])
def test_cards_are_found_by_usual_spellings(text: str) -> None:
    assert find_card(text) is not None


@pytest.mark.parametrize(
    ("name", "memory", "key"),
    [
        ("NVIDIA H100 80GB HBM3", 79.1, "h100"),
        ("NVIDIA H100 PCIe", 79.1, "h100"),
        ("NVIDIA GeForce RTX 4090", 23.6, "rtx4090"),
        ("NVIDIA A100-SXM4-40GB", 39.4, "a100-40gb"),
        ("NVIDIA GH200 480GB", 95.0, None),
        ("Quadro RTX 8000", 47.5, None),
    ],
)
def test_real_cards_are_recognised(name: str, memory: float, key: str | None) -> None:
    card = recognise(name, round(memory * GIB))
    assert (card.key if card else None) == key


_ASKED = """
is_available device_count get_device_capability get_device_properties get_device_name mem_get_info is_bf16_supported
current_device get_arch_list
"""
_QUESTIONS = frozenset(_ASKED.split())


_OTHER_QUESTIONS = ("torch.backends.cuda.", "torch.backends.cudnn.", "torch.backends.mps.", "torch.version.")


def _questions(path: Path) -> list[str]:
    """What a file asks torch about GPUs."""
    asked = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            if (text.startswith("torch.cuda.") and node.attr in _QUESTIONS) or text.startswith(_OTHER_QUESTIONS):
                asked.append(f"{path.name}:{node.lineno} {text}")
    return asked


def test_no_other_module_asks_torch_about_gpus() -> None:
    package = Path(infinitetalk.__file__).parent
    own = package / "runtime" / "device.py"
    assert _questions(own), "the search finds what it looks for"
    assert [found for path in package.rglob("*.py") if path != own for found in _questions(path)] == []
