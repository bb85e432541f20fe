"""Maximum mean discrepancies of many partitions, from kernels that are computed in blocks."""

from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import cdist, pdist

KERNELS = ("rbf", "laplacian", "linear")
ESTIMATORS = ("unbiased", "biased")

_BLOCK = 512
_MEDIAN_ROWS = 2000


class PermutationTestResult(NamedTuple):
    """Result of a permutation test.

    Attributes
    ----------
    statistic : float
    pvalue : float
    null_distribution : ndarray of shape (n_permutations,)
        Statistics of the permutations.

    Examples
    --------
    >>> from sktransfer.metrics import mmd_permutation_test
    >>> statistic, pvalue, _ = mmd_permutation_test([[0], [1]], [[0], [1]], random_state=0)
    >>> pvalue
    1.0
    """

    statistic: float
    pvalue: float
    null_distribution: np.ndarray


class BlockKernel:
    """A kernel between the rows of one table, (n, n_features)."""

    def __init__(self, name: str, gamma: float | str, rows: np.ndarray) -> None:
        self.name = name
        scale = 1.0
        if name != "linear":
            width = kernel_width(rows, name) if gamma == "median" else 1 / float(gamma)
            scale = 1 / np.sqrt(width) if name == "rbf" else 1 / width
        self.rows = rows * scale
        self.lengths = (self.rows**2).sum(1)

    def diagonal(self) -> np.ndarray:
        """Kernel of each row with itself, (n,)."""
        return self.lengths if self.name == "linear" else np.ones(len(self.rows))

    def block(self, first: slice, second: slice) -> np.ndarray:
        """Kernel matrix of two blocks of rows."""
        if self.name == "laplacian":
            return np.exp(-cdist(self.rows[first], self.rows[second], "cityblock"))
        values = self.rows[first] @ self.rows[second].T
        if self.name == "linear":
            return values
        # Minus the squared distance, by 2 x.y - x.x - y.y; rounding may leave it above 0.
        values *= 2
        values -= self.lengths[first, None]
        values -= self.lengths[second]
        return np.exp(np.minimum(values, 0, out=values), out=values)


def kernel_width(rows: np.ndarray, kernel: str) -> float:
    """Twice the median squared distance, or the median of absolute ones, of pairs of rows."""
    if len(rows) > _MEDIAN_ROWS:
        # Rows at even steps along a fixed direction are the same for every order of the rows.
        direction = np.random.RandomState(0).normal(size=rows.shape[1])
        order = np.argsort(rows @ direction, kind="stable")
        rows = rows[order[np.linspace(0, len(rows) - 1, _MEDIAN_ROWS).astype(int)]]
    distances = 2 * pdist(rows, "sqeuclidean") if kernel == "rbf" else pdist(rows, "cityblock")
    # The median is 0 if more than half of the pairs are equal rows, and then the mean serves.
    return float(np.median(distances)) or float(distances.mean()) or 1.0


def discrepancies(
    rows: np.ndarray, kernel: BlockKernel, is_X: np.ndarray, estimator: str
) -> np.ndarray:
    """Squared maximum mean discrepancy of each of many partitions of the rows into X and Y.

    Each kernel value is computed once. `is_X`, (n, n_partitions), are the masks of the rows in X,
    with the same number of True in each column.
    """
    n_rows = len(rows)
    within = np.zeros(is_X.shape[1])
    totals = np.zeros(n_rows)
    blocks = [slice(start, start + _BLOCK) for start in range(0, n_rows, _BLOCK)]
    for i, first in enumerate(blocks):
        # As floats, so that each product below does not convert the booleans anew.
        chosen = is_X[first].astype(np.float64)
        for second in blocks[i:]:
            values = kernel.block(first, second)
            if second is first:
                np.fill_diagonal(values, 0.0)
                totals[first] += values.sum(1)
                within += (chosen * (values @ chosen)).sum(0)
            else:
                totals[first] += values.sum(1)
                totals[second] += values.sum(0)
                within += 2 * ((chosen.T @ values).T * is_X[second]).sum(0)
    # Sums over ordered pairs within X, within Y and across; the first two without the diagonal.
    totals_X = totals @ is_X
    within_Y, across = totals.sum() - 2 * totals_X + within, totals_X - within
    n_X = int(is_X[:, 0].sum())
    n_Y = n_rows - n_X
    across = 2 * across / (n_X * n_Y)
    if estimator == "unbiased":
        return within / (n_X * (n_X - 1)) + within_Y / (n_Y * (n_Y - 1)) - across
    diagonal = kernel.diagonal()
    diagonal_X = diagonal @ is_X
    within = (within + diagonal_X) / n_X**2
    return within + (within_Y + diagonal.sum() - diagonal_X) / n_Y**2 - across
