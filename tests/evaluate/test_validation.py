"""Measures go with what is wrong: on two clips here, on twelve of each kind in the committed results."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quantisation import put
from benchmarks.validate_metrics import DEGRADATIONS, LEAST, MARKS, Degradation, Sample, cyclic, figures, judge, table
from infinitetalk.media.hearing import for_speech
from infinitetalk.media.sound import read_sound
from infinitetalk.media.video import VideoSource, length_of

FIXTURES = Path(__file__).parent / "fixtures"
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "validate_metrics.json"


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    videos, voices = [], []
    for path in (FIXTURES / "speaker.mp4", FIXTURES / "listener.mp4"):
        with VideoSource(path) as source:
            videos.append(np.stack([source.frame_index(index) for index in range(round(25 * length_of(path)))]))
        voices.append(for_speech(read_sound(path)))
    return cyclic(["speaker", "listener"], videos, voices)


@pytest.mark.parametrize(
    "degradation",
    [
        # Faces are looked for anew at every strength; how heads move is measured in test_measures.py as well.
        pytest.param(one, marks=[pytest.mark.full] * one.name.startswith("swaying"), id=one.name)
        for one in DEGRADATIONS
    ],
)
def test_measures_follow(degradation: Degradation, samples: list[Sample]) -> None:
    few = replace(degradation, strengths=degradation.strengths[::2])
    found = judge(few, samples)["measures"]
    assert set(found) == set(degradation.rising)
    for name, row in found.items():
        assert row["spearman"] >= LEAST, (name, row)


def test_a_measure_that_does_not_follow_fails() -> None:
    assert figures((1, 2, 3), [[3, 1, 2], [1, 2, 3]], 1)["passed"] is False
    assert figures((1, 2, 3), [[3, 2, 1]], -1)["spearman"] == 1


def test_the_committed_results_are_of_all_and_pass() -> None:
    report = json.loads(RESULTS.read_text(encoding="utf-8"))
    wanted = {degradation.name for degradation in DEGRADATIONS} | {"another person, share of frames"}
    assert wanted <= set(report["kinds"]["nano"])
    assert wanted | {"another identity, how far"} <= set(report["kinds"]["rendered"])
    clips: dict[str, int] = {}
    for kind in report["kinds"].values():
        for found in kind.values():
            for name, row in found["measures"].items():
                assert row["spearman"] >= LEAST, (name, row)
                clips[name] = max(clips.get(name, 0), row["clips"])
    assert min(clips.values()) >= 10
    text = (RESULTS.parents[2] / "docs" / "evaluate.md").read_text(encoding="utf-8")
    assert put(text, MARKS, table(report)) == text
