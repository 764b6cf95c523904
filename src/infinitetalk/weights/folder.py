"""A model folder: one manifest that says which parts a model has, their shapes and their files.

`model.json`:

    {"format": 1, "name": "nano", "max_people": 3,
     "parts": {"dit": {"config": {…} or "config.json", "files": ["dit.safetensors"]},
               "vae": {…}, "speech": {…},
               "text": {…, "tokenizer": "tokenizer"}, "vision": {…}},
     "defaults": {…}, "buckets": {"128": {"1.00": [128, 128]}}, "motion": 0.3}

`text` and `vision` may be absent where the dit has no such input; `defaults` and `buckets` fall back to the 14B
model's. `motion` is there if the dit learned how much people shall move, which the condition's mask tells it, and says
how much they do so unless told otherwise. Paths are relative to the folder. Opening a folder reads no weights, but
checks that all of it is there, whole by the files' headers, and fits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from infinitetalk.core.configs import (
    TOKENIZER_FILES,
    DiTConfig,
    NetConfig,
    SpeechConfig,
    TextConfig,
    VAEConfig,
    VisionConfig,
)
from infinitetalk.core.defaults import STANDARD_BUCKETS, ModelDefaults, ModelFacts
from infinitetalk.core.encoders import encoder_advice, encoder_doubt
from infinitetalk.core.errors import ModelError, RequestError
from infinitetalk.core.loras import Lora
from infinitetalk.core.presets import PRESETS
from infinitetalk.core.request import check_values
from infinitetalk.core.sizes import MASK_CHANNELS, PIXEL_MULTIPLE, Buckets, Pixels
from infinitetalk.weights import manifest
from infinitetalk.weights.header import read_header
from infinitetalk.weights.locate import MANIFEST, locate, loose_files

FORMAT = 1
REQUIRED = ("dit", "vae", "speech")
OPTIONAL = ("text", "vision")
KEYS = frozenset({"format", "name", "max_people", "parts", "defaults", "buckets", "motion"})

C = TypeVar("C", bound=NetConfig)


@dataclass(frozen=True, slots=True)
class Part(Generic[C]):
    """One network of a model: its shape, its weight files (indices resolved), and for text its tokenizer's folder."""

    config: C
    files: tuple[Path, ...]
    tokenizer: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """An opened model folder; every file that it lists is there."""

    path: Path
    name: str
    max_people: int
    dit: Part[DiTConfig]
    vae: Part[VAEConfig]
    speech: Part[SpeechConfig]
    text: Part[TextConfig] | None
    vision: Part[VisionConfig] | None
    defaults: ModelDefaults
    buckets: Mapping[str, Buckets]
    loras: tuple[Lora, ...] = ()
    """LoRAs that belong to the model, applied before those of a request."""
    encoder: str | None = None
    """What its user put in the place of its own speech encoder."""
    motion: float | None = None
    """How much people move unless told otherwise, 0 to 2; None where the dit did not learn it."""

    @classmethod
    def open(cls, name: str | Path, encoder: str | None = None) -> "ModelFolder":
        """Opens a bundled or downloaded model by name, a model folder by path, or loose weight files by their paths.

        Without a manifest the model is put together from what the files are: see `weights.detect.assemble`. A speech
        encoder that is named takes the place of the model's own: see `weights.encoder`.

        Raises:
            ModelError: one line that says what the model lacks, or what in it cannot be used.
            RequestError: an encoder that is not there, or that the model was not made for.
        """
        if encoder is not None:
            # Headers of weights are read for it, which the other ways do without.
            from infinitetalk.weights.encoder import open_with

            return open_with(str(name), encoder)
        if str(name) in PRESETS and not Path(name).exists():
            # What follows needs a ModelFolder itself.
            from infinitetalk.weights.hub.model import open_downloaded

            return open_downloaded(str(name))
        if (loose := loose_files(name)) is not None:
            # It makes a ModelFolder, so it can only be known when both modules are.
            from infinitetalk.weights.detect.assemble import assemble

            return assemble(loose)
        path = locate(name)
        try:
            return cls._read(path, manifest.read_object(path / MANIFEST))
        except ModelError as error:
            raise ModelError(f"model folder {path}: {error}") from error

    @classmethod
    def _read(cls, path: Path, values: Mapping[str, Any]) -> Self:
        if values.get("format") != FORMAT:
            raise ModelError(f"{MANIFEST} has the format {values.get('format')}; this version reads format {FORMAT}")
        manifest.only(values, KEYS, MANIFEST)
        parts = _parts(values)
        buckets = _buckets(values.get("buckets"))
        folder = cls(
            path=path,
            name=manifest.text(values.get("name", path.name), "name"),
            max_people=manifest.whole(values.get("max_people", 1), "max_people"),
            dit=_part(path, "dit", parts["dit"], DiTConfig),
            vae=_part(path, "vae", parts["vae"], VAEConfig),
            speech=_part(path, "speech", parts["speech"], SpeechConfig),
            text=_part(path, "text", parts["text"], TextConfig) if "text" in parts else None,
            vision=_part(path, "vision", parts["vision"], VisionConfig) if "vision" in parts else None,
            defaults=_defaults(values.get("defaults", {}), buckets),
            buckets=buckets,
            motion=manifest.motion(values.get("motion")),
        )
        check_fit(folder)
        return folder

    @property
    def facts(self) -> ModelFacts:
        """What must be known to check a request before any weight is loaded."""
        return ModelFacts(
            name=self.name,
            defaults=self.defaults,
            buckets=self.buckets,
            has_text=self.text is not None,
            max_people=self.max_people,
            motion=self.motion,
            loras=self.loras,
            encoder=self.encoder,
            encoder_advice=encoder_advice(self.name, self.dit.config, self.speech.files, self.encoder),
            encoder_doubt=encoder_doubt(self.dit.config, self.speech.files, self.encoder),
        )


def _parts(values: Mapping[str, Any]) -> Mapping[str, Any]:
    parts = manifest.mapping(values.get("parts", {}), "parts")
    if lacking := [name for name in REQUIRED if name not in parts]:
        raise ModelError(f"{MANIFEST} lists no part {' and no part '.join(lacking)}; every model needs these")
    if unknown := sorted(set(parts) - {*REQUIRED, *OPTIONAL}):
        raise ModelError(f"{MANIFEST} lists the unknown part {', '.join(unknown)}; parts are {_all_parts()}")
    return parts


def _all_parts() -> str:
    return ", ".join((*REQUIRED, *OPTIONAL))


def _weight_files(root: Path, name: str, listed: Sequence[str]) -> tuple[Path, ...]:
    """Files that are there; an index stands for those that it lists."""
    files = [file for entry in listed for file in _behind(root, entry)]
    if lost := [file for file in files if not (root / file).is_file()]:
        raise ModelError(f"the part {name} lists {', '.join(lost)}, which is not there")
    if empty := [file for file in files if not (root / file).stat().st_size]:
        raise ModelError(f"the part {name} lists {', '.join(empty)}, which is empty; get it again")
    for file in files:
        try:
            read_header(root / file)
        except ModelError as error:
            raise ModelError(f"the part {name} lists {file}, which cannot be used: {error}") from error
    return tuple(root / file for file in files)


def _behind(root: Path, entry: str) -> tuple[str, ...]:
    if not entry.endswith(manifest.INDEX_SUFFIX):
        return (entry,)
    return tuple((Path(entry).parent / file).as_posix() for file in manifest.shards(root / entry))


def _part(root: Path, name: str, values: Any, kind: type[C]) -> Part[C]:
    """Reads one part and checks that its files are there."""
    values = manifest.mapping(values, f"the part {name}")
    manifest.only(values, {"config", "files"} | ({"tokenizer"} if name == "text" else set()), f"the part {name}")
    paths = _weight_files(root, name, manifest.texts(values.get("files"), f"the files of the part {name}"))
    tokenizer = None
    if name == "text":
        tokenizer = root / manifest.text(values.get("tokenizer"), "the tokenizer of the part text")
        if not tokenizer.exists():
            raise ModelError(f"the part text lists the tokenizer {values['tokenizer']}, which is not there")
        if tokenizer.is_dir() and not any((tokenizer / file).is_file() for file in TOKENIZER_FILES):
            raise ModelError(f"the tokenizer {values['tokenizer']} has neither {' nor '.join(TOKENIZER_FILES)}")
    return Part(manifest.config(root, values.get("config", {}), kind, f"the part {name}"), paths, tokenizer)


def _buckets(values: Any) -> Mapping[str, Buckets]:
    """Size tables from JSON: name → aspect ratio (height / width) → [height, width]."""
    if values is None:
        return STANDARD_BUCKETS
    tables = {name: _table(name, rows) for name, rows in manifest.mapping(values, "buckets").items()}
    if not tables:
        raise ModelError("buckets has no size table")
    return tables


def _table(name: str, rows: Any) -> Buckets:
    table: dict[float, Pixels] = {}
    for ratio, size in manifest.mapping(rows, f"the size table {name}").items():
        match size:
            case [int(height), int(width)] if min(size) > 0 and height % PIXEL_MULTIPLE == width % PIXEL_MULTIPLE == 0:
                table[manifest.number(ratio, f"the ratio {ratio} of the size table {name}")] = Pixels(height, width)
            case _:
                raise ModelError(
                    f"the size table {name} has {size} for {ratio}: [height, width] in multiples of {PIXEL_MULTIPLE}"
                )
    if not name.isdecimal() or not table:
        raise ModelError(f"the size table {name} needs a whole number as its name and at least one row")
    return table


def _defaults(values: Any, buckets: Mapping[str, Buckets]) -> ModelDefaults:
    """Reads a model's own settings and checks what a request would be checked for."""
    own = manifest.typed(ModelDefaults, manifest.mapping(values, "defaults"), "defaults")
    if own.size not in buckets:
        raise ModelError(f"defaults.size = {own.size}: the size tables are {', '.join(buckets)}")
    try:
        check_values(asdict(own))
    except RequestError as error:
        raise ModelError(f"defaults.{error}") from error
    if own.motion_frames >= own.window_frames:
        raise ModelError(f"defaults.motion_frames = {own.motion_frames}: must be fewer than the window's frames")
    return own


def check_fit(folder: ModelFolder) -> None:
    """Checks that the parts fit each other: what one gives, the dit must take.

    Raises:
        ModelError: a part that is lacking or of another width.
    """
    dit, vae, speech = folder.dit.config, folder.vae.config, folder.speech.config
    text = folder.text.config.dim if folder.text else 0
    vision = folder.vision.config.dim if folder.vision else 0
    pairs = (
        ("text_dim", dit.text_dim, text, "text", "dim"),
        ("clip_dim", dit.clip_dim, vision, "vision", "dim"),
        ("out_dim", dit.out_dim, vae.z_dim, "vae", "z_dim"),
        ("in_dim", dit.in_dim, 2 * vae.z_dim + MASK_CHANNELS, "vae", f"2 z_dim + {MASK_CHANNELS}"),
        ("audio_channels", dit.audio_channels, speech.hidden_size, "speech", "hidden_size"),
        ("audio_blocks", dit.audio_blocks, speech.num_hidden_layers, "speech", "num_hidden_layers"),
    )
    for setting, wanted, given, part, theirs in pairs:
        if wanted and not given:
            raise ModelError(f"the part {part} is lacking, and the dit needs it ({setting} {wanted})")
        if wanted != given:
            raise ModelError(f"the dit's {setting} is {wanted}, but the part {part} gives {given} ({theirs})")
