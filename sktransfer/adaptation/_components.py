"""The eigenproblem of transfer component analysis, solved among rows or among features.

The matrix of the constraint, ``I + mu q q^T``, differs from the identity in one direction only.
Its inverse square root therefore has a closed form, which turns the generalised eigenproblem into
an ordinary symmetric one.
"""

from collections.abc import Callable, Iterable

import numpy as np
from scipy.linalg import eigh, svd

from sktransfer.adaptation._matrices import fix_signs, symmetric_power

Blocks = Callable[[np.ndarray], Iterable[np.ndarray]]


def components_among_rows(
    K: np.ndarray, n_source: int, mu: float, n_components: int
) -> tuple[np.ndarray, np.ndarray]:
    """Leading eigenvalues and eigenvectors W of (I + mu K L K)^-1 K H K.

    K is the kernel, (n, n), of all rows, those of the source first; ``W^T (I + mu K L K) W = I``.
    """
    n = len(K)
    gap = K[:, :n_source].mean(axis=1) - K[:, n_source:].mean(axis=1)
    # With A = I + mu q q^T and spread = H K A^(-1/2), the problem A^-1 K H K is similar to the
    # symmetric spread^T spread, whose eigenvectors are those of the problem times A^(1/2).
    spread = _times_inverse_root(K - K.mean(axis=0), gap, mu)
    values, vectors = eigh(
        spread.T @ spread,
        subset_by_index=(n - n_components, n - 1),
        overwrite_a=True,
        check_finite=False,
    )
    W = _times_inverse_root(vectors[:, ::-1].T, gap, mu).T
    return np.maximum(values[::-1], 0.0), fix_signs(W)


def components_among_features(
    source: np.ndarray, target: np.ndarray, mu: float, n_components: int, blocks: Blocks
) -> tuple[np.ndarray, np.ndarray]:
    """The same for the kernel ``F F^T`` of features F, in memory of n_features squared.

    With ``P = F^T W`` the norm of W is that of ``G^(-1/2) P`` with ``G = F^T F``, and everything
    else depends on sums over rows, which are computed block by block.

    `blocks` yields the features of rows, (n, n_features), in blocks. Returns the eigenvalues and P;
    the components are ``F P``.
    """
    sums = [sum(block.sum(axis=0) for block in blocks(rows)) for rows in (source, target)]
    mean = (sums[0] + sums[1]) / (len(source) + len(target))
    scatter = np.zeros((len(mean), len(mean)))
    for rows in (source, target):
        for block in blocks(rows):
            centred = block - mean
            scatter += centred.T @ centred
    # Roots of the scatter matrices stand in for the features themselves, with the same products.
    gram = scatter + (len(source) + len(target)) * np.outer(mean, mean)
    half = symmetric_power(gram, 0.5)
    gap = half @ (sums[0] / len(source) - sums[1] / len(target))
    spread = _times_inverse_root(symmetric_power(scatter, 0.5) @ half, gap, mu)
    _, values, vectors = svd(spread, check_finite=False)
    P = half @ _times_inverse_root(vectors[:n_components], gap, mu).T
    return values[:n_components] ** 2, fix_signs(P)


def _times_inverse_root(rows: np.ndarray, gap: np.ndarray, mu: float) -> np.ndarray:
    """Rows times (I + mu q q^T)^(-1/2), for q = gap."""
    squared = gap @ gap
    if mu * squared == 0:
        return rows
    factor = (1 - 1 / np.sqrt(1 + mu * squared)) / squared
    return rows - np.outer(factor * (rows @ gap), gap)
