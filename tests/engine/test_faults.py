"""The golden cases see faults: each fault planted in the product, one at a time, turns a case red."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from infinitetalk.core.request import TalkRequest
from infinitetalk.core.windows import Window
from infinitetalk.diffusion import guidance, sampler, schedule
from infinitetalk.diffusion.guidance import Branch
from infinitetalk.engine import denoise, engine, keyframes, voices
from infinitetalk.engine.golden import check
from infinitetalk.media import people, places
from infinitetalk.models import audio_attention, dit, speech
from infinitetalk.models.vae import VideoVAE
from infinitetalk.ops import rope
from infinitetalk.ops.rope import Grid, Rotation
from infinitetalk.weights import keymaps
from infinitetalk.weights.keymaps import KeyMap, Row

GOLDEN = Path(__file__).parents[1] / "golden"
ONE_WINDOW = "pipeline_clip_mode_single_clip"


@pytest.fixture
def red(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[object, str, object, str], None]]:
    """Plants a fault (owner, name, value) and demands that a case sees it by its numbers."""

    def plant(owner: object, name: str, fault: object, case: str) -> None:
        monkeypatch.setattr(owner, name, fault)
        result = check(GOLDEN / f"{case}.safetensors")
        assert not result.passed, result
        assert result.bound < result.error < float("inf"), result

    yield plant
    rope.video_rotation.cache_clear()


Plant = Callable[[object, str, object, str], None]


def test_rotary_axes_swapped(red: Plant) -> None:
    def wrong(grid: Grid, head_dim: int, device: torch.device) -> Rotation:
        cos, sin = rope.video_rotation(grid, head_dim, device)
        time, side, _ = (width // 2 for width in rope.axis_widths(head_dim))
        order = [*range(time), *range(time + side, time + 2 * side), *range(time, time + side)]
        return Rotation(cos[..., order], sin[..., order])

    red(dit, "video_rotation", wrong, "dit_one_person")


def test_rotary_widths_in_another_order(red: Plant) -> None:
    rope.video_rotation.cache_clear()
    true = rope.axis_widths
    red(rope, "axis_widths", lambda head_dim: true(head_dim)[::-1], "dit_head_dim_128_tall")


def test_sound_one_frame_early(red: Plant) -> None:
    true = voices.surround
    late = lambda features, frames, width: true(features, range(frames.start + 1, frames.stop + 1), width)  # noqa: E731
    red(voices, "surround", late, ONE_WINDOW)


def test_guidance_away_from_the_sound(red: Plant) -> None:
    def wrong(answers: dict[Branch, Tensor], text_scale: float, audio_scale: float) -> Tensor:
        return guidance.combine(answers, text_scale, -audio_scale)

    red(denoise, "combine", wrong, ONE_WINDOW)


def test_adaptive_guidance_without_projection(red: Plant) -> None:
    red(guidance._Direction, "update", lambda _self, difference, _full: difference, "guidance")


def test_motion_latents_noised(red: Plant) -> None:
    def noised(latent: Tensor, motion: Tensor) -> Tensor:
        noise = torch.randn(motion.shape, generator=torch.Generator().manual_seed(0))
        return torch.cat([motion + 0.1 * noise, latent[:, motion.shape[1] :]], dim=1)

    red(sampler, "hold", noised, ONE_WINDOW)


def test_colours_of_the_current_frame(red: Plant) -> None:
    red(engine, "color_reference", lambda _request, _first, current: current, "pipeline_video_four_clips")


def test_people_in_the_wrong_order(red: Plant) -> None:
    def swapped(*arguments: Any, **words: Any) -> Tensor | None:
        grid = places.places(*arguments, **words)
        return None if grid is None else grid[[1, 0, 2]]

    red(people, "places", swapped, "pipeline_two_people_boxes")


def test_people_sought_to_the_very_edge(red: Plant) -> None:
    red(places, "_MARGIN", 0.0, "pipeline_two_people_apg")


def test_voices_of_people_swapped(red: Plant) -> None:
    true = audio_attention.people_centres
    red(audio_attention, "people_centres", lambda *numbers: true(*numbers).flip(0), "dit_two_people")


def test_schedule_without_shift(red: Plant) -> None:
    def wrong(steps: int, _shift: float, first: int, level: float) -> list[float]:
        return schedule.partial_timesteps(steps, 1.0, first, level)

    red(denoise, "partial_timesteps", wrong, ONE_WINDOW)


def test_condition_mask_everywhere(red: Plant) -> None:
    def wrong(latent: Tensor, frames: int, motion: float = 1.0) -> Tensor:
        whole = keyframes.condition(latent, frames, motion)
        whole[:4] = 1
        return whole

    red(engine, "condition", wrong, ONE_WINDOW)


def test_two_voices_of_zeros_in_the_silent_pass(red: Plant) -> None:
    red(denoise, "silence", torch.zeros_like, "pipeline_two_people_boxes")


def test_tail_held_instead_of_mirrored(red: Plant) -> None:
    def held(features: Tensor, _window: Window) -> Tensor:
        return features

    red(voices, "mirror", held, "pipeline_image_two_clips")


def test_latents_not_normalised(red: Plant) -> None:
    red(VideoVAE, "normalise", lambda _self, latent: latent.float(), "vae")


def test_sound_not_normalised(red: Plant) -> None:
    red(speech, "normalise", lambda waveform: waveform * 3, "wav2vec2")


def test_key_map_with_queries_for_keys(red: Plant) -> None:
    rows = tuple(
        Row(row.pattern, (row.targets[1], row.targets[0], row.targets[2])) if len(row.targets) == 3 else row
        for row in keymaps.VISION.rows
    )
    red(keymaps, "VISION", KeyMap(rows, keymaps.VISION.extras), "clip_vision")


def test_passes_saved_by_the_wrong_scale(red: Plant) -> None:
    """A request whose text scale is 1 must still be guided by the sound."""

    def full_only(_request: TalkRequest, _settings: object) -> tuple[Branch, ...]:
        return (Branch.FULL,)

    red(denoise, "passes", full_only, "pipeline_distilled_text_scale_1")
