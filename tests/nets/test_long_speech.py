"""Long sounds piece by piece: what the encoder gives for the whole file."""

import numpy as np
import pytest
import torch
from torch import Tensor

from infinitetalk.core.configs import SpeechConfig
from infinitetalk.core.sizes import SAMPLES_PER_FRAME
from infinitetalk.core.windows import plan
from infinitetalk.engine.model import SpeechPart
from infinitetalk.engine.voices import PIECE as SHORT
from infinitetalk.engine.voices import PaddedVoices
from infinitetalk.models.long_speech import PIECE, Rows, encode_long, fits
from infinitetalk.models.speech import SpeechEncoder, normalise
from infinitetalk.weights.folder import ModelFolder
from infinitetalk.weights.locate import bundled
from tools.make_tiny import SPEECH, random_state


def talking(frames: int, seed: int = 0) -> Tensor:
    """Bursts of coloured noise with pauses, at levels that change, so that no piece is like the whole."""
    draw = np.random.default_rng(seed)
    noise = np.cumsum(draw.standard_normal(frames * SAMPLES_PER_FRAME)) % 7 - 3.5
    level = np.repeat(draw.uniform(0, 1, frames // 10 + 1) ** 3, 10 * SAMPLES_PER_FRAME)[: len(noise)]
    return normalise(torch.from_numpy((noise * level).astype(np.float32)))


def small(**changes: object) -> SpeechEncoder:
    """An encoder of random weights."""
    torch.manual_seed(0)
    from dataclasses import replace

    encoder = SpeechEncoder(replace(SPEECH, **changes)).eval()  # type: ignore[arg-type]
    state = random_state({name: tuple(value.shape) for name, value in encoder.state_dict().items()}, 0)
    encoder.load_state_dict(state)
    return encoder


def apart(encoder: SpeechEncoder, frames: int) -> float:
    """Relative difference of a long sound's features to the whole file's."""
    sound = talking(frames)
    with torch.no_grad():
        whole = encoder(sound, frames)
    got = encode_long(encoder, lambda begin, end: sound[begin:end], frames).part(range(frames))
    assert got.shape == whole.shape
    return float((got - whole).flatten(1).norm(dim=1).div(whole.flatten(1).norm(dim=1)).max())


@pytest.mark.parametrize("frames", [2 * PIECE + 123, 4 * PIECE + 1, 20])
@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True},
        {"shifts": (-240, 0, 639), "conv_bias": True},
    ],
)
def test_pieces_give_what_the_whole_gives(kind: dict[str, object], frames: int) -> None:
    assert apart(small(**kind), frames) <= 1e-3


@pytest.mark.skipif("nano" not in bundled(), reason="the tree has no nano")
def test_nano_hears_the_same() -> None:
    from infinitetalk.engine.model import load_model
    from infinitetalk.runtime.device import Device

    speech = load_model(ModelFolder.open("nano"), Device.choose("cpu")).speech
    assert isinstance(speech, SpeechPart)
    assert apart(speech.encoder, 4 * PIECE + 321) <= 1e-3


def test_overlap_alone_would_not_do() -> None:
    """The reason for all this: 250 frames of context on both sides leave 1 % and more."""
    encoder, frames = small(), 2500
    sound = talking(frames)
    with torch.no_grad():
        whole = encoder(sound, frames)[1000:1500]
        part = encoder(sound[750 * SAMPLES_PER_FRAME : 1750 * SAMPLES_PER_FRAME], 1000)[250:750]
    assert float((part - whole).norm() / whole.norm()) > 1e-2


def test_windows_of_a_long_voice_hear_the_whole() -> None:
    part = SpeechPart(small(), torch.device("cpu"))
    total = SHORT + 300
    sound = talking(total).numpy()[: -SAMPLES_PER_FRAME * 30]
    windows = plan([total], 81, 9)
    frames = windows[-1].end + 2
    voices = PaddedVoices(part, [sound], frames=frames, width=5, reach=83)
    assert voices.pieces(windows) == 1
    level = part.normalise(sound)
    padded = torch.from_numpy(np.pad(level, (0, frames * SAMPLES_PER_FRAME - len(level))))
    with torch.no_grad():
        whole = part.encoder(padded, frames)
    for window in (windows[0], windows[7], windows[-1]):
        heard = voices.hear(window)[0]
        places = (torch.arange(window.start, window.end)[:, None] + torch.arange(-2, 3)).clamp(0, frames - 1)
        assert float((heard - whole[places]).norm() / heard.norm()) <= 1e-3


def test_encoders_that_do_not_fit_say_so() -> None:
    assert fits(small())
    assert not fits(
        SpeechEncoder(SpeechConfig(conv_dim=(8, 8), conv_kernel=(10, 3), conv_stride=(5, 2), num_feat_extract_layers=2))
    )


def test_rows_come_back() -> None:
    rows = Rows(3)
    values = torch.arange(30.0).view(10, 3)
    rows.append(values[:4])
    rows.append(values[4:])
    assert torch.equal(rows.read(-2, 6), values[:6])
    assert torch.equal(rows.read(8, 20), values[8:])
