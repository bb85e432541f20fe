"""Feature transfer by optimal transport: move the source rows where the target rows are."""

import numbers
import warnings
from typing import Any

import numpy as np
from sklearn.base import OneToOneFeatureMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import pairwise_distances_argmin
from sklearn.utils import check_random_state, check_scalar, gen_batches

from sktransfer.adaptation._base import DomainMap, Pair
from sktransfer.adaptation._kernels import squared_distances
from sktransfer.adaptation._labels import check_option, coded_labels
from sktransfer.adaptation._maps import (
    check_flag,
    check_number,
    check_two_rows,
    ordered_draw,
    root,
)
from sktransfer.adaptation._sinkhorn import Plan, class_regularised_plan

METHODS = ("emd", "sinkhorn", "class-regularised", "linear")

_BLOCK = 2**22
"""Entries of a matrix of costs that are held at a time for new rows: 32 MB."""

_STEPS = {"emd": 1_000_000, "sinkhorn": 1000, "class-regularised": 200}

_OTHER_CLASS = 10.0
"""Cost of bringing a row to a labelled one of another class, in units of the largest cost."""


class OptimalTransportMap(OneToOneFeatureMixin, DomainMap):
    """Move the source rows onto the target rows at the least total cost [1]_.

    The cost is the squared Euclidean distance. Each source row goes to the mean of the target rows
    to which the plan brings its mass (the barycentric map); target rows stay where they are.

    Parameters
    ----------
    method : {"emd", "sinkhorn", "class-regularised", "linear"}, default="emd"
        "emd" is the exact plan, "sinkhorn" one that entropy makes smooth [2]_.
        "class-regularised" adds to it a penalty on target rows that get mass from several classes
        of the source, and so needs y; target rows that `target_labeled` tells of are kept away
        from other classes. "linear" is the exact map between Gaussians of the domains' means and
        covariances: an affine one, in closed form, for any number of rows [3]_.
    reg : float or None, default=None
        Weight of the entropy, in units of the cost; the smaller, the closer to the exact plan and
        the slower. None takes 1. For "linear", what is added to the diagonal of covariances, and
        None takes 1e-8. Not for "emd".
    class_reg : float, default=0.1
        Weight of the penalty of "class-regularised".
    match_mean : bool, default=True
        Of "linear": False takes both means for 0, and matches second moments about it by a map
        without an intercept.
    normalise_cost : {"max", "median"} or None, default=None
        Divide costs by their largest or median, so that `reg` has no unit.
    max_iter : int or None, default=None
        None takes 1,000,000 for "emd", 1,000 for "sinkhorn", and 200 in each of the ten rounds of
        "class-regularised".
    tol : float, default=1e-8
        Of "sinkhorn" and "class-regularised": how far off the target's weights may be, as a norm.
    max_samples : int, default=5000
        Of a domain with more rows so many are drawn to compute the plan; memory and time grow
        with their product, and faster. Other rows are mapped like new ones.
    random_state : int, RandomState instance or None, default=None
        Of that draw. Which rows it gives does not depend on their order in X.

    Attributes
    ----------
    source_rows_ : ndarray of shape (n_distinct, n_features)
        Distinct source rows of the plan. For "emd" and "class-regularised".
    source_images_ : ndarray of shape (n_distinct, n_features)
        Where they go; of equal rows, the mean. For "emd" and "class-regularised".
    target_rows_ : ndarray of shape (n_target, n_features)
        For "sinkhorn".
    log_potential_ : ndarray of shape (n_target,)
        Logarithm of the weights of the target rows in "sinkhorn", where x goes to the mean of
        target rows under weights ``exp(log_potential_ - cost / reg)``.
    cost_scale_ : float
        What costs were divided by. Not for "linear".
    coef_ : ndarray of shape (n_features, n_features)
        For "linear", which maps x to ``x @ coef_ + intercept_``.
    intercept_ : ndarray of shape (n_features,)
        For "linear".
    n_iter_ : int
        Steps to the plan, for "class-regularised" in the last round; 1 for "emd" and "linear",
        whose solvers do not tell.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only if X had names.

    Raises
    ------
    ValueError, TypeError
        A parameter is none of the above, or "class-regularised" got no y.
    ImportError
        "emd" without POT; the others need none.

    Warns
    -----
    ConvergenceWarning
        The plan is not yet the best one.

    Notes
    -----
    New source rows: "sinkhorn" and "linear" are functions of any x. For "emd" and
    "class-regularised" a row moves as the nearest row of the plan did [4]_.

    All mass of the source is brought to the target: if the domains differ in how frequent their
    classes are, some rows must go to another class, and results get worse than without.

    References
    ----------
    .. [1] N. Courty, R. Flamary, D. Tuia and A. Rakotomamonjy, "Optimal transport for domain
       adaptation", IEEE TPAMI 39, 2017, equations 8, 11, 14 and 17.
    .. [2] M. Cuturi, "Sinkhorn distances: lightspeed computation of optimal transport", NIPS 2013.
    .. [3] M. Knott and C. S. Smith, "On the optimal mapping of distributions", Journal of
       Optimization Theory and Applications 43, 1984.
    .. [4] S. Ferradans, N. Papadakis, G. Peyre and J.-F. Aujol, "Regularized discrete optimal
       transport", SIAM Journal on Imaging Sciences 7, 2014.

    Examples
    --------
    >>> from sktransfer.adaptation import OptimalTransportMap, stack_domains
    >>> X, _, sample_domain = stack_domains([[0.0], [2.0]], [[12.0], [10.0]])
    >>> transport = OptimalTransportMap("linear")
    >>> transport.fit_transform(X, sample_domain=sample_domain).round(3).tolist()
    [[10.0], [12.0], [12.0], [10.0]]
    >>> transport.transform([[1.0]], sample_domain=[1]).round(3).tolist()
    [[11.0]]
    """

    source_rows_: np.ndarray
    source_images_: np.ndarray
    target_rows_: np.ndarray
    log_potential_: np.ndarray
    cost_scale_: float
    coef_: np.ndarray
    intercept_: np.ndarray
    n_iter_: int

    def __init__(
        self,
        method: str = "emd",
        *,
        reg: float | None = None,
        class_reg: float = 0.1,
        match_mean: bool = True,
        normalise_cost: str | None = None,
        max_iter: int | None = None,
        tol: float = 1e-8,
        max_samples: int = 5000,
        random_state: Any = None,
    ) -> None:
        self.method = method
        self.reg = reg
        self.class_reg = class_reg
        self.match_mean = match_mean
        self.normalise_cost = normalise_cost
        self.max_iter = max_iter
        self.tol = tol
        self.max_samples = max_samples
        self.random_state = random_state

    @property
    def _needs_labels(self) -> bool:  # type: ignore[override]
        return bool(self.method == "class-regularised")

    def _learn(self, pair: Pair) -> None:
        random = self._check()
        self.n_iter_ = 1
        for name in _FITTED & vars(self).keys():
            delattr(self, name)
        if self.method == "linear":
            self._learn_linear(pair)
            return
        chosen = [
            ordered_draw(rows, self.max_samples, random) for rows in (pair.source, pair.target)
        ]
        source, target = pair.source[chosen[0]], pair.target[chosen[1]]
        cost = squared_distances(source, target)
        self.cost_scale_ = 1.0
        if self.normalise_cost is not None:
            scale = float(cost.max() if self.normalise_cost == "max" else np.median(cost))
            self.cost_scale_ = scale if scale > 0 else 1.0
            cost /= self.cost_scale_
        reg = 1.0 if self.reg is None else self.reg
        max_iter = _STEPS[self.method] if self.max_iter is None else self.max_iter
        if self.method == "sinkhorn":
            plan = Plan(cost, reg).solve(max_iter, self.tol)
            self.log_potential_, self.target_rows_ = plan.log_target, target
            self.n_iter_, converged = plan.n_iter, plan.converged
        elif self.method == "emd":
            matrix, converged = _exact_plan(cost, max_iter)
            self._keep(source, matrix, target)
        else:
            coded = coded_labels(pair)
            codes, target_codes = coded.source[chosen[0]], coded.target[chosen[1]]
            other = (target_codes >= 0) & (codes[:, None] != target_codes)
            cost[other] = np.maximum(cost[other], _OTHER_CLASS * cost.max())
            matrix, plan = class_regularised_plan(
                cost, codes, reg, self.class_reg, max_iter, self.tol
            )
            self.n_iter_, converged = plan.n_iter, plan.converged
            self._keep(source, matrix, target)
        if not converged:
            warnings.warn(
                f"OptimalTransportMap did not converge in max_iter={max_iter} steps; raise it, or "
                "standardise the features"
                + ("" if self.method == "emd" else ", or raise reg (see normalise_cost, too)"),
                ConvergenceWarning,
                stacklevel=3,
            )

    def _check(self) -> np.random.RandomState:
        check_option("method", self.method, METHODS)
        if self.normalise_cost is not None:
            check_option("normalise_cost", self.normalise_cost, ("max", "median"))
        if self.reg is not None:
            check_number("reg", self.reg, include_low=self.method == "linear")
        check_number("class_reg", self.class_reg)
        check_flag("match_mean", self.match_mean)
        check_number("tol", self.tol)
        if self.max_iter is not None:
            check_scalar(self.max_iter, "max_iter", numbers.Integral, min_val=1)
        check_scalar(self.max_samples, "max_samples", numbers.Integral, min_val=2)
        return check_random_state(self.random_state)

    def _learn_linear(self, pair: Pair) -> None:
        check_two_rows("OptimalTransportMap(method='linear')", pair)
        ridge = (1e-8 if self.reg is None else self.reg) * np.eye(pair.source.shape[1])
        mean_s, mean_t = (
            rows.mean(axis=0) if self.match_mean else np.zeros(rows.shape[1])
            for rows in (pair.source, pair.target)
        )
        source = _moments(pair.source - mean_s) + ridge
        target = _moments(pair.target - mean_t) + ridge
        outer, inner = root(source, 0.5), root(source, -0.5)
        self.coef_ = inner @ root(outer @ target @ outer, 0.5) @ inner
        self.intercept_ = mean_t - mean_s @ self.coef_

    def _keep(self, source: np.ndarray, matrix: np.ndarray, target: np.ndarray) -> None:
        """The images of source rows; equal rows have one, so that the map is one."""
        # A row whose mass a plan that is not done has not moved yet stays where it is.
        mass = matrix.sum(axis=1, keepdims=True)
        images = np.where(mass > 0, matrix @ target / np.where(mass > 0, mass, 1.0), source)
        # Rows come sorted, so that equal ones are neighbours.
        first = np.append(True, (source[1:] != source[:-1]).any(axis=1)).nonzero()[0]
        sizes = np.diff(np.append(first, len(source)))
        self.source_rows_ = source[first]
        self.source_images_ = np.add.reduceat(images, first, axis=0) / sizes[:, None]

    def _map_source(self, X: np.ndarray) -> np.ndarray:
        if self.method == "linear":
            return X @ self.coef_ + self.intercept_
        if self.method == "sinkhorn":
            step = max(1, _BLOCK // len(self.target_rows_))
            return np.concatenate([self._weighted(X[b]) for b in gen_batches(len(X), step)])
        centre = self.source_rows_.mean(axis=0)
        nearest = pairwise_distances_argmin(X - centre, self.source_rows_ - centre)
        return X - self.source_rows_[nearest] + self.source_images_[nearest]

    def _weighted(self, X: np.ndarray) -> np.ndarray:
        """Means of the target rows under the weights of the plan."""
        reg = self.cost_scale_ * (1.0 if self.reg is None else self.reg)
        logarithms = squared_distances(X, self.target_rows_) / -reg + self.log_potential_
        # The largest weight is 1, however far a row is from all others.
        logarithms -= logarithms.max(axis=1, keepdims=True)
        weights = np.exp(logarithms, out=logarithms)
        return weights @ self.target_rows_ / weights.sum(axis=1, keepdims=True)

    def _map_target(self, X: np.ndarray) -> np.ndarray:
        return X


_FITTED = {
    "source_rows_",
    "source_images_",
    "target_rows_",
    "log_potential_",
    "cost_scale_",
    "coef_",
    "intercept_",
}


def _moments(rows: np.ndarray) -> np.ndarray:
    return rows.T @ rows / len(rows)


def _exact_plan(cost: np.ndarray, max_iter: int) -> tuple[np.ndarray, bool]:
    try:
        import ot
    except ImportError as error:
        raise ImportError(
            'OptimalTransportMap(method="emd") needs POT: pip install "sktransfer[adaptation]"; '
            "the other methods do without"
        ) from error
    weights = [np.full(count, 1 / count) for count in cost.shape]
    # POT takes differences below a fixed size for none. A power of 2 changes no digit.
    np.ldexp(cost, -int(np.frexp(cost.max())[1]), out=cost)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it is told by what is returned
        matrix, log = ot.emd(*weights, cost, numItermax=max_iter, log=True)
    return matrix, log["warning"] is None
