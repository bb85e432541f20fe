"""Two domains in one table: which rows are of which, and which of them have labels.

Everywhere in the package X holds the rows of all domains, and ``sample_domain`` tells them apart:
positive for source rows, negative for target rows. Different numbers may stand for different
sources or targets.
"""

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import check_consistent_length, column_or_1d


def source_mask(sample_domain: Any, n_rows: int) -> np.ndarray:
    """Which rows are of the source domain, (n_rows,) of bool; all of them for None.

    Raises
    ------
    ValueError
        `sample_domain` is no such array, or has no source row.
    """
    if sample_domain is None:
        return np.ones(n_rows, dtype=bool)
    domain = column_or_1d(sample_domain)
    sound = domain.dtype.kind in "iuf" and len(domain) == n_rows
    if not sound or (domain == 0).any() or np.isnan(domain).any():
        raise ValueError(
            f"sample_domain must hold {n_rows} numbers, positive for source and negative for "
            f"target rows, none of them 0 or NaN; got {np.unique(domain)[:5]} in {len(domain)} rows"
        )
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
        numbers one less than the smallest of `y_source` (-1 where classes count from 0).

    Returns
    -------
    X : ndarray, sparse matrix or DataFrame of shape (n_source + n_target, ...)
    y : ndarray of shape (n_source + n_target,) or None
        None without `y_source`.
    sample_domain : ndarray of shape (n_source + n_target,), int
        1 for source and -1 for target rows.

    Raises
    ------
    ValueError
        The two differ in the shape of their rows, or X and y in their number.

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
    return X, np.concatenate([y_source, y_target]), sample_domain


def _count(X: Any) -> int:
    return X.shape[0] if hasattr(X, "shape") else len(X)


def _stacked(X_source: Any, X_target: Any) -> Any:
    if sparse.issparse(X_source):
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
            "sktransfer.adaptation.CanonicalCorrelationMap and LinearGromovWasserstein"
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
