"""What is read of the config.json of a language model, and the network's class that it names.

A configuration comes from whoever published the model, and transformers acts on some of its
entries: a way to compute attention may be a kernel that is fetched from the hub and run. So the
entries are read here, and only those that describe a network are handed on.
"""

import dataclasses
import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from sktransfer.texts.transformers import import_transformers, quiet

T = TypeVar("T", bound=dict[str, Any] | list[Any])

_WORD = re.compile(r"[\w +-]*")
"""Names no repository, file or module, all of which have a slash, a dot or a colon."""

_INSTRUCTIONS = ("attn_implementation", "experts_implementation", "output_attentions")
"""Entries that say how to run a network. It is decided here: see `attention_of`."""

_QUANTIZED = ("quantization_config", "compression_config")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a model's folder.

    Raises
    ------
    ValueError
        It is no JSON, or another value.
    """
    return _read(path, dict)


def read_json_list(path: Path) -> list[Any]:
    """The list in a JSON file of a model's folder; see `read_json`."""
    return _read(path, list)


def _read(path: Path, kind: type[T]) -> T:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # of JSON or of UTF-8
        raise ValueError(
            f"{path} is no valid JSON ({_first_line(error)}); fetch the model's files again"
        ) from error
    if not isinstance(content, kind):
        raise ValueError(
            f"{path} must hold a {kind.__name__} in JSON, got a {type(content).__name__}; fetch "
            "the model's files again"
        )
    return content


def config_of(settings: Mapping[str, Any], source: str) -> Any:
    """The configuration of transformers for a network, made of the entries that describe one.

    These are the entries that its class declares, and others whose values are numbers and words.
    All others, those whose names begin with an underscore, and instructions how to run it are
    left out, at any depth.

    Parameters
    ----------
    settings : mapping
        Content of a config.json, from whomever.
    source : str
        Where it comes from, for messages.

    Raises
    ------
    ValueError
        transformers does not know its type, its weights are quantized, or it makes no sense.
    """
    transformers = import_transformers()
    name = settings.get("model_type")
    if not isinstance(name, str) or name not in transformers.CONFIG_MAPPING:
        needs = " and needs code of its own, which is never run" if "auto_map" in settings else ""
        raise ValueError(
            f"{source} is of type {name!r}, which transformers {transformers.__version__} does "
            f"not know{needs}; choose another model"
        )
    quantized = next((key for key in _QUANTIZED if settings.get(key)), None)
    if quantized is not None:
        raise ValueError(
            f"{source} has quantized weights ({quantized}), which are not supported; choose the "
            "model it was made of"
        )
    kind = transformers.CONFIG_MAPPING[name]
    try:
        with quiet():
            return kind.from_dict(_entries(kind, settings, described=True))
    except Warning:  # that somebody has made an error
        raise
    except Exception as error:  # its values may be anything
        raise ValueError(
            f"{source} has a config.json that describes no network ({_first_line(error)}); fetch "
            "the model's files again"
        ) from error


def note_other_entries(config: Any, settings: Mapping[str, Any]) -> None:
    """Add the entries that have not been used to the configuration of a network that is built.

    They change nothing any more. A network is known by its configuration, that is in feature
    stores, and the same network should go by the same one.
    """
    for key, value in _entries(type(config), settings, described=False).items():
        if not hasattr(config, key):
            setattr(config, key, value)


def class_of(config: Any, source: str) -> Any:
    """The class of transformers that encodes texts by this configuration."""
    transformers = import_transformers()
    for mapping in ("MODEL_FOR_TEXT_ENCODING_MAPPING", "MODEL_MAPPING"):
        kinds = getattr(transformers, mapping)
        if type(config) in kinds:
            found = kinds[type(config)]
            found = found[0] if isinstance(found, tuple) else found
            if found.main_input_name == "input_ids":
                return found
    raise ValueError(
        f"{source} is of type {config.model_type!r}, which transformers has no network for that "
        "encodes texts; choose another model"
    )


def attention_of(kind: Any) -> str:
    """The way to compute attention in a network of a class: torch's own function if it can."""
    return "sdpa" if kind._supports_sdpa else "eager"


def _entries(kind: Any, settings: Mapping[str, Any], *, described: bool) -> dict[str, Any]:
    """Entries that describe a network of this kind, or those that do not; no instructions."""
    declared = _declared_by(kind)
    return {
        key: _without_instructions(value)
        for key, value in settings.items()
        if _is_description(key) and (key in declared or _is_plain(value)) is described
    }


def _declared_by(kind: Any) -> set[str]:
    """Entries that a class of configurations knows by name."""
    declared = set(kind.attribute_map) | {"model_type", "rope_scaling"}
    if dataclasses.is_dataclass(kind):  # from transformers 5 on
        return declared | {field.name for field in dataclasses.fields(kind)}
    for each in kind.__mro__:
        declared |= set(inspect.signature(each.__init__).parameters)
    return declared


def _is_description(key: str) -> bool:
    return not key.startswith("_") and key not in _INSTRUCTIONS


def _is_plain(value: Any) -> bool:
    """Whether a value consists of numbers and words."""
    if isinstance(value, dict):
        return all(_is_plain(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return all(_is_plain(part) for part in value)
    return not isinstance(value, str) or _WORD.fullmatch(value) is not None


def _without_instructions(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_instructions(v) for k, v in value.items() if _is_description(k)}
    if isinstance(value, list):
        return [_without_instructions(part) for part in value]
    return value


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]:.200}" if lines else type(error).__name__
