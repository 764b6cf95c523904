"""The README's picture of what the product does: a portrait and a voice become frames.

infinitetalk demo --output demo.mp4 && python -m tools.readme_picture demo.mp4 docs/images/what.jpg
"""

import argparse
import sys
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from infinitetalk.cli.demo import INPUTS, PORTRAIT, VOICE
from infinitetalk.media.sound import read_sound

FRAMES, SIDE, GAP, WAVE, TOP = 6, 160, 8, 90, 34
PORTRAIT_SIDE = SIDE + GAP + WAVE
WHITE, INK, BLUE = (255, 255, 255), (60, 60, 60), (70, 110, 190)


def frames(video: Path) -> list[Image.Image]:
    """Frames in the middle of equal stretches of a video."""
    with av.open(str(video)) as container:
        every = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    places = ((np.arange(FRAMES) + 0.5) / FRAMES * len(every)).astype(int)
    return [Image.fromarray(every[place]).resize((SIDE, SIDE), Image.Resampling.LANCZOS) for place in places]


def draw(video: Path) -> Image.Image:
    """Portrait at the left; frames over the sound under which they are said at the right."""
    row = FRAMES * (SIDE + GAP) - GAP
    left = PORTRAIT_SIDE + 5 * GAP
    picture = Image.new("RGB", (left + row, TOP + PORTRAIT_SIDE), WHITE)
    portrait = Image.open(INPUTS / PORTRAIT).convert("RGB")
    picture.paste(portrait.resize((PORTRAIT_SIDE, PORTRAIT_SIDE), Image.Resampling.LANCZOS), (0, TOP))
    for index, frame in enumerate(frames(video)):
        picture.paste(frame, (left + index * (SIDE + GAP), TOP))
    brush, font = ImageDraw.Draw(picture), ImageFont.load_default(20)
    brush.text((0, 4), "a picture ...", INK, font)
    brush.text((left, 4), "... says what a voice says", INK, font)
    loud = np.abs(read_sound(INPUTS / VOICE).samples).max(0)
    middle = TOP + SIDE + GAP + WAVE // 2
    for x, part in enumerate(np.array_split(loud, row)):
        reach = round(float(part.max() / loud.max()) * WAVE / 2)
        brush.line((left + x, middle - reach, left + x, middle + reach), BLUE)
    return picture


def main() -> int:
    """Draws it; exit code 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    draw(arguments.video).save(arguments.picture, quality=88)
    return 0


if __name__ == "__main__":
    sys.exit(main())
