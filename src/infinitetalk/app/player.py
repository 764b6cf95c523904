"""The player: a video that is watched while it is still being made, and is replaced by the finished one in place."""

from pathlib import Path
from typing import Any

import gradio as gr

from infinitetalk.app.tickets import Ticket

_TEMPLATE = """
<div class="player">
  <video playsinline controls preload="auto" hidden aria-label="the video"></video>
  <div class="empty"><svg viewBox="0 0 120 60" aria-hidden="true"><path d="M6 30h10M22 20v20M32 10v40M42 22v16M52
    4v52M62 18v24M72 26v8M82 14v32M92 22v16M104 30h10"/></svg><p>Your video plays here while it is being made.</p></div>
  <span class="badge" hidden></span>
  <p class="note" role="status" hidden></p>
</div>
"""


def player() -> gr.HTML:
    """The component; its value is what `watching` gives."""
    script = Path(__file__).with_name("player.js").read_text(encoding="utf-8")
    return gr.HTML(value={}, html_template=_TEMPLATE, js_on_load=script, elem_id="result")


def watching(ticket: Ticket | None) -> dict[str, Any]:
    """What there is to watch of a job: addresses of the growing and of the finished video."""
    if ticket is None:
        return {}
    place = f"studio/{ticket.key}"
    if ticket.over:
        # A video that went on after a stop is another one at the same place.
        final = {"final": f"{place}/video?windows={ticket.record.progress.windows}"} if ticket.has_video else {}
        return {"key": ticket.key, **final}
    windows = ticket.record.progress.windows
    if not windows or not ticket.files.playlist.is_file():
        return {"key": ticket.key}
    return {"key": ticket.key, "live": f"{place}/live/index.m3u8?windows={windows}"}
