"""The speech corpus and the training of the speech encoder, at tiny sizes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from infinitetalk.core.configs import SpeechConfig
from infinitetalk.core.errors import MediaError, ModelError
from infinitetalk.models.speech import normalise
from training.clock import RunLog
from training.heads.visemes import CLASS_INDEX, PHONE_CLASSES, Segment
from training.speech import augment, corpus, encoder, labels, voices
from training.speech.batches import GRID, Bank, label_grid, soft_labels
from training.speech.corpus import Utterance
from training.speech.dice import Dice
from training.speech.engines import Sentence
from training.speech.evaluate import evaluate
from training.speech.foreign import WORDS, foreign
from training.speech.kokoro import respell
from training.speech.make_corpus import pause, stream
from training.speech.sentences import english
from training.speech.train import Training, run

SIL, AA, P, B, S, T = (CLASS_INDEX[name] for name in ("SIL", "AA", "P", "B", "S", "T"))
RATE = 16_000
TINY = SpeechConfig(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    conv_dim=(16,) * 7,
    conv_kernel=encoder.SMALL.conv_kernel,
    num_conv_pos_embeddings=8,
    num_conv_pos_embedding_groups=2,
)


def tone(hertz: float, seconds: float) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    time = np.arange(round(seconds * RATE)) / RATE
    return (12_000 * np.sin(2 * np.pi * hertz * time)).astype(np.int16)


def kept(reader: encoder.PhoneReader) -> dict[str, Tensor]:
    """The weights that `save_reader` writes: how mouths were read is nobody's business later."""
    return {name: value for name, value in reader.state_dict().items() if not name.startswith("mouths.")}


def made(seconds: float = 12.0, seed: int = 0) -> Utterance:
    """Phones that are told apart by pitch: silence, 300 Hz for AA, 3 kHz for S."""
    rng = random.Random(seed)
    parts, segments, position = [], [], 0.0
    while position < seconds:
        phone, hertz = rng.choice(((SIL, 0.0), (AA, 300.0), (S, 3000.0)))
        length = rng.choice((0.08, 0.12, 0.2))
        parts.append(tone(hertz, length))
        segments.append(Segment(phone, position, position + length))
        position += length
    audio = np.concatenate(parts)
    return Utterance(audio, labels.cover(segments, len(audio) / RATE), "made", "a", "train")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


class TestLabels:
    def test_network_durations_become_times_without_the_delay(self) -> None:
        audio = tone(200, 1.0)
        found = labels.network_segments("pˈɑ s.", [8, 2, 1, 4, 2, 4, 4, 1], 0.025, audio)
        assert [segment.phone for segment in found[:3]] == [P, AA, S]
        late = labels.NETWORK_DELAY
        assert found[0].start == pytest.approx(8 * 0.025 - late)
        # The stress mark belongs to the vowel, the gap between words to the consonant after it.
        assert [found[1].start, found[1].end] == pytest.approx([10 * 0.025 - late, 15 * 0.025 - late])
        assert found[2].start == pytest.approx(15 * 0.025 - late)

    def test_a_phone_does_not_last_into_the_pause_after_its_clause(self) -> None:
        audio = np.concatenate([tone(200, 0.5), np.zeros(8000, np.int16)])
        found = labels.cut_pauses([Segment(AA, 0.1, 0.95)], audio)
        assert len(found) == 1
        assert found[0].end == pytest.approx(0.5, abs=0.02)

    def test_a_stop_keeps_its_closure(self) -> None:
        audio = np.concatenate([tone(200, 0.3), np.zeros(1280, np.int16), tone(200, 0.3)])
        segments = [Segment(AA, 0.0, 0.3), Segment(P, 0.3, 0.4), Segment(AA, 0.4, 0.68)]
        assert labels.cut_pauses(segments, audio) == segments

    def test_espeak_closures_move_into_voiceless_stops_only(self) -> None:
        found = labels.espeak_segments([("a", 0.0, 0.2), ("p", 0.2, 0.3), ("a", 0.3, 0.5), ("b", 0.5, 0.6)])
        assert [segment.start for segment in found] == pytest.approx([0.0, 0.2 - labels.CLOSURE, 0.3, 0.5])
        assert found[0].end == found[1].start

    def test_schwas_are_told_from_the_other_text(self) -> None:
        names = ("SIL", "DH", "AH", "K", "AH", "P", "SIL")
        segments = [Segment(CLASS_INDEX[name], float(i), i + 1.0) for i, name in enumerate(names)]
        found = labels.with_schwas(segments, "ðə kˈʌp")
        assert [segment.phone for segment in found] == [
            SIL,
            *(CLASS_INDEX[n] for n in ("DH", "AX", "K", "AH", "P")),
            SIL,
        ]
        assert [segment.start for segment in found] == [segment.start for segment in segments]

    def test_cover_fills_gaps_and_leaves_no_overlap(self) -> None:
        found = labels.cover([Segment(AA, 0.2, 0.5), Segment(P, 0.45, 0.6), Segment(S, 0.9, 1.4)], 1.2)
        assert found == [
            Segment(SIL, 0.0, 0.2), Segment(AA, 0.2, 0.5), Segment(P, 0.5, 0.6), Segment(SIL, 0.6, 0.9),
            Segment(S, 0.9, 1.2),
        ]  # fmt: skip

    def test_the_grid_follows_the_segments(self) -> None:
        utterance = made()
        grid = label_grid(utterance)
        for segment in utterance.segments[:20]:
            middle = int((segment.start + segment.end) / 2 * RATE / GRID)
            assert grid[middle] == segment.phone


class TestText:
    def test_sentences_are_varied_and_complete(self) -> None:
        rng = random.Random(1)
        texts = [english(rng) for _ in range(300)]
        assert len(set(texts)) > 280
        assert not any("{" in text or "}" in text for text in texts)
        assert any(text.endswith("?") for text in texts) and any(text.endswith("!") for text in texts)
        assert any(letter.isdigit() for text in texts for letter in text)

    @pytest.mark.parametrize("language", sorted(WORDS))
    def test_every_language_speaks(self, language: str) -> None:
        text = foreign(language, random.Random(2))
        assert sum(word in text for word in WORDS[language]) >= 4

    def test_respelling_leaves_one_letter_per_diphthong(self) -> None:
        assert respell("tʃˈeɪndʒ") == "ʧˈAnʤ"
        assert respell("bˈɜːd") == "bˈɜɹd"


class TestCorpus:
    def test_round_trip(self, tmp_path: Path) -> None:
        utterance = made(3.0)
        corpus.save(tmp_path / "train-made.npz", [corpus.encode(utterance, 0.9)])
        (found,) = corpus.load(tmp_path, ["train"])
        assert len(found.audio) == len(utterance.audio)
        assert [segment.phone for segment in found.segments] == [segment.phone for segment in utterance.segments]
        ends = [(a.end, b.end) for a, b in zip(found.segments, utterance.segments, strict=True)]
        assert max(abs(a - b) for a, b in ends) <= 0.5 / RATE
        # The codec keeps time: no lag correlates better than none.
        lags = [
            float(np.dot(found.audio[200 + lag : -200 + lag or None].astype(float), utterance.audio[200:-200]))
            for lag in (-40, -20, -8, 0, 8, 20, 40)
        ]
        assert int(np.argmax(lags)) == 3

    def test_refuses_a_missing_file_and_other_classes(self, tmp_path: Path) -> None:
        with pytest.raises(MediaError, match="make_corpus"):
            corpus.load(tmp_path, ["train"])
        corpus.save(tmp_path / "train-made.npz", [corpus.encode(made(1.0), 0.9)])
        table = dict(np.load(tmp_path / "train-made.npz"))
        np.savez(tmp_path / "train-made.npz", **{**table, "classes": np.array(json.dumps(["SIL", "XX"]))})
        with pytest.raises(MediaError, match="other phone classes"):
            corpus.load(tmp_path, ["train"])

    def test_streams_keep_phones_where_their_sound_is(self) -> None:
        sentence = Sentence(
            np.concatenate([np.zeros(4000), np.full(8000, 0.5), np.zeros(6000)]).astype(np.float32),
            [Segment(AA, 0.25, 0.75)],
        )
        audio, segments = stream(iter([sentence] * 3), random.Random(3))
        assert len(segments) == 3
        for _, start, end in segments:
            middle = audio[round(start * RATE) : round(end * RATE)]
            assert middle.min() == 0.5
        assert np.abs(audio).sum() == 3 * 8000 * 0.5
        assert all(0.1 <= pause(random.Random(seed)) <= 2.0 for seed in range(20))


class TestBatches:
    def test_speed_moves_sound_and_labels_together(self) -> None:
        bank = Bank([made(20.0)], torch.device("cpu"))
        for speed in (0.85, 1.0, 1.18):
            sound, shares, _ = bank.crop(torch.tensor([1600]), torch.tensor([speed]), 50)
            assert sound.shape == (1, 50 * 640) and shares.shape == (1, 100, len(PHONE_CLASSES))
            assert torch.allclose(shares.sum(-1), torch.ones(1, 100))
            power = sound.reshape(100, 320).square().mean(-1)
            quiet = shares[0, :, SIL]
            assert power[quiet == 1].max() < 1e-4
            assert power[quiet == 0].min() > 1e-2

    def test_the_mouth_moves_with_the_sound(self) -> None:
        """At any speed the mouth is open where AA is said: the first column, the jaw, follows the phones' shares."""
        bank = Bank([made(20.0)], torch.device("cpu"))
        for speed in (0.8, 1.0, 1.25):
            _, shares, mouth = bank.crop(torch.tensor([1600]), torch.tensor([speed]), 100)
            said = shares[0, :, AA].reshape(100, 2).mean(1)
            assert mouth.shape == (1, 100, len(encoder.MOUTH))
            assert torch.corrcoef(torch.stack([said, mouth[0, :, 0]]))[0, 1] > 0.8

    def test_removed_speech_leaves_the_mouth_at_rest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def silence_first_second(sound: Tensor, labels: Tensor, _: torch.Generator) -> tuple[Tensor, Tensor]:
            labels = labels.clone()
            labels[:, :50] = torch.nn.functional.one_hot(torch.tensor(SIL), len(PHONE_CLASSES)).float()
            return sound, labels

        monkeypatch.setattr("training.speech.train.augment", silence_first_second)
        training = Training(Bank([made(20.0)], torch.device("cpu")), torch.device("cpu"), TINY, rate=1e-3, seed=0)
        _, labels, mouth = training.batch(75, 8)
        assert (labels[:, :50, SIL] == 1).all()
        resting = mouth.abs().amax(-1) == 0
        assert resting[:, :25].float().mean() > 0.5, "where something was said before"
        assert resting[:, 25:].float().mean() < 0.5

    def test_a_crop_at_unit_speed_is_the_sound_itself(self) -> None:
        utterance = made(6.0)
        bank = Bank([utterance], torch.device("cpu"))
        sound, *_ = bank.crop(torch.tensor([3200]), torch.tensor([1.0]), 25)
        expected = torch.from_numpy(utterance.audio[3200 : 3200 + 16_000]).float() / 32768
        assert torch.allclose(sound[0], expected, atol=1e-6)

    def test_labels_are_shared_at_boundaries(self) -> None:
        shares = soft_labels(torch.tensor([[AA] * 6 + [P] * 2]))
        assert shares[0, 0, AA] == 0.75 and shares[0, 0, P] == 0.25

    def test_an_empty_corpus_is_refused(self) -> None:
        with pytest.raises(MediaError, match="no utterances"):
            Bank([], torch.device("cpu"))


class TestAugmentation:
    @pytest.mark.parametrize(
        "disturb",
        [
            *(augment.babble, augment.automation, augment.room_and_tone, augment.noise, augment.music, augment.clip),
            augment.polarity,
            voices.other_voice,
        ],
    )
    def test_changes_the_sound_but_not_its_timing(self, disturb: object) -> None:
        """A click stays the loudest sample of its neighbourhood, whatever is done to it."""
        sound = torch.zeros(64, 16_000)
        sound[:, 8000] = 1.0
        result = disturb(sound, Dice(64, generator()))  # type: ignore[operator]
        assert torch.isfinite(result).all()
        assert result.shape == sound.shape
        places = result.abs()[:, 7600:8400].argmax(-1) - 400
        assert (places.abs() <= 8).float().mean() > 0.9

    def test_another_throat_moves_formants_and_keeps_the_pitch(self) -> None:
        """Buzz through one resonance: its peak moves by the factor, its harmonics stay where they were."""
        time = torch.arange(32_000) / RATE
        harmonics = torch.arange(1, 60)[:, None] * 120.0
        gain = 1 / (1 + ((harmonics - 1500) / 250) ** 2)
        sound = (gain * torch.cos(2 * torch.pi * harmonics * time)).sum(0)[None].repeat(32, 1)
        dice = Dice(32, generator(3))
        changed = voices.other_voice(sound, dice)
        power = torch.fft.rfft(changed).abs().square().reshape(32, -1)[:, :-1].reshape(32, -1, 50).sum(-1)  # 25 Hz bins
        centres = (power * torch.arange(power.shape[1])).sum(-1) / power.sum(-1) * 25 + 12.5
        assert centres.min() < 1400 and centres.max() > 1600
        assert centres.min() > 1050 and centres.max() < 2300

    def test_an_envelope_has_no_harmonics_and_keeps_the_level(self) -> None:
        level = torch.linspace(0, -3, 257)[None, :, None] + 0.5 * torch.cos(torch.arange(257) * 1.57)[None, :, None]
        envelope = voices.smooth(level.expand(1, 257, 3))
        assert torch.allclose(envelope[0, 20:-20, 1], torch.linspace(0, -3, 257)[20:-20], atol=0.1)

    def test_all_together_disturb_most_crops_and_keep_labels(self) -> None:
        bank = Bank([made(20.0)], torch.device("cpu"))
        start = torch.arange(16) * 6400
        sound, shares, _ = bank.crop(start, torch.ones(16), 50)
        disturbed, changed = augment.augment(sound, shares, generator(1), SIL)
        assert torch.isfinite(disturbed).all()
        different = (changed != shares).any(-1)
        assert (changed[different].argmax(-1) == SIL).all()
        assert different.any(-1).float().mean() < 0.5
        assert ((disturbed - sound).abs().mean(-1) > 1e-4).float().mean() > 0.8

    def test_speech_that_is_taken_out_is_silent(self) -> None:
        sound = torch.ones(200, 640 * 20)
        shares = torch.zeros(200, 40, len(PHONE_CLASSES))
        shares[..., AA] = 1
        quiet, changed = augment.drop_stretches(sound, shares, Dice(200, generator(2)), SIL)
        assert torch.equal(quiet.reshape(200, 40, 320).amax(-1) == 0, changed[..., SIL] == 1)
        assert (changed[..., SIL] == 1).any()


class TestTraining:
    def test_frames_are_heard_where_they_are(self) -> None:
        """A feature of frame f depends on the samples of frame f and on no others (before the transformer)."""
        layers = list(encoder.PhoneReader(TINY).encoder.network.feature_extractor.conv_layers)
        sound = torch.randn(1, 640 * 10, requires_grad=True)
        # The first layer's normalisation over time would tie every sample to every other.
        features: Tensor = layers[0].get_submodule("conv")(sound[:, None])
        for layer in layers[1:]:
            features = layer(features)
        (touched,) = torch.autograd.grad(features[0, :, 2 * 4].sum(), sound)
        used = touched[0].nonzero().flatten()
        assert features.shape[-1] == 2 * 10 - 1
        assert (int(used.min()), int(used.max())) == (640 * 4, 640 * 5 - 1)

    def test_the_small_encoder_is_small(self) -> None:
        reader = encoder.PhoneReader(encoder.SMALL)
        assert sum(value.numel() for value in reader.encoder.parameters()) <= 3_000_000
        assert reader(torch.randn(1, 640 * 6)).shape == (4, 1, 12, len(PHONE_CLASSES))

    def test_loss_falls_and_weights_come_back(self, tmp_path: Path) -> None:
        torch.set_num_threads(1)
        training = Training(Bank([made(30.0)], torch.device("cpu")), torch.device("cpu"), TINY, rate=3e-3, seed=0)
        losses = [float(training.step(3.0, 0.0)[0]) for _ in range(40)]
        assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])
        training.average.swap()
        encoder.save(training.reader.encoder, tmp_path)
        again = encoder.load(tmp_path, torch.device("cpu"))
        sound = normalise(torch.randn(640 * 8))
        training.reader.eval()
        assert torch.equal(again(sound, 8), training.reader.encoder(sound, 8))

    def test_a_wrong_mouth_shape_costs_more_than_a_wrong_phone(self) -> None:
        target = torch.eye(len(PHONE_CLASSES))[None, [P]]
        losses = [
            float(encoder.phone_loss(8 * torch.eye(len(PHONE_CLASSES))[None, None, [guess]], target))
            for guess in (P, B, AA)
        ]
        assert losses[0] < losses[1] < losses[2]

    def test_a_run_starts_from_the_weights_of_another(self, tmp_path: Path) -> None:
        bank, device = Bank([made(10.0)], torch.device("cpu")), torch.device("cpu")
        first = Training(bank, device, TINY, rate=1e-3, seed=0)
        encoder.save_reader(first.reader, tmp_path)
        second = Training(bank, device, TINY, rate=1e-3, seed=5, start_from=tmp_path)
        for name, value in kept(first.reader).items():
            assert torch.equal(value, second.reader.state_dict()[name])
        with pytest.raises(ModelError, match="another shape"):
            Training(bank, device, encoder.SMALL, rate=1e-3, seed=5, start_from=tmp_path)
        with pytest.raises(ModelError, match="is missing"):
            Training(bank, device, TINY, rate=1e-3, seed=5, start_from=tmp_path / "none")

    def test_weights_are_written_while_training_and_scored_after(self, tmp_path: Path) -> None:
        log = RunLog(tmp_path / "log.txt")
        training = Training(Bank([made(10.0)], torch.device("cpu")), torch.device("cpu"), TINY, rate=1e-3, seed=0)
        run(training, tmp_path, log, seconds=0.5, batch_seconds=2.0)
        again = encoder.PhoneReader(TINY)
        encoder.take_over(again, tmp_path)
        for name, value in kept(training.reader).items():
            assert torch.equal(value, again.state_dict()[name])
        (score,) = evaluate(again, [made(6.0)], [made(6.0, seed=1)], torch.device("cpu"))
        assert 0 <= score.phone <= 1 and score.seconds == pytest.approx(6, abs=0.3)

    def test_a_run_that_was_cut_off_goes_on(self, tmp_path: Path) -> None:
        bank = Bank([made(10.0)], torch.device("cpu"))
        first = Training(bank, torch.device("cpu"), TINY, rate=1e-3, seed=0)
        for _ in range(2):
            first.step(3.0, 0.0)
        torch.save(first.state(7.0), tmp_path / "checkpoint.pt")
        second = Training(bank, torch.device("cpu"), TINY, rate=1e-3, seed=5)
        assert second.resume(tmp_path / "checkpoint.pt") == 7.0
        assert second.step_number == 2
        first.reader.eval()
        second.reader.eval()
        sound, others = first.batch(5, 2), second.batch(5, 2)
        assert torch.equal(sound[0], others[0])
        assert torch.equal(first.reader(sound[0]), second.reader(others[0]))
