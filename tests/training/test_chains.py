"""Windows that go on from what the network made: chains of pieces, and batches of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from infinitetalk.core.configs import VAEConfig
from infinitetalk.core.errors import MachineError
from infinitetalk.models.vae import VideoVAE
from tests.training.test_nano import CELLS, TINY, some_clips, telling_voices
from tests.training.test_second_edition import drawn
from training.nano.chains import KEPT, PIECE, Chains, cut
from training.nano.distil import Distiller
from training.nano.flow import Kind
from training.nano.latents import ClipLatents
from training.nano.pictures import PictureBank
from training.nano.pixels import in_part, replaced
from training.nano.restyle import restyled
from training.nano.settings import EDITIONS
from training.nano.train_dit import Data, Trainer

CPU = torch.device("cpu")
KIND = Kind(1, 9, 4, chained=True)
NARROW = VAEConfig(dim=4, dim_mult=(1, 1, 1, 1), num_res_blocks=1, temporal_downsample=(True, True, False),
                   mean=(0.0,) * 16, std=(1.0,) * 16)  # fmt: skip


def long_clips() -> ClipLatents:
    """Clips whose latents tell their number and their place."""
    clips = some_clips(12)
    told = torch.arange(12.0).view(-1, 1, 1, 1, 1) + torch.arange(21.0).view(1, 1, -1, 1, 1) / 100
    video = told.expand(12, 16, 21, CELLS, CELLS).clone()
    return replace(clips, video=video, own=video, other=video, rough=video[:, :, :4] + 50)


def chains(clips: ClipLatents | None = None) -> Chains:
    vae = VideoVAE(NARROW)
    vae.init_weights(torch.Generator().manual_seed(0))
    return Chains.begin(clips or long_clips(), telling_voices(), vae.eval(), count=6)


def test_latents_are_cut_from_each_ones_own_place() -> None:
    made = cut(torch.arange(42.0).view(2, 1, 21, 1, 1), torch.tensor([3, 7]), 2)
    assert made.flatten().tolist() == [3, 4, 28, 29]


def test_chains_grow_in_turn_and_begin_anew_at_the_end_of_their_clips() -> None:
    some, draws = chains(), torch.Generator().manual_seed(1)
    dit = drawn()
    with pytest.raises(RuntimeError):
        some.batch(KIND, draws)  # nothing has grown yet
    for _ in range(2):
        some.grow(dit, [0.5, 0.2, 0.0], draws, count=3)
    assert some.place.tolist() == [KEPT] * 6
    assert set(some.index.tolist()) <= set(some.clips.of_people(1).tolist()), "people who are alone"
    before = some.motion.clone()
    some.grow(dit, [0.5, 0.2, 0.0], draws, count=2)
    moved = (some.motion != before).flatten(1).any(1)
    assert moved.tolist() == [True, True, *[False] * 4]
    for _ in range(30):
        some.grow(dit, [0.5, 0.2, 0.0], draws, count=6)
        assert int(some.place.max()) + KIND.latents <= 21, "every chain can be learned from"


def test_pieces_are_what_the_network_makes_and_begin_with_the_piece_before() -> None:
    some, seen = chains(), list[Tensor]()
    dit = drawn()

    def spy(_: object, given: tuple[Tensor, ...]) -> None:
        seen.append(given[0].clone())

    handle = dit.register_forward_pre_hook(spy)
    some.grow(dit, [0.5, 0.0], torch.Generator().manual_seed(1), count=6)
    first = some.motion.clone()
    some.grow(dit, [0.5, 0.0], torch.Generator().manual_seed(2), count=6)
    handle.remove()
    assert [tuple(each.shape) for each in seen] == [(6, 16, PIECE, CELLS, CELLS)] * 2
    worn = some.clips.worn[some.index]
    begun = seen[0][:, 0, 0, 0, 0]
    assert torch.equal(begun > 40, worn), "worn clips begin with what is worn"
    assert torch.equal(seen[1][:, :, :KEPT], first)


def test_batches_go_on_from_chains_towards_the_clip() -> None:
    some, draws = chains(), torch.Generator().manual_seed(1)
    for _ in range(2):
        some.grow(drawn(), [0.5, 0.0], draws, count=6)
    batch = some.batch(KIND, draws, dropout=0.0)
    assert batch.noisy.shape == (4, 16, 9, CELLS, CELLS) and batch.audio.shape[:3] == (4, 1, 33)
    assert not batch.weight[:, :, :KEPT].any() and (batch.weight[:, :, KEPT:] > 0).all()
    level = (batch.timestep / 1000).view(-1, 1, 1, 1, 1)
    aim = (batch.noisy - level * batch.target)[:, :, KEPT:]
    wanted = cut(some.clips.video, torch.full((12,), 2 * KEPT), 9)[:, :, KEPT:]
    for clip in aim:
        assert (clip - wanted).abs().amax((1, 2, 3, 4)).min() < 1e-3, "noise and velocity lead to some clip"
    held = [bool((some.motion == start[:, :KEPT]).flatten(1).all(1).any()) for start in batch.noisy]
    assert all(held), "and the beginning is a chain's"


def test_trainers_learn_from_chains_once_they_have_learned() -> None:
    clips, voices = long_clips(), telling_voices()
    data, draws = Data(clips, voices, chains(clips)), torch.Generator().manual_seed(0)
    trainer = Trainer(TINY, CPU, compiled=())
    assert data.chains is not None
    trainer.step(data, KIND, 1.0, draws)
    assert data.chains.turn == 0, "no chains before anything is learned"
    trainer.steps = trainer.untaught
    trainer.step(data, KIND, 1.0, draws)
    assert data.chains.turn > 0
    student = Distiller(drawn(), replace(EDITIONS["2"], steps=4), CPU, compiled=())
    batch = student.batch(data, KIND, draws)
    assert batch.target.shape == batch.noisy.shape and batch.target.isfinite().all()
    with pytest.raises(ValueError, match="chains"):
        student.batch(Data(clips, voices), KIND, draws)


def test_chains_keep_heads_where_they_are() -> None:
    trainer = Trainer(TINY, CPU, compiled=())
    student = Distiller(drawn(), EDITIONS["2"], CPU, compiled=())
    assert all(one.way(0.8)[0] <= 0.8 for one in (trainer, student) for _ in range(10))


def photographs(folder: Path) -> PictureBank:
    draws = np.random.default_rng(0)
    Image.fromarray(draws.integers(0, 255, (70, 90, 3), np.uint8)).save(folder / "one.png")
    return PictureBank.load(folder, CPU, 32)


def test_photographs_are_read_at_every_scale_that_is_large_enough(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="photographs"):
        PictureBank.load(tmp_path, CPU, 32)
    bank = photographs(tmp_path)
    assert [tuple(picture.shape) for picture in bank.pictures] == [(3, 70, 90), (3, 35, 45)]
    crops = bank.crops(5, 32, torch.Generator().manual_seed(0))
    assert crops.shape == (5, 3, 32, 32) and float(crops.std()) > 0.1 and crops.abs().max() <= 1


def test_some_crops_are_photographs_that_wander(tmp_path: Path) -> None:
    video = torch.zeros(40, 3, 5, 32, 32)
    made = replaced(video, photographs(tmp_path), torch.Generator().manual_seed(0))
    changed = made.flatten(1).abs().amax(1) > 0
    assert 4 <= int(changed.sum()) <= 20
    first = made[changed]
    assert (first[:, :, 0] != first[:, :, -1]).flatten(1).any(1).all()


def test_restyled_clips_change_alike_in_all_frames(tmp_path: Path) -> None:
    video = torch.rand(2, 3, 1, 32, 32, generator=torch.Generator().manual_seed(1)).expand(-1, -1, 4, -1, -1) - 0.5
    made = restyled(video, photographs(tmp_path), torch.Generator().manual_seed(0))
    assert made.shape == video.shape
    assert torch.equal(made[:, :, 0], made[:, :, 3])
    apart = (made - video).abs().mean((1, 2, 3, 4))
    assert (apart > 0.04).all() and not torch.equal(made[0], made[1])


def test_some_crops_show_faces_that_no_drawing_has(tmp_path: Path) -> None:
    video = torch.zeros(40, 5, 32, 32, 3).movedim(-1, 1)
    made = in_part(video, photographs(tmp_path), torch.Generator().manual_seed(0))
    changed = made.flatten(1).abs().amax(1) > 0
    assert 8 <= int(changed.sum()) <= 24
    assert made.stride() == video.stride(), "captured steps take batches of one layout"
