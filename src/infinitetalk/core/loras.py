"""A LoRA as a request names it: a file and how strongly it counts."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from infinitetalk.core.errors import RequestError

DISTILLED_SHIFT = 2.0
"""Weight of high noise for networks that were distilled to a few steps."""

_DISTILLED = re.compile(
    r"light-?x2v|distill|fusion-?[xi]|caus-?vid|acc-?vid|lightning|self-?forcing|fast-?wan"
    r"|(?<![a-z])(?:rcm|dmd2?|lcm|turbo)(?![a-z])|(?<!\d)\d{1,2}-?steps?(?![a-z])"
)


class Lora(NamedTuple):
    """A LoRA's file and its strength; 1 is as it was trained."""

    path: Path
    strength: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads 'FILE' or 'FILE:STRENGTH'.

        >>> Lora.parse("face.safetensors:0.8").strength, Lora.parse("C:/face.safetensors").strength
        (0.8, 1.0)
        """
        path, colon, strength = text.rpartition(":")
        try:
            number = float(strength)
        except ValueError:
            path, colon = "", ""
        return cls.checked(path, number) if colon else cls.checked(text, 1.0)

    @classmethod
    def checked(cls, path: str, strength: float) -> Self:
        """A LoRA that has a file and a finite strength.

        Raises:
            RequestError: it has not.
        """
        if not path.strip():
            raise RequestError("lora", path, "must be FILE or FILE:STRENGTH such as face.safetensors:0.8")
        if not math.isfinite(strength):
            raise RequestError("lora", f"{path}:{strength}", "the strength must be a finite number")
        return cls(Path(path), strength)

    @classmethod
    def read(cls, value: object) -> Self | None:
        """Reads what Python or JSON may hold: a LoRA, a path or text as `parse` takes it, or [FILE, STRENGTH]."""
        match value:
            case str():
                return cls.parse(value)
            case Path():
                return cls(value)
            case (str() | Path() as path, int() | float() as strength) if not isinstance(strength, bool):
                return cls.checked(str(path), float(strength))
            case _:
                return None

    @property
    def distilled(self) -> bool:
        """Whether the file's name says that the network behind it needs a few steps only.

        Headers do not say it; names of the known ones do (lightx2v, FusionX, CausVid, AccVid, "4steps", ...).
        """
        return _DISTILLED.search(self.path.name.lower().replace("_", "-").replace(" ", "-")) is not None

    def __str__(self) -> str:
        return f"{self.path.name} (strength {self.strength:g})"


def read_loras(values: Sequence[object]) -> tuple[Lora, ...]:
    """LoRAs from whatever `Lora.read` takes.

    Raises:
        RequestError: something else.
    """
    found = [(value, Lora.read(value)) for value in values]
    if wrong := next(([value] for value, lora in found if lora is None), None):
        raise RequestError("loras", wrong[0], "must be a LoRA, FILE:STRENGTH or (FILE, STRENGTH)")
    return tuple(lora for _, lora in found if lora is not None)


def paired(paths: Sequence[Path], strengths: Sequence[float]) -> tuple[Lora, ...]:
    """LoRAs from two lists: files, and one strength for each or none at all.

    Raises:
        RequestError: strengths without files, or not as many as files.
    """
    if strengths and len(strengths) != len(paths):
        need = f"must be one per LoRA: {len(paths)} would work" if paths else "needs the files, with --lora-dir"
        raise RequestError("lora_scale", " ".join(f"{number:g}" for number in strengths), need)
    given = strengths or [1.0] * len(paths)
    return tuple(Lora.checked(str(path), strength) for path, strength in zip(paths, given, strict=True))
