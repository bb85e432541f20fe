"""Integer codes of class labels, and sums and means of the rows of each class."""

import numpy as np
from sklearn.utils.multiclass import check_classification_targets

from sktransfer.adaptation._base import DomainPair

UNLABELLED = -1
"""Code of a row without a label."""


def encode_classes(pair: DomainPair) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorted classes, and the positions in them of source and of target rows; -1 if unlabelled.

    Labels that are continuous are refused.
    """
    assert pair.y_source is not None
    assert pair.y_target is not None
    seen = np.concatenate([pair.y_source, pair.y_target[pair.labelled]])
    check_classification_targets(seen)
    classes, codes = np.unique(seen, return_inverse=True)
    target = np.full(len(pair.target), UNLABELLED)
    target[pair.labelled] = codes[len(pair.y_source) :]
    return classes, codes[: len(pair.y_source)], target


def class_sums(table: np.ndarray, codes: np.ndarray, n_classes: int) -> np.ndarray:
    """Sums over the rows of each class, (n_classes, n_features)."""
    # Faster than a loop if classes have few rows, and than `np.add.at` if they have many.
    order = np.argsort(codes, kind="stable")
    sums = np.zeros((n_classes, table.shape[1]))
    present, starts = np.unique(codes[order], return_index=True)
    sums[present] = np.add.reduceat(table[order], starts, axis=0)
    return sums


def class_means(table: np.ndarray, codes: np.ndarray, n_classes: int) -> np.ndarray:
    """Means of all classes, each of which has a row."""
    return class_sums(table, codes, n_classes) / np.bincount(codes, minlength=n_classes)[:, None]
