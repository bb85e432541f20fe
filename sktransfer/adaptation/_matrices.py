"""Covariances, powers of symmetric matrices and signs of eigenvectors, for the feature maps."""

import numpy as np


def covariance(rows: np.ndarray, ddof: int = 1) -> np.ndarray:
    """Covariance of the columns, (n_features, n_features)."""
    centred = rows - rows.mean(axis=0)
    return centred.T @ centred / (len(rows) - ddof)


def symmetric_power(matrix: np.ndarray, power: float) -> np.ndarray:
    """Power of a positive semi-definite matrix; a negative one is that of the pseudo-inverse.

    Eigenvalues that are zero up to rounding are set to 0, whatever the power.
    """
    values, vectors = np.linalg.eigh(matrix)
    counted = values > len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    powers = np.zeros_like(values)
    powers[counted] = values[counted] ** power
    return (vectors * powers) @ vectors.T


def fix_signs(vectors: np.ndarray) -> np.ndarray:
    """Columns with the sign that makes the largest entry positive; solvers return either."""
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.sign(vectors[largest, np.arange(vectors.shape[1])])
    return vectors * np.where(signs == 0, 1.0, signs)
