"""`infinitetalk inspect`: text for people, JSON for programs, exit codes for scripts."""

import json
from pathlib import Path

import pytest

from infinitetalk.cli.main import main
from infinitetalk.weights.locate import ASSETS
from tests.weights.fake import fake_safetensors, fake_shards
from tests.weights.key_lists import adapter, shapes
from tests.weights.loose import make_loose


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A home without weights, and a folder to stand in."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "COMFYUI_PATH", "INFINITETALK_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def _told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str]]:
    """The exit code and the lines, each with single blanks."""
    code = main(["inspect", *words])
    return code, [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_people_read_what_a_file_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_shards(tmp_path / "Wan2.1-I2V-14B-480P", "diffusion_pytorch_model", shapes("wan i2v 14B"), 7)
    fake_safetensors(tmp_path / "single" / "infinitetalk.safetensors", adapter(), "F16")
    code, lines = _told(capsys, "Wan2.1-I2V-14B-480P", "single/infinitetalk.safetensors")
    assert code == 0
    for line in (
        "file Wan2.1-I2V-14B-480P/diffusion_pytorch_model-00001-of-00007.safetensors, the first of 7 files",
        "part DiT base, 40 blocks of 5120",
        "names Wan original",
        "size 16.39 billion parameters in 65.6 GB",
        "stored as float32: 1303 tensors",
        "✓ whole: 1303 tensors, none missing, none left over",
        "fits with an adapter, single or multi, of 40 blocks of 5120",
        "part InfiniteTalk adapter, 40 blocks of 5120",
        "voices one (single)",
        "size 2.49 billion parameters in 5.0 GB",
        "✓ InfiniteTalk adapter: single/infinitetalk.safetensors",
        "✗ lacking: the video VAE (Wan2.1_VAE.pth)",
    ):
        assert line in lines


def test_a_file_that_cannot_be_used_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = shapes("wan i2v 14B")
    del names["head.head.bias"]
    names["extra.weight"] = (3,)
    fake_safetensors(tmp_path / "short.safetensors", names)
    code, lines = _told(capsys, "short.safetensors")
    assert code == 2
    at = lines.index("✗ its tensors do not make the whole network")
    assert lines[at + 1 : at + 5] == ["1 missing:", "head.head.bias", "1 left over:", "extra.weight"]
    # In a folder it is told, and nothing was asked of it.
    assert _told(capsys, str(tmp_path))[0] == 0
    fake_safetensors(tmp_path / "base.safetensors", shapes("wan2.2 i2v A14B"))
    code, lines = _told(capsys, "base.safetensors")
    assert code == 2
    assert any("a base of Wan 2.2 (I2V-A14B" in line for line in lines)


def test_a_damaged_file_is_one_line_and_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_safetensors(tmp_path / "cut.safetensors", shapes("wan vae"), missing_bytes=1)
    assert main(["inspect", "cut.safetensors"]) == 2
    assert "cut.safetensors: the file is cut off" in capsys.readouterr().err
    assert main(["inspect", "cut.safetensors", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["event"] == "error"
    assert main(["inspect", "gone.safetensors"]) == 2
    assert "there is no such weight file" in capsys.readouterr().err
    code, lines = _told(capsys, ".")
    assert code == 0
    assert any(line.startswith("✗ the file is cut off") for line in lines)


def test_programs_read_every_tensor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_safetensors(tmp_path / "vae.safetensors", shapes("diffusers vae"), "F32")
    assert main(["inspect", "vae.safetensors", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (file,) = told["files"]
    assert (file["component"], file["names"], file["usable"]) == ("vae", "Diffusers", True)
    assert file["tensors"] == dict.fromkeys(shapes("diffusers vae"), "float32")
    assert (file["bytes"], file["config"]["z_dim"]) == (4 * file["parameters"], 16)
    assert told["model"]["whole"] is False
    assert len(told["model"]["lacking"]) == 6


def test_a_whole_model_is_told_with_the_command_that_uses_it(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_loose(tiny_folder, tmp_path / "loose")
    code, lines = _told(capsys, "loose")
    assert code == 0
    assert any(line.endswith("generate --model loose …") for line in lines)
    assert main(["inspect", "loose", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["whole"] is True


def test_a_model_folder_is_what_its_manifest_says(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = _told(capsys, str(ASSETS / "nano"))
    assert code == 0
    assert sum(line.startswith("✓ whole") for line in lines) == 3
    assert not any("✗" in line for line in lines)


def test_without_a_path_the_usual_places_are_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect"]) == 2
    assert "no folder of models is where they usually are" in capsys.readouterr().err
    fake_safetensors(tmp_path / "home" / "ComfyUI" / "models" / "vae" / "wan_2.1_vae.safetensors", shapes("wan vae"))
    code, lines = _told(capsys)
    assert code == 0
    assert "part video VAE, 16 latent channels" in lines
