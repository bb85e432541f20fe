"""A sparse graph of which rows are alike, and how new rows stand to them."""

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

AFFINITIES = ("local", "rbf", "connectivity")

_WEAKEST = 1e-8
"""Least weight of an edge relative to all weights at its ends; weaker ones carry nothing, and make
the equations ill-conditioned."""

_BLOCK = 1 << 22
"""Numbers held at once while distances are computed."""


class SimilarityGraph:
    """Rows joined to their nearest, with weights.

    Parameters
    ----------
    table : ndarray of shape (n, n_features), float64
    n_neighbors : int
        If there are fewer other rows, all of them.
    affinity : {"local", "rbf", "connectivity"}
        See `sktransfer.adaptation.LabelPropagationClassifier`.
    gamma : float or None
    n_jobs : int or None
    """

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
        """Weights between rows, (n, n), symmetric and without loops."""
        n, count = self.rows.shape
        values = np.exp(-self._exponents(self.squares, self.rows, self.scales))
        starts = np.arange(0, n * count + 1, count) if count else np.zeros(n + 1, dtype=int)
        one_way = sparse.csr_array((values.ravel(), self.rows.ravel(), starts), shape=(n, n))
        return _without_weak(one_way.maximum(one_way.T).tocsr())

    def votes(self, of: np.ndarray, among: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Mean value of the nearest among some rows, such as those with labels.

        Parameters
        ----------
        of, among : ndarray of shape (n_of,) and (n_among,), int
            Positions of rows.
        values : ndarray of shape (n_among, n_outputs)
        """
        count = min(self.n_neighbors, len(among))
        search = NearestNeighbors(n_neighbors=count, n_jobs=self.n_jobs).fit(self.table[among])
        means = np.empty((len(of), values.shape[1]))
        step = max(1, _BLOCK // (count * values.shape[1]))
        for start in range(0, len(of), step):
            rows = search.kneighbors(self.table[of[start : start + step]], return_distance=False)
            means[start : start + step] = values[rows].mean(axis=1)
        return means

    def neighbours(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The nearest rows of the graph, and their weights, which sum to 1.

        A row that is in the graph has itself for its only neighbour.
        """
        count = min(self.n_neighbors, len(self.table))
        rows = self.search.kneighbors(X, n_neighbors=count, return_distance=False)
        squares = self._squares(X, rows)
        exponents = self._exponents(squares, rows, _scales(squares))
        weights = np.exp(exponents.min(axis=1, keepdims=True) - exponents)
        same = squares == 0
        known = same.any(axis=1)
        weights[known] = same[known]
        return rows, weights / weights.sum(axis=1, keepdims=True)

    def _exponents(self, squares: np.ndarray, rows: np.ndarray, scales: np.ndarray) -> Any:
        if self.affinity == "connectivity":
            return np.zeros_like(squares)
        if self.affinity == "rbf":
            return self.gamma * squares
        return squares / (scales[:, None] * self.scales[rows])

    def _squares(self, X: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Squared distances to some rows, without the rounding of the search, whose zeros are not.

        Parameters
        ----------
        X : ndarray of shape (n, n_features)
        rows : ndarray of shape (n, k), int
        """
        squares = np.empty(rows.shape)
        step = max(1, _BLOCK // max(1, rows.shape[1] * X.shape[1]))
        for start in range(0, len(X), step):
            block = slice(start, start + step)
            gaps = X[block, None, :] - self.table[rows[block]]
            squares[block] = np.einsum("ijk,ijk->ij", gaps, gaps)
        return squares


def _scales(squares: np.ndarray) -> np.ndarray:
    """Distance of each row to the last of its neighbours, nowhere 0."""
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
