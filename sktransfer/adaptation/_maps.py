"""What the feature maps share: checks, roots of matrices, and rows in an order of their own."""

import numbers
from typing import Any

import numpy as np
from sklearn.utils import check_scalar

from sktransfer.adaptation._base import Pair
from sktransfer.adaptation._kernels import canonical_order


def check_number(
    name: str, value: Any, *, low: float = 0, high: float = np.inf, include_low: bool = True
) -> None:
    """Refuse what is not a number from `low` on and below `high`."""
    ends = "left" if include_low else "neither"
    check_scalar(value, name, numbers.Real, min_val=low, max_val=high, include_boundaries=ends)
    if np.isnan(value):
        raise ValueError(f"{name} must be a number, got nan")


def check_flag(name: str, value: Any) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r}")


def check_two_rows(name: str, pair: Pair) -> None:
    """Refuse a domain of which there is no covariance."""
    for domain, rows in (("source", pair.source), ("target", pair.target)):
        if len(rows) < 2:
            raise ValueError(
                f"{name} needs at least 2 rows of each domain, whose spread it compares; got "
                f"n_samples = {len(rows)} of the {domain}"
            )


def covariance(rows: np.ndarray, ddof: int = 1) -> np.ndarray:
    """Covariance of columns, (n_features, n_features)."""
    centred = rows - rows.mean(axis=0)
    return centred.T @ centred / (len(rows) - ddof)


def root(matrix: np.ndarray, power: float) -> np.ndarray:
    """Power of a symmetric matrix without negative eigenvalues, those of rounding set to 0.

    A negative power is that of the pseudo-inverse.
    """
    values, vectors = np.linalg.eigh(matrix)
    counted = values > len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    powers = np.zeros_like(values)
    powers[counted] = values[counted] ** power
    return (vectors * powers) @ vectors.T


def with_signs(vectors: np.ndarray) -> np.ndarray:
    """Columns whose largest entry is positive; solvers leave the sign to chance."""
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.sign(vectors[largest, np.arange(vectors.shape[1])])
    return vectors * np.where(signs == 0, 1.0, signs)


def ordered_draw(rows: np.ndarray, count: int, random: np.random.RandomState) -> np.ndarray:
    """Positions of at most `count` rows, in the order of their content.

    What is computed on them is the same, to the bit, whatever the order of X.
    """
    order = canonical_order(rows)
    if len(order) <= count:
        return order
    return order[np.sort(random.choice(len(order), count, replace=False))]
