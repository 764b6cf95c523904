"""wav2vec2: the golden case, the oracle's own network and the inputs at its edges."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from infinitetalk.core.configs import SpeechConfig
from infinitetalk.core.errors import ModelError, RequestError
from infinitetalk.engine.model import SpeechPart
from infinitetalk.models.speech import SpeechEncoder, normalise, shortest
from infinitetalk.weights.keymaps import SPEECH
from infinitetalk.weights.load import assemble

Error = Callable[[Tensor, Tensor], float]
SMALL = SpeechConfig(
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=48,
    conv_dim=(16,) * 7,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
)


@pytest.fixture
def encoder() -> SpeechEncoder:
    torch.manual_seed(0)
    return SpeechEncoder(SMALL).eval()


def old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of files from before weight normalisation was a parametrization."""
    pairs = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, old in pairs.items():
        state = {name.replace(new, old): value for name, value in state.items()}
    return state


@pytest.mark.parametrize("rename", [dict, old_names, lambda s: {f"wav2vec2.{name}": v for name, v in s.items()}])
def test_golden(golden_case: Callable[[str], Any], relative_error: Error, rename: Callable[..., Any]) -> None:
    case = golden_case("wav2vec2")
    config = SpeechConfig.read(case.meta["config"])
    encoder = assemble(lambda: SpeechEncoder(config), rename(case.state), SPEECH, dtype=torch.float32)
    heard = encoder.encode(case.tensors["waveform"], case.meta["frames"])
    assert relative_error(heard, case.tensors["embedding"]) < 1e-5


def test_normalise_is_the_feature_extractors() -> None:
    samples = np.random.default_rng(0).normal(0.1, 0.02, 5000).astype(np.float32)
    oracle: Callable[..., Any] = Wav2Vec2FeatureExtractor(do_normalize=True)  # type: ignore[no-untyped-call]
    expected = oracle(samples, sampling_rate=16_000).input_values[0]
    torch.testing.assert_close(normalise(torch.from_numpy(samples)), torch.from_numpy(expected), atol=1e-5, rtol=1e-5)
    assert not normalise(torch.zeros(100)).any()
    part = SpeechPart(SpeechEncoder(SMALL), torch.device("cpu"))
    np.testing.assert_allclose(part.normalise(samples), expected, atol=1e-5, rtol=1e-5)
    assert part.normalise(samples).dtype == np.float32
    assert not part.normalise(np.zeros(100, np.float32)).any()
    plain = SpeechPart(SpeechEncoder(replace(SMALL, do_normalize=False)), torch.device("cpu"))
    assert plain.normalise(samples) is samples


def test_passes_hear_the_same_moved_and_upside_down(encoder: SpeechEncoder, relative_error: Error) -> None:
    waveform, silence = torch.randn(2, 16_000), torch.zeros(2, 200)
    later, earlier = torch.cat([silence, waveform[:, :-200]], 1), torch.cat([waveform[:, 200:], silence], 1)
    with torch.no_grad():
        once = [encoder(heard, 25) for heard in (waveform, -later, earlier)]
        several = SpeechEncoder(replace(SMALL, shifts=(0, 200, -200))).eval()
        several.load_state_dict(encoder.state_dict())
        assert relative_error(several(waveform, 25), torch.stack(once).mean(0)) < 1e-6
        assert relative_error(once[1], once[0]) > 1e-3
        several.network.train(False)
        several.training = True  # without the network's dropout
        assert torch.equal(several(waveform, 25), once[0])


@pytest.mark.parametrize("shifts", [(), (0, 640), (-1000,)])
def test_shifts_that_cannot_be(shifts: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"shifts = \[.*\]: must name one pass or more"):
        SpeechEncoder(replace(SMALL, shifts=shifts))


def test_unstretched_states_are_transformers_own(encoder: SpeechEncoder, relative_error: Error) -> None:
    """Stretching to the length that the features have anyway must change nothing."""
    oracle = Wav2Vec2Model(Wav2Vec2Config(**encoder.network.config.to_diff_dict()))
    oracle.train(False)
    oracle.load_state_dict(encoder.network.state_dict())
    waveform = torch.randn(2, 4000)
    with torch.no_grad():
        states = oracle(waveform, output_hidden_states=True).hidden_states
        heard = encoder(waveform, states[0].shape[1])
    assert heard.shape == (2, 12, 3, 32)
    assert relative_error(heard, torch.stack(states[1:], dim=2)) < 1e-6


def test_later_calls_know_nothing_of_earlier_frames(encoder: SpeechEncoder) -> None:
    waveform = torch.randn(4000)
    first = encoder(waveform, 7)
    encoder(waveform, 30)
    assert torch.equal(encoder(waveform, 7), first)
    assert encoder.network(waveform[None]).last_hidden_state.shape[1] == 12


def test_training_computes_what_talking_does_and_has_gradients(encoder: SpeechEncoder) -> None:
    waveform = torch.randn(3, 4000)
    calm = encoder(waveform, 6)
    busy = encoder.train()(waveform, 6)
    torch.testing.assert_close(busy, calm)
    torch.testing.assert_close(encoder(waveform[1], 6), calm[1], atol=1e-5, rtol=1e-5)
    busy.square().mean().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_shortest_sound(encoder: SpeechEncoder) -> None:
    assert shortest(SpeechConfig()) == 400
    assert encoder.encode(torch.randn(400), 1).shape == (1, 3, 32)
    with pytest.raises(RequestError, match="399 samples: needs at least 400"):
        encoder.encode(torch.randn(399), 1)


def test_silence_is_finite(encoder: SpeechEncoder) -> None:
    assert encoder.encode(torch.zeros(1600), 3).isfinite().all()


def test_quiet_sound_is_raised_only_where_the_model_wants_it(encoder: SpeechEncoder) -> None:
    plain = SpeechEncoder(replace(SMALL, do_normalize=False)).eval()
    plain.load_state_dict(encoder.state_dict())
    quiet = torch.randn(1600) * 1e-3
    torch.testing.assert_close(encoder.encode(quiet, 3), plain.encode(normalise(quiet), 3))
    torch.testing.assert_close(plain.encode(quiet, 3), plain(quiet, 3))
    assert not torch.allclose(plain.encode(quiet, 3), encoder.encode(quiet, 3), atol=1e-2)


def test_uneven_convolutions_are_refused() -> None:
    with pytest.raises(ModelError, match="conv_dim, conv_stride and conv_kernel"):
        SpeechEncoder(SpeechConfig(conv_dim=(16,) * 6))
