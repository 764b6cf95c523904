"""A card that this machine does not have: `INFINITETALK_PRETEND=t4` makes every decision fall as it would there.

Notebooks, documents and tests of a small card's path run anywhere with it. Kernels that the card lacks are refused
(`runtime.guard`), and its memory and main memory are those that plans are made for. Speed is not pretended.
"""

import os

from infinitetalk.core.cards import CARDS, Card, find_card
from infinitetalk.core.errors import RequestError

VARIABLE = "INFINITETALK_PRETEND"


def pretended_card() -> Card | None:
    """The card that the environment asks to pretend.

    Raises:
        RequestError: a card that the table does not have.
    """
    wanted = os.environ.get(VARIABLE, "").strip()
    if not wanted:
        return None
    card = find_card(wanted)
    if card is None:
        raise RequestError(VARIABLE, wanted, f"no such card in the table; {', '.join(CARDS)} would work")
    return card
