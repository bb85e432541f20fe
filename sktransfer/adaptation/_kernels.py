"""Gaussian kernels between rows, and a canonical order of rows that does not depend on X's."""

from typing import Any

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances

_BLOCK = 2**22
"""Entries of a kernel matrix in memory at a time where only its sums are needed: 32 MB."""

_MEDIAN_ROWS = 1000
"""Most rows of each domain whose distances enter the median."""


def canonical_order(X: np.ndarray) -> np.ndarray:
    """Indices that sort rows by their first column, ties by the second, and so on.

    Centres or folds that are drawn from sorted rows are the same rows for every order of X.
    """
    table = np.ascontiguousarray(X, dtype=np.float64) + 0.0  # turns -0.0 into 0.0
    order = np.argsort(table[:, 0], kind="stable")
    first = table[order, 0]
    if (first[1:] > first[:-1]).all():
        return order
    bits = table.view(np.int64)
    # Big-endian IEEE numbers compare like byte strings once the sign bit of positive ones is set
    # and all bits of negative ones are inverted. Sorting whole rows as strings is much faster
    # than a lexicographic sort by many columns.
    keys = np.where(bits < 0, ~bits, bits | np.int64(-(2**63))).astype(">i8")
    return np.argsort(keys.view(f"V{8 * X.shape[1]}").ravel(), kind="stable")


def canonical_sample(rows: np.ndarray, count: int, random: np.random.RandomState) -> np.ndarray:
    """Positions of at most `count` rows, in canonical order.

    Results that are computed from them are the same to the last bit for every order of X.
    """
    order = canonical_order(rows)
    if len(order) <= count:
        return order
    return order[np.sort(random.choice(len(order), count, replace=False))]


def equal_rows(X: np.ndarray) -> np.ndarray:
    """Group number of each row, (n,), for rows in canonical order: equal rows share a number."""
    return np.append(0, (X[1:] != X[:-1]).any(axis=1).cumsum())


def squared_distances(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """||x - y||^2 of each pair of rows, (len(X), len(Y))."""
    # scikit-learn computes ||x||^2 - 2 x.y + ||y||^2, which loses digits far from the origin.
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
    """1 / (2 m^2), where m is the median distance between the rows of both domains.

    Rows come in canonical order; of more than 1,000 rows of a domain, 1,000 at even steps count.
    """
    rows = np.concatenate([X[:: -(-len(X) // _MEDIAN_ROWS)] for X in (source, target)])
    squares = squared_distances(rows, rows)[np.triu_indices(len(rows), 1)]
    for middle in (np.median(squares), squares.mean()) if len(squares) else ():
        if middle > 0:  # the median is 0 if more than half of the pairs are equal rows
            return float(1 / (2 * middle))
    return 1.0


def check_candidates(values: Any, name: str) -> np.ndarray:
    """Candidate values above zero, (n,) of float64."""
    try:
        candidates = np.atleast_1d(np.asarray(values, dtype=np.float64))
        valid = candidates.ndim == 1 and len(candidates) and not isinstance(values, bool | str)
    except (TypeError, ValueError):
        valid = False
    if not valid or not (np.isfinite(candidates) & (candidates > 0)).all():
        raise ValueError(f"{name} must be 'auto', a number above 0 or several, got {values!r}")
    return candidates
