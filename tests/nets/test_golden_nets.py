"""The DiT and the VAE compute what the reference computed, from weights with the original names."""

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from infinitetalk.core.configs import DiTConfig, VAEConfig
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.vae import VideoVAE

Error = Callable[[Tensor, Tensor], float]
BOUND = 1e-5


def normal(name: str, shape: list[int], seed: int) -> Tensor:
    bits = np.random.Philox(key=[zlib.crc32(name.encode()), seed])
    return torch.from_numpy(np.random.Generator(bits).standard_normal(size=tuple(shape), dtype=np.float32))


@pytest.mark.parametrize("name", ["dit_one_person", "dit_two_people", "dit_head_dim_128_tall"])
@torch.inference_mode()
def test_dit(name: str, golden_case: Callable[[str], Any], relative_error: Error) -> None:
    case = golden_case(name)
    with torch.device("meta"):
        net = AudioDiT(DiTConfig.read(case.meta["config"]))
    net.load_state_dict(case.state, strict=True, assign=True)
    seed = int(case.tensors["audio_seed"])
    generated = {key: normal(key, shape, seed) for key, shape in case.meta["generated"].items()}
    answer = net(
        case.tensors["latent"].unsqueeze(0),
        torch.tensor(case.meta["timestep"]),
        condition=case.tensors["y"],
        audio=generated["audio"],
        masks=case.tensors["masks"],
        text=case.tensors["context"].unsqueeze(0),
        clip=generated["clip_fea"],
    )
    assert relative_error(answer[0], case.tensors["output"]) < BOUND


@torch.inference_mode()
def test_vae(golden_case: Callable[[str], Any], relative_error: Error) -> None:
    case = golden_case("vae")
    with torch.device("meta"):
        net = VideoVAE(VAEConfig.read({key: case.meta[key] for key in ("dim", "z_dim", "mean", "std")}))
    net.load_state_dict(case.state, strict=True, assign=True)
    latent = case.tensors["latent"]
    assert relative_error(net.encode(case.tensors["video"]), latent) < BOUND
    assert relative_error(net.decode(latent), case.tensors["reconstruction"]) < BOUND
    unseen = normal("latent", list(latent.shape), case.meta["weight_seed"])
    assert relative_error(net.decode(unseen), case.tensors["decoded_random_latent"]) < BOUND
