"""Maximum likelihood proportions of a mixture with known components."""

import warnings

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from sklearn.exceptions import ConvergenceWarning


def mixture_proportions(
    P: np.ndarray, *, tol: float = 1e-9, max_iter: int = 100
) -> tuple[np.ndarray, int]:
    """Maximise mean(log(P p)) over p that are not negative and sum to 1; also the steps taken.

    P are likelihoods, (n, n_components), not negative, with an entry above zero in each row and
    column. `tol` is the largest distance of the mean logarithm from its maximum.

    Expectation maximisation, ``p *= mean(P / (P p))``, needs thousands of steps. An interior
    point method on the equivalent problem without the constraint on the sum, to minimise
    ``sum(p) - mean(log(P p))``, needs a dozen. The likelihood of no other p is higher by more than
    ``max(mean(P / (P p))) - 1``, which gives the stopping rule.
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
        # Mehrotra's predictor (mu = 0) shows how much a full step would reduce the products
        # p * z; the corrector then aims at the centred products that this suggests.
        step = cho_solve(factor, gain - 1)
        dz = -z - z / p * step
        ahead = float((p + max_step(p, step) * step) @ (z + max_step(z, dz) * dz)) / m
        centring = (mu * (ahead / mu) ** 3 - step * dz) / p
        step = cho_solve(factor, gain - 1 + centring)
        dz = centring - z - z / p * step
        p, z = p + 0.99 * max_step(p, step) * step, z + 0.99 * max_step(z, dz) * dz
    else:
        warnings.warn(
            f"the density ratio did not converge in {max_iter} steps; try a smaller gamma",
            ConvergenceWarning,
            stacklevel=2,
        )
    return p, iteration


def max_step(value: np.ndarray, step: np.ndarray) -> float:
    """Largest multiple of `step`, at most 1, after which no entry of `value` is negative."""
    falling = step < 0
    return min(1.0, float((value[falling] / -step[falling]).min())) if falling.any() else 1.0
