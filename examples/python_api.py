"""Frames as arrays, window after window: python examples/python_api.py [MODEL [SECONDS]]."""

import sys
from pathlib import Path

from infinitetalk import Engine, TalkRequest

demo = Path("src/infinitetalk/assets/demo")
model, seconds = [*sys.argv[1:], *("nano", "2")[len(sys.argv) - 1 :]]
engine = Engine.from_pretrained(model)
request = TalkRequest(
    model=model, image=demo / "portrait_1.png", audio=(demo / "voice_1.flac",), duration=float(seconds), seed=1
)
for window in engine.stream(request):
    frames = window.rgb()  # uint8 [frames, height, width, 3], 25 a second
    sys.stdout.write(f"frames {window.first_frame} to {window.first_frame + len(frames) - 1}: {frames.shape}\n")
