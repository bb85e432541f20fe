"""The quadratic programme of kernel mean matching, solved by an interior point method.

Minimise ``b' K b / 2 - kappa' b`` over ``0 <= b <= bound`` and ``low <= sum(b) <= high``. Kernel
matrices are close to singular, which slows down methods that follow gradients (thousands of
steps, and still not there) but not this one, whose twenty or so steps each solve a linear system.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from sktransfer.adaptation._kernel_matrices import Kernel
from sktransfer.adaptation._mixture import reach


def solve_matching(
    kernel: Kernel,
    kappa: np.ndarray,
    *,
    bound: float,
    low: float,
    high: float,
    tol: float = 1e-14,
    max_iter: int = 100,
) -> tuple[np.ndarray, int]:
    """Solve the programme.

    Parameters
    ----------
    kernel : Kernel of shape (n, n)
    kappa : ndarray of shape (n,)
    bound : float
        Of each weight.
    low, high : float
        Of their sum, low < high; low < n * bound.
    tol : float, default=1e-14
        Duality gap, relative to the objective, at which the solution is taken for exact.
    max_iter : int, default=100

    Returns
    -------
    weights : ndarray of shape (n,)
    n_iter : int

    Warns
    -----
    ConvergenceWarning
        `max_iter` steps did not do.

    Notes
    -----
    Mehrotra's predictor and corrector, from a start that is feasible and stays so.
    """
    n = len(kappa)
    start = (max(low / n, 0) + min(high / n, bound)) / 2
    scale = max(float(np.abs(kappa).max()), 1e-3)
    point = _Point(
        beta=np.full(n, start),
        upper=np.full(n, bound - start),
        sums=np.array([n * start - low, high - n * start]),
        for_beta=np.full(n, scale),
        for_upper=np.full(n, scale * start / (bound - start)),
        for_sums=scale * start / np.array([n * start - low, high - n * start]),
    )
    good: _Point | None = None
    least = np.inf
    for iteration in range(1, max_iter + 1):
        product = kernel.product(point.beta)
        residual = product - kappa - point.for_beta + point.for_upper
        residual += point.for_sums[1] - point.for_sums[0]
        gap = point.gap()
        size = max(abs(float(point.beta @ product / 2 - kappa @ point.beta)), 1e-3 * scale)
        sound = np.abs(residual).max() <= 1e-9 * scale
        if sound and gap <= tol * size:
            return point.beta, iteration
        if sound and gap <= min(1e-8 * size, 0.5 * least):
            good, least = point, gap
        elif least <= 1e-10 * size:
            break  # rounding allows no more
        newton = _Newton(kernel, point, residual)
        # The predictor tells how much of the gap a step can close; the corrector knows its error.
        ahead = newton.step(0.0)
        centre = gap / (2 * n + 2) * (point.moved(ahead, *point.reaches(ahead)).gap() / gap) ** 3
        step = newton.step(centre, ahead)
        # All take the same step, because the objective, which is not linear, couples them.
        length = 0.995 * min(point.reaches(step))
        point = point.moved(step, length, length)
    if good is None:
        warnings.warn(
            f"kernel mean matching did not converge in {max_iter} steps; the weights are feasible "
            "but may not be the best. A wider kernel (smaller gamma) or a greater epsilon helps",
            ConvergenceWarning,
            stacklevel=2,
        )
    return (good or point).beta, iteration


@dataclass
class _Point:
    """Weights, the slack of all constraints, and a multiplier for each; or a step of them."""

    beta: np.ndarray
    upper: np.ndarray
    sums: np.ndarray
    for_beta: np.ndarray
    for_upper: np.ndarray
    for_sums: np.ndarray

    def gap(self) -> float:
        return float(
            self.beta @ self.for_beta + self.upper @ self.for_upper + self.sums @ self.for_sums
        )

    def moved(self, step: "_Point", primal: float, dual: float) -> "_Point":
        # Slacks are moved, not computed anew: near a bound the difference would be all rounding.
        return _Point(
            self.beta + primal * step.beta,
            self.upper + primal * step.upper,
            self.sums + primal * step.sums,
            self.for_beta + dual * step.for_beta,
            self.for_upper + dual * step.for_upper,
            self.for_sums + dual * step.for_sums,
        )

    def reaches(self, step: "_Point") -> tuple[float, float]:
        """How far slacks, and multipliers, may go before one is zero; at most 1."""
        slacks = [(self.beta, step.beta), (self.upper, step.upper), (self.sums, step.sums)]
        multipliers = [
            (self.for_beta, step.for_beta),
            (self.for_upper, step.for_upper),
            (self.for_sums, step.for_sums),
        ]
        return min(reach(*pair) for pair in slacks), min(reach(*pair) for pair in multipliers)


class _Newton:
    """Newton steps from a point towards equal products of slack and multiplier."""

    def __init__(self, kernel: Kernel, point: _Point, residual: np.ndarray) -> None:
        self.point, self.residual = point, residual
        self.solve = kernel.solver(point.for_beta / point.beta + point.for_upper / point.upper)
        self.weight = float((point.for_sums / point.sums).sum())
        self.ones = self.solve(np.ones(len(residual)))

    def step(self, centre: float, ahead: _Point | None = None) -> _Point:
        at = self.point
        lower, upper, sums = (
            (centre - error) / slack - multiplier
            for slack, multiplier, error in (
                (at.beta, at.for_beta, ahead.beta * ahead.for_beta if ahead else 0.0),
                (at.upper, at.for_upper, ahead.upper * ahead.for_upper if ahead else 0.0),
                (at.sums, at.for_sums, ahead.sums * ahead.for_sums if ahead else 0.0),
            )
        )
        beta = self.solve(lower - upper + (sums[0] - sums[1]) - self.residual)
        # The formula of Sherman and Morrison, which also gives the sum of the step unsummed.
        total = float(beta.sum()) / (1 + self.weight * float(self.ones.sum()))
        beta = beta - (self.weight * total) * self.ones
        both = np.array([total, -total])
        return _Point(
            beta,
            -beta,
            both,
            lower - at.for_beta / at.beta * beta,
            upper + at.for_upper / at.upper * beta,
            sums - at.for_sums / at.sums * both,
        )
