"""`infinitetalk evaluate`, from files to figures and a page."""

import json
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from infinitetalk.cli.main import main
from infinitetalk.evaluate import identity, measure
from infinitetalk.evaluate.clip import voice_of
from infinitetalk.evaluate.measure import Job, evaluate
from infinitetalk.evaluate.page import page
from infinitetalk.media.video import VideoSource
from tests.media.moving import write_video

FIXTURES = Path(__file__).parent / "fixtures"
TALKING = FIXTURES / "speaker.mp4"


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A talking head whose file beside it tells of two windows."""
    path = tmp_path_factory.mktemp("talking") / "talk.mp4"
    shutil.copy(TALKING, path)
    beside = {"format": 1, "request": {}, "windows": [{"first_frame": 0}, {"first_frame": 45}]}
    path.with_name("talk.mp4.json").write_text(json.dumps(beside))
    return path


@pytest.fixture(scope="module")
def facts(talking: Path) -> dict[str, Any]:
    return evaluate(Job(video=talking, truth=talking)).facts


def test_everything_is_measured(facts: dict[str, Any]) -> None:
    assert json.loads(json.dumps(facts)) == facts, "JSON can hold it"
    assert facts["faces_found"] > 0.97
    assert facts["sync"]["peak"] > facts["sync"]["control"] + 0.2
    assert abs(facts["sync"]["offset_ms"]) <= 25
    assert facts["windows"] == [0, 45]
    assert len(facts["color"]["windows"]) == 2
    assert len(facts["steadiness"]["seams"]) == len(facts["steadiness"]["seam_flicker"]) == 1
    assert facts["steadiness"]["seams"][0] > 0
    assert facts["truth"] == {"psnr": 100, "ssim": pytest.approx(1)}
    assert facts["sharpness"]["to_reference"] == pytest.approx(1, abs=0.2)
    assert facts["motion"]["head"] > 0
    assert facts["syncnet"] is None


def test_who_is_seen_is_nearer_to_the_reference_than_anybody_else(facts: dict[str, Any]) -> None:
    if not identity.can_recognise():
        pytest.skip(identity.NEED)
    found = facts["identity"]
    assert found["mean"] < found["other"]
    assert found["same"] < found["other"]
    assert found["nearer_to_other"] == 0


def test_a_page_stands_by_itself(talking: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.html"
    assert main(["evaluate", str(talking), "--output", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads(out.with_suffix(".json").read_text())
    text = out.read_text()
    assert "http" not in text.replace("http://www.w3.org", "")
    assert text.count("<svg") >= 6
    assert text.count("data:image/jpeg;base64,") == 10
    assert len(text) < 400_000


@pytest.fixture(scope="module")
def mute(talking: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of the talking head, without sound."""
    with VideoSource(talking) as source:
        frames = [source.frame_index(index) for index in range(25)]
    return write_video(tmp_path_factory.mktemp("mute") / "mute.mp4", frames)


def test_videos_are_told_side_by_side(
    mute: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "can_recognise", lambda: False)  # who is seen takes most of the time
    copy = shutil.copy(mute, tmp_path / "copy.mp4")
    assert main(["evaluate", "--compare", str(copy), str(mute)]) == 0
    out, err = capsys.readouterr()
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert rows["Sharpness"][1] == rows["Sharpness"][2]
    assert "Lip" not in rows
    assert "mute.mp4: the video has no sound: lip sync is not measured; --audio FILE would give it one" in err
    assert (tmp_path / "copy.mp4.evaluate.html").is_file()
    assert mute.with_name("mute.mp4.evaluate.json").is_file()


def test_without_the_optional_packages_one_line_says_what_is_left_out(
    mute: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "can_recognise", lambda: False)
    result = evaluate(Job(video=mute))
    assert result.facts["identity"] is None
    assert identity.NEED in result.facts["notes"]
    assert "infinitetalk[evaluate]" in page(result)


def test_another_sound_is_seen_not_to_belong(
    talking: Path, facts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from infinitetalk.evaluate.measure import PEOPLE

    monkeypatch.setattr(measure, "can_recognise", lambda: False)  # who is seen is not asked here, and takes long
    found = evaluate(Job(video=talking, audio=PEOPLE / "voice_1.flac")).facts["sync"]
    assert found["together"] < facts["sync"]["together"] - 0.2


def test_a_video_without_a_face_is_measured_as_far_as_it_goes(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (50, 64, 64, 3)).astype(np.uint8)
    result = evaluate(Job(video=write_video(tmp_path / "noise.mp4", [*noise])))
    assert result.facts["faces_found"] == 0
    assert result.facts["sync"] is None
    assert result.facts["identity"] is None
    assert result.facts["motion"]["head"] is None
    assert "nothing to draw" in page(result)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "give one VIDEO, or several with --compare A B"),
        (["none.mp4"], "none.mp4: no such file"),
        (["{}", "--truth", "none.mp4"], "none.mp4: no such file"),
        (["{}", "--output", "page.txt"], "must end with .html"),
        (["{}", "--output", "nowhere/page.html"], "there is no folder nowhere"),
        (["{0}", "--output", "{0}.html"], "would take the place of the settings"),
        (["{}", "--face", "0"], "counted from 1"),
        (["{}", "--face", "3"], "1 face in the first frame"),
        (["{}", "--syncnet", "{}"], "does not hold SyncNet's weights"),
        (["--compare", "{}", "{}", "--output", "page.html"], "--output names one page"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(
    words: list[str], line: str, talking: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *(word.format(talking) for word in words)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert line in err


def test_truths_of_another_shape_are_refused(talking: Path, tmp_path: Path) -> None:
    wide = write_video(tmp_path / "wide.mp4", [np.zeros((64, 128, 3), np.uint8)] * 3)
    assert main(["evaluate", str(talking), "--truth", str(wide)]) == 2


def test_a_sound_that_begins_late_in_its_file_is_heard_late(talking: Path, tmp_path: Path) -> None:
    late = tmp_path / "late.mp4"
    with av.open(str(talking)) as source, av.open(str(late), "w") as target:
        streams = {stream: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is None or packet.pts is None:
                continue
            if packet.stream.type == "audio":
                packet.pts, packet.dts = packet.pts + 3200, packet.dts + 3200
            packet.stream = streams[packet.stream]
            target.mux(packet)
    found = [voice_of(path, 100) for path in (talking, late)]
    first, second = (np.flatnonzero(np.abs(wave[:]) > 0.02)[0] for wave in found if wave is not None)
    assert second - first == pytest.approx(3200, abs=40)
