"""Graphics cards that people have: their memory, what they can compute, and how fast they are expected to be.

Memory is what torch reports on such a card ("total capacity"), which is less than its name says. Capabilities are
NVIDIA's. Main memory is typical of machines with that card, not a property of the card. Speeds are in
`core/calibration.json`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from infinitetalk.core.units import GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One card, and the machine that it usually sits in."""

    key: str
    """How `INFINITETALK_PRETEND` and the calibration table call it."""
    name: str
    """As the driver calls it."""
    capability: tuple[int, int]
    vram_gib: float
    ram_gib: float
    machine: str
    """Where `ram_gib` comes from."""

    @property
    def vram(self) -> int:
        """Bytes of the card's memory."""
        return round(self.vram_gib * GIB)

    @property
    def ram(self) -> int:
        """Bytes of main memory of its machine."""
        return round(self.ram_gib * GIB)


_CARDS = (
    Card(
        key="t4",
        name="Tesla T4",
        capability=(7, 5),
        vram_gib=14.74,
        ram_gib=12.7,
        machine="Google Colab's free machine",
    ),
    Card(
        key="l4", name="NVIDIA L4", capability=(8, 9), vram_gib=22.03, ram_gib=53.0, machine="Google Colab's L4 machine"
    ),
    Card(
        key="rtx4060",
        name="NVIDIA GeForce RTX 4060",
        capability=(8, 9),
        vram_gib=7.63,
        ram_gib=15.5,
        machine="a PC with 16 GB",
    ),
    Card(
        key="rtx3060",
        name="NVIDIA GeForce RTX 3060",
        capability=(8, 6),
        vram_gib=11.63,
        ram_gib=31.2,
        machine="a PC with 32 GB",
    ),
    Card(
        key="rtx3090",
        name="NVIDIA GeForce RTX 3090",
        capability=(8, 6),
        vram_gib=23.56,
        ram_gib=62.7,
        machine="a PC with 64 GB",
    ),
    Card(
        key="rtx4090",
        name="NVIDIA GeForce RTX 4090",
        capability=(8, 9),
        vram_gib=23.52,
        ram_gib=62.7,
        machine="a PC with 64 GB",
    ),
    Card(
        key="a100-40gb",
        name="NVIDIA A100-SXM4-40GB",
        capability=(8, 0),
        vram_gib=39.49,
        ram_gib=83.5,
        machine="Google Colab's A100 machine",
    ),
    Card(
        key="a100",
        name="NVIDIA A100-SXM4-80GB",
        capability=(8, 0),
        vram_gib=79.15,
        ram_gib=125.0,
        machine="a server's share",
    ),
    Card(
        key="h100",
        name="NVIDIA H100 80GB HBM3",
        capability=(9, 0),
        vram_gib=79.18,
        ram_gib=125.0,
        machine="a server's share",
    ),
    Card(key="h200", name="NVIDIA H200", capability=(9, 0), vram_gib=139.8, ram_gib=125.0, machine="a server's share"),
)

CARDS: Mapping[str, Card] = {card.key: card for card in _CARDS}
"""Every card by its key."""

_OTHER_NAMES: Mapping[str, str] = {
    "4060": "rtx4060",
    "3060": "rtx3060",
    "rtx306012gb": "rtx3060",
    "3090": "rtx3090",
    "4090": "rtx4090",
    "a10040gb": "a100-40gb",
    "a10080gb": "a100",
}


def find_card(text: str) -> Card | None:
    """The card of a key or of a usual spelling of one ('T4', 'RTX 4090')."""
    key = "".join(letter for letter in text.lower().removeprefix("nvidia") if letter.isalnum())
    return CARDS.get(_OTHER_NAMES.get(key, key))


def recognise(name: str, memory: int) -> Card | None:
    """The card of the table that a driver's name and its bytes of memory tell of, if there is one."""
    alike = [card for card in _CARDS if card.name == name or _model(card.name) in name.split()]
    return min(alike, key=lambda card: abs(card.vram - memory), default=None)


def _model(name: str) -> str:
    """The word of a card's name that tells it from others; it must be whole, or H100 would be found in GH100."""
    return next(word for word in name.split() if any(letter.isdigit() for letter in word))
