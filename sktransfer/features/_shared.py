"""What the feature transformers share: checks, names, and how they come back from a pickle."""

import numbers
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.utils import check_random_state, check_scalar

from sktransfer.finetuning.strategy import check_strategy
from sktransfer.store import FeatureStore


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
