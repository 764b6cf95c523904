"""Disturbances that real recordings have, on whole batches and on the device; none of them moves the sound in time.

Every function takes sound [B, samples] at 16 kHz and a generator of its device, and disturbs a random part of the
batch. Decibels are relative to the loudness of each crop.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from training.speech.dice import RATE, Dice
from training.speech.voices import other_voice

REVERB_SECONDS = 0.4


def loudness(sound: Tensor) -> Tensor:
    """Root mean square [B, 1], with a floor so that silence can be scaled against."""
    return sound.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-4)


def at_snr(noise: Tensor, sound: Tensor, decibels: Tensor) -> Tensor:
    """``noise`` scaled to lie ``decibels`` below ``sound``."""
    return noise * (loudness(sound) / loudness(noise) * 10 ** (-decibels / 20))


def upsample(points: Tensor, samples: int) -> Tensor:
    """A smooth curve [B, samples] through points [B, n]."""
    return F.interpolate(points[:, None], size=samples, mode="linear", align_corners=True)[:, 0]


def drop_stretches(sound: Tensor, labels: Tensor, dice: Dice, silence: int) -> tuple[Tensor, Tensor]:
    """Silence from a random place on, for up to two seconds, in a tenth of the crops; labels say so."""
    batch, count = labels.shape[:2]
    begin = dice.uniform(0, count).long()
    length = (dice.uniform(10, 100) * dice.chance(0.1)).long()
    place = torch.arange(count, device=sound.device)
    quiet = (place >= begin) & (place < begin + length)
    kept = (~quiet).float().repeat_interleave(sound.shape[1] // count, dim=1)
    silent = F.one_hot(torch.tensor(silence, device=sound.device), labels.shape[-1]).float()
    return sound * kept, torch.where(quiet[..., None], silent.expand(batch, 1, -1), labels)


def babble(sound: Tensor, dice: Dice) -> Tensor:
    """Other voices of the batch behind the speaker, 10 to 30 dB down, in a fifth of the crops."""
    level = dice.uniform(10, 30)
    others = sound.roll(1, 0) + sound.roll(2, 0) * dice.chance(0.5)
    return sound + at_snr(others, sound, level) * dice.chance(0.2)


def automation(sound: Tensor, dice: Dice) -> Tensor:
    """A level that wanders by up to 8 dB, in a third of the crops."""
    curve = upsample(dice.uniform(-8, 8, 6) * dice.chance(0.33), sound.shape[1])
    return sound * 10 ** (curve / 20)


def room_and_tone(sound: Tensor, dice: Dice) -> Tensor:
    """Reverberation and a random frequency response in one pass; without delay, since the response has no phase."""
    samples = sound.shape[1]
    size = 1 << (samples + int(REVERB_SECONDS * RATE) - 1).bit_length()
    response = torch.fft.rfft(_room(dice), n=size) * _tone(dice, size // 2 + 1)
    heard: Tensor = torch.fft.irfft(torch.fft.rfft(sound, n=size) * response, n=size)
    return heard[:, :samples]


def _room(dice: Dice) -> Tensor:
    """Impulse responses [B, taps]: the direct sound, and in half of the batch a decaying tail of noise."""
    taps = int(REVERB_SECONDS * RATE)
    time = torch.arange(taps, device=dice.device) / RATE
    decay = 10 ** (-3 * time / dice.uniform(0.1, 0.8))
    tail: Tensor = dice.normal(taps) * decay * (time > dice.uniform(0.001, 0.02))
    tail = tail / tail.square().sum(-1, keepdim=True).sqrt() * 10 ** (-dice.uniform(0, 18) / 20)
    direct = (torch.arange(taps, device=dice.device) == 0).float()
    return direct + tail * dice.chance(0.5)


def _tone(dice: Dice, bins: int) -> Tensor:
    """Gains [B, bins]: an equaliser from dull to shrill, and in a quarter of the batch the band of a telephone."""
    frequency = torch.linspace(0, RATE / 2, bins, device=dice.device)
    # Bands are about as wide as the ear's: linear below 700 Hz, logarithmic above.
    warped = torch.log1p(frequency / 700) / math.log1p(RATE / 2 / 700)
    # Recordings of people have up to 20 dB more above 3 kHz than some engines.
    tilt = dice.uniform(-10, 22) * torch.linspace(0, 1, 10, device=dice.device)
    decibels = dice.uniform(-8, 8, 10) * dice.chance(0.7) + tilt * dice.chance(0.8)
    position = warped * 9
    low = position.long().clamp(max=8)
    weight = position - low
    gains = decibels[:, low] * (1 - weight) + decibels[:, low + 1] * weight
    band = dice.chance(0.25)
    floor = torch.where(band, dice.uniform(80, 400), torch.full_like(gains[:, :1], 10.0))
    ceiling = torch.where(band, dice.uniform(2200, 7000), torch.full_like(gains[:, :1], 16_000.0))
    edges = 1 / (1 + (floor / (frequency + 1)) ** 6) / (1 + (frequency / ceiling) ** 12)
    return 10 ** (gains / 20) * edges


def noise(sound: Tensor, dice: Dice) -> Tensor:
    """Steady or breathing noise of any colour from blue to brown, 5 to 45 dB down, in three quarters of the crops."""
    samples = sound.shape[1]
    spectrum = torch.fft.rfft(dice.normal(samples))
    frequency = torch.linspace(0.002, 1, spectrum.shape[1], device=dice.device)
    coloured = torch.fft.irfft(spectrum * frequency ** -dice.uniform(-0.5, 1.3), n=samples)
    breathing = upsample(dice.uniform(-12, 6, 12) * dice.chance(0.5), samples)
    return sound + at_snr(coloured * 10 ** (breathing / 20), sound, dice.uniform(5, 45)) * dice.chance(0.75)


def music(sound: Tensor, dice: Dice, voices: int = 4) -> Tensor:
    """Held tones with overtones that change pitch now and then, 5 to 25 dB down, in an eighth of the crops."""
    samples = sound.shape[1]
    chosen = dice.chance(0.125)
    total = torch.zeros_like(sound)
    notes = samples // 6400 + 1
    for _ in range(voices):
        pitch = 110 * 2 ** (dice.uniform(0, 36, notes).round() / 12)
        phase = pitch.repeat_interleave(6400, dim=1)[:, :samples].cumsum(1) * (2 * math.pi / RATE)
        bright = dice.uniform(0, 0.7)
        total = total + phase.sin() + bright * (2 * phase).sin() + bright**2 * (3 * phase).sin()
    return sound + at_snr(total, sound, dice.uniform(5, 25)) * chosen


def clip(sound: Tensor, dice: Dice) -> Tensor:
    """Overdriven converters: peaks cut off, in a tenth of the crops."""
    limit = loudness(sound) * dice.uniform(1.0, 3.0)
    return torch.where(dice.chance(0.1), sound.clamp(-limit, limit), sound)


def polarity(sound: Tensor, dice: Dice) -> Tensor:
    """Upside down in half of the crops, as it comes from some microphones; nobody hears a difference."""
    return torch.where(dice.chance(0.5), -sound, sound)


def augment(sound: Tensor, labels: Tensor, generator: torch.Generator, silence: int = 0) -> tuple[Tensor, Tensor]:
    """All disturbances in the order in which they happen between a mouth and a file.

    Args:
        sound: [B, samples].
        labels: [B, n, classes], n dividing samples.
        generator: source of all randomness, on the sound's device.
        silence: class of silence.

    Returns:
        Disturbed sound and its labels (changed only where the speech was taken out).
    """
    dice = Dice(len(sound), generator)
    sound, labels = drop_stretches(sound, labels, dice, silence)
    sound = other_voice(sound, dice)
    sound = automation(sound, dice)
    sound = babble(sound, dice)
    sound = music(sound, dice)
    sound = room_and_tone(sound, dice)
    sound = noise(sound, dice)
    return polarity(clip(sound, dice), dice), labels
