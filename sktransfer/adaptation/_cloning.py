"""Copies of the user's estimators."""

from typing import Any

import numpy as np
from sklearn.base import clone


def seeded_clone(estimator: Any, random: np.random.RandomState) -> Any:
    """An unfitted copy, each of whose parameters called `random_state` is drawn from `random`."""
    copy = clone(estimator)
    names = [n for n in sorted(copy.get_params(deep=True)) if n.split("__")[-1] == "random_state"]
    return copy.set_params(**{name: random.randint(np.iinfo(np.int32).max) for name in names})
