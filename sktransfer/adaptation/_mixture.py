"""The proportions of a mixture whose components are known, by maximum likelihood."""

import warnings

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from sklearn.exceptions import ConvergenceWarning


def mixture_proportions(
    P: np.ndarray, *, tol: float = 1e-9, max_iter: int = 100
) -> tuple[np.ndarray, int]:
    """Maximise mean(log(P p)) over p that are not negative and sum to 1.

    Parameters
    ----------
    P : ndarray of shape (n, n_components)
        Not negative; each row and each column has something above zero.
    tol : float, default=1e-9
        How much more the mean logarithm may be at its maximum.
    max_iter : int, default=100

    Returns
    -------
    p : ndarray of shape (n_components,)
    n_iter : int

    Notes
    -----
    The well-known steps of expectation maximisation, ``p *= mean(P / (P p))``, need thousands. An
    interior point method on the equivalent problem without the sum, to minimise
    ``sum(p) - mean(log(P p))``, needs a dozen. In a mixture no p has a likelihood that is more
    than ``max(mean(P / (P p))) - 1`` above, which says when to stop.
    """
    n, m = P.shape
    ratios = np.empty_like(P)
    p, z = np.full(m, 1 / m), np.full(m, 1.0)
    for iteration in range(1, max_iter + 1):  # noqa: B007
        p = p / p.sum()
        inverse = 1 / (P @ p.astype(P.dtype))
        gain = (inverse @ P).astype(np.float64) / n
        if gain.max() - 1 <= tol:
            break
        ratios = np.multiply(P, inverse[:, None], out=ratios)
        hessian = (ratios.T @ ratios).astype(np.float64) / n
        hessian.flat[:: m + 1] += z / p
        factor = cho_factor(hessian, lower=True, overwrite_a=True, check_finite=False)
        mu = float(p @ z) / m
        # Mehrotra's predictor, which tells how far to go towards the centre, and corrector.
        step = cho_solve(factor, gain - 1)
        dz = -z - z / p * step
        ahead = float((p + reach(p, step) * step) @ (z + reach(z, dz) * dz)) / m
        pull = (mu * (ahead / mu) ** 3 - step * dz) / p
        step = cho_solve(factor, gain - 1 + pull)
        dz = pull - z - z / p * step
        p, z = p + 0.99 * reach(p, step) * step, z + 0.99 * reach(z, dz) * dz
    else:
        warnings.warn(
            f"the density ratio did not converge in {max_iter} steps; try a smaller gamma",
            ConvergenceWarning,
            stacklevel=2,
        )
    return p, iteration


def reach(value: np.ndarray, step: np.ndarray) -> float:
    """How far `value` may go along `step` before an entry is zero, at most 1."""
    falling = step < 0
    return min(1.0, float((value[falling] / -step[falling]).min())) if falling.any() else 1.0
