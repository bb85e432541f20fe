"""Features of training rows by networks that were tuned without them."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.base import clone

from sktransfer.finetuning.protocols import Tunable
from sktransfer.finetuning.runs import extract_features
from sktransfer.finetuning.strategy import FineTune
from sktransfer.finetuning.targets import Targets
from sktransfer.finetuning.training import tune
from sktransfer.finetuning.tuned import Tuned


def cross_fitted(
    tunables: Callable[[], Tunable],
    targets: Targets,
    encode: Callable[[np.ndarray], Targets],
    strategy: FineTune,
    seed: int,
    n_folds: int,
    progress: str | None = None,
) -> tuple[np.ndarray, bool]:
    """Features of each row by a network that was tuned on the rows of the other folds.

    All networks start from the same source and draw from the same seed, so that their features
    differ by what the other rows teach them, and not by chance. None is given back as frozen, which
    would put features of two kinds side by side.

    Parameters
    ----------
    tunables : callable
        Gives all samples, and a fresh copy of the source network.
    targets : Targets
        Of all rows, to deal them out.
    encode : callable
        Gives the targets without the rows of a mask, whose weight is 0.
    strategy : FineTune
    seed : int
    n_folds : int
    progress : str or None, default=None
        Label of the progress bars.

    Returns
    -------
    features : ndarray of shape (n, n_features), float32
        Rows that could not be read are NaN.
    interrupted : bool
        Whether the user ended a training, so that `features` is not complete.

    Raises
    ------
    ValueError
        There are fewer rows than folds, or a fold leaves too few rows to learn from.
    """
    strategy = clone(strategy).set_params(guard=False)
    features: np.ndarray | None = None
    for number, held_out in enumerate(folds(targets, n_folds, seed), start=1):
        tunable = tunables()
        label = None if progress is None else f"{progress}, fold {number} of {n_folds}"
        tuned: Tuned = tune(tunable, encode(held_out), strategy, seed, progress=label)
        if tuned.interrupted:
            return np.empty((0, 0), dtype=np.float32), True
        inputs, readable = tunable.prepared
        rows = np.flatnonzero(held_out & readable)
        if not len(rows):
            continue
        found = extract_features(
            tuned.network.body, inputs, rows, strategy.batch_size, tunable.device
        )
        if features is None:
            features = np.full((len(held_out), found.shape[1]), np.nan, dtype=np.float32)
        features[rows] = found
    assert features is not None
    return features, False


def folds(targets: Targets, n_folds: int, seed: int) -> Iterator[np.ndarray]:
    """Masks of the rows of each fold, with all classes in each as far as there are rows of them."""
    n_rows = len(targets.values)
    if targets.labelled.sum() < n_folds:
        raise ValueError(
            f"cross_fit={n_folds} needs as many labelled rows, got {targets.labelled.sum()}; "
            "lower cross_fit"
        )
    order = np.random.RandomState(seed).permutation(n_rows)
    # Rows of a class are neighbours, so that dealing them out in turn spreads it over the folds.
    groups = targets.codes if targets.task == "classification" else np.zeros(n_rows, dtype=int)
    groups = np.where(targets.labelled, groups, -1)
    fold_of = np.empty(n_rows, dtype=np.int64)
    fold_of[order[np.argsort(groups[order], kind="stable")]] = np.arange(n_rows) % n_folds
    for fold in range(n_folds):
        yield fold_of == fold


def check_cross_fit(value: Any) -> None:
    """Refuse anything but None and a number of folds.

    Raises
    ------
    ValueError
        It is something else.
    """
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if value is not None and not (is_whole and value >= 2):
        raise ValueError(f"cross_fit must be None or a number of folds from 2 on, got {value!r}")
