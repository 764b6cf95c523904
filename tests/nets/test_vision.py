"""CLIP's picture tower: the golden case and transformers' own network."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CLIPVisionModel

from infinitetalk.core.configs import VisionConfig
from infinitetalk.models.vision import VisionEncoder
from infinitetalk.weights.keymaps import VISION
from infinitetalk.weights.load import assemble

Error = Callable[[Tensor, Tensor], float]


@pytest.mark.parametrize("prefix", ["", "visual."])
def test_golden(golden_case: Callable[[str], Any], relative_error: Error, prefix: str) -> None:
    case = golden_case("clip_vision")
    state = {prefix + name: value for name, value in case.state.items()}
    state |= {"textual.token_embedding.weight": torch.ones(2, 2), "log_scale": torch.ones(())} if prefix else {}
    config = VisionConfig.read(case.meta["config"])
    encoder = assemble(lambda: VisionEncoder(config), state, VISION, dtype=torch.float32)
    picture = case.tensors["image"]
    assert relative_error(encoder.pixels(picture), case.tensors["pixel_values"]) < 1e-6
    assert relative_error(encoder.encode(picture), case.tensors["output"]) < 1e-5
    assert torch.equal(encoder.encode(picture[:, :, 0]), encoder.encode(picture))


@pytest.mark.parametrize("prefix", ["", "vision_model."])
def test_hugging_face_layout(prefix: str) -> None:
    config = VisionConfig(image_size=28, dim=16, num_heads=2, num_layers=2)
    torch.manual_seed(0)
    oracle: CLIPVisionModel = VisionEncoder(config).network
    state = {prefix + name: value for name, value in oracle.state_dict().items()}
    state[prefix + "embeddings.position_ids"] = torch.arange(5)[None]
    encoder = assemble(lambda: VisionEncoder(config), state, VISION, dtype=torch.float32)
    pixels = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        states = oracle(pixels, output_hidden_states=True).hidden_states
        torch.testing.assert_close(encoder(pixels), states[1])
    assert not torch.allclose(states[1], states[2], atol=1e-3)


def test_position_numbers_are_real_after_building_without_memory(golden_case: Callable[[str], Any]) -> None:
    case = golden_case("clip_vision")
    config = VisionConfig.read(case.meta["config"])
    encoder = assemble(lambda: VisionEncoder(config), case.state, VISION, dtype=torch.bfloat16)
    (name, numbers), *others = encoder.named_buffers()
    assert not others
    assert name.endswith("position_ids")
    assert numbers.tolist() == [list(range(17))]
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.bfloat16}
    assert encoder.encode(case.tensors["image"]).dtype == torch.bfloat16
