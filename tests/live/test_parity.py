"""`Engine.live` computes what SoulX-FlashTalk's own streaming loop computed from the same sound, noise and weights."""

import pytest
import torch

from infinitetalk.engine.golden_case import Case, relative
from tests.live.replay import CASE, engine_of, request_of, sound_of

LATENT_BOUND = 1e-3
VIDEO_BOUND = 2e-3


@pytest.fixture(scope="module")
def case() -> Case:
    return Case.read(CASE)


def test_three_chunks_have_the_latents_and_frames_of_its_own_loop(case: Case) -> None:
    chunks = list(engine_of(case).live(request_of(case), [sound_of(case)]))
    assert [(chunk.index, chunk.first_frame) for chunk in chunks] == [(0, 0), (1, 28), (2, 56)]
    for chunk in chunks:
        assert chunk.frames.shape == (3, 28, 48, 64)
        assert relative(chunk.latent, case.tensors[f"latent{chunk.index}"]) <= LATENT_BOUND
        shown = case.tensors[f"last_frame{chunk.index}"].float()
        assert float((chunk.frames[:, -1] - shown).abs().mean()) <= VIDEO_BOUND


@pytest.mark.parametrize(
    "change", [{"shift": 7.0}, {"steps": 3}, {"motion_frames": 9}, {"color_strength": 0.0}, {"audio_scale": 2.0}]
)
def test_any_other_recipe_is_told_apart(case: Case, change: dict[str, float]) -> None:
    chunks = list(engine_of(case).live(request_of(case, **change), [sound_of(case)]))
    assert relative(chunks[1].latent, case.tensors["latent1"]) > 10 * LATENT_BOUND


def test_it_hears_the_samples(case: Case) -> None:
    sound = sound_of(case).copy()
    sound[20_000:] *= torch.linspace(1, 0, len(sound) - 20_000).numpy()
    chunks = list(engine_of(case).live(request_of(case), [sound]))
    assert relative(chunks[0].latent, case.tensors["latent0"]) <= LATENT_BOUND
    assert relative(chunks[1].latent, case.tensors["latent1"]) > LATENT_BOUND
