"""The table of what nano must show, as text and as JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np


@dataclass(frozen=True, slots=True)
class Check:
    """One figure and what it must be. Without a bound, a figure to know, or one that eyes must judge."""

    what: str
    value: float
    relation: Literal[">=", "<=", ""] = ""
    bound: float = math.nan
    note: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether the figure keeps its bound; None without one."""
        if not self.relation:
            return None
        return self.value >= self.bound if self.relation == ">=" else self.value <= self.bound

    def line(self) -> str:
        """One row of the table."""
        verdict = {True: "pass", False: "FAIL", None: ""}[self.passed]
        wanted = f"{self.relation} {self.bound:.3g}" if self.relation else ""
        return f"{self.what:62s} {self.value:9.3f}  {wanted:10s} {verdict:5s} {self.note}".rstrip()

    def plain(self) -> dict[str, object]:
        """For JSON."""
        value = None if math.isnan(self.value) else round(self.value, 4)
        row: dict[str, object] = {"what": self.what, "value": value, "note": self.note}
        if self.relation:
            row |= {"bound": f"{self.relation} {self.bound:.4g}", "passed": self.passed}
        return row


def median(rows: Sequence[Mapping[str, float]], name: str) -> float:
    """Of a figure over clips."""
    return float(np.median([row[name] for row in rows]))


def write(path: Path, checks: Sequence[Check], details: Mapping[str, object]) -> None:
    """Writes `metrics.json`: the table, and the figures of every clip."""
    content = {"table": [check.plain() for check in checks], "details": _rounded(details)}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _rounded(value: object) -> object:
    """The same with four decimals, which is more than any figure is sure of."""
    if isinstance(value, Mapping):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return round(value, 4) if isinstance(value, float) else value
