"""What a job's windows have in common, and what one hands on to the next."""

from collections.abc import Sequence

from torch import Tensor

from infinitetalk.core.control import TimedPrompt
from infinitetalk.core.defaults import Settings
from infinitetalk.core.sizes import FPS
from infinitetalk.core.stages import Stage
from infinitetalk.core.windows import Window
from infinitetalk.engine.results import Past
from infinitetalk.engine.voices import Voices


def prompts(settings: Settings, timed: Sequence[TimedPrompt]) -> list[str]:
    """All prompts of a job, each once."""
    return list(dict.fromkeys((settings.prompt, settings.negative_prompt, *(prompt.text for prompt in timed))))


def handed_on(first: Tensor, video: Tensor, end: int, settings: Settings) -> Past:
    """What the next window continues of this one's frames [1, 3, F, H, W], the last of which to be shown is `end`-1."""
    spare = video[:, :, end : end + settings.overlap_frames].clone() if settings.overlap_frames else None
    return Past(first, video[:, :, max(0, end - settings.motion_frames) : end].clone(), spare)


def longest(windows: tuple[Window, ...]) -> int:
    """Frames of the longest window."""
    return max(window.length for window in windows)


def units(windows: tuple[Window, ...], settings: Settings, voices: Voices) -> dict[Stage, int]:
    """What each stage but the last will count, which is the caller's, who writes the windows."""
    count = len(windows)
    return {
        Stage.AUDIO_ENCODING: 1 + voices.pieces(windows),
        Stage.FEATURE_EXTRACTION: 1 + count,
        Stage.KEY_FRAMES: count,
        Stage.DENOISING: count * (settings.steps - settings.first_step),
        Stage.LIP_SYNC: count,
        **({} if settings.rate == FPS else {Stage.INTERPOLATION: count}),
    }
