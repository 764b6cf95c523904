"""Networks of which `benchmarks.quantisation` measures what fewer bits cost: the bundled one, and a random one."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.parity import inputs
from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.loras import DISTILLED_SHIFT
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import Latents
from infinitetalk.diffusion.sampler import euler
from infinitetalk.diffusion.schedule import timesteps
from infinitetalk.engine.codec import decode
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.model import Model
from infinitetalk.engine.results import rgb
from infinitetalk.models.dit import AudioDiT, Branch, Sound
from infinitetalk.models.dit_blocks import USES, Block, Use
from infinitetalk.models.layers import Linear
from infinitetalk.models.vae import VideoVAE
from infinitetalk.ops.stored import Stored
from infinitetalk.weights import keymaps
from infinitetalk.weights.folder import ModelFolder
from infinitetalk.weights.load import build

OUTLIERS, SIGMAS = 500, 20
"""In random matrices one input channel in so many has so many times the spread of the others."""

Matrices = Mapping[str, Tensor | Stored]
Point = tuple[Tensor, Tensor, Tensor]
"""Latent, timestep and condition that a network was asked with."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """A trajectory's latent [16, T, h, w], without the frames that were given, and its video [F, H, W, 3]."""

    latent: Tensor
    video: NDArray[np.uint8]


class Subject(Protocol):
    """A network whose matrices may be stored in any kind."""

    def matrices(self) -> Mapping[str, Tensor]:
        """The matrices [out, in] that are stored in fewer bits, by name."""
        ...

    def take(self, matrices: Matrices, dtype: torch.dtype) -> None:
        """Computes with these matrices from now on, in a number format."""
        ...

    def run(self) -> Outcome:
        """A whole trajectory."""
        ...

    def answers(self) -> list[Tensor]:
        """Velocities for what the first trajectory of all asked at its first, middle and last step."""
        ...


def linears(blocks: nn.Module) -> dict[str, Linear]:
    """The linear layers of blocks by their names."""
    return {name: layer for name, layer in blocks.named_modules() if isinstance(layer, Linear)}


def give(layer: Linear, matrix: Tensor | Stored, dtype: torch.dtype) -> None:
    """Lets a layer compute with a matrix."""
    if isinstance(matrix, Stored):
        layer.hold(matrix)
        return
    layer.release()
    layer.weight = nn.Parameter(matrix.to(dtype), requires_grad=False)


def some(points: Sequence[Point]) -> list[Point]:
    """The first, the middle and the last of a trajectory's points."""
    return [points[0], points[len(points) // 2], points[-1]]


class Listener:
    """A network that notes what it is asked; all else is the network's own."""

    def __init__(self, dit: AudioDiT) -> None:
        self._dit = dit
        self.points: list[Point] = []
        self.audio = torch.empty(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dit, name)

    def prepare_sounds(self, sounds: Sequence[tuple[Tensor, Tensor | None]], *rest: Any, **more: Any) -> list[Sound]:
        """See `AudioDiT`; the last sound is the one that is no silence."""
        self.audio = sounds[-1][0]
        return self._dit.prepare_sounds(sounds, *rest, **more)

    def evaluate(
        self, latent: Tensor, timestep: Tensor, *, condition: Tensor, branches: Sequence[Branch], **more: Any
    ) -> list[Tensor]:
        """See `AudioDiT`."""
        self.points.append((latent, timestep, condition))
        return self._dit.evaluate(latent, timestep, condition=condition, branches=branches, **more)


class Bundled:
    """A model without text and picture encoders, the bundled one say, that makes a request's first window."""

    def __init__(self, request: TalkRequest) -> None:
        self._request = replace(request, preview=True)
        self._models: dict[torch.dtype, Model] = {
            dtype: Engine.from_pretrained(request.model, "cpu", name).model
            for dtype, name in ((torch.float32, "float32"), (torch.bfloat16, "bfloat16"))
        }
        self._model = self._models[torch.bfloat16]
        self._asked: Listener | None = None
        wide = linears(self._models[torch.float32].dit.blocks)
        self._matrices = {name: layer.weight.detach().clone() for name, layer in wide.items()}

    def matrices(self) -> Mapping[str, Tensor]:
        return self._matrices

    def take(self, matrices: Matrices, dtype: torch.dtype) -> None:
        self._model = self._models[dtype]
        for name, layer in linears(self._model.dit.blocks).items():
            give(layer, matrices[name], dtype)

    def run(self) -> Outcome:
        listener = Listener(self._model.dit)
        (window,) = Engine(replace(self._model, dit=cast("AudioDiT", listener))).stream(self._request)
        self._asked = self._asked or listener
        return Outcome(window.latent[:, 1:], window.rgb())

    def answers(self) -> list[Tensor]:
        assert self._asked is not None
        return [
            self._model.dit(latent, when, condition=condition, audio=self._asked.audio)
            for latent, when, condition in some(self._asked.points)
        ]


class Random:
    """A network of any shape with random weights, one voice, one pass a step; see `benchmarks.quantisation`."""

    def __init__(self, config: DiTConfig, size: Latents, device: str, steps: int) -> None:
        self._config, self._times = config, timesteps(steps, DISTILLED_SHIFT)
        generator = torch.Generator(device).manual_seed(1)
        hollow = drawn(lambda: AudioDiT(replace(config, num_layers=0)), generator, outliers=0)
        assert isinstance(hollow, AudioDiT)
        hollow.config = config
        self.hollow = self._dit = hollow
        self.block = drawn(lambda: Block(config), generator, outliers=SIGMAS)

        def orders(count: int) -> list[Tensor]:
            return [torch.randperm(count, generator=generator, device=device) for _ in range(config.num_layers)]

        self.orders = {name: orders(layer.out_features) for name, layer in linears(self.block).items()}
        self.given = inputs(config, size, 1, torch.bfloat16, device)
        self._noise = torch.randn(16, *size, device=device, generator=generator)
        self.points: list[Point] = []
        self._branch: Branch | None = None
        part = ModelFolder.open("nano").vae
        self._vae = build(partial(VideoVAE, part.config), part.files, keymaps.VAE, dtype=torch.float32, device=device)
        self.take(self.matrices(), torch.bfloat16)

    def matrices(self) -> Mapping[str, Tensor]:
        return {name: layer.weight for name, layer in linears(self.block).items()}

    def take(self, matrices: Matrices, dtype: torch.dtype) -> None:
        self._branch = None
        self._dit, block = copy.deepcopy(self.hollow).to(dtype), copy.deepcopy(self.block).to(dtype)
        layers = linears(block)

        def walk(use: Use) -> Iterator[Block]:
            assert isinstance(block, Block)
            wanted = {name: layer for name, layer in layers.items() if USES.get(name, Use.STEP) is use}
            for number in range(self._config.num_layers):
                for name, layer in wanted.items():
                    give(layer, reordered(matrices[name], self.orders[name][number]), dtype)
                yield block

        self._dit.lend(walk)

    def run(self) -> Outcome:
        known, asked = self.given["latent"][0, :, :1], list[Point]()

        def velocity(latent: Tensor, when: float) -> Tensor:
            asked.append((latent[None], torch.tensor(when, device=latent.device), self.given["condition"]))
            return self._ask(asked[-1])[0]

        *_, latent = euler(velocity, self._noise, self._times, known)
        self.points = self.points or asked
        return Outcome(latent[:, 1:], rgb(decode(self._vae, latent[None])[0].cpu()))

    def answers(self) -> list[Tensor]:
        return [self._ask(point) for point in some(self.points)]

    def _told(self) -> Branch:
        (text,) = self._dit.prepare_texts([self.given["text"]])
        (sound,) = self._dit.prepare_sounds([(self.given["audio"], None)], self._dit.grid(self.given["latent"]))
        return Branch(text, self._dit.prepare_picture(self.given["clip"]), sound)

    def _ask(self, point: Point) -> Tensor:
        latent, when, condition = point
        self._branch = self._branch or self._told()
        return self._dit.evaluate(latent, when, condition=condition, branches=[self._branch])[0]


def drawn(make: Callable[[], nn.Module], generator: torch.Generator, *, outliers: float) -> nn.Module:
    """A module with random weights, bf16: gains near 1, small biases, matrices that keep the variance.

    Args:
        make: makes it.
        generator: on the device where it shall be.
        outliers: how many times wider one input channel in `OUTLIERS` of the linear layers is drawn; 0 for none.
    """
    with torch.device("meta"):
        module = make()
    module = module.to(torch.bfloat16).to_empty(device=generator.device).eval().requires_grad_(False)
    for name, weight in module.named_parameters():
        values = torch.randn(weight.shape, generator=generator, device=generator.device)
        if weight.ndim == 1:
            values = 0.05 * values if name.endswith("bias") else 1 + 0.1 * values
        elif outliers and weight.ndim == 2:
            width = weight.shape[1]
            some = torch.randperm(width, generator=generator, device=generator.device)[: -(-width // OUTLIERS)]
            values[:, some] *= outliers
            values *= 0.8 / values.square().sum(1).mean().sqrt()
        else:
            values *= 0.8 * (weight.numel() / weight.shape[0]) ** -0.5
        weight.copy_(values)
    return module


def reordered(matrix: Tensor | Stored, order: Tensor) -> Tensor | Stored:
    """The same rows [out, …] in another order."""
    if isinstance(matrix, Stored):
        return matrix.with_parts({name: _rows(part, order) for name, part in matrix.parts().items()})
    return matrix[order]


def _rows(part: Tensor, order: Tensor) -> Tensor:
    """Of a part, what belongs to each row, in another order; bytes are moved, as not every format can be."""
    held = part.view(torch.uint8).reshape(len(order), -1)
    return held[order].view(part.dtype).reshape(part.shape)
