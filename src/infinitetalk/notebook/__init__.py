"""The face in notebooks: what the cells of `InfiniteTalk.ipynb` call."""

import warnings

# Of tqdm, which the hub's library imports; the bars of these cells are this package's own.
warnings.filterwarnings("ignore", message="IProgress not found")

from infinitetalk.notebook.session import Session  # noqa: E402

__all__ = ["Session"]
