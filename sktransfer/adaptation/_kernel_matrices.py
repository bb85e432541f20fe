"""Kernel matrices of a set of rows, in full or of low rank, and linear systems with them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.linalg.lapack import dpstrf

from sktransfer.adaptation._kernels import rbf

Solve = Callable[[np.ndarray], np.ndarray]

_RANK_TOLERANCE = 1e-13
"""What is left of the kernel's diagonal of ones where it counts as nothing."""


_PROBE = 800
"""Rows whose kernel tells cheaply that the rank is not low."""


class Kernel(Protocol):
    """A kernel matrix, (n, n)."""

    def product(self, vector: np.ndarray) -> np.ndarray:
        """K v."""

    def solver(self, diagonal: np.ndarray) -> Solve:
        """What solves (K + diag) x = v."""


@dataclass
class FullKernel:
    """A kernel matrix that is held in full.

    Parameters
    ----------
    matrix : ndarray of shape (n, n)
    """

    matrix: np.ndarray

    def __post_init__(self) -> None:
        self._norm = float(self.matrix.sum(axis=1).max())  # no eigenvalue is greater
        self._single = self.matrix.astype(np.float32)

    def product(self, vector: np.ndarray) -> np.ndarray:
        return self.matrix @ vector

    def solver(self, diagonal: np.ndarray) -> Solve:
        # Errors of a Newton step are mended by the next one, so that steps need not be exact.
        # Weights that have all but settled on a bound have a huge diagonal; the others form a
        # smaller system. And where the diagonal is not small, single precision does.
        free = np.flatnonzero(diagonal < 100 * self._norm)
        single = diagonal.min() > 1e-4 * self._norm
        whole = self._single if single else self.matrix
        held = diagonal + 1.0
        system = whole.copy() if len(free) == len(whole) else whole[np.ix_(free, free)]
        system.flat[:: len(free) + 1] += diagonal[free].astype(system.dtype)
        factor = _cholesky(system)

        def solve(vector: np.ndarray) -> np.ndarray:
            step = vector / held
            some = vector[free].astype(whole.dtype)
            step[free] = cho_solve(factor, some, overwrite_b=True, check_finite=False)
            return step

        return solve


@dataclass
class LowRankKernel:
    """A kernel matrix as G G' + diag(rest).

    Parameters
    ----------
    factor : ndarray of shape (n, rank)
    rest : ndarray of shape (n,)
        What G G' leaves of the diagonal. Were it left out, rows that G does not describe would
        cost nothing, and get the greatest weight.
    """

    factor: np.ndarray
    rest: np.ndarray

    def product(self, vector: np.ndarray) -> np.ndarray:
        return self.factor @ (vector @ self.factor) + self.rest * vector

    def solver(self, diagonal: np.ndarray) -> Solve:
        G, total = self.factor, self.rest + diagonal
        # By the Woodbury identity the system is one of size `rank`.
        inner = G.T @ (G / total[:, None])
        inner.flat[:: len(inner) + 1] += 1
        factor = _cholesky(inner)

        def once(vector: np.ndarray) -> np.ndarray:
            scaled = vector / total
            return scaled - G @ cho_solve(factor, scaled @ G, check_finite=False) / total

        def solve(vector: np.ndarray) -> np.ndarray:
            first = once(vector)
            return first + once(vector - total * first - G @ (first @ G))

        return solve


def _cholesky(matrix: np.ndarray) -> tuple[np.ndarray, bool]:
    """The factor of a matrix, which rounding may have made a little indefinite."""
    jitter = 0.0
    while True:
        shifted = matrix.copy() if jitter else matrix
        shifted.flat[:: len(matrix) + 1] *= matrix.dtype.type(1 + jitter)
        try:
            # Transposed, which changes nothing, it is laid out as LAPACK has it.
            return cho_factor(shifted.T, lower=True, check_finite=False)
        except LinAlgError:
            jitter = max(10 * jitter, 100 * float(np.finfo(matrix.dtype).eps))


def kernel_of(X: np.ndarray, gamma: float, max_size: int, n_components: int) -> Kernel:
    """The Gaussian kernel of rows: in full up to `max_size` rows, and of low rank beyond.

    A factor that is a third as large as the matrix would save nothing.
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
    """Cholesky factorisation that takes the row that is described worst, again and again."""
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
