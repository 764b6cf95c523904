"""A benchmark's processes one after the other, and what their figures tell together."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from infinitetalk.bench.task import FORWARD, RATES, STEP, VAE, WINDOW, Task, network_of
from infinitetalk.core import footprint
from infinitetalk.core.errors import UsageError
from infinitetalk.core.memory import AUTO, EXACT

Figures = Mapping[str, Any]

PLAIN, REFERENCE, LIGHTX2V = "plain", "reference", "lightx2v"
CHECKOUTS: Mapping[str, str] = {
    REFERENCE: "wan/modules/multitalk_model.py",
    LIGHTX2V: "lightx2v/models/networks/wan/infinitetalk_model.py",
}
"""What can be compared from a folder, and the file that tells such a folder."""
RIVALS = (PLAIN, *CHECKOUTS)

_ATTENTION = {
    "flash_attn3": ("flash_attn_interface", "fa3_fwd_interface"),
    "flash_attn2": ("flash_attn",),
    "torch_sdpa": (),
    "sage_attn2": ("sageattention",),
}
"""LightX2V's ways to attend, and the packages of which one must be here."""
_EIGHT_BITS = {
    "fp8-sgl": ("sgl_kernel",), "fp8-vllm": ("vllm",), "fp8-torchao": (), "fp8-triton": ("triton",),
    "int8-sgl": ("sgl_kernel",), "int8-vllm": ("vllm",), "int8-torchao": ("torchao",), "int8-triton": ("triton",),
}  # fmt: skip
"""Its ways to multiply in 8 bits. `fp8-torchao` calls torch alone."""


def check(rivals: Mapping[str, str | None]) -> None:
    """Refuses what cannot be compared.

    Raises:
        UsageError: an unknown name, or a folder that is no checkout.
    """
    for name, given in rivals.items():
        if name not in RIVALS:
            raise UsageError(f"--compare {name}: can be {', '.join(RIVALS)}")
        if name in CHECKOUTS and (given is None or not Path(given, CHECKOUTS[name]).is_file()):
            raise UsageError(f"--compare {name}={given or ''}: this folder has no {CHECKOUTS[name]}")
        if name not in CHECKOUTS and given is not None:
            raise UsageError(f"--compare {name}={given}: {name} is our own; leave the folder away")


def tasks(
    base: Task, rivals: Mapping[str, str | None], *, gpu: bool = False, fp8: bool = False, attends: Sequence[str] = ()
) -> list[Task]:
    """All processes in order: the machine, ours, the others, and ours again if there were others.

    Args:
        gpu: whether the device is an NVIDIA GPU.
        fp8: whether it multiplies 8-bit floats.
        attends: names of our back ends of attention that serve there.
    """
    found = [replace(base, subject=RATES, parts=()), replace(base, subject="ours")]
    if gpu and fp8 and base.memory.get("linears", EXACT) == EXACT:
        eight = replace(base, subject="ours", mode="fp8", memory={**base.memory, "linears": "fp8"})
        found.append(replace(eight, parts=(FORWARD, STEP, WINDOW)))
        if "fp8" in attends and base.memory.get("attention", AUTO) == AUTO:
            both = {**eight.memory, "attention": "fp8"}
            found.append(replace(found[-1], mode="fp8, attention too", memory=both))
    if gpu and base.memory.get("linears", EXACT) == EXACT:
        whole = {**base.memory, "linears": "int8"}
        found.append(replace(base, subject="ours", mode="int8", memory=whole, parts=(FORWARD, STEP, WINDOW)))
    for name, folder in rivals.items():
        found += [replace(base, checkout=folder, **way) for way in _ways(name, gpu=gpu, fp8=fp8)]
    if rivals:
        found.append(replace(base, subject="ours", mode="again", parts=(FORWARD,)))
    return found


def _ways(name: str, *, gpu: bool, fp8: bool) -> Iterator[dict[str, Any]]:
    """The ways in which a rival is measured; all parts once, of the others a forward pass."""
    if name == PLAIN:
        yield {"subject": PLAIN, "parts": (FORWARD, WINDOW)}
    elif name == REFERENCE:
        yield {"subject": REFERENCE, "mode": "sdpa", "parts": (FORWARD, VAE)}
        if gpu:
            yield {"subject": REFERENCE, "mode": "flash", "parts": (FORWARD,)}
    else:
        attends = [way for way, packages in _ATTENTION.items() if _usable(packages) and (gpu or way == "torch_sdpa")]
        every: tuple[str, ...] = (FORWARD, STEP, VAE, WINDOW)
        for way in attends:
            yield {"subject": LIGHTX2V, "mode": f"Default, {way}", "parts": every}
            every = (FORWARD,)
        every = (FORWARD, STEP, WINDOW)
        for linears, packages in _EIGHT_BITS.items():
            if gpu and _usable(packages) and (fp8 or linears.startswith("int8")):
                yield {"subject": LIGHTX2V, "mode": f"{linears}, {attends[0]}", "parts": every}
                every = (FORWARD,)


def _usable(packages: Sequence[str]) -> bool:
    return not packages or any(find_spec(package) is not None for package in packages)


@dataclass(frozen=True, slots=True)
class Result:
    """A process's figures."""

    task: Task
    figures: Figures

    @property
    def error(self) -> str | None:
        """Why there are none."""
        told: str | None = self.figures.get("error")
        return told


def run(work: Sequence[Task], until: float | None = None) -> Iterator[Result]:
    """Measures one task after the other, each in a process of its own.

    Args:
        until: a moment by `time.monotonic` after which none is begun.
    """
    with tempfile.TemporaryDirectory(prefix="infinitetalk-bench-") as folder:
        truth: Path | None = None
        for number, task in enumerate(work):
            if until is not None and time.monotonic() > until:
                yield Result(task, {"error": "not begun: the time was up"})
                continue
            answer = Path(folder, f"{number}.pt") if FORWARD in task.parts and task.model is None else None
            started = time.monotonic()
            figures = dict(_measured(replace(task, answer=None if answer is None else str(answer))))
            figures["process_seconds"] = time.monotonic() - started
            if answer is not None and answer.exists():
                if truth is None:
                    truth = answer
                else:
                    figures["error_to_ours"] = _apart(answer, truth)
                    answer.unlink()
            yield Result(task, figures)


def _apart(answer: Path, truth: Path) -> float:
    """Relative error of a velocity: norm of the difference over the norm."""
    import torch

    found, meant = torch.load(answer, weights_only=True), torch.load(truth, weights_only=True)
    return float((found - meant).norm() / meant.norm())


def _measured(task: Task) -> Figures:
    words = [sys.executable, "-m", "infinitetalk.bench.child"]
    done = subprocess.run(words, input=task.to_json(), capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    try:
        found: Figures = json.loads(lines[-1])
    except (IndexError, ValueError):
        told = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        return {"error": told[-1], "log": done.stderr[-4000:]}
    return found


def report(results: Sequence[Result]) -> dict[str, Any]:
    """What was measured, with ratios to ours and shares of the roofline, for programs."""
    rates = _of(results, RATES)
    ours = _of(results, "ours")
    rows = []
    for result in results:
        if result.task.subject != RATES:
            told = {f"times_ours_{part}": ratio for part, ratio in ratios(result.figures, ours).items()}
            rows.append({"subject": result.task.subject, "mode": result.task.mode, **told, **result.figures})
            if share := roofline(result, rates):
                rows[-1]["share_of_roofline"] = share
    task = results[0].task
    shape = {"size": str(task.pixels), "frames": task.frames, "motion_frames": task.motion, "steps": task.steps}
    return {"shape": shape, "model": task.model or "random", "rates": rates, "rows": rows}


def _of(results: Sequence[Result], subject: str) -> Figures:
    return next((result.figures for result in results if result.task.subject == subject), {})


PARTS = ("forward", "step", "encode", "decode", "window")


def ratios(figures: Figures, ours: Figures) -> dict[str, float]:
    """How many times as long as ours another takes, part by part; on a CPU by the processor's time."""
    found = {}
    for part in PARTS if figures is not ours else ():
        for name in (f"{part}_processor_seconds", f"{part}_seconds"):
            if name in figures and name in ours:
                found[part] = figures[name] / ours[name]
                break
    return found


def roofline(result: Result, rates: Figures) -> float | None:
    """The share of a forward pass that its operations would take at the rates that were measured.

    Products of matrices by the rate of a large product, attention by the rate of attention. None where a rate is
    lacking, or where the network's shapes are a model's own.
    """
    task, seconds = result.task, result.figures.get("forward_seconds")
    if seconds is None or "product_rate" not in rates:
        return None
    config = network_of(task) if task.model is None else _config_of(task.model)
    linear = footprint.linear_operations(config, task.pixels, task.frames) / rates["product_rate"]
    attends = footprint.attention_operations(config, task.pixels, task.frames, 1) / rates["attention_rate"]
    return float((linear + attends) / seconds)


def _config_of(model: str) -> Any:
    from infinitetalk.weights.folder import ModelFolder

    return ModelFolder.open(model).dit.config
