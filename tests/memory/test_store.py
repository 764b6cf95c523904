"""Weights that come and go: every module computes with its own, in any order that the device may choose."""

import gc
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from infinitetalk.core.errors import MachineError
from infinitetalk.core.memory import Tier
from infinitetalk.runtime.memory import sources
from infinitetalk.runtime.memory.record import ALIGNMENT, Layout, tensors_of
from infinitetalk.runtime.memory.store import Store, spread
from tests.memory.fake_lanes import DiceLanes

CPU = torch.device("cpu")
MOVING = (Tier.PINNED, Tier.DISK)


class Piece(nn.Module):
    """A module of tensors of several types; no two of them have the same numbers."""

    def __init__(self, number: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(number)
        self.matrix = nn.Parameter(torch.randn(5 + number % 3, 7, generator=generator), requires_grad=False)
        self.key = nn.Linear(3, 4, bias=number % 2 == 0).requires_grad_(False)
        self.register_buffer("eighth", torch.randint(-127, 128, (11,), dtype=torch.int8, generator=generator))
        self.register_buffer("scale", torch.full((), number, dtype=torch.bfloat16))
        self.register_buffer("empty", torch.empty(0))


def pieces(count: int) -> list[Piece]:
    return [Piece(number) for number in range(count)]


def copies(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors_of(module).items()}


def store_of(
    modules: list[Piece], tier: Tier, folder: Path, lanes: DiceLanes | None = None, resident: int = 0
) -> Store:
    stay = spread(len(modules), resident)
    store = Store(
        CPU, tier, steady="step", uses={"key": "key"}, resident=stay.__contains__, folder=folder, lanes=lanes
    )  # fmt: skip
    for module in modules:
        store.add(module)
    store.seal()
    return store


def same(module: nn.Module, truth: dict[str, Tensor], names: Iterator[str]) -> None:
    now = tensors_of(module)
    for name in names:
        assert torch.equal(now[name], truth[name]), name


def steady(truth: dict[str, Tensor]) -> Iterator[str]:
    return (name for name in truth if not name.startswith("key."))


def keys(truth: dict[str, Tensor]) -> Iterator[str]:
    return (name for name in truth if name.startswith("key."))


def test_record_is_one_aligned_piece() -> None:
    module = Piece(4)
    truth = copies(module)
    layout = Layout.of(truth)
    memory = torch.zeros(layout.bytes, dtype=torch.uint8)
    layout.fill(memory, truth)
    layout.lay(module, memory)
    same(module, truth, iter(truth))
    assert all(field.offset % ALIGNMENT == 0 for field in layout.fields)
    assert layout.bytes % ALIGNMENT == 0
    assert module.matrix.data_ptr() == memory.data_ptr() + next(f.offset for f in layout.fields if f.name == "matrix")


@pytest.mark.parametrize("tier", MOVING)
@pytest.mark.parametrize(("count", "resident"), [(1, 0), (2, 0), (3, 0), (5, 0), (8, 0), (8, 3), (7, 2), (4, 4)])
def test_every_module_has_its_own_weights(tier: Tier, count: int, resident: int, tmp_path: Path) -> None:
    modules = pieces(count)
    truth = [copies(module) for module in modules]
    store = store_of(modules, tier, tmp_path, resident=resident)
    assert len(store) == count
    for use, names in (("key", keys), ("step", steady), ("step", steady), ("key", keys), ("step", steady)):
        walked = list[nn.Module]()
        for module, numbers in zip(store.walk(use), truth, strict=True):
            same(module, numbers, names(numbers))
            walked.append(module)
        assert walked == modules
    store.close()
    assert all(tensor.is_meta for module in modules for tensor in tensors_of(module).values())


@pytest.mark.parametrize("tier", MOVING)
@pytest.mark.parametrize("seed", range(20))
def test_no_slot_is_overwritten_while_it_is_in_use(tier: Tier, seed: int, tmp_path: Path) -> None:
    """Computing and copying happen late and in any order that events allow; what is read then is still right."""
    lanes, modules = DiceLanes(seed), pieces(5 + seed % 4)
    truth = [copies(module) for module in modules]
    store = store_of(modules, tier, tmp_path, lanes, resident=seed % 3)
    read = list[int]()

    def queue(number: int, module: nn.Module, use: str) -> None:
        def look() -> None:
            same(module, truth[number], (keys if use == "key" else steady)(truth[number]))
            read.append(number)

        lanes.compute(look)

    uses = ("key", "step", "step", "step", "key", "step")
    for use in uses:
        for number, module in enumerate(store.walk(use)):
            queue(number, module, use)
            lanes.some()
    store.close()
    assert read == [*range(len(modules))] * len(uses)


def test_the_fake_lanes_see_a_missing_wait(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The test above fails, for some order, if a copy does not wait for its slot or computing not for its copy."""
    for name in ("copy_waits", "compute_waits"):
        wrong = 0
        for seed in range(20):
            lanes = DiceLanes(seed)
            monkeypatch.setattr(lanes, name, lambda _event: None)
            modules = pieces(6)
            truth = [copies(module) for module in modules]
            store = store_of(modules, Tier.PINNED, tmp_path, lanes)
            differ = list[str]()

            def look(module: nn.Module, numbers: dict[str, Tensor], differ: list[str] = differ) -> None:
                now = tensors_of(module)
                differ.extend(name for name in steady(numbers) if not torch.equal(now[name], numbers[name]))

            for _ in range(2):
                for module, numbers in zip(store.walk("step"), truth, strict=True):
                    lanes.compute(partial(look, module, numbers))
                    lanes.some()
            lanes.finish()
            wrong += bool(differ)
        assert wrong > 0, name


def test_the_fake_lanes_see_a_buffer_that_is_filled_too_early(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A reading thread that does not wait for the copy out of its buffer spoils weights, for some order."""
    wrong = 0
    for seed in range(20):
        lanes, modules = DiceLanes(seed), pieces(8)
        monkeypatch.setattr(lanes, "host_waits", lambda _event: None)
        truth = [copies(module) for module in modules]
        store = store_of(modules, Tier.DISK, tmp_path, lanes)
        differ = list[str]()

        def look(module: nn.Module, numbers: dict[str, Tensor], differ: list[str] = differ) -> None:
            now = tensors_of(module)
            differ.extend(name for name in steady(numbers) if not torch.equal(now[name], numbers[name]))

        for module, numbers in zip(store.walk("step"), truth, strict=True):
            lanes.compute(partial(look, module, numbers))
        lanes.finish()
        store.close()
        wrong += bool(differ)
    assert wrong > 0


@pytest.mark.filterwarnings("error")
def test_a_device_that_failed_fails_once(tmp_path: Path) -> None:
    """What gives memory back afterwards says nothing more."""

    class Failed(DiceLanes):
        def finish(self) -> None:
            raise RuntimeError("CUDA error: unspecified launch failure")

    store = store_of(pieces(4), Tier.PINNED, tmp_path, Failed(0))
    next(iter(store.walk("step")))
    del store
    gc.collect()


def test_views_are_made_once(tmp_path: Path) -> None:
    """Nothing is allocated on the way: every walk finds each tensor where it was before."""
    store = store_of(pieces(6), Tier.PINNED, tmp_path)
    places = [
        [tensor.data_ptr() for module in store.walk("step") for tensor in tensors_of(module).values()] for _ in range(3)
    ]
    assert places[0] == places[1] == places[2]


def test_copies_run_ahead_of_computing(tmp_path: Path) -> None:
    """While a module computes, the next one's copy is queued already; a new walk finds its first modules there."""
    lanes, modules = DiceLanes(0), pieces(6)
    store = store_of(modules, Tier.PINNED, tmp_path, lanes)
    for number, _ in enumerate(store.walk("step")):
        copied = sum(slot.holds is not None for slot in store._slots)
        assert copied == 2, number
    lanes.finish()
    assert {id(slot.holds.module) for slot in store._slots if slot.holds} == {id(module) for module in modules[:2]}


def test_a_walk_that_is_left_early_does_no_harm(tmp_path: Path) -> None:
    modules = pieces(6)
    truth = [copies(module) for module in modules]
    store = store_of(modules, Tier.DISK, tmp_path)
    for stop in (0, 1, 3, 5):
        for number, _ in enumerate(store.walk("step")):
            if number == stop:
                break
        for module, numbers in zip(store.walk("step"), truth, strict=True):
            same(module, numbers, steady(numbers))
    store.close()


def test_the_device_holds_two_slots_and_what_stays(tmp_path: Path) -> None:
    modules = pieces(8)
    store = store_of(modules, Tier.PINNED, tmp_path)
    largest = max(Layout.of({n: t for n, t in tensors_of(m).items() if not n.startswith("key")}).bytes for m in modules)
    assert store.slot_bytes == 0  # until they are needed
    for _ in range(2):
        assert len(list(store.walk("step"))) == 8
        assert store.slot_bytes == 2 * largest
        store.vacate()
        assert store.slot_bytes == 0
    assert store.moving_bytes("step") == sum(
        Layout.of({n: t for n, t in tensors_of(m).items() if not n.startswith("key")}).bytes for m in modules
    )


def test_weights_that_lie_in_a_file_are_read_from_there(tmp_path: Path) -> None:
    save_file(
        {"a": torch.randn(300, 40), "b": torch.randn(1000).half(), "c": torch.randn(3)}, tmp_path / "w.safetensors"
    )

    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, tensor in load_file(tmp_path / "w.safetensors").items():
                self.register_buffer(name, tensor)
            self.register_buffer("made", torch.arange(5.0))

    module = Held()
    truth = copies(module)
    spool = tmp_path / "spool"
    store = Store(CPU, Tier.DISK, steady=0, folder=spool)
    store.add(module)
    store.seal()
    ((walked),) = store.walk(0)
    same(walked, truth, iter(truth))
    assert store._spool is not None
    assert store._spool.written == 4096  # "made" alone
    store.close()


def test_a_file_that_becomes_shorter_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(pieces(4), Tier.DISK, tmp_path)
    monkeypatch.setattr(sources, "read_at", lambda *_: 0)
    with pytest.raises(MachineError, match="the file became shorter"):
        list(store.walk("step"))
    store.close()


def test_a_disk_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(pieces(4), Tier.DISK, tmp_path)

    def fails(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(sources, "read_at", fails)
    with pytest.raises(MachineError, match=r"cannot be read any more \(Input/output error"):
        list(store.walk("step"))
    store.close()


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("infinitetalk.runtime.memory.spool.os.write", full)
    with pytest.raises(MachineError, match="No space left on device"):
        store_of(pieces(2), Tier.DISK, tmp_path)


def test_no_file_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    store = store_of(pieces(3), Tier.DISK, folder)
    assert list(store.walk("step"))
    store.close()
    assert not list(folder.iterdir())


@pytest.mark.parametrize(("count", "resident"), [(40, 0), (40, 1), (40, 10), (40, 20), (40, 39), (40, 40), (5, 3)])
def test_modules_that_stay_are_spread_evenly(count: int, resident: int) -> None:
    stay = spread(count, resident)
    assert len(stay) <= resident
    assert (count - len(stay)) % 2 == 0 or not stay
    if 0 < len(stay) < count:
        gaps = [b - a for a, b in zip([-1, *sorted(stay)], [*sorted(stay), count], strict=True)]
        assert max(gaps[1:-1], default=0) - min(gaps[1:-1], default=0) <= 1
