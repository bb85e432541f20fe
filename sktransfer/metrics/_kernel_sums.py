"""Sums of kernels over parts of a sample, in blocks."""

from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import cdist, pdist

KERNELS = ("rbf", "laplacian", "linear")
ESTIMATORS = ("unbiased", "biased")

_BLOCK = 512
_MEDIAN_ROWS = 2000


class PermutationTestResult(NamedTuple):
    """What a permutation test says.

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


class PartitionSums(NamedTuple):
    """Sums of a kernel over ordered pairs of rows, for each of some partitions in X and Y.

    Of shape (n_partitions,) each; the first two without pairs of a row with itself, whose sums
    are the next two.
    """

    within_X: np.ndarray
    within_Y: np.ndarray
    diagonal_X: np.ndarray
    diagonal_Y: np.ndarray
    across: np.ndarray
    n_X: int
    n_Y: int


class BlockKernel:
    """A kernel of rows of one table.

    Parameters
    ----------
    name : {"rbf", "laplacian", "linear"}
    gamma : float or "median"
    rows : ndarray of shape (n, n_features)
    """

    def __init__(self, name: str, gamma: float | str, rows: np.ndarray) -> None:
        self.name = name
        scale = 1.0
        if name != "linear":
            width = typical_distance(rows, name) if gamma == "median" else 1 / float(gamma)
            scale = 1 / np.sqrt(width) if name == "rbf" else 1 / width
        self.rows = rows * scale
        self.lengths = (self.rows**2).sum(1)

    def diagonal(self) -> np.ndarray:
        """Of each row with itself."""
        return self.lengths if self.name == "linear" else np.ones(len(self.rows))

    def block(self, first: slice, second: slice) -> np.ndarray:
        """Of some rows with others."""
        if self.name == "laplacian":
            return np.exp(-cdist(self.rows[first], self.rows[second], "cityblock"))
        values = self.rows[first] @ self.rows[second].T
        if self.name == "linear":
            return values
        values *= 2
        values -= self.lengths[first, None]
        values -= self.lengths[second]
        return np.exp(np.minimum(values, 0, out=values), out=values)


def typical_distance(rows: np.ndarray, kernel: str) -> float:
    """Twice the median squared distance, or the median of absolute ones, of pairs of rows."""
    if len(rows) > _MEDIAN_ROWS:
        # Evenly among the rows as they lie, and so the same ones whatever their order.
        direction = np.random.RandomState(0).normal(size=rows.shape[1])
        order = np.argsort(rows @ direction, kind="stable")
        rows = rows[order[np.linspace(0, len(rows) - 1, _MEDIAN_ROWS).astype(int)]]
    distances = 2 * pdist(rows, "sqeuclidean") if kernel == "rbf" else pdist(rows, "cityblock")
    # More than half of the pairs may be equal rows.
    return float(np.median(distances)) or float(distances.mean()) or 1.0


def partition_sums(rows: np.ndarray, kernel: BlockKernel, is_X: np.ndarray) -> PartitionSums:
    """Sum a kernel over the parts of many partitions, computing each of its values once.

    Parameters
    ----------
    rows : ndarray of shape (n, n_features)
    kernel : BlockKernel
        Of these rows.
    is_X : ndarray of shape (n, n_partitions), bool
        With equally many True in each column.
    """
    n_rows = len(rows)
    within = np.zeros(is_X.shape[1])
    totals = np.zeros(n_rows)
    blocks = [slice(start, start + _BLOCK) for start in range(0, n_rows, _BLOCK)]
    for i, first in enumerate(blocks):
        # Numbers, that products with them need not convert a block again and again.
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
    diagonal = kernel.diagonal()
    of_X = totals @ is_X
    diagonal_X = diagonal @ is_X
    n_X = int(is_X[:, 0].sum())
    return PartitionSums(
        within_X=within,
        within_Y=totals.sum() - 2 * of_X + within,
        diagonal_X=diagonal_X,
        diagonal_Y=diagonal.sum() - diagonal_X,
        across=of_X - within,
        n_X=n_X,
        n_Y=n_rows - n_X,
    )


def discrepancy(sums: PartitionSums, estimator: str) -> np.ndarray:
    """Squared maximum mean discrepancy of each partition."""
    n_X, n_Y = sums.n_X, sums.n_Y
    across = 2 * sums.across / (n_X * n_Y)
    if estimator == "unbiased":
        return sums.within_X / (n_X * (n_X - 1)) + sums.within_Y / (n_Y * (n_Y - 1)) - across
    within = (sums.within_X + sums.diagonal_X) / n_X**2
    return within + (sums.within_Y + sums.diagonal_Y) / n_Y**2 - across
