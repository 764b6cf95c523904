"""Plans: the right tier for a machine, predictions within its budgets, refusals that name what would fit."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinitetalk.core import planner
from infinitetalk.core.calibration import RATES, STATUSES, TABLE, Figure, Rates
from infinitetalk.core.cards import CARDS
from infinitetalk.core.configs import DiTConfig, SpeechConfig, TextConfig, VAEConfig, VisionConfig
from infinitetalk.core.memory import Lodging, Tier
from infinitetalk.core.planner import KINDS, Machine, Misfit, Networks, Plan, Work, choose, nearest, step_seconds
from infinitetalk.core.sizes import Pixels
from infinitetalk.core.units import GIB

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
FULL = Networks(dit=DiTConfig(), vae=VAEConfig(), speech=SpeechConfig(), text=TextConfig(), vision=VisionConfig())
FP8 = replace(FULL, dit_bytes=KINDS["fp8"], text_bytes=KINDS["fp8"])
Q4 = replace(FULL, dit_bytes=KINDS["q4_k"], text_bytes=KINDS["fp8"])
WORK = Work(size=Pixels(640, 640), window_frames=81, motion_frames=9, steps=40, branches=3)


def machine(vram: float | None, ram: float, card: str = "rtx4090", **more: Any) -> Machine:
    """A machine with so many GiB."""
    memory = None if vram is None else round(vram * GIB)
    return replace(Machine(vram=memory, ram=round(ram * GIB), rates=Rates.of(card)), **more)


def plan(networks: Networks, where: Machine, work: Work = WORK) -> Plan:
    found = choose(networks, work, where)
    assert isinstance(found, Plan), found
    return found


@pytest.mark.parametrize(
    ("vram", "ram", "tier"),
    [
        (79, 64, Tier.RESIDENT),
        (34, 64, Tier.RESIDENT),
        (20, 64, Tier.PINNED),
        (12, 30, Tier.PINNED),
        (12, 9, Tier.DISK),
    ],
)
def test_tiers_follow_memory(vram: float, ram: float, tier: Tier) -> None:
    found = plan(FP8, machine(vram, ram))
    assert found.lodging.tier is tier
    assert found.prediction.vram_peak <= vram * GIB
    assert found.prediction.ram <= ram * GIB


def test_a_t4_runs_a_model_of_4_bits() -> None:
    found = plan(Q4, machine(14.5, 11.5, "t4", wide=True), replace(WORK, steps=4, branches=1))
    assert found.prediction.vram_peak <= 14.5 * GIB
    assert found.prediction.ram <= 11.5 * GIB
    assert found.prediction.estimate


def test_a_card_of_8_gb_makes_480p_with_the_vae_in_pieces() -> None:
    found = plan(Q4, machine(7.2, 14, "rtx4060"), replace(WORK, steps=4, branches=1))
    assert found.lodging.tile in planner.TILES
    assert found.lodging.tile < 640
    whole = plan(Q4, machine(10, 14, "rtx4060"), replace(WORK, steps=4, branches=1))
    assert whole.lodging.tile is None
    assert whole.prediction.seconds_per_second < found.prediction.seconds_per_second


def test_a_wanted_number_of_blocks_stays() -> None:
    assert (
        plan(FP8, machine(24, 64, tiers=(Tier.PINNED, Tier.DISK), persistent=7 * 351_399_424)).lodging.resident_blocks
        == 7
    )
    assert plan(FP8, machine(79, 64, tiers=(Tier.PINNED,), persistent=10**12)).lodging.resident_blocks == 40


def test_encoders_stay_where_there_is_room() -> None:
    assert plan(FP8, machine(79, 64)).lodging.keep_encoders
    assert not plan(FP8, machine(27, 64)).lodging.keep_encoders


def test_more_memory_is_never_slower_and_keeps_more_blocks() -> None:
    plans = [plan(FP8, machine(vram, 40)) for vram in range(10, 40, 2)]
    times = [one.prediction.seconds_per_second for one in plans]
    assert all(after <= before for before, after in pairwise(times))
    assert all(after.lodging.resident_blocks >= before.lodging.resident_blocks for before, after in pairwise(plans))


@settings(max_examples=40, deadline=None)
@given(st.floats(4, 100), st.floats(3, 100), st.sampled_from([FULL, FP8, Q4]), st.integers(1, 3), st.booleans())
def test_a_plan_fits_and_a_misfit_does_not(
    vram: float, ram: float, networks: Networks, branches: int, wide: bool
) -> None:
    where = machine(vram, ram, wide=wide)
    found = choose(networks, replace(WORK, branches=branches), where)
    assert where.vram is not None
    if isinstance(found, Plan):
        assert found.prediction.vram_peak <= where.vram
        assert found.prediction.ram <= where.ram
    else:
        assert found.need > found.budget
        assert found.budget in (where.vram, where.ram)


def test_what_does_not_fit_is_told_with_the_nearest_that_does() -> None:
    where, work = machine(7.2, 31), replace(WORK, size=Pixels(960, 960))
    found = choose(FP8, work, where)
    assert isinstance(found, Misfit)
    assert found.memory == "GPU memory"
    less = nearest(FP8, work, where)
    assert less is not None
    smaller, way = less
    assert smaller.size.height * smaller.size.width * smaller.window_frames < 960 * 960 * 81
    assert smaller.size.height == smaller.size.width
    assert way.prediction.vram_peak <= 7.2 * GIB
    assert nearest(FP8, work, machine(2, 31)) is None


def test_a_wanted_tier_is_the_only_one() -> None:
    for tier in Tier:
        assert plan(FP8, machine(79, 64, tiers=(tier,))).lodging.tier is tier


def test_a_processor_holds_all_in_main_memory() -> None:
    found = plan(FULL, machine(None, 120, number=4, tiers=(Tier.RESIDENT,)))
    assert found.prediction.ram > 4 * 18.88e9
    # Stored matrices are made dense there, once and for all.
    for networks in (FULL, Q4):
        assert isinstance(choose(networks, WORK, machine(None, 60, number=4, tiers=(Tier.RESIDENT,))), Misfit)
    assert plan(Q4, machine(None, 60, number=4)).lodging.tier is Tier.DISK


def test_more_work_takes_more() -> None:
    where = machine(20, 64)
    base = planner.predict(plan(FP8, where).lodging, FP8, WORK, where).prediction
    draft = plan(FP8, where).lodging
    for more in (
        replace(WORK, people=2),
        replace(WORK, size=Pixels(704, 704)),
        replace(WORK, window_frames=97),
        replace(WORK, branches=4),
    ):
        other = planner.predict(draft, FP8, more, where).prediction
        assert other.vram["denoising"] > base.vram["denoising"]
        assert other.window_seconds > base.window_seconds
    with_lora = planner.predict(draft, replace(FP8, lora_rank=64), WORK, where).prediction
    assert with_lora.vram["denoising"] > base.vram["denoising"]


def test_a_slow_disk_makes_the_device_wait() -> None:
    where = machine(12, 9)
    quick = plan(FP8, where, replace(WORK, branches=1))
    slow = plan(FP8, replace(where, rates=where.rates.with_disk(50e6, "slow")), replace(WORK, branches=1))
    assert quick.prediction.waiting < 0.2 < slow.prediction.waiting
    assert slow.prediction.seconds_per_second > quick.prediction.seconds_per_second


def test_predictions_of_what_nobody_measured_are_marked() -> None:
    where = machine(79, 64)
    assert plan(FP8, where).prediction.estimate
    figures = {name: Figure(1e12, "measured", "here") for name in RATES}
    assert not plan(FP8, replace(where, rates=Rates(**figures))).prediction.estimate
    # Only what the plan uses counts.
    unknown = replace(Rates(**figures), disk=Figure(1e9, "estimate", "a guess"))
    assert not plan(FP8, replace(where, rates=unknown)).prediction.estimate
    assert plan(FP8, machine(12, 9, rates=unknown)).prediction.estimate


def test_the_forward_pass_of_the_h100_takes_as_long_as_was_measured() -> None:
    seconds = planner._forward_seconds(Lodging(), FULL, WORK, machine(79, 64, "h100"))
    assert seconds == pytest.approx(4.59, rel=0.05)


def test_every_card_has_every_rate_with_a_source() -> None:
    for card in CARDS:
        rates = Rates.of(card)
        for name in RATES:
            figure = getattr(rates, name)
            assert figure.value > 0
            assert figure.status in STATUSES
            assert figure.source
    rows = json.loads(TABLE.read_text(encoding="utf-8"))["rates"]
    assert {row["card"] for row in rows} == set(CARDS)


def test_products_in_8_bits_and_a_vae_in_16_have_rates_of_their_own_where_they_are_known() -> None:
    h100, t4 = Rates.of("h100"), Rates.of("t4")
    assert h100.chosen(eight=False, half=False) == h100
    assert h100.chosen(eight=True, half=False).products == h100.products_eight
    assert h100.chosen(eight=False, half=True).coding == h100.coding_half
    assert t4.chosen(eight=True, half=True) == t4


def test_what_is_expected_of_a_forward_pass_on_an_h100_is_what_was_measured() -> None:
    told = json.loads((RESULTS / "speed_h100.json").read_text(encoding="utf-8"))
    work = replace(WORK, size=Pixels(640, 640), window_frames=81, motion_frames=9, steps=1, branches=1)
    rates, lodging = Rates.of("h100"), Lodging(resident_blocks=FULL.dit.num_layers)
    for networks, eight, measured in (
        (FULL, False, told["exact"]["fa3, fused"]["seconds"]),
        (FP8, True, told["eight"]["fp8 products, fused"]["seconds"]),
    ):
        where = replace(machine(79, 64, "h100"), rates=rates.chosen(eight=eight, half=True), fused=True, eight=eight)
        assert step_seconds(lodging, networks, work, where)[0] == pytest.approx(measured, rel=0.05)
