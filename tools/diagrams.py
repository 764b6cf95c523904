"""Draws the documents' diagrams: `docs/diagrams/NAME.yaml` becomes `docs/diagrams/NAME.svg`.

python -m tools.diagrams

A file with `boxes` in its rows is drawn as layers, one with `stage` as a flow. Words in braces are filled in from the
networks' configurations, so that shapes cannot be wrong by hand.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import yaml

from infinitetalk.core.configs import DiTConfig, SpeechConfig, TextConfig, VAEConfig, VisionConfig
from infinitetalk.core.defaults import ModelDefaults
from infinitetalk.core.footprint import tokens
from infinitetalk.core.sizes import FPS, MASK_CHANNELS, SAMPLE_RATE, Latents, Pixels

FOLDER = Path(__file__).parents[1] / "docs" / "diagrams"
SIZE = Pixels(640, 640)

WIDTH, EDGE, GAP, LINE = 960, 24, 16, 17
"""Pixels of the picture, around it, between boxes, and from line to line."""

STYLE = """
  .page { fill: #ffffff } .box { fill: #eef1fb; stroke: #3f51b5 } .part { fill: #f7f7f7; stroke: #9aa0a6 }
  .band { fill: none; stroke: #c5cae9 } text { fill: #1c1e26; font: 13px system-ui, "DejaVu Sans", sans-serif }
  .name { font-weight: 600; font-size: 14px } .soft { fill: #555b6e } .code { font: 12px ui-monospace, monospace }
  .title { font-size: 15px; font-weight: 600 } .line { stroke: #3f51b5; stroke-width: 1.5; fill: none }
  .tip { fill: #3f51b5 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #1e2129 } .box { fill: #2a3050; stroke: #8c9eff } .part { fill: #2b2e37; stroke: #6f7685 }
    .band { stroke: #454d78 } text { fill: #e8eaf0 } .soft { fill: #aab0c0 } .line { stroke: #8c9eff }
    .tip { fill: #8c9eff }
  }
"""


def shapes() -> dict[str, object]:
    """The words in braces: numbers of the 14B model for one window."""
    dit, vae, own = DiTConfig(), VAEConfig(), ModelDefaults()
    latent = Latents.of(own.window_frames, SIZE)
    assert dit.in_dim == MASK_CHANNELS + 2 * vae.z_dim
    return {
        "width": SIZE.width, "height": SIZE.height, "frames": own.window_frames, "fps": FPS, "rate": SAMPLE_RATE,
        "motion": own.motion_frames, "motion_t": Latents.of(own.motion_frames, SIZE).frames,
        "new": own.window_frames - own.motion_frames,
        "t": latent.frames, "h": latent.height, "w": latent.width, "z": vae.z_dim, "mask": MASK_CHANNELS,
        "layers": SpeechConfig().num_hidden_layers, "speech": SpeechConfig().hidden_size, "around": dit.audio_window,
        "sound_tokens": dit.context_tokens, "sound_dim": dit.output_dim, "text_len": dit.text_len,
        "text_dim": TextConfig().dim, "clip_side": VisionConfig().image_size, "clip_tokens": dit.clip_tokens,
        "clip_dim": VisionConfig().dim, "blocks": dit.num_layers, "dim": dit.dim,
        "tokens": tokens(dit, SIZE, own.window_frames),
    }  # fmt: skip


@dataclass
class Canvas:
    """SVG elements, drawn from the top."""

    parts: list[str] = field(default_factory=list)
    height: int = EDGE

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> None:
        """One line of text, its baseline at y."""
        self.parts.append(f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>')

    def rectangle(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        """A box with round corners."""
        place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
        self.parts.append(f'<rect {place} rx="6" class="{kind}"/>')

    def arrow(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """A straight line with a head at its end, across or down."""
        down = x0 == x1
        stop = (x1, y1 - 7) if down else (x1 - 7, y1)
        self.parts.append(f'<path d="M{x0:g} {y0:g}L{stop[0]:g} {stop[1]:g}" class="line"/>')
        wings = (
            f"{x1 - 4:g} {y1 - 8:g} {x1 + 4:g} {y1 - 8:g}" if down else f"{x1 - 8:g} {y1 - 4:g} {x1 - 8:g} {y1 + 4:g}"
        )
        self.parts.append(f'<path d="M{x1:g} {y1:g}L{wings}z" class="tip"/>')

    def svg(self, title: str) -> str:
        """The whole picture."""
        size = f'viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}" height="{self.height}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">'
        page = f'<rect width="{WIDTH}" height="{self.height}" rx="8" class="page"/>'
        return "\n".join([head, f"<style>{STYLE}</style>", page, *self.parts, "</svg>", ""])


def wrapped(words: str, width: float, pixels: float = 7.0) -> list[str]:
    """Lines no wider than `width`, for letters that are `pixels` wide on average."""
    return textwrap.wrap(words, max(8, int(width / pixels)), break_long_words=False, break_on_hyphens=False)


def _layers(canvas: Canvas, rows: Sequence[Mapping[str, Any]]) -> None:
    for number, row in enumerate(rows):
        boxes = row["boxes"]
        wide = (WIDTH - 2 * EDGE - GAP * (len(boxes) + 1)) / len(boxes)
        lines = [wrapped(box["text"], wide - 24) for box in boxes]
        tall = 42 + LINE * max(map(len, lines))
        top = canvas.height
        canvas.rectangle(EDGE, top, WIDTH - 2 * EDGE, tall + 44, "band")
        canvas.text(EDGE + GAP, top + 22, row["title"], "soft")
        for place, (box, below) in enumerate(zip(boxes, lines, strict=True)):
            x = EDGE + GAP + place * (wide + GAP)
            canvas.rectangle(x, top + 32, wide, tall, "box")
            canvas.text(x + 12, top + 55, box["name"], "name")
            for line, words in enumerate(below):
                canvas.text(x + 12, top + 76 + LINE * line, words)
        canvas.height = top + tall + 44
        if number + 1 < len(rows):
            canvas.arrow(WIDTH / 2, canvas.height, WIDTH / 2, canvas.height + 24)
            canvas.height += 24


SIDE, MIDDLE, BRACKET = 262, 256, 36
"""Pixels of the columns of a flow, and of the bracket on its left."""


def _column(canvas: Canvas, x: float, top: float, tall: float, parts: Sequence[Mapping[str, str]]) -> list[float]:
    """The boxes of tensors of a stage, one under the other; gives the heights of their middles."""
    each = (tall - GAP / 2 * (len(parts) - 1)) / len(parts)
    middles = []
    for number, part in enumerate(parts):
        y = top + number * (each + GAP / 2)
        canvas.rectangle(x, y, SIDE, each, "part")
        canvas.text(x + 12, y + each / 2 - 4, part["name"])
        canvas.text(x + 12, y + each / 2 + 13, part["shape"], "code")
        middles.append(y + each / 2)
    return middles


def _flow(canvas: Canvas, rows: Sequence[Mapping[str, Any]], loop: Mapping[str, Any]) -> None:
    left = EDGE + BRACKET
    middle = left + SIDE + 40
    right = middle + MIDDLE + 40
    tops = []
    for number, row in enumerate(rows, 1):
        lines = wrapped(row["does"], MIDDLE - 24)
        tall = max(46 + LINE * len(lines), 50 * max(len(row["in"]), len(row["out"])))
        top = canvas.height
        tops.append((top, top + tall))
        canvas.rectangle(middle, top, MIDDLE, tall, "box")
        canvas.text(middle + 12, top + 24, f"{number}  {row['stage']}", "name")
        for line, words in enumerate(lines):
            canvas.text(middle + 12, top + 46 + LINE * line, words)
        for y in _column(canvas, left, top, tall, row["in"]):
            canvas.arrow(left + SIDE, y, middle, y)
        for y in _column(canvas, right, top, tall, row["out"]):
            canvas.arrow(middle + MIDDLE, y, right, y)
        canvas.height = top + tall
        if number < len(rows):
            canvas.arrow(middle + MIDDLE / 2, canvas.height, middle + MIDDLE / 2, canvas.height + 26)
            canvas.height += 26
    above, below = tops[loop["first"] - 1][0], tops[loop["last"] - 1][1]
    x = EDGE + 20
    canvas.parts.append(f'<path d="M{x + 10} {above:g}H{x}V{below:g}H{x + 10}" class="line"/>')
    turn = f"rotate(-90 {x - 8} {(above + below) / 2:g})"
    words = f'<text x="{x - 8}" y="{(above + below) / 2:g}" class="soft" text-anchor="middle" transform="{turn}">'
    canvas.parts.append(f"{words}{escape(loop['title'])}</text>")


def _filled(value: Any, words: Mapping[str, object]) -> Any:
    if isinstance(value, str):
        return value.format(**words)
    if isinstance(value, Mapping):
        return {key: _filled(part, words) for key, part in value.items()}
    return [_filled(part, words) for part in value] if isinstance(value, list) else value


def draw(source: Path) -> str:
    """The SVG of a source."""
    content = _filled(yaml.safe_load(source.read_text(encoding="utf-8")), shapes())
    canvas = Canvas()
    canvas.text(EDGE, canvas.height + 10, content["title"], "title")
    canvas.height += 30
    if "loop" in content:
        _flow(canvas, content["rows"], content["loop"])
    else:
        _layers(canvas, content["rows"])
    canvas.height += EDGE
    return canvas.svg(content["title"])


def sources() -> list[Path]:
    """All diagrams' sources."""
    return sorted(FOLDER.glob("*.yaml"))


def main() -> None:
    """Draws all."""
    for source in sources():
        source.with_suffix(".svg").write_text(draw(source), encoding="utf-8")


if __name__ == "__main__":
    main()
