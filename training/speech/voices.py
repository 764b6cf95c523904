"""Speakers that no engine has: the voice's spectral envelope is moved and reshaped, pitch and timing stay.

One pass through short-time spectra does it all. The envelope (what throat, mouth and room make of the glottis) is
stretched along frequency as by a longer or shorter throat, its peaks are sharpened or flattened, the harmonics are
partly replaced by breath, and bands and short moments are taken out so that no single cue is relied upon.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from training.speech.dice import RATE, Dice

WINDOW = 512
HOP = 128
QUEFRENCIES = 28  # cepstral coefficients of the envelope: finer detail is harmonics
COARSE = 32  # bins to either side that the mean level of a frequency is taken from
LONGEST, SHORTEST = 0.80, 1.25  # factors of formant frequencies


def other_voice(sound: Tensor, dice: Dice) -> Tensor:
    """Sound [B, samples] as other speakers would have said it, in four fifths of the crops."""
    window = torch.hann_window(WINDOW, device=sound.device)
    spectra = torch.stft(sound, WINDOW, HOP, window=window, return_complex=True)
    level = spectra.abs().clamp(min=1e-5).log()
    envelope = smooth(level)
    wanted = bent(envelope, dice)
    spectra = spectra * (wanted - envelope).clamp(-4, 4).exp()
    spectra = breath(spectra, wanted, dice) * gaps(spectra, dice)
    changed = torch.istft(spectra, WINDOW, HOP, window=window, length=sound.shape[-1])
    return torch.where(dice.chance(0.8), changed, sound)


def smooth(level: Tensor) -> Tensor:
    """The envelope of log magnitudes [B, bins, frames] by their first cepstral coefficients."""
    cepstrum = torch.fft.irfft(level, n=WINDOW, dim=1)
    lag = torch.arange(WINDOW, device=level.device)
    lag = torch.minimum(lag, WINDOW - lag)
    # A soft edge, so that the envelope does not ring.
    kept = 0.5 + 0.5 * torch.cos(math.pi * (lag / QUEFRENCIES).clamp(max=1))
    envelope: Tensor = torch.fft.rfft(cepstrum * kept[:, None], n=WINDOW, dim=1).real
    return envelope


def bent(envelope: Tensor, dice: Dice) -> Tensor:
    """The envelope with formants moved by up to a quarter and up to 50 % sharper or flatter."""
    bins = envelope.shape[1]
    factor = dice.uniform(math.log(LONGEST), math.log(SHORTEST)).exp()
    place = (torch.arange(bins, device=envelope.device) / factor).clamp(max=bins - 1.001)
    low = place.long()
    share = (place - low)[..., None]
    lows = low[..., None].expand(-1, -1, envelope.shape[2])
    moved = envelope.gather(1, lows) * (1 - share) + envelope.gather(1, lows + 1) * share
    # Sharpness is about the slope of the voice, not about its level: only differences to a coarse mean are scaled.
    edges = torch.cat([moved[:, :1].expand(-1, COARSE, -1), moved, moved[:, -1:].expand(-1, COARSE, -1)], dim=1)
    sums = torch.nn.functional.pad(edges.cumsum(1), (0, 0, 1, 0))
    coarse = (sums[:, 2 * COARSE :] - sums[:, : -2 * COARSE])[:, :bins] / (2 * COARSE)
    return coarse + (moved - coarse) * dice.uniform(math.log(0.6), math.log(1.5)).exp()[..., None]


def breath(spectra: Tensor, envelope: Tensor, dice: Dice) -> Tensor:
    """Harmonics partly replaced by noise of the same envelope, more so at high frequencies; at times a whisper."""
    amount = torch.where(dice.chance(0.06), 1.0, dice.uniform(0, 0.7).square())[..., None]
    rise = torch.linspace(0, 1, spectra.shape[1], device=spectra.device)[None, :, None]
    share = (amount * (0.3 + 1.4 * rise)).clamp(max=1)
    noise = torch.complex(dice.normal_like(envelope), dice.normal_like(envelope)) * math.sqrt(0.5)
    return spectra * (1 - share.square()).sqrt() + noise * envelope.exp() * share


def gaps(spectra: Tensor, dice: Dice) -> Tensor:
    """Gains [B, bins, frames] that weaken two bands of up to 1 kHz all along and up to two moments of 40 ms."""
    _, bins, frames = spectra.shape
    bin_width = RATE / WINDOW
    bands = _spans(bins, dice, 1000 / bin_width) * dice.uniform(0.3, 1.0)
    times = _spans(frames, dice, 0.04 * RATE / HOP) * dice.chance(0.5)
    return (1 - bands)[:, :, None] * (1 - times)[:, None, :]


def _spans(count: int, dice: Dice, widest: float) -> Tensor:
    """[B, count]: 1 within two random spans of up to ``widest``, else 0."""
    place = torch.arange(count, device=dice.device)
    begin, width = dice.uniform(0, count, 2), dice.uniform(0, widest, 2)
    inside = (place >= begin[..., None]) & (place < (begin + width)[..., None])
    return inside.any(1).float()
