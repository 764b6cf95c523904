"""How much of a difference in bf16 is rounding: the reference's own, ours, and the owners that rounding changes.

With several people each token hears the person to whose place it attends most. Near a tie rounding decides, in the
reference as in our network, and a token that changes its owner hears another voice. All is held against the
reference in float32 with the same weights and inputs; then all three networks are given the same owners.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.reference import in_float32, reference_stands
from infinitetalk.bench.reference import ask as ask_reference
from infinitetalk.models.audio_attention import people_centres
from infinitetalk.models.dit import AudioDiT


class Run(NamedTuple):
    """A velocity [1, 16, T, h, w], and where the tokens stood on the line of voices: [blocks, L]."""

    velocity: Tensor
    stands: Tensor


@contextmanager
def our_stands(net: AudioDiT, told: Sequence[Tensor] | None = None) -> Iterator[list[Tensor]]:
    """Takes down whose voice each token hears, as rotary positions [L] per block; told ones take their place."""
    noted: list[Tensor] = []

    def watch(attend: Any, number: int) -> None:
        plain = attend.stands

        def stands(attention_map: Tensor) -> Tensor:
            found: Tensor = plain(attention_map)
            noted.append(found[0].float().cpu())
            return found if told is None else told[number].to(found).unsqueeze(0)

        attend.stands = stands

    blocks: Any = net.blocks
    for number, block in enumerate(blocks):
        watch(block.audio_cross_attn, number)
    try:
        yield noted
    finally:
        for block in blocks:
            del block.audio_cross_attn.stands


def ask_ours(net: AudioDiT, given: dict[str, Tensor]) -> Tensor:
    """Our velocity."""
    told = {name: value for name, value in given.items() if name != "latent"}
    if given["audio"].shape[0] == 1:
        del told["masks"]
    velocity: Tensor = net(given["latent"], torch.tensor(700.0, device=given["latent"].device), **told)
    return velocity


def relative(found: Tensor, truth: Tensor, where: Tensor | None = None) -> float:
    """Relative error of a velocity, over the tokens [T, h / 2, w / 2] that `where` names."""
    difference, size = found - truth, truth
    if where is not None:
        cells = where.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
        difference, size = difference[:, :, cells], size[:, :, cells]
    return float(difference.norm() / size.norm())


def _reference(net: nn.Module, given: dict[str, Tensor], dtype: torch.dtype, told: Tensor | None = None) -> Run:
    with reference_stands(net, None if told is None else list(told)) as stands:
        velocity = ask_reference(net, given, dtype).cpu()
    return Run(velocity, torch.stack(stands) if stands else torch.empty(0))


def _ours(net: AudioDiT, given: dict[str, Tensor], told: Tensor | None = None) -> Run:
    with our_stands(net, None if told is None else list(told)) as stands:
        velocity = ask_ours(net, given).cpu()
    return Run(velocity, torch.stack(stands) if stands else torch.empty(0))


def _errors(ours: Run, theirs: Run, exact: Run) -> dict[str, float]:
    """Relative errors of three velocities against each other."""
    return {
        "ours_against_reference": relative(ours.velocity, theirs.velocity),
        "reference_against_its_float32": relative(theirs.velocity, exact.velocity),
        "ours_against_reference_float32": relative(ours.velocity, exact.velocity),
    }


def _owners(one: Run, other: Run, anchors: Tensor) -> dict[str, Any]:
    """How two networks differ in whose voice a token hears, and in the velocity where they do not."""
    owned = [(run.stands.unsqueeze(-1) - anchors).abs().argmin(-1) for run in (one, other)]
    same = owned[0] == owned[1]
    always = same.all(dim=0)
    frames, rows, columns = one.velocity.shape[2:]
    where = always.view(frames, rows // 2, columns // 2)
    return {
        "owner_differs_in_the_first_block": float((~same[0]).float().mean()),
        "owner_differs_in_a_block": float((~same).float().mean()),
        "owner_differs_in_any_block": float((~always).float().mean()),
        "places_apart_where_owners_agree": float((one.stands - other.stands).abs()[same].mean()),
        "relative_error_where_owners_always_agree": (
            relative(one.velocity, other.velocity, where) if always.any() else None
        ),
    }


def rounding(theirs: nn.Module, ours: AudioDiT, given: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Any]:
    """All figures of one set of inputs; both networks hold the same weights in `dtype`."""
    wide = {name: value.float() for name, value in given.items()}
    with in_float32(theirs):
        exact = _reference(theirs, wide, torch.float32)
    narrow, mine = _reference(theirs, given, dtype), _ours(ours, given)
    figures: dict[str, Any] = _errors(mine, narrow, exact)
    people = given["audio"].shape[0]
    if people == 1:
        return figures
    config = ours.config
    centres = people_centres(people, config.class_range, config.class_interval)
    anchors = torch.cat([centres, torch.tensor([config.class_range / 2])])
    figures["owners"] = {
        "ours_against_reference": _owners(mine, narrow, anchors),
        "reference_against_its_float32": _owners(narrow, exact, anchors),
        "ours_against_reference_float32": _owners(mine, exact, anchors),
    }
    told = exact.stands
    forced = _errors(_ours(ours, given, told), _reference(theirs, given, dtype, told), exact)
    return figures | {"all_with_the_owners_of_float32": forced}
