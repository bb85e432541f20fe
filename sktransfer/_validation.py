"""Checks of domains, labels, weights and parameters, written once for the whole package.

Everywhere X holds the rows of all domains, and ``sample_domain`` tells them apart: positive for
source rows, negative for target rows. Different numbers may stand for different sources or targets.
Nothing here imports torch.
"""

import numbers
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import assert_all_finite, check_array, check_scalar, column_or_1d

Vector = ArrayLike | None
"""One value per row of X, such as a domain or a weight; None if it is optional."""

Seed = int | np.random.RandomState | None
"""A value of `random_state`."""

_INSIDE = ("sktransfer", "sklearn", "contextlib")
"""Packages whose frames lie between a warning and the line of a caller."""


def checked_domain(
    sample_domain: ArrayLike, n_rows: int | None = None, name: str = "sample_domain"
) -> np.ndarray:
    """Domain of each row as a number other than 0, (n_rows,).

    Parameters
    ----------
    sample_domain : array-like of shape (n_rows,)
    n_rows : int or None, default=None
        Number of rows of X; None accepts any.
    name : str, default="sample_domain"
        Name of the argument in error messages.

    Raises
    ------
    ValueError
        `sample_domain` is of another shape, length or type, or holds 0 or NaN.
    """
    count = "" if n_rows is None else f"{n_rows} "
    rule = (
        f"{name} must hold {count}numbers, positive for source and negative for target rows, none "
        "of them 0 or NaN; got "
    )
    if np.ndim(sample_domain) == 0:
        raise ValueError(f"{rule}{sample_domain!r}")
    domain = column_or_1d(sample_domain)
    if domain.dtype.kind == "O" and all(
        isinstance(each, numbers.Real) and not isinstance(each, bool) for each in domain
    ):
        domain = domain.astype(np.float64)  # a column of a table of mixed types
    if domain.dtype.kind not in "iuf":
        raise ValueError(f"{rule}{domain[:5].tolist()} of dtype {domain.dtype}")
    if n_rows is not None and len(domain) != n_rows:
        raise ValueError(f"{rule}{len(domain)} of them")
    wrong = (domain == 0) | np.isnan(domain)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"{rule}{domain[row]:g} in row {row}")
    return domain


def source_mask(sample_domain: Vector, n_rows: int) -> np.ndarray:
    """Mask of the source rows among those to fit, (n_rows,) of bool; all rows for None.

    Raises
    ------
    ValueError
        `sample_domain` is invalid, or has no source row.
    """
    if sample_domain is None:
        return np.ones(n_rows, dtype=bool)
    domain = checked_domain(sample_domain, n_rows)
    if not (domain > 0).any():
        raise ValueError("sample_domain has no source row (above 0), whose labels are needed")
    return domain > 0


def new_source_mask(sample_domain: Vector, n_rows: int) -> np.ndarray:
    """Mask of the source rows among new ones, (n_rows,) of bool; no row for None.

    A model is used for the target, so that new rows are of the target unless they are marked.
    """
    if sample_domain is None:
        return np.zeros(n_rows, dtype=bool)
    return checked_domain(sample_domain, n_rows) > 0


def labelled_mask(is_source: np.ndarray, target_labeled: Vector) -> np.ndarray:
    """Mask of the rows with a label to learn from: source rows, and target rows marked as such.

    Parameters
    ----------
    is_source : ndarray of shape (n,), bool
    target_labeled : array-like of shape (n,), bool, or None
        Source rows are labelled whatever it says of them.

    Raises
    ------
    ValueError
        `target_labeled` is not an array of n booleans.
    """
    if target_labeled is None:
        return is_source
    if getattr(target_labeled, "dtype", None) == "boolean":  # pandas' type, which allows NA
        target_labeled = np.asarray(target_labeled, dtype=bool)
    labelled = column_or_1d(target_labeled)
    if labelled.dtype != bool or len(labelled) != len(is_source):
        raise ValueError(
            f"target_labeled must hold {len(is_source)} booleans, one per row of X, got "
            f"{len(labelled)} of dtype {labelled.dtype}"
        )
    return is_source | labelled


def as_array(values: Any) -> np.ndarray:
    """Labels or weights as an array; `to_numpy` turns pandas' nullable types into NumPy's."""
    return values.to_numpy() if hasattr(values, "to_numpy") else np.asarray(values)


def row_count(X: Any) -> int:
    """Number of rows of an array, a sparse matrix (which has no len), a DataFrame or a list."""
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def checked_labels(y: ArrayLike, labelled: np.ndarray) -> np.ndarray:
    """Y as an array of one type, (n_rows,); only labels of the labelled rows are checked.

    Other rows get the first label, so that placeholders cannot change the type.
    """
    labels = column_or_1d(as_array(y), warn=True)
    if len(labels) != len(labelled):
        raise ValueError(f"y has {len(labels)} rows and X has {len(labelled)}; they must be equal")
    seen = labels[labelled]
    check_no_missing(seen)
    if seen.dtype.kind == "O":
        values = np.array(seen.tolist())  # as the type that they have in common
        # NumPy makes text of numbers beside text, which then would be other classes.
        if values.dtype.kind == "U" and not all(isinstance(label, str) for label in seen):
            kinds = sorted({type(label).__name__ for label in seen})
            raise ValueError(f"y must hold labels of one type, got {' and '.join(kinds)}")
        seen = values
    known = np.empty(len(labels), dtype=seen.dtype)
    known[labelled], known[~labelled] = seen, seen[0]
    return known


def check_no_missing(y: np.ndarray) -> None:
    """Refuse labels or numbers that are NaN, infinite or None."""
    if y.dtype.kind == "f":
        assert_all_finite(y, input_name="y")
    if y.dtype.kind == "O" and any(label is None or label != label for label in y.ravel()):
        raise ValueError("Input y contains NaN or None; drop these rows, or label them")


def checked_weights(sample_weight: Vector, n_rows: int) -> np.ndarray:
    """One finite weight per row, (n_rows,) of float64; None and numbers stand for equal weights."""
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
    return np.asarray(weights)


def training_weights(sample_weight: Vector, n_rows: int) -> np.ndarray:
    """Weights of the rows in a loss, (n_rows,) of float64: none negative, and not all of them 0."""
    weights = checked_weights(sample_weight, n_rows)
    if (weights < 0).any():  # the message that scikit-learn's common tests expect
        raise ValueError(f"Negative values in data passed to sample_weight: {weights.min()}")
    if not (weights > 0).any():
        raise ValueError("sample_weight is zero for every row; give at least one row some weight")
    return weights


def check_option(name: str, value: Any, options: tuple[str, ...]) -> None:
    """Refuse a value that is not one of some strings."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {options}, got {value!r}")


def check_options(estimator: BaseEstimator, options_of: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse parameters of an estimator that are not among their options."""
    for name, options in options_of.items():
        check_option(name, getattr(estimator, name), options)


def callers_level() -> int:
    """The `stacklevel` with which a warning points at the line of whoever called this package.

    scikit-learn wraps methods, and a decorator adds a frame, so that the level is no constant.
    """
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _is_inside(frame):
        level, frame = level + 1, frame.f_back
    return level


def _is_inside(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] in _INSIDE


def check_nested(
    estimator: BaseEstimator, params: Mapping[str, Any], cures: Mapping[str, str]
) -> None:
    """Refuse to set a parameter of what is no estimator and has none.

    Parameters
    ----------
    estimator : estimator
    params : dict
        As for its `set_params`.
    cures : dict
        By the name of a parameter, what to set it to first.

    Raises
    ------
    ValueError
        The message tells what to set first.
    """
    if not any("__" in name for name in params):
        return
    own = estimator.get_params(deep=False)
    for name in params:
        outer, nested, inner = name.partition("__")
        value = params.get(outer, own.get(outer))
        if nested and outer in own and not hasattr(value, "set_params"):
            cure = cures.get(outer, "an estimator")
            raise ValueError(
                f"{outer}={value!r:.60} has no parameter {inner!r:.60}; set {outer}={cure} before "
                f"{name:.60}, or in the same call of set_params"
            )


def check_flag(estimator: BaseEstimator, name: str) -> None:
    """Refuse a parameter of an estimator that is neither True nor False."""
    value = getattr(estimator, name)
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r}")


def names_in(value: Any) -> list[str]:
    """Names given as a list or tuple, or joined by "+"; none if it is anything else."""
    names = value.split("+") if isinstance(value, str) else value
    names = list(names) if isinstance(names, list | tuple) else []
    return names if all(isinstance(name, str) for name in names) else []


def pooling_names(pooling: Any) -> tuple[str, ...]:
    """Names in ``pooling=``, of which "avg" is another for "mean"."""
    return tuple("mean" if name == "avg" else name for name in names_in(pooling))


def check_number(
    name: str, value: Any, *, low: float = 0, high: float = np.inf, include_low: bool = True
) -> None:
    """Refuse what is not a number of [low, high), or of (low, high) without `include_low`."""
    ends = "left" if include_low else "neither"
    check_scalar(value, name, numbers.Real, min_val=low, max_val=high, include_boundaries=ends)
    if np.isnan(value):  # comparisons with NaN are False, so that check_scalar lets it pass
        raise ValueError(f"{name} must be a number, got nan")


def check_count(name: str, value: Any, *, low: int = 1, high: int | None = None) -> None:
    """Refuse what is not a whole number of [low, high]."""
    check_scalar(value, name, numbers.Integral, min_val=low, max_val=high)


def check_gamma(gamma: Any) -> None:
    """Refuse a `gamma` that is neither "median" nor a number above zero."""
    if isinstance(gamma, str) and gamma == "median":
        return
    is_number = isinstance(gamma, numbers.Real) and not isinstance(gamma, bool)
    if not is_number or not 0 < float(gamma) < np.inf:
        raise ValueError(f"gamma must be 'median' or a number above 0, got {gamma!r}")
