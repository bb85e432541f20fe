"""A map that moves the source rows onto the target rows by optimal transport."""

import warnings

import numpy as np
from sklearn.base import OneToOneFeatureMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import pairwise_distances_argmin
from sklearn.utils import check_random_state, gen_batches

from sktransfer._validation import Seed, check_count, check_flag, check_number, check_option
from sktransfer.adaptation._base import DomainMap, DomainPair
from sktransfer.adaptation._kernels import canonical_sample, squared_distances
from sktransfer.adaptation._labels import encode_classes
from sktransfer.adaptation._matrices import symmetric_power
from sktransfer.adaptation._sinkhorn import EntropicPlan, class_regularised_plan

METHODS = ("emd", "sinkhorn", "class-regularised", "linear")

_BLOCK = 2**22
"""Entries of a cost matrix in memory at a time for new rows: 32 MB."""

_DEFAULT_MAX_ITER = {"emd": 1_000_000, "sinkhorn": 1000, "class-regularised": 200}

_OTHER_CLASS = 10.0
"""Cost of moving a row to a labelled one of another class, in units of the largest cost."""


class OptimalTransportMap(OneToOneFeatureMixin, DomainMap):
    """Move the source rows onto the target rows at the least total cost [1]_.

    The cost is the squared Euclidean distance. Each source row moves to the mean of the target rows
    to which the transport plan brings its mass (the barycentric map); target rows do not move.

    Parameters
    ----------
    method : {"emd", "sinkhorn", "class-regularised", "linear"}, default="emd"
        "emd" is the exact plan, "sinkhorn" one that an entropy term makes smooth [2]_.
        "class-regularised" adds a penalty on target rows that get mass from several classes of
        the source, and so needs y; labelled target rows (`target_labeled`) hardly get mass from
        other classes. "linear" is the exact map between Gaussians of the domains' means and
        covariances: an affine map, in closed form, for any number of rows [3]_.
    reg : float or None, default=None
        Weight of the entropy, in units of the cost; the smaller, the closer to the exact plan and
        the slower. None takes 1. For "linear", the number that is added to the diagonals of the
        covariances, where None takes 1e-8. Not for "emd".
    class_reg : float, default=0.1
        Weight of the penalty of "class-regularised".
    match_mean : bool, default=True
        For "linear": False treats both means as 0, and matches the second moments about 0 by a map
        without an intercept.
    normalise_cost : {"max", "median"} or None, default=None
        Divide costs by their largest or median, so that `reg` has no unit.
    max_iter : int or None, default=None
        None takes 1,000,000 for "emd", 1,000 for "sinkhorn", and 200 in each of the ten rounds of
        "class-regularised".
    tol : float, default=1e-8
        For "sinkhorn" and "class-regularised": norm of the error in the target's weights at which
        iterations stop.
    max_samples : int, default=5000
        Most rows of each domain from which the plan is computed, drawn at random if there are
        more; memory grows with the product of their numbers, and time faster. Other rows are
        mapped like new ones.
    random_state : int, RandomState instance or None, default=None
        Seed of that draw, whose result does not depend on the order of the rows in X.

    Attributes
    ----------
    source_rows_ : ndarray of shape (n_distinct, n_features)
        Distinct source rows of the plan. For "emd" and "class-regularised".
    source_images_ : ndarray of shape (n_distinct, n_features)
        Images of these rows; the mean image of equal rows. For "emd" and "class-regularised".
    target_rows_ : ndarray of shape (n_target, n_features)
        For "sinkhorn".
    log_potential_ : ndarray of shape (n_target,)
        For "sinkhorn", where x moves to the mean of the target rows under the weights
        ``exp(log_potential_ - cost / reg)``.
    cost_scale_ : float
        Number by which costs were divided. Not for "linear".
    coef_ : ndarray of shape (n_features, n_features)
        For "linear", which maps x to ``x @ coef_ + intercept_``.
    intercept_ : ndarray of shape (n_features,)
        For "linear".
    n_iter_ : int
        Iterations of the solver, for "class-regularised" in the last round; 1 for "emd" and
        "linear", whose solvers do not report them.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only if X had names.

    Raises
    ------
    ValueError, TypeError
        A parameter is none of the above, or "class-regularised" got no y.
    ImportError
        "emd" needs POT, which is not installed.

    Warns
    -----
    ConvergenceWarning
        The plan is not optimal after `max_iter` iterations.

    Notes
    -----
    New source rows: "sinkhorn" and "linear" are functions of any x. For "emd" and
    "class-regularised" a row moves by the same vector as the nearest row of the plan [4]_.

    All mass of the source is brought to the target: if the domains differ in the frequency of
    their classes, some rows must move to another class, and results are worse than without.

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
        random_state: Seed = None,
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

    def _learn(self, pair: DomainPair) -> None:
        random = self._check()
        self.n_iter_ = 1
        # Attributes of an earlier fit by another method must not remain.
        for name in _FITTED & vars(self).keys():
            delattr(self, name)
        if self.method == "linear":
            self._learn_linear(pair)
            return
        chosen = [
            canonical_sample(rows, self.max_samples, random) for rows in (pair.source, pair.target)
        ]
        source, target = pair.source[chosen[0]], pair.target[chosen[1]]
        cost = squared_distances(source, target)
        self.cost_scale_ = 1.0
        if self.normalise_cost is not None:
            scale = float(cost.max() if self.normalise_cost == "max" else np.median(cost))
            self.cost_scale_ = scale if scale > 0 else 1.0
            cost /= self.cost_scale_
        reg = 1.0 if self.reg is None else self.reg
        max_iter = _DEFAULT_MAX_ITER[self.method] if self.max_iter is None else self.max_iter
        if self.method == "sinkhorn":
            plan = EntropicPlan(cost, reg).solve(max_iter, self.tol)
            self.log_potential_, self.target_rows_ = plan.log_target, target
            self.n_iter_, converged = plan.n_iter, plan.converged
        elif self.method == "emd":
            matrix, converged = _exact_plan(cost, max_iter)
            self._set_images(source, matrix, target)
        else:
            _, codes, target_codes = encode_classes(pair)
            codes, target_codes = codes[chosen[0]], target_codes[chosen[1]]
            other = (target_codes >= 0) & (codes[:, None] != target_codes)
            # Large but finite, since there may be no plan that avoids all of these pairs.
            cost[other] = np.maximum(cost[other], _OTHER_CLASS * cost.max())
            matrix, plan = class_regularised_plan(
                cost, codes, reg, self.class_reg, max_iter, self.tol
            )
            self.n_iter_, converged = plan.n_iter, plan.converged
            self._set_images(source, matrix, target)
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
        check_flag(self, "match_mean")
        check_number("tol", self.tol)
        if self.max_iter is not None:
            check_count("max_iter", self.max_iter)
        check_count("max_samples", self.max_samples, low=2)
        return check_random_state(self.random_state)

    def _learn_linear(self, pair: DomainPair) -> None:
        pair.require_two_rows("OptimalTransportMap(method='linear')")
        ridge = (1e-8 if self.reg is None else self.reg) * np.eye(pair.source.shape[1])
        mean_s, mean_t = (
            rows.mean(axis=0) if self.match_mean else np.zeros(rows.shape[1])
            for rows in (pair.source, pair.target)
        )
        source = _moments(pair.source - mean_s) + ridge
        target = _moments(pair.target - mean_t) + ridge
        # The map between Gaussians, S^(-1/2) (S^(1/2) T S^(1/2))^(1/2) S^(-1/2).
        outer, inner = symmetric_power(source, 0.5), symmetric_power(source, -0.5)
        self.coef_ = inner @ symmetric_power(outer @ target @ outer, 0.5) @ inner
        self.intercept_ = mean_t - mean_s @ self.coef_

    def _set_images(self, source: np.ndarray, matrix: np.ndarray, target: np.ndarray) -> None:
        """Set the images of source rows; equal rows share one, so that the map is a function."""
        # An unfinished plan may not have moved the mass of a row yet, which then stays in place.
        mass = matrix.sum(axis=1, keepdims=True)
        images = np.where(mass > 0, matrix @ target / np.where(mass > 0, mass, 1.0), source)
        # Rows are in canonical order, so that equal ones are adjacent.
        first = np.append(True, (source[1:] != source[:-1]).any(axis=1)).nonzero()[0]
        sizes = np.diff(np.append(first, len(source)))
        self.source_rows_ = source[first]
        self.source_images_ = np.add.reduceat(images, first, axis=0) / sizes[:, None]

    def _map_source(self, X: np.ndarray) -> np.ndarray:
        if self.method == "linear":
            return super()._map_source(X)
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
        # Scaled so that the largest weight is 1: all may underflow for a row far from all others.
        logarithms -= logarithms.max(axis=1, keepdims=True)
        weights = np.exp(logarithms, out=logarithms)
        return weights @ self.target_rows_ / weights.sum(axis=1, keepdims=True)


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
            "the other methods do not need it"
        ) from error
    weights = [np.full(count, 1 / count) for count in cost.shape]
    # POT treats reduced costs below a fixed size as 0, so that small costs must be scaled up. A
    # power of 2 changes no digit.
    np.ldexp(cost, -int(np.frexp(cost.max())[1]), out=cost)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the returned log tells of it, too
        matrix, log = ot.emd(*weights, cost, numItermax=max_iter, log=True)
    return matrix, log["warning"] is None
