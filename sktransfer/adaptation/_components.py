"""The eigenproblem of transfer component analysis, among rows or among features.

The matrix that is to be small, ``I + mu q q^T``, differs from the identity in one direction, so
that its inverse root is known, and an ordinary eigenproblem is left.
"""

from collections.abc import Callable, Iterable

import numpy as np
from scipy.linalg import eigh, svd

from sktransfer.adaptation._maps import root, with_signs

Blocks = Callable[[np.ndarray], Iterable[np.ndarray]]


def components_among_rows(
    K: np.ndarray, n_source: int, mu: float, n_components: int
) -> tuple[np.ndarray, np.ndarray]:
    """Leading eigenvectors of (I + mu K L K)^-1 K H K.

    Parameters
    ----------
    K : ndarray of shape (n, n)
        Kernel of all rows, those of the source first.
    n_source : int
    mu : float
    n_components : int

    Returns
    -------
    eigenvalues : ndarray of shape (n_components,)
    W : ndarray of shape (n, n_components)
        ``W^T (I + mu K L K) W = I``.
    """
    n = len(K)
    gap = K[:, :n_source].mean(axis=1) - K[:, n_source:].mean(axis=1)
    spread = _shrunk(K - K.mean(axis=0), gap, mu)
    values, vectors = eigh(
        spread.T @ spread,
        subset_by_index=(n - n_components, n - 1),
        overwrite_a=True,
        check_finite=False,
    )
    W = _shrunk(vectors[:, ::-1].T, gap, mu).T
    return np.maximum(values[::-1], 0.0), with_signs(W)


def components_among_features(
    source: np.ndarray, target: np.ndarray, mu: float, n_components: int, blocks: Blocks
) -> tuple[np.ndarray, np.ndarray]:
    """The same for the kernel ``F F^T`` of features F, in memory of their number squared.

    Among ``P = F^T W`` the norm of W is that of ``G^(-1/2) P`` with ``G = F^T F``, and all else
    depends on sums over rows, which are taken block by block.

    Parameters
    ----------
    source, target : ndarray of shape (n, ...)
    mu : float
    n_components : int
    blocks : callable
        Gives the features of rows, (n, n_features), in blocks.

    Returns
    -------
    eigenvalues : ndarray of shape (n_components,)
    P : ndarray of shape (n_features, n_components)
        The components are ``F P``.
    """
    sums = [sum(block.sum(axis=0) for block in blocks(rows)) for rows in (source, target)]
    mean = (sums[0] + sums[1]) / (len(source) + len(target))
    scatter = np.zeros((len(mean), len(mean)))
    for rows in (source, target):
        for block in blocks(rows):
            centred = block - mean
            scatter += centred.T @ centred
    gram = scatter + (len(source) + len(target)) * np.outer(mean, mean)
    half = root(gram, 0.5)
    gap = half @ (sums[0] / len(source) - sums[1] / len(target))
    spread = _shrunk(root(scatter, 0.5) @ half, gap, mu)
    _, values, vectors = svd(spread, check_finite=False)
    P = half @ _shrunk(vectors[:n_components], gap, mu).T
    return values[:n_components] ** 2, with_signs(P)


def _shrunk(rows: np.ndarray, gap: np.ndarray, mu: float) -> np.ndarray:
    """Rows times (I + mu q q^T)^(-1/2)."""
    squared = gap @ gap
    if mu * squared == 0:
        return rows
    factor = (1 - 1 / np.sqrt(1 + mu * squared)) / squared
    return rows - np.outer(factor * (rows @ gap), gap)
