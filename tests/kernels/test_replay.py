"""Recorded passes: their logic with a recorder that computes anew from where the recorded pass read."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from infinitetalk.core.errors import RequestError
from infinitetalk.core.memory import MemorySettings, Tier
from infinitetalk.models.dit import AudioDiT, Branch
from infinitetalk.ops.replay import Replay, shape, tensors, with_tensors
from infinitetalk.ops.rope import video_rotation
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.replay import SHORT, choose_replay, forget
from tests.kernels.test_eight import SMALL
from tests.nets.random_nets import noise, shaken


class Fake:
    """Computes anew into the memory of the first answers."""

    def __init__(self, rooms: int = 100) -> None:
        self.recorded = self.replayed = 0
        self.rooms = rooms

    def room(self) -> bool:
        return self.recorded < self.rooms

    def record(self, compute: Callable[[], list[Tensor]]) -> tuple[Callable[[], object], list[Tensor]]:
        self.recorded += 1
        answers = [torch.full_like(answer, torch.nan) for answer in compute()]

        def again() -> None:
            self.replayed += 1
            for answer, found in zip(answers, compute(), strict=True):
                answer.copy_(found)

        return again, answers


class Pair(NamedTuple):
    left: Tensor
    right: Tensor | None


def added(given: tuple[Tensor, Pair]) -> list[Tensor]:
    x, pair = given
    return [x + pair.left, x - pair.left]


def test_answers_are_those_of_the_inputs_of_each_time() -> None:
    recorder = Fake()
    replay = Replay(recorder)
    told = Pair(noise(3, seed=1), None)
    for number in range(5):
        x = noise(3, seed=number)
        told = told if number % 2 else Pair(noise(3, seed=50 + number), None)
        found = replay(added, x, told, "how")
        for one, truth in zip(found, added((x, told)), strict=True):
            assert torch.equal(one, truth)
    assert (recorder.recorded, recorder.replayed) == (1, 4)


def test_answers_stay_when_others_are_made() -> None:
    replay = Replay(Fake())
    told = Pair(noise(3, seed=1), None)
    answers = [replay(added, noise(3, seed=number), told, "how")[0] for number in range(4)]
    for number, answer in enumerate(answers):
        assert torch.equal(answer, noise(3, seed=number) + told.left)


def test_each_kind_has_its_own_recording_and_the_oldest_goes() -> None:
    recorder = Fake()
    replay = Replay(recorder, most=2)
    for _ in range(2):
        for count in (3, 4, 3, 5):
            replay(added, noise(count), Pair(noise(count), None), "how")
    assert recorder.recorded == 3
    replay(added, noise(3), Pair(noise(3), None), "another way")
    assert recorder.recorded == 3  # the first of its kind computes
    replay(added, noise(3), Pair(noise(3), None), "how")
    assert recorder.recorded == 4  # that of three numbers had to go


def test_without_room_it_computes() -> None:
    recorder = Fake(rooms=0)
    replay = Replay(recorder)
    for _ in range(3):
        assert torch.equal(replay(added, noise(2), Pair(noise(2), None), 0)[0], 2 * noise(2))
    assert not recorder.recorded


def test_nested_tuples_are_taken_apart_and_put_together() -> None:
    given = (1, None, [noise(2), Pair(noise(3), None)], "word")
    assert [len(tensor) for tensor in tensors(given)] == [2, 3]
    again = with_tensors(given, iter([noise(2), noise(3)]))
    assert type(again[2][1]) is Pair
    assert shape(again) == shape(given)
    for other in ((2, *given[1:]), (1, noise(1), *given[2:]), (1, None, [noise(2), noise(3)], "word")):
        assert shape(other) != shape(given)


def test_a_network_that_replays_answers_as_one_that_computes() -> None:
    dit = shaken(AudioDiT(SMALL))
    recorder = Fake()
    replay = Replay(recorder)
    with torch.no_grad():
        told = [spoken(dit, 1), spoken(dit, 2)]
        for number in range(4):
            told = told if number < 2 else [spoken(dit, 3), told[1]]
            latent, when = noise(1, 16, 3, 4, 8, seed=number), torch.tensor(100.0 * number)
            condition = noise(1, 20, 3, 4, 8, seed=number // 2)
            dit.replay = None
            truth = dit.evaluate(latent, when, condition=condition, branches=told)
            dit.replay = replay
            found = dit.evaluate(latent, when, condition=condition, branches=told)
            for one, wanted in zip(found, truth, strict=True):
                assert torch.equal(one, wanted)
    assert (recorder.recorded, recorder.replayed) == (1, 3)


def test_a_recorded_pass_reads_no_table_that_a_cache_may_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU none can be made while it records, and a freed one's memory is soon another's."""

    class Strict(Fake):
        def record(self, compute: Callable[[], list[Tensor]]) -> tuple[Callable[[], object], list[Tensor]]:
            return super().record(lambda: alone(compute))

    def alone(compute: Callable[[], list[Tensor]]) -> list[Tensor]:
        with monkeypatch.context() as patch:
            patch.setattr("infinitetalk.models.dit.video_rotation", None)
            return compute()

    dit, recorder, answers = shaken(AudioDiT(SMALL)), Strict(), []
    dit.replay = Replay(recorder)
    with torch.no_grad():
        branches = [spoken(dit, 1)]
        for _ in range(3):
            latent, condition = noise(1, 16, 3, 4, 8), noise(1, 20, 3, 4, 8)
            answers += dit.evaluate(latent, torch.tensor(5.0), condition=condition, branches=branches)
            video_rotation.cache_clear()
    assert all(torch.equal(answer, answers[0]) for answer in answers)
    assert (recorder.recorded, recorder.replayed) == (1, 2)


def spoken(dit: AudioDiT, seed: int) -> Branch:
    """A branch with a sound of its own."""
    (text,) = dit.prepare_texts([noise(1, 7, 10, seed=3)])
    sounds = [(noise(1, 1, 9, 5, 2, 6, seed=seed), None)]
    (sound,) = dit.prepare_sounds(sounds, dit.grid(noise(1, 16, 3, 4, 8)))
    return Branch(text, dit.prepare_picture(noise(1, 5, 14, seed=4)), sound)


@pytest.mark.parametrize("largest, recorded", [(24 * 64**2, 0), (24 * 64**2 + 1, 1)])
def test_long_passes_are_not_recorded(largest: float, recorded: int) -> None:
    dit, recorder = shaken(AudioDiT(SMALL)), Fake()
    dit.replay = Replay(recorder, largest=largest)
    with torch.no_grad():
        for _ in range(3):
            dit.evaluate(
                noise(1, 16, 3, 4, 8), torch.tensor(5.0), condition=noise(1, 20, 3, 4, 8), branches=[spoken(dit, 1)]
            )
    assert recorder.recorded == recorded


def test_what_cannot_be_recorded_is_refused() -> None:
    cpu = Device.choose("cpu")
    assert choose_replay(cpu, MemorySettings(), Tier.RESIDENT) is None
    with pytest.raises(RequestError, match="graphs = on: CUDA graphs need an NVIDIA GPU"):
        choose_replay(cpu, MemorySettings(graphs="on"), Tier.RESIDENT)
    gpu = replace(cpu, torch_device=torch.device("cuda"), capability=(9, 0))
    with pytest.raises(RequestError, match="memory is pinned; resident would work"):
        choose_replay(gpu, MemorySettings(graphs="on", memory="pinned"), Tier.PINNED)
    with pytest.raises(RequestError, match="found no room; off would work"):
        choose_replay(gpu, MemorySettings(graphs="on"), Tier.PINNED)
    assert choose_replay(gpu, MemorySettings(), Tier.PINNED) is None
    assert choose_replay(gpu, MemorySettings(graphs="off"), Tier.RESIDENT) is None
    assert choose_replay(gpu, MemorySettings(vram=20.0), Tier.RESIDENT) is None


def test_auto_records_short_passes_only() -> None:
    gpu = replace(Device.choose("cpu"), torch_device=torch.device("cuda"), capability=(9, 0))
    auto, always = (choose_replay(gpu, MemorySettings(graphs=name), Tier.RESIDENT) for name in ("auto", "on"))
    assert auto is not None and always is not None
    assert auto.worth(SHORT - 1) and not auto.worth(SHORT)
    assert always.worth(1e15)


def test_all_recordings_are_forgotten_before_a_group_is_left() -> None:
    gpu = replace(Device.choose("cpu"), torch_device=torch.device("cuda"), capability=(9, 0))
    replay, recorder = choose_replay(gpu, MemorySettings(graphs="on"), Tier.RESIDENT), Fake()
    assert replay is not None
    replay._recorder = recorder
    for expected in (0, 1, 1):
        replay(added, noise(3), Pair(noise(3), None), "how")
        assert recorder.recorded == expected
    forget()
    for expected in (1, 2):
        replay(added, noise(3), Pair(noise(3), None), "how")
        assert recorder.recorded == expected
