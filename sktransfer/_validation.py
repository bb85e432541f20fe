"""Two domains in one table: which rows are of which, and which of them have labels.

Everywhere in the package X holds the rows of all domains, and ``sample_domain`` tells them apart:
positive for source rows, negative for target rows. Different numbers may stand for different
sources or targets.
"""

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import check_consistent_length, column_or_1d


def checked_domain(
    sample_domain: Any, n_rows: int | None = None, name: str = "sample_domain"
) -> np.ndarray:
    """The domain of each row as a number, (n_rows,): none of them 0.

    Parameters
    ----------
    sample_domain : array-like of shape (n_rows,)
    n_rows : int or None, default=None
        None takes any number of rows.
    name : str, default="sample_domain"
        What errors call it.

    Raises
    ------
    ValueError
        `sample_domain` is no such array.
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


def source_mask(sample_domain: Any, n_rows: int) -> np.ndarray:
    """Which rows are of the source domain, (n_rows,) of bool; all of them for None.

    Raises
    ------
    ValueError
        `sample_domain` is no such array, or has no source row.
    """
    if sample_domain is None:
        return np.ones(n_rows, dtype=bool)
    domain = checked_domain(sample_domain, n_rows)
    if not (domain > 0).any():
        raise ValueError("sample_domain has no source row (above 0), whose labels are needed")
    return domain > 0


def labelled_mask(is_source: np.ndarray, target_labeled: Any) -> np.ndarray:
    """Which rows have a label to learn from: those of the source, and target rows said to.

    Parameters
    ----------
    is_source : ndarray of shape (n,), bool
    target_labeled : array-like of shape (n,), bool, or None
        Source rows are labelled whatever stands there.

    Raises
    ------
    ValueError
        `target_labeled` is no such array.
    """
    if target_labeled is None:
        return is_source
    if getattr(target_labeled, "dtype", None) == "boolean":  # of pandas, which may be missing
        target_labeled = np.asarray(target_labeled, dtype=bool)
    labelled = column_or_1d(target_labeled)
    if labelled.dtype != bool or len(labelled) != len(is_source):
        raise ValueError(
            f"target_labeled must hold {len(is_source)} booleans, one per row of X, got "
            f"{len(labelled)} of dtype {labelled.dtype}"
        )
    return is_source | labelled


def stack_domains(
    X_source: Any, X_target: Any, y_source: Any = None, y_target: Any = None
) -> tuple[Any, np.ndarray | None, np.ndarray]:
    """Lay the rows of two domains one upon the other, the source first.

    Parameters
    ----------
    X_source : array-like of shape (n_source, ...)
    X_target : array-like of shape (n_target, ...)
        With the columns, or the shape of a row, that `X_source` has.
    y_source : array-like of shape (n_source,) or None, default=None
    y_target : array-like of shape (n_target,) or None, default=None
        None fills in what no label is: NaN for floats, the empty text for strings, and for whole
        numbers one less than the smallest of `y_source` (-1 where classes count from 0). Booleans,
        which have no third value, become 0 and 1.

    Returns
    -------
    X : ndarray, sparse matrix or DataFrame of shape (n_source + n_target, ...)
        A DataFrame if both are of pandas, and sparse if either is.
    y : ndarray of shape (n_source + n_target,) or None
        None without `y_source`.
    sample_domain : ndarray of shape (n_source + n_target,), int
        1 for source and -1 for target rows.

    Raises
    ------
    ValueError
        The two differ in the shape of their rows, or X and y in their number; or labels are text
        in one domain and numbers in the other.

    Examples
    --------
    >>> from sktransfer.adaptation import stack_domains
    >>> X, y, sample_domain = stack_domains([[0.0], [1.0]], [[3.0]], ["no", "yes"])
    >>> sample_domain
    array([ 1,  1, -1])
    >>> y.tolist()
    ['no', 'yes', '']
    """
    X = _stacked(X_source, X_target)
    sizes = [_count(X_source), _count(X_target)]
    sample_domain = np.repeat([1, -1], sizes)
    if y_source is None:
        if y_target is not None:
            raise ValueError("y_target needs y_source; labels of the target alone are no source")
        return X, None, sample_domain
    y_source = np.asarray(y_source)
    check_consistent_length(X_source, y_source)
    if y_target is None:
        y_target = _no_labels(y_source, sizes[1])
    else:
        y_target = np.asarray(y_target)
        check_consistent_length(X_target, y_target)
        # NumPy would make text of the numbers, which then are other classes.
        kinds = {y_source.dtype.kind, y_target.dtype.kind}
        if "U" in kinds and kinds & set("biuf"):
            raise ValueError(
                "y_source and y_target must both be text or both be numbers, got "
                f"{y_source.dtype} and {y_target.dtype}"
            )
    return X, np.concatenate([y_source, y_target]), sample_domain


def _count(X: Any) -> int:
    return X.shape[0] if hasattr(X, "shape") else len(X)


def _stacked(X_source: Any, X_target: Any) -> Any:
    if sparse.issparse(X_source) or sparse.issparse(X_target):
        return sparse.vstack([X_source, X_target]).tocsr()
    if hasattr(X_source, "iloc") and hasattr(X_target, "iloc"):
        import pandas as pd

        if list(X_source.columns) != list(X_target.columns):
            raise ValueError(
                "X_source and X_target must have the same columns in the same order, got "
                f"{list(X_source.columns)} and {list(X_target.columns)}"
            )
        return pd.concat([X_source, X_target], ignore_index=True)
    X_source, X_target = np.asarray(X_source), np.asarray(X_target)
    if X_source.shape[1:] != X_target.shape[1:]:
        raise ValueError(
            f"rows of X_source have shape {X_source.shape[1:]}, those of X_target "
            f"{X_target.shape[1:]}; they must be alike. For domains with other features see "
            "sktransfer.adaptation.stack_heterogeneous; images of two sizes go into "
            "PretrainedCNNFeatures as one list, list(X_source) + list(X_target)"
        )
    return np.concatenate([X_source, X_target])


def _no_labels(y: np.ndarray, count: int) -> np.ndarray:
    """Labels that no row of the source has."""
    shape = (count, *y.shape[1:])
    if y.dtype.kind == "f":
        return np.full(shape, np.nan, dtype=y.dtype)
    if y.dtype.kind in "iub":
        return np.full(shape, int(y.min()) - 1, dtype=np.int64)
    return np.full(shape, "", dtype=y.dtype)


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
