"""The whole training of nano in pieces: every stage stops when it must and goes on where it stopped."""

import json
import math
import sys
import time
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from infinitetalk.core.configs import DiTConfig, VAEConfig
from infinitetalk.models.vae import VideoVAE
from training.checkpoint import Progress
from training.clock import RunLog
from training.heads.dataset import ClipBatch
from training.nano import make_data, run, settings, train_dit
from training.nano.encode import encode_all
from training.nano.flow import Kind
from training.nano.latents import ClipLatents
from training.nano.reading import begin
from training.nano.run import Run, Stage
from training.nano.store import FRAMES, PEOPLE, SIZE, create, finished
from training.nano.voices import VoiceBank
from training.speech.encoder import MOUTH

CPU = torch.device("cpu")
TINY = DiTConfig(
    text_dim=0, clip_dim=0, dim=48, ffn_dim=64, num_heads=4, num_layers=1, text_len=0, clip_tokens=0, freq_dim=32,
    audio_blocks=2, audio_channels=8, intermediate_dim=16, output_dim=16, context_tokens=4,
)  # fmt: skip

WORKER = """
import json
import sys
from pathlib import Path
name, folder, total = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
limit = float(sys.argv[5]) if "--at-most" in sys.argv else 1e9
path = folder / f"{name}_progress.json"
before = json.loads(path.read_text())["spent"] if path.exists() else 0.0
spent = before + min(limit, total)
path.write_text(json.dumps({"spent": spent, "seconds": total, "steps": 1, "done": spent >= total}))
(folder / f"{name}-1.safetensors").write_text(f"{spent:.0f}")
sys.exit(3 if name == "broken" else 0)
"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module `worker` that stands for a training: it claims to have used the time that it was given."""
    (tmp_path / "worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")


def stage(name: str, data: Path, seconds: float, *, splits: bool = True) -> Stage:
    return Stage(name, ("worker", name, str(data), str(seconds)), seconds, splits)


@pytest.mark.usefixtures("worker")
def test_a_stage_is_done_over_several_calls(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    work, ends = stage("vae", data, 100.0), []
    for _ in range(3):
        call = Run(data, out, run.STARTING + run.FINISHING + 45)
        ends.append(call.work(work))
    assert ends == [False, False, True]
    assert (out / "vae-1.safetensors").exists()
    with zipfile.ZipFile(out / "notes.zip") as notes:
        assert json.loads(notes.read("vae_progress.json"))["done"]
    begun = time.monotonic()
    assert Run(data, out, 5).work(work), "nothing is left to do"
    assert time.monotonic() - begun < 1


@pytest.mark.usefixtures("worker")
def test_what_cannot_be_split_waits_for_a_call_with_enough_time(tmp_path: Path) -> None:
    whole = stage("speech", tmp_path, 100.0, splits=False)
    assert not Run(tmp_path, tmp_path / "out", run.STARTING + run.FINISHING + 45).work(whole)
    assert not (tmp_path / "speech_progress.json").exists()
    assert Run(tmp_path, tmp_path / "out", run.STARTING + run.FINISHING + 105).work(whole)
    assert (tmp_path / "speech.done").exists()


@pytest.mark.usefixtures("worker")
def test_a_failed_stage_ends_the_call(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="broken failed with exit code 3"):
        Run(tmp_path, tmp_path / "out", 200).work(stage("broken", tmp_path, 10.0))
    assert not (tmp_path / "broken.done").exists()


def test_given_parts_are_not_trained(tmp_path: Path) -> None:
    given, data = tmp_path / "given", tmp_path / "data"
    given.mkdir()
    data.mkdir()
    for name in ("vae-1.safetensors", "vae_config.json", "speech.safetensors", "speech_config.json"):
        (given / name).write_text("x")
    call = Run(data, tmp_path / "out", 100)
    call.take(given, again=["speech"])
    assert (data / "vae.done").exists()
    assert not (data / "speech.done").exists()
    assert call.work(stage("vae", data, 100.0))
    call.copy()
    assert not (tmp_path / "out" / "vae-1.safetensors").exists()


def test_plan_names_commands_that_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run", str(tmp_path), str(tmp_path), "--pilot", "320x8", "384x6@1e-3"])
    stages = run.plan(run.read_options())
    assert [stage.name for stage in stages] == ["speech", "render", "vae", "encode", "pilot", "dit", "export"]
    for one in stages:
        assert (Path.cwd() / one.command[0].replace(".", "/")).with_suffix(".py").exists()


def fake_batch(index: int) -> ClipBatch:
    boxes = torch.ones(1, PEOPLE, FRAMES + 1, 4)
    return ClipBatch(
        frames=torch.full((1, FRAMES, SIZE, SIZE, 3), index, dtype=torch.uint8),
        reference=torch.zeros(1, SIZE, SIZE, 3, dtype=torch.uint8), person_map=torch.zeros(1),
        people=torch.ones(1).long(), weights=torch.zeros(1, PEOPLE, FRAMES + 1, 52), mouth_boxes=boxes,
        eye_boxes=boxes[:, :, :, None], face_boxes=boxes,
        utterance=torch.zeros(1, PEOPLE).long(), start=torch.zeros(1, PEOPLE).long(), strength=torch.ones(1),
    )  # fmt: skip


def test_rendering_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def clips(_count: int, _speech: object, *, first: int, **_: object) -> list[ClipBatch]:
        drawn.append(first)
        return [fake_batch(first)]

    monkeypatch.setattr(make_data, "make_clips", clips)
    store, log = create(tmp_path / "clips", 4), RunLog(tmp_path / "log.txt")
    for part, stop in ((range(0, 4, 2), math.inf), (range(4), 0.0), (range(4), math.inf)):
        make_data.render(store, part, [], "train", renderer=None, log=log, stop=stop)  # type: ignore[arg-type]
    assert drawn == [0, 2, 1, 3]
    assert finished(make_data.opened(tmp_path / "clips", 4, SIZE)).tolist() == [0, 1, 2, 3]
    assert [int(clip[0, 0, 0, 0]) for clip in store.frames] == [0, 1, 2, 3]
    with pytest.raises(SystemExit, match="made for 4 clips, not 5"):
        make_data.opened(tmp_path / "clips", 5, SIZE)


def test_encoding_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.nano.store.SIZE", 32)
    store = create(tmp_path / "clips", 3)
    store.frames[:] = np.random.default_rng(0).integers(0, 256, store.frames.shape)
    store.people[:2] = 1
    ones = (1.0,) * 16
    vae = VideoVAE(VAEConfig(dim=8, dim_mult=(1, 1, 1, 1), num_res_blocks=1, temporal_downsample=(True, True, False),
                             mean=(0.0,) * 16, std=ones)).requires_grad_(False)  # fmt: skip
    vae.init_weights(torch.Generator().manual_seed(0))
    log = RunLog(tmp_path / "log.txt")
    assert not encode_all(vae, tmp_path, CPU, log, stop=0.0)
    assert encode_all(vae, tmp_path, CPU, log, stop=math.inf)
    paths = sorted((tmp_path / "latents").glob("*.pt"))
    assert [path.name for path in paths] == ["clips_000.pt", "mirrored_000.pt"]
    clips = ClipLatents.load(paths, CPU)
    assert clips.count == 4, "the third clip was never rendered"
    assert clips.worn.tolist() == [False, False, True, True]
    assert not torch.equal(clips.video[0], clips.video[2])
    written = [path.stat().st_mtime_ns for path in paths]
    assert encode_all(vae, tmp_path, CPU, log, stop=0.0)
    assert [path.stat().st_mtime_ns for path in paths] == written


def write_latents(data: Path) -> None:
    """Six clips of three latent frames and 4 x 4 cells, and two streams of speech, for training and as held out."""
    draws = torch.Generator().manual_seed(0)
    box = torch.tensor([8.0, 8.0, 20.0, 20.0]).expand(6, 3, 4).clone()

    def draw() -> Tensor:
        return torch.randn(6, 16, 3, 4, 4, generator=draws)

    none = torch.zeros(6, 3).long()
    clips = ClipLatents(draw(), draw(), draw(), draw(), none[:, 0] > 0, none[:, 0] + 1, none, none, box, box, box,
                        torch.ones(6))  # fmt: skip
    offset, length = torch.tensor([0, 15]), torch.tensor([15, 25])
    moves = torch.randn(40, len(MOUTH), generator=draws)
    voices = VoiceBank(torch.randn(40, 2, 8, generator=draws), offset, length, moves=moves)
    (data / "latents").mkdir()
    for prefix, place in (("", data / "latents" / "clips_000.pt"), ("held_", data / "held_latents.pt")):
        clips.save(place)
        voices.save(data / f"{prefix}voices.pt")


def test_transformer_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_latents(tmp_path)
    monkeypatch.setattr(train_dit, "LATENTS", 3)
    monkeypatch.setattr(train_dit, "WINDOW", 9)
    monkeypatch.setattr(train_dit, "begin", partial(begin, steps=3))
    monkeypatch.setattr(train_dit, "MAIN", Kind(1, 3, 2))
    monkeypatch.setattr(train_dit, "SHARES", ((Kind(1, 3, 2), 1.0),))
    monkeypatch.setattr(train_dit, "preview", lambda *_, **__: None)
    monkeypatch.setattr(train_dit, "load_vae", lambda *_: None)
    monkeypatch.setitem(settings.DITS, "tiny", TINY)
    done = []
    for _ in range(3):
        monkeypatch.setattr(sys, "argv", ["train_dit", str(tmp_path), str(tmp_path), "--seconds", "2", "--at-most", "1",
                                          "--config", "tiny@1e-3", "--device", "cpu"])  # fmt: skip
        train_dit.main()
        progress = Progress.read(tmp_path / "dit_progress.json")
        assert progress is not None
        done.append((progress.done, progress.steps))
        if progress.done:
            break
    assert not done[0][0]
    assert done[-1][0]
    assert done[-1][1] > done[0][1] > 0
    assert (tmp_path / "dit-1.safetensors").exists()
    assert DiTConfig.read(json.loads((tmp_path / "dit_config.json").read_text())) == TINY
