"""The small wav2vec2 and the phone classifiers that it is trained with."""

from __future__ import annotations

import dataclasses
import json
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from infinitetalk.core.configs import SpeechConfig
from infinitetalk.core.errors import ModelError
from infinitetalk.models.speech import SpeechEncoder, normalise
from infinitetalk.weights.packed import Unpacked
from training.heads.blendshapes import SHAPE_INDEX
from training.heads.visemes import GESTURES, LIP_ON_TEETH, LIPS_CLOSED, PHONE_CLASSES

LABELS_PER_FRAME = 2  # 20 ms each
LIP_WEIGHT = 2.0
_LIPS = [index for index, name in enumerate(PHONE_CLASSES) if name in LIPS_CLOSED | LIP_ON_TEETH]
# Phones of one mouth shape.
_SHAPES = [
    [index for index, name in enumerate(PHONE_CLASSES) if GESTURES[name] == gesture]
    for gesture in sorted(set(GESTURES.values()))
]
MOUTH = [
    SHAPE_INDEX[name]
    for name in ("jawOpen", "mouthFunnel", "mouthPucker", "mouthPressLeft", "mouthRollLower", "mouthStretchLeft",
                 "mouthLowerDownLeft", "mouthUpperUpLeft", "tongueOut")
]  # fmt: skip
"""Blendshapes that speech moves, one side of each."""
MOUTH_WEIGHT = 12.0
"""Of the mouths' error beside the phones'. With 3, unseen voices moved the jaw less well and phones were no better."""
SAMPLES_PER_FRAME = 640
WEIGHTS, HEADS = "speech.safetensors", "speech_heads.safetensors"

# The convolutions see 640 samples and step 320; stretched to 25 per second with aligned corners, every second feature
# is used, and feature f then covers exactly the samples of video frame f. (With wav2vec2's own kernels it would cover
# 400 of them and lie 7.5 ms early.) What little such a network mishears changes when the sound moves by less than a
# frame, so the mean of five passes hears voices that it has not learned better; those that it has, as well as one.
SMALL = SpeechConfig(
    hidden_size=192,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=768,
    conv_dim=(96, 128, 160, 192, 192, 192, 192),
    conv_kernel=(10, 3, 3, 3, 3, 3, 3),
    num_conv_pos_embeddings=32,
    num_conv_pos_embedding_groups=8,
    shifts=(-240, -120, 0, 120, 240),
)


class PhoneReader(nn.Module):
    """The encoder with linear readers of phones and of the mouth's movement at every layer.

    So every layer has to know both, and the video network need not find out from phones how mouths move.
    """

    def __init__(self, config: SpeechConfig, dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder = SpeechEncoder(config, dropout=dropout)
        width = LABELS_PER_FRAME * len(PHONE_CLASSES)
        layers = range(config.num_hidden_layers)
        self.heads = nn.ModuleList(nn.Linear(config.hidden_size, width) for _ in layers)
        self.mouths = nn.ModuleList(nn.Linear(config.hidden_size, len(MOUTH)) for _ in layers)

    def read(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Phone logits [layers, B, 2 F, classes] and mouths [layers, B, F, shapes] of a waveform [B, 640 F]."""
        frames = waveform.shape[-1] // SAMPLES_PER_FRAME
        heard = self.encoder(normalise(waveform), frames).unbind(2)
        logits = torch.stack([head(states) for head, states in zip(self.heads, heard, strict=True)])
        moves = torch.stack([mouth(states) for mouth, states in zip(self.mouths, heard, strict=True)])
        return logits.reshape(len(heard), len(waveform), frames * LABELS_PER_FRAME, len(PHONE_CLASSES)), moves

    def forward(self, waveform: Tensor) -> Tensor:
        """Phone logits per layer alone."""
        return self.read(waveform)[0]


@lru_cache(maxsize=4)
def _groups(device: torch.device) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Indices of lip phones, and of each mouth shape's, on a device: a captured step must not copy them there."""
    return torch.tensor(_LIPS, device=device), tuple(torch.tensor(shape, device=device) for shape in _SHAPES)


def phone_loss(logits: Tensor, target: Tensor, early_weight: float = 0.3, smoothing: float = 0.05) -> Tensor:
    """Cross entropy of phones plus that of mouth shapes, with soft targets [B, L, classes].

    A wrong phone with the right mouth shape costs less than a wrong mouth shape, and labels on which lips meet each
    other or the teeth count more. Layers before the last count ``early_weight`` each.
    """
    lips, groups = _groups(target.device)
    weight = 1 + (LIP_WEIGHT - 1) * target.index_select(-1, lips).sum(-1)
    weight = weight / weight.mean()
    wanted = target * (1 - smoothing) + smoothing / target.shape[-1]
    likely = F.log_softmax(logits.float(), dim=-1)
    phones = -(wanted * likely).sum(-1)
    shapes = torch.stack([likely.index_select(-1, group).logsumexp(-1) for group in groups], dim=-1)
    wanted = torch.stack([wanted.index_select(-1, group).sum(-1) for group in groups], dim=-1)
    losses = ((phones - (wanted * shapes).sum(-1)) * weight).mean((1, 2))
    total: Tensor = losses[-1] + early_weight * losses[:-1].sum()
    return total


def mouth_loss(moves: Tensor, target: Tensor, early_weight: float = 0.3) -> Tensor:
    """Squared error of mouths [layers, B, F, shapes]; layers before the last count ``early_weight`` each."""
    losses = (moves.float() - target).square().mean((1, 2, 3))
    total: Tensor = losses[-1] + early_weight * losses[:-1].sum()
    return MOUTH_WEIGHT * total


def save(encoder: SpeechEncoder, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write ``speech.safetensors`` (Hugging Face's key names) and ``speech_config.json``."""
    _write(encoder.network.state_dict(), folder / WEIGHTS, dtype)
    config = {"model_type": "wav2vec2", **dataclasses.asdict(encoder.config)}
    (folder / "speech_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load(folder: Path, device: torch.device) -> SpeechEncoder:
    """The encoder that ``save`` wrote, in evaluation mode."""
    values = json.loads((folder / "speech_config.json").read_text(encoding="utf-8"))
    values.pop("model_type")
    encoder = SpeechEncoder(SpeechConfig.read(values))
    encoder.network.load_state_dict(load_file(folder / WEIGHTS))
    return encoder.to(device).eval()


def save_reader(reader: PhoneReader, folder: Path) -> None:
    """Write the encoder, and the classifiers as ``speech_heads.safetensors``."""
    save(reader.encoder, folder)
    _write(reader.heads.state_dict(), folder / HEADS, torch.float32)


def take_over(reader: PhoneReader, folder: Path, network: Path | None = None) -> None:
    """Give ``reader`` the weights that ``save_reader`` wrote for a network of the same shape, packed or not.

    The encoder's come from the file ``network`` if one is given. How mouths move is learned anew.

    Raises ``ModelError`` when a file is missing or its network has another shape.
    """
    for part, path in ((reader.encoder.network, network or folder / WEIGHTS), (reader.heads, folder / HEADS)):
        if not path.exists():
            raise ModelError(f"{path} is missing; python -m training.speech.train writes it")
        try:
            part.load_state_dict(dict(Unpacked(load_file(path))))
        except RuntimeError as error:
            raise ModelError(f"{path} belongs to a network of another shape: {error}") from error


def _write(state: dict[str, Tensor], path: Path, dtype: torch.dtype) -> None:
    """Write so that a run that is cut off leaves the file before or the file after."""
    partial = path.with_suffix(".partial")
    save_file({name: value.detach().to("cpu", dtype).contiguous() for name, value in state.items()}, partial)
    partial.replace(path)
