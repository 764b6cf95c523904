"""Who a person is: shape of the head, colours, hair, clothes. Drawn at random, the same for the same generator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.heads.details import Details
from training.heads.hair import HairStyle
from training.heads.mesh import head_data

Floats = NDArray[np.float32]
Colour = tuple[float, float, float]  # sRGB, 0..1

_GROUPS: Final = ("african", "asian", "caucasian")
# Tone 0 (dark) to 1 (light).
_SKIN: Final = np.array(
    [[0.22, 0.13, 0.09], [0.40, 0.25, 0.17], [0.60, 0.41, 0.30], [0.78, 0.58, 0.46], [0.88, 0.70, 0.60]]
)
_GROUP_TONE: Final = np.array([0.22, 0.70, 0.80])
_DARK_HAIR: Final = np.array([[0.045, 0.038, 0.034], [0.10, 0.065, 0.045], [0.17, 0.10, 0.06]])
_LIGHT_HAIR: Final = np.array([[0.30, 0.18, 0.09], [0.55, 0.40, 0.22], [0.42, 0.17, 0.07]])
_GREY_HAIR: Final = np.array([0.55, 0.54, 0.52])
_IRIS: Final = np.array(
    [[0.16, 0.085, 0.045], [0.30, 0.18, 0.08], [0.24, 0.36, 0.47], [0.26, 0.36, 0.24], [0.36, 0.40, 0.42]]
)
_CLOTH: Final = np.array(
    [
        [0.13, 0.16, 0.24],
        [0.30, 0.32, 0.35],
        [0.78, 0.77, 0.74],
        [0.36, 0.14, 0.15],
        [0.16, 0.28, 0.24],
        [0.20, 0.30, 0.45],
        [0.55, 0.45, 0.34],
        [0.10, 0.10, 0.11],
        [0.48, 0.34, 0.42],
    ]
)

# Local targets: how far a face may differ from the mean of its group, by the start of the target's name.
_LOCAL_REACH: Final = (
    ("head/head-trans", 0.0),
    ("head/head-angle", 0.0),
    ("head/head-age", 0.0),
    ("neck/neck-trans", 0.0),
    ("nose/nose-compression", 0.0),
    ("ears/l-ear-shape-pointed", 0.0),
    ("head/head-scale", 0.12),
    ("head/head-back", 0.1),
    ("head/", 0.22),
    ("nose/", 0.24),
    ("mouth/mouth-angles", 0.1),
    ("mouth/mouth-trans", 0.12),
    ("mouth/mouth-laugh", 0.1),
    ("mouth/mouth-dimples", 0.1),
    ("mouth/", 0.2),
    ("eyes/l-eye-corner", 0.07),
    ("eyes/l-eye-height", 0.1),
    ("eyes/", 0.1),
    ("eyebrows/", 0.15),
    ("asym/", 0.08),
    ("neck/", 0.1),
    ("", 0.2),
)
_LOCAL_SHARE: Final = 0.3


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One person. ``targets`` weighs MakeHuman's ``HeadData.target_names``; colours are sRGB in 0..1."""

    targets: Floats
    male: float
    age: float
    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    cloth: Colour
    style: HairStyle
    brow: float  # how dense, 0..1
    brow_width: float  # relative thickness
    beard: float  # density of a full beard, 0..1
    moustache: float
    lashes: float  # length and darkness, 0..1
    makeup: float
    blemish: float  # uneven colour of the skin
    neckline: float  # height of the collar, decimetres
    phase: float  # shifts every procedural texture
    details: Details = Details()


def random_identity(rng: np.random.Generator) -> Identity:
    """A plausible adult: mixed ancestry, sex, age and build, then small differences of single features."""
    group = rng.dirichlet([0.7, 0.7, 0.7])
    male = float(rng.beta(0.35, 0.35))
    age = float(0.85 * rng.beta(1.0, 2.0))
    tone = float(np.clip(group @ _GROUP_TONE + rng.normal() * 0.07, 0.12, 0.95))
    skin = _ramp(_SKIN, tone) * (1 + rng.normal(size=3) * 0.012)
    hair = _hair_colour(rng, tone, age)
    man = male > 0.5
    rosy = skin * np.array([0.96, 0.66, 0.64]) + np.array([0.03, 0.0, 0.01])
    makeup = 0.0 if man else float(rng.beta(1.2, 1.6))
    lips = skin + (rosy - skin) * (0.45 if man else 0.7 + 0.3 * makeup)
    iris = _IRIS[rng.choice(5, p=[0.3, 0.3, 0.18, 0.1, 0.12]) if tone > 0.62 else rng.choice(2, p=[0.7, 0.3])]
    bearded = man and rng.random() < 0.45
    full = float(rng.choice([0.3, 0.55, 0.85], p=[0.5, 0.25, 0.25])) if bearded else 0.0
    return Identity(
        targets=_macro_targets(rng, group, male, age) + _local_targets(rng),
        male=male,
        age=age,
        skin=_colour(skin),
        hair=_colour(hair),
        iris=_colour(iris * rng.uniform(0.85, 1.15)),
        lips=_colour(lips * rng.uniform(0.9, 1.02)),
        cloth=_colour(_CLOTH[rng.integers(len(_CLOTH))] * rng.uniform(0.8, 1.15) + rng.normal(size=3) * 0.015),
        style=_hair_style(rng, man=man, age=age, tone=tone),
        brow=float(rng.uniform(0.6, 0.85)),
        brow_width=float(rng.uniform(0.9, 1.3) if man else rng.uniform(0.65, 1.0)),
        beard=full,
        moustache=max(full, float(rng.uniform(0.5, 0.9))) if bearded and rng.random() < 0.7 else full * 0.6,
        lashes=float(rng.uniform(0.1, 0.3) if man else rng.uniform(0.5, 1.0)),
        makeup=makeup,
        blemish=float(rng.uniform(0.3, 1.0)),
        neckline=float(rng.uniform(-0.15, 0.32)),
        phase=float(rng.uniform(0.0, 50.0)),
    )


def _colour(values: NDArray[np.floating]) -> Colour:
    red, green, blue = np.clip(values, 0.015, 0.97)
    return float(red), float(green), float(blue)


def _ramp(table: NDArray[np.floating], place: float) -> NDArray[np.floating]:
    stops = np.linspace(0.0, 1.0, len(table))
    return np.array([np.interp(place, stops, column) for column in table.T])


def _hair_colour(rng: np.random.Generator, tone: float, age: float) -> NDArray[np.floating]:
    light = tone > 0.66 and rng.random() < 0.45
    table = _LIGHT_HAIR if light else _DARK_HAIR[: 3 if tone > 0.5 else 1]
    base = table[rng.integers(len(table))] * rng.uniform(0.85, 1.2)
    grey = np.clip((age - 0.35) * 2.2 * rng.uniform(0.3, 1.2), 0.0, 0.9)
    mixed: NDArray[np.floating] = base + (_GREY_HAIR - base) * grey
    return mixed


@cache
def _target_index() -> dict[str, int]:
    return {name: index for index, name in enumerate(head_data().target_names)}


def _macro_targets(rng: np.random.Generator, group: NDArray[np.floating], male: float, age: float) -> Floats:
    """Weights of MakeHuman's macro targets: products of ancestry, sex, age, muscle and weight shares."""
    weights = np.zeros(len(_target_index()), np.float32)
    muscle, fat = rng.uniform(-0.5, 0.5), rng.uniform(-0.6, 0.6)
    sexes, ages = {"male": male, "female": 1 - male}, {"young": 1 - age, "old": age}
    builds = {
        f"{tone_name}muscle-{fat_name}weight": tone_share * fat_share
        for tone_name, tone_share in _three_way(muscle).items()
        for fat_name, fat_share in _three_way(fat).items()
    }
    for sex, sex_share in sexes.items():
        for years, age_share in ages.items():
            both = sex_share * age_share
            for name, share in zip(_GROUPS, group, strict=True):
                weights[_target_index()[f"macro/{name}-{sex}-{years}"]] = share * both
            for build, share in builds.items():
                weights[_target_index()[f"macro/universal-{sex}-{years}-{build}"]] = share * both
    return weights


def _three_way(value: float) -> dict[str, float]:
    return {"max": max(value, 0.0), "average": 1 - abs(value), "min": max(-value, 0.0)}


@cache
def _local_choices() -> tuple[tuple[tuple[int, ...], float], ...]:
    """Local targets (left and right together, opposites apart) and how far each may go."""
    index = _target_index()
    choices = []
    for name, column in index.items():
        if name.startswith("macro/") or "/r-" in name:
            continue
        reach = next(reach for start, reach in _LOCAL_REACH if name.startswith(start))
        mirrored = index.get(name.replace("/l-", "/r-"), column)
        if reach > 0:
            choices.append((tuple({column, mirrored}), reach))
    return tuple(choices)


def _local_targets(rng: np.random.Generator) -> Floats:
    choices = _local_choices()
    used = rng.random(len(choices)) < _LOCAL_SHARE
    amount = np.minimum(np.abs(rng.normal(size=len(choices))), 2.0)
    weights = np.zeros(len(_target_index()), np.float32)
    for (columns, reach), chosen, size in zip(choices, used, amount, strict=True):
        if chosen:
            weights[list(columns)] = reach * size
    return weights


# Styles by kind; random_identity varies their numbers.
HAIR_STYLES: Final[dict[str, HairStyle]] = {
    "bald": HairStyle(top=-0.06, sides=-0.06, curl=0.0, density=0.0),
    "buzz": HairStyle(top=0.012, sides=0.008, curl=0.05, burn=0.05, density=0.85),
    "crop": HairStyle(top=0.12, sides=0.045, lift=0.05, curl=0.2),
    "parted": HairStyle(top=0.14, sides=0.06, fringe=0.08, sweep=0.8, parted=0.8, parting=0.45),
    "swept": HairStyle(top=0.17, sides=0.05, lift=0.12, curl=0.1),
    "fringe": HairStyle(top=0.13, sides=0.09, fringe=0.17, sweep=0.3, burn=0.12),
    "afro": HairStyle(top=0.27, sides=0.24, front=0.72, burn=0.05, curl=0.08, recede=0.0),
    "tied": HairStyle(top=0.055, sides=0.03, front=0.70, burn=0.02, curl=0.05, parted=0.5),
    "bob": HairStyle(
        top=0.13, sides=0.14, side_end=2.1, back_end=2.15, curtain=1.0, drape=1, cover=1, flare=-0.05, parted=0.7
    ),
    "long": HairStyle(
        top=0.12, sides=0.12, side_end=2.9, back_end=2.9, curtain=1.0, drape=1, cover=1, flare=0.02, parted=0.8
    ),
    "behind": HairStyle(
        top=0.11, sides=0.07, side_end=2.9, back_end=2.9, curtain=1.72, drape=1, flare=0.05, parted=0.7
    ),
    "bangs": HairStyle(top=0.14, sides=0.13, fringe=0.24, side_end=2.5, back_end=2.5, curtain=0.95, drape=1, cover=1),
}
_MEN: Final = {"bald": 0.07, "buzz": 0.17, "crop": 0.26, "parted": 0.2, "swept": 0.17, "fringe": 0.13}
_WOMEN: Final = {"fringe": 0.04, "tied": 0.16, "bob": 0.2, "long": 0.26, "behind": 0.16, "bangs": 0.14, "parted": 0.04}


def _hair_style(rng: np.random.Generator, *, man: bool, age: float, tone: float) -> HairStyle:
    shares = dict(_MEN if man else _WOMEN)
    if tone < 0.45:
        shares["afro"] = 0.2
    names = list(shares)
    total = np.array(list(shares.values()))
    name = names[int(rng.choice(len(names), p=total / total.sum()))]
    style = HAIR_STYLES[name]
    jitter = rng.uniform(0.85, 1.2, 4)
    side = rng.choice([-1.0, 1.0])
    older_man = age if man and name != "bald" else 0.0
    return replace(
        style,
        top=style.top * jitter[0],
        sides=style.sides * jitter[1],
        front=style.front + float(rng.normal() * 0.02) - 0.1 * older_man,
        recede=style.recede + 0.12 * older_man * rng.random(),
        sweep=style.sweep * side,
        parting=side * (style.parting or float(rng.uniform(0.0, 0.5))),
        side_end=style.side_end + (style.drape * float(rng.uniform(-0.25, 0.1))),
        curtain=style.curtain * float(rng.uniform(0.93, 1.06)),
        wave=style.drape * float(rng.choice([0.0, 0.03, 0.06])),
        phase=float(rng.uniform(0.0, 6.28)),
    )
