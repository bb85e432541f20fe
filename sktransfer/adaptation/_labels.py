"""What methods that learn relations from labels share: codes of classes, and their means."""

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.multiclass import check_classification_targets

from sktransfer.adaptation._base import Pair

UNLABELLED = -1
"""Code of a row without a label."""


class Coded(NamedTuple):
    """Classes, and their numbers in the rows of both domains.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Sorted, as they were given.
    source : ndarray of shape (n_source,), int
    target : ndarray of shape (n_target,), int
        -1 where the label is not to be seen.
    """

    classes: np.ndarray
    source: np.ndarray
    target: np.ndarray


def coded_labels(pair: Pair) -> Coded:
    """Numbers of the classes; rows of the target without a label are -1.

    Raises
    ------
    ValueError
        The labels are not classes.
    """
    assert pair.y_source is not None
    assert pair.y_target is not None
    seen = np.concatenate([pair.y_source, pair.y_target[pair.labelled]])
    check_classification_targets(seen)
    classes, codes = np.unique(seen, return_inverse=True)
    target = np.full(len(pair.target), UNLABELLED)
    target[pair.labelled] = codes[len(pair.y_source) :]
    return Coded(classes, codes[: len(pair.y_source)], target)


def check_option(name: str, value: Any, options: tuple[str, ...]) -> None:
    """Refuse a parameter that is not among its options."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {options}, got {value!r}")


def class_sums(table: np.ndarray, codes: np.ndarray, n_classes: int) -> np.ndarray:
    """Sums over the rows of each class, (n_classes, n_features)."""
    # A loop over classes is slower for few rows each, and `np.add.at` for many.
    order = np.argsort(codes, kind="stable")
    sums = np.zeros((n_classes, table.shape[1]))
    present, starts = np.unique(codes[order], return_index=True)
    sums[present] = np.add.reduceat(table[order], starts, axis=0)
    return sums


def class_means(table: np.ndarray, codes: np.ndarray, n_classes: int) -> np.ndarray:
    """Means of all classes, each of which has a row."""
    return class_sums(table, codes, n_classes) / np.bincount(codes, minlength=n_classes)[:, None]
