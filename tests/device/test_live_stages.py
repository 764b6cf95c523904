"""What each stage of a whole job holds, counted in the engine's own code on the meta device, and what plans say."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from infinitetalk.core import footprint, planner
from infinitetalk.core.calibration import Rates, constant
from infinitetalk.core.configs import DiTConfig, SpeechConfig, TextConfig, VAEConfig, VisionConfig
from infinitetalk.core.defaults import NEGATIVE_PROMPT, PROMPT
from infinitetalk.core.memory import Lodging, Tier
from infinitetalk.core.planner import Machine, Networks, Plan, Work, choose
from infinitetalk.core.sizes import Pixels
from infinitetalk.core.stages import Stage
from infinitetalk.core.units import GIB
from infinitetalk.engine.planning import words_of
from tools.meta_pipeline import stage_peaks

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
FEW = DiTConfig(num_layers=4)
FULL = Networks(
    dit=DiTConfig(), vae=VAEConfig(), speech=SpeechConfig(), text=TextConfig(), vision=VisionConfig(),
    dit_bytes=1.0, text_bytes=1.0,
)  # fmt: skip
WORK = Work(size=Pixels(640, 640), window_frames=81, motion_frames=9, steps=2, branches=3)
STAGES = {"key frames": Stage.KEY_FRAMES, "denoising": Stage.DENOISING, "decoding": Stage.LIP_SYNC}


def tensors(lodging: Lodging, networks: Networks, work: Work, machine: Machine) -> dict[str, int]:
    """Bytes of each stage that plans expect beside weights, without what an allocator adds."""
    weights = {name: turn.weights for name, turn in planner._turns(lodging, networks, work, machine)}
    bare = replace(machine, vram=None)
    none = replace(lodging, keep_encoders=False, resident_blocks=0)
    stays = planner._sizes(networks, machine.number).around
    return {name: count - weights[name] - stays for name, count in planner._stages(none, networks, work, bare).items()}


@pytest.mark.parametrize(
    ("dtype", "size", "lodging", "words"),
    [
        (torch.float16, Pixels(640, 640), Lodging(tier=Tier.DISK, keep_encoders=False), (511, 511)),
        pytest.param(
            torch.bfloat16, Pixels(640, 640),
            Lodging(tier=Tier.PINNED, frames_at_once=3, tile=384, coded_at_once=1, keep_encoders=False), (60, 130),
            marks=pytest.mark.full,
        ),
        pytest.param(
            torch.float16, Pixels(448, 832),
            Lodging(tier=Tier.DISK, frames_at_once=4, coded_at_once=1, keep_encoders=False), (20, 511),
            marks=pytest.mark.full,
        ),
    ],
    ids=["T4, all at once", "small card", "T4, wide picture"],
)  # fmt: skip
def test_every_stage_holds_what_plans_expect(
    dtype: torch.dtype, size: Pixels, lodging: Lodging, words: tuple[int, int]
) -> None:
    """Two windows at full size, of which the second one finds what the first one left."""
    live = stage_peaks(
        FEW, VAEConfig(), dtype=dtype, size=f"{size.width}x{size.height}", lodging=lodging, tokens=words, steps=1
    )
    networks, work = replace(FULL, dit=FEW, dit_bytes=None), replace(WORK, size=size, words=words)
    machine = Machine(vram=None, ram=1 << 40, rates=Rates.of("t4"), wide=dtype == torch.float16)
    expected = tensors(lodging, networks, work, machine)
    for name, stage in STAGES.items():
        assert expected[name] == pytest.approx(live[stage], rel=0.1), (name, live[stage] / GIB)


def test_what_was_told_waits_while_frames_are_decoded() -> None:
    """Keys and values of texts and picture last for the whole job: a GiB of a network of 40 blocks."""
    common = {"dtype": torch.bfloat16, "size": "128x128", "frames": 9, "motion": 5, "steps": 1}
    lodging = Lodging(keep_encoders=False)
    some, more = (
        stage_peaks(replace(FEW, num_layers=layers), VAEConfig(dim=8), lodging=lodging, **common)[Stage.LIP_SYNC]  # type: ignore[arg-type]
        for layers in (1, 3)
    )
    waits = footprint.told_throughout(replace(FEW, num_layers=2), 3)
    assert more - some == pytest.approx(2 * waits, rel=0.02)
    machine = Machine(vram=64 * GIB, ram=1 << 40, rates=Rates.of("t4"))
    short, long = (
        planner.predict(lodging, FULL, replace(WORK, words=words), machine).prediction.vram["decoding"]
        for words in ((10, 10), (511, 511))
    )
    assert long - short > 0.75 * GIB


def test_short_prompts_take_little() -> None:
    words = words_of(PROMPT, NEGATIVE_PROMPT)
    assert 20 < words[0] < words[1] < 512
    whole, short = (footprint.told_throughout(DiTConfig(), 3, given) for given in (None, words))
    assert 2 * (whole - short) / GIB > 0.4


@pytest.mark.parametrize(("name", "at_once"), [("memory_h100.json", None), ("memory_pinned_frames3_h100.json", 3)])
def test_peaks_measured_on_an_h100_are_predicted(name: str, at_once: int | None) -> None:
    """Denoising alone with its blocks in pinned main memory, by torch's counts and by the driver's."""
    measured = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    (pinned,) = [tier for tier in measured["tiers"] if tier["tier"] == "pinned"]
    assert measured["frames_at_once"] == at_once
    lodging = Lodging(tier=Tier.PINNED, frames_at_once=at_once, keep_encoders=False)
    machine = Machine(vram=80 * GIB, ram=1 << 40, rates=Rates.of("h100"))
    driver = planner._stages(lodging, FULL, WORK, machine)["denoising"]
    assert driver / GIB == pytest.approx(pinned["peak_driver_gib"], rel=0.1)
    reserved = driver - constant("context_bytes").value
    assert reserved / GIB == pytest.approx(pinned["peak_reserved_gib"], rel=0.1)
    turn = planner._denoising(lodging, FULL, WORK, machine)
    allocated = turn.weights + turn.tensors + planner._sizes(FULL, 2).around
    assert allocated / GIB == pytest.approx(pinned["peak_allocated_gib"], rel=0.03)


@pytest.mark.parametrize(
    ("vram", "wide", "peak"), [(14.0, True, 14.0 * planner.FILLED), (8.0, False, 8.0), (6.0, False, 6.0)]
)
def test_the_whole_pipeline_is_planned_within(vram: float, wide: bool, peak: float) -> None:
    """A T4's 14.74 GiB less what plans leave, and cards of 8 and 6 GiB: 480p, three branches, blocks in fp8."""
    tier = Tier.DISK if wide else Tier.PINNED
    machine = Machine(vram=round(vram * GIB), ram=40 * GIB, rates=Rates.of("t4"), wide=wide, tiers=(tier,))
    found = choose(FULL, replace(WORK, words=words_of(PROMPT, NEGATIVE_PROMPT)), machine)
    assert isinstance(found, Plan)
    assert found.prediction.vram_peak <= peak * GIB
    assert found.lodging.coded_at_once == (None if wide else 1), "the same numbers as ever, where there is room"
    if found.lodging.resident_blocks:
        assert found.prediction.vram_peak <= planner.FILLED * vram * GIB
