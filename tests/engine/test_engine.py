"""The engine on tiny: the same requests give the same frames, and each setting does what it says."""

import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from infinitetalk.core.errors import MachineError, ModelError, RequestError
from infinitetalk.core.request import Box, TalkRequest
from infinitetalk.core.stages import Stage
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.model import Model
from infinitetalk.engine.progress import StageClock
from infinitetalk.engine.protocols import Inputs
from tests.engine.inputs import Frames, Memory, pictures, talk, voice

Make = Callable[..., Engine]


class Watch:
    """Counts the network's passes and keeps the sounds that it was told."""

    def __init__(self, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passes = 0
        self.sounds: list[tuple[Tensor, Tensor | None]] = []
        evaluate, prepare = model.dit.evaluate, model.dit.prepare_sounds

        def evaluated(*arguments: Any, **words: Any) -> list[Tensor]:
            self.passes += len(words["branches"])
            return evaluate(*arguments, **words)

        def prepared(sounds: Any, *arguments: Any, **words: Any) -> Any:
            self.sounds += sounds
            return prepare(sounds, *arguments, **words)

        monkeypatch.setattr(model.dit, "evaluate", evaluated)
        monkeypatch.setattr(model.dit, "prepare_sounds", prepared)


@pytest.fixture
def watch(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(tiny, monkeypatch)


def test_windows_join_to_the_length_of_the_sound(make_engine: Make) -> None:
    engine = make_engine(30)
    windows = list(engine.stream(talk()))
    assert [window.first_frame for window in windows] == [0, 13, 21, 29]
    assert [window.frames.shape[1] for window in windows] == [13, 8, 8, 1]
    assert [window.latent.shape[1] for window in windows] == [4, 4, 4, 3]
    assert {window.count for window in windows} == {4}
    clip = engine.generate(talk())
    assert torch.equal(clip.frames, torch.cat([window.frames for window in windows], dim=1))
    assert clip.frames.shape == (3, 30, 64, 64)
    assert clip.rgb().shape == (30, 64, 64, 3)
    assert clip.rgb().dtype == np.uint8
    assert clip.frames.abs().max() <= 1
    assert clip.frames.std() > 0.01


def test_a_clip_in_memory_has_the_rate_that_is_asked_for(make_engine: Make) -> None:
    plain, fine = (make_engine(20).generate(talk(fps=fps)) for fps in ("25", "50"))
    assert plain.fps == 25
    assert fine.fps == 50
    assert plain.frames.shape[1] / plain.fps == fine.frames.shape[1] / fine.fps
    assert torch.allclose(fine.frames[:, ::2], plain.frames, atol=1.01 / 127.5), "frames that were there stay"


def test_same_seed_same_frames_other_seed_other_frames(make_engine: Make) -> None:
    first, again, other = (make_engine(13).generate(talk(seed=seed)).frames for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.01)


def test_noise_depends_on_seed_and_window_alone(tiny: Model) -> None:
    seen: list[tuple[int, int, tuple[int, ...]]] = []

    def noise(seed: int, window: int, shape: tuple[int, ...]) -> Tensor:
        seen.append((seed, window, shape))
        return torch.zeros(shape)

    engine = Engine(tiny, media=Memory(pictures(), (voice(20),)), noise=noise)
    for _ in engine.stream(talk(seed=7)):
        pass
    assert seen == [(7, 0, (16, 4, 8, 8)), (7, 1, (16, 4, 8, 8))]


def test_preview_is_the_first_window(make_engine: Make) -> None:
    (first,) = make_engine(30).stream(talk(preview=True))
    whole = make_engine(30).stream(talk())
    assert torch.equal(first.frames, next(whole).frames)


def test_duration_and_clip_mode_cut(make_engine: Make) -> None:
    assert make_engine(30).generate(talk(duration=0.6)).frames.shape[1] == 15
    assert make_engine(30).generate(talk(mode="clip")).frames.shape[1] == 13
    assert make_engine(7).generate(talk(mode="clip")).frames.shape[1] == 7
    assert make_engine(1).generate(talk()).frames.shape[1] == 1


@pytest.mark.parametrize(
    ("settings", "passes"),
    [
        ({"text_scale": 5.0, "audio_scale": 4.0}, 3),
        ({"text_scale": 1.0, "audio_scale": 2.0}, 2),
        ({"text_scale": 3.0, "audio_scale": 1.0}, 2),
        ({"text_scale": 1.0, "audio_scale": 1.0}, 1),
        ({"text_scale": 5.0, "audio_scale": 1.0, "reference": True}, 3),
        ({"text_scale": 1.0, "audio_scale": 1.0, "reference": True}, 2),
        ({"text_scale": 1.0, "audio_scale": 1.0, "apg": True}, 1),
    ],
)
def test_passes_follow_from_the_scales(make_engine: Make, watch: Watch, settings: Any, passes: int) -> None:
    engine = make_engine(14)
    for _ in engine.stream(talk(preview=True, **settings)):
        pass
    assert watch.passes == passes


def test_texts_and_picture_are_prepared_once_per_video_and_sounds_once_per_window(
    make_engine: Make, tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = dict.fromkeys(("prepare_texts", "prepare_picture", "prepare_sounds"), 0)

    def count(name: str) -> None:
        true = getattr(tiny.dit, name)

        def counted(*arguments: Any, **words: Any) -> Any:
            counts[name] += 1
            return true(*arguments, **words)

        monkeypatch.setattr(tiny.dit, name, counted)

    for name in counts:
        count(name)
    windows = list(make_engine(29).stream(talk(steps=2)))
    assert len(windows) == 3
    assert counts == {"prepare_texts": 1, "prepare_picture": 1, "prepare_sounds": 3}


def test_a_saved_pass_changes_nothing(make_engine: Make) -> None:
    """The reference asks for passes whose answers cancel out; without them the result is the same."""
    settings: dict[str, Any] = {"mode": "clip", "color_strength": 0.0, "text_scale": 3.0, "audio_scale": 1.0}
    ours = make_engine(20).generate(talk(**settings)).frames
    reference = make_engine(20).generate(talk(reference=True, **settings)).frames
    assert torch.allclose(ours, reference, atol=1e-4)


def test_prompts_matter(make_engine: Make) -> None:
    plain = make_engine(13).generate(talk()).frames
    cat = make_engine(13).generate(talk(prompt="A cat sings.")).frames
    negative = make_engine(13).generate(talk(negative_prompt="dogs")).frames
    assert not torch.allclose(plain, cat, atol=1e-3)
    assert not torch.allclose(plain, negative, atol=1e-3)


def test_sound_matters(tiny: Model) -> None:
    one, two = (Engine(tiny, media=Memory(pictures(), (voice(13, seed),))).generate(talk()).frames for seed in (0, 1))
    assert not torch.allclose(one, two, atol=1e-3)


def test_two_people_hear_their_own_voices(make_engine: Make, watch: Watch, tiny: Model) -> None:
    made = make_engine(20, 12, source=pictures(1, 64, 96)).generate(talk(2))
    assert made.frames.shape[1] == 20
    (silence, _), (heard, masks) = watch.sounds[:2]
    assert heard.shape[:2] == (2, 13)
    assert masks is not None
    assert masks.shape == (3, 8, 12)
    assert torch.equal(masks.sum(0), torch.ones(8, 12))
    assert silence.shape[0] == 1
    assert silence.abs().max() == 0
    swapped = Engine(tiny, media=Memory(pictures(1, 64, 96), (voice(12, 1), voice(20, 0)))).generate(talk(2))
    assert not torch.allclose(made.frames, swapped.frames, atol=1e-3)


def test_adaptive_guidance_changes_the_picture(make_engine: Make) -> None:
    plain, guided = (make_engine(13).generate(talk(apg=apg, steps=2)).frames for apg in (False, True))
    assert not torch.allclose(plain, guided, atol=1e-3)
    assert torch.isfinite(guided).all()


def test_motion_frames_are_the_end_of_the_window_before(make_engine: Make) -> None:
    windows = list(make_engine(21).stream(talk(color_strength=0.0)))
    assert not torch.equal(windows[1].latent[:, :1], windows[0].latent[:, :1])
    assert torch.equal(windows[0].latent[:, :1], windows[0].condition[4:, :1])


@pytest.mark.parametrize("motion", [1, 2, 3, 8, 12])
def test_any_number_of_motion_frames(make_engine: Make, motion: int) -> None:
    """Those behind the last 4n+1 are shown no more than once either."""
    windows = list(make_engine(30).stream(talk(motion_frames=motion)))
    assert sum(window.frames.shape[1] for window in windows) == 30
    assert all(before.first_frame + before.frames.shape[1] == after.first_frame for before, after in pairwise(windows))


def test_a_step_takes_less_than_a_second(make_engine: Make, watch: Watch) -> None:
    """With three passes; processor time, as the machine may be busy with other things."""
    engine = make_engine(13)
    started = time.process_time()
    engine.generate(talk())
    assert time.process_time() - started < 1
    assert watch.passes == 3


def test_an_engine_keeps_nothing_from_job_to_job(make_engine: Make) -> None:
    engine = make_engine(29)
    first = engine.generate(talk())
    engine.generate(talk(seed=3, prompt="Another job."))
    assert torch.equal(engine.generate(talk()).frames, first.frames)


def test_condition_marks_the_first_frame(make_engine: Make) -> None:
    for window in make_engine(25).stream(talk()):
        mask = window.condition[:4]
        assert torch.all(mask[:, 0] == 1)
        assert torch.all(mask[:, 1:] == 0)


def test_short_last_window_has_the_condition_of_a_long_one(make_engine: Make) -> None:
    first, *_, last = make_engine(22).stream(talk())
    assert last.condition.shape[1] < first.condition.shape[1]
    assert torch.equal(last.condition, first.condition[:, : last.condition.shape[1]])


def test_a_model_may_be_shown_the_key_frame_at_every_latent_frame(
    make_engine: Make, tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    (once,) = make_engine(13).stream(talk())
    monkeypatch.setattr(tiny.dit, "config", replace(tiny.dit.config, key_frame="every"))
    (always,) = make_engine(13).stream(talk())
    told = always.condition[4:]
    assert torch.equal(told, told[:, :1].expand_as(told)), "the same picture again and again"
    assert torch.allclose(told[:, 0], once.condition[4:, 0], atol=1e-4), "the first one is what it always was"
    assert not torch.allclose(told[:, 1], once.condition[4:, 1], atol=1e-2), "and not grey later"
    assert torch.equal(always.condition[:4], once.condition[:4]), "true frames are where they were"


def test_still_picture_is_encoded_once(make_engine: Make, tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    true, still = tiny.vae.encode_stream, tiny.vae.encode_still

    def counted(chunks: Any, step: int = 1, at_once: int | None = None) -> Iterator[Tensor]:
        (video,) = chunks
        encoded.append(video.shape[2])
        return true([video], step, at_once)

    def counted_still(picture: Tensor, frames: int) -> Tensor:
        encoded.append(frames)
        return still(picture, frames)

    monkeypatch.setattr(tiny.vae, "encode_stream", counted)
    monkeypatch.setattr(tiny.vae, "encode_still", counted_still)
    make_engine(29).generate(talk())
    assert encoded == [13, 5, 5]
    encoded.clear()
    make_engine(29, source=pictures(29)).generate(talk(video=True))
    assert encoded == [13, 13, 5, 13, 5]


@pytest.mark.parametrize(("reference", "expected"), [(False, [0, 16]), (True, [0, 8])])
def test_video_frames_by_time_or_by_number(make_engine: Make, reference: bool, expected: list[int]) -> None:
    """Window 1 begins at frame 8 of 25 a second: frame 16 of a source with 50 a second."""
    source = Frames(pictures(40).frames, rate=50)
    asked: list[Tensor] = []
    engine = make_engine(20, source=source)
    for window in engine.stream(talk(video=True, reference=reference, text_scale=1.0)):
        asked.append(window.condition[4:, 0])
    for found, frame in zip(asked, expected, strict=True):
        still = make_engine(20, source=Frames(source.frames[[frame]]))
        (first,) = still.stream(talk(preview=True, text_scale=1.0))
        assert torch.allclose(found, first.condition[4:, 0], atol=1e-5)


def test_colours_follow_the_reference_frame(make_engine: Make) -> None:
    """Default: each window its own key frame's colours; reference mode: those of the first."""
    dark, bright = pictures(1).frames // 4, pictures(1).frames // 2 + 120
    source = Frames(np.concatenate([dark] * 8 + [bright] * 40))
    own, first = (
        list(make_engine(20, source=source).stream(talk(video=True, color_strength=1.0, reference=reference)))
        for reference in (False, True)
    )
    assert own[1].frames.mean() > own[0].frames.mean() + 0.5
    assert abs(float(first[1].frames.mean() - first[0].frames.mean())) < 0.2


def test_letterbox_keeps_the_bars_black_in_the_condition(make_engine: Make) -> None:
    wide = pictures(1, 32, 128)
    crop, bars = (
        next(make_engine(13, source=wide).stream(talk(framing=framing, size="64x64", color_strength=0.0))).condition
        for framing in ("crop", "letterbox")
    )
    assert crop.shape == bars.shape
    assert not torch.allclose(crop, bars, atol=0.01)


def test_size_of_the_video(make_engine: Make) -> None:
    made = make_engine(5, source=pictures(1, 50, 100)).generate(talk(size="96x48"))
    assert made.frames.shape == (3, 5, 48, 96)


def test_progress_counts_what_it_announced(make_engine: Make) -> None:
    class Listener:
        def __init__(self) -> None:
            self.total: dict[Stage, int] = {}
            self.done = dict.fromkeys(Stage, 0)
            self.open: list[Stage] = []
            self.skipped: list[Stage] = []

        def plan(self, units: Any) -> None:
            self.total = dict(units)

        @contextmanager
        def stage(self, stage: Stage) -> Iterator[None]:
            self.open.append(stage)
            yield
            self.open.pop()

        def advance(self, units: int = 1) -> None:
            self.done[self.open[-1]] += units

        def skip(self, stage: Stage) -> None:
            self.skipped.append(stage)

        def note(self, text: str) -> None:
            raise AssertionError(text)

    listener = Listener()
    for _ in make_engine(29).stream(talk(steps=2), listener):
        assert not listener.open
        with listener.stage(Stage.ASSEMBLY):
            listener.advance()
    assert listener.skipped == [Stage.INTERPOLATION]
    assert listener.total == {stage: count for stage, count in listener.done.items() if count}


def test_stage_times_add_up_to_the_wall(make_engine: Make) -> None:
    clock = StageClock()
    started = time.perf_counter()
    for _ in make_engine(21).stream(talk(), clock):
        with clock.stage(Stage.ASSEMBLY):
            time.sleep(0.05)
    wall = time.perf_counter() - started
    spent = sum(clock.seconds.values())
    assert spent == pytest.approx(wall, rel=0.05)
    assert clock.seconds[Stage.ASSEMBLY] >= 0.1
    assert clock.seconds[Stage.DENOISING] > 0


def test_windows_are_forgotten_once_handed_out(make_engine: Make) -> None:
    stream = make_engine(40).stream(talk())
    window = next(stream)
    pixels = weakref.ref(window.frames.untyped_storage())
    frames = weakref.ref(window.frames)
    del window
    next(stream)
    assert frames() is None
    assert pixels() is None


def test_leaving_early_is_fine(make_engine: Make) -> None:
    stream = make_engine(100).stream(talk())
    next(stream)
    stream.close()


@pytest.mark.parametrize("windows", [1, 3])
def test_files_are_closed_when_the_video_is_done_or_left(tiny: Model, windows: int) -> None:
    seen: list[str] = []

    class Opened(Memory):
        def open(self, request: TalkRequest) -> Inputs:
            files = ExitStack()
            files.callback(seen.append, "closed")
            return replace(super().open(request), files=files)

    stream = Engine(tiny, media=Opened(pictures(), (voice(29),))).stream(talk())
    for _ in range(windows):
        next(stream)
        assert seen == []
    if windows == 3:
        assert next(stream, None) is None
    stream.close()
    assert seen == ["closed"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"reference": True}, "longer than the 13 frames"),
        ({"size": "720"}, "this model has the sizes 64"),
        ({"motion_frames": 13}, "must be fewer than the 13 frames"),
        ({"boxes": (Box(0, 0, 1, 1),)}, "a single voice needs no place"),
    ],
)
def test_requests_that_cannot_be_followed(make_engine: Make, settings: Any, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        next(make_engine(13).stream(talk(**settings)))


def test_encoders_that_are_missing(tiny: Model) -> None:
    with pytest.raises(ModelError, match="needs a speech encoder"):
        Engine(replace(tiny, speech=None))
    with pytest.raises(ModelError, match="needs a text encoder"):
        Engine(replace(tiny, text=None))


def test_a_model_without_text_refuses_words(tiny: Model) -> None:
    facts = replace(tiny.facts, has_text=False, name="mute")
    engine = Engine(replace(tiny, facts=facts), media=Memory(pictures(), (voice(13),)))
    with pytest.raises(RequestError, match="the model mute has no text part"):
        next(engine.stream(talk(prompt="Hello")))


def on_a_gpu() -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB …")


def on_the_cpu() -> Tensor:
    return torch.empty(2**60)


@pytest.mark.parametrize("full", [on_a_gpu, on_the_cpu])
def test_too_little_memory_is_one_line(
    full: Callable[[], Tensor], make_engine: Make, tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny.dit, "evaluate", lambda *_arguments, **_words: full())
    with pytest.raises(MachineError, match="too little memory"):
        make_engine(13).generate(talk())


def test_numbers_that_run_over_are_one_line_and_no_black_video(
    make_engine: Make, tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate, calls = tiny.dit.evaluate, list[int]()

    def overflowing(*arguments: Any, **words: Any) -> Any:
        calls.append(0)
        answers = evaluate(*arguments, **words)
        return answers if len(calls) <= 2 else [answer / 0 for answer in answers]

    monkeypatch.setattr(tiny.dit, "evaluate", overflowing)
    windows = make_engine(30).stream(talk(steps=2))
    assert next(windows).frames.isfinite().all()
    with pytest.raises(MachineError, match="window 2 holds no picture: numbers ran over"):
        next(windows)


def test_other_errors_of_torch_stay_what_they_are(
    make_engine: Make, tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny.dit, "evaluate", lambda *_arguments, **_words: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        make_engine(13).generate(talk())


def test_from_pretrained_makes_what_the_parts_make(tiny_folder: Path, make_engine: Make) -> None:
    loaded = Engine.from_pretrained(tiny_folder, device="cpu")
    made = Engine(loaded.model, media=Memory(pictures(), (voice(13, 0),))).generate(talk())
    assert torch.equal(made.frames, make_engine(13).generate(talk()).frames)


def test_low_precision_stays_near(tiny_folder: Path, make_engine: Make) -> None:
    """As on a GPU: the DiT in bfloat16, the sampler's state in float32."""
    loaded = Engine.from_pretrained(tiny_folder, device="cpu", dtype="bfloat16")
    assert loaded.model.dit.dtype == torch.bfloat16
    made = list(Engine(loaded.model, media=Memory(pictures(), (voice(15, 0),))).stream(talk(steps=2)))
    exact = list(make_engine(15).stream(talk(steps=2)))
    for low, high in zip(made, exact, strict=True):
        assert low.latent.dtype == low.frames.dtype == torch.float32
        assert float((low.latent - high.latent).norm() / high.latent.norm()) < 0.1
