"""demo, models, doctor, verify: what they print and how they end."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace

import av
import pytest
import torch

from infinitetalk.cli import demo, doctor, text
from infinitetalk.cli.main import main
from infinitetalk.cli.models import Found
from infinitetalk.core.calibration import Rates
from infinitetalk.media.color import match_colors
from infinitetalk.runtime.device import Device
from infinitetalk.weights.folder import ModelFolder

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def tiny_demo(tiny_folder: Path, portrait: Path, voice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A demo that takes seconds; gives the folder that it runs in."""
    inputs, here = tmp_path / "inputs", tmp_path / "here"
    inputs.mkdir()
    here.mkdir()
    portrait.rename(inputs / demo.PORTRAIT)
    voice.rename(inputs / demo.VOICE)
    monkeypatch.setattr(demo, "INPUTS", inputs)
    monkeypatch.setattr(demo, "MODEL", str(tiny_folder))
    monkeypatch.chdir(here)
    return here


def test_demo_makes_a_video_and_says_what_to_try(tiny_demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo"]) == 0
    told = capsys.readouterr().out
    assert "Video:   infinitetalk-demo.mp4" in told
    with av.open(str(tiny_demo / "infinitetalk-demo.mp4")) as container:
        assert {stream.type for stream in container.streams} == {"video", "audio"}
    assert "infinitetalk demo --keep-inputs demo-inputs" in told
    assert "infinitetalk app" in told


def test_demo_keeps_its_inputs_and_suggests_a_command_that_works(
    tiny_demo: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--output", "first.mp4", "--keep-inputs", "some inputs"]) == 0
    assert {path.name for path in (tiny_demo / "some inputs").iterdir()} == {demo.PORTRAIT, demo.VOICE}
    told = capsys.readouterr().out
    line = next(line for line in told.splitlines() if line.startswith("  infinitetalk generate --image"))
    assert main([*shlex.split(line)[1:], "--model", str(tiny_folder), "--preview"]) == 0
    assert (tiny_demo / "talk.mp4").stat().st_size > 0


def test_demo_refuses_a_folder_that_cannot_be_made(tiny_demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tiny_demo / "file").write_text("")
    assert main(["demo", "--keep-inputs", "file/inputs"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: keep_inputs = file/inputs: ")
    assert captured.err.count("\n") == 1


def test_models_lists_whole_and_broken_folders(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_folder, tmp_path / "models" / "good")
    shutil.copytree(tiny_folder, tmp_path / "bad")
    next((tmp_path / "bad").glob("*VAE*")).unlink()
    monkeypatch.chdir(tmp_path)
    assert main(["models", "--json"]) == 0
    found = {model["model"]: model for model in json.loads(capsys.readouterr().out)}
    assert found["models/good"]["whole"]
    assert found["models/good"]["people"] == 3
    assert found["models/good"]["bytes"] > 100_000
    assert not found["bad"]["whole"]
    assert "part vae" in found["bad"]["problem"]
    assert main(["models"]) == 0
    told = capsys.readouterr().out
    assert "models/good" in told
    assert "--model NAME" in told


def test_models_refuses_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", str(tmp_path / "typo")]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: DIR = {tmp_path / 'typo'}: there is no such folder")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_doctor_tells_device_memory_and_versions(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    found = {finding["name"]: finding for finding in report["findings"]}
    assert {"version", "python", "memory", "device", "torch", "transformers", "av", "video encoder"} <= set(found)
    assert "GiB" in found["memory"]["value"]
    assert code == (0 if report["fine"] else 1)
    assert main(["doctor"]) == code
    assert "libx264" in capsys.readouterr().out


def test_doctor_looks_at_every_library_of_a_plain_installation() -> None:
    project = tomllib.loads((GOLDEN.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [re.split("[<>=]", line)[0] for line in project["dependencies"]]
    assert sorted(distribution for _, distribution, _ in doctor.LIBRARIES) == sorted(wanted)


def test_doctor_tells_a_gpus_memory(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    gpu = Device(torch.device("cuda", 0), torch.bfloat16, "Some GPU", (9, 0))
    monkeypatch.setattr(Device, "choose", lambda _name: gpu)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _device: SimpleNamespace(total_memory=79 * 2**30))
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _device: (70 * 2**30, 79 * 2**30))
    monkeypatch.setattr("infinitetalk.engine.planning.rates_of", lambda _device: Rates.of("h100"))
    monkeypatch.setattr("infinitetalk.runtime.device._driver", lambda: "580.65.06")
    main(["doctor"])
    told = " ".join(capsys.readouterr().out.split())
    assert "device Some GPU (cuda:0), computes in bfloat16" in told
    assert "compute capability 9.0" in told
    assert "device memory 79.0 GiB, 70.0 GiB free" in told
    assert "driver 580.65.06" in told
    assert "SDPA (flash, cuDNN, memory-efficient, plain)" in told
    assert "replaces xformers and flash-attn" in told
    assert "--attention auto, math, flash, cudnn, efficient" in told


def test_doctor_tells_what_fits_a_pretended_card(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_folder: Path
) -> None:
    monkeypatch.setenv("INFINITETALK_PRETEND", "t4")
    monkeypatch.setattr("infinitetalk.cli.doctor.LIBRARIES", ())
    got = Found(model="live", path="cache", whole=True), Found(model="t4", path="cache", whole=False)
    monkeypatch.setattr("infinitetalk.cli.fits.downloaded", lambda _hub: got)
    plain = ModelFolder.open
    monkeypatch.setattr(ModelFolder, "open", lambda name: plain(tiny_folder if name == "live" else name))
    assert main(["doctor", "--json", str(tiny_folder)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["device"]["name"], report["device"]["pretended"]) == ("Tesla T4", True)
    assert report["device"]["attention"] == ["efficient_attention", "math"]
    assert report["device"]["attention_backends"] == ["math", "efficient"]
    assert not (report["device"]["bfloat16"] or report["device"]["fp8"] or report["device"]["triton"])
    assert report["disk"]["read"] > 0
    seen = {(one["model"], one["size"]): one for one in report["outlook"]}
    assert seen["nano", plain("nano").defaults.size]["here"]
    assert seen["live", "64"]["here"], "the downloaded model is looked at itself"
    assert ("live", "480") not in seen
    assert any(one["model"].endswith("tiny") and one["here"] for one in report["outlook"])
    on_t4 = seen["t4", "480"]
    assert on_t4["fits"]
    assert not on_t4["here"]
    assert on_t4["estimate"], "nobody measured a T4"
    assert on_t4["vram"] <= on_t4["vram_budget"] < 14.74 * 2**30
    assert on_t4["ram"] <= on_t4["ram_budget"] < 12.7 * 2**30
    assert on_t4["seconds_per_second"] > 60
    assert {one["size"] for one in report["outlook"] if one["model"] == "workstation"} == {"480", "720"}
    assert main(["doctor", str(tiny_folder)]) == 0
    told = capsys.readouterr().out
    assert "Tesla T4 (pretended on cpu), computes in float16" in told
    assert "models that can be downloaded" in told
    assert "~ estimate: nobody measured" in told


def test_doctor_says_what_would_fit_where_something_does_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INFINITETALK_PRETEND", "rtx4060")
    monkeypatch.setattr("infinitetalk.cli.doctor.LIBRARIES", ())
    monkeypatch.setattr("infinitetalk.cli.fits.downloaded", lambda _hub: ())
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"✗ +workstation +720 .*GPU: [\d.]+ GiB needed, [\d.]+ usable; --.* would fit", told)


def test_doctor_names_what_is_amiss(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("infinitetalk.cli.doctor.LIBRARIES", (("nothing_such", "nothing-such", "nothing"),))
    assert main(["doctor", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    amiss = [finding for finding in report["findings"] if not finding["fine"]]
    assert "nothing-such" in {finding["name"] for finding in amiss}


def test_verify_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("guidance", "color"):
        shutil.copy(GOLDEN / f"{name}.safetensors", tmp_path)
    assert main(["verify", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert told.count("pass") == 3
    assert "2 of 2 cases pass" in told


def test_verify_fails_on_a_wrong_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(GOLDEN / "color.safetensors", tmp_path)
    wrong = "infinitetalk.engine.golden_networks.match_colors"
    monkeypatch.setattr(wrong, lambda *values: match_colors(*values) + 0.01)
    assert main(["verify", str(tmp_path), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["passed"]
    assert report["cases"][0]["error"] > report["cases"][0]["bound"]
    assert main(["verify", str(tmp_path)]) == 1
    assert "FAIL" in capsys.readouterr().out


def test_verify_refuses_a_folder_without_cases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 2
    assert "no golden cases" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("called", "found", "typed"),
    [
        ("/opt/bin/infinitetalk", "/opt/bin/infinitetalk", "infinitetalk"),
        ("/opt/bin/infinitetalk", None, "/opt/bin/infinitetalk"),
        ("/opt/bin/infinitetalk", "/usr/bin/infinitetalk", "/opt/bin/infinitetalk"),
        ("/site/infinitetalk/__main__.py", None, f"{shlex.quote(sys.executable)} -m infinitetalk"),
        ("/usr/bin/pytest", None, "infinitetalk"),
    ],
)
def test_commands_are_told_as_this_shell_finds_them(
    called: str, found: str | None, typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    monkeypatch.setattr(shutil, "which", lambda _: found)
    assert text.program() == typed


def test_paths_are_told_as_short_as_they_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert text.near_path(tmp_path / "a" / "b.mp4") == str(Path("a", "b.mp4"))
    assert text.near_path(Path("/elsewhere/b.mp4")) == "/elsewhere/b.mp4"
    assert text.command_line("generate", "--image", "my face.png").endswith("generate --image 'my face.png'")


@pytest.mark.full
def test_the_real_demo_is_quick_and_small(tmp_path: Path) -> None:
    start = time.perf_counter()
    command = [sys.executable, "-m", "infinitetalk", "demo", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert time.perf_counter() - start <= 120
    event = json.loads(done.stdout.splitlines()[-1])
    assert event["seconds"] >= 5
    assert event["peak_memory_bytes"] <= 3 * 2**30
