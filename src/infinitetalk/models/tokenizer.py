"""Words to token numbers: umT5's tokenizer, read from the files that come with its weights."""

import html
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer as FastTokenizer
from torch import Tensor

from infinitetalk.core.configs import TOKENIZER_FILES, TOKENIZER_TENSOR
from infinitetalk.core.errors import ModelError
from infinitetalk.models.text import TextEncoder

FAST_FILE, SENTENCEPIECE_FILE = TOKENIZER_FILES
END = "</s>"

_log = logging.getLogger(__name__)


def clean(text: str) -> str:
    """Repairs broken characters and HTML escapes (up to two deep) and makes every run of white space one blank."""
    import ftfy

    unescaped = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", unescaped).strip()


class Tokenizer:
    """Prompts to token numbers, each list closed by the end token."""

    def __init__(self, pieces: Callable[[str], list[int]], *, end: int, size: int, limit: int) -> None:
        """Wraps the numbering of pieces.

        Args:
            pieces: cleaned text → numbers, without the end token.
            end: the end token's number.
            size: how many numbers there are.
            limit: the most tokens that the video network reads, the end token included.
        """
        self._pieces = pieces
        self._end = end
        self.size = size
        self.limit = limit

    @classmethod
    def open(cls, folder: Path, limit: int) -> "Tokenizer":
        """Reads a tokenizer's folder: its `tokenizer.json` if there is one, else its `spiece.model`.

        In place of a folder there may be ComfyUI's safetensors file of the text encoder, with the tokenizer inside.

        Raises:
            ModelError: neither file is there, one cannot be read, or it has no end token.
        """
        if folder.is_file():
            return cls._open_inside(folder, limit)
        if (folder / FAST_FILE).is_file():
            return cls._open_fast(folder / FAST_FILE, limit)
        if (folder / SENTENCEPIECE_FILE).is_file():
            return cls._open_sentencepiece(folder / SENTENCEPIECE_FILE, limit)
        raise ModelError(f"the tokenizer {folder} has neither {FAST_FILE} nor {SENTENCEPIECE_FILE}")

    @classmethod
    def _open_fast(cls, path: Path, limit: int) -> "Tokenizer":
        try:
            content = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{path}: cannot be read ({error})") from error
        try:
            fast = FastTokenizer.from_str(content)
        except Exception as error:  # the library raises this very class for any fault in a file
            raise ModelError(f"{path}: is not a tokenizer ({error})") from error
        # A limit or padding stored in the file was its training's; this class has its own.
        fast.no_truncation()
        fast.no_padding()
        end = fast.token_to_id(END)
        if end is None:
            raise ModelError(f"{path}: has no end token {END}")

        def pieces(text: str) -> list[int]:
            return list(fast.encode(text, add_special_tokens=False).ids)

        return cls(pieces, end=end, size=fast.get_vocab_size(), limit=limit)

    @classmethod
    def _open_sentencepiece(cls, path: Path, limit: int) -> "Tokenizer":
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error})") from error
        return cls._of_pieces(path, content, limit)

    @classmethod
    def _open_inside(cls, path: Path, limit: int) -> "Tokenizer":
        try:
            with safe_open(str(path), framework="np") as file:
                content = file.get_tensor(TOKENIZER_TENSOR).tobytes()
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path}: has no tokenizer inside ({error})") from error
        return cls._of_pieces(path, content, limit)

    @classmethod
    def _of_pieces(cls, path: Path, content: bytes, limit: int) -> "Tokenizer":
        from sentencepiece import SentencePieceProcessor

        processor = SentencePieceProcessor()
        try:
            processor.LoadFromSerializedProto(content)
        except (RuntimeError, OSError) as error:
            raise ModelError(f"{path}: is not a sentencepiece model ({error})") from error
        if processor.eos_id() < 0:
            raise ModelError(f"{path}: has no end token {END}")

        def pieces(text: str) -> list[int]:
            return [int(number) for number in processor.EncodeAsIds(text)]

        return cls(pieces, end=int(processor.eos_id()), size=int(processor.GetPieceSize()), limit=limit)

    def __call__(self, text: str) -> list[int]:
        """The numbers of a prompt's tokens, at most `limit` of them.

        A longer prompt is cut as the reference does, and a warning in the log says so.
        """
        numbers = self._pieces(clean(text))
        if len(numbers) >= self.limit:
            _log.warning("a prompt of %d tokens was cut to the %d that the model reads", len(numbers) + 1, self.limit)
        return [*numbers[: self.limit - 1], self._end]


class PromptEncoder:
    """Prompts to the video network's text tokens: the tokenizer, then the text encoder.

    Raises:
        ModelError: a tokenizer with more numbers than the encoder knows.
    """

    def __init__(self, tokenizer: Tokenizer, encoder: TextEncoder) -> None:
        if tokenizer.size > encoder.config.vocab:
            raise ModelError(f"the tokenizer has {tokenizer.size} tokens, the text encoder {encoder.config.vocab}")
        self.tokenizer = tokenizer
        self.encoder = encoder

    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        """One tensor [tokens, dim] per prompt, at its true length, in the encoder's type and on its device."""
        return [self.encoder.encode(self.tokenizer(prompt)) for prompt in prompts]
