"""Speech encoders by name, and what a job is told of the one that its model hears with."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.presets import CHINESE, ENGLISH, HubFile

ENCODERS: Mapping[str, tuple[HubFile, ...]] = {"english": ENGLISH, "chinese": CHINESE}
"""Names that a request may use → the files that are meant."""

DEFAULT: Final = "english"
"""The encoder of presets, and of folders that hold several."""

TRAINED: Final = "chinese"
"""The encoder that InfiniteTalk's adapters were trained on (README of MeiGen-AI/InfiniteTalk, 0107cd9)."""

# How the two are called where they are published: repositories, their folders in the cache, Kijai's single files.
_CALLED: Mapping[str, re.Pattern[str]] = {
    "chinese": re.compile(r"chinese-wav2vec2|wav2vec2-chinese"),
    "english": re.compile(r"wav2vec2-(base-)?960h"),
}


def absolute_encoder(name: str) -> str:
    """The same encoder, named so that it is found from any folder."""
    return name if name in ENCODERS else Path(name).expanduser().absolute().as_posix()


def encoder_name(files: Sequence[Path]) -> str | None:
    """Which of the known encoders files are, as their names and their folders' names say; None if they do not.

    >>> encoder_name([Path("weights/chinese-wav2vec2-base/model.safetensors")])
    'chinese'
    """
    # Files in the hub's cache are links to others that are called by their hash.
    paths = [path for file in files for path in (file, file.resolve())]
    texts = ["/".join(path.parts[-4:]).lower().replace("_", "-") for path in paths]
    return next((name for name, called in _CALLED.items() if any(map(called.search, texts))), None)


def encoder_advice(model: str, dit: DiTConfig, files: Sequence[Path], named: str | None) -> str:
    """One line that says which encoder the model was trained on; empty for models that hear with their own.

    Args:
        model: its name.
        dit: the network that listens.
        files: the encoder's.
        named: the encoder that the user put in place of the model's own.
    """
    published = encoder_name(files)
    if not _is_adapter(dit):
        trained = f"the model {model} was trained on its own"
        return f"encoder {named}: {trained}, so mouths may follow less well" if named else ""
    if published == TRAINED:
        return f"encoder {named or published}: it is the one that InfiniteTalk's adapters were trained on"
    trained = CHINESE[0].repository.name.rpartition("/")[2]
    return (
        f"encoder {named or published or files[0].name}: InfiniteTalk's adapters were trained on {trained}, for speech "
        f"in any language, so mouths may follow less well; --encoder {TRAINED} takes that one"
    )


def encoder_doubt(dit: DiTConfig, files: Sequence[Path], named: str | None) -> str:
    """One line for after a job whose model heard with another encoder than it was trained on; else empty."""
    other = "voices were heard with another encoder than the model was trained on, so mouths may follow less well"
    if not _is_adapter(dit):
        return f"{other}: leave --encoder out" if named else ""
    return "" if encoder_name(files) == TRAINED else f"{other}: --encoder {TRAINED} takes that one"


def _is_adapter(dit: DiTConfig) -> bool:
    """Whether a network listens as InfiniteTalk's adapters do, to a wav2vec2-base."""
    own = DiTConfig()
    return (dit.audio_blocks, dit.audio_channels) == (own.audio_blocks, own.audio_channels)
