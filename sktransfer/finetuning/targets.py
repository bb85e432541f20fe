"""Targets in the form that a network learns: one-hot labels and standardised numbers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import type_of_target

from sktransfer._validation import Vector, as_array, check_no_missing, source_mask, training_weights

TASKS = ("classification", "multilabel", "regression")


@dataclass(frozen=True)
class Targets:
    """Targets of the rows of X.

    Parameters
    ----------
    task : {"classification", "multilabel", "regression"}
    values : ndarray of shape (n, n_outputs), float32
        One-hot labels, an indicator, or numbers of mean 0 and variance 1. Rows of the target
        domain, which have none, are zero.
    labelled : ndarray of shape (n,), bool
        Mask of the rows with a target.
    weights : ndarray of shape (n,), float32
        Weights of the rows in the loss; the positive ones have mean 1.
    classes : ndarray or None
    location : tuple of ndarray of shape (n_outputs,) or None
        Mean and scale of the numbers.
    flat : bool
        Whether y had one dimension.
    """

    task: str
    values: np.ndarray
    labelled: np.ndarray
    weights: np.ndarray
    classes: np.ndarray | None
    location: tuple[np.ndarray, np.ndarray] | None
    flat: bool

    @property
    def codes(self) -> np.ndarray:
        """Code of the class of each row."""
        return self.values.argmax(1)


def encode_targets(
    y: Any,
    *,
    n_rows: int,
    task: str | None = None,
    classes: ArrayLike | None = None,
    location: tuple[np.ndarray, np.ndarray] | None = None,
    sample_weight: Vector = None,
    sample_domain: Vector = None,
    class_weight: str | dict[Any, float] | None = None,
    outputs: int | None = None,
) -> Targets:
    """Check and encode y.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, n_outputs)
    n_rows : int
        Number of rows of X.
    task : {"classification", "multilabel", "regression"} or None, default=None
        None infers it from the type of y: continuous numbers are regression, an indicator matrix
        is multilabel, everything else classification. An indicator matrix for "classification"
        is multilabel, too.
    classes : array-like or None, default=None
        All classes that may occur, or those of an earlier call; None takes those of y.
    location : tuple of ndarray or None, default=None
        Mean and scale of an earlier call.
    sample_weight : array-like of shape (n,) or None
    sample_domain : array-like of shape (n,) or None
        Negative for rows of the target domain, whose y is ignored.
    class_weight : "balanced", dict or None
    outputs : int or None, default=None
        Number of columns in an earlier call, which must be the same for "multilabel" and
        "regression".

    Raises
    ------
    ValueError
        y is missing, holds NaN, differs in length from X, or has a single class.
    """
    if y is None:
        raise ValueError(
            "requires y to be passed, but the target y is None: fine-tuning learns from labels; "
            "pass y, or a torch Dataset as X whose items are tuples (sample, label), or set "
            "strategy='frozen' for features without labels"
        )
    labelled = source_mask(sample_domain, n_rows)
    y = _dense_array(y)
    if len(y) != n_rows:
        raise ValueError(f"y has {len(y)} rows and X has {n_rows}; they must be equal")
    seen = y[labelled]
    found = "regression" if task == "regression" else _task_of(seen)
    if task == "classification" and found == "regression":
        raise ValueError(
            "Unknown label type: continuous. y holds continuous numbers, not classes; use a "
            "regressor, or bin them"
        )
    task = found
    known = None if classes is None else np.unique(np.asarray(classes))
    weights = np.zeros(n_rows, dtype=np.float64)
    weights[labelled] = training_weights(sample_weight, n_rows)[labelled]
    _check_any_positive(weights, "sample_weight")
    flat = y.ndim == 1
    width = 1 if flat else y.shape[1]
    if outputs is not None and task != "classification" and width != outputs:
        raise ValueError(f"y must have {outputs} columns, as in the first fit, got {width}")
    if task == "regression":
        table = check_array(seen.reshape(len(seen), -1), dtype=np.float64, input_name="y")
        location = location or _location(table, weights[labelled])
        values = (table - location[0]) / location[1]
    elif task == "multilabel":
        values = check_array(seen, dtype=np.float64, input_name="y")
        known = np.arange(values.shape[1])
    else:
        values, known = _one_hot(seen, known, weights[labelled])
    if class_weight is not None:
        weights[labelled] *= _class_weights(class_weight, task, known, values, weights[labelled])
        _check_any_positive(weights, "class_weight")
    # Weights of mean 1 keep the learning rate meaningful, whatever their scale.
    mean = weights[weights > 0].mean()
    all_values = np.zeros((n_rows, values.shape[1]), dtype=np.float32)
    all_values[labelled] = values
    return Targets(
        task, all_values, labelled, (weights / mean).astype(np.float32), known, location, flat
    )


def _check_any_positive(weights: np.ndarray, name: str) -> None:
    if not (weights > 0).any():
        raise ValueError(f"{name} leaves no labelled row with a weight above zero")


def _dense_array(y: Any) -> np.ndarray:
    # Indicator matrices of several labels may be sparse.
    y = y.toarray() if issparse(y) else as_array(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    if y.ndim not in (1, 2):
        raise ValueError(f"y must have one or two dimensions, got shape {y.shape}")
    return y


def _task_of(y: np.ndarray) -> str:
    check_no_missing(y)
    kind = type_of_target(y, input_name="y", raise_unknown=True)
    if kind == "multiclass-multioutput":
        raise ValueError(
            "y has several columns of classes; pass one column, an indicator matrix of 0 and 1, or "
            "floats for regression"
        )
    if kind.startswith("continuous"):
        return "regression"
    return "multilabel" if kind == "multilabel-indicator" else "classification"


def _location(table: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    share = (
        weights / weights.sum() if weights.sum() > 0 else np.full(len(weights), 1 / len(weights))
    )
    mean = share @ table
    scale = np.sqrt(share @ (table - mean) ** 2)
    # The scale of a constant column is rounding error, and must not divide it.
    return mean, np.where(scale > 64 * np.finfo(float).eps * np.abs(mean), scale, 1.0)


def _one_hot(
    y: np.ndarray, classes: np.ndarray | None, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if y.ndim == 2:
        raise ValueError(
            f"y has {y.shape[1]} columns; classes need one, or an indicator of 0 and 1"
        )
    present, codes = np.unique(y, return_inverse=True)
    if classes is None:
        classes = present
        weighted = np.unique(codes[weights > 0])
        if len(classes) < 2 or len(weighted) < 2:
            raise ValueError(
                f"learning needs at least 2 classes in y, got {len(weighted)} class"
                f" ({present[weighted].tolist()})"
            )
    else:
        unknown = np.setdiff1d(present, classes)
        if len(unknown):
            raise ValueError(
                f"y holds classes {unknown.tolist()} that are not in {classes.tolist()}"
            )
        codes = np.searchsorted(classes, y)
    return np.eye(len(classes))[codes], classes


def _class_weights(
    class_weight: Any,
    task: str,
    classes: np.ndarray | None,
    values: np.ndarray,
    weights: np.ndarray,
) -> np.ndarray:
    if task != "classification" or classes is None:
        raise ValueError(f"class_weight is for classification, and y makes this {task}")
    codes = values.argmax(1)
    if isinstance(class_weight, str) and class_weight == "balanced":
        counted = codes[weights > 0]  # rows of weight 0 count as absent
        present = np.unique(counted)
        by_code = np.ones(len(classes))
        by_code[present] = compute_class_weight("balanced", classes=present, y=counted)
    elif isinstance(class_weight, dict):
        for label, value in class_weight.items():
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(
                    f"class_weight must be finite and not negative, got {value!r} for {label!r}"
                )
        by_code = compute_class_weight(class_weight, classes=classes, y=classes[codes])
    else:
        raise ValueError(f"class_weight must be None, 'balanced' or a dict, got {class_weight!r}")
    return by_code[codes]
