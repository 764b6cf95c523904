"""Voices without music for the network's ears: Demucs behind a stub, and the real package where it is installed."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from infinitetalk.cli.main import main
from infinitetalk.core.defaults import ModelFacts
from infinitetalk.core.errors import MachineError, RequestError
from infinitetalk.core.request import TalkRequest
from infinitetalk.engine.journal import Identity
from infinitetalk.media import separation
from infinitetalk.media.files import FileMedia, check, output_sound
from infinitetalk.media.hearing import for_speech
from infinitetalk.media.long_sound import at_rate
from infinitetalk.media.separation import FILE, NETWORK, REPOSITORY, HTDemucs
from infinitetalk.media.sound import Sound, collected, read_sound
from tests.faces.conftest import write_portrait, write_voice
from tests.media.conftest import FIXTURES

SOURCES = ["drums", "bass", "other", "vocals"]


def put(cache: Path, notes: dict[str, str], tensors: dict[str, Tensor] | None = None) -> Path:
    """The network's file in the hub's cache."""
    home = cache / f"models--{REPOSITORY.replace('/', '--')}"
    path = home / "snapshots" / ("0" * 40) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    (home / "refs").mkdir(exist_ok=True)
    (home / "refs" / "main").write_text("0" * 40)
    save_file(tensors or {"one": torch.ones(1)}, path, metadata=notes)
    return path


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of the hub, and no hub behind it."""
    from huggingface_hub import constants

    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


@pytest.fixture
def stub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The package's two functions. The left channel counts as the voice; gives what was heard."""
    heard = list[Tensor]()

    def load(path: Path) -> SimpleNamespace:
        assert path.name == FILE
        return SimpleNamespace(samplerate=44_100, sources=SOURCES)

    def apply(network: Any, mix: Tensor, *, shifts: int, split: bool, device: str) -> Tensor:
        assert (network.sources, shifts, split, device) == (SOURCES, 0, True, "cpu")
        heard.append(mix[0])
        stems = mix.new_zeros(1, 4, *mix.shape[1:])
        stems[:, 3] = mix[:, :1]
        return stems

    for name, content in (("hf", {"load_safetensors_model": load}), ("apply", {"apply_model": apply})):
        module = ModuleType(f"demucs.{name}")
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(sys.modules, "demucs", ModuleType("demucs"))
    put(cache, {"klass": NETWORK})
    return heard


def stereo(seconds: float, rate: int = 22_050) -> Sound:
    """A voice left, music right."""
    times = np.arange(round(seconds * rate)) / rate
    voice = 0.3 * np.sin(2 * np.pi * 150 * times) * (0.6 + 0.4 * np.sin(2 * np.pi * 0.7 * times))
    return Sound(np.stack([voice, 0.4 * np.sin(2 * np.pi * 1000 * times)]).astype(np.float32), rate, "stereo")


def test_pieces_join_without_a_seam(stub: list[Tensor]) -> None:
    sound = stereo(130.5)
    voices = HTDemucs().vocals(sound)
    assert (voices.rate, voices.layout) == (44_100, "mono")
    meant = collected(at_rate(sound, 44_100)).samples[0]
    assert abs(voices.samples.shape[1] - len(meant)) <= 1
    end = min(voices.samples.shape[1], len(meant)) - 100
    np.testing.assert_allclose(voices.samples[0, :end], meant[:end], atol=1e-4)
    assert [mix.shape[1] // 44_100 for mix in stub] == [68, 76, 18], "a minute and what lies around"
    assert abs(float(stub[0].mean())) < 0.01
    assert float(stub[1].mean(0).std()) == pytest.approx(1, abs=0.05), "at the level that the network was trained at"


@pytest.mark.parametrize("name", ["s16.wav", "5.1.ac3"])
def test_any_number_of_channels_is_heard(name: str, stub: list[Tensor]) -> None:
    sound = read_sound(FIXTURES / name)
    assert HTDemucs().vocals(sound).seconds == pytest.approx(sound.seconds, abs=1e-3)
    assert stub[0].shape[0] == 2


def test_the_network_hears_the_voice_and_the_video_carries_all(stub: list[Tensor], tmp_path: Path) -> None:
    sound = stereo(1)
    soundfile.write(tmp_path / "song.wav", sound.samples.T, sound.rate, subtype="FLOAT")
    plain = TalkRequest(image=write_portrait(tmp_path / "face.png"), audio=(tmp_path / "song.wav",))
    asked = TalkRequest(image=plain.image, audio=plain.audio, separate="vocals")
    np.testing.assert_array_equal(collected(output_sound(asked)).samples, sound.samples)
    assert not stub
    (heard,), (mixed,) = FileMedia().open(asked).voices, FileMedia().open(plain).voices
    voice = for_speech(Sound(sound.samples[:1], sound.rate, "mono"))
    assert correlation(heard[:], voice) > 0.999
    assert correlation(mixed[:], voice) < 0.9


def correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    length = min(len(one), len(other))
    return float(np.corrcoef(one[:length], other[:length])[0, 1])


def test_a_job_separates_once(
    stub: list[Tensor], tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infinitetalk.engine.journal.version", lambda name: f"version of {name}")
    pins = list[dict[str, Any]]()
    identity = Identity.of

    def noted(*given: Any) -> Identity:
        made = identity(*given)
        pins.append(dict(made.pins))
        return made

    monkeypatch.setattr(Identity, "of", noted)
    image, audio = write_portrait(tmp_path / "face.png"), write_voice(tmp_path / "voice.wav", 0.5)
    words = ["--model", tiny_folder, "--image", image, "--audio", audio, "--steps", "1", "--separate", "vocals"]
    output = tmp_path / "out.mp4"
    assert main(["generate", *map(str, words), "--device", "cpu", "--quiet", "--output", str(output)]) == 0
    assert len(stub) == 1
    assert json.loads(Path(f"{output}.json").read_text())["request"]["separate"] == "vocals"
    assert pins[0]["demucs"] == "version of demucs"


def refuse(tmp_path: Path, facts: ModelFacts, line: str) -> None:
    image, audio = write_portrait(tmp_path / "face.png"), write_voice(tmp_path / "voice.wav", 0.5)
    with pytest.raises(MachineError, match=line):
        check(TalkRequest(image=image, audio=(audio,), separate="vocals"), facts)


def test_a_package_that_is_missing_is_named(tmp_path: Path, facts: ModelFacts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "demucs", None)
    for name in [name for name in sys.modules if name.startswith("demucs.")]:
        monkeypatch.delitem(sys.modules, name)
    refuse(tmp_path, facts, r"needs the package demucs \(.*\): pip install 'infinitetalk\[vocals\]'")


@pytest.mark.usefixtures("stub")
def test_weights_that_are_missing_or_others_are_named(tmp_path: Path, facts: ModelFacts, cache: Path) -> None:
    for notes in ({"klass": "os.system"}, {"klass": NETWORK, "structure": "{}"}, {}):
        path = put(cache, notes)
        refuse(tmp_path, facts, f"{FILE}: is not the network {NETWORK} as it was published; get it again")
    path.write_bytes(b"no weights")
    refuse(tmp_path, facts, f"{FILE}: cannot be read")
    path.unlink()
    refuse(tmp_path, facts, f"needs the weights {FILE} of {REPOSITORY} .*; get them with: hf download {REPOSITORY} ")


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"audio": (Path("v.wav"),), "reference": True}, "separate = vocals: the reference has no such thing"),
        ({"text": "Hello.", "voice": ("espeak:en",)}, "separate = vocals: a text is spoken without music"),
    ],
)
def test_where_it_means_nothing(more: dict[str, Any], line: str) -> None:
    with pytest.raises(RequestError, match=line):
        TalkRequest(image=Path("face.png"), separate="vocals", **more)


def test_the_real_package_with_random_weights(cache: Path) -> None:
    """A small network of the published kind, stored as its author stores it."""
    pytest.importorskip("demucs.hf", reason="the extra vocals is not installed")
    from demucs.apply import apply_model
    from demucs.htdemucs import HTDemucs as Network

    torch.manual_seed(0)
    shape = {"channels": 8, "depth": 2, "t_layers": 1, "t_heads": 2, "bottom_channels": 0, "segment": 2}
    network = Network(SOURCES, **shape).eval()
    notes = {"klass": NETWORK, "args": json.dumps([SOURCES]), "kwargs": json.dumps(shape)}
    put(cache, notes, {name: value.contiguous() for name, value in network.state_dict().items()})
    separation.SEPARATORS["vocals"].require()
    sound = stereo(3, 44_100)
    voices = HTDemucs().vocals(sound)
    mono = sound.samples.mean(0)
    level = (torch.from_numpy(sound.samples) - float(mono.mean())) / float(mono.std())
    with torch.inference_mode():
        meant = apply_model(network, level[None], shifts=0)[0, 3].mean(0).numpy() * mono.std() + mono.mean()
    np.testing.assert_allclose(voices.samples[0], meant, atol=1e-4)
    np.testing.assert_array_equal(HTDemucs().vocals(sound).samples, voices.samples)
