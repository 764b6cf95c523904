"""Layers that the networks share; norms, modulation and the time embedding compute in float32."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinitetalk.ops.eight import STEP, Eight, Operand, Rows, product
from infinitetalk.ops.regions import rms_norm
from infinitetalk.ops.stored import Scaled, Stored

PART = "stored_"


class KeysValues(NamedTuple):
    """Keys and values of one block's cross-attention, [..., S, heads, d] each: made once and asked in every step."""

    keys: Tensor
    values: Tensor


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis: normalised in float32, scaled in the input's dtype."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


class LayerNorm(nn.LayerNorm):
    """Layer norm over the last axis, computed and returned in float32."""

    def forward(self, x: Tensor) -> Tensor:
        weight = None if self.weight is None else self.weight.float()
        bias = None if self.bias is None else self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps)


class Linear(nn.Linear):
    """A linear layer that computes in the input's number format, whatever its matrix is stored in.

    After `hold`, the parameter `weight` is gone and buffers hold the stored matrix, so that whatever moves, pins or
    streams a module's parameters and buffers moves them too. Each forward dequantises them anew, but for inputs in 8
    bits: a matrix of the same format, as `hold_eight` gives it, is multiplied with them as it is.
    """

    form: Stored | None = None
    """How the held matrix is stored, on tensors without values; None for a dense one."""
    branch_down: Tensor | None
    """[rank, in_features]; see `add_branch`."""
    branch_up: Tensor | None
    """[out_features, rank]."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, **more: Any) -> None:
        super().__init__(in_features, out_features, bias, **more)
        self.register_buffer("branch_down", None)
        self.register_buffer("branch_up", None)

    @classmethod
    def over(cls, layer: nn.Linear) -> Self:
        """A layer with the parameters of another."""
        made = cls(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        made.weight, made.bias = layer.weight, layer.bias
        return made

    def hold(self, stored: Stored) -> None:
        """Takes a stored matrix [out_features, in_features] and gives up the one there was."""
        if stored.shape != (self.out_features, self.in_features):
            raise ValueError(f"a {list(stored.shape)} matrix for a layer {self.in_features} → {self.out_features}")
        self.release()
        self.form = stored.with_parts({name: part.to("meta") for name, part in stored.parts().items()})
        self.register_parameter("weight", None)
        for name, part in stored.parts().items():
            self.register_buffer(PART + name, part)

    def hold_eight(self, eight: Eight) -> None:
        """Packs the matrix, held or dense, for products in 8 bits.

        Raises:
            ValueError: sides that 8-bit products do not take.
        """
        if self.in_features % STEP or self.out_features % STEP:
            raise ValueError(f"{self.in_features} → {self.out_features}: both must be multiples of {STEP}")
        stored = self.stored
        self.hold(eight.pack(self.weight.detach() if stored is None else stored))

    def release(self) -> None:
        """Forgets a held matrix; the layer has none until `weight` is set or another is held."""
        for name in self.form.parts() if self.form else ():
            delattr(self, PART + name)
        self.form = None

    def add_branch(self, down: Tensor, up: Tensor) -> None:
        """Adds up @ down to the matrix without touching it: a live side branch, held as buffers.

        Args:
            down: [rank, in_features].
            up: [out_features, rank]. Branches that were added before stay; their ranks add up.
        """
        if down.shape[1:] != (self.in_features,) or up.shape != (self.out_features, len(down)):
            raise ValueError(
                f"a branch {list(up.shape)} @ {list(down.shape)} for {self.in_features} → {self.out_features}"
            )
        if self.branch_down is not None and self.branch_up is not None:
            down, up = torch.cat([self.branch_down, down]), torch.cat([self.branch_up, up], dim=1)
        self.branch_down, self.branch_up = down, up

    @property
    def stored(self) -> Stored | None:
        """The held matrix over the buffers as they are now; None for a dense one."""
        if self.form is None:
            return None
        return self.form.with_parts({name: getattr(self, PART + name) for name in self.form.parts()})

    def matrix(self, dtype: torch.dtype) -> Tensor:
        """The matrix [out_features, in_features] in a number format, without its side branch."""
        stored = self.stored
        return self.weight.to(dtype) if stored is None else stored.dequantise(dtype)

    def forward(self, x: Operand) -> Tensor:
        """[…, in_features] → […, out_features]."""
        if isinstance(x, Rows):
            matrix = self.stored
            assert isinstance(matrix, Scaled), "an input in 8 bits for a matrix that is not"
            y = product(x, matrix, self.bias)
            return y if self.branch_down is None else self._branched(x.wide(), y)
        y = F.linear(x, self.matrix(x.dtype), None if self.bias is None else self.bias.to(x.dtype))
        return self._branched(x, y)

    def _branched(self, x: Tensor, y: Tensor) -> Tensor:
        """An answer y to x, with that of the side branch."""
        if self.branch_down is None or self.branch_up is None:
            return y
        # Under autocast a product may come in another format than x.
        inner = F.linear(x, self.branch_down.to(x.dtype)).to(y.dtype)
        y = y.contiguous()
        # In place, as y may be the largest tensor of a pass.
        y.view(-1, self.out_features).addmm_(inner.reshape(-1, inner.shape[-1]), self.branch_up.to(y.dtype).t())
        return y

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the layer; a change of number format reaches the bias, never the numbers of a held matrix."""
        held = {PART + name: getattr(self, PART + name) for name in self.form.parts()} if self.form else {}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, before in held.items():
            if (after := getattr(self, name)).dtype != before.dtype:
                setattr(self, name, before.to(after.device))
        return self

    def extra_repr(self) -> str:
        return super().extra_repr() + (f", {self.form.kind}" if self.form else "")


class Lent(nn.ModuleList):
    """A module list whose layers somebody else has, and gives one after the other with their weights at hand."""

    def __init__(self, walk: Callable[[], Iterator[nn.Module]], count: int) -> None:
        super().__init__()
        self._walk, self._count = walk, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[nn.Module]:
        return self._walk()


def replace_linears(network: nn.Module) -> None:
    """Makes every linear layer of a network of other authors a `Linear` with the same parameters, in place."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, Linear.over(child))


def in_float32(x: Tensor, *layers: nn.Module) -> Tensor:
    """Applies layers that compute in the input's number format in float32, under autocast too."""
    with torch.autocast(x.device.type, enabled=False):
        x = x.float()
        for layer in layers:
            x = layer(x)
        return x


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x * (1 + scale) + shift in float32."""
    return x.float() * (1 + scale) + shift


def sinusoid(positions: Tensor, dim: int) -> Tensor:
    """Cosines, then sines, of positions [B] at dim / 2 frequencies: [B, dim] float32."""
    exact = torch.float32 if positions.device.type == "mps" else torch.float64  # MPS has no float64
    steps = torch.arange(dim // 2, device=positions.device, dtype=exact) / (dim // 2)
    angles = torch.outer(positions.to(exact), 10_000.0**-steps)
    return torch.cat([angles.cos(), angles.sin()], dim=1).float()
