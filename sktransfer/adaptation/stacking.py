"""Two domains stacked into one X, with the y and the `sample_domain` that go with it."""

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import check_consistent_length

from sktransfer._validation import row_count


def stack_domains(
    X_source: Any, X_target: Any, y_source: Any = None, y_target: Any = None
) -> tuple[Any, np.ndarray | None, np.ndarray]:
    """Stack the rows of two domains, those of the source first.

    Parameters
    ----------
    X_source : array-like of shape (n_source, ...)
    X_target : array-like of shape (n_target, ...)
        Its rows have the columns, or the shape, of those of `X_source`.
    y_source : array-like of shape (n_source,) or None, default=None
    y_target : array-like of shape (n_target,) or None, default=None
        None fills in a value that is no label: NaN for floats, the empty string for text, and for
        integers one less than the smallest of `y_source` (-1 where classes count from 0). Booleans,
        which have no third value, become 0 and 1.

    Returns
    -------
    X : ndarray, sparse matrix or DataFrame of shape (n_source + n_target, ...)
        A DataFrame if both domains are one, and sparse if either is.
    y : ndarray of shape (n_source + n_target,) or None
        None without `y_source`.
    sample_domain : ndarray of shape (n_source + n_target,), int
        1 for source and -1 for target rows.

    Raises
    ------
    ValueError
        The domains differ in the shape of their rows, X and y differ in length, or labels are text
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
    sizes = [row_count(X_source), row_count(X_target)]
    sample_domain = np.repeat([1, -1], sizes)
    if y_source is None:
        if y_target is not None:
            raise ValueError("y_target needs y_source: pass the labels of the source as well")
        return X, None, sample_domain
    y_source = np.asarray(y_source)
    check_consistent_length(X_source, y_source)
    if y_target is None:
        y_target = _no_labels(y_source, sizes[1])
    else:
        y_target = np.asarray(y_target)
        check_consistent_length(X_target, y_target)
        # NumPy would turn the numbers into text, which would then be other classes.
        kinds = {y_source.dtype.kind, y_target.dtype.kind}
        if "U" in kinds and kinds & set("biuf"):
            raise ValueError(
                "y_source and y_target must both be text or both be numbers, got "
                f"{y_source.dtype} and {y_target.dtype}"
            )
    return X, np.concatenate([y_source, y_target]), sample_domain


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
            f"{X_target.shape[1:]}; they must be alike. For domains with different features see "
            "sktransfer.adaptation.stack_heterogeneous; pass images of several sizes to "
            "PretrainedCNNFeatures as one list, list(X_source) + list(X_target)"
        )
    return np.concatenate([X_source, X_target])


def _no_labels(y: np.ndarray, count: int) -> np.ndarray:
    """A value that no row of the source has as its label, `count` times."""
    shape = (count, *y.shape[1:])
    if y.dtype.kind == "f":
        return np.full(shape, np.nan, dtype=y.dtype)
    if y.dtype.kind in "iub":
        return np.full(shape, int(y.min()) - 1, dtype=np.int64)
    return np.full(shape, "", dtype=y.dtype)


def stack_heterogeneous(
    X_source: Any, X_target: Any, y_source: Any = None, y_target: Any = None, *, pairs: Any = None
) -> tuple[Any, np.ndarray | None, np.ndarray]:
    """Stack two domains with different features in one table, the source first.

    Parameters
    ----------
    X_source : array-like of shape (n_source, n_source_features)
    X_target : array-like of shape (n_target, n_target_features)
        Either may be empty: ``stack_heterogeneous(X_source[:0], X_target)`` gives target rows to
        predict for.
    y_source : array-like of shape (n_source,) or None, default=None
    y_target : array-like of shape (n_target,) or None, default=None
        None fills in a value that is no label, as `stack_domains` does.
    pairs : array-like of shape (n_pairs, 2), int, or None, default=None
        Row numbers of `X_source` and `X_target` that describe the same sample. Such a source row
        gets the features of its counterpart, too. None leaves rows unpaired.

    Returns
    -------
    X : ndarray or DataFrame of shape (n_source + n_target, n_source_features + n_target_features)
        NaN where a row lacks a feature. A DataFrame, with columns "source__a" and "target__b", if
        both domains are one.
    y : ndarray of shape (n_source + n_target,) or None
    sample_domain : ndarray of shape (n_source + n_target,), int
        1 for source and -1 for target rows.

    Raises
    ------
    ValueError
        A table is not two-dimensional or has missing values, or `pairs` holds anything but row
        numbers.

    Examples
    --------
    >>> from sktransfer.adaptation import stack_heterogeneous
    >>> X, y, sample_domain = stack_heterogeneous(
    ...     [[1.0], [2.0]], [[3.0, 4.0]], ["no", "yes"], pairs=[[1, 0]])
    >>> X
    array([[ 1., nan, nan],
           [ 2.,  3.,  4.],
           [nan,  3.,  4.]])
    >>> y.tolist(), sample_domain.tolist()
    (['no', 'yes', ''], [1, 1, -1])
    """
    source, target = _block(X_source, "X_source"), _block(X_target, "X_target")
    (n, width), (m, other) = source.shape, target.shape
    table = np.full((n + m, width + other), np.nan, dtype=np.result_type(source, target))
    table[:n, :width] = source
    table[n:, width:] = target
    if pairs is not None:
        pairs = np.asarray(pairs)
        _check_pairs(pairs, n, m)
        table[pairs[:, 0], width:] = target[pairs[:, 1]]
    _, y, sample_domain = stack_domains(np.empty((n, 0)), np.empty((m, 0)), y_source, y_target)
    if not (hasattr(X_source, "iloc") and hasattr(X_target, "iloc")):
        return table, y, sample_domain
    import pandas as pd

    names = [f"source__{name}" for name in X_source.columns]
    names += [f"target__{name}" for name in X_target.columns]
    return pd.DataFrame(table, columns=names), y, sample_domain


def _block(X: Any, name: str) -> np.ndarray:
    block = np.asarray(X)
    if block.dtype != np.float32:
        block = block.astype(np.float64)
    if block.ndim != 2 or not np.isfinite(block).all():
        raise ValueError(
            f"{name} must be a table of finite numbers, (n_samples, n_features); got shape "
            f"{block.shape}" + ("" if block.ndim != 2 else " with NaN or infinity. Impute it first")
        )
    return block


def _check_pairs(pairs: np.ndarray, n: int, m: int) -> None:
    valid = pairs.ndim == 2 and pairs.shape[1] == 2 and pairs.dtype.kind in "iu"
    if not valid or (pairs < 0).any() or (pairs >= [n, m]).any():
        raise ValueError(
            f"pairs must hold two row numbers each, below {n} of X_source and below {m} of "
            f"X_target, in an array (n_pairs, 2); got {pairs[:3].tolist()} of shape {pairs.shape}"
        )
    if len(np.unique(pairs[:, 0])) < len(pairs):
        raise ValueError(
            "pairs must name each row of X_source at most once; keep one counterpart of each"
        )
