"""What the second edition adds: varied people, networks that name the video, growth, and distillation."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from infinitetalk.core.errors import ModelError
from infinitetalk.diffusion.sampler import euler
from infinitetalk.diffusion.schedule import timesteps
from infinitetalk.models.dit import AudioDiT
from tests.training.test_nano import LATENTS, TINY, some_clips, telling_voices
from training.clock import RunLog
from training.heads import render, speed
from training.heads.blendshapes import BLENDSHAPES, JAW_OPEN, shape_indices
from training.heads.dataset import ClipOptions, sample_clip
from training.heads.details import Details
from training.heads.example import babble_tracks
from training.heads.materials import kind_masks
from training.heads.mesh import BODY, HAIR
from training.heads.noise import noise, noise_and_slope
from training.heads.posing import MOUTH
from training.heads.render import HeadRenderer
from training.heads.scene import Grade, Light
from training.heads.shading import thrown_shadow
from training.nano import distil
from training.nano.distil import Distiller
from training.nano.flow import Kind, assemble
from training.nano.growing import grown, sources
from training.nano.latents import condition
from training.nano.pixels import worn
from training.nano.preview import Told, guided, sample
from training.nano.reading import begin
from training.nano.settings import DITS, EDITIONS
from training.nano.store import create
from training.nano.train_dit import Data, Trainer

CPU = torch.device("cpu")
VIDEO = replace(TINY, prediction="video")
_FACE = np.isin(np.arange(len(BLENDSHAPES)), [*MOUTH, *shape_indices("cheekSquint")])
VARIED = ClipOptions(frames=3, people=(1.0, 0.0, 0.0), varied=True)


def drawn(config: object = TINY, seed: int = 0) -> AudioDiT:
    dit = AudioDiT(config)  # type: ignore[arg-type]
    draws = torch.Generator().manual_seed(seed)
    dit.init_weights(draws)
    with torch.no_grad():
        for value in dit.parameters():
            value.add_(0.02 * torch.randn(value.shape, generator=draws))
    return dit.eval()


def test_noise_is_a_smooth_function_of_the_place() -> None:
    place = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) * 20 - 10
    value, slope = noise_and_slope(place)
    assert torch.equal(value, noise(place))
    assert -1 <= float(value.min()) < -0.3 and 0.3 < float(value.max()) <= 1
    for axis in range(3):
        ahead = place.double().clone()
        ahead[:, axis] += 1e-3
        rise = (noise(ahead.float()) - value) / 1e-3
        assert float((rise - slope[:, axis]).abs().median()) < 0.02


def test_a_plate_throws_a_shadow_away_from_the_light() -> None:
    distance = torch.full((1, 40, 40), 10.0)
    distance[:, 15:25, 15:25] = 9.8
    light = Light(direction=(-1.0, 0.0, 1.0), strength=1, warmth=0, ambient=0.4, rim=0, cast=1).packed()
    dark = thrown_shadow(distance, distance > 0, light, scale=20.0)[0]
    assert float(dark[20, 26]) > 0.8, "right of the plate, by light from the left"
    assert float(dark[20, 12]) < 0.05 and float(dark[5, 26]) < 0.05 and float(dark[20, 20]) < 0.2


def test_details_change_the_skin_and_no_details_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    speech = babble_tracks(1, 1.0, seed=0)
    renderer = HeadRenderer("cpu", size=48)
    spec = sample_clip(speech, 2, seed=1, options=replace(VARIED, varied=False, frames=1)).spec
    plain = renderer.render(spec).frames
    who = spec.people[0]
    rough = replace(who, identity=replace(who.identity, details=Details(freckles=1.0, pores=1.0, grain=1.0)))
    assert not torch.equal(renderer.render(replace(spec, people=(rough,))).frames, plain)
    assert torch.equal(renderer.render(replace(spec, grade=Grade())).frames, plain)
    # Without the short cut for plain people, details of zero must not show either.
    monkeypatch.setattr(render, "Details", lambda: None)
    assert (renderer.render(spec).frames.int() - plain.int()).abs().max() <= 1


def test_every_visible_part_is_shaded_as_one_kind() -> None:
    masks = kind_masks(torch.arange(HAIR + 1))
    assert torch.stack(list(masks.values())).sum(0).eq(1).all()
    assert masks["hair"].nonzero().flatten().tolist() == [HAIR]
    assert masks["body"].nonzero().flatten().tolist() == [BODY]


def test_speed_is_measured_by_stages_and_by_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(speed, "DRAWN", replace(VARIED, frames=2))
    stored: list[int] = []
    monkeypatch.setattr(speed, "fill", lambda *told: stored.append(told[1]))
    setting = speed.Setting(device="cpu", size=16, supersampling=1, at_once=None, workers=0)
    found = speed.by_stages(setting, create(tmp_path / "clips", speed.STORED, 16), 0.0)
    assert found["clips"] == 1
    times = found["ms_per_clip"]
    assert isinstance(times, dict) and {"bake", "geometry", "raster", "shade body", "write"} < set(times)
    assert 0 <= times["between stages"] < times["whole drawing"] and min(times.values()) >= 0
    moments = speed.draw_share(speed.Share(setting, 0, seconds=0.0, latest=math.inf))
    assert len(moments) == 2 and len(stored) == 3
    assert speed.summed([[1.0, 2.0, 3.0, 4.0], [2.5, 3.5, 4.5]], 0.5) == {
        "first_clip_after_s": 2.0, "clips": 3, "seconds": 1.5, "clips_per_s": 2.0,
    }  # fmt: skip


def test_varied_clips_repeat_and_move_as_strongly_as_they_say() -> None:
    speech = babble_tracks(2, 4.0, seed=0)
    options = replace(VARIED, frames=60)
    clips = [sample_clip(speech, index, seed=0, options=options) for index in range(40)]
    again = sample_clip(speech, 7, seed=0, options=options)
    assert again.strength == clips[7].strength
    np.testing.assert_array_equal(again.spec.people[0].motion.pose, clips[7].spec.people[0].motion.pose)
    turns, moved = [], {0.0: [0.0], 1.0: [0.0], 2.0: [0.0]}
    for clip in clips:
        motion, start = clip.spec.people[0].motion, clip.start[0]
        track = speech[clip.utterance[0]][start : start + 60]
        np.testing.assert_array_equal(motion.weights[:-1, JAW_OPEN], track[:, JAW_OPEN])
        turns.append(abs(float(motion.pose[0, 0])))
        if clip.strength in moved:
            moved[clip.strength].append(float(motion.pose[:-1, 0].std()))
        if clip.strength == 0:
            assert np.ptp(motion.pose[:-1], axis=0).max() < 1e-6
            assert motion.weights[:, shape_indices("eyeBlink")].max() == 0
    assert min(len(values) for values in moved.values()) > 3
    assert np.mean(moved[2.0]) > 1.3 * np.mean(moved[1.0]) > 0
    assert max(turns) > 0.7 and sum(turn > 0.28 for turn in turns) > 5, "three quarters and profiles"


def test_portraits_smile_or_rest_and_then_speak() -> None:
    speech = babble_tracks(2, 4.0, seed=0)
    for track in speech:
        track[::7, shape_indices("mouthPress")] = 0.3
    plain = replace(VARIED, frames=40)
    smiles, shown, begun = 0, 0, 0
    for index in range(40):
        usual, posed = (
            sample_clip(speech, index, seed=0, options=options) for options in (plain, replace(plain, portraits=1.0))
        )
        before, after = (clip.spec.people[0].motion for clip in (usual, posed))
        np.testing.assert_array_equal(before.pose, after.pose)
        np.testing.assert_array_equal(before.weights[:-1, ~_FACE], after.weights[:-1, ~_FACE])
        jaw = np.abs(after.weights[:-1, JAW_OPEN] - before.weights[:-1, JAW_OPEN])
        assert jaw[3:].max() == 0, "speech is what it was once the portrait's pose is left"
        more, portrait = after.weights[10:-1] - before.weights[10:-1], after.weights[-1]
        smile, teeth = shape_indices("mouthSmile"), shape_indices("mouthUpperUp")
        free = before.weights[10:-1, smile] + portrait[smile] < 1
        assert (more[:, smile] >= 0.34 * portrait[smile])[free].all(), "smiles last"
        closed = before.weights[10:-1, shape_indices("mouthPress")].min(1) >= 0.2
        assert closed.any() and not more[closed][:, teeth].any(), "closed lips cover teeth"
        shown += more[:, teeth].max() > 0.1
        smiles += portrait[smile].max() > 0.25
        begun += np.allclose(after.weights[0, MOUTH], after.weights[-1, MOUTH])
        assert after.weights.min() >= 0 and after.weights.max() <= 1
    assert 18 < smiles < 38 and 15 < begun < 36, "most smile, and most clips begin so"
    assert 5 < shown < smiles, "some show teeth while they speak"
    with pytest.raises(ValueError, match="portraits = 2"):
        replace(plain, portraits=2)


def test_some_clips_begin_with_the_mouth_of_the_reference_picture() -> None:
    plain, begun = replace(VARIED, frames=40), 0
    for index in range(40):
        usual, other = (
            sample_clip(babble_tracks(2, 4.0, seed=0), index, seed=0, options=options).spec.people[0].motion
            for options in (plain, replace(plain, portraits=1e-9))
        )
        assert not np.any(usual.weights[3:] - other.weights[3:])
        assert not np.any(usual.weights[:, ~_FACE] - other.weights[:, ~_FACE])
        begun += np.array_equal(other.weights[0, MOUTH], other.weights[-1, MOUTH])
    assert 10 < begun < 30, "about half"


def test_the_reference_picture_can_be_shown_at_every_latent_frame(tmp_path: Path) -> None:
    clips = some_clips()
    (tmp_path / "latents").mkdir()
    clips.save(tmp_path / "held_latents.pt")
    telling_voices().save(tmp_path / "held_voices.pt")
    once, always = (Data.load(tmp_path, "held_", CPU, shown).clips for shown in ("first", "every"))
    assert torch.equal(once.own, clips.own)
    for shown, picture in ((always.own, clips.own), (always.other, clips.other)):
        assert torch.equal(shown, picture[:, :, :1].expand_as(picture))
    assert torch.equal(always.video, clips.video)
    with pytest.raises(ModelError, match="key_frame 'never' must be one of first, every"):
        AudioDiT(replace(TINY, key_frame="never"))


def test_a_network_that_names_the_video_answers_with_the_way_there() -> None:
    dit, clips, voices = drawn(VIDEO), some_clips(), telling_voices()
    plain = AudioDiT(TINY).eval()
    plain.load_state_dict(dit.state_dict())
    batch = assemble(torch.arange(2), Kind(1, LATENTS, 2), clips, voices, torch.Generator().manual_seed(0), dropout=0)
    told = {"condition": batch.condition, "audio": batch.audio}
    for time in (torch.tensor([900.0, 300.0]), torch.tensor([20.0, 1000.0])):
        clean = plain(batch.noisy, time, **told)
        level = (time / 1000).clamp(min=0.1).view(2, 1, 1, 1, 1)
        assert torch.allclose(dit(batch.noisy, time, **told), (batch.noisy - clean) / level, atol=1e-4)
    with pytest.raises(ModelError, match="prediction 'noise' must be one of velocity, video"):
        AudioDiT(replace(TINY, prediction="noise"))


def test_grown_transformers_begin_as_the_one_before() -> None:
    assert sources(2, 3) == [(0, False), (0, True), (1, False)]
    old = drawn()
    deep = replace(TINY, num_layers=3)
    new = AudioDiT(deep)
    new.load_state_dict(grown(old.state_dict(), new.state_dict(), TINY, deep))
    clips, voices = some_clips(), telling_voices()
    batch = assemble(torch.arange(2), Kind(1, LATENTS, 2), clips, voices, torch.Generator().manual_seed(0), dropout=0)
    answers = [
        dit(batch.noisy, batch.timestep, condition=batch.condition, audio=batch.audio) for dit in (old, new.eval())
    ]
    assert torch.allclose(answers[0], answers[1], atol=1e-5)
    large = replace(deep, patch_size=(1, 4, 4), prediction="video")
    wide = AudioDiT(large)
    fresh = wide.state_dict()
    weights = grown(old.state_dict(), fresh, TINY, large)
    wide.load_state_dict(weights)
    assert torch.equal(weights["head.head.weight"], fresh["head.head.weight"])
    assert torch.equal(weights["blocks.2.ffn.0.weight"], old.state_dict()["blocks.1.ffn.0.weight"])
    with pytest.raises(ValueError, match="width 64 cannot begin as one of width 48"):
        grown(old.state_dict(), fresh, TINY, replace(large, dim=64))
    assert grown.__doc__ and DITS[EDITIONS["2"].dit].dim == DITS[EDITIONS["1"].dit].dim


def test_the_condition_says_how_much_people_shall_move() -> None:
    picture = torch.randn(3, 16, 4, 2, 2)
    told = condition(picture, torch.tensor([0.0, 1.0, 2.0]))
    assert torch.equal(told[1], condition(picture)[1]), "the usual motion is what the engine asks for"
    assert told[:, 0, 0].unique().tolist() == [1.0]
    assert told[:, 2, 3, 0, 0].tolist() == [-1.0, 0.0, 1.0]


def test_foreign_textures_come_to_some_videos() -> None:
    video = torch.zeros(60, 3, 2, 16, 16)
    seen = worn(video, torch.Generator().manual_seed(0), scale=4)
    changed = (seen != video).flatten(1).any(1)
    assert 8 < int(changed.sum()) < 34
    assert seen.abs().max() <= 1
    assert torch.equal(seen[:, :, 0], seen[:, :, 1]), "textures stand still"


@pytest.mark.parametrize("config", [TINY, VIDEO])
def test_a_student_is_shown_where_its_teacher_gets(config: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distil, "MAIN", Kind(1, LATENTS, 4))
    edition = replace(EDITIONS["2"], steps=3, shift=1.0)
    teacher, data = drawn(config), Data(some_clips(), telling_voices())
    student = Distiller(teacher, edition, CPU, compiled=())
    assert student.worth == 2, "the schedule's last step is next to nothing"
    draws = torch.Generator().manual_seed(0)
    batch = student.batch(data, Kind(1, LATENTS, 4), draws)
    levels = [level / 1000 for level in timesteps(3, 1.0)]
    assert {round(float(time) / 1000, 3) for time in batch.timestep} <= {round(level, 3) for level in levels[:2]}
    one = torch.arange(1)
    here = float(batch.timestep[0]) / 1000
    until = levels[min(range(3), key=lambda step: abs(levels[step] - here)) + 1]
    way = [1000 * (here + (until - here) * part / distil.SUBSTEPS) for part in range(distil.SUBSTEPS + 1)]
    kept = batch.weight[0, 0, :, 0, 0] == 0

    def velocity(latent: torch.Tensor, time: float) -> torch.Tensor:
        told = Told(batch.condition[one], batch.audio[one])
        return guided(teacher, latent[None], torch.tensor([time]), told, distil.GUIDANCE)[0].detach()

    *_, there = euler(velocity, batch.noisy[0], way, batch.noisy[0, :, kept])
    arrived = batch.noisy[0] - batch.target[0] * (here - until)
    assert torch.allclose(arrived[:, ~kept], there[:, ~kept], atol=1e-4)


def test_distilling_brings_few_steps_nearer_to_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distil, "MAIN", Kind(1, LATENTS, 4))
    edition = replace(EDITIONS["2"], steps=3, shift=1.5)
    data, draws = Data(some_clips(), telling_voices()), torch.Generator().manual_seed(0)
    trained = Trainer(VIDEO, CPU, compiled=(), rate=3e-3, main=Kind(1, LATENTS, 4))
    for _ in range(40):
        trained.step(data, Kind(1, LATENTS, 4), 1.0, draws)
    student = Distiller(trained.dit, edition, CPU, compiled=(), rate=1e-3)
    index = data.clips.of_people(1)[:3]
    told = condition(data.clips.own[index], data.clips.strength[index])
    audio = data.voices.windows(data.clips.utterance[index, :1], data.clips.start[index, :1], 4 * LATENTS - 3)
    motion = data.clips.video[index, :, :1]
    few = {"steps": 3, "shift": 1.5, "audio_scale": 1.0}
    wanted = sample(trained.dit, told, audio, motion, steps=9, shift=1.5, audio_scale=distil.GUIDANCE)
    before = float((sample(student.dit, told, audio, motion, **few) - wanted).square().mean())  # type: ignore[arg-type]
    for _ in range(30):
        student.step(data, Kind(1, LATENTS, 4), 1.0, draws)
    after = float((sample(student.dit, told, audio, motion, **few) - wanted).square().mean())  # type: ignore[arg-type]
    assert after < 0.9 * before


def test_layers_that_were_trained_before_stay_as_they_are(tmp_path: Path) -> None:
    trainer = Trainer(TINY, CPU, compiled=())
    before = {name: value.clone() for name, value in trainer.dit.audio_proj.state_dict().items()}
    head = trainer.reader.head.weight.detach().clone()
    log, voices = RunLog(tmp_path / "log.txt"), telling_voices()
    begin(trainer.dit.audio_proj, trainer.reader, voices, frames=9, seed=0, log=log, steps=3, keep=True)
    assert all(torch.equal(value, before[name]) for name, value in trainer.dit.audio_proj.state_dict().items())
    assert not torch.equal(trainer.reader.head.weight, head)


def test_a_network_that_names_the_video_is_not_pressed_where_little_noise_is_left() -> None:
    data, kind = Data(some_clips(), telling_voices()), Kind(1, LATENTS, 64)
    pressed, eased = (
        Trainer(config, CPU, compiled=()).batch(data, kind, torch.Generator().manual_seed(0))
        for config in (TINY, VIDEO)
    )
    share = (eased.weight / pressed.weight.clamp(min=1e-9)).amax((1, 2, 3, 4))
    level = pressed.timestep / 1000
    assert torch.allclose(share, (level / 0.3).clamp(max=1) ** 2)
    assert (share < 1).any() and (share == 1).any()
