"""Job files of the reference implementation: what is read out of them, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infinitetalk.core.errors import RequestError
from infinitetalk.core.input_json import read_input_json
from infinitetalk.core.request import Box, TalkRequest

Read = Callable[..., TalkRequest]
VOICE = (Path("a.wav"),)
TWO = {"person1": "a.wav", "person2": "b.wav"}
BOXES = {"person1": [160, 120, 1280, 1080], "person2": [160, 1320, 1280, 2280]}


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads a job file of some keys; pictures and sounds need not be there."""

    def content(**keys: Any) -> TalkRequest:
        path = tmp_path / "job.json"
        path.write_text(json.dumps({"cond_video": "a.png", "cond_audio": {"person1": "a.wav"}, **keys}))
        return read_input_json(path)

    return content


def test_one_person(read: Read) -> None:
    assert read(prompt="A woman sings") == TalkRequest(image=Path("a.png"), audio=VOICE, prompt="A woman sings")
    assert read(cond_video="A.MP4") == TalkRequest(video=Path("A.MP4"), audio=VOICE)


def test_boxes_have_rows_first(read: Read) -> None:
    found = read(cond_audio=TWO, audio_type="para", bbox=BOXES)
    assert found.boxes == (Box(120, 160, 1080, 1280), Box(1320, 160, 2280, 1280))
    assert (found.audio, found.voices) == ((Path("a.wav"), Path("b.wav")), "parallel")


def test_add_is_one_after_the_other(read: Read) -> None:
    assert read(cond_audio=TWO, audio_type="add").voices == "sequence"


@pytest.mark.parametrize("silent", [1, 2])
def test_nobody_s_sound_is_a_silent_person(read: Read, silent: int) -> None:
    people = TWO | {f"person{silent}": "None"}
    found = read(cond_audio=people, audio_type="para", bbox=BOXES)
    assert [path.name for path in found.audio] == [TWO[f"person{3 - silent}"]]
    assert [box.x0 for box in found.boxes] == ([1320, 120] if silent == 1 else [120, 1320]), "the speaker first"
    halves = read(cond_audio=people, audio_type="para").boxes
    assert (halves[0].x0 > 0.5) == (silent == 1)


def test_a_text_is_spoken_by_kokoro(read: Read) -> None:
    speech = {"text": "(s1) Hello. (s2) Good day.", "human1_voice": "weights/Kokoro-82M/voices/am_adam.pt",
              "human2_voice": "weights/Kokoro-82M/voices/af_heart.pt"}  # fmt: skip
    found = read(cond_audio={}, tts_audio=speech)
    assert (found.text, found.voice) == (speech["text"], ("kokoro:am_adam", "kokoro:af_heart"))


def test_files_are_found_from_the_file_s_own_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout, elsewhere = tmp_path / "checkout", tmp_path / "elsewhere"
    (checkout / "examples" / "single").mkdir(parents=True)
    elsewhere.mkdir()
    for name in ("single/1.wav", "single/a.png"):
        (checkout / "examples" / name).touch()
    job = {"prompt": "p", "cond_video": "examples/single/a.png", "cond_audio": {"person1": "examples/single/1.wav"}}
    (checkout / "examples" / "job.json").write_text(json.dumps(job))
    monkeypatch.chdir(elsewhere)
    found = read_input_json(Path("../checkout/examples/job.json"))
    assert (found.image, found.audio) == (checkout / "examples/single/a.png", (checkout / "examples/single/1.wav",))
    monkeypatch.chdir(checkout)
    assert read_input_json(Path("examples/job.json")).image == Path("examples/single/a.png"), "as the reference reads"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"cond_vidoe": "a.png"}, "cond_vidoe = \"a.png\": is no key of a job file"),
        ({"cond_image": "b.png"}, "cond_video = both: give the path"),
        ({"cond_video": 3}, "cond_video = 3: must be a text"),
        ({"cond_audio": "a.wav"}, 'cond_audio = "a.wav": must name sounds by person'),
        ({"cond_audio": {"anna": "a.wav"}}, "cond_audio = anna: people are called person1 here"),
        ({"cond_audio": {"person1": "None"}}, "somebody must speak"),
        ({"cond_audio": TWO}, "audio_type = null: must be para (voices together) or add"),
        ({"cond_audio": TWO | {"person1": "None"}, "audio_type": "add"}, "person1 has no sound"),
        ({"cond_audio": TWO, "audio_type": "para", "bbox": {"person1": [0, 0, 9, 9]}}, "2 would work"),
        ({"cond_audio": TWO, "audio_type": "para", "bbox": [0, 0, 9, 9]}, "must be boxes by person"),
        ({"bbox": {"person1": [160, 120, 100, 1080]}}, "bbox.person1 = [160, 120, 100, 1080]: must be [first row"),
        ({"bbox": {"person1": [0, 0, 1, 1]}}, "in pixels of the source"),
        ({"bbox": {"person1": [0, 0, "9", 9]}}, "in pixels of the source"),
        ({"bbox": {"person1": [0, 0, float("nan"), 9]}}, "in pixels of the source"),
        ({"tts_audio": {"text": "Hello."}}, "not both"),
        ({"cond_audio": {}, "tts_audio": {"words": "Hello."}}, "tts_audio = words: must be an object of text"),
        ({"cond_audio": {}, "tts_audio": {"text": "Hello."}}, "voice = 0: must be one per speaker"),
        ({"prompt": ["a"]}, 'prompt = ["a"]: must be a text'),
    ],
)  # fmt: skip
def test_refusals_name_the_key_and_what_would_work(read: Read, keys: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(**keys)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read"), ("{", "is not JSON"), ("[" * 100_000, "is not JSON"), ("[]", "must hold one object")],
    ids=["missing", "text", "deep", "list"],
)
def test_files_that_are_no_job_are_refused(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "job.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RequestError, match=said):
        read_input_json(path)
