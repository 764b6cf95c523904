"""Numbers of GPUs that cannot share the work, and processes that do not fit together: one line each, before weights."""

from pathlib import Path
from typing import Any

import pytest
import torch

from infinitetalk.cli.main import main
from infinitetalk.core.errors import MachineError, RequestError
from infinitetalk.core.memory import MemorySettings
from infinitetalk.core.ranks import crew_size, guidance_groups, started_by_torchrun
from infinitetalk.engine.crew import Crew, Hello, device_of, versions
from infinitetalk.engine.planning import check_crew
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.links import Harbour, Helper

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}


@pytest.mark.parametrize(
    ("size", "branches", "switch", "groups"),
    [(1, 3, "auto", 1), (4, 1, "auto", 1), (2, 2, "auto", 2), (4, 2, "auto", 2), (4, 3, "auto", 1), (3, 3, "auto", 3),
     (6, 3, "auto", 3), (4, 2, "off", 1), (16, 2, "on", 2), (1, 3, "on", 1)],
)  # fmt: skip
def test_groups(size: int, branches: int, switch: str, groups: int) -> None:
    assert guidance_groups(size, 40, branches, switch) == groups


def test_a_number_that_does_not_divide() -> None:
    with pytest.raises(RequestError, match=r"^gpus = 3: 40 heads .* evenly by so many; 1, 2, 4 or 5 would work$"):
        guidance_groups(3, 40, 1)
    with pytest.raises(RequestError, match=r"^guidance_split = on: 3 branches of guidance cannot be split on 4 GPUs"):
        guidance_groups(4, 40, 3, "on")


def test_torchrun() -> None:
    place = started_by_torchrun(TORCHRUN)
    assert place is not None
    assert (place.rank, crew_size(None, place), crew_size(4, place)) == (1, 4, 4)
    with pytest.raises(RequestError, match="torchrun started 4 processes: 4 would work"):
        crew_size(2, place)
    with pytest.raises(RequestError, match="must be on one machine"):
        started_by_torchrun(TORCHRUN | {"LOCAL_WORLD_SIZE": "2"})
    assert started_by_torchrun(TORCHRUN | {"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}) is None


def test_more_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    second = Device(torch.device("cuda", 1), torch.bfloat16, "some GPU", (9, 0))
    assert [device_of(second, rank) for rank in (0, 1)] == ["cuda:1", "cuda:2"]
    check_crew(second, MemorySettings(gpus=2), 40, 1)
    with pytest.raises(RequestError, match=r"^gpus = 4: 2 are there, from cuda:1 on; 1, 2 would work$"):
        check_crew(second, MemorySettings(gpus=4), 40, 1)


def test_the_command_refuses_before_anything_is_loaded(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any, **__: Any) -> None:
        pytest.fail("something was loaded")

    monkeypatch.setattr("infinitetalk.engine.engine.load_shared", load)
    assets = Path(__file__).parents[2] / "src" / "infinitetalk" / "assets" / "demo"
    words = ["generate", "--model", str(tiny_folder), "--image", str(assets / "portrait_1.png"), "--device", "cpu"]
    words += ["--audio", str(assets / "voice_1.flac"), "--output", str(tmp_path / "talk.mp4"), "--gpus", "5"]
    assert main(words) == 2
    assert "error: gpus = 5: 4 heads of attention cannot be shared evenly" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_other_versions() -> None:
    crew = Crew(3, Device.choose("cpu"), [])
    crew._hellos = {1: Hello(1, versions()), 2: Hello(2, (("torch", "2.9.0"), versions()[1]))}
    with pytest.raises(MachineError, match=r"^rank 2 has torch 2\.9\.0, and rank 0 has torch \S+: all need the same$"):
        crew._check_versions()


def test_a_process_that_cannot_start() -> None:
    harbour = Harbour()
    helper = Helper("no_such_module", harbour.address, 1)
    crew = Crew(2, Device.choose("cpu"), [helper])
    with pytest.raises(MachineError, match=r"^rank 1 of 2 did not start: .*No module named"):
        crew._gather(harbour)
    helper.end(5)
    harbour.close()


def test_who_does_not_know_the_word_is_sent_away() -> None:
    import socket

    harbour = Harbour()
    with socket.create_connection(("127.0.0.1", harbour.address.port)) as stranger:
        stranger.sendall(b"x" * 32)
        assert harbour.accept(2) is None
    harbour.close()
