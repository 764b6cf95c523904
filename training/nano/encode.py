"""Clips to latents and speech to features: `python -m training.nano.encode DATA`.

Reads `clips/`, `held/`, the VAE, the speech encoder and the speech corpus; writes `latents.pt`, `voices.pt`
and the same with `held_` before the name, all into DATA.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from infinitetalk.models.speech import SpeechEncoder
from infinitetalk.models.vae import VideoVAE
from infinitetalk.models.vae_blocks import Downsample
from training.clock import RunLog
from training.nano.latents import ROUGH_LATENTS, ClipLatents
from training.nano.pixels import to_video
from training.nano.preview import load_vae
from training.nano.store import FRAMES, REFERENCE, Clips, load
from training.nano.train_vae import fast_kernels, half
from training.nano.voices import VoiceBank, listen
from training.speech.augment import Dice, clip, noise, room_and_tone
from training.speech.corpus import load as load_corpus
from training.speech.encoder import load as load_encoder

ROUGH_FRAMES = 4 * (ROUGH_LATENTS - 1) + 1
BATCH = 8
BEGINNING = 33
"""Frames after which the first two stages of any of our VAEs repeat themselves on grey."""


def encode_references(vae: VideoVAE, pictures: Tensor) -> Tensor:
    """Latents of pictures (B, 128, 128, 3) bytes, each followed by grey frames to a whole window.

    The same as encoding the whole windows, at a fraction of the work: the layers at high resolution see so little of
    the past that their answers to grey frames soon repeat, so the rest of the window is filled with the last one.
    """
    encoder = vae.encoder
    split = 1 + [index for index, layer in enumerate(encoder.downsamples) if isinstance(layer, Downsample)][1]
    first = to_video(pictures[:, None])
    video = torch.cat([first, torch.zeros_like(first).expand(-1, -1, BEGINNING - 1, -1, -1)], dim=2)
    x = encoder.conv1(video.permute(0, 2, 3, 4, 1).contiguous())
    for layer in encoder.downsamples[:split]:
        x = layer(x)
    missing = x[:, -1:].expand(-1, (FRAMES - BEGINNING) * (x.shape[1] - 1) // (BEGINNING - 1), -1, -1, -1)
    x = torch.cat([x, missing], dim=1)
    for layer in encoder.downsamples[split:]:
        x = layer(x)
    moments = vae.conv1(encoder.head(encoder.middle(x)))
    return vae.normalise(moments.permute(0, 4, 1, 2, 3)[:, : vae.config.z_dim])


def wear(vae: VideoVAE, latents: Tensor, generator: torch.Generator) -> Tensor:
    """Latents of the frames that a less than perfect window would have handed on.

    The latents are disturbed, decoded, changed in colour and sharpness by up to a few hundredths, and encoded again.
    """
    device, count = latents.device, len(latents)
    amount = 0.35 * torch.rand(count, 1, 1, 1, 1, generator=generator, device=device)
    coarse = torch.randn(count, *latents.shape[1:3], 8, 8, generator=generator, device=device)
    coarse = F.interpolate(coarse.flatten(0, 1), size=latents.shape[-2:], mode="bilinear").view(latents.shape)
    fine = torch.randn(latents.shape, generator=generator, device=device)
    video = vae.decode(latents + amount * (0.5 * coarse + 0.7 * fine)).float()
    gain = 1 + 0.04 * torch.randn(count, 3, 1, 1, 1, generator=generator, device=device)
    lift = 0.03 * torch.randn(count, 3, 1, 1, 1, generator=generator, device=device)
    frames = video.transpose(1, 2).flatten(0, 1)
    soft = (
        F.avg_pool2d(F.pad(frames, (1, 1, 1, 1), mode="replicate"), 3, 1)
        .view(video.transpose(1, 2).shape)
        .transpose(1, 2)
    )
    share = 0.5 * torch.rand(count, 1, 1, 1, 1, generator=generator, device=device)
    return vae.encode((torch.lerp(video, soft, share) * gain + lift).clamp(-1, 1)).float()


@torch.no_grad()
def encode_clips(vae: VideoVAE, clips: Clips, device: torch.device) -> ClipLatents:
    """Latents of every clip, in bfloat16."""
    generator = torch.Generator(device).manual_seed(0)
    kept: dict[str, list[Tensor]] = {"video": [], "own": [], "other": [], "rough": []}
    for frames in _batches(clips, device):
        with half(device):
            video = vae.encode(to_video(frames[:, :FRAMES])).float()
            kept["video"].append(video)
            kept["own"].append(encode_references(vae, frames[:, 0]))
            kept["other"].append(encode_references(vae, frames[:, REFERENCE]))
            kept["rough"].append(wear(vae, video[:, :, :ROUGH_LATENTS], generator))
    latents = {name: torch.cat([part.to(torch.bfloat16) for part in parts]) for name, parts in kept.items()}
    tables = {"people": clips.people, "utterance": clips.utterance, "start": clips.start,
              "mouth": clips.mouth, "eyes": clips.eyes, "face": clips.face}  # fmt: skip
    return ClipLatents(**latents, **{name: torch.from_numpy(table).to(device) for name, table in tables.items()})


def _batches(clips: Clips, device: torch.device) -> Iterator[Tensor]:
    for begin in range(0, clips.count, BATCH):
        yield torch.from_numpy(clips.frames[begin : begin + BATCH].copy()).to(device, non_blocking=True)


def encode_voices(encoder: SpeechEncoder, corpus: Path, split: str, *, disturbed: bool) -> VoiceBank:
    """Features of one split of the corpus; with `disturbed` also of the same speech under noise."""
    streams = [torch.from_numpy(utterance.audio).float() / 32768 for utterance in load_corpus(corpus, (split,))]
    bank = listen(encoder, streams)
    if not disturbed:
        return bank
    generator = torch.Generator(encoder.network.device).manual_seed(0)
    noisy = listen(encoder, [disturb(stream, generator) for stream in streams])
    return VoiceBank(bank.features, bank.offset, bank.length, noisy.features)


def disturb(stream: Tensor, generator: torch.Generator) -> Tensor:
    """A stream [samples] through the rooms, microphones and noises of the speech training, in time with itself."""
    dice = Dice(1, generator)
    return clip(noise(room_and_tone(stream.to(dice.device)[None], dice), dice), dice)[0]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--corpus", type=Path, default=Path(".corpus"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    log = RunLog(options.data / "encode_log.txt")
    fast_kernels()
    vae, encoder = load_vae(options.data, device), load_encoder(options.data, device)
    for prefix, folder, split in (("held_", "held", "test"), ("", "clips", "train")):
        encode_voices(encoder, options.corpus, split, disturbed=not prefix).save(options.data / f"{prefix}voices.pt")
        log(f"{split} voices encoded")
        clips = load(options.data / folder)
        encode_clips(vae, clips, device).save(options.data / f"{prefix}latents.pt")
        log(f"{clips.count} {folder} encoded")


if __name__ == "__main__":
    main()
