"""Prompts that were read before: jobs of one model share them, and the text encoder is loaded for new ones alone."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor

from infinitetalk.engine.protocols import AheadText, TextSource

MOST = 64
"""Prompts that are remembered; each takes up to 8 MB of main memory."""


class Readings:
    """A text encoder that remembers what it read last. A prompt's reading does not depend on the others."""

    def __init__(self, source: TextSource) -> None:
        self._source = source
        self._known: OrderedDict[str, Tensor] = OrderedDict()

    def begin(self, prompts: Sequence[str]) -> None:
        """Lets new prompts be read while others work, by an encoder that can."""
        missing = self._missing(prompts)
        if missing and isinstance(self._source, AheadText):
            self._source.begin(missing)

    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        """See `TextSource.encode`; tensors are in main memory."""
        if missing := self._missing(prompts):
            read = self._source.encode(missing)
            self._known |= {prompt: tokens.cpu() for prompt, tokens in zip(missing, read, strict=True)}
        for prompt in prompts:
            self._known.move_to_end(prompt)
        found = [self._known[prompt] for prompt in prompts]
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        return found

    def _missing(self, prompts: Sequence[str]) -> list[str]:
        return [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]
