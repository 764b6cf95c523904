"""What predictions rest on: rates of cards and constants, each with its source, from `calibration.json`.

Benchmarks fill that table. A figure is measured, from a data sheet, or an estimate; whatever is predicted from an
estimate is marked as one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Self

from infinitetalk.core.errors import ModelError

TABLE = Path(__file__).with_name("calibration.json")
STATUSES = ("measured", "data sheet", "estimate")


@dataclass(frozen=True, slots=True)
class Figure:
    """A number and what it comes from."""

    value: float
    status: str
    source: str

    @property
    def estimate(self) -> bool:
        """Whether nobody measured it."""
        return self.status != "measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How fast a machine is: products and coding in operations, all others in bytes per second."""

    products: Figure
    coding: Figure
    memory: Figure
    link: Figure
    disk: Figure
    products_eight: Figure | None = None
    """Of 8-bit numbers beside exact attention; None where nobody knows."""
    coding_half: Figure | None = None
    """The VAE's in 16 bits; None where nobody knows."""

    @classmethod
    def of(cls, card: str) -> Self:
        """The rates of a card of the table."""
        return cls(**_table().rates[card])

    def chosen(self, *, eight: bool, half: bool) -> Self:
        """The same machine computing products in 8 bits, and the VAE in 16, as far as their rates are known."""
        products, coding = self.products_eight if eight else None, self.coding_half if half else None
        return replace(self, products=products or self.products, coding=coding or self.coding)

    def with_disk(self, value: float, source: str) -> Self:
        """The same machine with a disk that was measured."""
        return replace(self, disk=Figure(value, "measured", source))


RATES: Mapping[str, float] = {"products": 1e12, "coding": 1e12, "memory": 1e9, "link": 1e9, "disk": 1e9}
"""The rates that every card of the table has, and what one unit is."""
FURTHER: Mapping[str, float] = {"products_eight": 1e12, "coding_half": 1e12}
"""Those that some have."""


@dataclass(frozen=True, slots=True)
class _Table:
    rates: Mapping[str, Mapping[str, Figure]]
    constants: Mapping[str, Figure]


def constant(name: str) -> Figure:
    """A constant of the table."""
    return _table().constants[name]


@lru_cache(maxsize=1)
def _table() -> _Table:
    values = json.loads(TABLE.read_text(encoding="utf-8"))
    rates: dict[str, dict[str, Figure]] = {}
    for row in values["rates"]:
        name = row["rate"]
        if name in rates.setdefault(row["card"], {}) or row["status"] not in STATUSES:
            raise ModelError(f"{TABLE.name}: {row['card']} has {name} twice, or a status other than {STATUSES}")
        rates[row["card"]][name] = Figure(row["value"] * {**RATES, **FURTHER}[name], row["status"], row["source"])
    return _Table(rates, {name: Figure(**row) for name, row in values["constants"].items()})
