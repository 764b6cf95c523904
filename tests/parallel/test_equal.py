"""Two and four processes make what one makes; then something happens to one of them."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from infinitetalk.core.errors import MachineError, RequestError
from infinitetalk.core.memory import MemorySettings
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import SAMPLES_PER_FRAME
from infinitetalk.engine.codec import decode, encode
from infinitetalk.engine.crew import Crew
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.model import Model
from infinitetalk.engine.tasks import Decode, Encode, EncodeAside, Station
from tests.engine.inputs import Memory, pictures, talk, voice
from tests.parallel.tasks import AttendInEight, FewFrames, Probe, Trouble

LIMIT = 1e-4
UNEVEN: dict[str, Any] = {"size": "80x48", "window_frames": 9}  # 45 tokens
SETTINGS = {2: MemorySettings(gpus=2, memory="pinned"), 4: MemorySettings(gpus=4)}
Error = Callable[[Tensor, Tensor], float]


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.full)])
def shared(request: pytest.FixtureRequest, tiny_folder: Path) -> Iterator[Model]:
    model = Engine.from_pretrained(tiny_folder, device="cpu", memory=SETTINGS[request.param]).model
    yield model
    model.close()


@pytest.fixture(scope="module")
def alone(tiny_folder: Path) -> Model:
    return Engine.from_pretrained(tiny_folder, device="cpu").model


def videos(model: Model, request: TalkRequest, *voices: int) -> list[Any]:
    media = Memory(pictures(), tuple(voice(frames, seed) for seed, frames in enumerate(voices)))
    return list(Engine(model, media=media).stream(request))


@torch.inference_mode()
def together(model: Model, task: Any) -> Any:
    with model.crew.together(task):
        return task.run(Station(model, model.crew.all))


@pytest.mark.parametrize(
    ("people", "settings"),
    [
        (1, {}),
        (1, UNEVEN),
        (2, UNEVEN | {"text_scale": 1.0}),  # two branches, which get processes of their own
        (1, {"text_scale": 1.0, "audio_scale": 1.0, "steps": 6, "step_cache": "taylorseer"}),
    ],
)  # fmt: skip
def test_windows_are_those_of_one_process(
    shared: Model, alone: Model, relative_error: Error, people: int, settings: dict[str, Any]
) -> None:
    request = talk(people, **settings)
    frames = (12,) * people
    for many, one in zip(videos(shared, request, *frames), videos(alone, request, *frames), strict=True):
        assert relative_error(many.latent, one.latent) <= LIMIT
        assert relative_error(many.frames, one.frames) <= LIMIT


def test_everybody_has_a_part(shared: Model) -> None:
    crew = shared.crew
    assert isinstance(crew, Crew)
    found = [together(shared, Probe(45)), *(crew.ask(rank, Probe(45))() for rank in range(1, crew.size))]
    assert [rank for rank, _, _ in found] == list(range(crew.size))
    assert {size for _, size, _ in found} == {crew.size}
    assert [token for _, _, span in found for token in range(45)[span]] == list(range(45))


def test_a_few_frames_at_once(shared: Model, alone: Model, relative_error: Error) -> None:
    request = talk(2, **UNEVEN, text_scale=1.0, audio_scale=1.0)
    (one,) = videos(alone, request, 9, 9)
    together(shared, FewFrames(1))
    (many,) = videos(shared, request, 9, 9)
    together(shared, FewFrames(None))
    assert relative_error(many.latent, one.latent) <= LIMIT


@pytest.mark.parametrize(("count", "heads"), [(45, 4), (1300, 12), (1301, 16)])
@torch.inference_mode()
def test_tokens_travel_in_the_8_bits_in_which_they_attend(
    shared: Model, alone: Model, relative_error: Error, count: int, heads: int
) -> None:
    task = AttendInEight(count, heads)
    assert relative_error(together(shared, task), together(alone, task)) <= LIMIT


@pytest.mark.parametrize(("rows", "limit"), [(9, LIMIT), (2, LIMIT)])
@torch.inference_mode()
def test_the_vae_by_rows(shared: Model, alone: Model, relative_error: Error, rows: int, limit: float) -> None:
    video = torch.rand(1, 3, 13, 8 * rows, 48, generator=torch.Generator().manual_seed(rows)) * 2 - 1
    latent = encode(alone.vae, video)
    assert relative_error(together(shared, Encode(video)), latent) <= limit
    assert relative_error(together(shared, Decode(latent)), decode(alone.vae, latent)) <= limit


@torch.inference_mode()
def test_one_process_may_encode_for_all(shared: Model, alone: Model) -> None:
    """Exactly what it encodes when there is no other one; frames that make no whole latent are left out."""
    video = torch.rand(1, 3, 7, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    truth = encode(alone.vae, video)
    for rank in range(shared.crew.size):
        found = together(shared, EncodeAside(video, rank))
        torch.testing.assert_close(found, truth, rtol=0, atol=1e-6)
    sharing = together(shared, Encode(video))
    torch.testing.assert_close(sharing, truth, rtol=1e-4, atol=1e-4)
    assert torch.equal(together(alone, EncodeAside(video, 0)), truth)


def test_engines_may_follow_each_other(shared: Model, alone: Model, relative_error: Error) -> None:
    """Groups for the branches of guidance are formed once."""
    request = talk(1, **UNEVEN, text_scale=1.0, audio_scale=4.0)
    (one,) = videos(alone, request, 9)
    for _ in range(2):
        (many,) = videos(shared, request, 9)
        assert relative_error(many.latent, one.latent) <= LIMIT


def test_live(shared: Model, alone: Model, relative_error: Error) -> None:
    request = TalkRequest(model="tiny", image=Path("source"), audio=(Path("-"),), size="64x96")
    sound = np.random.default_rng(3).standard_normal(40 * SAMPLES_PER_FRAME).astype(np.float32) * 0.1
    made = [list(Engine(model, media=Memory(pictures(), (sound,))).live(request, [sound])) for model in (shared, alone)]
    for many, one in zip(*made, strict=True):
        assert relative_error(many.frames, one.frames) <= LIMIT


def test_a_split_that_does_not_go(shared: Model) -> None:
    engine = Engine(replace(shared, guidance_split="on"), media=Memory(pictures(), (voice(9),)))
    with pytest.raises(RequestError, match=r"guidance_split = on: one branch of guidance cannot be split"):
        next(engine.stream(talk(text_scale=1.0, audio_scale=1.0)))
    assert shared.crew.alive


TROUBLES = {
    2: ("killed", r"rank 1 of 2: the process was ended by signal 9"),
    4: ("memory", r"rank 3 of 4: cpu has too little memory for its share of the work"),
}


def test_trouble_of_one_ends_all_at_once(shared: Model) -> None:
    """The last test with this crew."""
    size, crew = shared.crew.size, shared.crew
    assert isinstance(crew, Crew)
    kind, line = TROUBLES[size]
    started = time.monotonic()
    with pytest.raises(MachineError, match=line) as caught:
        together(shared, Trouble(size - 1, kind))
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 10
    assert not crew.alive
    assert all(helper.process.poll() is not None for helper in crew._helpers)
    with pytest.raises(MachineError, match="load the model again"):
        videos(shared, talk(), 9)
