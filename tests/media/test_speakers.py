"""Speech from text: scripts, voices, refusals; espeak-ng and the package kokoro themselves where they are installed."""

import json
import shutil
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from infinitetalk.cli.main import main
from infinitetalk.core.errors import MachineError, RequestError
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.script import Turn, read_script
from infinitetalk.engine.journal import Identity
from infinitetalk.media import speakers, spoken
from infinitetalk.media.files import output_sound
from infinitetalk.media.sound import collected
from infinitetalk.runtime.device import Device
from infinitetalk.weights.folder import ModelFolder
from tests.faces.conftest import write_portrait

ESPEAK = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="the program espeak-ng is not installed")


class Whistle:
    """A speaker of one voice: 0.1 s of a tone per word."""

    def voices(self) -> list[str]:
        return ["high"]

    def speak(self, words: str, voice: str) -> tuple[NDArray[np.float32], int]:
        assert voice == "high"
        return np.sin(np.arange(len(words.split()) * 1600) / 4, dtype=np.float32), 16_000


@pytest.fixture
def whistle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speakers, "SPEAKERS", {"whistle": Whistle(), **speakers.SPEAKERS})
    spoken._speak.cache_clear()


def request(**more: Any) -> TalkRequest:
    return TalkRequest(**{"image": Path("face.png"), "text": "Hello.", "voice": "espeak:en", **more})


def test_scripts_are_read() -> None:
    assert read_script("  Hello\n there ") == (Turn(0, "Hello there"),)
    assert read_script("(s1) One. (S2)Two. (s1) Three.") == (Turn(0, "One."), Turn(1, "Two."), Turn(0, "Three."))


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"text": " ... "}, "there is nothing to speak"),
        ({"text": "(s1) Hello. (s2) --"}, r"nothing to speak in the text of \(s2\)"),
        ({"text": "(s1) Hello. (s3) Hi."}, "2 speakers must be s1 to s2"),
        ({"text": "Well, (s1) hello."}, r"before the first \(s1\)"),
        ({"audio": "voice.wav"}, "give a text or sound"),
        ({"voice": ()}, "one per speaker of the text, such as kokoro:af_heart or espeak:en-gb: 1 would work"),
        ({"text": None, "audio": "voice.wav"}, "voice = espeak:en: is for a text"),
        ({"voices": "sequence"}, "take turns by themselves"),
    ],
)
def test_what_cannot_be_spoken_is_refused(more: dict[str, Any], line: str) -> None:
    with pytest.raises(RequestError, match=line):
        request(**more)


@pytest.mark.usefixtures("whistle")
def test_speakers_take_turns_on_one_timeline() -> None:
    both = request(text="(s1) a b (s2) c d e (s1) f", voice=["whistle:high"] * 2)
    assert both.people == both.voice_count == 2
    first, second = (sound.samples[0] for sound in spoken.spoken(both))
    pause = 4000
    assert len(first) == len(second) == 6 * 1600 + 2 * pause
    heard = [np.abs(voice).reshape(-1, 400).max(axis=1) > 0.5 for voice in (first, second)]
    assert not (heard[0] & heard[1]).any()
    assert [int(voice.sum()) for voice in heard] == [12, 12]
    assert heard[0][:8].all()
    assert heard[1][18:30].all()
    np.testing.assert_array_equal(collected(output_sound(both)).samples[0], first + second)
    three = request(text="(s1) a (s2) b (s3) c (s2) d", voice=["whistle:high"] * 3)
    assert three.people == three.voice_count == 3
    loud = [np.abs(sound.samples[0]).reshape(-1, 400).max(axis=1) > 0.5 for sound in spoken.spoken(three)]
    assert [np.flatnonzero(voice)[[0, -1]].tolist() for voice in loud] == [[0, 3], [14, 45], [28, 31]]
    assert np.sum(loud, axis=0).max() == 1, "nobody speaks while another one does"


@pytest.mark.usefixtures("whistle")
def test_unknown_voices_are_told_with_those_that_work() -> None:
    with pytest.raises(RequestError, match="whistle has no such voice; there are high"):
        spoken.spoken(request(voice="whistle:low"))
    with pytest.raises(RequestError, match=r"kokoro has no such voice; there are af_alloy, .*af_heart"):
        spoken.spoken(request(voice="kokoro:nobody"))
    with pytest.raises(RequestError, match="named like kokoro:af_heart or espeak:en-gb"):
        spoken.spoken(request(voice="anna"))


@pytest.mark.usefixtures("whistle")
def test_a_job_knows_a_text_by_how_it_is_spoken(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(model=str(tiny_folder), image=write_portrait(tmp_path / "face.png"), voice="whistle:high")
    known = partial(Identity.of, asked, ModelFolder.open(tiny_folder), Device.choose("cpu"), None)
    first = known().to_json()
    assert known().difference(first) is None
    monkeypatch.setattr(Whistle, "speak", lambda *_: (np.ones(1600, np.float32), 16_000))
    spoken._speak.cache_clear()
    assert known().difference(first) == "the file of the text's speech changed since"


def test_missing_programs_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MachineError, match="need the program espeak-ng"):
        spoken.spoken(request())
    monkeypatch.setitem(sys.modules, "kokoro", None)
    with pytest.raises(MachineError, match="pip install kokoro"):
        spoken.spoken(request(voice="kokoro:af_heart"))


def test_kokoro_is_asked_by_language_and_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the package's border: its weights are on a hub that tests do not reach."""
    asked = []

    def pipeline(**settings: str) -> Any:
        def say(words: str, voice: str) -> list[SimpleNamespace]:
            asked.append((settings["lang_code"], settings["repo_id"], words, voice))
            return [SimpleNamespace(audio=np.full(2400, 0.5, np.float32))] * 2

        return say

    package = ModuleType("kokoro")
    package.KPipeline = pipeline  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kokoro", package)
    samples, rate = speakers.Kokoro().speak("Hello.", "bf_emma")
    assert (len(samples), rate) == (4800, 24_000)
    assert asked == [("b", "hexgrad/Kokoro-82M", "Hello.", "bf_emma")]


SHAPE: Mapping[str, Any] = {
    "n_token": 178, "hidden_dim": 512, "style_dim": 128, "n_layer": 1, "max_dur": 5, "dropout": 0.1, "n_mels": 80,
    "text_encoder_kernel_size": 5,
    "vocab": {letter: number for number, letter in enumerate(" abdefhiklmnoprstuwxyɾβðɣˈ.", 1)},
    "plbert": {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 1},
    "istftnet": {
        "upsample_kernel_sizes": [20, 12], "upsample_rates": [10, 6], "gen_istft_hop_size": 5, "gen_istft_n_fft": 20,
        "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3, 5]], "upsample_initial_channel": 512,
    },
}  # fmt: skip
"""A network of Kokoro's kind, as small as its decoder allows."""


def test_the_real_kokoro_with_random_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Files as the hub has them, in its cache; what is heard is what the package makes of them."""
    pytest.importorskip("kokoro", reason="the extra speech is not installed")
    import torch
    from huggingface_hub import constants
    from kokoro import KModel, KPipeline

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    home = tmp_path / "models--hexgrad--Kokoro-82M"
    files = home / "snapshots" / ("0" * 40)
    (files / "voices").mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0" * 40)
    (files / "config.json").write_text(json.dumps(SHAPE))
    torch.save({}, tmp_path / "none.pth")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = KModel("hexgrad/Kokoro-82M", dict(SHAPE), str(tmp_path / "none.pth")).eval()
        torch.save(torch.randn(510, 1, 256), files / "voices" / "ef_dora.pt")
    parts = ("bert", "bert_encoder", "predictor", "text_encoder", "decoder")
    torch.save({part: getattr(network, part).state_dict() for part in parts}, files / "kokoro-v1_0.pth")
    samples, rate = speakers.Kokoro().speak("Hola, buenas tardes.", "ef_dora")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        again = KModel("hexgrad/Kokoro-82M", str(files / "config.json"), str(files / "kokoro-v1_0.pth")).eval()
        said = list(KPipeline("e", "hexgrad/Kokoro-82M", again)("Hola, buenas tardes.", voice="ef_dora"))
    assert rate == 24_000
    assert len(samples) > 2400
    assert np.ptp(samples) > 0
    np.testing.assert_array_equal(samples, np.concatenate([part.audio.numpy() for part in said]))


@ESPEAK
def test_espeak_speaks_its_languages() -> None:
    program = speakers.Espeak()
    assert len(program.voices()) > 100
    samples, rate = program.speak("-v good morning", "en-gb")
    assert 0.5 < len(samples) / rate < 4
    assert 0.05 < np.abs(samples).max() <= 1
    np.testing.assert_array_equal(program.speak("-v good morning", "en-gb")[0], samples)
    assert len(program.speak("-v good morning, good morning", "en-gb")[0]) > len(samples)


@ESPEAK
def test_a_video_from_a_text(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    face, output = write_portrait(tmp_path / "face.png"), tmp_path / "out.mp4"
    words = ["generate", "--model", tiny_folder, "--image", face, "--steps", 1, "--device", "cpu", "--output", output]
    said = ["--text", "Hello.", "--voice", "espeak:en", "--json"]
    assert main([str(word) for word in (*words, *said)]) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    samples, rate = speakers.Espeak().speak("Hello.", "en")
    assert done["seconds"] == pytest.approx(len(samples) / rate, abs=0.05)
    assert json.loads(output.with_name("out.mp4.json").read_text())["request"]["text"] == "Hello."
