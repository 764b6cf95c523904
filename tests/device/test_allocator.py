"""The allocator's setting: where it is made, and who may have said something else."""

import sys

import pytest
import torch

from infinitetalk.runtime.allocator import VARIABLES, keep_few_gaps


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    settings: list[str] = []
    monkeypatch.setattr(torch._C, "_accelerator_setAllocatorSettings", settings.append)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return settings


def test_cuda_on_linux_maps_memory_behind_what_it_has(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert keep_few_gaps(torch.device("cuda"))
    assert told == ["expandable_segments:True"]


@pytest.mark.parametrize("name", VARIABLES)
def test_what_users_say_stays(name: str, told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "max_split_size_mb:64")
    assert not keep_few_gaps(torch.device("cuda"))
    assert not told


def test_other_devices_and_systems_are_left_alone(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert not keep_few_gaps(torch.device("cpu"))
    monkeypatch.setattr(sys, "platform", "win32")
    assert not keep_few_gaps(torch.device("cuda"))
    assert not told
