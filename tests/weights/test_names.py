"""The tables of names agree with this package's networks and, through the key maps, with other people's."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from infinitetalk.core.configs import DiTConfig, NetConfig, SpeechConfig, TextConfig, VAEConfig, VisionConfig
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.speech import SpeechEncoder
from infinitetalk.models.text import TextEncoder
from infinitetalk.models.vae import VideoVAE
from infinitetalk.models.vision import VisionEncoder
from infinitetalk.weights import keymaps, names
from infinitetalk.weights.keymaps import KeyMap
from tests.weights.key_lists import adapter, shapes
from tools import make_tiny

NETWORKS: dict[type[NetConfig], Callable[..., nn.Module]] = {
    DiTConfig: AudioDiT, VAEConfig: VideoVAE, TextConfig: TextEncoder, VisionConfig: VisionEncoder,
    SpeechConfig: SpeechEncoder,
}  # fmt: skip
CONFIGS: list[NetConfig] = [
    DiTConfig(), VAEConfig(), TextConfig(), VisionConfig(), SpeechConfig(),
    make_tiny.DIT, make_tiny.VAE, make_tiny.TEXT, make_tiny.VISION, make_tiny.SPEECH,
    DiTConfig(dim=128, num_heads=2, num_layers=2, ffn_dim=64, text_dim=0, clip_dim=0),
    DiTConfig(dim=128, num_heads=2, num_layers=2, ffn_dim=64, text_dim=0),
    DiTConfig(dim=128, num_heads=2, num_layers=2, ffn_dim=64, clip_dim=0),
    SpeechConfig(feat_extract_norm="layer", conv_bias=True, do_stable_layer_norm=True, num_hidden_layers=1),
]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_the_tables_are_the_networks(config: NetConfig) -> None:
    with torch.device("meta"):
        network = NETWORKS[type(config)](config)
    seen: dict[int, str] = {}
    first = {
        name: tuple(tensor.shape)
        for name, tensor in network.state_dict(keep_vars=True).items()
        if seen.setdefault(id(tensor), name) == name
    }
    assert dict(names.expected(config)) == first


def mapped(network: str, keymap: KeyMap) -> dict[str, tuple[int, ...]]:
    """Where another's tensors go, and the shapes with which they arrive."""
    arrived: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes(network).items():
        if keymap.is_extra(name):
            continue
        for target, value in keymap.convert(name, torch.empty(shape, device="meta")):
            assert target not in arrived, (name, target)
            arrived[target] = tuple(value.shape)
    return arrived


@pytest.mark.parametrize(
    ("network", "keymap", "table"),
    [
        ("meigen merged", keymaps.DIT, names.dit(DiTConfig())),
        ("flashtalk", keymaps.DIT, names.dit(DiTConfig())),
        ("wan i2v 14B", keymaps.DIT, names.dit_base(DiTConfig())),
        ("diffusers i2v 14B", keymaps.DIT, names.dit_base(DiTConfig())),
        ("wan vae", keymaps.VAE, names.vae(VAEConfig())),
        ("diffusers vae", keymaps.VAE, names.vae(VAEConfig())),
        ("wan t5", keymaps.TEXT, names.text(TextConfig())),
        ("hf umt5", keymaps.TEXT, names.text(TextConfig())),
        ("gguf umt5", keymaps.TEXT, names.text(TextConfig())),
        ("wan clip", keymaps.VISION, names.vision(VisionConfig())),
        ("hf clip", keymaps.VISION, names.vision(VisionConfig())),
        ("hf clip tower", keymaps.VISION, names.vision(VisionConfig())),
        ("hf wav2vec2", keymaps.SPEECH, names.speech(SpeechConfig())),
        ("hf wav2vec2 ctc", keymaps.SPEECH, names.speech(SpeechConfig())),
        ("hf wav2vec2 pretraining", keymaps.SPEECH, names.speech(SpeechConfig())),
    ],
)
def test_others_networks_fill_ours_without_a_rest(
    network: str, keymap: KeyMap, table: dict[str, tuple[int, ...]]
) -> None:
    assert mapped(network, keymap) == dict(table)


def test_the_adapter_is_the_330_tensors_that_the_base_lacks() -> None:
    assert adapter() == dict(names.dit_audio(DiTConfig()))
    assert len(adapter()) == 330
    assert sum(map(math.prod, adapter().values())) == 2_487_168_000


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "diffusion_model.", "model."])
def test_a_program_may_put_a_word_before_every_name(prefix: str) -> None:
    for name in shapes("diffusers i2v 14B").keys() | shapes("meigen merged").keys():
        assert keymaps.DIT.targets(prefix + name) == keymaps.DIT.targets(name)
    for name in shapes("wan vae").keys() | shapes("diffusers vae").keys():
        assert keymaps.VAE.targets("model." + name) == keymaps.VAE.targets(name)
