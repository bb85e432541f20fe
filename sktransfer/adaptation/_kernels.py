"""Gaussian kernels between rows, and an order of rows that does not depend on how they came."""

import numbers
from typing import Any

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances

_BLOCK = 2**22
"""Entries of a kernel matrix that are held at a time where only sums of it are needed: 32 MB."""

_MEDIAN_ROWS = 1000
"""Rows of each domain whose distances the median is taken of."""


def canonical_order(X: np.ndarray) -> np.ndarray:
    """Indices that sort rows by their first column, ties by the second, and so on.

    Whatever is drawn after this, centres or folds, is the same rows for every order of X.
    """
    table = np.ascontiguousarray(X, dtype=np.float64) + 0.0  # a zero may have had a sign
    order = np.argsort(table[:, 0], kind="stable")
    first = table[order, 0]
    if (first[1:] > first[:-1]).all():
        return order
    bits = table.view(np.int64)
    # As bytes from the highest to the lowest, of which negative ones come in reverse, numbers
    # compare like text. That is much faster than a sort by many columns.
    keys = np.where(bits < 0, ~bits, bits | np.int64(-(2**63))).astype(">i8")
    return np.argsort(keys.view(f"V{8 * X.shape[1]}").ravel(), kind="stable")


def equal_rows(X: np.ndarray) -> np.ndarray:
    """Which rows are the same, (n,) of numbers that count up where they differ; X is in order."""
    return np.append(0, (X[1:] != X[:-1]).any(axis=1).cumsum())


def squared_distances(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """||x - y||^2 of each pair of rows, (len(X), len(Y))."""
    # They are computed from products, which lose digits far from the origin.
    centre = Y.mean(axis=0)
    return euclidean_distances(X - centre, Y - centre, squared=True)


def rbf(X: np.ndarray, Y: np.ndarray, gamma: float) -> np.ndarray:
    """The kernel exp(-gamma ||x - y||^2), (len(X), len(Y)) of float64."""
    K = squared_distances(X, Y)
    K *= -gamma
    return np.exp(K, out=K)


def rbf_mean(X: np.ndarray, Y: np.ndarray, gamma: float) -> np.ndarray:
    """Mean kernel of each row of X with the rows of Y, (len(X),), in blocks of memory."""
    step = max(1, _BLOCK // len(Y))
    return np.concatenate(
        [rbf(X[i : i + step], Y, gamma).mean(axis=1) for i in range(0, len(X), step)]
    )


def median_gamma(source: np.ndarray, target: np.ndarray) -> float:
    """1 / (2 m^2) where m is the median distance between rows of the two domains together.

    Of more than 1,000 rows of a domain, so many are taken at even steps through their order,
    which is to be the canonical one.
    """
    rows = np.concatenate([X[:: -(-len(X) // _MEDIAN_ROWS)] for X in (source, target)])
    squares = squared_distances(rows, rows)[np.triu_indices(len(rows), 1)]
    for middle in (np.median(squares), squares.mean()) if len(squares) else ():
        if middle > 0:  # more than half of the rows may be one and the same
            return float(1 / (2 * middle))
    return 1.0


def check_gamma(gamma: Any) -> None:
    """Refuse a `gamma` that is neither "median" nor a number above zero."""
    if isinstance(gamma, str) and gamma == "median":
        return
    is_number = isinstance(gamma, numbers.Real) and not isinstance(gamma, bool)
    if not is_number or not 0 < float(gamma) < np.inf:
        raise ValueError(f"gamma must be 'median' or a number above 0, got {gamma!r}")


def check_candidates(values: Any, name: str) -> np.ndarray:
    """Numbers above zero to choose among, (n,) of float64."""
    try:
        candidates = np.atleast_1d(np.asarray(values, dtype=np.float64))
        sound = candidates.ndim == 1 and len(candidates) and not isinstance(values, bool | str)
    except (TypeError, ValueError):
        sound = False
    if not sound or not (np.isfinite(candidates) & (candidates > 0)).all():
        raise ValueError(
            f"{name} must be 'auto', or one or several numbers above 0, got {values!r}"
        )
    return candidates
