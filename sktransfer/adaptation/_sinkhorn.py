"""Entropic optimal transport between uniform weights, by Sinkhorn's iterations.

Iterations in the log domain need an exponential of the whole matrix for each step, and those on
plain numbers overflow if costs are large. Here the scalings are absorbed into the matrix whenever
they become extreme: the iterates are those of the log domain, at the cost of matrix-vector
products.
"""

import numpy as np
from scipy.special import logsumexp

_LARGEST_SCALING = 1e50
"""Scalings above this, or below its inverse, are absorbed into the matrix."""

_NEGLIGIBLE = 1e-200

_CHECK_EVERY = 10


class EntropicPlan:
    """A transport plan with entropic regularisation, which `solve` computes.

    For costs (n, m), and the weight `reg` of the entropy in units of the cost, the plan is
    ``exp(log_source_i + log_target_j - cost_ij / reg)``.
    """

    def __init__(self, cost: np.ndarray, reg: float) -> None:
        self.log_kernel = cost / -reg
        self.log_source = np.zeros(len(cost))
        self.log_target = np.zeros(cost.shape[1])
        self.n_iter = 0
        self.converged = False

    def solve(self, max_iter: int, tol: float) -> "EntropicPlan":
        """Iterate until column sums are off by less than `tol` (norm), or `max_iter` is up."""
        n, m = self.log_kernel.shape
        kernel = self._log_domain_step()
        u, v, self.n_iter = np.ones(n), np.ones(m), 1
        sums = u @ kernel
        self.converged = bool(np.linalg.norm(sums - 1 / m) < tol)
        while self.n_iter < max_iter and not self.converged:
            v_next = (1 / m) / sums
            u_next = (1 / n) / (kernel @ v_next)
            if _within_bounds(v_next) and _within_bounds(u_next):
                u, v = u_next, v_next
            else:
                # Absorb the scalings so far, and take this step in the log domain.
                self.log_source += np.log(u)
                self.log_target += np.log(v)
                kernel = self._log_domain_step()
                u, v = np.ones(n), np.ones(m)
            sums = u @ kernel
            if self.n_iter % _CHECK_EVERY == 0:
                self.converged = bool(np.linalg.norm(v * sums - 1 / m) < tol)
            self.n_iter += 1
        self.log_source += np.log(u)
        self.log_target += np.log(v)
        return self

    def _log_domain_step(self) -> np.ndarray:
        """One step that no cost makes overflow, and the matrix with potentials absorbed."""
        n, m = self.log_kernel.shape
        with np.errstate(under="ignore"):
            self.log_target = -np.log(m) - logsumexp(
                self.log_kernel + self.log_source[:, None], axis=0
            )
            self.log_source = -np.log(n) - logsumexp(self.log_kernel + self.log_target, axis=1)
            kernel = self.matrix()
        # Scalings within the bounds cannot make such entries count, and denormal numbers make
        # matrix products slow.
        kernel[kernel < _NEGLIGIBLE] = 0.0
        return kernel

    def matrix(self) -> np.ndarray:
        """The plan, (n, m); rows sum to 1/n, and columns to 1/m once it has converged."""
        return np.exp(self.log_kernel + self.log_source[:, None] + self.log_target)


def class_regularised_plan(
    cost: np.ndarray,
    codes: np.ndarray,
    reg: float,
    class_reg: float,
    max_iter: int,
    tol: float,
    n_rounds: int = 10,
) -> tuple[np.ndarray, EntropicPlan]:
    """A plan that brings each target row mass from few classes, as a matrix and its last round.

    `codes` are the classes of the source rows, from 0. In each round the concave penalty, the sum
    of sqrt(mass of a class in a column), is replaced by its tangent (majorisation-minimisation).
    """
    membership = np.zeros((codes.max() + 1, len(codes)))
    membership[codes, np.arange(len(codes))] = 1.0
    slope = np.zeros((len(membership), cost.shape[1]))
    for _ in range(n_rounds):
        plan = EntropicPlan(cost + class_reg * slope[codes], reg).solve(max_iter, tol)
        matrix = plan.matrix()
        # The small number keeps the slope of the square root finite at 0.
        slope = 0.5 / np.sqrt(membership @ matrix + 1e-3)
    return matrix, plan


def _within_bounds(scaling: np.ndarray) -> bool:
    # NaN compares as False, and so counts as out of bounds.
    return bool(scaling.min() > 1 / _LARGEST_SCALING and scaling.max() < _LARGEST_SCALING)
