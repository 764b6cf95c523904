"""The studio without a browser: its counter, its door, its form, and the flags of `app.py`."""

import errno
import json
import runpy
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from html import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio.components import Component
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from infinitetalk.app import app, door, telling, widgets
from infinitetalk.app.app import build
from infinitetalk.app.banner import Machine
from infinitetalk.app.door import COOKIE, login, owner_of
from infinitetalk.app.studio import Studio
from infinitetalk.app.tickets import Counter, RefusedError, Ticket
from infinitetalk.app.vetting import Vetting
from infinitetalk.cli import app as command
from infinitetalk.cli.command import command_parser
from infinitetalk.cli.main import main
from infinitetalk.core.errors import InfiniteTalkError, MachineError, RequestError
from infinitetalk.core.knobs import CONTROLS, from_form
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.serving import ServiceLimits
from infinitetalk.engine.job import Job, Made, Workshop
from infinitetalk.engine.progress import Progress
from infinitetalk.jobs.queue import JobQueue
from infinitetalk.jobs.record import JobState
from infinitetalk.weights.folder import ModelFolder

ROOT = Path(__file__).parents[2]
FORM = tuple(control.name for control in CONTROLS)


class Forgetful(Workshop):
    """A machine without memory for the first job it is given."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.lacks = True

    def make(self, job: Job, listener: Progress | None = None) -> Made:
        """Fails once."""
        if self.lacks:
            self.lacks = False
            raise MachineError("cuda:0: out of memory while making a window; --size 480 would fit")
        return super().make(job, listener)


@pytest.fixture
def counter(tmp_path: Path) -> Iterator[Counter]:
    with JobQueue(tmp_path / "jobs", Forgetful()) as queue:
        yield Counter(queue)


@pytest.fixture
def form(tiny_folder: Path, portrait: Path, voice: Path) -> dict[str, Any]:
    return {"model": str(tiny_folder), "image": str(portrait), "audio": [str(voice)], "duration": "0.4", "steps": "1"}


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    from tests.faces.conftest import write_portrait

    return write_portrait(tmp_path / "Anna's portrait.png")


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    from tests.faces.conftest import write_voice

    return write_voice(tmp_path / "voice.wav", 1.2)


def ended(counter: Counter, ticket: Ticket, owner: str) -> Ticket:
    """The job when it is over."""
    *_, _ = counter.queue.watch(ticket.key, owner)
    found = counter.find(ticket.key, owner)
    assert found is not None
    return found


def test_memory_that_lacks_is_one_sentence_and_the_next_job_is_made(counter: Counter, form: dict[str, Any]) -> None:
    failed = ended(counter, counter.submit("anna", form), "anna")
    assert failed.record.state is JobState.FAILED
    assert failed.line == "cuda:0: out of memory while making a window; --size 480 would fit"
    assert "Go on" in telling.cards([failed])
    done = ended(counter, counter.submit("anna", form), "anna")
    assert done.has_video
    counter.queue.go_on(failed.key, "anna")
    again = ended(counter, failed, "anna")
    assert again.record.state is JobState.DONE
    assert again.files.video.read_bytes()[4:8] == b"ftyp"
    assert [ticket.key for ticket in counter.mine("anna")] == [done.key, failed.key]
    assert counter.mine("ben") == []
    assert counter.find(done.key, "ben") is None


def test_files_keep_their_users_names_in_what_is_told_only(counter: Counter, form: dict[str, Any]) -> None:
    ticket = ended(counter, counter.submit("anna", form), "anna")
    assert sorted(path.name for path in ticket.files.inputs.iterdir()) == ["audio-0.wav", "image-0.png"]
    assert "Anna&#x27;s portrait.png" in telling.cards([ticket])
    assert str(ticket.files.folder) not in telling.cards([ticket])
    assert sorted(ticket.names.values()) == ["Anna's portrait.png", "voice.wav"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": "empty.png"}, "empty.png"),
        ({"audio": ["notes.wav"]}, "notes.wav"),
        ({"image": ""}, "give a picture (image) or a video"),
        ({"window_frames": "80"}, "81 would work"),
        ({"steps": "many"}, "is not a whole number"),
    ],
)
def test_what_cannot_be_made_is_refused_at_once_and_leaves_nothing(
    change: dict[str, Any], said: str, counter: Counter, form: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.wav").write_text("no sound")
    moved = {name: [str(tmp_path / part) for part in value] if isinstance(value, list) else
             str(tmp_path / value) if name == "image" and value else value
             for name, value in change.items()}  # fmt: skip
    with pytest.raises(InfiniteTalkError) as refused:
        counter.submit("anna", {**form, **moved})
    assert said in str(refused.value)
    assert str(tmp_path) not in str(refused.value)
    assert counter.mine("anna") == []
    assert list((counter.queue.folder / "files").glob("*")) == []


def test_the_video_goes_on_from_its_first_window(counter: Counter, form: dict[str, Any], tmp_path: Path) -> None:
    counter.queue._worker._maker.lacks = False  # type: ignore[attr-defined]
    form = {**form, "duration": "1"}
    first = ended(counter, counter.submit("anna", {**form, "preview": True}), "anna")
    assert "window 1 of" in first.line
    assert "goes on from here" in telling.outcome(first)
    assert "Make the rest" in telling.cards([first])
    again = Path(shutil.copyfile(form["image"], tmp_path / "uploaded again.png"))
    for other, owner in (({"seed": "7"}, "anna"), ({"image": str(form["image"])}, "ben")):
        assert counter.submit(owner, {**form, **other}).key != first.key, "another video, or another's"
    whole = ended(counter, counter.submit("anna", {**form, "image": str(again)}), "anna")
    assert whole.key == first.key
    assert "resumed at window 1" in whole.notes
    assert whole.line.startswith("1.0 s")
    assert counter.submit("anna", form).key != first.key, "a whole video is not begun again"


def test_a_full_disk_is_one_sentence_and_the_service_goes_on(
    counter: Counter, form: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("infinitetalk.jobs.files.shutil.copyfile", full)
        with pytest.raises(RefusedError, match=r"copied \(No space left on device\)"):
            counter.submit("anna", form)
    counter.submit("anna", form)


def test_a_model_that_is_gone_is_one_sentence(
    counter: Counter, form: dict[str, Any], tiny_folder: Path, tmp_path: Path
) -> None:
    place = tmp_path / "model"
    place.symlink_to(tiny_folder)
    form = {**form, "model": str(place)}
    place.unlink()
    with pytest.raises(InfiniteTalkError, match="there is no such folder"):
        counter.submit("anna", form)
    assert list((counter.queue.folder / "files").glob("*")) == []
    place.symlink_to(tiny_folder)
    counter.submit("anna", form)


def test_files_of_strangers_are_decoded_in_a_limited_process(counter: Counter, form: dict[str, Any]) -> None:
    strict = Counter(counter.queue, Vetting.of(ServiceLimits(max_source_pixels=0.001)))
    with pytest.raises(InfiniteTalkError, match=r"Anna's portrait\.png.*pixels"):
        strict.submit("anna", form)
    short = Counter(counter.queue, Vetting.of(ServiceLimits(max_seconds=0.5)))
    with pytest.raises(InfiniteTalkError, match=r"^voice\.wav.*long"):
        short.submit("anna", form)
    passing = Counter(counter.queue, Vetting.of(ServiceLimits()))
    passing.submit("anna", form)
    assert len(passing.vetting.passed) == 2


def given(**values: Any) -> TalkRequest:
    """A request from values as JSON has them."""
    return TalkRequest(**values)


def test_forms_come_back_as_they_were(portrait: Path, voice: Path, tmp_path: Path) -> None:
    """What widgets show for a request gives the same request again."""
    lora = tmp_path / "face.safetensors"
    request = given(
        image=portrait, audio=(voice, voice), boxes=((0, 0, 0.5, 1), (0.5, 0, 1, 1)), masks=(), seed=7, steps=3,
        loras=((str(lora), 0.8),), audio_strength=("1:0.5@1-2", 2), prompts=("0-1:hello: there",), noise_floor=25.5,
        prompt="a\nb", apg=True, recipe="quality",
    )  # fmt: skip
    names = (*FORM, "audio")
    assert from_form(widgets.collect(names, widgets.filled(names, request))) == request
    spoken = TalkRequest(image=portrait, text="(s1) a (s2) b", voice=("espeak:en", "espeak:de"))
    assert from_form(widgets.collect(names, widgets.filled(names, spoken))) == spoken


def studio(counter: Counter, scratch: Path, **more: Any) -> Studio:
    return Studio(counter, Machine(Workshop("cpu"), "cpu", None, scratch), FORM, scratch, **more)


def test_a_job_that_ends_between_two_looks_is_looked_at_again(
    counter: Counter, form: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = owner_of({}, "page")
    done = ended(counter, counter.submit(owner, form), owner)
    at_work = replace(done, record=replace(done.record, state=JobState.RUNNING))
    looks = iter([at_work, done, done, done])
    monkeypatch.setattr(Counter, "find", lambda *_: next(looks))
    monkeypatch.setattr(Counter, "mine", lambda *_: [next(looks)])
    browser: Any = SimpleNamespace(cookies={}, session_hash="page")
    _, seen, progress, _, _, _, _, timer = studio(counter, tmp_path).look(browser, done.key, None)
    assert progress and timer["active"], "what is shown at work is looked at again"
    _, _, progress, told, _, _, _, timer = studio(counter, tmp_path).look(browser, done.key, seen)
    assert not progress and told and not timer["active"]


def test_files_of_the_server_cannot_be_named_from_elsewhere(counter: Counter, tmp_path: Path) -> None:
    request = TalkRequest(image=Path("a.png"), audio=(Path("a.wav"),))
    lora = given(image=Path("a.png"), audio=(Path("a.wav"),), loras=("/srv/face.safetensors",))
    there, here = studio(counter, tmp_path, local=False), studio(counter, tmp_path)
    assert there._form(widgets.filled(FORM, request))
    assert here._form(widgets.filled(FORM, lora))
    with pytest.raises(RequestError, match="cannot be named from elsewhere"):
        there._form(widgets.filled(FORM, lora))
    chosen = studio(counter, tmp_path, local=False, usual={"loras": lora.loras})
    assert chosen._form(widgets.filled(FORM, lora)), "what the server's own user chose may be sent back"


def test_every_setting_has_a_widget_and_its_help(tiny_folder: Path, tmp_path: Path, counter: Counter) -> None:
    page = build(counter, Machine(Workshop("cpu"), "cpu", None, tmp_path), str(tiny_folder), uploads=tmp_path)
    drawn = list(page.blocks.values())
    told = " ".join(
        f"{getattr(block, 'info', '')} {block.value if isinstance(block, gr.HTML) else ''}" for block in drawn
    )
    labels = {block.label for block in drawn if isinstance(block, Component)}
    special = {"image": "Picture", "audio": "Voice", "text": "What is said", "voice": "Speakers", "recipe": "Preset"}
    assert {special.get(control.name, control.label) for control in CONTROLS} <= labels
    assert [control.name for control in CONTROLS if escape(control.knob.help) not in told
            and control.knob.help not in told] == []  # fmt: skip


def test_presets_are_those_that_a_model_can_follow(tiny_folder: Path) -> None:
    facts = ModelFolder.open(str(tiny_folder)).facts
    (update,) = widgets.fitted(("recipe",), facts, {})
    assert [value for _, value in update["choices"]] == [""], "a model made for two steps has its own alone"


def test_motion_is_asked_where_the_model_learned_it(tiny_folder: Path) -> None:
    facts = ModelFolder.open(str(tiny_folder)).facts
    (hidden,) = widgets.fitted(("motion",), facts, {})
    assert (hidden["visible"], hidden["value"]) == (False, None)
    (shown,) = widgets.fitted(("motion",), replace(facts, motion=0.3), {})
    assert shown["visible"] and "value" not in shown


def test_a_login_is_given_or_made() -> None:
    assert login(None, share=False) is None
    made = login(None, share=True)
    assert made is not None
    assert made.made
    assert len(made.password) >= 12
    assert made.password != (login(None, share=True) or made).password


@pytest.mark.parametrize("given", ["anna", ":secret", "anna:", ""])
def test_a_login_that_is_none_is_refused_without_repeating_it(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", f"--auth={given}"]) == 2
    assert capsys.readouterr().err == "error: auth = (hidden): must be USER:PASSWORD such as anna:correct-horse\n"


def test_the_environment_gives_the_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(door.AUTH_VARIABLE, "anna:se:cret")
    assert login(None, share=True) == ("anna", "se:cret", False)
    assert login("ben:other", share=True) == ("ben", "other", False)


def test_a_browser_gets_one_cookie_and_sees_its_own_files_alone(counter: Counter, form: dict[str, Any]) -> None:
    page = Route("/", lambda _: PlainTextResponse("page"))
    served = door.Sessions(Starlette(routes=[page, *door.routes(counter.queue)]))
    anna, ben = TestClient(served), TestClient(served)
    for client in (anna, ben):
        given = client.get("/").headers["set-cookie"]
        assert "HttpOnly" in given
        assert "set-cookie" not in client.get("/").headers
    counter.queue._worker._maker.lacks = False  # type: ignore[attr-defined]
    owner = owner_of({COOKIE: anna.cookies[COOKIE]}, None)
    ticket = ended(counter, counter.submit(owner, form), owner)
    for what in ("video", "settings", "live/index.m3u8", "live/window-00000.ts"):
        assert anna.get(f"/studio/{ticket.key}/{what}").status_code == 200, what
        assert ben.get(f"/studio/{ticket.key}/{what}").status_code == 404, what
        assert TestClient(served).get(f"/studio/{ticket.key}/{what}").status_code == 404, what
    assert anna.get(f"/studio/{ticket.key}/live/..%2Ftalking.mp4").status_code == 404
    assert anna.get("/studio/..%2Fjobs.sqlite/video").status_code == 404
    told = anna.get(f"/studio/{ticket.key}/settings").json()
    assert told["request"]["image"] == "Anna's portrait.png"
    assert str(counter.queue.folder) not in json.dumps(told)


def test_a_shared_page_has_a_password_and_says_it(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Up to the call that opens the tunnel, which is recorded instead."""
    called: list[dict[str, Any]] = []

    def tunnel(**given: Any) -> str:
        called.append(given)
        return "https://0123456789abcdef.gradio.live"

    monkeypatch.setattr("gradio.networking.setup_tunnel", tunnel)
    app.launch(str(tiny_folder), share=True, device="cpu", folder=tmp_path / "jobs", wait=False)
    told = capsys.readouterr().out
    assert "https://0123456789abcdef.gradio.live" in told
    (line,) = [line for line in told.splitlines() if line.startswith("Log in as studio with the password ")]
    assert len(line.split()[-1]) >= 12
    assert called[0]["local_host"] == "127.0.0.1"
    assert called[0]["local_port"] > 0


def test_a_page_with_a_login_shows_nothing_before(tiny_folder: Path, tmp_path: Path) -> None:
    import httpx

    login_of = door.Login("anna", "secret")
    with app.serving(
        str(tiny_folder), host="127.0.0.1", port=None, share=False, device="cpu", folder=tmp_path / "jobs",
        protect=login_of,
    ) as page:  # fmt: skip
        address = str(page.local_url)
        assert httpx.get(f"{address}config").status_code == 401
        wrong = httpx.post(f"{address}login", data={"username": "anna", "password": "guess"})
        assert wrong.status_code == 400
        with httpx.Client() as client:
            assert client.post(f"{address}login", data={"username": "anna", "password": "secret"}).status_code == 200
            assert client.get(f"{address}config").status_code == 200


def settled(*words: str) -> tuple[str, dict[str, Any]]:
    """Model and starting values that a command line of `app.py` gives."""
    arguments = command_parser(command.COMMAND).parse_args(words)
    model, usual = command._settle(arguments)
    return model, dict(usual)


def test_the_references_flags() -> None:
    """The command line of the reference's own documentation, word by word."""
    model, usual = settled(
        *("--ckpt_dir", "weights/Wan2.1-I2V-14B-480P", "--wav2vec_dir", "weights/chinese-wav2vec2-base"),
        *("--infinitetalk_dir", "weights/InfiniteTalk/single/infinitetalk.safetensors"),
        *("--num_persistent_param_in_dit", "0", "--motion_frame", "9", "--streaming"),
        *("--lora_dir", "a.safetensors", "b.safetensors", "--lora_scale", "0.8", "1.2"),
    )
    assert model.split(",") == [
        "weights/Wan2.1-I2V-14B-480P",
        "weights/InfiniteTalk/single/infinitetalk.safetensors",
        "weights/chinese-wav2vec2-base",
    ]
    assert usual["motion_frames"] == 9
    assert [(str(lora.path), lora.strength) for lora in usual["loras"]] == [
        ("a.safetensors", 0.8),
        ("b.safetensors", 1.2),
    ]
    assert set(usual) == {"motion_frames", "loras"}


def test_the_references_weights_in_fewer_bits(capsys: pytest.CaptureFixture[str]) -> None:
    model, _ = settled(
        *("--ckpt_dir", "wan", "--infinitetalk_dir", "single", "--wav2vec_dir", "speech", "--quant", "fp8"),
        *("--quant_dir", "infinitetalk_single_fp8.safetensors"),
    )
    assert model == "wan,infinitetalk_single_fp8.safetensors,speech"
    assert "--infinitetalk_dir single is not read" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--quant", "int8"), "quant = int8: needs the file, with --quant_dir"),
        (("--infinitetalk_dir", "x"), "infinitetalk_dir = x: needs the folder"),
        (("--ckpt_dir", "x"), "ckpt_dir = x: needs the adapter"),
        (("--ckpt_dir", "x", "--model", "nano"), "model = nano: give a model or --ckpt_dir"),
        (("--motion_frame", "99"), "motion_frames = 99: must be at most 25"),
        (("--lora_scale", "1"), "lora_scale = 1: needs the files"),
        (("--streaming", "--mode", "clip"), "mode = clip: give this or --streaming"),
    ],
)
def test_flags_that_do_not_go_together(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", *words]) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")


def test_app_py_is_five_lines_that_open_the_studio(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = ROOT / "app.py"
    assert len([line for line in script.read_text().splitlines() if line and not line.startswith('"""')]) <= 5
    monkeypatch.setattr(sys, "argv", [str(script), "--ckpt_dir", "nowhere", "--infinitetalk_dir", "no"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "nowhere" in told
    assert told.count("\n") == 1
    assert (
        shutil.which("python") is None
        or "--num_persistent_param_in_dit" in command_parser(command.COMMAND).format_help()
    )
