"""An interior point solver for the quadratic programme of kernel mean matching.

It minimises ``b' K b / 2 - kappa' b`` over ``0 <= b <= bound`` and ``low <= sum(b) <= high``.
Kernel matrices are close to singular, so that gradient methods have not converged after thousands
of steps. An interior point method takes about twenty steps, each of which solves a linear system.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from sktransfer.adaptation._kernel_matrices import Kernel
from sktransfer.adaptation._mixture import max_step


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
    """The weights, (n,), and the number of steps, for low < high and low < n * bound.

    It stops at a duality gap of `tol` relative to the objective. The method is Mehrotra's
    predictor-corrector from a feasible start; all iterates are feasible.
    """
    n = len(kappa)
    start = (max(low / n, 0) + min(high / n, bound)) / 2
    scale = max(float(np.abs(kappa).max()), 1e-3)
    sums = np.array([n * start - low, high - n * start])
    point = _Point(
        [np.full(n, start), np.full(n, bound - start), sums],
        [np.full(n, scale), np.full(n, scale * start / (bound - start)), scale * start / sums],
    )
    good: _Point | None = None
    least = np.inf
    for iteration in range(1, max_iter + 1):
        weights, (at_lower, at_upper, at_sums) = point.slacks[0], point.multipliers
        product = kernel.product(weights)
        residual = product - kappa - at_lower + at_upper
        residual += at_sums[1] - at_sums[0]
        gap = point.gap()
        size = max(abs(float(weights @ product / 2 - kappa @ weights)), 1e-3 * scale)
        stationary = np.abs(residual).max() <= 1e-9 * scale
        if stationary and gap <= tol * size:
            return weights, iteration
        if stationary and gap <= min(1e-8 * size, 0.5 * least):
            good, least = point, gap
        elif least <= 1e-10 * size:
            break  # rounding does not allow the gap to shrink further
        newton = _Newton(kernel, point, residual)
        # The predictor shows how much of the gap a step can close, which sets the centring; the
        # corrector makes up for the predictor's second-order error.
        ahead = newton.step(0.0)
        centre = gap / (2 * n + 2) * (point.moved(ahead, *point.max_steps(ahead)).gap() / gap) ** 3
        step = newton.step(centre, ahead)
        # Primal and dual variables take the same step length: in a quadratic programme, unlike a
        # linear one, the stationarity condition couples them. 0.995 keeps them above zero.
        length = 0.995 * min(point.max_steps(step))
        point = point.moved(step, length, length)
    if good is None:
        warnings.warn(
            f"kernel mean matching did not converge in {max_iter} steps; the weights are feasible "
            "but may not be optimal. Try a wider kernel (smaller gamma) or a larger epsilon",
            ConvergenceWarning,
            stacklevel=2,
        )
    return (good or point).slacks[0], iteration


@dataclass
class _Point:
    """Slacks of the bounds and their multipliers, or a step of them.

    The slacks are those of the lower bound, which are the weights themselves, of the upper bound,
    and of both bounds of the sum.
    """

    slacks: list[np.ndarray]
    multipliers: list[np.ndarray]

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return zip(self.slacks, self.multipliers, strict=True)

    def gap(self) -> float:
        return float(sum(slack @ multiplier for slack, multiplier in self.pairs()))

    def moved(self, step: "_Point", primal: float, dual: float) -> "_Point":
        # Slacks take the step themselves instead of being computed as bound - beta, which would
        # be nothing but rounding error near the bound.
        return _Point(
            [old + primal * new for old, new in zip(self.slacks, step.slacks, strict=True)],
            [old + dual * new for old, new in zip(self.multipliers, step.multipliers, strict=True)],
        )

    def max_steps(self, step: "_Point") -> tuple[float, float]:
        """Largest steps of the slacks, and of the multipliers, that keep all of them positive."""
        primal = min(map(max_step, self.slacks, step.slacks))
        return primal, min(map(max_step, self.multipliers, step.multipliers))


class _Newton:
    """Newton steps from a point towards the central path, where slack * multiplier is constant."""

    def __init__(self, kernel: Kernel, point: _Point, residual: np.ndarray) -> None:
        self.point, self.residual = point, residual
        self.ratios = [multiplier / slack for slack, multiplier in point.pairs()]
        self.solve = kernel.solver(self.ratios[0] + self.ratios[1])
        self.weight = float(self.ratios[2].sum())
        self.ones = self.solve(np.ones(len(residual)))

    def step(self, centre: float, ahead: _Point | None = None) -> _Point:
        errors = [slack * multiplier for slack, multiplier in ahead.pairs()] if ahead else [0.0] * 3
        aims = [
            (centre - error) / slack - multiplier
            for (slack, multiplier), error in zip(self.point.pairs(), errors, strict=True)
        ]
        lower, upper, sums = aims
        beta = self.solve(lower - upper + (sums[0] - sums[1]) - self.residual)
        # The Sherman-Morrison formula adds the rank-one term of the two constraints on the sum;
        # it also gives the sum of the step without the rounding of adding up its entries.
        total = float(beta.sum()) / (1 + self.weight * float(self.ones.sum()))
        beta = beta - (self.weight * total) * self.ones
        slacks = [beta, -beta, np.array([total, -total])]
        steps = zip(aims, self.ratios, slacks, strict=True)
        return _Point(slacks, [aim - ratio * slack for aim, ratio, slack in steps])
