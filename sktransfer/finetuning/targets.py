"""What is to be predicted, as a network learns it: labels encoded, numbers standardised."""

import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import assert_all_finite, check_array, column_or_1d
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import type_of_target

from sktransfer._validation import source_mask

TASKS = ("classification", "multilabel", "regression")


@dataclass(frozen=True)
class Targets:
    """Targets of some rows.

    Parameters
    ----------
    task : {"classification", "multilabel", "regression"}
    values : ndarray of shape (n, n_outputs), float32
        One-hot labels, an indicator, or numbers of mean 0 and variance 1. Rows of the target
        domain, which have none, are zero.
    labelled : ndarray of shape (n,), bool
        Which rows have a target.
    weights : ndarray of shape (n,), float32
        Of the rows in the loss; those that are above zero have mean 1.
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
        """Number of the class of each row."""
        return self.values.argmax(1)


def encode_targets(
    y: Any,
    *,
    n_rows: int,
    task: str | None = None,
    classes: Any = None,
    location: tuple[np.ndarray, np.ndarray] | None = None,
    sample_weight: Any = None,
    sample_domain: Any = None,
    class_weight: Any = None,
    outputs: int | None = None,
) -> Targets:
    """Check and encode y.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, n_outputs)
    n_rows : int
        That X has.
    task : {"classification", "multilabel", "regression"} or None, default=None
        None tells it by the type of y: continuous numbers are regression, an indicator matrix
        is multilabel, everything else classification. An indicator matrix for "classification"
        is multilabel, too.
    classes : array-like or None, default=None
        All that there may be, or those of an earlier call; None takes those of y.
    location : tuple of ndarray or None, default=None
        Mean and scale of an earlier call.
    sample_weight : array-like of shape (n,) or None
    sample_domain : array-like of shape (n,) or None
        Rows below 0 are of the target domain: their y is not looked at.
    class_weight : "balanced", dict or None
    outputs : int or None, default=None
        Columns of an earlier call, which numbers and several labels must have again.

    Raises
    ------
    ValueError
        y is missing, holds NaN, has other rows than X, or a single class.
    """
    if y is None:
        raise ValueError(
            "requires y to be passed, but the target y is None: fine-tuning learns from labels; "
            "set strategy='frozen' to go without"
        )
    labelled = source_mask(sample_domain, n_rows)
    y = _one_array(y)
    if len(y) != n_rows:
        raise ValueError(f"y has {len(y)} rows and X has {n_rows}; they must be equal")
    some = y[labelled]
    found = "regression" if task == "regression" else _task_of(some)
    if task == "classification" and found == "regression":
        raise ValueError(
            "Unknown label type: continuous. y holds numbers that are no classes; use a regressor, "
            "or bin them"
        )
    task = found
    weights = np.zeros(n_rows, dtype=np.float64)
    weights[labelled] = weights_of(sample_weight, n_rows)[labelled]
    _check_some(weights, "sample_weight")
    flat = y.ndim == 1
    width = 1 if flat else y.shape[1]
    if outputs is not None and task != "classification" and width != outputs:
        raise ValueError(f"y has {width} columns, and had {outputs} before; they must be as many")
    if task == "regression":
        table = check_array(some.reshape(len(some), -1), dtype=np.float64, input_name="y")
        location = location or _location(table, weights[labelled])
        values = (table - location[0]) / location[1]
    elif task == "multilabel":
        values = check_array(some, dtype=np.float64, input_name="y")
        classes = np.arange(values.shape[1])
    else:
        known = None if classes is None else np.unique(np.asarray(classes))
        values, classes = _one_hot(some, known, weights[labelled])
    if class_weight is not None:
        weights[labelled] *= _of_classes(class_weight, task, classes, values, weights[labelled])
        _check_some(weights, "class_weight")
    mean = weights[weights > 0].mean()
    every = np.zeros((n_rows, values.shape[1]), dtype=np.float32)
    every[labelled] = values
    return Targets(
        task, every, labelled, (weights / mean).astype(np.float32), classes, location, flat
    )


def weights_of(sample_weight: Any, n_rows: int) -> np.ndarray:
    """Weights of the rows, (n,) and none negative, as they were given or 1."""
    if sample_weight is None:
        return np.ones(n_rows)
    if isinstance(sample_weight, numbers.Real):
        sample_weight = np.full(n_rows, sample_weight)
    weights = check_array(
        sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
    )
    if weights.shape != (n_rows,):
        raise ValueError(
            f"sample_weight.shape == {weights.shape}, expected {(n_rows,)}: one weight per row"
        )
    if (weights < 0).any():
        raise ValueError(f"Negative values in data passed to sample_weight: {weights.min()}")
    if not (weights > 0).any():
        raise ValueError("sample_weight is zero for every row; one at least must have some weight")
    return weights


def _check_some(weights: np.ndarray, name: str) -> None:
    if not (weights > 0).any():
        raise ValueError(f"{name} leaves no labelled row with a weight above zero")


def _one_array(y: Any) -> np.ndarray:
    if issparse(y):  # an indicator of several labels may be
        y = y.toarray()
    if hasattr(y, "to_numpy"):
        y = y.to_numpy()
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    if y.ndim not in (1, 2):
        raise ValueError(f"y must have one or two dimensions, got shape {y.shape}")
    return y


def _task_of(y: np.ndarray) -> str:
    if y.dtype.kind == "f":
        assert_all_finite(y, input_name="y")
    if y.dtype.kind == "O" and any(label is None or label != label for label in y.ravel()):
        raise ValueError("Input y contains NaN or None; drop these rows, or label them")
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
    return mean, np.where(scale > 64 * np.finfo(float).eps * np.abs(mean), scale, 1.0)


def _one_hot(
    y: np.ndarray, classes: np.ndarray | None, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if y.ndim == 2:
        raise ValueError(
            f"y has {y.shape[1]} columns; classes need one, or an indicator of 0 and 1"
        )
    own, codes = np.unique(y, return_inverse=True)
    if classes is None:
        classes = own
        heavy = np.unique(codes[weights > 0])
        if len(classes) < 2 or len(heavy) < 2:
            raise ValueError(
                f"learning needs at least 2 classes in y, got {len(heavy)} class"
                f" ({own[heavy].tolist()})"
            )
    else:
        unknown = np.setdiff1d(own, classes)
        if len(unknown):
            raise ValueError(
                f"y holds classes {unknown.tolist()} that are not in {classes.tolist()}"
            )
        codes = np.searchsorted(classes, y)
    return np.eye(len(classes))[codes], classes


def _of_classes(
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
        counted = codes[weights > 0]  # a row without weight is as good as none
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
