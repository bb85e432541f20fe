"""What the feature transformers share: checks, names, and how they come back from a pickle."""

import numbers
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state, check_scalar

from sktransfer.caching import FeatureStore
from sktransfer.extraction.runner import resolve_device
from sktransfer.finetuning.strategy import check_strategy

SEEN = {"n_features_in_", "feature_names_in_"}
"""What scikit-learn's validation notes of a table."""


def check_options(estimator: Any, options_of: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a parameter that is not among its options."""
    for name, options in options_of.items():
        value = getattr(estimator, name)
        if not isinstance(value, str) or value not in options:
            raise ValueError(f"{name} must be one of {options}, got {value!r}")


def check_flag(estimator: Any, name: str) -> None:
    """Refuse a parameter that is neither True nor False."""
    value = getattr(estimator, name)
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r}")


def check_shared(estimator: Any) -> None:
    """Check the parameters that all have: strategy, cache, batch_size, random_state."""
    check_strategy(estimator.strategy)
    cache = estimator.cache
    if not isinstance(cache, str | os.PathLike | FeatureStore | None) or cache == "":
        raise ValueError(
            f"cache must be None, the path of a folder or a FeatureStore, got {cache!r}"
        )
    check_scalar(estimator.batch_size, "batch_size", numbers.Integral, min_val=1)
    check_random_state(estimator.random_state)


def check_input_features(estimator: Any, input_features: Any) -> None:
    """Compare names with those seen in `fit`, as scikit-learn's transformers do."""
    n_features_in = getattr(estimator, "n_features_in_", None)
    if input_features is None or n_features_in is None:
        return
    names_in = getattr(estimator, "feature_names_in_", None)
    if names_in is not None and not np.array_equal(names_in, input_features):
        raise ValueError("input_features is not equal to feature_names_in_")
    if len(input_features) != n_features_in:
        raise ValueError(
            "input_features should have length equal to number of features "
            f"({n_features_in}), got {len(input_features)}"
        )


def forget_table(estimator: Any) -> None:
    """Drop what an earlier fit may have noted of a table."""
    for name in SEEN & vars(estimator).keys():
        delattr(estimator, name)


@contextmanager
def restored_on_error(estimator: Any, names: set[str]) -> Iterator[None]:
    """Give attributes back what they held, or did not, if the block fails."""
    before = {name: vars(estimator)[name] for name in names & vars(estimator).keys()}
    try:
        yield
    except BaseException:  # an interrupt, too
        for name in names & vars(estimator).keys():
            delattr(estimator, name)
        for name, value in before.items():
            setattr(estimator, name, value)
        raise


def device_again(estimator: Any) -> torch.device:
    """The device of an unpickled estimator: the one it was fitted on, or with a warning the CPU."""
    try:
        return resolve_device("auto" if estimator.device == "auto" else estimator.device_)
    except ValueError:
        warnings.warn(
            f"the estimator was fitted on device={estimator.device_!r}, which this machine lacks; "
            "using the CPU",
            stacklevel=3,
        )
        return torch.device("cpu")
