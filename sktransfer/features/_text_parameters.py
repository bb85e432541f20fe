"""Checks of the parameters of the text transformer, and their values for a network."""

import numbers
import warnings
from typing import Any

from sklearn.utils import check_scalar

from sktransfer._validation import callers_level, check_options, pooling_names
from sktransfer.backbones.language import Recipe
from sktransfer.networks.engines import ENGINES
from sktransfer.texts.tracing import POOLINGS, TextTrace

COMBINATIONS = ("concat", "mean", "sum")

_OPTIONS = {
    "combine": COMBINATIONS,
    "long_texts": ("warn", "cut", "split", "raise"),
    "engine": ENGINES,
    "precision": ("float32", "bfloat16"),
    "on_error": ("raise", "nan"),
}


def check_parameters(estimator: Any) -> None:
    """Refuse, by name, a parameter that no network could make sense of."""
    check_options(estimator, _OPTIONS)
    if estimator.max_length is not None:
        if isinstance(estimator.max_length, bool):
            raise TypeError(f"max_length must be an integer, got {estimator.max_length!r}")
        check_scalar(estimator.max_length, "max_length", numbers.Integral, min_val=3)
    value = estimator.normalize
    if not (value is True or value is False or (isinstance(value, str) and value == "auto")):
        raise ValueError(f"normalize must be 'auto', True or False, got {value!r}")
    if not _is_auto(estimator.pooling):
        _poolings(estimator.pooling)


def _is_auto(pooling: Any) -> bool:
    return isinstance(pooling, str) and pooling == "auto"


def resolve_poolings(pooling: Any, recipe: Recipe, name: str) -> tuple[str, ...]:
    """The poolings that are asked for."""
    if not _is_auto(pooling):
        return _poolings(pooling)
    unknown = [own for own in recipe.poolings if own not in POOLINGS]
    if unknown:
        raise ValueError(
            f"pooling='auto' of backbone={name!r} is {'+'.join(recipe.poolings)!r}, and there "
            f"is no {unknown[0]!r} here; set pooling to one of {POOLINGS}, or several joined by '+'"
        )
    if recipe.prompt and not recipe.prompt_is_pooled:
        raise ValueError(
            f"pooling='auto' of backbone={name!r} leaves out the tokens of its prompt "
            f"{recipe.prompt!r:.60}, which is not supported; set pooling to one of {POOLINGS} to "
            "pool all tokens"
        )
    if recipe.left_out:
        warnings.warn(
            f"backbone={name!r} goes on behind its pooling with {', '.join(recipe.left_out)}, "
            "which is left out here; set pooling to say that you want its states without this "
            "warning",
            stacklevel=callers_level(),
        )
    return recipe.poolings


def _poolings(asked: Any) -> tuple[str, ...]:
    found = pooling_names(asked)
    if not found or any(name not in POOLINGS for name in found) or len(set(found)) < len(found):
        raise ValueError(
            f"pooling must be 'auto', one of {POOLINGS}, or several of these, each once, as a "
            f"tuple or joined by '+', got {asked!r}"
        )
    return found


def resolve_layers(wanted: Any, combine: str, trace: TextTrace) -> tuple[str, ...]:
    """Names of the layers that `layer` asks for."""
    asked = wanted if isinstance(wanted, tuple | list) else (wanted,)
    if not asked:
        raise ValueError("layer must name at least one layer, got an empty tuple")
    resolved = tuple(_resolve(layer, trace) for layer in asked)
    if len({trace.taps[name] for name in resolved}) < len(resolved):
        raise ValueError(f"layer={wanted!r} asks for the same layer twice: {resolved}")
    kinds = {(trace.widths[name], name in trace.vectors) for name in resolved}
    if combine != "concat" and len(kinds) > 1:
        raise ValueError(
            f"combine={combine!r} needs layers of one width, and layer={wanted!r} has "
            f"{[trace.widths[name] for name in resolved]}; set combine='concat'"
        )
    return resolved


def _resolve(layer: Any, trace: TextTrace) -> str:
    if isinstance(layer, bool) or not isinstance(layer, str | numbers.Integral):
        raise ValueError(f"layer must be a name, a stage number or a tuple of these, got {layer!r}")
    if isinstance(layer, str):
        if layer in trace.taps:
            return layer
        raise ValueError(
            f"layer={layer!r} is not known; stages are {list(trace.stages)}, and layers_ of a "
            "fitted estimator lists all"
        )
    n_stages = len(trace.stages)
    number = int(layer)
    if not -n_stages <= number < n_stages:
        raise ValueError(
            f"layer={number} is not there: stages count from 0, the embeddings, to {n_stages - 1}, "
            f"or from -{n_stages} to -1"
        )
    return trace.stages[number]


def resolve_max_length(asked: int | None, recipe: Recipe) -> int | None:
    """Tokens of a text at most."""
    if asked is None:
        return recipe.max_length
    if recipe.limit is not None and asked > recipe.limit:
        raise ValueError(
            f"max_length={asked} is more than the {recipe.limit} tokens that the backbone has "
            "positions for; set long_texts='split' to read longer texts in pieces"
        )
    return int(asked)
