"""A voice without the music around it, for the network's ears alone; optional packages behind one interface."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from infinitetalk.core.errors import MachineError
from infinitetalk.core.request import TalkRequest
from infinitetalk.media.long_sound import AnySound, Samples, at_rate
from infinitetalk.media.sound import Sound, collected

REPOSITORY: Final = "adefossez/HTDemucs"
FILE: Final = "955717e8.safetensors"
"""The one network of `htdemucs`, by Demucs's author; safetensors, so that reading it runs no program."""
NETWORK: Final = "demucs.htdemucs.HTDemucs"

_STEM: Final = "vocals"
_PIECE: Final = 60
"""Seconds of sound that are separated at a time."""
_CONTEXT: Final = 8
"""Seconds around a piece that are heard with it: as many as the network sees at once."""


class Separator(Protocol):
    """What takes voices out of a mix."""

    def require(self) -> None:
        """Looks whether it can be used here, and gets its weights if they are not here yet.

        Raises:
            MachineError: it is not installed, or its weights cannot be had.
        """

    def vocals(self, sound: AnySound) -> Sound:
        """The voices of a sound as long as it, mono.

        Raises:
            MachineError: as `require`.
        """


class HTDemucs:
    """Hybrid Transformer Demucs through its author's package, on the CPU; always gives the same for the same sound."""

    def require(self) -> None:
        """Imports the package and finds the weights in Hugging Face's cache, or downloads them.

        Raises:
            MachineError: the package or the weights are missing, or the file is not what it should be.
        """
        _package()
        _weights()

    def vocals(self, sound: AnySound) -> Sound:
        """Separates a minute at a time, so that of what the network makes a minute is in memory at once.

        Raises:
            MachineError: as `require`.
        """
        load, apply = _package()
        try:
            network = load(_weights())
        except Exception as error:
            raise MachineError(f"Demucs cannot read {FILE} of {REPOSITORY} ({error}); get it again") from error
        parts = list(_separated(network, apply, collected(sound)))
        return Sound(np.concatenate(parts)[None], int(network.samplerate), "mono")


SEPARATORS: Mapping[str, Separator] = {"vocals": HTDemucs()}
"""`TalkRequest.separate` → what does it."""


def require_separator(request: TalkRequest) -> None:
    """Refuses a request for a separation that cannot be done here.

    Raises:
        MachineError: with what to install or to download.
    """
    if request.separates:
        SEPARATORS[request.separate].require()


def network_hears(request: TalkRequest, sound: AnySound) -> AnySound:
    """What of a voice's sound the network is to hear.

    Raises:
        MachineError: a separation that cannot be done here.
    """
    return SEPARATORS[request.separate].vocals(sound) if request.separates else sound


def _package() -> tuple[Callable[[Path], Any], Callable[..., Any]]:
    """What reads a network and what applies one, of the package."""
    try:
        from demucs.apply import apply_model
        from demucs.hf import load_safetensors_model
    except ImportError as error:
        need = "pip install 'infinitetalk[vocals]' (demucs 4.1 or newer)"
        raise MachineError(f"separate = vocals needs the package demucs ({error}): {need}") from error
    return load_safetensors_model, apply_model


def _weights() -> Path:
    """The network's file, if it holds that network and nothing that names another class to be imported."""
    from huggingface_hub import hf_hub_download
    from safetensors import SafetensorError, safe_open

    try:
        try:
            path = hf_hub_download(REPOSITORY, FILE, local_files_only=True)
        except OSError:
            path = hf_hub_download(REPOSITORY, FILE)
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        need = f"get them with: hf download {REPOSITORY} {FILE}"
        raise MachineError(f"separate = vocals needs the weights {FILE} of {REPOSITORY} ({reason}); {need}") from error
    try:
        with safe_open(path, "np") as file:
            notes = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise MachineError(f"{path}: cannot be read ({error}); get it again") from error
    if notes.get("klass") != NETWORK or "structure" in notes:
        raise MachineError(f"{path}: is not the network {NETWORK} as it was published; get it again")
    return Path(path)


def _separated(network: Any, apply: Callable[..., Any], sound: Sound) -> Iterator[Samples]:
    """The voices [n] of a sound, piece after piece, at the network's rate."""
    import torch

    mono = sound.samples.mean(axis=0)
    middle, spread = float(mono.mean()), float(mono.std()) + 1e-8
    stem = list(network.sources).index(_STEM)
    for begin in range(0, -(-sound.samples.shape[1] // sound.rate), _PIECE):
        before = min(begin, _CONTEXT)
        around = sound.samples[:, (begin - before) * sound.rate : (begin + _PIECE + _CONTEXT) * sound.rate]
        piece = at_rate(replace(sound, samples=around), network.samplerate)
        level = (_stereo(collected(piece).samples) - middle) / spread
        with torch.inference_mode():
            made = apply(network, torch.from_numpy(level)[None], shifts=0, split=True, device="cpu")[0, stem]
        voices = made.mean(0).numpy() * spread + middle
        first = before * network.samplerate
        yield voices[first : first + _PIECE * network.samplerate]


def _stereo(samples: Samples) -> Samples:
    """Two channels, as the network hears them; those of more speakers are mixed."""
    if samples.shape[0] == 2:
        return np.ascontiguousarray(samples)
    return np.repeat(samples.mean(axis=0, keepdims=True), 2, axis=0)
