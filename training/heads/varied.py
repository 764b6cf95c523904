"""Draws for the second edition: people, rooms, light and cameras so varied that nobody could know them by heart.

Everything here changes what `identity`, `scene` and `motion` drew before, by the same generator.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.heads.details import Details
from training.heads.identity import Colour, Identity
from training.heads.scene import Background, Grade, Light, Place, random_background, random_light

_NECK: Final = 1.1 / 3.5
"""How far the eyes lie before the axis of the neck, in picture widths at zoom 1."""
_TURNS: Final = ((0.0, 0.10), (0.3, 0.6), (0.75, 1.0))
"""Yaw that a head keeps, in radians: towards the camera, three quarters, profile."""


def _colour(values: NDArray[np.floating]) -> Colour:
    red, green, blue = np.clip(values, 0.015, 0.97)
    return float(red), float(green), float(blue)


def _any_colour(rng: np.random.Generator, vivid: float) -> NDArray[np.floating]:
    """A grey of any brightness, coloured by up to about ``vivid``."""
    return np.clip(rng.uniform(0.04, 0.95) + rng.normal(size=3) * vivid * rng.random(), 0.02, 0.96)


def varied_identity(who: Identity, rng: np.random.Generator) -> Identity:
    """The same head with details, and now and then with colours that its kind seldom has."""
    hair = np.array(who.hair) * rng.uniform(0.7, 1.35)
    if rng.random() < 0.06:
        hair = np.clip(hair + rng.normal(size=3) * 0.08, 0.02, 0.9)
    skin = np.array(who.skin) ** rng.uniform(0.85, 1.2) * (1 + rng.normal(size=3) * 0.02)
    skin = 0.9 * skin + 0.1 * skin.mean()
    cloth = _any_colour(rng, 0.2) if rng.random() < 0.6 else np.array(who.cloth)
    style = replace(
        who.style,
        ragged=float(rng.uniform(0.0, 0.04) if who.style.density else 0.0),
        fringe=max(0.0, who.style.fringe + float(rng.normal() * 0.04)),
        front=who.style.front + float(rng.normal() * 0.02),
        wave=who.style.wave + who.style.drape * float(rng.uniform(0.0, 0.05)),
    )
    return replace(
        who, hair=_colour(hair), skin=_colour(skin), cloth=_colour(cloth), style=style,
        lips=_colour(np.array(who.lips) * (1 + rng.normal(size=3) * 0.05)),
        iris=_colour(np.array(who.iris) * rng.uniform(0.7, 1.4)),
        neckline=float(rng.uniform(-0.25, 0.40)), details=_details(who, hair, rng),
    )  # fmt: skip


def _details(who: Identity, hair: NDArray[np.floating], rng: np.random.Generator) -> Details:
    light = float(np.mean(who.skin)) > 0.5
    smooth = 0.35 if who.male < 0.5 else 1.0
    return Details(
        pores=float(rng.uniform(0.15, 1.0) * (0.5 + 0.5 * smooth)),
        grain=float(rng.uniform(0.3, 1.2)),
        blotches=float(rng.uniform(0.1, 1.0)),
        freckles=float(rng.uniform(0.3, 1.0)) if light and rng.random() < 0.25 else 0.0,
        moles=float(rng.random() < 0.4),
        wrinkles=float(np.clip(1.5 * who.age * rng.uniform(0.3, 1.2), 0.0, 1.0)),
        stubble=float(rng.uniform(0.5, 1.0)),
        shine=float(rng.uniform(-1.0, 0.8)),
        strands=float(rng.uniform(0.6, 1.3)),
        streaks=float(rng.uniform(0.2, 0.8)) if rng.random() < 0.3 else 0.0,
        pattern=float(rng.uniform(0.3, 1.0)) if rng.random() < 0.45 else 0.0,
        pattern_kind=float(rng.integers(4)),
        pattern_size=float(rng.uniform(0.12, 0.8)),
        teeth=float(rng.uniform(-1.0, 0.8)),
        gaps=float(rng.uniform(0.2, 1.0)),
        second_cloth=_colour(_any_colour(rng, 0.25)),
        second_hair=_colour(hair * rng.uniform(1.2, 2.2) + rng.uniform(0.0, 0.08)),
    )


def varied_light(rng: np.random.Generator) -> Light:
    """From the front or a side, soft or hard, warm or cold."""
    light = random_light(rng)
    aside = float(rng.normal() * 0.9)
    return replace(
        light,
        direction=(aside, float(rng.uniform(0.05, 1.1)), 1.0),
        strength=float(rng.uniform(0.75, 1.3)),
        warmth=float(np.clip(rng.normal() * 0.6, -1.3, 1.3)),
        ambient=float(rng.uniform(0.2, 0.6)),
        rim=float(rng.uniform(0.0, 0.6)),
        cast=float(rng.uniform(0.25, 0.85)),
    )


def varied_grade(rng: np.random.Generator) -> Grade:
    """Exposure, contrast, colour and sharpness of a camera."""
    return Grade(
        gain=_near_one(rng, 0.035),
        gamma=float(np.exp(rng.normal() * 0.14)),
        saturation=float(np.clip(1 + rng.normal() * 0.15, 0.0 if rng.random() < 0.1 else 0.6, 1.25)),
        vignette=float(max(0.0, rng.normal() * 0.25)),
        softness=float(rng.uniform(0.0, 0.6) if rng.random() < 0.4 else 0.0),
    )


def _near_one(rng: np.random.Generator, spread: float) -> Colour:
    red, green, blue = np.clip(1 + rng.normal(size=3) * spread + rng.normal() * 0.06, 0.7, 1.3)
    return float(red), float(green), float(blue)


def varied_background(rng: np.random.Generator) -> Background:
    """Walls, rooms, shelves, windows, lamps and leaves, sharp or out of focus."""
    plain = random_background(rng)
    if rng.random() < 0.2:
        return plain
    base, vivid = rng.uniform(0.08, 0.9), rng.uniform(0.01, 0.10)
    top, bottom = (_colour(base + rng.normal(size=3) * vivid * 0.5 + rng.normal() * 0.1) for _ in range(2))
    blur = float(np.exp(rng.uniform(np.log(0.004), np.log(0.09))))
    makers = (_room, _shelves, _lamps, _scatter)
    things = makers[int(rng.integers(len(makers)))](rng, base, vivid)
    things[:, 4] = blur * rng.uniform(0.7, 1.5, len(things))
    scale = float(np.exp(rng.uniform(np.log(3.0), np.log(40.0))))
    grain = (
        float(max(0.0, rng.normal() * 0.16)),
        scale * float(rng.uniform(0.3, 1.0)),
        scale,
        float(rng.uniform(0, 99)),
    )
    return replace(plain, top=top, bottom=bottom, things=things.astype(np.float32), grain=grain)


def _thing(
    place: tuple[float, float], size: tuple[float, float], colour: NDArray[np.floating], roundness: float = 0.0,
    opacity: float = 1.0,
) -> list[float]:  # fmt: skip
    """A row of ``Background.things``, its softness still open."""
    return [*place, *size, 0.01, roundness, *np.clip(colour, 0.02, 0.98).tolist(), opacity]


def _room(rng: np.random.Generator, base: float, vivid: float) -> NDArray[np.floating]:
    """Floor or panel, a door, a window, pictures on the wall."""
    floor = base * rng.uniform(0.4, 1.3) + rng.normal(size=3) * vivid
    rows = [_thing((0.5, 1.0), (2.0, float(rng.uniform(0.05, 0.5))), floor)]
    for _ in range(int(rng.integers(1, 6))):
        place = (float(rng.uniform(-0.1, 1.1)), float(rng.uniform(0.0, 0.8)))
        width, height = float(rng.uniform(0.05, 0.3)), float(rng.uniform(0.06, 0.5))
        rows.append(_thing(place, (width, height), _any_colour(rng, vivid)))
        rows.append(_thing(place, (width * 0.86, height * 0.86), _any_colour(rng, 1.5 * vivid)))
    return np.array(rows)


def _shelves(rng: np.random.Generator, base: float, vivid: float) -> NDArray[np.floating]:
    """Boards with things on them."""
    rows, step = [], float(rng.uniform(0.16, 0.34))
    for board in np.arange(rng.uniform(0.0, step), 1.0, step):
        x = -0.05
        while x < 1.05:
            width, height = float(rng.uniform(0.015, 0.06)), step * float(rng.uniform(0.25, 0.48))
            if rng.random() < 0.85:
                colour, round_ = _any_colour(rng, 2 * vivid), float(rng.random() < 0.1)
                rows.append(_thing((x + width, float(board) - height), (width, height), colour, round_))
            x += 2 * width + (float(rng.uniform(0.0, 0.1)) if rng.random() < 0.2 else 0.002)
        rows.append(_thing((0.5, float(board)), (1.0, 0.012), np.full(3, base * 0.6)))
    return np.array(rows)


def _lamps(rng: np.random.Generator, base: float, vivid: float) -> NDArray[np.floating]:
    """Discs of light far behind."""
    rows = []
    for _ in range(int(rng.integers(4, 30))):
        size, place = float(rng.uniform(0.01, 0.09)), (float(rng.random()), float(rng.random()))
        colour = np.clip(base + rng.uniform(0.1, 0.6) + rng.normal(size=3) * vivid, 0, 1)
        rows.append(_thing(place, (size, size), colour, 1.0, float(rng.uniform(0.2, 0.9))))
    return np.array(rows)


def _scatter(rng: np.random.Generator, base: float, vivid: float) -> NDArray[np.floating]:
    """Patches of all sizes, as of leaves or a street."""
    rows = []
    for _ in range(int(rng.integers(8, 45))):
        width, height = np.exp(rng.uniform(np.log(0.015), np.log(0.3), 2))
        colour = base + rng.normal() * 0.18 + rng.normal(size=3) * vivid
        place = (float(rng.uniform(-0.1, 1.1)), float(rng.uniform(-0.1, 1.1)))
        size, round_ = (float(width), float(height)), float(rng.random())
        rows.append(_thing(place, size, colour, round_, float(rng.uniform(0.4, 1.0))))
    return np.array(rows)


def varied_places(places: tuple[Place, ...], turn: float, rng: np.random.Generator) -> tuple[Place, ...]:
    """One person nearer or farther, and off the middle; several stay where they are.

    ``turn`` is the yaw that the one person keeps: a head turns around its neck, so its face is brought back.
    """
    if len(places) > 1:
        return places
    zoom = float(rng.uniform(0.95, 1.75) / (1 + 0.25 * abs(np.sin(turn))))
    free = 0.03 + 0.14 * (1.75 - zoom)
    x = 0.5 + float(rng.uniform(-free, free)) - 0.8 * _NECK * float(np.sin(turn)) * zoom
    return (Place(x=x, y=0.5 + float(rng.uniform(-0.6, 0.5)) * free, zoom=zoom),)


def kept_turn(rng: np.random.Generator) -> float:
    """Yaw in radians around which a head moves: mostly towards the camera."""
    kind = int(rng.choice(3, p=(0.62, 0.28, 0.10)))
    if kind == 0:
        return float(rng.normal() * _TURNS[0][1])
    return float(rng.uniform(*_TURNS[kind]) * rng.choice((-1.0, 1.0)))
