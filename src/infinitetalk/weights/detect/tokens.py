"""How many tokens a tokenizer has, counted in its file: T5's relatives name their files alike, and mean other words."""

import json
from pathlib import Path

from infinitetalk.core.configs import TOKENIZER_FILES

FAST_FILE, SENTENCEPIECE_FILE = TOKENIZER_FILES
SPARE = 512
"""A text encoder's table is rounded up: it has at most this many rows that no token has."""
PIECE = 1


def speaks(folder: Path, vocab: int) -> bool:
    """Whether a tokenizer's folder has about as many tokens as a text encoder's table has rows."""
    try:
        return 0 <= vocab - count_tokens(folder) <= SPARE
    except (OSError, ValueError, LookupError, TypeError):
        return False


def count_tokens(folder: Path) -> int:
    """The tokens of a folder's `tokenizer.json` or `spiece.model`; the first that is there is what is used.

    Raises:
        OSError, ValueError, LookupError, TypeError: a file that is not there or not whole.
    """
    if (folder / FAST_FILE).is_file():
        return len(json.loads((folder / FAST_FILE).read_text(encoding="utf-8"))["model"]["vocab"])
    return _count_pieces((folder / SENTENCEPIECE_FILE).read_bytes())


def _count_pieces(content: bytes) -> int:
    """Walks over the fields of a sentencepiece model (a protobuf message), in which each token is one."""
    place = count = 0
    while place < len(content):
        tag, place = _varint(content, place)
        match tag & 7:
            case 0:
                _, place = _varint(content, place)
            case 1:
                place += 8
            case 2:
                length, place = _varint(content, place)
                place += length
            case 5:
                place += 4
            case wire:
                raise ValueError(f"a field of the unknown kind {wire}")
        count += tag >> 3 == PIECE
    return count


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while (byte := content[place]) & 0x80:
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
    return value | byte << shift, place + 1
