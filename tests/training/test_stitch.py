"""Another speech encoder for a transformer that knows one."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from infinitetalk.core.configs import DiTConfig
from infinitetalk.models.audio_attention import AudioProjection
from infinitetalk.models.speech import SpeechEncoder
from tools.make_tiny import SPEECH
from training.nano.stitch import fit, predict, stitched

CONFIG = DiTConfig(audio_blocks=2, audio_channels=4, intermediate_dim=16, output_dim=8, context_tokens=3)


def projection() -> AudioProjection:
    torch.manual_seed(0)
    return AudioProjection(CONFIG)


def named(layers: AudioProjection) -> dict[str, Tensor]:
    return {f"audio_proj.{name}": value for name, value in layers.state_dict().items()}


def test_new_features_do_what_the_old_ones_did() -> None:
    """Old features that are a linear function of new ones: the stitched layers answer these as they did those."""
    torch.manual_seed(1)
    new, matrix, constant = torch.randn(600, 8), torch.randn(8, 8) / 3, torch.randn(8)
    prediction = predict(new @ matrix.T + constant, new)
    assert prediction.explained == pytest.approx(1, abs=1e-4)
    before, after = projection(), projection()
    after.load_state_dict(
        {name.partition(".")[2]: value for name, value in stitched(named(before), prediction).items()}
    )
    heard = torch.randn(1, 9, 5, 2, 4)
    known = (heard.flatten(3) @ matrix.T + constant).unflatten(3, (2, 4))
    with torch.no_grad():
        assert float((after(heard) - before(known)).norm() / before(known).norm()) < 1e-2
        assert float((before(heard) - before(known)).norm() / before(known).norm()) > 0.1


def test_what_cannot_be_predicted_is_told() -> None:
    torch.manual_seed(2)
    new = torch.randn(4000, 3)
    assert predict(torch.cat([new, torch.randn(4000, 3)], dim=1), new).explained == pytest.approx(0.5, abs=0.02)


def test_an_encoder_predicts_itself_and_not_another() -> None:
    streams = [torch.randn(640 * 50) for _ in range(8)]
    torch.manual_seed(0)
    one, other = (SpeechEncoder(replace(SPEECH, do_normalize=True)).eval() for _ in range(2))
    assert fit(one, one, streams).explained > 0.999 > fit(one, other, streams).explained


def test_other_networks_are_refused() -> None:
    prediction = predict(torch.randn(20, 3), torch.randn(20, 3))
    with pytest.raises(ValueError, match=r"proj1 does not take frames of 3 features"):
        stitched(named(projection()), prediction)
    with pytest.raises(ValueError, match=r"proj1 does not take"):
        stitched({}, prediction)
