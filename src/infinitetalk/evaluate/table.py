"""The figures that stand for a video, and several videos side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a report."""

    title: str
    path: tuple[str, ...]
    """Where it is in the JSON."""
    unit: str = ""
    digits: int = 2
    better: str = ""
    """high, low, or near zero; empty for what is neither good nor bad."""
    beside: Callable[[Mapping[str, Any]], str] | None = None
    """What to compare it with."""


def _number(value: float | None, digits: int = 2) -> str:
    return "?" if value is None else f"{value:.{digits}f}"


def _sync_note(facts: Mapping[str, Any]) -> str:
    return f"the same sound in a random order: {_number(facts['sync']['control'])}"


def _identity_note(facts: Mapping[str, Any]) -> str:
    found = facts["identity"]
    return f"same person {_number(found['same'])}, nearest other {_number(found['other'])}"


def _color_note(facts: Mapping[str, Any]) -> str:
    return f"last window {_number(facts['color']['last'])}"


def _sharp_note(facts: Mapping[str, Any]) -> str:
    last = facts["sharpness"]["last_to_first_window"]
    return "" if last is None else f"last window to the first: {100 * last:.0f} %"


def _silence_note(facts: Mapping[str, Any]) -> str:
    return f"while somebody speaks {_number(facts['silence']['moving_speaking'])}"


FIGURES: Final = (
    Figure("Lip sync", ("sync", "peak"), "r", better="high", beside=_sync_note),
    Figure("Sync offset", ("sync", "offset_ms"), "ms", 0, better="near zero",
           beside=lambda _: "above 0 the lips are late"),
    Figure("LSE-C", ("syncnet", "confidence"), better="high"),
    Figure("LSE-D", ("syncnet", "distance"), better="low"),
    Figure("Identity", ("identity", "mean"), "L2", better="low", beside=_identity_note),
    Figure("Colour drift", ("color", "largest"), "ΔE", better="low", beside=_color_note),
    Figure("Sharpness", ("sharpness", "mean"), better="high", beside=_sharp_note),
    Figure("Flicker", ("steadiness", "flicker"), "of 255", better="low"),
    Figure("Worst seam", ("steadiness", "seams"), "x", better="low",
           beside=lambda _: "change where windows meet, relative to the usual one"),
    Figure("Repeated frames", ("steadiness", "repeated"), "share", better="low"),
    Figure("Head motion", ("motion", "head"), "eyes/s"),
    Figure("Body motion", ("motion", "body"), "eyes/s"),
    Figure("Lips in silence", ("silence", "moving_silent"), "eyes/s", better="low", beside=_silence_note),
    Figure("PSNR", ("truth", "psnr"), "dB", 1, better="high"),
    Figure("SSIM", ("truth", "ssim"), digits=3, better="high"),
)  # fmt: skip


def value_of(facts: Mapping[str, Any], figure: Figure) -> float | None:
    """A figure's value; of several the largest; None if it was not measured."""
    value: Any = facts
    for key in figure.path:
        value = None if value is None else value[key]
    if isinstance(value, list):
        return max(value, default=None)
    return None if value is None else float(value)


def shown(value: float, figure: Figure) -> str:
    """A value as a table has it."""
    return f"{value:+.{figure.digits}f}" if figure.better == "near zero" else f"{value:.{figure.digits}f}"


def best(values: Sequence[float | None], figure: Figure) -> int | None:
    """Which of several videos is best in a figure; None if none is."""
    known = [(value, index) for index, value in enumerate(values) if value is not None]
    if not figure.better or len(known) < 2:
        return None
    keys: Mapping[str, Callable[[float], float]] = {"high": lambda v: -v, "low": lambda v: v, "near zero": abs}
    return min(known, key=lambda pair: keys[figure.better](pair[0]))[1]
