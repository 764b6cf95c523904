"""The face in notebooks: what the cells of `InfiniteTalk.ipynb` call."""

from infinitetalk.notebook.session import Session

__all__ = ["Session"]
