"""Writes `tiny`: a model folder with all six parts, random weights and the 14B model's file layouts.

    python -m tools.make_tiny FOLDER [--seed N]

It makes noise, not faces, but runs every path that the 14B model runs, in seconds on a CPU: prompts, three guidance
branches, several voices. Files are written as their authors publish them (shards with an index and a file of audio
layers, `.pth` with the original names), so that loading it goes through the key maps.
"""

import argparse
import io
import json
import math
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from infinitetalk.core.configs import DiTConfig, NetConfig, SpeechConfig, TextConfig, VAEConfig, VisionConfig
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.speech import SpeechEncoder
from infinitetalk.models.vae import VideoVAE

SPEECH = SpeechConfig(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    conv_dim=(16,) * 7,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
)
TEXT = TextConfig(vocab=512, dim=48, dim_attn=32, dim_ffn=64, num_heads=4, num_layers=2, num_buckets=8)
VISION = VisionConfig(image_size=56, dim=32, out_dim=16, num_heads=2, num_layers=3)
VAE = VAEConfig(dim=4)
DIT = DiTConfig(
    text_len=32,
    dim=128,
    ffn_dim=256,
    freq_dim=64,
    text_dim=TEXT.dim,
    num_heads=4,
    num_layers=2,
    clip_dim=VISION.dim,
    clip_tokens=(VISION.image_size // VISION.patch_size) ** 2 + 1,
    audio_blocks=SPEECH.num_hidden_layers,
    audio_channels=SPEECH.hidden_size,
    intermediate_dim=16,
    output_dim=32,
    context_tokens=4,
)
DEFAULTS = {
    "size": "64",
    "window_frames": 13,
    "motion_frames": 5,
    "steps": 2,
    "shift": 7.0,
    "prompt": "A person talks.",
    "negative_prompt": "blurred, static",
}
BUCKETS = {"64": {"0.67": [64, 96], "1.00": [64, 64], "1.50": [96, 64]}}

# What the tokenizer is trained on; any text will do.
SUBJECTS = ("a person", "a man", "a woman", "a child", "the singer", "the speaker", "an old friend", "two people")
VERBS = ("talks", "sings", "looks", "smiles", "speaks", "laughs", "whispers", "nods", "explains the news")
MANNERS = ("calmly", "into the camera", "with lively eyes", "with slight head movements", "and raises one hand")
PLACES = ("in a bright room", "by the window", "on a quiet street", "under blue light", "at a wooden desk", "outdoors")
WORDS = "static blurred details worst low quality ugly deformed hands faces red green white black hair hat coat quick"

Shapes = Mapping[str, tuple[int, ...]]


def draw(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Random weights that keep a signal's size: gains near 1, small biases, matrices scaled by their inputs."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) + seed)
    values = torch.randn(shape, generator=generator)
    if name.endswith("weight_g"):
        return 0.5 + values.abs()
    if len(shape) == 1 or name.endswith("gamma"):
        return 0.05 * values if name.endswith("bias") else 1 + 0.1 * values
    return values * (0.8 / math.sqrt(math.prod(shape[1:])))


def random_state(shapes: Shapes, seed: int) -> dict[str, Tensor]:
    """Random weights for every name."""
    return {name: draw(name, shape, seed) for name, shape in shapes.items()}


def module_shapes(factory: Callable[[], nn.Module]) -> Shapes:
    """Names and shapes of a network whose own names are the checkpoint's."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in factory().state_dict().items()}


def text_shapes(config: TextConfig) -> Shapes:
    """Names and shapes of umT5 in Wan's layout."""
    wide, inner = (config.dim_attn, config.dim), (config.dim_ffn, config.dim)
    block: Shapes = {
        "norm1.weight": (config.dim,),
        "attn.q.weight": wide,
        "attn.k.weight": wide,
        "attn.v.weight": wide,
        "attn.o.weight": wide[::-1],
        "norm2.weight": (config.dim,),
        "ffn.gate.0.weight": inner,
        "ffn.fc1.weight": inner,
        "ffn.fc2.weight": inner[::-1],
        "pos_embedding.embedding.weight": (config.num_buckets, config.num_heads),
    }
    blocks = {f"blocks.{i}.{name}": shape for i in range(config.num_layers) for name, shape in block.items()}
    return {"token_embedding.weight": (config.vocab, config.dim), **blocks, "norm.weight": (config.dim,)}


def vision_shapes(config: VisionConfig) -> Shapes:
    """Names and shapes of CLIP in Wan's layout, with a little of the text tower that its file holds as well."""
    dim, inner = config.dim, config.dim * config.mlp_ratio
    pairs = {"norm1": (dim,), "attn.to_qkv": (3 * dim, dim), "attn.proj": (dim, dim), "norm2": (dim,)}
    pairs |= {"mlp.0": (inner, dim), "mlp.2": (dim, inner)}
    layers = {f"transformer.{i}.{name}": shape for i in range(config.num_layers) for name, shape in pairs.items()}
    layers |= {"pre_norm": (dim,), "post_norm": (dim,)}
    shapes = {f"visual.{name}.weight": shape for name, shape in layers.items()}
    shapes |= {f"visual.{name}.bias": shape[:1] for name, shape in layers.items()}
    tokens = (config.image_size // config.patch_size) ** 2 + 1
    return shapes | {
        "visual.patch_embedding.weight": (dim, 3, config.patch_size, config.patch_size),
        "visual.cls_embedding": (1, 1, dim),
        "visual.pos_embedding": (1, tokens, dim),
        "visual.head": (dim, config.out_dim),
        "textual.token_embedding.weight": (4, 4),
        "log_scale": (1,),
    }


def speech_shapes(config: SpeechConfig) -> Shapes:
    """Names and shapes of wav2vec2 in the layout of its older files."""
    shapes: dict[str, tuple[int, ...]] = {"masked_spec_embed": (config.hidden_size,)}
    for name, shape in module_shapes(lambda: SpeechEncoder(config).network).items():
        old = name.replace("parametrizations.weight.original0", "weight_g")
        shapes[old.replace("parametrizations.weight.original1", "weight_v")] = shape
    return shapes


def _write_tokenizer(folder: Path) -> None:
    from sentencepiece import SentencePieceTrainer

    # Every phrase and every word often enough to become a token of its own.
    sentences = [f"{s} {v} {m} {p}." for s in SUBJECTS for v in VERBS for m in MANNERS for p in PLACES]
    sentences += [text.capitalize() for text in sentences[::3]] + [f"{word}, " * 3 for word in WORDS.split()] * 20
    model = io.BytesIO()
    SentencePieceTrainer.Train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        vocab_size=TEXT.vocab,
        hard_vocab_limit=False,
        num_threads=1,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    folder.mkdir()
    (folder / "spiece.model").write_bytes(model.getvalue())


def _write_dit(folder: Path, seed: int) -> None:
    """Two shards and their index for Wan's layers, and one file for InfiniteTalk's."""
    state = random_state(module_shapes(lambda: AudioDiT(DIT)), seed)
    audio = {name for name in state if "audio_" in name or ".norm_x." in name}
    save_file({name: state[name] for name in sorted(audio)}, folder / "infinitetalk.safetensors")
    base = [name for name in state if name not in audio]
    homes = {name: f"diffusion_pytorch_model-{1 + (i >= len(base) // 2):05}-of-00002" for i, name in enumerate(base)}
    for home in set(homes.values()):
        part = {name: state[name] for name in base if homes[name] == home}
        save_file(part, folder / f"{home}.safetensors", metadata={"format": "pt"})
    weight_map = {name: f"{home}.safetensors" for name, home in homes.items()}
    _write_json(folder / "diffusion_pytorch_model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})


def _write_json(path: Path, values: object) -> None:
    path.write_text(json.dumps(values, indent=1), encoding="utf-8")


def _part(config: NetConfig, *files: str, **more: str) -> dict[str, Any]:
    return {"config": asdict(config), "files": list(files), **more}


def make_tiny(folder: Path, seed: int = 0) -> Path:
    """Writes the model folder `tiny`, which must not exist yet, and returns it. The seed chooses the weights."""
    folder.mkdir(parents=True)
    _write_dit(folder, seed)
    torch.save(random_state(module_shapes(lambda: VideoVAE(VAE)), seed), folder / "Wan2.1_VAE.pth")
    torch.save(random_state(text_shapes(TEXT), seed), folder / "models_t5.pth")
    torch.save(random_state(vision_shapes(VISION), seed), folder / "models_clip.pth")
    torch.save(random_state(speech_shapes(SPEECH), seed), folder / "pytorch_model.bin")
    _write_tokenizer(folder / "tokenizer")
    parts = {
        "dit": _part(DIT, "diffusion_pytorch_model.safetensors.index.json", "infinitetalk.safetensors"),
        "vae": _part(VAE, "Wan2.1_VAE.pth"),
        "speech": _part(SPEECH, "pytorch_model.bin"),
        "text": _part(TEXT, "models_t5.pth", tokenizer="tokenizer"),
        "vision": _part(VISION, "models_clip.pth"),
    }
    manifest = {"format": 1, "name": "tiny", "max_people": 3, "parts": parts, "defaults": DEFAULTS, "buckets": BUCKETS}
    _write_json(folder / "model.json", manifest)
    return folder


def main() -> None:
    """Writes the folder that the command line names."""
    parser = argparse.ArgumentParser(description="Write a tiny model folder with random weights, for tests.")
    parser.add_argument("folder", type=Path, help="folder to make; must not exist yet")
    parser.add_argument("--seed", type=int, default=0, help="chooses the weights")
    arguments = parser.parse_args()
    if arguments.folder.exists():
        parser.error(f"{arguments.folder} exists already; name a new folder")
    sys.stdout.write(f"{make_tiny(arguments.folder, arguments.seed)}\n")


if __name__ == "__main__":
    main()
