"""Linear algebra for the measures of transferability: spectra, evidence, shrinkage, coding rate."""

import numpy as np
from scipy.linalg import cholesky, svd

_GRID_STEP = 0.25
_GOLDEN = (np.sqrt(5) - 1) / 2


def spectrum(X: np.ndarray, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decompose Y along the left singular vectors of X.

    Returns the squared singular values of X, (r,), the squares of Y along each left singular
    vector, (r, k), and the squared norm of the rest of Y, (k,). Long and wide matrices are first
    reduced to square ones by QR, which unlike X^T X loses no digits.
    """
    n_rows, n_features = X.shape
    if n_rows > n_features + Y.shape[1]:
        both = np.asarray(np.linalg.qr(np.hstack([X, Y]), mode="r"))
        vectors, values, _ = svd(both[:n_features, :n_features])
        along = vectors.T @ both[:n_features, n_features:]
        return values**2, along**2, (both[n_features:, n_features:] ** 2).sum(0)
    if n_features > n_rows:
        X = np.asarray(np.linalg.qr(X.T, mode="r")).T
    vectors, values, _ = svd(X, full_matrices=False)
    along = vectors.T @ Y
    return values**2, along**2, ((Y - vectors @ along) ** 2).sum(0)


def greatest_evidence(
    squares: np.ndarray, shares: np.ndarray, rest: np.ndarray, n_rows: float
) -> np.ndarray:
    """Log evidence (k,) at its maximum over both precisions.

    Let `t` be the prior's precision over the noise's. The best precision of the noise is then
    ``n / error(t)``, so that only `t` is searched: on a grid over log t, since there may be several
    maxima, and by golden sections around the best point of the grid.
    """
    top = squares.max(initial=0.0) or 1.0
    eps = np.finfo(np.float64).eps
    lowest, highest = np.log(eps * top), np.log(n_rows * top / eps)
    grid = np.arange(lowest, highest + _GRID_STEP, _GRID_STEP)
    ratios = squares / np.exp(grid)[:, None]
    evidence = _evidence(1 / (1 + ratios) @ shares + rest, np.log1p(ratios).sum(1)[:, None], n_rows)
    best = evidence.argmax(0)
    low = grid[np.maximum(best - 1, 0)]
    high = grid[np.minimum(best + 1, len(grid) - 1)]

    def at(logs: np.ndarray) -> np.ndarray:
        ratios = squares[:, None] / np.exp(logs)
        error = (shares / (1 + ratios)).sum(0) + rest
        return _evidence(error, np.log1p(ratios).sum(0), n_rows)

    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = at(left), at(right)
    for _ in range(40):  # to a bracket of 2e-9, where the evidence no longer changes
        lower = at_left < at_right
        low, high = np.where(lower, left, low), np.where(lower, high, right)
        new = np.where(lower, low + _GOLDEN * (high - low), high - _GOLDEN * (high - low))
        at_new = at(new)
        left, right = np.where(lower, right, new), np.where(lower, new, left)
        at_left, at_right = np.where(lower, at_right, at_new), np.where(lower, at_new, at_left)
    return np.maximum(np.maximum(at_left, at_right), evidence.max(0))


def _evidence(error: np.ndarray, log_volume: np.ndarray, n_rows: float) -> np.ndarray:
    return -0.5 * (n_rows * (np.log(2 * np.pi * error / n_rows) + 1) + log_volume)


def ledoit_wolf(X: np.ndarray, squares: np.ndarray, mean: float) -> float:
    """Ledoit and Wolf's shrinkage from the eigenvalues of a covariance and the centred rows."""
    n_rows, n_features = X.shape
    if n_features == 1:
        return 0.0  # a single variance is its own mean
    spread = ((squares - mean) ** 2).sum() + (n_features - len(squares)) * mean**2
    noise = (((X**2).sum(1) ** 2).mean() - (squares**2).sum()) / n_rows
    # `>=` also covers a spread of 0, where rounding would decide between all and nothing.
    return 1.0 if noise >= spread else float(max(noise, 0.0) / spread)


def coding_rate(X: np.ndarray, eps: float) -> float:
    """Half the log determinant of ``I + X^T X / (n eps)``, from the smaller Gram matrix."""
    small = X.T @ X if X.shape[1] <= X.shape[0] else X @ X.T
    small /= len(X) * eps
    small.flat[:: len(small) + 1] += 1
    return float(np.log(np.diag(cholesky(small, lower=True))).sum())
