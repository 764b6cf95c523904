"""The training of nano: what a batch holds, that a step learns, and that training and sampling agree."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from infinitetalk.core.configs import DiTConfig, SpeechConfig, VAEConfig
from infinitetalk.core.request import Box, TalkRequest
from infinitetalk.core.sizes import Pixels
from infinitetalk.engine.model import load_model
from infinitetalk.media.places import places
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.speech import SpeechEncoder
from infinitetalk.models.vae import VideoVAE
from infinitetalk.runtime.device import Device
from infinitetalk.weights.folder import ModelFolder
from training.checkpoint import Progress
from training.clock import Budget, RunLog, cosine
from training.ema import Average
from training.muon import Muon, orthogonalise
from training.nano import export
from training.nano.encode import encode_references, mirrored, mirrored_boxes
from training.nano.flow import Kind, assemble, draw, loss
from training.nano.latents import ClipLatents, cells, condition, masks_of
from training.nano.pixels import Crop, PixelBank, to_video
from training.nano.preview import load_vae, sample
from training.nano.reading import begin
from training.nano.settings import EDITIONS
from training.nano.store import FRAMES, SIZE
from training.nano.train_dit import Data, Trainer, available, pick
from training.nano.train_vae import Trainer as VAETrainer
from training.nano.train_vae import change_error, written_config
from training.nano.train_vae import finish as finish_vae
from training.nano.unpack import unpack
from training.nano.voices import VoiceBank
from training.parts import save_parts
from training.speech.encoder import MOUTH
from training.speech.encoder import save as save_speech

TINY = DiTConfig(
    text_dim=0, clip_dim=0, dim=48, ffn_dim=64, num_heads=4, num_layers=2, text_len=0, clip_tokens=0, freq_dim=32,
    audio_blocks=2, audio_channels=8, intermediate_dim=16, output_dim=16, context_tokens=4,
)  # fmt: skip
SPEECH = SpeechConfig(
    hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7,
    num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
)  # fmt: skip
LATENTS, CELLS = 3, 4


def some_clips(count: int = 6) -> ClipLatents:
    draws = torch.Generator().manual_seed(0)
    video, own, other, rough = (torch.randn(count, 16, LATENTS, CELLS, CELLS, generator=draws) for _ in range(4))
    box = torch.tensor([8.0, 8.0, 20.0, 20.0]).expand(count, 3, 4).clone()
    box[:, 1] += torch.tensor([12.0, 0.0, 12.0, 0.0])
    people = torch.tensor([1, 2] * (count // 2))
    for index in range(3):
        box[people <= index, index] = 0
    speech = torch.arange(count * 3).view(count, 3) % 2
    worn = torch.arange(count) % 2 == 0
    return ClipLatents(video, own, other, rough, worn, people, speech, torch.zeros_like(speech) + 3, box, box, box,
                       torch.ones(count))  # fmt: skip


def some_voices() -> VoiceBank:
    features = torch.arange(40.0)[:, None, None].expand(40, 2, 8).clone() / 40
    return VoiceBank(features, torch.tensor([0, 15]), torch.tensor([15, 25]))


def telling_voices() -> VoiceBank:
    """Voices whose first channel tells how the mouth moves, and silence behind them."""
    draws = torch.Generator().manual_seed(4)
    features = torch.randn(90, 2, 8, generator=draws)
    moves = torch.stack([features[:, 0, 0], -features[:, 1, 3]], dim=1).repeat(1, len(MOUTH))[:, : len(MOUTH)]
    noise = 0.1 * torch.ones(2, 8)
    return VoiceBank(features, torch.tensor([0, 40, 80]), torch.tensor([40, 40, 10]), features, moves, noise)


def test_sampled_windows_carry_their_moves() -> None:
    voices, draws = replace(telling_voices(), noise=None), torch.Generator().manual_seed(0)
    heard, moves = voices.sample(9, 50, draws)
    assert heard.shape == (50, 9, 5, 2, 8)
    assert torch.equal(heard[:, :, 2, 0, 0], moves[:, :, 0])
    assert torch.equal(heard[:, :, 2, 1, 3], -moves[:, :, 1])
    with pytest.raises(ValueError, match="moves"):
        replace(voices, moves=None).sample(9, 2, draws)


def test_noise_stays_within_its_limit_and_out_of_judging() -> None:
    voices, draws = telling_voices(), torch.Generator().manual_seed(0)
    stream, start = torch.zeros(200, 1, dtype=torch.long), torch.zeros(200, 1, dtype=torch.long)
    clean = voices.windows(stream, start, 9)
    noisy = voices.windows(stream, start, 9, draws)
    assert 0.03 < float((noisy - clean).std()) < 0.1
    assert torch.equal(replace(voices, disturbed=None).windows(stream, start, 9, draws), clean)


def test_audio_layers_learn_to_tell_how_mouths_move(tmp_path: Path) -> None:
    trainer = Trainer(TINY, torch.device("cpu"), compiled=())
    log, voices = RunLog(tmp_path / "log.txt"), telling_voices()
    begin(trainer.dit.audio_proj, trainer.reader, voices, frames=9, seed=0, log=log, steps=300)
    heard, moves = voices.sample(9, 64, torch.Generator().manual_seed(7))
    with torch.no_grad():
        error, swapped = (float(trainer.reader(trainer.dit.audio_proj(told), moves)) for told in (heard, heard.flip(0)))
    assert error < 0.5 * float(moves.var())
    assert swapped > 2 * error


def test_voices_windows_repeat_the_ends_of_their_own_stream() -> None:
    heard = some_voices().windows(torch.tensor([[1]]), torch.tensor([[22]]), 5)
    frames = (heard[0, 0, :, :, 0, 0] * 40).round().int().tolist()
    assert frames == [[35, 36, 37, 38, 39], [36, 37, 38, 39, 39], [37, 38, 39, 39, 39], [38, 39, 39, 39, 39],
                      [39] * 5]  # fmt: skip
    first = some_voices().windows(torch.tensor([[1]]), torch.tensor([[0]]), 1)
    assert (first[0, 0, 0, :, 0, 0] * 40).round().int().tolist() == [15, 15, 15, 16, 17]


def test_cells_and_masks() -> None:
    box = torch.tensor([[[9.0, 0.0, 17.0, 8.0]]])
    assert cells(box, (2, 4)).tolist() == [[[[0, 1, 1, 0], [0, 0, 0, 0]]]]
    assert cells(torch.zeros(1, 4), (2, 2)).sum() == 0
    people = masks_of(torch.tensor([[[0.0, 0.0, 16.0, 32.0], [16.0, 0.0, 32.0, 16.0]]]), (4, 4))
    assert people.shape == (1, 3, 4, 4)
    assert people[0, 0].sum() == 8
    assert people[0, 1].sum() == 4
    assert (people.sum(1) == 1).all()


def test_masks_are_those_of_the_engine() -> None:
    boxes = [Box(8, 3, 29, 40), Box(27.5, 10, 60, 64)]
    request = TalkRequest(image=Path("picture"), audio=(Path("one"), Path("two")), boxes=tuple(boxes))
    size = Pixels(64, 64)
    wanted = places(request, size, (), size)
    assert wanted is not None
    made = masks_of(torch.tensor([[[box.x0, box.y0, box.x1, box.y1] for box in boxes]]), (8, 8))
    assert torch.equal(made[0], wanted)


def test_several_people_fall_silent_as_one() -> None:
    draws = torch.Generator().manual_seed(1)
    batch = draw(Kind(2, LATENTS, 4), some_clips(), some_voices(), draws, dice=draws, dropout=1.0)
    assert batch.masks is None
    assert batch.audio.shape[1] == 1
    assert not batch.audio.any()


@pytest.mark.parametrize("people", [1, 2])
def test_batch_holds_the_flow_that_the_engine_follows(people: int) -> None:
    clips, draws = some_clips(), torch.Generator().manual_seed(1)
    batch = draw(Kind(people, LATENTS, 16), clips, some_voices(), draws, dice=draws, dropout=0.0)
    level = (batch.timestep / 1000).view(-1, 1, 1, 1, 1)
    made = (batch.weight > 0).expand_as(batch.noisy)
    # Walking the whole way back along the true velocity arrives at the video, whose velocity is noise - video.
    video = batch.noisy - level * batch.target
    noise = video + batch.target
    assert torch.allclose(((1 - level) * video + level * noise)[made], batch.noisy[made], atol=1e-5)
    known = clips.video[:, :, :LATENTS]
    distance = (video[:, None] - known[None]).abs()
    assert (distance.where(made[:, None], 0).amax((2, 3, 4, 5)).amin(1) < 1e-4).all()
    assert made[:, 0, 0].sum() == 0, "the first latent is always given"
    assert made[:, 0, -1].all(), "the last one is always made"
    assert batch.audio.shape == (16, people, 4 * LATENTS - 3, 5, 2, 8)
    assert (batch.masks is None) == (people == 1)
    assert batch.condition[:, :4, 0].eq(1).all()
    assert batch.condition[:, :4, 1:].eq(0).all()


def test_dropped_voices_are_zero() -> None:
    draws = torch.Generator().manual_seed(1)
    batch = draw(Kind(1, LATENTS, 64), some_clips(), some_voices(), draws, dice=draws, dropout=0.5)
    silent = (batch.audio == 0).flatten(1).all(1).float().mean()
    assert 0.2 < float(silent) < 0.8


def test_true_velocity_samples_the_video() -> None:
    class Perfect(torch.nn.Module):
        def forward(self, latent: Tensor, timestep: Tensor, **_: Tensor | None) -> Tensor:
            level = (timestep / 1000).view(-1, 1, 1, 1, 1)
            return (latent - goal) / level.clamp(min=1e-3)

    clips = some_clips()
    goal = clips.video[:2]
    told = condition(clips.own[:2])
    audio = torch.zeros(2, 1, 9, 5, 2, 8)
    made = sample(Perfect(), told, audio, goal[:, :, :1], steps=6, audio_scale=1.0)  # type: ignore[arg-type]
    assert torch.allclose(made, goal, atol=1e-4)


def test_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    data = Data(some_clips(), telling_voices())
    trainer = Trainer(TINY, torch.device("cpu"), compiled=(), rate=5e-3)
    draws = torch.Generator().manual_seed(0)
    kind = Kind(1, LATENTS, 8)
    losses = [float(trainer.step(data, kind, 1.0, draws)) for _ in range(80)]
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])
    trainer.step(data, Kind(2, LATENTS, 4), 1.0, draws)


def test_checkpoint_goes_on(tmp_path: Path) -> None:
    data, draws = Data(some_clips(), telling_voices()), torch.Generator().manual_seed(0)
    kind = Kind(1, LATENTS, 4)
    first = Trainer(TINY, torch.device("cpu"), compiled=())
    for _ in range(3):
        first.step(data, kind, 1.0, draws)
    first.save(tmp_path / "checkpoint.pt", 12.0)
    second = Trainer(TINY, torch.device("cpu"), compiled=(), seed=5)
    assert second.resume(tmp_path / "checkpoint.pt") == 12.0
    for trainer in (first, second):
        trainer.step(data, kind, 0.5, torch.Generator().manual_seed(9))
    for (name, one), two in zip(first.dit.named_parameters(), second.dit.parameters(), strict=True):
        assert torch.equal(one, two), name


def test_kinds_follow_their_shares() -> None:
    one, two = Kind(1, 3, 4), Kind(2, 3, 4)
    kinds = [(one, 0.6), (two, 0.2)]
    assert pick(kinds, 0.5) == one
    assert pick(kinds, 0.8) == two
    clips = some_clips()
    assert available(kinds, clips) == kinds
    assert available(kinds, replace(clips, people=torch.ones_like(clips.people))) == kinds[:1]


def test_loss_counts_made_latents_alone() -> None:
    clips = some_clips()
    batch = assemble(
        torch.tensor([0, 2]), Kind(1, LATENTS, 2), clips, some_voices(), torch.Generator().manual_seed(0), dropout=0.0
    )
    wrong_at_given = batch.target + 100 * (batch.weight == 0)
    assert float(loss(wrong_at_given, batch)) == 0


def test_orthogonalise_evens_out_singular_values() -> None:
    matrices = torch.randn(3, 12, 20, generator=torch.Generator().manual_seed(0))
    for shape in (matrices, matrices.mT):
        values = torch.linalg.svdvals(orthogonalise(shape))
        assert float(values.min()) > 0.4
        assert float(values.max()) < 1.5


def test_muon_refuses_vectors() -> None:
    with pytest.raises(ValueError, match="matrices"):
        Muon([torch.nn.Parameter(torch.zeros(3))], 0.1)


def test_average_and_budget() -> None:
    layer = torch.nn.Linear(2, 2)
    average = Average(layer, 0.9, every=1)
    before = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.add_(1)
    average.update(10_000)
    assert torch.allclose(average.state()["weight"], before + 0.1)
    average.swap()
    assert torch.allclose(layer.weight, before + 0.1)
    assert Budget(10.0, spent=20.0).fraction() == 1.0
    assert cosine(0) == 1.0
    assert cosine(1, 0.1) == pytest.approx(0.1)


def test_weights_alone_are_enough_to_go_on(tmp_path: Path) -> None:
    first = Trainer(TINY, torch.device("cpu"), compiled=())
    assert first.adopt(tmp_path) == 0.0
    save_parts(first.dit.state_dict(), tmp_path, "dit")
    Progress(30.0, 100.0, 77, done=False).write(tmp_path / "dit_progress.json")
    second = Trainer(TINY, torch.device("cpu"), compiled=(), seed=5)
    assert second.adopt(tmp_path) == 30.0
    assert second.steps == 77
    for (name, one), two in zip(first.dit.named_parameters(), second.dit.parameters(), strict=True):
        assert torch.allclose(one, two, atol=1e-3), name


def test_mirrored_clips_are_the_same_clips_in_a_mirror() -> None:
    frames = torch.zeros(1, 2, 8, 8, 3, dtype=torch.uint8)
    frames[:, :, 2, 1] = 100
    seen = mirrored(frames, torch.Generator().manual_seed(0))
    assert (seen[:, :, 2, 6] > 20).all()
    assert int(seen.bool().any(-1).sum()) == 2
    boxes = mirrored_boxes(np.array([[10, 20, 30, 40], [0, 0, 0, 0]], np.float32), 128)
    assert boxes.tolist() == [[98, 20, 118, 40], [0, 0, 0, 0]]


def test_reference_latents_are_those_of_whole_windows() -> None:
    torch.manual_seed(0)
    for stages in ((True, True, False), (False, True, True)):
        config = VAEConfig(dim=8, dim_mult=(1, 1, 1, 1), num_res_blocks=1, temporal_downsample=stages)
        vae = VideoVAE(config).requires_grad_(False)
        vae.init_weights(torch.Generator().manual_seed(1))
        pictures = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
        window = torch.zeros(1, 3, FRAMES, 32, 32)
        window[:, :, 0] = pictures.permute(0, 3, 1, 2) / 127.5 - 1
        assert torch.allclose(encode_references(vae, pictures), vae.encode(window), atol=1e-4)


def test_a_video_that_steps_costs_more_than_one_of_another_colour() -> None:
    moving = torch.linspace(-1, 1, 9).view(1, 1, 9, 1, 1).expand(1, 3, 9, 4, 4)
    weight = torch.ones(1, 1, 1, 4, 4)
    assert float(change_error(moving + 0.1, moving, weight)) < 1e-6
    stepping = torch.cat(
        [moving[:, :, :1], moving[:, :, 4:5].repeat(1, 1, 4, 1, 1), moving[:, :, 8:].repeat(1, 1, 4, 1, 1)], 2
    )
    assert float(change_error(stepping, moving, weight)) == pytest.approx(0.375, abs=1e-5)


SMALL_VAE = VAEConfig(dim=8, dim_mult=(1, 1, 1, 1), num_res_blocks=1, temporal_downsample=(True, True, False))


def squares(count: int = 2, size: int = SIZE) -> PixelBank:
    """Clips of a bright square."""
    frames = torch.full((count, FRAMES + 1, size, size, 3), 40, dtype=torch.uint8)
    frames[:, :, 30:90, 30:90] = torch.tensor([200, 150, 120], dtype=torch.uint8)
    box = torch.tensor([40.0, 40.0, 80.0, 60.0]).expand(count, 3, 4)
    return PixelBank(frames, torch.ones(count, dtype=torch.long), box, box)


def test_vae_training_lowers_the_error() -> None:
    bank = squares()
    trainer = VAETrainer(SMALL_VAE, torch.device("cpu"), capture=False)
    draws = torch.Generator().manual_seed(0)
    errors = [float(trainer.step(bank, Crop(32, 5, 2), 1.0, draws).l1) for _ in range(60)]
    assert sum(errors[-5:]) < 0.6 * sum(errors[:5])
    video, weight = bank.crops(Crop(64, 5, 3), draws)
    assert video.shape == (3, 3, 5, 64, 64)
    assert weight.shape == (3, 1, 1, 64, 64)
    assert float(weight.max()) > 1


def test_a_decoder_that_learns_alone_leaves_latents_as_they_are(tmp_path: Path) -> None:
    bank, log = squares(1, 48), RunLog(tmp_path / "log.txt")
    for name in ("whole", "alone"):
        (tmp_path / name).mkdir()
    whole = VAETrainer(SMALL_VAE, torch.device("cpu"), capture=False)
    draws = torch.Generator().manual_seed(0)
    for _ in range(5):
        whole.step(bank, Crop(32, 5, 2), 1.0, draws)
    finish_vae(whole, bank, bank, tmp_path / "whole", log)
    known = written_config(tmp_path / "whole")
    first, alone = (VAETrainer(known, torch.device("cpu"), capture=False, decoder_only=True) for _ in range(2))
    first.adopt(tmp_path / "whole")
    for _ in range(5):
        first.step(bank, Crop(32, 5, 2), 1.0, draws)
    first.save(tmp_path / "cut_off.pt", 1.0)
    alone.resume(tmp_path / "cut_off.pt")
    finish_vae(alone, bank, bank, tmp_path / "alone", log)
    before, after = (load_vae(tmp_path / name, torch.device("cpu")) for name in ("whole", "alone"))
    video = to_video(bank.frames[:1, :5])
    latents = before.encode(video)
    assert torch.equal(latents, after.encode(video)), "a transformer that knows these latents goes on with them"
    assert not torch.equal(before.decode(latents), after.decode(latents))


def test_exported_folder_holds_the_trained_networks(tmp_path: Path) -> None:
    vae = VideoVAE(SMALL_VAE)
    dit, speech = AudioDiT(replace(TINY, ffn_dim=512)), SpeechEncoder(SPEECH)
    dit.init_weights(torch.Generator().manual_seed(0))
    for name, network in (("vae", vae), ("dit", dit)):
        save_parts(network.state_dict(), tmp_path, name)
        (tmp_path / f"{name}_config.json").write_text(json.dumps(asdict(network.config)))
    save_speech(speech, tmp_path)
    parts = export.read(tmp_path)
    out = tmp_path / "nano"
    export.write(parts, out, steps=6)
    lines = export.check(parts, out)
    folder = ModelFolder.open(out)
    assert folder.name == "nano"
    assert folder.max_people == 3
    assert folder.defaults.steps == 6
    assert folder.buckets["128"] == {1.0: (128, 128)}
    total = sum(value.numel() for network in (vae, dit) for value in network.parameters())
    assert any(line.startswith("all: ") for line in lines)
    assert sum(part.parameters for part in parts.values()) >= total
    stored = load_file(out / "dit.safetensors")
    assert stored["blocks.0.ffn.0.weight"].dtype == torch.int8, "large matrices take a byte per number"
    assert stored["blocks.0.norm_x.weight"].dtype == torch.float16
    loaded = load_model(folder, Device.choose("cpu")).dit.state_dict()
    for name, value in dit.state_dict().items():
        assert torch.allclose(loaded[name], value, atol=float(value.abs().max()) / 200 + 1e-6), name


def test_the_second_edition_says_that_it_knows_strengths_of_motion(tmp_path: Path) -> None:
    test_exported_folder_holds_the_trained_networks(tmp_path)
    assert ModelFolder.open(tmp_path / "nano").facts.motion is None
    export.write(export.read(tmp_path), tmp_path / "second", edition=EDITIONS["2"])
    facts = ModelFolder.open(tmp_path / "second").facts
    assert facts.motion == EDITIONS["2"].motion
    assert (facts.defaults.size, facts.defaults.steps, facts.defaults.audio_scale) == ("192", 4, 1.0)


def test_export_refuses_what_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test_exported_folder_holds_the_trained_networks(tmp_path)
    monkeypatch.setattr(export, "PARAMETERS", 1000)
    with pytest.raises(ValueError, match="the most that nano may have"):
        export.check(export.read(tmp_path), tmp_path / "nano")


def test_unpacked_parts_are_stored_as_they_were(tmp_path: Path) -> None:
    test_exported_folder_holds_the_trained_networks(tmp_path)
    unpack(tmp_path / "nano", tmp_path / "parts", export.PARTS)
    for name, part in export.read(tmp_path / "parts").items():
        again, before = export.stored(part, packed=True), load_file(tmp_path / "nano" / f"{name}.safetensors")
        assert again.keys() == before.keys()
        assert all(torch.equal(again[key], before[key]) for key in before), name
