"""A model with another speech encoder than its own: by name, from a folder or from a file."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from infinitetalk.core.configs import SpeechConfig
from infinitetalk.core.encoders import ENCODERS
from infinitetalk.core.errors import ModelError, RequestError
from infinitetalk.core.presets import PRESETS, HubFile
from infinitetalk.weights.detect.assemble import assemble
from infinitetalk.weights.detect.collect import collect
from infinitetalk.weights.detect.component import Component
from infinitetalk.weights.detect.fits import shape_words
from infinitetalk.weights.detect.places import hub_cache, places
from infinitetalk.weights.detect.unit import Unit
from infinitetalk.weights.folder import ModelFolder, Part
from infinitetalk.weights.locate import bundled, loose_files


def open_with(name: str, encoder: str) -> ModelFolder:
    """Opens a model as `ModelFolder.open` does, with another speech encoder.

    Args:
        name: the model; put together from loose files, it needs no other encoder.
        encoder: `english`, `chinese`, or the path of a folder or file with a network of wav2vec2's kind.

    Raises:
        ModelError: a model that cannot be used.
        RequestError: an encoder that is not there, or gives other features than the model was made for.
    """
    loose = None if name in PRESETS and not Path(name).exists() else loose_files(name)
    if loose is not None:
        return replace(assemble(loose, _find(encoder)), encoder=encoder)
    folder = ModelFolder.open(name)
    if encoder in ENCODERS:
        _check(folder, encoder, SpeechConfig())  # before it is looked for: getting it would be in vain
    unit = _find(encoder)
    assert isinstance(unit.config, SpeechConfig)
    _check(folder, encoder, unit.config)
    return replace(folder, speech=Part(unit.config, unit.files), encoder=encoder)


def _check(folder: ModelFolder, encoder: str, config: SpeechConfig) -> None:
    dit = folder.dit.config
    if (config.num_hidden_layers, config.hidden_size) != (dit.audio_blocks, dit.audio_channels):
        wanted = f"{dit.audio_blocks} layers of {dit.audio_channels}"
        only = f"; {folder.name} hears with its own alone, leave it out" if folder.path.name in bundled() else ""
        need = f"has {shape_words(config)}, and {wanted} are what the model {folder.name} was made for{only}"
        raise RequestError("encoder", encoder, need)


def _find(encoder: str) -> Unit:
    """The encoder that a user means; whole, by its header.

    Raises:
        RequestError: nothing of that name, or nothing that can be used.
    """
    if encoder in ENCODERS:
        return _published(encoder, ENCODERS[encoder])
    path = Path(encoder).expanduser()
    if not encoder.strip() or not path.exists():
        need = f"there is no such file or folder; {', '.join(ENCODERS)} or a path would work"
        raise RequestError("encoder", encoder, need)
    try:
        units = _encoders(path)
    except ModelError as error:
        raise RequestError("encoder", encoder, str(error)) from error
    if len(units) != 1:
        found = f"holds {len(units)} ({', '.join(unit.path.name for unit in units)}); name the one to use"
        raise RequestError("encoder", encoder, found if units else "holds no wav2vec2 speech encoder")
    if units[0].problem:
        raise RequestError("encoder", encoder, f"{units[0].path.name}: {units[0].problem}")
    return units[0]


def _published(encoder: str, files: Sequence[HubFile]) -> Unit:
    """A known encoder, where the hub's programs or people put it."""
    repository, revision = files[0].repository.name, files[0].revision
    for folder in _homes(repository):
        units = [unit for unit in _encoders(folder) if unit.usable]
        if len(units) == 1:
            return units[0]
    names = " ".join(file.name for file in files)
    other = "" if revision == "main" else f" --revision {revision}"
    need = f"{repository} is not in {hub_cache()}; get it with: hf download {repository} {names}{other}"
    raise RequestError("encoder", encoder, need)


def _homes(repository: str) -> Iterator[Path]:
    yield from sorted((hub_cache() / f"models--{repository.replace('/', '--')}" / "snapshots").glob("*/"))
    known = (place / repository.rpartition("/")[2] for place in places())
    yield from (folder for folder in known if folder.is_dir())


def _encoders(path: Path) -> list[Unit]:
    units = [unit for unit in collect([path]).units if unit.component is Component.SPEECH]
    return [unit for unit in units if unit.usable] or units
