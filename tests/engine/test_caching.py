"""Step caching: which steps ask, what stands for an answer, whose state it is, and what is refused."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from infinitetalk.core.caching import FEWEST, INTERVAL, THRESHOLD
from infinitetalk.core.defaults import resolve
from infinitetalk.core.errors import RequestError
from infinitetalk.core.sizes import Pixels
from infinitetalk.diffusion.caching import taylorseer, teacache
from infinitetalk.diffusion.schedule import timesteps
from infinitetalk.engine import denoise
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.model import Model
from infinitetalk.models.dit import Added
from infinitetalk.models.dit_blocks import Block, Use
from tests.engine.inputs import talk

CACHES = {"teacache": {"step_cache": "teacache", "cache_threshold": 0.2}, "taylorseer": {"step_cache": "taylorseer"}}


def asked(course: tuple[float | None, ...]) -> str:
    return "".join("01"[ahead is None] for ahead in course)


def test_taylorseer_asks_at_intervals_and_looks_ahead_by_noise_levels() -> None:
    levels = timesteps(13, 7.0)[:-1]
    course = taylorseer(levels, 3)
    assert asked(course) == "1110010010010"
    for step in (3, 4):
        assert course[step] == (levels[2] - levels[step]) / (levels[1] - levels[2])
    assert course[6] == (levels[5] - levels[6]) / (levels[2] - levels[5])
    assert asked(taylorseer(levels, 2)) == "1110101010101"
    assert asked(taylorseer(levels, 100)) == "1110000000000"


def test_teacache_keeps_the_first_steps_and_counts_anew() -> None:
    flat = [0.01] * 19  # 0.104 by the polynomial
    assert asked(teacache(flat, 0.25, large=False)) == "11111001001001001001"
    assert asked(teacache(flat, 100, large=False)) == "11111" + "0" * 15
    assert asked(teacache(flat, 0, large=False)) == "1" * 20
    assert asked(teacache(flat, 0.27, large=True)) == "11111000100010001000"  # 0.089 there


def test_what_is_kept_goes_on_in_a_line() -> None:
    """Blocks that add a multiple of the noise level, each branch its own, are followed exactly."""
    levels = timesteps(12, 5.0)[:-1]
    course = taylorseer(levels, 4)
    added = Added(2)
    for level, ahead in zip(levels, course, strict=True):
        tokens, steep = torch.full((1, 2, 3), level), torch.arange(6.0).view(1, 2, 3)
        branches = [tokens + steep * level, tokens - 2 * steep * level]
        if ahead is None:
            added.begin(tokens)
            added.finish([branch.clone() for branch in branches])
        else:
            for found, expected in zip(added.onto(tokens, ahead), branches, strict=True):
                assert torch.allclose(found, expected, rtol=1e-4)
    assert course.count(None) < len(course)


def test_nothing_is_followed_that_was_never_asked() -> None:
    tokens, added = torch.zeros(1, 2, 3), Added(2)
    for times, ahead in ((0, 0.0), (1, 0.5)):
        if times:
            added.begin(tokens)
            added.finish([tokens.clone()])
        with pytest.raises(ValueError, match="not asked often enough"):
            list(added.onto(tokens, ahead))


class Lender:
    """Lends a network's blocks and counts how often."""

    def __init__(self, blocks: nn.ModuleList) -> None:
        self._blocks = blocks
        self.walks = 0

    def __call__(self, use: Use) -> Iterator[Block]:
        self.walks += use is Use.STEP
        return iter(self._blocks)  # type: ignore[arg-type]


@pytest.fixture
def lender(tiny: Model) -> Iterator[Lender]:
    lender = Lender(tiny.dit.blocks)
    tiny.dit.lend(lender)
    yield lender
    tiny.dit.lend(None)


@pytest.mark.parametrize("cache", CACHES.values(), ids=CACHES)
@pytest.mark.parametrize("scheduler", ["euler", pytest.param("ab2", marks=pytest.mark.full)])
def test_skipped_steps_ask_no_block_and_windows_share_nothing(
    cache: dict[str, Any],
    scheduler: str,
    make_engine: Callable[..., Engine],
    lender: Lender,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A window that asked nobody at its start would follow the one before; a second run would follow the first."""
    # Random weights change too much in a step for TeaCache to skip any.
    monkeypatch.setattr(denoise, "changes", lambda _, levels: [0.01] * (len(levels) - 1))
    request = talk(steps=12, scheduler=scheduler, **cache)
    engine = make_engine(20)
    first = [window.latent for window in engine.stream(request)]
    walks = lender.walks
    assert len(first) > 1
    assert walks == len(first) * {"teacache": 8, "taylorseer": 6}[cache["step_cache"]]
    second = [window.latent for window in engine.stream(request)]
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    (alone,) = engine.stream(talk(steps=12, scheduler=scheduler, preview=True, **cache))
    assert torch.equal(alone.latent, first[0])


def _latent(engine: Engine, **settings: Any) -> Tensor:
    (window,) = engine.stream(talk(steps=8, preview=True, **settings))
    return window.latent


def test_a_cache_that_never_skips_changes_nothing(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(9)
    truth = _latent(engine)
    assert torch.equal(_latent(engine, step_cache="teacache", cache_threshold=0), truth)
    assert not torch.equal(_latent(engine, step_cache="taylorseer"), truth)


def test_more_skipping_is_more_error(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(9)
    truth = _latent(engine)
    errors = [
        float((_latent(engine, step_cache="taylorseer", cache_interval=interval) - truth).norm() / truth.norm())
        for interval in (2, 5)
    ]
    assert 0 < errors[0] < errors[1]


@pytest.mark.parametrize("method", ["teacache", "taylorseer"])
def test_few_steps_are_refused_in_one_line(method: str, tiny: Model) -> None:
    source = Pixels(72, 64)
    for steps in range(1, FEWEST):
        with pytest.raises(RequestError, match=f"with {steps} steps each one is needed") as caught:
            resolve(talk(steps=steps, step_cache=method), tiny.facts, source)
        assert "\n" not in str(caught.value)
    settings = resolve(talk(steps=FEWEST, step_cache=method), tiny.facts, source)
    expected = (THRESHOLD, None) if method == "teacache" else (None, INTERVAL)
    assert (settings.cache_threshold, settings.cache_interval) == expected


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"cache_threshold": 0.1}, "cache_threshold = 0.1: is for step_cache teacache, not off"),
        ({"step_cache": "teacache", "cache_interval": 3}, "is for step_cache taylorseer, not teacache"),
        ({"step_cache": "taylorseer", "cache_interval": 1}, "at least 2"),
        ({"step_cache": "taylorseer", "reference": True}, "the reference has teacache only"),
        ({"step_cache": "magic"}, "one of off, teacache, taylorseer"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(RequestError, match=match):
        talk(**settings)
