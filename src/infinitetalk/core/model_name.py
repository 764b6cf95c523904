"""What `--model` takes: a bundled model's name, a path, or several paths with commas between them."""

from pathlib import Path

SEPARATOR = ","


def split_model(name: str) -> tuple[str, ...]:
    """The paths that a model's name lists; a name that is a path itself, commas and all, is one.

    >>> split_model("base.gguf, adapter.safetensors")
    ('base.gguf', 'adapter.safetensors')
    """
    if SEPARATOR not in name or Path(name).expanduser().exists():
        return (name,)
    return tuple(part.strip() for part in name.split(SEPARATOR) if part.strip())


def absolute_model(name: str) -> str:
    """The same model, named so that it is found from any folder; a bundled model's name stays."""
    paths = [Path(part).expanduser() for part in split_model(name)]
    if not all(path.exists() for path in paths):
        return name
    return SEPARATOR.join(path.absolute().as_posix() for path in paths)
