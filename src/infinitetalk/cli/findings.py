"""What `infinitetalk doctor` finds, and every sentence that it has for something that is lacking.

`docs/troubleshooting.md` has an answer to each of them; a test compares the two.
"""

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    topic: str
    name: str
    value: str
    fine: bool = True
    there: bool = True
    """Whether it is there at all; what is absent by nature is nothing amiss."""


class Lack(Enum):
    """A sentence with gaps, and whether something is amiss where it is said."""

    LIBRARY = "not installed ({use})", True
    EXTRA = "not installed ({use}); an option", False
    IMPORT = "{version}, but it cannot be imported: {error}", True
    ENCODER = "this PyAV lacks libx264: pip install --force-reinstall av", True
    BUNDLED = "the package is damaged: {error}", True
    DISK = "{folder} can neither be read nor written", True
    DEVICE = "cannot be used: {error}", True
    DRIVER = "none on this machine", False
    BFLOAT16 = "not on this card: it computes in float16, with float32 where that is too narrow", False
    FP8 = "stored and converted only", False
    TRITON = "not installed or not for this card; nothing needs it", False
    TRITON_GPU = "GPUs only", False
    PINNED = "not on this machine", False
    PINNED_GPU = "no GPU of its own memory", False

    def __init__(self, sentence: str, amiss: bool) -> None:
        self.sentence = sentence
        self.amiss = amiss

    def found(self, topic: str, name: str, **words: object) -> Finding:
        """The finding with the gaps filled.

        >>> Lack.FP8.found("kernels", "8-bit floats").fine
        True
        """
        return Finding(topic, name, self.sentence.format(**words), fine=not self.amiss, there=False)


TOO_LARGE = "{place}: {need:.1f} GiB needed, {budget:.1f} usable; {advice}"
"""Why a model does not fit, in the table of models."""

ESTIMATE = "~ estimate: nobody measured the speed of this card; it may be off by half or double."
