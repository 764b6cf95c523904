"""`auto`: what it measures, what it remembers, and what it does with a damaged memory. Kernels are stand-ins."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from infinitetalk.core.errors import RequestError
from infinitetalk.ops.attention import Kernel, attention, sdpa
from infinitetalk.runtime import attention as choosing
from infinitetalk.runtime.attention import Quickest, Remembered, choose_attention, kind_of_call
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.pretend import VARIABLE
from tests.nets.random_nets import noise

GPU = Device(torch.device("cuda", 0), torch.bfloat16, "Some GPU", (9, 0))
SPEEDS = {"flash": 0.3, "cudnn": 0.1, "efficient": 0.2, "fa3": 0.05}


class Bench:
    """Kernels whose speed is given, all computed by torch's own on this machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kernels: dict[str, Kernel] = dict.fromkeys(SPEEDS, sdpa)
        self.timed: list[str] = []
        self.called: list[str] = []
        self.modules: set[str] = set()
        monkeypatch.setattr(choosing, "load_kernel", self.load)
        monkeypatch.setattr(choosing, "installed", self.modules.__contains__)
        monkeypatch.setattr(choosing, "seconds_of", self.seconds_of)

    def load(self, name: str, module: str | None) -> Kernel:
        assert module in (None, *self.modules)

        def kernel(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self.called.append(name)
            return self.kernels[name](q, k, v)

        return kernel

    def seconds_of(self, call: Callable[[], object], _where: torch.device) -> float:
        call()
        self.timed.append(self.called[-1])
        return SPEEDS[self.called[-1]]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def halves(length: int = 12, told: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = noise(1, length, 2, 16), noise(1, told, 2, 16, seed=1), noise(1, told, 2, 16, seed=2)
    return q.bfloat16(), k.bfloat16(), v.bfloat16()


def memory(folder: Path, machine: str = "Some GPU, torch 2") -> Remembered:
    return Remembered(folder / "cache" / "attention.json", machine)


def test_the_quickest_is_measured_once(bench: Bench, tmp_path: Path) -> None:
    quickest = Quickest(GPU, memory(tmp_path))
    given = halves()
    assert torch.equal(attention(*given, kernel=quickest), attention(*given))
    assert bench.timed == ["flash", "cudnn", "efficient"]
    bench.called.clear()
    quickest(*given)
    assert bench.called == ["cudnn"]


def test_what_was_measured_is_known_to_the_next_run(bench: Bench, tmp_path: Path) -> None:
    Quickest(GPU, memory(tmp_path))(*halves())
    bench.timed.clear()
    later = Quickest(GPU, memory(tmp_path))
    later(*halves(9, 16))
    assert not bench.timed, "lengths up to the same power of two"
    assert bench.called[-1] == "cudnn"
    later(*halves(17, 16))
    assert bench.timed == ["flash", "cudnn", "efficient"], "a longer one is another kind"
    bench.timed.clear()
    Quickest(GPU, memory(tmp_path, "Some GPU, torch 3"))(*halves())
    assert bench.timed, "another torch is measured anew"
    kept = json.loads((tmp_path / "cache" / "attention.json").read_text(encoding="utf-8"))
    assert set(kept) == {"Some GPU, torch 2", "Some GPU, torch 3"}
    assert kept["Some GPU, torch 2"]["bfloat16, head 16, 16 x 16"] == {"flash": 0.3, "cudnn": 0.1, "efficient": 0.2}
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["attention.json"]


def test_a_library_that_came_later_is_measured(bench: Bench, tmp_path: Path) -> None:
    Quickest(GPU, memory(tmp_path))(*halves())
    bench.modules.add("fa3_fwd_interface")
    bench.timed.clear()
    Quickest(GPU, memory(tmp_path))(*halves())
    assert "fa3" in bench.timed
    assert bench.called[-1] == "fa3"
    bench.modules.clear()
    bench.timed.clear()
    Quickest(GPU, memory(tmp_path))(*halves())
    assert not bench.timed
    assert bench.called[-1] == "cudnn", "one that went is not taken"


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"a": 1}', b'{"a": {"b": {"flash": "x"}}}', b"\xff\xfe", b"{}"])
def test_a_damaged_memory_is_told_and_measured_anew(
    bench: Bench, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cache" / "attention.json"
    path.parent.mkdir()
    path.write_bytes(content)
    Quickest(GPU, memory(tmp_path))(*halves())
    assert bench.timed == ["flash", "cudnn", "efficient"]
    assert [record.message.endswith("measured anew") for record in caplog.records] == [True] * (content != b"{}")
    assert memory(tmp_path).recall(kind_of_call(*halves()[:2]))["cudnn"] == 0.1


def test_a_memory_that_cannot_be_written_stops_nothing(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be", encoding="utf-8")
    Quickest(GPU, memory(tmp_path))(*halves())
    assert bench.called[-1] == "cudnn"
    assert len(caplog.records) == 1


def fails(*_: Tensor) -> Tensor:
    raise RuntimeError("No available kernel")


def lies(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return sdpa(q, k, v) * 1.1


def gives_no_number(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return sdpa(q, k, v) * float("nan")


@pytest.mark.parametrize("kernel", [fails, lies, gives_no_number])
def test_one_that_fails_or_lies_is_out(bench: Bench, tmp_path: Path, kernel: Kernel) -> None:
    bench.kernels["cudnn"] = kernel
    given = halves()
    assert torch.equal(Quickest(GPU, memory(tmp_path))(*given), sdpa(*given))
    assert bench.called[-1] == "efficient"
    assert memory(tmp_path).recall(kind_of_call(*given[:2]))["cudnn"] is None


def test_one_that_fails_at_another_length_gives_way(bench: Bench, tmp_path: Path) -> None:
    quickest = Quickest(GPU, memory(tmp_path))
    quickest(*halves(12))
    bench.kernels["cudnn"] = fails
    quickest(*halves(13))
    assert bench.called[-1] == "efficient"


def test_full_memory_is_no_reason_to_take_another(bench: Bench, tmp_path: Path) -> None:
    def full(*_: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    bench.kernels["flash"] = full
    with pytest.raises(torch.OutOfMemoryError):
        Quickest(GPU, memory(tmp_path))(*halves())
    assert not memory(tmp_path).recall(kind_of_call(*halves()[:2]))


def test_a_t4_has_one_kernel_and_measures_nothing(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    t4 = Device(torch.device("cuda", 0), torch.float16, "Tesla T4", (7, 5))
    q, k, v = (part.half() for part in halves())
    Quickest(t4)(q, k, v)
    assert not bench.timed
    assert set(bench.called) == {"efficient"}


def test_where_none_serves_torch_chooses(bench: Bench) -> None:
    t4 = Device(torch.device("cuda", 0), torch.float16, "Tesla T4", (7, 5))
    q = noise(1, 6, 2, 4).half()
    assert torch.equal(Quickest(t4)(q, q, q), sdpa(q, q, q))
    assert not bench.called


def test_a_cpu_has_nothing_to_choose(bench: Bench) -> None:
    assert choose_attention(Device.choose("cpu"), "auto", 16) is sdpa
    assert not bench.called


def test_auto_on_a_gpu_remembers_under_its_name(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INFINITETALK_CACHE", str(tmp_path))
    choose_attention(GPU, "auto", 16)(*halves())
    assert bench.called[-1] == "cudnn"
    assert list(json.loads((tmp_path / "attention.json").read_text(encoding="utf-8"))) == [
        f"Some GPU, torch {torch.__version__}"
    ]


def test_a_pretended_card_decides_as_the_card_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv(VARIABLE, "t4")
    t4 = Device.choose()
    assert choose_attention(t4, "auto", 128) is sdpa, "this machine's own, in which it pretends"
    assert choose_attention(t4, "efficient", 128) is sdpa
    assert choose_attention(t4, "math", 128) is not sdpa
    with pytest.raises(RequestError, match=r"flash: it needs compute capability from 8\.0, and Tesla T4 has"):
        choose_attention(t4, "flash", 128)
    monkeypatch.setenv(VARIABLE, "h100")
    assert choose_attention(Device.choose(), "cudnn", 128) is sdpa


def test_a_broken_library_is_refused_by_name(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.modules.add("sageattention")

    def broken(_name: str, _module: str | None) -> Kernel:
        raise ImportError("undefined symbol")

    monkeypatch.setattr(choosing, "load_kernel", broken)
    with pytest.raises(RequestError, match=r"attention = sage: its library is installed, but .*: undefined symbol"):
        choose_attention(GPU, "sage", 128)
