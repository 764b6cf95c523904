"""What the page says, as HTML: how far a job is, how it ended, past jobs, the machine."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from infinitetalk.app.tickets import Ticket
from infinitetalk.core.knobs import CONTROLS, Kind
from infinitetalk.engine.board import State, clock_text
from infinitetalk.jobs.record import JobProgress, JobState

CONSENT = (
    "Use faces and voices only of people who agreed to it. Every video is signed as AI-generated "
    "(C2PA), with its model and settings, unless the setting Provenance is switched off."
)

_MARKS = {State.DONE: "✓", State.AT_WORK: "●", State.PAUSED: "◐", State.SKIPPED: "–", State.WAITING: "○"}


def progress(ticket: Ticket | None, share: float) -> str:
    """How far a job is: a bar, the stage at work, the time left and all seven stages."""
    if ticket is None or ticket.over:
        return ""
    told = ticket.record.progress
    if ticket.record.state is JobState.QUEUED:
        jobs = "1 job is" if ticket.ahead == 1 else f"{ticket.ahead} jobs are"
        line = f"Waiting: {jobs} before yours." if ticket.ahead else "Waiting for the job at work to end."
        return f'<div class="progress">{_bar(0.0)}<p class="headline">{line}</p></div>'
    headline = f'<p class="headline">{_headline(ticket, told)}</p>'
    return f'<div class="progress">{_bar(share)}{headline}{_stages(told)}</div>'


def _bar(share: float) -> str:
    percent = round(100 * min(0.99, share))
    return (
        f'<div class="bar" role="progressbar" aria-label="progress" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}"><i style="width:{percent}%"></i></div>'
    )


def _headline(ticket: Ticket, told: JobProgress) -> str:
    parts = [f"<b>{escape(told.stage or 'checking and loading')}</b>"]
    if told.planned:
        parts.append(f"window {min(told.windows + 1, told.planned)} of {told.planned}")
    if told.seconds_left is not None:
        parts.append(f"{clock_text(told.seconds_left)} left")
    if ticket.record.cancelling:
        parts.append("stopping after the step at work")
    return " · ".join(parts)


def _stages(told: JobProgress) -> str:
    items = []
    for line in told.stages:
        state = State(line.state)
        units = f"{min(line.done, line.total)}/{line.total}" if line.total else ""
        spent = clock_text(line.seconds) if line.seconds else ""
        items.append(
            f'<li class="{state.name.lower()}"><span aria-hidden="true">{_MARKS[state]}</span> '
            f"{escape(line.name)} <small>{units} {spent}</small></li>"
        )
    return f'<ol class="stages">{"".join(items)}</ol>'


def outcome(ticket: Ticket | None) -> str:
    """How a job ended, with what to do next."""
    if ticket is None or not ticket.over:
        return ""
    state = ticket.record.state
    kind = {JobState.DONE: "good", JobState.CANCELLED: "half"}.get(state, "bad")
    lines = [escape(ticket.line), *(escape(ticket.told(note)) for note in ticket.notes)]
    if ticket.preview and state is JobState.DONE:
        more = " “Make the video” goes on from here." if ticket.record.begun else ""
        lines.append(f"This is how the whole video begins.{more}")
    place = f"studio/{ticket.key}"
    return _box(kind, lines, _links(place) if ticket.has_video else "")


def _links(place: str) -> str:
    return (
        f'<a href="{place}/video?download" download="talking.mp4">Download the video</a>'
        f'<a href="{place}/settings" download="talking.mp4.json">Its settings</a>'
    )


def refusal(line: str) -> str:
    """What was wrong and what would work."""
    return _box("bad", [escape(line)])


def _box(kind: str, lines: Sequence[str], acts: str = "") -> str:
    role = "alert" if kind == "bad" else "status"
    told = "".join(f"<p>{line}</p>" for line in lines if line)
    return f'<div class="told {kind}" role="{role}">{told}{f"""<div class="acts">{acts}</div>""" if acts else ""}</div>'


_GALLERY = Path(__file__).with_name("gallery.js")


def gallery() -> gr.HTML:
    """Past jobs; its click event carries the job's key and what to do with it."""
    return gr.HTML(value="", js_on_load=_GALLERY.read_text(encoding="utf-8"), elem_id="gallery")


def cards(tickets: Sequence[Ticket]) -> str:
    """All jobs of a session as cards."""
    if not tickets:
        return '<p class="none">Videos that you make are kept here with their settings.</p>'
    return f'<div class="cards">{"".join(map(_card, tickets))}</div>'


def _card(ticket: Ticket) -> str:
    place, there = f"studio/{ticket.key}", ticket.has_video
    when = datetime.fromtimestamp(ticket.record.created).astimezone().strftime("%d %b, %H:%M")
    shown = (
        f'<video src="{place}/video#t=0.4" preload="metadata" muted playsinline aria-label="video of {when}"></video>'
        if there
        else f'<div class="blank {ticket.record.state.value}">{ticket.record.state.value}</div>'
    )
    title = "first window" if ticket.preview else "video"
    return (
        f'<article class="card" data-key="{ticket.key}">{shown}<div class="text"><h3>{title} <small>{when}</small></h3>'
        f"<p>{escape(ticket.line)}</p>"
        f"<details><summary>Settings</summary><dl>{_settings(ticket)}</dl></details>"
        f'<div class="acts">{_acts(ticket, place, there=there)}</div></div></article>'
    )


def _acts(ticket: Ticket, place: str, *, there: bool) -> str:
    acts = [_act("watch", "Watch")] if there or not ticket.over else []
    acts.append(_act("again", "Use these settings again"))
    if there:
        acts.append(_links(place))
    if ticket.record.state in (JobState.CANCELLED, JobState.FAILED):
        acts.append(_act("on", "Go on"))
    if ticket.record.begun:
        acts.append(_act("on", "Make the rest"))
    if ticket.over:
        acts.append(_act("remove", "Remove"))
    return "".join(acts)


def _act(name: str, label: str) -> str:
    return f'<button type="button" data-act="{name}">{label}</button>'


def _settings(ticket: Ticket) -> str:
    """The settings that differ from the usual, and always the model."""
    rows, names = [], ticket.names
    for control in CONTROLS:
        value = ticket.record.request.get(control.name)
        usual = list(control.default) if isinstance(control.default, tuple) else control.default
        if control.name == "model" or value != usual:
            shown = _plain(value, names if control.kind in (Kind.FILE, Kind.FILES) else None)
            rows.append(f"<dt>{escape(control.label)}</dt><dd>{escape(shown)}</dd>")
    return "".join(rows)


def _plain(value: Any, names: Mapping[str, str] | None) -> str:
    if isinstance(value, list):
        return "; ".join(_plain(part, names) for part in value)
    return f"{value}" if names is None else names.get(str(value), Path(str(value)).name)
