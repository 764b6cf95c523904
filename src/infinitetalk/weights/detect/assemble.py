"""Puts a model together from loose files in any order, or says exactly what lacks."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from infinitetalk.core.configs import (
    TOKENIZER_TENSOR,
    DiTConfig,
    NetConfig,
    SpeechConfig,
    TextConfig,
    VAEConfig,
    VisionConfig,
)
from infinitetalk.core.defaults import STANDARD_BUCKETS, ModelDefaults
from infinitetalk.core.encoders import DEFAULT, encoder_name
from infinitetalk.core.errors import ModelError
from infinitetalk.core.presets import LIVE_DEFAULTS
from infinitetalk.core.presets import PEOPLE as TRAINED_PEOPLE
from infinitetalk.weights.detect.collect import Collected, collect
from infinitetalk.weights.detect.component import Component
from infinitetalk.weights.detect.places import places
from infinitetalk.weights.detect.tokens import speaks
from infinitetalk.weights.detect.unit import Unit
from infinitetalk.weights.folder import ModelFolder, Part, check_fit
from infinitetalk.weights.locate import MANIFEST

C = TypeVar("C", bound=NetConfig)

PEOPLE: Mapping[str, int] = {"single": TRAINED_PEOPLE[0], "multi": TRAINED_PEOPLE[1], "": TRAINED_PEOPLE[0]}
"""What the adapters were trained for; a file that does not say is taken for one person's."""

EXAMPLES: Mapping[Component, str] = {
    Component.BASE: "an image-to-video base (Wan2.1-I2V-14B-480P)",
    Component.ADAPTER: "an InfiniteTalk adapter (single/infinitetalk.safetensors of MeiGen-AI/InfiniteTalk)",
    Component.TEXT: "the umT5 text encoder (models_t5_umt5-xxl-enc-bf16.pth)",
    Component.VISION: "the CLIP picture encoder (models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth)",
    Component.VAE: "the video VAE (Wan2.1_VAE.pth)",
    Component.SPEECH: "the wav2vec2 speech encoder (model.safetensors of facebook/wav2vec2-base-960h)",
}
"""What lacks, as people know it."""
TOKENIZER = "umT5's tokenizer (a folder with spiece.model or tokenizer.json, as google/umt5-xxl)"

# ModelTC/LightX2V (f8aee98), configs/infinitetalk/h100/infinitetalk_single_distilled.json.
DISTILLED: Mapping[str, Mapping[str, Any]] = {
    "4stepdistill": {"steps": 4, "shift": 7.0, "text_scale": 1.0, "audio_scale": 1.0},
    "flashtalk": LIVE_DEFAULTS,
}
"""What networks distilled to four steps want. Both families are known by their files' names alone."""
SHOWN = 3
GENERIC = ("diffusion_pytorch_model", "model", "pytorch_model")
"""How files are called whose folder tells what they are."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Choice:
    """Which unit is which part, and what is still lacking."""

    parts: dict[Component, Unit] = field(default_factory=dict)
    tokenizer: Path | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def dit(self) -> DiTConfig | None:
        """The shape of the transformer, once it is whole."""
        unit = self.parts.get(Component.MERGED) or self.parts.get(Component.BASE)
        if unit is None or not isinstance(unit.config, DiTConfig):
            return None
        audio = self.parts.get(Component.ADAPTER)
        return unit.config if audio is None else _joined(unit.config, audio.config)

    @property
    def lacking(self) -> tuple[Component, ...]:
        """Parts that no unit fills."""
        whole = Component.MERGED in self.parts
        wanted = [part for part in EXAMPLES if not (whole and part in (Component.BASE, Component.ADAPTER))]
        return tuple(part for part in wanted if part not in self.parts)

    def lacks(self) -> list[str]:
        """Everything that a model still needs, as people know it."""
        lines = [EXAMPLES[part] for part in self.lacking]
        return [*lines, TOKENIZER] if self.tokenizer is None else lines


def _joined(base: DiTConfig, audio: NetConfig | None) -> DiTConfig:
    """The base's shape with the adapter's audio layers."""
    if not isinstance(audio, DiTConfig):
        return base
    names = ("audio_window", "audio_blocks", "audio_channels", "intermediate_dim", "output_dim", "context_tokens")
    return replace(base, **{name: getattr(audio, name) for name in (*names, "vae_scale")})


def choose(given: Collected, elsewhere: Sequence[Path] = (), speech: Unit | None = None) -> Choice:
    """Decides which files make the model.

    Args:
        given: what lies at the paths that the user named.
        elsewhere: folders in which parts are looked for that the user did not name; the first that has one gives it.
        speech: the speech encoder, whichever others there are.

    Raises:
        ModelError: two files for one part, or a base and an adapter that do not fit.
    """
    choice = Choice({} if speech is None else {Component.SPEECH: speech})
    named = [unit for unit in given.units if given.is_named(unit)]
    found = [unit for unit in given.units if not given.is_named(unit)]
    _take(choice, named, found=False)
    _leave_out(choice, found)
    _take(choice, found)
    _take_tokenizer(choice, given)
    for place in elsewhere:
        if not choice.lacks():
            break
        before, had = set(choice.parts), choice.tokenizer
        there = collect([place])
        _take(choice, there.units)
        _take_tokenizer(choice, there)
        new = [(part, unit) for part, unit in choice.parts.items() if part not in before]
        choice.notes += [f"{part.value}: taken from {unit.path}" for part, unit in new]
        if choice.tokenizer != had:
            choice.notes.append(f"tokenizer: taken from {choice.tokenizer}")
    return choice


def refuse_named(given: Collected) -> None:
    """Refuses files that the user named and no model can have.

    Raises:
        ModelError: the first of them, and why.
    """
    for unit in given.units:
        if given.is_named(unit) and unit.component is Component.LORA:
            raise ModelError(f"{unit.path}: is a LoRA, not a part of a model; give it with --lora")
        if given.is_named(unit) and unit.problem:
            raise ModelError(f"{unit.path}: {unit.problem}")


def _take(choice: Choice, units: Sequence[Unit], *, found: bool = True) -> None:
    """Fills the parts that are lacking; the transformer first, so that encoders are compared with it.

    Of several speech encoders that were `found` and not named, the default one is taken.

    Raises:
        ModelError: two files for one part.
    """
    for component in _with_merged(choice.lacking):
        fit = [unit for unit in units if unit.component is component and unit.usable and _fits(unit, choice)]
        if component is Component.SPEECH and found:
            fit = _default(fit, choice)
        if len(fit) > 1:
            listed = ", ".join(str(unit.path) for unit in fit)
            raise ModelError(f"{len(fit)} files could be the {component.value}: {listed}; name the one to use")
        if fit:
            choice.parts[component] = fit[0]
    _check_transformers(choice.parts)


def _default(encoders: list[Unit], choice: Choice) -> list[Unit]:
    """The default one of several speech encoders, if it is the only one of its name; all of them if not."""
    meant = [unit for unit in encoders if encoder_name(unit.files) == DEFAULT]
    if len(encoders) < 2 or len(meant) != 1:
        return encoders
    taken = f"of {len(encoders)}, {meant[0].path} is taken; --encoder names another"
    choice.notes.append(f"{Component.SPEECH.value}: {taken}")
    return meant


def _leave_out(choice: Choice, found: Sequence[Unit]) -> None:
    """Says which halves in a folder are not used, because the user named a network that holds both."""
    whole = choice.parts.get(Component.MERGED)
    halves = [unit for unit in found if unit.component in (Component.BASE, Component.ADAPTER)]
    if whole is not None:
        choice.notes += [
            f"{unit.component.value}: {unit.path} is left out, as {whole.path} holds one" for unit in halves
        ]


def _take_tokenizer(choice: Choice, given: Collected) -> None:
    """Takes umT5's tokenizer from a folder, or from inside of ComfyUI's text encoder."""
    text = choice.parts.get(Component.TEXT)
    config = None if text is None else text.config

    def fits(folder: Path) -> bool:
        return not isinstance(config, TextConfig) or folder.is_file() or speaks(folder, config.vocab)

    if choice.tokenizer is not None and not fits(choice.tokenizer):
        choice.tokenizer = None
    if choice.tokenizer is None:
        choice.tokenizer = next((folder for folder in given.tokenizers if fits(folder)), None)
    if choice.tokenizer is None and text is not None and TOKENIZER_TENSOR in text.kinds:
        choice.tokenizer = text.path


def _with_merged(only: Sequence[Component]) -> tuple[Component, ...]:
    """A merged network fills two places at once, where neither is taken."""
    both = Component.BASE in only and Component.ADAPTER in only
    return (Component.MERGED, *only) if both else tuple(only)


def _check_transformers(parts: Mapping[Component, Unit]) -> None:
    """Refuses a merged network beside one of the two that it was merged from, and halves that do not fit."""
    whole = parts.get(Component.MERGED)
    for half in (Component.BASE, Component.ADAPTER):
        if whole is not None and half in parts:
            raise ModelError(
                f"{whole.path} holds the base and the audio layers, so that {parts[half].path} has no place; "
                f"name the one to use"
            )
    base, adapter = parts.get(Component.BASE), parts.get(Component.ADAPTER)
    if base is None or adapter is None:
        return
    ours, theirs = base.config, adapter.config
    if isinstance(ours, DiTConfig) and isinstance(theirs, DiTConfig):
        for name in ("dim", "num_layers"):
            if getattr(ours, name) != getattr(theirs, name):
                raise ModelError(
                    f"{adapter.path} is for a base with {name} {getattr(theirs, name)}, but {base.path} has "
                    f"{getattr(ours, name)}"
                )


def _fits(unit: Unit, choice: Choice) -> bool:
    """Whether an encoder gives what the transformer takes; nothing is known before there is one."""
    dit = choice.dit
    match unit.config:
        case TextConfig(dim=dim):
            return dit is None or dim == dit.text_dim
        case VisionConfig(dim=dim):
            return dit is None or dim == dit.clip_dim
        case SpeechConfig(hidden_size=dim):
            return dit is None or dim == dit.audio_channels
        case VAEConfig(z_dim=dim):
            return dit is None or dim == dit.out_dim
    return True


def assemble(paths: Sequence[Path], speech: Unit | None = None) -> ModelFolder:
    """Makes a model of loose files, and of what lacks from where weights usually lie; says in the log what it took.

    Args:
        paths: weight files, indices of shards and folders, in any order.
        speech: the speech encoder, whichever others there are.

    Raises:
        ModelError: files that cannot be used, two for one part, or parts that lack.
    """
    if lost := next((path for path in paths if not path.exists()), None):
        raise ModelError(f"{lost}: there is no such file or folder")
    given = collect(paths)
    refuse_named(given)
    choice = choose(given, places(), speech)
    if lacks := choice.lacks():
        bare = f"there is no {MANIFEST}, and " if len(paths) == 1 and paths[0].is_dir() else ""
        raise ModelError(f"{', '.join(map(str, paths))}: {bare}{_lacking(given, choice, lacks)}")
    for note in choice.notes:
        _log.warning("%s", note)
    return _folder(paths, choice)


def _lacking(given: Collected, choice: Choice, lacks: Sequence[str]) -> str:
    """What was found, what lacks, and which files were of no use."""
    found = [f"{part.value} ({unit.path.name})" for part, unit in choice.parts.items()]
    what = f"found {', '.join(found)}" if found else "no part found"
    line = f"the files make no whole model: {what}; lacking: {'; '.join(lacks)}"
    unfit = [f"{unit.path.name}: {unit.problem}" for unit in given.units if unit.problem]
    unfit += [file.problem.replace(str(file.path), file.path.name, 1) for file in given.rejected]
    more = f"; and {len(unfit) - SHOWN} more" if len(unfit) > SHOWN else ""
    return line + (f". Not used: {'; '.join(unfit[:SHOWN])}{more}" if unfit else "")


def _folder(paths: Sequence[Path], choice: Choice) -> ModelFolder:
    parts = choice.parts
    dit, config = parts.get(Component.MERGED) or parts[Component.BASE], choice.dit
    assert config is not None
    adapter = parts.get(Component.ADAPTER)
    people = adapter or dit
    if not people.people:
        _log.warning("%s: its name says neither single nor multi; taken as for one voice", people.path)
    folder = ModelFolder(
        path=paths[0] if paths[0].is_dir() else paths[0].parent,
        name=_name(dit.path),
        max_people=PEOPLE[people.people],
        dit=Part(config, (*dit.files, *(adapter.files if adapter else ()))),
        vae=_part(parts[Component.VAE], VAEConfig),
        speech=_part(parts[Component.SPEECH], SpeechConfig),
        text=_part(parts[Component.TEXT], TextConfig, choice.tokenizer),
        vision=_part(parts[Component.VISION], VisionConfig),
        defaults=ModelDefaults(**_defaults(dit)),
        buckets=STANDARD_BUCKETS,
    )
    check_fit(folder)
    return folder


def _name(path: Path) -> str:
    """What a model is called: its transformer's file, or the folder where the file's name says nothing."""
    if not path.stem.startswith(GENERIC):
        return path.stem
    home = path.absolute().parent
    return home.parent.name if home.name in ("transformer", "single", "multi") else home.name


def _part(unit: Unit, kind: type[C], tokenizer: Path | None = None) -> Part[C]:
    assert isinstance(unit.config, kind)
    return Part(unit.config, unit.files, tokenizer)


def _defaults(dit: Unit) -> Mapping[str, Any]:
    """Settings that a distilled network wants, by its name."""
    words = "/".join(dit.path.parts[-3:]).lower().replace("-", "").replace("_", "")
    wanted = next((settings for word, settings in DISTILLED.items() if word in words), {})
    if wanted:
        _log.warning("%s: distilled, as its name says: 4 steps without guidance, unless asked for otherwise", dit.path)
    return wanted
