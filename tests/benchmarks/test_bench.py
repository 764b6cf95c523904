"""`infinitetalk bench`: its measurements on tiny networks, others by stand-ins for their checkouts, and refusals."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.parity import narrowed
from infinitetalk.bench import ours, plain, plots, rates, run
from infinitetalk.bench.checkouts import folder, importing
from infinitetalk.bench.random_weights import draw, fill, hollow, inputs, weight
from infinitetalk.bench.task import FORWARD, RATES, STEP, VAE, WINDOW, Task, network_of
from infinitetalk.cli.main import main
from infinitetalk.core import footprint
from infinitetalk.core.errors import InfiniteTalkError, MachineError, RequestError, UsageError
from infinitetalk.models.dit import AudioDiT

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"device": "cpu", "size": (32, 32), "frames": 9, "motion": 5, "steps": 2, "repeats": 1}
NARROW: dict[str, Any] = {"blocks": 1, "heads": 2, "vae_width": 4}


def test_a_task_travels_as_json() -> None:
    task = Task(subject="ours", **SMALL, memory={"attention": "math"}, parts=(FORWARD,))
    assert Task.from_json(task.to_json()) == task
    assert task.new_frames == 4
    assert network_of(Task(subject="ours", **SMALL, **NARROW)) == narrowed(1, 2)


def test_a_model_is_measured_part_by_part(tiny_folder: Path) -> None:
    found = dict(ours.measure(Task(subject="ours", model=str(tiny_folder), **SMALL, text_scale=5, audio_scale=4)))
    assert found["branches"] == 3
    for part in ("forward", "step", "encode", "decode", "window"):
        assert found[f"{part}_seconds"] > 0
    assert found["frames_per_second"] == pytest.approx(4 / found["window_seconds"])
    stages = found["stage_seconds"]
    assert stages["denoising (DiT)"] > 0
    assert sum(stages.values()) <= found["window_seconds"] * 1.001, "one window is measured"
    assert found["window_peak_gib"] > 0.01


def test_only_the_parts_that_are_named_are_measured(tiny_folder: Path) -> None:
    found = ours.measure(Task(subject="ours", model=str(tiny_folder), **SMALL, parts=(VAE,)))
    assert "decode_seconds" in found
    assert not {"forward_seconds", "step_seconds", "window_seconds"} & set(found)


def test_the_plain_network_makes_the_same_window(tiny_folder: Path) -> None:
    found = plain.measure(Task(subject="plain", model=str(tiny_folder), **SMALL, parts=(FORWARD, WINDOW)))
    assert found["dtype"] == "float32"
    assert found["forward_seconds"] > 0
    assert found["window_seconds"] > 0
    assert len(found["times_ours_window_all"]) == SMALL["repeats"]
    assert 0.1 < found["times_ours_window"] < 100


def test_weights_are_the_same_wherever_they_are_drawn() -> None:
    config = narrowed(1, 2)
    first, second = (fill(hollow(lambda: AudioDiT(config)), torch.float32, CPU) for _ in range(2))
    for (name, one), other in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other), name
    assert not torch.equal(draw("a", (8,), torch.float32, CPU), draw("b", (8,), torch.float32, CPU))
    assert weight("norm.weight", (4096,), torch.float32, CPU).mean() == pytest.approx(1, abs=0.01)
    assert weight("q.weight", (256, 1024), torch.float32, CPU).std() == pytest.approx(0.8 / 32, rel=0.05)


def test_a_random_network_keeps_the_size_of_a_signal() -> None:
    task = Task(subject="ours", **SMALL, **NARROW)
    dit, given = fill(hollow(lambda: AudioDiT(network_of(task))), torch.float32, CPU), inputs(task, torch.float32, CPU)
    time = torch.tensor(700.0)
    with torch.inference_mode():
        velocity = dit(given["latent"], time, **{name: given[name] for name in ("condition", "audio", "text", "clip")})
    assert 0.1 < velocity.std() < 10


def test_rates_are_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "SECONDS", 0.0)
    monkeypatch.setattr(rates, "WIDTH", 16)
    found = rates.measure(Task(subject=RATES, **SMALL))
    assert 1e8 < float(str(found["product_rate"])) < 1e14
    assert 1e8 < float(str(found["attention_rate"])) < 1e14


def test_operations_are_split_into_products_and_attention() -> None:
    task = Task(subject="ours", **SMALL)
    config, size, frames = network_of(task), task.pixels, task.frames
    linear = footprint.linear_operations(config, size, frames)
    attends = footprint.attention_operations(config, size, frames, 1)
    assert linear + attends == footprint.forward_operations(config, size, frames, 1)


def _result(subject: str, mode: str = "", **figures: Any) -> run.Result:
    return run.Result(Task(subject=subject, mode=mode, **SMALL), figures)


def test_a_report_has_ratios_and_shares() -> None:
    task = Task(subject="ours", **SMALL)
    work = footprint.forward_operations(network_of(task), task.pixels, task.frames, 1)
    results = [
        _result(RATES, product_rate=work, attention_rate=work, device="card", dtype="bfloat16"),
        _result("ours", forward_seconds=2.0, decode_seconds=1.0, stage_seconds={"denoising (DiT)": 2.0}),
        _result("reference", "sdpa", forward_seconds=5.0, error_to_ours=0.01),
        _result("lightx2v", "Default", error="needs the package loguru"),
    ]
    told = run.report(results)
    first, second, third = told["rows"]
    assert first["share_of_roofline"] == pytest.approx(0.5)
    assert "times_ours_forward" not in first
    assert second["times_ours_forward"] == pytest.approx(2.5)
    assert second["share_of_roofline"] == pytest.approx(0.2)
    assert third["error"] == "needs the package loguru"


def _in_this_process(task: Task) -> run.Figures:
    """Instead of a process of its own, which takes seconds to begin."""
    subjects: dict[str, Any] = {RATES: rates, "ours": ours, "plain": plain}
    found: run.Figures = subjects[task.subject].measure(task)
    return found


def test_a_table_a_file_and_pictures_tell_the_same(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "_measured", _in_this_process)
    monkeypatch.setattr(rates, "SECONDS", 0.0)
    saved, drawn = tmp_path / "figures.json", tmp_path / "pictures"
    words = ["--model", str(tiny_folder), "--size", "32x32", "--frames", "9", "--steps", "1", "--repeats", "1"]
    more = ["--compare", "plain", "--save", str(saved), "--plot", str(drawn), "--device", "cpu"]
    assert main(["bench", *words, *more]) == 0
    out, told = capsys.readouterr()
    report = json.loads(saved.read_text(encoding="utf-8"))
    assert [row["subject"] for row in report["rows"]] == ["ours", "plain", "ours"]
    ratio = report["rows"][1]["times_ours_window"]
    assert ratio > 0
    assert f"({ratio:.2f}x)" in out
    assert report["rates"]["product_rate"] > 0
    assert "4/4  ours, again" in told
    assert sorted(path.name for path in drawn.iterdir()) == ["compared.png", "stages.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--compare", "diffusers=x"], "--compare diffusers: can be plain, reference, lightx2v"),
        (["--random", "--compare", "reference=x"], "--compare reference=x: this folder has no wan/modules"),
        (["--random", "--compare", "lightx2v"], "--compare lightx2v=: this folder has no lightx2v/models"),
        (["--compare", "plain=x"], "plain is our own; leave the folder away"),
        (["--blocks", "2"], "--blocks and --heads are of the random network; add --random"),
        (["--frames", "10"], "frames = 10: must be 4n+1"),
        (["--frames", "1"], "frames = 1: leaves no new frames"),
        (["--size", "33x32"], "size = 33x32: width and height must be multiples of 16"),
        (["--repeats", "0"], "repeats = 0: must be from 1 to 1000"),
        (["--scaling", "x"], "--scaling: is for a picture; say where to with --plot DIR"),
        (["--attention", "fa3"], "attention = fa3"),
        (["--linears", "fp8"], "linears = fp8: products of 8-bit floats need an NVIDIA GPU"),
        (["--gpus", "2"], "--gpus: one GPU is measured here"),
        (["--random", "--model", "nano"], "not allowed with"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--device", "cpu", *words]) == 2
    out, told = capsys.readouterr()
    assert said in told
    assert not out


def test_a_model_of_other_shapes_is_not_compared(
    tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = tmp_path / run.CHECKOUTS["reference"]
    known.parent.mkdir(parents=True)
    known.touch()
    assert main(["bench", "--model", str(tiny_folder), "--compare", f"reference={tmp_path}", "--device", "cpu"]) == 2
    assert "its network has the 14B model's shapes; add --random" in capsys.readouterr().err


def test_weights_that_cannot_fit_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infinitetalk.runtime.device.available_memory", lambda: 2**30)
    with pytest.raises(MachineError, match=r"random weights take 70\.\d GiB here and 1\.0 are free; --model nano"):
        ours.measure(Task(subject="ours", **SMALL))


def test_a_package_that_is_lacking_is_told_by_its_name() -> None:
    with (
        pytest.raises(MachineError, match="LightX2V needs the package loguru: pip install loguru"),
        importing("LightX2V"),
    ):
        raise ModuleNotFoundError("No module named 'loguru'", name="loguru.more")


def test_a_folder_is_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"this folder has no wan/x\.py"):
        folder("reference", str(tmp_path), "wan/x.py")


def test_lightx2v_is_asked_in_all_ways_that_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "find_spec", lambda name: object() if name in ("fa3_fwd_interface", "triton") else None)
    base = Task(subject="ours", **SMALL)
    work = run.tasks(base, {"lightx2v": "x", "reference": "y"}, gpu=True, fp8=True, attends=("fa3", "fp8"))
    assert [task.name for task in work] == [
        "rates", "ours", "ours, fp8", "ours, fp8, attention too", "ours, int8",
        "lightx2v, Default, flash_attn3", "lightx2v, Default, torch_sdpa",
        "lightx2v, fp8-torchao, flash_attn3", "lightx2v, fp8-triton, flash_attn3",
        "lightx2v, int8-triton, flash_attn3",
        "reference, sdpa", "reference, flash", "ours, again",
    ]  # fmt: skip
    assert work[3].memory == {"linears": "fp8", "attention": "fp8"}
    assert work[4].memory == {"linears": "int8"}
    assert work[5].parts == (FORWARD, STEP, VAE, WINDOW)
    old = run.tasks(base, {"lightx2v": "x"}, gpu=True, fp8=False)
    assert not [task for task in old if "fp8" in task.mode]
    assert [task.mode for task in run.tasks(base, {"lightx2v": "x"}, gpu=False, fp8=False)][2] == "Default, torch_sdpa"


def test_answers_are_held_against_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter((torch.ones(4), torch.tensor([1.0, 1.0, 1.0, 1.2]), torch.ones(4)))

    def answered(task: Task) -> run.Figures:
        torch.save(next(answers), str(task.answer))
        return {}

    monkeypatch.setattr(run, "_measured", answered)
    first, second, third = run.run([Task(subject="ours", **SMALL, parts=(FORWARD,))] * 3)
    assert "error_to_ours" not in first.figures
    assert second.figures["error_to_ours"] == pytest.approx(0.1)
    assert third.figures["error_to_ours"] == 0


def test_time_that_is_up_is_told() -> None:
    (result,) = run.run([Task(subject="ours", **SMALL)], until=0.0)
    assert result.error == "not begun: the time was up"


def test_a_process_that_fails_is_told_in_one_line() -> None:
    (result,) = run.run([Task(subject="nobody", **SMALL, parts=())])
    assert "nobody" in str(result.error)
    (wrong,) = run.run([Task(subject="reference", checkout="nowhere", **SMALL, parts=())])
    assert "this folder has no wan/modules" in str(wrong.error)


def test_scaling_wants_one_gpu_and_more(tmp_path: Path) -> None:
    path = tmp_path / "parallel.json"
    parts = {
        "on_4: start": {"start_seconds": 9.0},
        "on_4: forward": {"gpus": 4, "seconds": 0.8, "alone_seconds": 3.0},
        "on_4: live": {"gpus": 4, "seconds_between_chunks": 0.7},
        "on_4: live_on_one": {"gpus": 1, "seconds_between_chunks": 2.1},
        "on_4: windows": {"gpus": 4, "seconds": 3.0},
        "on_2: forward": {"gpus": 2, "seconds": 1.6, "alone_seconds": 3.1},
        "on_2: live": {"error": "no memory"},
        "not_tried": ["on_4: exchanges"],
    }
    path.write_text(json.dumps({"torch": "2.11", "environment": {}, "exact": parts}), encoding="utf-8")
    expected = {"exact: forward": {4: 0.8, 1: 3.0, 2: 1.6}, "exact: live": {4: 0.7, 1: 2.1}}
    assert plots.read_scaling(path) == expected
    (drawn,) = plots.draw({"rows": []}, tmp_path, path)
    assert drawn.name == "scaling.png"
    assert drawn.read_bytes().startswith(b"\x89PNG")
    path.write_text(json.dumps({"exact": {"on_4: windows": parts["on_4: windows"]}}), encoding="utf-8")
    with pytest.raises(RequestError, match="nothing that was measured on one GPU and on more"):
        plots.check(tmp_path, path)
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(RequestError, match=r"must be the JSON of benchmarks\.parallel"):
        plots.check(tmp_path, path)


def test_pictures_need_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda _name: None)
    with pytest.raises(InfiniteTalkError, match=r"pip install 'infinitetalk\[bench\]'"):
        plots.check(tmp_path, None)


REFERENCE = '''
"""Our network under the reference's interface."""

import torch
from infinitetalk.core.configs import DiTConfig
from infinitetalk.models.dit import AudioDiT

flash_attention = None

class WanModel(AudioDiT):
    def __init__(self, weight_init, **settings):
        super().__init__(DiTConfig(**settings))

    def init_freqs(self):
        self.freqs = torch.zeros(1)

    def forward(self, x, t, context, seq_len, clip_fea, y, audio, ref_target_masks):
        assert ref_target_masks.shape[0] == 3 and seq_len * 4 == x[0][0].numel()
        return super().forward(x[0][None], t, condition=y, audio=audio, text=context[0][None], clip=clip_fea)[0]
'''


def test_the_reference_is_asked_in_a_process_of_its_own_on_our_weights(tmp_path: Path) -> None:
    (tmp_path / "wan/modules").mkdir(parents=True)
    (tmp_path / "wan/utils").mkdir()
    (tmp_path / "wan/modules/multitalk_model.py").write_text(REFERENCE, encoding="utf-8")
    (tmp_path / "wan/modules/attention.py").touch()
    (tmp_path / "wan/utils/multitalk_utils.py").write_text("calculate_x_ref_attn_map = None\n", encoding="utf-8")
    base = Task(subject="ours", **SMALL, **NARROW)
    work = run.tasks(base, {"reference": str(tmp_path)}, gpu=False, fp8=False)
    (asked,) = [task for task in work if task.subject == "reference"]
    answer = tmp_path / "answer.pt"
    found = run._measured(replace(asked, parts=(FORWARD,), answer=str(answer)))
    assert found["forward_seconds"] > 0
    task = replace(asked, subject="ours")
    dit = fill(hollow(lambda: AudioDiT(network_of(task))), torch.float32, CPU)
    given = inputs(task, torch.float32, CPU)
    told = {name: given[name] for name in ("condition", "audio", "text", "clip")}
    with torch.inference_mode():
        velocity = dit(given["latent"], torch.tensor(700.0), **told)
    assert torch.allclose(torch.load(answer, weights_only=True), velocity, atol=1e-5)
