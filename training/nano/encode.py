"""Clips to latents and speech to features: `python -m training.nano.encode DATA`.

Reads `clips/`, `held/`, the VAE, the speech encoder and the speech corpus; writes `latents/*.pt`, `voices.pt`,
`held_latents.pt` and `held_voices.pt` into DATA. Every training clip is encoded twice: as it is, and mirrored in other
colours with a worn beginning. What an earlier run wrote is kept.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from infinitetalk.models import vae_blocks
from infinitetalk.models.speech import SpeechEncoder
from infinitetalk.models.vae import VideoVAE
from training.checkpoint import Progress
from training.clock import RunLog
from training.nano.latents import ROUGH_LATENTS, ClipLatents
from training.nano.pictures import PictureBank
from training.nano.pixels import to_bytes, to_video
from training.nano.preview import load_vae
from training.nano.restyle import bent, blurred, restyled
from training.nano.store import FRAMES, REFERENCE, SIZE, Clips, finished, load
from training.nano.train_vae import fast_kernels, half
from training.nano.voices import SILENCE_FRAMES, VoiceBank, frames_of, listen, spoken
from training.speech.augment import clip, noise, room_and_tone
from training.speech.batches import mouth_track
from training.speech.corpus import Utterance
from training.speech.dice import Dice
from training.speech.encoder import load as load_encoder

NOISE = 0.5
"""Noise on speech features in training, at most, relative to their spread."""
BATCH, PART = 16, 256
"""Clips that are encoded at once, and that share a file."""


def encode_references(vae: VideoVAE, pictures: Tensor) -> Tensor:
    """Latents of pictures (B, h, w, 3) bytes, each followed by grey frames to a whole window."""
    return vae.encode_still(to_video(pictures[:, None]), FRAMES)


def wear(vae: VideoVAE, latents: Tensor, generator: torch.Generator) -> Tensor:
    """Latents of the frames that a less than perfect window would have handed on.

    The latents are disturbed, decoded, changed in colour by up to a few hundredths, made softer or harder (lines that
    deepen from window to window are what a network of this size does to faces), moved by a smooth field as if the face
    had become another's, and encoded again. What to go on with is the clip as it was: who somebody is, the reference
    picture says, and not the frames before.
    """
    device, count = latents.device, len(latents)
    amount = 0.35 * torch.rand(count, 1, 1, 1, 1, generator=generator, device=device)
    coarse = torch.randn(count, *latents.shape[1:3], 8, 8, generator=generator, device=device)
    coarse = F.interpolate(coarse.flatten(0, 1), size=latents.shape[-2:], mode="bilinear").view(latents.shape)
    fine = torch.randn(latents.shape, generator=generator, device=device)
    video = vae.decode(latents + amount * (0.5 * coarse + 0.7 * fine)).float()
    gain = 1 + 0.04 * torch.randn(count, 3, 1, 1, 1, generator=generator, device=device)
    lift = 0.03 * torch.randn(count, 3, 1, 1, 1, generator=generator, device=device)
    video = bent(video, generator, torch.rand(count, 1, 1, 1, generator=generator, device=device))
    for size, most in ((3, 0.5), (9, 0.35)):
        soft = blurred(video, size)
        share = most * (2 * torch.rand(count, 1, 1, 1, 1, generator=generator, device=device) - 1)
        video = torch.lerp(video, soft, share)
    return vae.encode((video * gain + lift).clamp(-1, 1)).float()


def mirrored(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Clips of bytes (B, F, h, w, 3) seen in a mirror and in other colours: other people, at no cost of drawing."""

    def normal(spread: float, channels: int) -> Tensor:
        shape = (len(frames), 1, 1, 1, channels)
        return spread * torch.randn(shape, generator=generator, device=frames.device)

    light = (frames.flip(-2).float() / 255) ** normal(0.12, 1).exp()
    grey = light.mean(-1, keepdim=True)
    light = torch.lerp(grey, light, 1 + normal(0.15, 1)) * (1 + normal(0.06, 3))
    return (light * 255).round().clamp(0, 255).byte()


def mirrored_boxes(boxes: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Boxes (..., 4) in pictures of so many pixels, seen in a mirror; those of nobody stay zero."""
    x0, y0, x1, y1 = np.moveaxis(boxes, -1, 0)
    there = (x1 > x0)[..., None]
    return np.where(there, np.stack([size - x1, y0, size - x0, y1], -1), 0).astype(np.float32)


@torch.no_grad()
def encode_clips(
    vae: VideoVAE, clips: Clips, device: torch.device, *, index: NDArray[np.int64] | None = None,
    mirror: torch.Generator | None = None, pictures: PictureBank | None = None,
) -> ClipLatents:  # fmt: skip
    """Latents of clips in bfloat16.

    Args:
        index: which clips; all by default.
        mirror: draws the colours and the wear of mirrored clips; None encodes clips as they are.
        pictures: mirrored clips are also `restyled` with these.
    """
    index = np.arange(clips.count) if index is None else index
    kept: dict[str, list[Tensor]] = {"video": [], "own": [], "other": [], "rough": []}
    for frames in _batches(clips, index, device):
        shown = frames if mirror is None else mirrored(frames, mirror)
        if mirror is not None and pictures is not None:
            shown = to_bytes(restyled(to_video(shown), pictures, mirror).clamp(-1, 1))
        with half(device):
            video = vae.encode(to_video(shown[:, :FRAMES])).float()
            start = video[:, :, :ROUGH_LATENTS]
            kept["video"].append(video)
            kept["own"].append(encode_references(vae, shown[:, 0]))
            kept["other"].append(encode_references(vae, shown[:, REFERENCE]))
            kept["rough"].append(torch.zeros_like(start) if mirror is None else wear(vae, start, mirror))
    latents = {name: torch.cat([part.to(torch.bfloat16) for part in parts]) for name, parts in kept.items()}
    tables = {
        name: getattr(clips, name)[index]
        for name in ("people", "utterance", "start", "mouth", "eyes", "face", "strength")
    }
    if mirror is not None:
        tables.update({name: mirrored_boxes(tables[name], clips.size) for name in ("mouth", "eyes", "face")})
    worn = torch.full((len(index),), mirror is not None, device=device)
    return ClipLatents(
        **latents, worn=worn, **{name: torch.from_numpy(table).to(device) for name, table in tables.items()}
    )


def batch_of(size: int) -> int:
    """Clips of pictures of so many pixels that are encoded at once."""
    return max(1, BATCH * SIZE**2 // size**2)


def _batches(clips: Clips, index: NDArray[np.int64], device: torch.device) -> Iterator[Tensor]:
    batch = batch_of(clips.size)
    for begin in range(0, len(index), batch):
        yield torch.from_numpy(clips.frames[index[begin : begin + batch]]).to(device, non_blocking=True)


def quicker(
    vae: VideoVAE, size: int, device: torch.device, log: RunLog
) -> Callable[[], AbstractContextManager[object]]:
    """How this GPU encodes faster: by the convolutions of three dimensions, or by those of two over stacked frames."""
    if device.type != "cuda":
        return nullcontext

    def stacked() -> AbstractContextManager[object]:
        # For narrow networks only, which the product does not know: its large VAE keeps the direct ones.
        return patch.object(vae_blocks, "side_by_side", lambda _, weight: weight.shape[2])

    video = torch.zeros(batch_of(size), 3, FRAMES, size, size, device=device).to(memory_format=torch.channels_last_3d)
    seconds = {}
    for name, manner in (("direct", nullcontext), ("stacked", stacked)):
        for _ in range(2):
            torch.cuda.synchronize()
            begun = time.perf_counter()
            with manner(), torch.no_grad(), half(device):
                vae.encode(video)
            torch.cuda.synchronize()
            seconds[name] = time.perf_counter() - begun
    log(f"encoding {len(video)} clips: direct {seconds['direct']:.3f} s, stacked {seconds['stacked']:.3f} s")
    return stacked if seconds["stacked"] < seconds["direct"] else nullcontext


@dataclass(frozen=True, slots=True)
class Share:
    """What one of several processes does: every `count`th file from the one at `index` on."""

    index: int
    count: int

    @staticmethod
    def parse(text: str) -> "Share":
        """Reads I/N, I from 0 on.

        Raises:
            ValueError: it is none of these.
        """
        index, _, count = text.partition("/")
        share = Share(int(index), int(count))
        if not 0 <= share.index < share.count:
            raise ValueError(f"{text!r} is none of N shares: 0/N to N-1/N are")
        return share


@dataclass(frozen=True, slots=True)
class Part:
    """Clips that share a file of latents."""

    path: Path
    index: NDArray[np.int64]
    number: int
    mirror: bool


def parts(folder: Path, index: NDArray[np.int64]) -> list[Part]:
    """All files to write, those that matter most first: clips as they are before mirrored ones."""
    cut = [index[begin : begin + PART] for begin in range(0, len(index), PART)]
    return [Part(folder / f"{name}_{number:03d}.pt", some, number, name == "mirrored")
            for name in ("clips", "mirrored") for number, some in enumerate(cut)]  # fmt: skip


def encode_all(
    vae: VideoVAE, data: Path, device: torch.device, log: RunLog, stop: float, *, pictures: Path | None = None,
    share: Share = Share(0, 1),
) -> bool:  # fmt: skip
    """Writes what is missing of a share of `latents/`; True if nothing is left when the clock says `stop`."""
    clips, folder = load(data / "clips"), data / "latents"
    folder.mkdir(exist_ok=True)
    bank = PictureBank.load(pictures, device, clips.size) if pictures else None
    manner, begun, done = quicker(vae, clips.size, device, log), time.monotonic(), 0
    for part in parts(folder, finished(clips))[share.index :: share.count]:
        if part.path.exists():
            continue
        if time.monotonic() > stop:
            return False
        mirror = torch.Generator(device).manual_seed(part.number) if part.mirror else None
        with manner():
            encode_clips(vae, clips, device, index=part.index, mirror=mirror, pictures=bank).save(part.path)
        done += len(part.index)
        if log.due():
            log(f"{done} clips encoded, {done / (time.monotonic() - begun):.0f} a second")
    log(f"{done} clips encoded in {time.monotonic() - begun:.0f} s")
    return True


def encode_voices(encoder: SpeechEncoder, corpus: Path, split: str, *, disturbed: bool) -> VoiceBank:
    """Features of one split of the corpus; with `disturbed` also those under noise, and the mouths."""
    utterances = spoken(corpus, split)
    streams = [torch.from_numpy(utterance.audio).float() / 32768 for utterance in utterances]
    # Every stream has its own length: seeking the fastest convolution for each would take longer than it saves.
    with torch.backends.cudnn.flags(benchmark=False):
        bank = listen(encoder, streams)
        if not disturbed:
            return bank
        generator = torch.Generator(encoder.network.device).manual_seed(0)
        noisy = listen(encoder, [disturb(stream, generator) for stream in streams])
    return replace(bank, disturbed=noisy.features, moves=moves(utterances, bank), noise=NOISE * spread(bank.features))


def spread(features: Tensor) -> Tensor:
    """Standard deviations (layers, channels) of features (frames, layers, channels), from a part of the frames."""
    return features[:: max(1, len(features) // 20_000)].float().std(0)


def moves(utterances: Sequence[Utterance], bank: VoiceBank) -> Tensor:
    """How an average speaker's mouth moves in every frame of a bank; it rests in the silence at the end."""
    rows = [torch.from_numpy(mouth_track(item, frames_of(len(item.audio)))) for item in utterances]
    told = torch.cat([*rows, torch.zeros(SILENCE_FRAMES, rows[0].shape[1])])
    return (told / told.std(0).clamp(min=1e-3)).to(bank.features.device)


def disturb(stream: Tensor, generator: torch.Generator) -> Tensor:
    """A stream [samples] through the rooms, microphones and noises of the speech training, in time with itself."""
    dice = Dice(1, generator)
    return clip(noise(room_and_tone(stream.to(dice.device)[None], dice), dice), dice)[0]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--corpus", type=Path, default=Path(".corpus"))
    parser.add_argument("--at-most", type=float, default=math.inf, help="seconds of this run; the next one goes on")
    parser.add_argument(
        "--share",
        type=Share.parse,
        help="I/N: clips alone, every Nth file of these; once more without it does the rest",
    )
    parser.add_argument("--pictures", type=Path, help="folder with photographs whose details mirrored clips receive")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device, stop = torch.device(options.device), time.monotonic() + options.at_most
    log = RunLog(options.data / "encode_log.txt")
    fast_kernels()
    vae = load_vae(options.data, device)
    if options.share:
        encode_all(vae, options.data, device, log, stop, pictures=options.pictures, share=options.share)
        return
    encoder = load_encoder(options.data, device)
    for prefix, split in (("held_", "test"), ("", "train")):
        path = options.data / f"{prefix}voices.pt"
        if not path.exists():
            encode_voices(encoder, options.corpus, split, disturbed=not prefix).save(path)
            log(f"{split} voices encoded")
    held = options.data / "held_latents.pt"
    if not held.exists():
        encode_clips(vae, load(options.data / "held"), device).save(held)
    done = encode_all(vae, options.data, device, log, stop, pictures=options.pictures)
    Progress(0.0, 1.0, len(list((options.data / "latents").glob("*.pt"))), done).write(
        options.data / "encode_progress.json"
    )


if __name__ == "__main__":
    main()
