"""Errors as one sentence in a cell, where notebooks would show a wall of source lines."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from infinitetalk.core.errors import InfiniteTalkError

P = ParamSpec("P")
R = TypeVar("R")


class CellError(Exception):
    """Ends a cell, and with it a run of all cells. IPython shows the sentence alone."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def plain(function: Callable[P, R]) -> Callable[P, R]:
    """Lets what the product refuses end a cell with its one line, and a stop by hand without any."""

    @wraps(function)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except InfiniteTalkError as error:
            raise CellError(str(error)) from error
        except KeyboardInterrupt as stop:
            raise CellError("Stopped. Run the cell again to go on.") from stop

    return told
