"""Checks of the parameters of the image transformer, and their values for a network."""

import dataclasses
import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.utils import check_scalar

from sktransfer._validation import check_flag, check_option, check_options, pooling_names
from sktransfer.images.pooling import POOLINGS
from sktransfer.images.preprocessing import RESIZES, Preprocessing
from sktransfer.images.tracing import ImageTrace
from sktransfer.networks.engines import ENGINES

_OPTIONS = {
    "channels": ("last", "first"),
    "engine": ENGINES,
    "precision": ("float32", "bfloat16"),
    "on_error": ("raise", "nan"),
}


def check_parameters(estimator: Any) -> None:
    """Refuse, by name, a parameter that no network could make sense of."""
    check_options(estimator, _OPTIONS)
    if estimator.resize is not None:  # the backbone's own
        check_option("resize", estimator.resize, RESIZES)
    resolve_poolings(estimator.pooling)
    check_flag(estimator, "fast_decode")
    prefix = estimator.weights_prefix
    if prefix is not None and not isinstance(prefix, str):
        raise ValueError(f"weights_prefix must be None or a str, got {prefix!r}")
    check_scalar(estimator.max_pixels, "max_pixels", numbers.Integral, min_val=1)
    if estimator.value_range is not None:
        low, high = _numbers("value_range", estimator.value_range, (2,))
        if not low < high:
            raise ValueError(
                "value_range must be (black, white) with black < white, got "
                f"{estimator.value_range!r}"
            )
    if estimator.image_shape is not None:
        shape = _numbers("image_shape", estimator.image_shape, (2, 3), numbers.Integral)
        if any(side != -1 and side < 1 for side in shape):
            raise ValueError(
                "image_shape must hold positive integers, or one -1 to be inferred, got "
                f"{estimator.image_shape!r}"
            )


def resolve_poolings(asked: Any) -> tuple[str, ...]:
    """The poolings that `pooling` asks for."""
    names = pooling_names(asked)
    if not names or not set(names) <= set(POOLINGS) or len(set(names)) < len(names):
        raise ValueError(
            f"pooling must be one of {POOLINGS}, or several of these, each once, as a tuple or "
            f"joined by '+', got {asked!r}"
        )
    return names


def resolve_preprocessing(estimator: Any, published: Preprocessing) -> Preprocessing:
    """The backbone's preprocessing, with what the parameters say instead."""
    size = published.size
    if estimator.image_size is not None:
        sides: Any = estimator.image_size
        if isinstance(sides, numbers.Real):
            sides = (sides, sides)
        height, width = _numbers("image_size", sides, (2,), numbers.Integral)
        if height < 1 or width < 1:
            raise ValueError(f"image_size must be positive, got {estimator.image_size!r}")
        size = (int(height), int(width))
    changed: dict[str, Any] = {} if estimator.resize is None else {"resize": estimator.resize}
    for name in ("mean", "std"):
        value = getattr(estimator, name)
        if value is not None:
            value = (value,) if isinstance(value, numbers.Real) else value
            changed[name] = _numbers(name, value, (1, published.in_channels))
    if any(value <= 0 for value in changed.get("std", ())):
        raise ValueError(f"std must be positive, got {estimator.std!r}")
    return dataclasses.replace(published, size=size, **changed)


def resolve_layers(wanted: Any, poolings: tuple[str, ...], trace: ImageTrace) -> tuple[str, ...]:
    """Names of the layers that `layer` asks for."""
    asked = wanted if isinstance(wanted, tuple | list) else (wanted,)
    if not asked:
        raise ValueError("layer must name at least one layer, got an empty tuple")
    for layer in asked:
        if isinstance(layer, bool) or not isinstance(layer, str | numbers.Integral):
            raise ValueError(
                f"layer must be a name, a stage number or a tuple of these, got {layer!r}"
            )
    resolved = tuple(trace.resolve(layer) for layer in asked)
    if len(set(resolved)) < len(resolved):
        raise ValueError(f"layer={wanted!r} asks for the same layer twice: {resolved}")
    if "cls" in poolings:
        for name in resolved:
            trace.activations[name].check_class_token(name)
    return resolved


def _numbers(
    name: str, value: Any, lengths: tuple[int, ...], kind: Any = numbers.Real
) -> tuple[Any, ...]:
    """A tuple of one of the given lengths, of finite numbers."""
    values: tuple[Any, ...] = tuple(value) if isinstance(value, Iterable) else ()
    good = [isinstance(v, kind) and not isinstance(v, bool) and np.isfinite(v) for v in values]
    if len(values) not in lengths or not all(good):
        expected = " or ".join(str(length) for length in dict.fromkeys(lengths))
        what = "integers" if kind is numbers.Integral else "finite numbers"
        raise ValueError(f"{name} must hold {expected} {what}, got {value!r}")
    return values
