"""What to expect before a job: the model, where it lives in memory, and how long a video takes."""

import math
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import NamedTuple

from infinitetalk.core.errors import InfiniteTalkError
from infinitetalk.core.memory import MemorySettings
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import FPS
from infinitetalk.core.units import GIB
from infinitetalk.engine.board import clock_text
from infinitetalk.engine.job import Workshop, prepare
from infinitetalk.media.files import output_sound
from infinitetalk.runtime.platform import processors
from infinitetalk.weights.folder import ModelFolder

LONG = 300.0
"""Seconds of work from which on the first window is worth a look before the rest."""


class Expected(NamedTuple):
    """What a job will take."""

    video: float
    """Seconds of video, at most."""
    work: float
    """Seconds of work, loading left out."""
    windows: int

    @property
    def line(self) -> str:
        """The same in words."""
        windows = "1 window" if self.windows == 1 else f"{self.windows} windows"
        told = f"This video: {self.video:.1f} s in {windows}, about {clock_text(self.work)} of work."
        return f"{told} Try the first window first." if self.work > LONG and self.windows > 1 else told


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the page's jobs run."""

    workshop: Workshop
    device: str
    memory: MemorySettings | None
    scratch: Path
    """A folder that can be written."""

    def banner(self, model: str) -> str:
        """The line at the top of the page; for what cannot run here, why and what would."""
        try:
            chips = self._chips(model)
        except InfiniteTalkError as error:
            return f'<p class="chips bad">{escape(str(error))}</p>'
        return f'<p class="chips">{"".join(f"<span><b>{name}</b> {escape(text)}</span>" for name, text in chips)}</p>'

    def _chips(self, model: str) -> list[tuple[str, str]]:
        from infinitetalk.engine import outlook
        from infinitetalk.engine.planning import machine_of
        from infinitetalk.runtime.device import Device

        folder, device = ModelFolder.open(model), Device.choose(self.device)
        looks = list(outlook.folders([(folder.facts.name, folder)], machine_of(device, self.memory, loaded=True)))
        look = next((one for one in looks if one.size == folder.defaults.size), looks[0])
        name = f"CPU, {processors()} cores" if device.torch_device.type == "cpu" else device.name
        if not look.fits:
            return [("Model", look.model), ("Device", name), ("Memory", f"too small: {look.advice}")]
        used, budget = (look.vram, look.vram_budget) if look.vram_budget else (look.ram, look.ram_budget)
        memory = f"{outlook.tier_words(look)}, {used / GIB:.1f} of {budget / GIB:.0f} GB"
        each = look.seconds_per_second
        time = f"about {clock_text(each)} of work for a second of video{' (estimate)' if look.estimate else ''}"
        return [("Model", look.model), ("Device", name), ("Memory", memory), ("Time", time)]

    def expect(self, request: TalkRequest) -> Expected:
        """What a job will take, from its files and the machine's plan.

        Raises:
            InfiniteTalkError: whatever the job would be refused for.
        """
        job = prepare(request, self.scratch / "estimate.mp4")
        plan = self.workshop.check_fit(job)
        seconds, settings = output_sound(job.request).seconds, job.settings
        new = plan.prediction.new_seconds
        windows = max(1, math.ceil((seconds - settings.motion_frames / FPS) / new))
        if request.preview:
            windows, seconds = 1, min(seconds, settings.window_frames / FPS)
        return Expected(seconds, windows * plan.prediction.window_seconds, windows)
