"""Teaches the transformer's audio layers what sound means for a mouth, straight from the corpus.

The flow's loss says little about sound: it is dominated by what cannot be heard, and it meets the voices of the clips
alone. So the layers that turn speech features into tokens first learn, on everything that is spoken, to tell how the
mouth moves under every latent frame, and go on learning that beside the flow.
"""

import torch
from torch import Tensor, nn

from infinitetalk.core.configs import DiTConfig
from infinitetalk.models.audio_attention import AudioProjection
from training.clock import RunLog, cosine, warm
from training.nano.voices import VoiceBank

FIRST_STEPS = 1500
"""Steps before the flow's training begins; seconds on a GPU."""
RATE, WARMUP = 1.5e-3, 100
WINDOWS = 48
"""Windows of the corpus that each step reads."""
WEIGHT = 0.3
"""Of the reader's error beside the flow's."""


class MouthReader(nn.Module):
    """Reads from the audio tokens [B, T, tokens, channels] how the mouth moves in each latent frame's video frames."""

    def __init__(self, config: DiTConfig, shapes: int) -> None:
        super().__init__()
        self.scale = config.vae_scale
        self.head = nn.Linear(config.context_tokens * config.output_dim, config.vae_scale * shapes)

    def forward(self, tokens: Tensor, moves: Tensor) -> Tensor:
        """The mean squared error against moves [B, F, shapes] with F = scale * (T - 1) + 1."""
        said = self.head(tokens.float().flatten(2))
        first = moves[:, :1].repeat(1, 1, self.scale)
        later = moves[:, 1:].unflatten(1, (-1, self.scale)).flatten(2)
        error: Tensor = (said - torch.cat([first, later], dim=1)).square().mean()
        return error


def begin(
    projection: AudioProjection, reader: MouthReader, voices: VoiceBank, *, frames: int, seed: int, log: RunLog,
    steps: int = FIRST_STEPS, keep: bool = False,
) -> None:  # fmt: skip
    """Trains the audio layers and the reader alone, on windows of so many video frames.

    With `keep` only the reader learns: blocks that were trained before understand the audio layers as they are.
    """
    generator = torch.Generator(voices.features.device).manual_seed(seed)
    learning = [*([] if keep else projection.parameters()), *reader.parameters()]
    optimiser = torch.optim.AdamW(learning, RATE, (0.9, 0.98), weight_decay=0.02, fused=True)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * warm(step, WARMUP) * cosine(step / steps, 0.05)
        heard, moves = voices.sample(frames, WINDOWS, generator)
        optimiser.zero_grad()
        error = reader(projection(heard), moves)
        error.backward()
        nn.utils.clip_grad_norm_(learning, 1.0)
        optimiser.step()
        if step + 1 == steps or log.due():
            log(f"audio layers, step {step + 1}: error {error.item():.3f}")
