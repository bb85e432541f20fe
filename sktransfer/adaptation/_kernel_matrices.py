"""Kernel matrices of a set of rows, full or of low rank, and solvers of their linear systems."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.linalg.lapack import dpstrf

from sktransfer.adaptation._kernels import rbf

Solve = Callable[[np.ndarray], np.ndarray]

_RANK_TOLERANCE = 1e-13
"""Rest of the kernel's diagonal of ones below which the factor counts as complete."""

_PROBE = 800
"""Rows whose kernel shows at little cost that the rank is not low."""


class Kernel(Protocol):
    """A kernel matrix, (n, n)."""

    def product(self, vector: np.ndarray) -> np.ndarray:
        """K v."""

    def solver(self, diagonal: np.ndarray) -> Solve:
        """A function that solves (K + diag) x = v for x."""


class FullKernel:
    """A kernel matrix, (n, n), that is held in full."""

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = matrix
        # The largest row sum bounds the eigenvalues of a matrix without negative entries.
        self._norm = float(self.matrix.sum(axis=1).max())
        self._single = self.matrix.astype(np.float32)

    def product(self, vector: np.ndarray) -> np.ndarray:
        return self.matrix @ vector

    def solver(self, diagonal: np.ndarray) -> Solve:
        # The next Newton step corrects the errors of this one, so that steps need not be exact.
        # Weights that are nearly at a bound have a huge diagonal and decouple; the others form
        # a smaller system. Where the diagonal is not small, single precision is enough.
        free = np.flatnonzero(diagonal < 100 * self._norm)
        single = diagonal.min() > 1e-4 * self._norm
        whole = self._single if single else self.matrix
        bound = diagonal + 1.0  # K has ones on its diagonal
        system = whole.copy() if len(free) == len(whole) else whole[np.ix_(free, free)]
        system.flat[:: len(free) + 1] += diagonal[free].astype(system.dtype)
        factor = _cholesky(system)

        def solve(vector: np.ndarray) -> np.ndarray:
            step = vector / bound
            right_side = vector[free].astype(whole.dtype)
            step[free] = cho_solve(factor, right_side, overwrite_b=True, check_finite=False)
            return step

        return solve


class LowRankKernel:
    """A kernel matrix as G G' + diag(rest), for a factor G (n, rank).

    Without the rest, rows that G does not describe would cost nothing in the objective and get the
    greatest weight.
    """

    def __init__(self, factor: np.ndarray, rest: np.ndarray) -> None:
        self.factor, self.rest = factor, rest

    def product(self, vector: np.ndarray) -> np.ndarray:
        return self.factor @ (vector @ self.factor) + self.rest * vector

    def solver(self, diagonal: np.ndarray) -> Solve:
        G, total = self.factor, self.rest + diagonal
        # By the Woodbury identity the system is one of size `rank`.
        inner = G.T @ (G / total[:, None])
        inner.flat[:: len(inner) + 1] += 1
        factor = _cholesky(inner)

        def approximate(vector: np.ndarray) -> np.ndarray:
            scaled = vector / total
            return scaled - G @ cho_solve(factor, scaled @ G, check_finite=False) / total

        def solve(vector: np.ndarray) -> np.ndarray:
            first = approximate(vector)
            # One step of iterative refinement: the identity subtracts large numbers where
            # `total` is small, and the residual recovers the digits that this loses.
            return first + approximate(vector - total * first - G @ (first @ G))

        return solve


def _cholesky(matrix: np.ndarray) -> tuple[np.ndarray, bool]:
    """Cholesky factor of a matrix that rounding may have made slightly indefinite."""
    jitter = 0.0
    while True:
        shifted = matrix.copy() if jitter else matrix
        shifted.flat[:: len(matrix) + 1] *= matrix.dtype.type(1 + jitter)
        try:
            # The transpose of a symmetric C-ordered matrix is itself in LAPACK's Fortran order,
            # which saves a copy.
            return cho_factor(shifted.T, lower=True, check_finite=False)
        except LinAlgError:
            jitter = max(10 * jitter, 100 * float(np.finfo(matrix.dtype).eps))


def kernel_of(X: np.ndarray, gamma: float, max_size: int, n_components: int) -> Kernel:
    """The Gaussian kernel of rows: full for up to `max_size` rows, of low rank for more.

    A factor of more than a third of the matrix' columns would save nothing.
    """
    if len(X) > max(max_size, 3 * n_components):
        return low_rank(X, gamma, n_components)
    K = rbf(X, X, gamma)
    np.fill_diagonal(K, 1.0)
    few = K[:: -(-len(K) // _PROBE), :: -(-len(K) // _PROBE)]
    if dpstrf(few, tol=_RANK_TOLERANCE, lower=1)[2] > len(K) // 3:
        return FullKernel(K)
    packed, pivots, rank, _ = dpstrf(K, tol=_RANK_TOLERANCE, lower=1)
    if rank > len(K) // 3:
        return FullKernel(K)
    factor = np.empty((len(X), rank))
    factor[pivots - 1] = np.tril(packed[:, :rank])
    return LowRankKernel(factor, np.maximum(1 - (factor**2).sum(axis=1), 0))


def low_rank(X: np.ndarray, gamma: float, n_components: int) -> LowRankKernel:
    """Pivoted Cholesky factorisation: each pivot is the row that is approximated worst so far."""
    n_components = min(n_components, len(X))
    G = np.zeros((len(X), n_components))
    rest = np.ones(len(X))
    for k in range(n_components):
        pivot = int(rest.argmax())
        if rest[pivot] <= _RANK_TOLERANCE:
            G = G[:, :k]
            break
        column = rbf(X, X[pivot : pivot + 1], gamma)[:, 0] - G[:, :k] @ G[pivot, :k]
        G[:, k] = column / np.sqrt(rest[pivot])
        rest = np.maximum(rest - G[:, k] ** 2, 0)
        rest[pivot] = 0.0
    return LowRankKernel(G, rest)
