"""What the terminal refuses: one clear line, exit code 2, before a weight is loaded."""

import json
import shutil
import struct
import subprocess
import sys
import wave
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infinitetalk.cli.main import main
from infinitetalk.engine.job import Workshop
from tests.faces.test_loras import write_lora


@dataclass(frozen=True)
class Desk:
    """Files to make mistakes with."""

    folder: Path
    tiny: Path
    portrait: Path
    voice: Path

    def path(self, name: str) -> Path:
        return self.folder / name

    def bytes(self, name: str, content: bytes) -> Path:
        self.path(name).write_bytes(content)
        return self.path(name)

    def picture(self, name: str, width: int, height: int) -> Path:
        Image.new("RGB", (width, height), (90, 120, 150)).save(self.path(name))
        return self.path(name)

    def mask(self, name: str, value: int) -> Path:
        Image.new("L", (96, 96), value).save(self.path(name))
        return self.path(name)

    def huge_picture(self, name: str) -> Path:
        """A PNG that claims 20,000 x 20,000 pixels in its header and holds none."""
        header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
        chunks = (header, b"IDAT" + zlib.compress(b""), b"IEND")
        parts = (struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in chunks)
        return self.bytes(name, b"\x89PNG\r\n\x1a\n" + b"".join(parts))

    def sound(self, name: str, samples: int) -> Path:
        with wave.open(str(self.path(name)), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes(np.zeros(samples, "<i2").tobytes())
        return self.path(name)

    def voices(self) -> list[Path]:
        """The sounds of two people."""
        return [self.sound("a.wav", 9000), self.sound("b.wav", 9000)]

    def float_sound(self, name: str, value: float) -> Path:
        """32-bit float WAV, which may hold what is no number."""
        data = np.full(8000, value, "<f4").tobytes()
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, 16_000, 64_000, 4, 32)
        body = b"WAVE" + form + struct.pack("<4sI", b"data", len(data)) + data
        return self.bytes(name, struct.pack("<4sI", b"RIFF", len(body)) + body)

    def model(self, change: Callable[[Path], None]) -> Path:
        """A copy of `tiny` with something wrong."""
        copy = self.path("model")
        shutil.copytree(self.tiny, copy)
        change(copy)
        return copy

    def model_without(self, part: str) -> Path:
        def drop(copy: Path) -> None:
            content = json.loads((copy / "model.json").read_text())
            del content["parts"][part]
            (copy / "model.json").write_text(json.dumps(content))

        return self.model(drop)

    def model_of_no_words(self) -> Path:
        def drop(copy: Path) -> None:
            content = json.loads((copy / "model.json").read_text())
            del content["parts"]["text"]
            content["parts"]["dit"]["config"]["text_dim"] = 0
            (copy / "model.json").write_text(json.dumps(content))

        return self.model(drop)


Words = Mapping[str, object]
Case = Callable[[Desk], Words]

# What is wrong → (flags that differ from a job that works: a list repeats one, None drops it), what the line must say.
CASES: Mapping[str, tuple[Case, tuple[str, ...]]] = {
    "missing picture": (lambda desk: {"image": desk.path("none.png")}, ("none.png", "no such file")),
    "empty picture": (lambda desk: {"image": desk.bytes("empty.png", b"")}, ("empty.png", "empty")),
    "folder as picture": (lambda desk: {"image": desk.folder}, ("is a folder",)),
    "text as picture": (lambda desk: {"image": desk.bytes("text.png", b"hello " * 99)}, ("text.png", "picture")),
    "picture of one pixel": (lambda desk: {"image": desk.picture("dot.png", 1, 1)}, ("dot.png", "1x1", "16x16")),
    "picture over 100 megapixels": (
        lambda desk: {"image": desk.huge_picture("huge.png")},
        ("400 megapixels", "up to 100"),
    ),
    "missing sound": (lambda desk: {"audio": desk.path("none.wav")}, ("none.wav", "no such file")),
    "empty sound": (lambda desk: {"audio": desk.bytes("empty.wav", b"")}, ("empty.wav", "empty")),
    "text as sound": (lambda desk: {"audio": desk.bytes("text.wav", b"hello " * 99)}, ("text.wav",)),
    "picture as sound": (lambda desk: {"audio": desk.picture("face.png", 64, 64)}, ("face.png",)),
    "sound without samples": (lambda desk: {"audio": desk.sound("none.wav", 0)}, ("none.wav", "0.1 s")),
    "sound under 0.1 s": (lambda desk: {"audio": desk.sound("short.wav", 1000)}, ("short.wav", "0.062 s", "0.1 s")),
    "sound of no numbers": (lambda desk: {"audio": desk.float_sound("nan.wav", float("nan"))}, ("nan.wav", "finite")),
    "endless sound": (lambda desk: {"audio": desk.float_sound("inf.wav", float("inf"))}, ("inf.wav", "finite")),
    "missing video": (lambda desk: {"image": None, "video": desk.path("none.mp4")}, ("none.mp4", "no such file")),
    "text as video": (lambda desk: {"image": None, "video": desk.bytes("a.mp4", b"hello " * 99)}, ("a.mp4",)),
    "picture and video": (lambda desk: {"video": desk.path("clip.mp4")}, ("image", "exactly one")),
    "neither picture nor video": (lambda _: {"image": None}, ("image", "exactly one")),
    "sound too short for the reference": (
        lambda desk: {"reference": True, "audio": desk.sound("short.wav", 8000)},
        ("audio = 12 frames", "longer than the 13 frames"),
    ),
    "no sound at all": (lambda _: {"audio": None}, ("audio", "at least one")),
    "no such model": (lambda _: {"model": "nothing"}, ("nothing", "no such folder", "bundled")),
    "model without vae": (lambda desk: {"model": desk.model_without("vae")}, ("no part vae",)),
    "model without text": (lambda desk: {"model": desk.model_without("text")}, ("part text", "lacking")),
    "model without its weights": (
        lambda desk: {"model": desk.model(lambda copy: next(copy.glob("*VAE*")).unlink())},
        ("part vae", "not there"),
    ),
    "prompt without text part": (
        lambda desk: {"model": desk.model_of_no_words(), "prompt": "a singer"},
        ("prompt = a singer", "no text part"),
    ),
    "negative prompt without text part": (
        lambda desk: {"model": desk.model_of_no_words(), "negative-prompt": "noise"},
        ("negative_prompt = noise", "no text part"),
    ),
    "text scale without text part": (
        lambda desk: {"model": desk.model_of_no_words(), "text-scale": 3},
        ("text_scale = 3", "no text part"),
    ),
    "motion for a model that did not learn it": (
        lambda desk: {"model": desk.model_of_no_words(), "motion": 0},
        ("motion = 0", "did not learn it", "leave it out"),
    ),
    "more than twice the motion": (lambda _: {"motion": 3}, ("motion = 3", "at most 2")),
    "window of 80 frames": (lambda _: {"window-frames": 80}, ("window_frames = 80", "4n+1", "81 would work")),
    "window not longer than motion": (lambda _: {"window-frames": 9, "motion-frames": 9}, ("motion_frames = 9",)),
    "size of 100 pixels": (lambda _: {"size": "100x64"}, ("100x64", "multiples of 16", "96x64")),
    "size without numbers": (lambda _: {"size": "large"}, ("size = large", "WIDTHxHEIGHT")),
    "size table of another model": (lambda _: {"size": "720"}, ("size = 720", "64")),
    "no steps": (lambda _: {"steps": 0}, ("steps = 0", "at least 1")),
    "26 motion frames": (lambda _: {"motion-frames": 26}, ("motion_frames = 26", "at most 25")),
    "negative seed": (lambda _: {"seed": -1}, ("seed = -1", "at least 0")),
    "shift of no number": (lambda _: {"shift": "nan"}, ("shift = nan", "finite")),
    "endless duration": (lambda _: {"duration": "inf"}, ("duration = inf", "finite")),
    "scale out of range": (lambda _: {"audio-scale": 1000}, ("audio_scale = 1000", "at most 100")),
    "unknown framing": (lambda _: {"framing": "squeeze"}, ("framing = squeeze", "crop, face, letterbox")),
    "quality out of range": (lambda _: {"quality": 52}, ("quality = 52", "at most 51")),
    "start behind the end": (lambda _: {"start": 60}, ("start = 60", "1.2")),
    "two voices and no places": (
        lambda desk: {"audio": desk.voices()},
        ("2 voices", "no face found", "a box or a mask for each person"),
    ),
    "two voices and one box": (
        lambda desk: {"audio": desk.voices(), "box": "0,0,.5,1"},
        ("boxes = 1", "2 would work"),
    ),
    "box inside out": (lambda _: {"box": "0.5,0,0.2,1"}, ("x0 < x1",)),
    "box beyond the picture": (
        lambda desk: {"audio": desk.voices(), "box": ["10,10,500,90", "0,0,9,9"]},
        ("500", "x up to 96"),
    ),
    "box for the only voice": (lambda _: {"box": "0,0,.5,1"}, ("boxes = 1", "a single voice needs no place")),
    "empty mask": (
        lambda desk: {"audio": desk.voices(), "mask": [desk.mask("white.png", 255), desk.mask("black.png", 0)]},
        ("black.png", "the mask is empty"),
    ),
    "place of which nothing is left": (
        lambda desk: {"audio": desk.voices(), "box": ["0,0,.01,.01", ".5,0,1,1"]},
        ("boxes = (0.0, 0.0, 0.01, 0.01)", "nothing of it is left"),
    ),
    "missing LoRA": (lambda desk: {"lora": desk.path("none.safetensors")}, ("none.safetensors", "no such file")),
    "picture as LoRA": (lambda desk: {"lora": desk.picture("face.png", 64, 64)}, ("face.png", ".safetensors")),
    "cut-off LoRA": (
        lambda desk: {"lora": desk.bytes("cut.safetensors", b"\x40" + bytes(7) + b'{"a":')},
        ("cut.safetensors", "get it again"),
    ),
    "LoRA for another model": (
        lambda desk: {"lora": write_lora(desk.path("small.safetensors"), width=1536)},
        ("small.safetensors", "is for another model (Wan 2.1 1.3B)", "[128, 128]", "[1536, 1536]"),
    ),
    "LoRA that names nothing": (
        lambda desk: {"lora": write_lora(desk.path("sdxl.safetensors"), ("down_blocks.0.attn.to_q",))},
        ("sdxl.safetensors", "none of its 3 keys", "lora_unet_down_blocks_0_attn_to_q"),
    ),
    "LoRA with a strange key": (
        lambda desk: {"lora": write_lora(desk.path("odd.safetensors"), ("blocks.0.self_attn.q", "blocks.0.extra"))},
        ("odd.safetensors", "3 of its 6 keys match nothing", "lora_unet_blocks_0_extra.alpha"),
    ),
    "LoRA of no strength": (lambda _: {"lora": "a.safetensors:nan"}, ("a.safetensors:nan", "finite")),
    "two LoRAs and one scale": (
        lambda desk: {"lora_dir": [desk.path("a"), desk.path("b")], "lora_scale": 1.2},
        ("lora_scale = 1.2", "one per LoRA: 2 would work"),
    ),
    "unknown device": (lambda _: {"device": "abacus"}, ("device = abacus", "cpu, cuda, cuda:1 or mps would work")),
    "attention back end that does not exist": (
        lambda _: {"attention": "xformers"},
        ("attention = xformers: must be auto, math, flash, cudnn",),
    ),
    "size of no end": (lambda _: {"size": "160000x160000"}, ("size = 160000x160000", "at most 4096")),
    "output folder that is not there": (lambda desk: {"output": desk.path("no/out.mp4")}, ("no/out.mp4", "no folder")),
    "output that is a folder": (lambda desk: {"output": desk.folder}, ("output",)),
    "output of another kind": (lambda desk: {"output": desk.path("out.avi")}, ("out.avi", "out.mp4 would work")),
    "request that is not there": (lambda desk: {"request": desk.path("none.json")}, ("none.json", "cannot be read")),
    "request that is no JSON": (lambda desk: {"request": desk.bytes("bad.json", b"{")}, ("bad.json", "not JSON")),
    "request with an unknown setting": (
        lambda desk: {"request": desk.bytes("odd.json", b'{"request": {"colour": 1}}')},
        ("colour", "no setting"),
    ),
}


@pytest.fixture
def desk(tmp_path: Path, tiny_folder: Path, portrait: Path, voice: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    def refuse(*_: object) -> None:
        pytest.fail("weights were about to be loaded")

    monkeypatch.setattr(Workshop, "engine", refuse)
    return Desk(tmp_path, tiny_folder, portrait, voice)


def words(flags: Words) -> list[str]:
    line = []
    for flag, value in flags.items():
        for one in value if isinstance(value, list) else [] if value is None else [value]:
            line.append(f"--{flag}" if one is True else f"--{flag}={one}")
    return line


@pytest.mark.parametrize("name", CASES)
def test_refusals(name: str, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    build, told = CASES[name]
    output = desk.path("out.mp4")
    usual: Words = {"model": desk.tiny, "image": desk.portrait, "audio": desk.voice, "output": output}
    code = main(["generate", *words({**usual, **build(desk)})])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert code == 2
    for part in told:
        assert part in captured.err
    assert not output.exists()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("generate --model none --image a.png --audio b.wav", "model none: there is no such folder"),
        ("generate --image a.png --audio b.wav --window-frames 80", "window_frames = 80"),
        ("generate --steps many", "'many' is not a whole number"),
        ("generate --colour", "--colour is not known here"),
        ("models none", "DIR = none"),
        ("verify none", "none: there is no such folder"),
    ],
)
def test_refusals_in_json_too(line: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*line.split(), "--json"]) == 2
    captured = capsys.readouterr()
    event = json.loads(captured.out)
    assert (event["event"], event["exit_code"]) == ("error", 2)
    assert told in event["message"]
    assert captured.err == f"error: {event['message']}\n"


def test_files_are_refused_before_torch_is_imported(tiny_folder: Path, portrait: Path, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("hello " * 99)
    flags = {"model": tiny_folder, "image": portrait, "audio": tmp_path / "text.wav", "output": tmp_path / "out.mp4"}
    program = "import sys; from infinitetalk.cli.main import main; code = main(sys.argv[1:]); "
    program += "sys.exit(9 if 'torch' in sys.modules else code)"
    command = [sys.executable, "-c", program, "generate", *words(flags)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr


@pytest.mark.parametrize(
    ("card", "told"),
    [
        ("", "cudnn: it needs an NVIDIA GPU, and this runs on "),
        ("t4", "flash: it needs compute capability from 8.0, and Tesla T4 has 7.5; auto, math, efficient would work"),
        ("h100", "fa3: FlashAttention-3 is not installed: pip install fa3-fwd; auto, math, flash, cudnn, efficient w"),
    ],
)
def test_an_attention_back_end_that_this_machine_lacks(
    card: str, told: str, desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("INFINITETALK_PRETEND", card)
    flags: Words = {"model": desk.tiny, "image": desk.portrait, "audio": desk.voice, "output": desk.path("out.mp4")}
    assert main(["generate", *words(flags), "--attention", told.partition(":")[0], "--quiet"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: attention = {told}")
    assert captured.err.count("\n") == 1
    assert not desk.path("out.mp4").exists()


def test_a_device_that_is_not_there_is_the_machines_fault(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    flags: Words = {"model": desk.tiny, "image": desk.portrait, "audio": desk.voice, "output": desk.path("out.mp4")}
    assert main(["generate", *words(flags), "--device", "cuda", "--quiet"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: device = cuda: ")
    assert captured.err.count("\n") == 1
