"""Beginnings as the network itself would have made them: what later windows of a long video go on from."""

from dataclasses import replace

import torch
from torch import Tensor

from tests.training.test_nano import LATENTS, TINY, some_clips, telling_voices
from tests.training.test_second_edition import drawn
from training.nano.distil import Distiller
from training.nano.flow import Kind, assemble
from training.nano.settings import EDITIONS
from training.nano.train_dit import Trainer

CPU = torch.device("cpu")
KIND = Kind(1, LATENTS, 24)


def batch_with(remake: object) -> tuple[Tensor, Tensor]:
    """Inputs of the network, and which of their latents are clean."""
    clips, draws = some_clips(12), torch.Generator().manual_seed(3)
    index = clips.of_people(1).repeat(4)
    batch = assemble(index, KIND, clips, telling_voices(), draws, dropout=0.0, remake=remake)  # type: ignore[arg-type]
    return batch.noisy, batch.weight[:, 0, :, 0, 0] == 0


def test_worn_windows_go_on_from_what_was_made_anew() -> None:
    seen: dict[str, tuple[int, ...]] = {}

    def remake(rough: Tensor, told: Tensor, audio: Tensor) -> Tensor:
        seen.update(rough=tuple(rough.shape), told=tuple(told.shape), audio=tuple(audio.shape[:3]))
        return rough + 100

    plain, kept = batch_with(None)
    made, _ = batch_with(remake)
    assert seen["told"] == (24, 20, LATENTS, 4, 4) and seen["audio"] == (24, 1, 4 * LATENTS - 3)
    moved = (made - plain).amax((1, 3, 4)) > 50
    assert moved.any() and not moved[~kept].any(), "only clean latents of worn clips change"
    assert torch.equal(made.movedim(2, 1)[~moved], plain.movedim(2, 1)[~moved])


def test_a_network_makes_beginnings_only_once_it_has_learned() -> None:
    trainer = Trainer(TINY, CPU, compiled=())
    draws = torch.Generator().manual_seed(0)
    assert all(trainer.remake(draws) is None for _ in range(20))
    trainer.steps = trainer.untaught
    chosen = [trainer.remake(draws) for _ in range(40)]
    assert 10 < sum(one is not None for one in chosen) < 30
    trainer.dit = drawn()
    remake = next(one for one in chosen if one is not None)
    rough, told, audio = torch.randn(2, 16, 3, 4, 4), torch.randn(2, 20, 3, 4, 4), torch.randn(2, 1, 9, 5, 2, 8)
    made = remake(rough, told, audio)
    assert torch.equal(made[:, :, :1], rough[:, :, :1]), "the first latent stays"
    assert made.shape == rough.shape and 0.1 < float((made - rough)[:, :, 1:].std()) < 5


def test_ways_end_without_noise() -> None:
    trainer = Trainer(TINY, CPU, compiled=())
    student = Distiller(drawn(), replace(EDITIONS["2"], steps=4), CPU, compiled=())
    for _ in range(10):
        for way in (trainer.way(), student.way()):
            assert way[0] <= 0.96 and way[-1] == 0 and way == sorted(set(way), reverse=True)
    assert len(student.way()) <= student.worth
    assert any(student.remake(torch.Generator()) for _ in range(20)), "a student begins as its teacher"
