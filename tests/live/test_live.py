"""Live talk with `tiny`: chunks that depend on the sound alone, a clean end, and one line for what cannot work."""

import gc
import time
import tracemalloc
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infinitetalk.core.errors import RequestError
from infinitetalk.core.request import Box, TalkRequest
from infinitetalk.core.sizes import SAMPLES_PER_FRAME
from infinitetalk.core.stages import Stage
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.live import LiveChunk, slide
from infinitetalk.engine.model import Model, load_model
from infinitetalk.engine.progress import StageClock
from infinitetalk.engine.protocols import Waveform
from infinitetalk.media.arriving import at_speech_rate, blocks
from infinitetalk.runtime.device import Device
from infinitetalk.weights.folder import ModelFolder
from tests.engine.inputs import Memory, pictures, voice

NEW = 8
"""Frames that a chunk of these tests adds: 13 at a time, 5 of which repeat."""


def ask(**changes: Any) -> TalkRequest:
    values: dict[str, Any] = {"model": "tiny", "image": "portrait", "audio": "-", "window_frames": 13, "steps": 2}
    return TalkRequest(**(values | changes))


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> Model:
    return load_model(ModelFolder.open(tiny_folder), Device.choose("cpu"))


@pytest.fixture
def engine(tiny: Model) -> Engine:
    return Engine(tiny, media=Memory(pictures(), (voice(1),)))


def cut(sound: Waveform, *sizes: int) -> Iterator[Waveform]:
    """The sound in pieces of these sizes, over and over."""
    start = number = 0
    while start < len(sound):
        size = sizes[number % len(sizes)]
        yield sound[start : start + size]
        start, number = start + size, number + 1


def frames_of(chunks: list[LiveChunk]) -> torch.Tensor:
    return torch.cat([chunk.frames for chunk in chunks], dim=1)


@pytest.mark.parametrize(
    "split",
    [
        lambda sound: cut(sound, 1),
        lambda sound: cut(sound, 640),
        lambda sound: cut(sound, 4097, 3, 777),
        lambda sound: iter([sound, sound[:0]]),
        lambda sound: iter([sound.astype(np.float64)]),
    ],
    ids=["samples", "frames", "odd", "whole", "doubles"],
)
def test_pieces_do_not_matter(engine: Engine, split: Callable[[Waveform], Iterator[Waveform]]) -> None:
    sound = voice(2 * NEW + 3)
    expected = list(engine.live(ask(), list(cut(sound, 5000))))
    found = list(engine.live(ask(), split(sound)))
    assert torch.equal(frames_of(found), frames_of(expected))
    assert [chunk.first_frame for chunk in found] == [0, NEW, 2 * NEW]


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 192_000])
def test_pieces_do_not_matter_at_other_rates(rate: int) -> None:
    sound = np.random.default_rng(1).standard_normal(rate).astype(np.float32)
    whole, odd = (np.concatenate(list(at_speech_rate(pieces, rate))) for pieces in ([sound], cut(sound, 997, 1)))
    np.testing.assert_array_equal(whole, odd)
    assert abs(len(whole) - 16_000) <= 1


def test_another_rate_is_the_same_sound(engine: Engine) -> None:
    times = np.arange(48_000) / 48_000
    wave = (0.3 * np.sin(2 * np.pi * 200 * times) * np.sin(2 * np.pi * 3 * times)).astype(np.float32)
    high = frames_of(list(engine.live(ask(), cut(wave, 1000), 48_000)))
    low = frames_of(list(engine.live(ask(), [wave[::3]])))
    assert high.shape == low.shape == (3, 25, 64, 64)
    assert float((high - low).abs().mean()) < 0.01


@pytest.mark.parametrize(
    ("samples", "frames"),
    [
        (1, [1]),
        (SAMPLES_PER_FRAME, [1]),
        (SAMPLES_PER_FRAME + 1, [2]),
        (NEW * SAMPLES_PER_FRAME, [NEW]),
        (NEW * SAMPLES_PER_FRAME + 1, [NEW, 1]),
        (2 * NEW * SAMPLES_PER_FRAME, [NEW, NEW]),
    ],
)
def test_video_is_as_long_as_the_sound(engine: Engine, samples: int, frames: list[int]) -> None:
    chunks = list(engine.live(ask(), [voice(20)[:samples]]))
    assert [chunk.frames.shape[1] for chunk in chunks] == frames


@pytest.mark.parametrize("sound", [[], [np.zeros(0, np.float32)]], ids=["none", "empty"])
def test_no_sound_is_no_video(engine: Engine, sound: list[Waveform]) -> None:
    assert list(engine.live(ask(), sound)) == []


def test_silence_is_shown_and_is_not_speech(engine: Engine) -> None:
    silent = frames_of(list(engine.live(ask(), [np.zeros_like(voice(NEW))])))
    assert silent.isfinite().all()
    assert not torch.equal(silent, frames_of(list(engine.live(ask(), [voice(NEW)]))))


def test_end_is_filled_with_silence(engine: Engine) -> None:
    short = voice(NEW + 3)
    padded = np.pad(short, (0, (NEW - 3) * SAMPLES_PER_FRAME))
    found, expected = (frames_of(list(engine.live(ask(), [sound]))) for sound in (short, padded))
    assert torch.equal(found, expected[:, : NEW + 3])


def test_a_chunk_comes_with_its_last_sample(engine: Engine) -> None:
    """Nothing is waited for beyond it, and nothing is made before."""
    given: list[int] = []

    def arriving() -> Iterator[Waveform]:
        for piece in cut(voice(3 * NEW), SAMPLES_PER_FRAME):
            given.append(len(piece))
            yield piece

    counts = []
    for chunk in engine.live(ask(), arriving()):
        assert chunk.latency > 0
        counts.append(sum(given))
    assert counts == [NEW * SAMPLES_PER_FRAME * n for n in (1, 2, 3)]


def test_earlier_chunks_do_not_know_later_sound(engine: Engine) -> None:
    sound, other = voice(2 * NEW), voice(2 * NEW)
    other[NEW * SAMPLES_PER_FRAME :] *= 0.1
    first, second = (list(engine.live(ask(), [wave])) for wave in (sound, other))
    assert torch.equal(first[0].frames, second[0].frames)
    assert not torch.equal(first[1].frames, second[1].frames)


def test_seed_decides(engine: Engine) -> None:
    first, again, other = (frames_of(list(engine.live(ask(seed=seed), [voice(NEW)]))) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_seams_change_the_first_new_frames_and_nothing_after(engine: Engine) -> None:
    """28 new frames, of which eight are fitted; what the next chunk continues is not touched."""
    sound, start = voice(56), {"window_frames": None, "steps": 1}
    softened, plain = (list(engine.live(ask(**start, seam_frames=frames), [sound])) for frames in (None, 0))
    assert torch.equal(softened[0].frames, plain[0].frames)
    assert torch.equal(softened[1].latent, plain[1].latent)
    assert torch.equal(softened[1].frames[:, 8:], plain[1].frames[:, 8:])
    for number in range(8):
        assert not torch.equal(softened[1].frames[:, number], plain[1].frames[:, number])


def test_time_counts_for_stages_and_the_callers_turn_for_the_caller(engine: Engine) -> None:
    clock = StageClock()
    for _ in engine.live(ask(), [voice(2 * NEW)], progress=clock):
        with clock.stage(Stage.ASSEMBLY):
            time.sleep(0.05)
    spent = {stage for stage, seconds in clock.seconds.items() if seconds > 0}
    assert spent == {*Stage} - {Stage.INTERPOLATION}
    assert 0.1 <= clock.seconds[Stage.ASSEMBLY] < 0.2


def test_close_ends_it_at_any_time(engine: Engine) -> None:
    left = []

    def endless() -> Generator[Waveform, None, None]:
        try:
            while True:
                yield voice(1)
        finally:
            left.append(True)

    sound = endless()
    talk = engine.live(ask(), sound)
    next(talk)
    talk.close()
    assert list(talk) == []
    assert not left, "the sound is the caller's"
    sound.close()
    again = list(engine.live(ask(), [voice(NEW)]))
    assert len(again) == 1, "the engine goes on"


def test_a_failing_source_is_told_as_it_is(engine: Engine) -> None:
    def broken() -> Iterator[Waveform]:
        yield voice(NEW)
        raise ConnectionResetError("the microphone is gone")

    talk = engine.live(ask(), broken())
    assert next(talk).index == 0
    with pytest.raises(ConnectionResetError, match="microphone"):
        next(talk)


HOLDING = (torch.Tensor, torch.nn.Parameter)
"""What holds memory. A subclass may not: tensors of sizes yet unknown, which other tests' compilations leave, have no
bytes to tell."""


def test_memory_does_not_grow(engine: Engine) -> None:
    pieces = (voice(1) for _ in range(12 * NEW))
    python, tensors = [], []
    tracemalloc.start()
    try:
        for chunk in engine.live(ask(steps=1), pieces):
            if chunk.index in (3, 10):
                gc.collect()
                python.append(tracemalloc.get_traced_memory()[0])
                tensors.append(sum(thing.nbytes for thing in gc.get_objects() if type(thing) in HOLDING))
    finally:
        tracemalloc.stop()
    assert 0 < tensors[0] == tensors[1]
    assert python[1] - python[0] < NEW * NEW * SAMPLES_PER_FRAME, "a fourth of the sound's bytes"


def test_the_last_eight_seconds_are_heard() -> None:
    sound = np.arange(1, 12 * 16_000 + 1, dtype=np.float32)
    heard = list(slide(blocks(iter([sound]), 999), 28))
    assert {len(chunk.samples) for chunk in heard} == {8 * 16_000}
    assert [chunk.frames for chunk in heard] == [28] * 10 + [20]
    assert heard[0].samples[-1] == 28 * 640
    assert not heard[0].samples[: -28 * 640].any()
    np.testing.assert_array_equal(heard[9].samples, np.arange(280 * 640 - 128_000 + 1, 280 * 640 + 1))
    assert heard[10].samples[-1] == 0


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"image": None, "video": "clip.mp4"}, "video = clip.mp4: live talk starts from a portrait"),
    ({"audio": ["a", "b"], "boxes": [Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1)]}, "audio = 2: live talk is for one person"),
    ({"boxes": [Box(0, 0, 1, 1)]}, "boxes = 1: a single voice needs no place"),
    ({"window_frames": 201}, "window_frames = 201: live talk hears 8 s of sound at a time; up to 197 would work"),
    ({"start": 1.0}, "start = 1.0: live sound begins when it arrives"),
    ({"duration": 1.0}, "duration = 1.0: live talk ends when the sound does"),
    ({"mode": "clip"}, "mode = clip: live talk goes on"),
    ({"preview": True}, "preview = True: live talk goes on"),
    ({"scheduler": "euler"}, "scheduler = euler: live talk has a method of its own"),
    ({"recipe": "quality"}, "recipe = quality: live talk has a recipe of its own"),
    ({"step_cache": "teacache", "steps": 20}, "step_cache = teacache: live talk needs each of its few steps"),
    ({"separate": "vocals"}, "separate = vocals: live talk hears the sound as it arrives"),
    ({"soundtrack": "song.mp3"}, "soundtrack = song.mp3: a live video carries the sound that it hears"),
    ({"reference": True}, "reference = True: the reference implementation has no live talk"),
]


@pytest.mark.parametrize(("changes", "line"), REFUSED, ids=[line.split(" =")[0] for _, line in REFUSED])
def test_refuses_at_once(engine: Engine, changes: dict[str, Any], line: str) -> None:
    with pytest.raises(RequestError) as caught:
        engine.live(ask(**changes), [voice(1)])
    assert str(caught.value).startswith(line)


def test_refuses_text_for_a_model_without(tiny: Model) -> None:
    mute = replace(tiny, facts=replace(tiny.facts, has_text=False))
    with pytest.raises(RequestError, match=r"^text_scale = 3\.0: the model tiny has no text part; leave it out$"):
        Engine(mute, media=Memory(pictures(), ())).live(ask(text_scale=3.0), [])


def test_refuses_motion_for_a_model_that_did_not_learn_it(engine: Engine) -> None:
    with pytest.raises(RequestError, match=r"^motion = 0\.5: the model tiny did not learn it"):
        engine.live(ask(motion=0.5), [])


@pytest.mark.parametrize("rate", [0, 7_999, 192_001, 16_000.5, True])
def test_refuses_rates(engine: Engine, rate: Any) -> None:
    with pytest.raises(RequestError, match=r"must be a whole number of samples a second, 8000 to 192000$"):
        engine.live(ask(), [], rate)


@pytest.mark.parametrize(
    ("piece", "line"),
    [
        (np.array([0, np.nan], np.float32), "sound = piece 1 of float32 [2]: has values that are not finite numbers"),
        (np.array([np.inf]), "sound = piece 1 of float64 [1]: has values that are not finite numbers"),
        (np.zeros((1, 640), np.float32), "sound = piece 1 of float32 [1, 640]: must be mono samples [n]"),
        (np.float32(0), "sound = piece 1 of float32 []: must be mono samples [n]"),
        (np.zeros(640, np.int16), "sound = piece 1 of int16 [640]: must be floats of full scale 1"),
    ],
)
def test_refuses_pieces(engine: Engine, piece: Any, line: str) -> None:
    talk = engine.live(ask(), [voice(NEW), piece])
    assert next(talk).index == 0
    with pytest.raises(RequestError) as caught:
        next(talk)
    assert str(caught.value).startswith(line)
