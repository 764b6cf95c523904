"""Reading a model's JSON with errors that name the place: typed values, and configurations as their authors wrote."""

import json
from collections.abc import Mapping, Set
from dataclasses import MISSING, fields
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypeVar

from infinitetalk.core.configs import DiTConfig, NetConfig, SpeechConfig
from infinitetalk.core.errors import ModelError

C = TypeVar("C", bound=NetConfig)

INDEX_SUFFIX = ".safetensors.index.json"

# Settings of the authors' `config.json` files that a network fixes: another value would be another network.
FIXED: Mapping[type[NetConfig], Mapping[str, Any]] = {
    DiTConfig: {"model_type": "i2v"},
    SpeechConfig: {
        "model_type": "wav2vec2",
        "hidden_act": "gelu",
        "feat_extract_activation": "gelu",
        "layer_norm_eps": 1e-5,
        "add_adapter": False,
        "adapter_attn_dim": None,
    },
}

# Settings of wav2vec2's file that say how it was trained, or what else with it; nothing here depends on them.
_TRAINING_ONLY = """
activation_dropout adapter_kernel_size adapter_stride apply_spec_augment architectures attention_dropout
bos_token_id chunk_size_feed_forward classifier_proj_size codevector_dim contrastive_logits_temperature
conv_bias_init ctc_loss_reduction ctc_zero_infinity diversity_loss_weight dtype eos_token_id feat_extract_dropout
feat_proj_dropout feat_quantizer_dropout final_dropout freeze_feat_extract_train gradient_checkpointing
hidden_dropout hidden_dropout_prob id2label initializer_range is_encoder_decoder label2id layerdrop
mask_channel_length mask_channel_min_space mask_channel_other mask_channel_prob mask_channel_selection
mask_feature_length mask_feature_min_masks mask_feature_prob mask_time_length mask_time_min_masks
mask_time_min_space mask_time_other mask_time_prob mask_time_selection no_mask_channel_overlap no_mask_time_overlap
num_adapter_layers num_codevector_groups num_codevectors_per_group num_negatives output_attentions
output_hidden_size output_hidden_states pad_token_id problem_type proj_codevector_dim return_dict tdnn_dilation
tdnn_dim tdnn_kernel tokenizer_class torch_dtype transformers_version use_weighted_layer_sum vocab_size
xvector_output_dim
"""
WITHOUT_EFFECT: Mapping[type[NetConfig], Set[str]] = {SpeechConfig: frozenset(_TRAINING_ONLY.split())}


def read_object(path: Path) -> Mapping[str, Any]:
    """A JSON file that holds an object.

    Raises:
        ModelError: no such file, not JSON, or not an object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"there is no {path.name}") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.name} is not readable JSON ({error})") from error
    return mapping(values, path.name)


def shards(index: Path) -> tuple[str, ...]:
    """Names of the files that a `.safetensors.index.json` lists, in order, whether they are there or not.

    Raises:
        ModelError: an index that cannot be read, or that points outside of its folder.
    """
    names = mapping(read_object(index).get("weight_map"), f"the weight_map of {index.name}").values()
    listed = sorted({text(name, f"a file in {index.name}") for name in names})
    if outside := next((name for name in listed if not _is_inside(name)), None):
        raise ModelError(f"{index.name} points outside of its folder, to {outside}; it was not followed")
    return tuple(listed)


def _is_inside(name: str) -> bool:
    """Whether a relative path stays below its folder, as any system would read it."""
    kinds = (PurePosixPath(name), PureWindowsPath(name))
    return not any(path.anchor or ".." in path.parts for path in kinds)


def mapping(value: Any, what: str) -> Mapping[str, Any]:
    """`value` if it is a JSON object."""
    if not isinstance(value, dict):
        raise ModelError(f"{what} must be a JSON object in braces, not {value!r}")
    return value


def only(values: Mapping[str, Any], known: Set[str], what: str) -> None:
    """Refuses keys beyond the known ones; those that start with '_' are comments."""
    if unknown := sorted(key for key in values if key not in known and not key.startswith("_")):
        raise ModelError(f"{what} has the unknown key {', '.join(unknown)}; known are {', '.join(sorted(known))}")


def text(value: Any, what: str) -> str:
    """`value` if it is a string with content."""
    if not isinstance(value, str) or not value:
        raise ModelError(f"{what} must be given as text, not {value!r}")
    return value


def texts(value: Any, what: str) -> tuple[str, ...]:
    """`value` if it is a list of strings with at least one."""
    if not isinstance(value, list) or not value:
        raise ModelError(f"{what} must be a list with at least one name, not {value!r}")
    return tuple(text(item, what) for item in value)


def whole(value: Any, what: str) -> int:
    """`value` if it is a whole number from 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelError(f"{what} must be a whole number from 1, not {value!r}")
    return value


def motion(value: Any) -> float | None:
    """`value` if it is a strength of motion, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 2:
        raise ModelError(f"motion must be a number from 0 to 2, not {value!r}")
    return float(value)


def number(value: str, what: str) -> float:
    """The positive number that a JSON key spells."""
    try:
        result = float(value)
    except ValueError as error:
        raise ModelError(f"{what} is not a number") from error
    if not 0 < result < float("inf"):
        raise ModelError(f"{what} is not a positive number")
    return result


def config(root: Path, values: Any, kind: type[C], what: str) -> C:
    """A configuration from an object, or from the JSON file that a string names."""
    if isinstance(values, str):
        values, what = read_object(root / values), f"{values} of {what}"
    values = mapping(values, f"the config of {what}")
    for key, fixed in FIXED.get(kind, {}).items():
        if values.get(key, fixed) != fixed:
            raise ModelError(f"{what}: {key} is {values[key]!r}, but this network has {fixed!r}")
    skipped = set(FIXED.get(kind, {})) | WITHOUT_EFFECT.get(kind, frozenset())
    return typed(kind, {key: value for key, value in values.items() if key not in skipped}, what)


def typed(kind: type[C], values: Mapping[str, Any], what: str) -> C:
    """Builds a configuration whose values have the types of its defaults (a default of None takes numbers)."""
    try:
        result = kind.read(values)
    except ModelError as error:
        raise ModelError(f"{what}: {error}") from error
    for field in fields(kind):
        value, example = values.get(field.name, field.default), field.default
        if example is not MISSING and not _alike(value, example):
            raise ModelError(f"{what}: {field.name} = {value!r} must be of the kind of {example!r}")
    return result


def _alike(value: Any, example: Any) -> bool:
    """Whether a JSON value can stand where `example` stands."""
    if example is None or isinstance(example, float):
        return value is example or (isinstance(value, int | float) and not isinstance(value, bool))
    if isinstance(example, tuple):
        return isinstance(value, list | tuple) and bool(value) and all(_alike(item, example[0]) for item in value)
    return type(value) is type(example)
