"""The report: one HTML page that needs no other file and no network."""

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np

from infinitetalk.core.sizes import FPS
from infinitetalk.evaluate import motion, plots
from infinitetalk.evaluate.measure import Result, flickers
from infinitetalk.evaluate.plots import Line
from infinitetalk.evaluate.series import Floats, filled, smoothed
from infinitetalk.evaluate.table import FIGURES, Figure, shown, value_of

STYLE: Final = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")


def page(result: Result) -> str:
    """The report of one video, as HTML."""
    facts = result.facts
    name = Path(facts["video"]).name
    head = f'<h1>{escape(name)}</h1><p class="facts">{_line(facts)}</p>'
    body = "".join([head, _notes(facts), _film(result), _cards(facts), *_sections(result), _foot(facts)])
    return _whole(f"{name}: evaluation", body)


def _whole(title: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{STYLE}</style></head>\n<body><main>{body}</main></body></html>\n"
    )


def _line(facts: Mapping[str, Any]) -> str:
    windows = len(facts["windows"])
    parts = [f"{facts['seconds']:.2f} s", facts["size"], f"{windows} window{'s' * (windows != 1)}" if windows else ""]
    parts += [f"a face in {100 * facts['faces_found']:.0f} % of the frames", f"reference: {facts['reference']}"]
    return escape(" · ".join(part for part in parts if part))


def _notes(facts: Mapping[str, Any]) -> str:
    return "".join(f'<p class="note">{escape(note)}</p>' for note in facts["notes"])


def _film(result: Result) -> str:
    frames = [
        f'<figure><img src="{uri}" alt="frame {index}"><figcaption>{index / FPS:.1f} s</figcaption></figure>'
        for index, uri in sorted(result.film.pictures.items())
    ]
    return f'<div class="film">{"".join(frames)}</div>'


def _cards(facts: Mapping[str, Any]) -> str:
    return f'<div class="cards">{"".join(_card(figure, facts) for figure in FIGURES)}</div>'


def _card(figure: Figure, facts: Mapping[str, Any]) -> str:
    value = value_of(facts, figure)
    if value is None:
        return ""
    beside = figure.beside(facts) if figure.beside is not None else ""
    return (
        f'<div class="card"><h3>{escape(figure.title)}</h3><b>{shown(value, figure)}</b>'
        f'<span class="unit">{escape(figure.unit)}</span><p>{escape(beside)}</p></div>'
    )


def _section(title: str, text: str, drawn: str) -> str:
    return f"<section><h2>{escape(title)}</h2><p>{escape(text)}</p>{drawn}</section>"


def _sections(result: Result) -> Iterator[str]:
    rows, facts = result.series, result.facts
    seconds = (np.arange(len(rows)) / FPS).astype(np.float32)
    starts = [start / FPS for start in facts["windows"] if start]
    if facts["sync"]:
        yield from _sync(facts["sync"], seconds, rows["openness"], result.heard)
    if facts["identity"]:
        yield _identity(facts["identity"], seconds, rows["identity"])
    yield _section(
        "Colour, window by window",
        "Distance of a window's mean colour from the reference's, in CIE Lab (ΔE of 1976). From about 2 on, it is seen "
        "side by side.",
        plots.bars(facts["color"]["windows"], "windows" if facts["windows"] else "stretches of 3 s", level=2.0),
    )
    yield _section(
        "Steadiness",
        "Change from each frame to the next, and flicker (brightness that jumps away and back), of 255 shades. Dashed: "
        "where windows meet. A seam that is seen stands out.",
        plots.lines([Line("change", seconds, rows["change"]), Line("flicker", seconds, flickers(rows), "b")],
                    "seconds", marks=starts, zero=True),
    )  # fmt: skip
    yield _section(
        "Sharpness of the face",
        "Pixel-by-pixel detail relative to contrast. A video that falls from window to window fades.",
        plots.lines([Line("", seconds, rows["sharpness"])], "seconds", marks=starts, zero=True),
    )
    poses = {name: rows[name] for name in (*motion.AXES, "eyes")}
    yield _section(
        "Motion",
        "How fast the head moves and turns, and what is below it, in distances of the eyes a second.",
        plots.lines([Line("head", seconds, motion.head_speed(poses)),
                     Line("body", seconds, _smooth(rows["body"]), "b")], "seconds", zero=True),
    )  # fmt: skip
    if facts["truth"]:
        yield _section("Against the truth: PSNR", "Decibels of each frame.",
                       plots.lines([Line("", seconds, rows["psnr"])], "seconds"))  # fmt: skip
        yield _section("Against the truth: SSIM", "Structural similarity of each frame; 1 is the same picture.",
                       plots.lines([Line("", seconds, rows["ssim"])], "seconds"))  # fmt: skip


def _smooth(values: Floats) -> Floats:
    return smoothed(filled(values), 5) if np.isfinite(values).any() else values


def _sync(found: Mapping[str, Any], seconds: Floats, openness: Floats, heard: Floats) -> Iterator[str]:
    lags = np.array(found["lags_ms"], np.float32)
    yield _section(
        "Lip sync",
        "Correlation of how far the lips are open with how far the sound asks them to be, for each lag. A peak at 0 "
        "that stands high above the same sound in a random order is good. Right of 0 the lips are late.",
        plots.lines([Line("the sound in a random order", lags, np.array(found["control_curve"], np.float32), "faint"),
                     Line("this sound", lags, np.array(found["curve"], np.float32))],
                    "lag in milliseconds", marks=[found["offset_ms"]]),
    )  # fmt: skip
    yield _section(
        "Lips and sound over time",
        "Both relative to their own mean and spread.",
        plots.lines([Line("asked for by the sound", seconds, _standard(heard), "b"),
                     Line("seen", seconds, _standard(openness))], "seconds"),
    )  # fmt: skip


def _standard(values: Floats) -> Floats:
    there = values[np.isfinite(values)]
    return values if not there.size else np.asarray((values - there.mean()) / max(1e-6, float(there.std())), np.float32)


def _identity(found: Mapping[str, Any], seconds: Floats, values: Floats) -> str:
    ends = seconds[[0, -1]]
    levels = [Line(name, ends, np.full(2, found[key], np.float32), kind)
              for key, name, kind in (("same", "the reference, mirrored and in another light", "level"),
                                      ("other", "the nearest other person", "other"))
              if found[key] is not None]  # fmt: skip
    return _section(
        "Identity",
        "Distance of the face to the reference's (L2 of dlib's 128 numbers). It should stay near the lower line and "
        "far below the upper one, and should not rise.",
        plots.lines([*levels, Line("this video", seconds, values)], "seconds", zero=True),
    )


def _foot(facts: Mapping[str, Any]) -> str:
    return f"<footer>infinitetalk {escape(facts['infinitetalk'])} evaluate</footer>"
