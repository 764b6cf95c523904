"""Where models live: the ones bundled with the package, by name, and folders by path."""

from pathlib import Path

from infinitetalk.core.errors import ModelError
from infinitetalk.core.model_name import split_model

MANIFEST = "model.json"
ASSETS = Path(__file__).resolve().parents[1] / "assets"


def bundled() -> tuple[str, ...]:
    """Names of the models that come with the package."""
    return tuple(sorted(manifest.parent.name for manifest in ASSETS.glob(f"*/{MANIFEST}")))


def locate(name: str | Path) -> Path:
    """The folder of a bundled model by its name, else the folder at a path.

    Raises:
        ModelError: neither a bundled model nor a folder.
    """
    if str(name) in bundled():
        return ASSETS / str(name)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        known = ", ".join(bundled()) or "none"
        raise ModelError(f"model {name}: there is no such folder, and no bundled model of that name (bundled: {known})")
    return folder


def loose_files(name: str | Path) -> list[Path] | None:
    """The paths from which a model must be put together; None for a bundled model or a folder with a manifest.

    Raises:
        ModelError: neither a bundled model nor a path.
    """
    if str(name) in bundled():
        return None
    paths = [Path(part).expanduser() for part in split_model(str(name))]
    if len(paths) == 1 and (paths[0] / MANIFEST).is_file():
        return None
    if len(paths) == 1 and not paths[0].exists():
        locate(name)
    return paths
