"""A sparse graph of nearest neighbours with similarity weights, also for new rows."""

import numpy as np
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

AFFINITIES = ("local", "rbf", "connectivity")

_WEAKEST = 1e-8
"""Least weight of an edge relative to the sums of weights at its ends; weaker edges carry no label
and make the equations ill-conditioned."""

_BLOCK = 1 << 22
"""Numbers in memory at a time while distances are computed: 32 MB."""


class SimilarityGraph:
    """Rows that weighted edges join to their nearest; see `LabelPropagationClassifier`."""

    def __init__(
        self,
        table: np.ndarray,
        n_neighbors: int,
        affinity: str,
        gamma: float | None,
        n_jobs: int | None,
    ) -> None:
        self.table = table
        self.n_neighbors = n_neighbors
        self.affinity = affinity
        self.gamma = 1 / table.shape[1] if gamma is None else gamma
        self.n_jobs = n_jobs
        self.search = NearestNeighbors(n_jobs=n_jobs).fit(table)
        count = min(n_neighbors, len(table) - 1)
        self.rows = np.zeros((len(table), 0), dtype=np.intp)
        if count:
            self.rows = self.search.kneighbors(n_neighbors=count, return_distance=False)
        self.squares = self._squares(table, self.rows)
        self.scales = _scales(self.squares)

    def edges(self) -> sparse.csr_array:
        """Symmetric matrix of the edges' weights, (n, n), with a diagonal of zeros."""
        n, count = self.rows.shape
        values = np.exp(-self._exponents(self.squares, self.rows, self.scales))
        starts = np.arange(0, n * count + 1, count) if count else np.zeros(n + 1, dtype=int)
        one_way = sparse.csr_array((values.ravel(), self.rows.ravel(), starts), shape=(n, n))
        # An edge joins two rows if either is among the nearest of the other.
        return _without_weak(one_way.maximum(one_way.T).tocsr())

    def votes(self, rows: np.ndarray, voters: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Mean value of the nearest voters of each row, (n_rows, n_outputs).

        `rows` and `voters`, such as labelled ones, are positions; `values` has a row per voter.
        """
        count = min(self.n_neighbors, len(voters))
        search = NearestNeighbors(n_neighbors=count, n_jobs=self.n_jobs).fit(self.table[voters])
        means = np.empty((len(rows), values.shape[1]))
        step = max(1, _BLOCK // (count * values.shape[1]))
        for start in range(0, len(rows), step):
            block = self.table[rows[start : start + step]]
            nearest = search.kneighbors(block, return_distance=False)
            means[start : start + step] = values[nearest].mean(axis=1)
        return means

    def neighbours(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the nearest rows of the graph, and their weights, which sum to 1.

        A row that is in the graph has itself as its only neighbour.
        """
        count = min(self.n_neighbors, len(self.table))
        rows = self.search.kneighbors(X, n_neighbors=count, return_distance=False)
        squares = self._squares(X, rows)
        exponents = self._exponents(squares, rows, _scales(squares))
        # Relative to the nearest row, whose weight may underflow to 0 for a row far from all.
        weights = np.exp(exponents.min(axis=1, keepdims=True) - exponents)
        same = squares == 0
        known = same.any(axis=1)
        weights[known] = same[known]
        return rows, weights / weights.sum(axis=1, keepdims=True)

    def _exponents(self, squares: np.ndarray, rows: np.ndarray, scales: np.ndarray) -> np.ndarray:
        if self.affinity == "connectivity":
            return np.zeros_like(squares)
        if self.affinity == "rbf":
            return self.gamma * squares
        return squares / (scales[:, None] * self.scales[rows])

    def _squares(self, X: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Squared distances to some rows, (n, k), exactly 0 for equal ones, unlike the search's."""
        squares = np.empty(rows.shape)
        step = max(1, _BLOCK // max(1, rows.shape[1] * X.shape[1]))
        for start in range(0, len(X), step):
            block = slice(start, start + step)
            gaps = X[block, None, :] - self.table[rows[block]]
            squares[block] = np.einsum("ijk,ijk->ij", gaps, gaps)
        return squares


def _scales(squares: np.ndarray) -> np.ndarray:
    """Distance of each row to the last of its neighbours; the smallest positive one for 0."""
    if not squares.shape[1]:
        return np.ones(len(squares))
    scales = np.sqrt(squares.max(axis=1))
    positive = scales[scales > 0]
    return np.where(scales > 0, scales, positive.min() if len(positive) else 1.0)


def _without_weak(weights: sparse.csr_array) -> sparse.csr_array:
    sums = weights.sum(axis=1)
    at_row = np.repeat(sums, np.diff(weights.indptr))
    weights.data[weights.data < _WEAKEST * np.sqrt(at_row * sums[weights.indices])] = 0.0
    weights.eliminate_zeros()
    return weights
