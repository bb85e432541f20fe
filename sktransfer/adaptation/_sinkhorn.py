"""Entropic optimal transport between uniform weights, by Sinkhorn's iterations.

Textbook iterations on logarithms take an exponential of the whole matrix for each step, those on
plain numbers fail where costs are large. Here steps are products with a matrix into which the
potentials are absorbed whenever they have moved far: the same iterates as on logarithms, at the
price of a matrix-vector product.
"""

import numpy as np
from scipy.special import logsumexp

_FAR = 1e50
"""Scalings beyond this, or below its inverse, are absorbed."""

_NOTHING = 1e-200

_CHECK_EVERY = 10


class Plan:
    """An entropic plan in the making.

    Parameters
    ----------
    cost : ndarray of shape (n, m)
    reg : float
        Weight of the entropy, in units of the cost.

    Attributes
    ----------
    log_source, log_target : ndarray of shape (n,) and (m,)
        The plan is ``exp(log_source_i + log_target_j - cost_ij / reg)``.
    n_iter : int
    converged : bool
    """

    def __init__(self, cost: np.ndarray, reg: float) -> None:
        self.log_kernel = cost / -reg
        self.log_source = np.zeros(len(cost))
        self.log_target = np.zeros(cost.shape[1])
        self.n_iter = 0
        self.converged = False

    def solve(self, max_iter: int, tol: float) -> "Plan":
        """Iterate until column sums are off by less than `tol` (norm), or `max_iter` is up."""
        n, m = self.log_kernel.shape
        kernel = self._step_on_logarithms()
        u, v, self.n_iter = np.ones(n), np.ones(m), 1
        sums = u @ kernel
        self.converged = bool(np.linalg.norm(sums - 1 / m) < tol)
        while self.n_iter < max_iter and not self.converged:
            v_next = (1 / m) / sums
            u_next = (1 / n) / (kernel @ v_next)
            if _is_near(v_next) and _is_near(u_next):
                u, v = u_next, v_next
            else:
                # Absorb what there is, and take this step on logarithms.
                self.log_source += np.log(u)
                self.log_target += np.log(v)
                kernel = self._step_on_logarithms()
                u, v = np.ones(n), np.ones(m)
            sums = u @ kernel
            if self.n_iter % _CHECK_EVERY == 0:
                self.converged = bool(np.linalg.norm(v * sums - 1 / m) < tol)
            self.n_iter += 1
        self.log_source += np.log(u)
        self.log_target += np.log(v)
        return self

    def _step_on_logarithms(self) -> np.ndarray:
        """One step that no cost is too large for, and the matrix with potentials absorbed."""
        n, m = self.log_kernel.shape
        with np.errstate(under="ignore"):
            self.log_target = -np.log(m) - logsumexp(
                self.log_kernel + self.log_source[:, None], axis=0
            )
            self.log_source = -np.log(n) - logsumexp(self.log_kernel + self.log_target, axis=1)
            kernel = self.matrix()
        # Beside scalings in these bounds such entries do not count, and they make products slow.
        kernel[kernel < _NOTHING] = 0.0
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
) -> tuple[np.ndarray, Plan]:
    """A plan in which a target row gets its mass from few classes.

    Parameters
    ----------
    cost : ndarray of shape (n, m)
    codes : ndarray of shape (n,), int
        Classes of the source rows, from 0.
    reg, class_reg : float
    max_iter : int
        Of each round.
    tol : float
    n_rounds : int, default=10
        The concave penalty sum of sqrt(mass of a class in a column) is replaced by its tangent so
        many times.

    Returns
    -------
    matrix : ndarray of shape (n, m)
    plan : Plan
        Of the last round.
    """
    membership = np.zeros((codes.max() + 1, len(codes)))
    membership[codes, np.arange(len(codes))] = 1.0
    slope = np.zeros((len(membership), cost.shape[1]))
    for _ in range(n_rounds):
        plan = Plan(cost + class_reg * slope[codes], reg).solve(max_iter, tol)
        matrix = plan.matrix()
        # The small number keeps the slope finite at 0.
        slope = 0.5 / np.sqrt(membership @ matrix + 1e-3)
    return matrix, plan


def _is_near(scaling: np.ndarray) -> bool:
    # Not a number compares as False, too.
    return bool(scaling.min() > 1 / _FAR and scaling.max() < _FAR)
