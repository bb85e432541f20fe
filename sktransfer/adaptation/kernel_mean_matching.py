"""Weights under which the mean of the source, in a kernel's space, is that of the target."""

import numbers
from typing import Any

import numpy as np
from sklearn.utils import check_scalar

from sktransfer.adaptation._base import DomainWeights, Pair
from sktransfer.adaptation._kernel_matrices import kernel_of
from sktransfer.adaptation._kernels import canonical_order, check_gamma, median_gamma, rbf_mean
from sktransfer.adaptation._matching import solve_matching

_NO_OVERLAP = 1e-12
"""Greatest mean kernel of a source row with the target at which the domains do not meet."""


class KernelMeanMatching(DomainWeights):
    """Kernel mean matching: weights of source rows that give the source the target's kernel mean.

    Solves the quadratic programme [1]_ (section 3)

    minimise  b' K b / 2 - kappa' b  over  0 <= b_i <= bound  and  abs(sum(b) / n - 1) <= epsilon

    where K is the Gaussian kernel of the n source rows, and kappa_i is n times the mean kernel of
    source row i with the target. No density is estimated and no label is used.

    The weights take only rows which the source has: where the target has rows and the source none,
    they cannot help. They assume that labels depend on features alike in both domains (covariate
    shift). The solution is sparse: few rows get nearly all the weight, as
    `effective_sample_size_` shows, the more so in many dimensions. A smaller `bound`, such as 5,
    spreads it. Standardise features first.

    Parameters
    ----------
    gamma : float or "median", default="median"
        Of the kernel exp(-gamma ||x - y||^2). "median" is 1 / (2 m^2) for the median distance m
        between rows of both domains.
    bound : float, default=1000.0
        Greatest weight (B in [1]_), where the mean weight is about 1. Must be above 1 - epsilon.
    epsilon : float or None, default=None
        How far the mean weight may be from 1, above 0. None is ``1 - 1 / sqrt(n)``.
    max_size : int, default=3000
        Source rows up to which the programme is solved with the kernel matrix in full (72 MB and
        a few seconds at 3,000). Beyond, and beyond 3 * `n_components` rows, the matrix is
        approximated by `n_components` columns of its pivoted Cholesky factor [2]_, plus the rest
        of its diagonal; every row keeps a weight of its own, and kappa is exact.
    n_components : int, default=500
        Memory is that of n x n_components numbers: 80 MB for 20,000 rows.

    Attributes
    ----------
    sample_weight_ : ndarray of shape (n_samples,)
        Of the rows of `fit` in their order. Source rows have mean 1, target rows 0.
    effective_sample_size_ : float
        How many rows of equal weight the weighted source rows are worth, (sum w)^2 / sum w^2.
    gamma_ : float
    mean_weight_ : float
        Of the programme's solution, before weights were scaled to mean 1.
    n_iter_ : int
        Steps of the solver, an interior point method.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        If X was a DataFrame.

    See Also
    --------
    KLIEP, ULSIF : Give a density ratio, that new rows have, too.

    References
    ----------
    .. [1] Huang, J., Smola, A. J., Gretton, A., Borgwardt, K. M., & Schoelkopf, B. (2007).
       Correcting sample selection bias by unlabeled data. NIPS 19.
    .. [2] Fine, S., & Scheinberg, K. (2001). Efficient SVM training using low-rank kernel
       representations. Journal of Machine Learning Research, 2, 243-264.

    Examples
    --------
    The target is the right half of the source, which gets nearly all the weight.

    >>> import numpy as np
    >>> from sktransfer.adaptation import KernelMeanMatching
    >>> X = np.concatenate([np.linspace(-1, 1, 21), np.linspace(0, 1, 11)])[:, None]
    >>> sample_domain = np.repeat([1, -1], [21, 11])
    >>> matching = KernelMeanMatching().fit(X, sample_domain=sample_domain)
    >>> weights = matching.sample_weight_
    >>> bool(weights[:9].sum() < 0.1 * weights[10:].sum())
    True
    >>> weights[21:].tolist() == [0.0] * 11
    True
    """

    gamma_: float
    mean_weight_: float
    n_iter_: int

    def __init__(
        self,
        *,
        gamma: float | str = "median",
        bound: float = 1000.0,
        epsilon: float | None = None,
        max_size: int = 3000,
        n_components: int = 500,
    ) -> None:
        self.gamma = gamma
        self.bound = bound
        self.epsilon = epsilon
        self.max_size = max_size
        self.n_components = n_components

    def _checked_epsilon(self, n_source: int) -> float:
        check_gamma(self.gamma)
        for name in ("max_size", "n_components"):
            check_scalar(getattr(self, name), name, numbers.Integral, min_val=1)
        positive: dict[str, Any] = {"min_val": 0, "include_boundaries": "neither"}
        check_scalar(self.bound, "bound", numbers.Real, **positive)
        if self.epsilon is None:
            epsilon = max(1 - 1 / np.sqrt(n_source), 1e-3)
        else:
            epsilon = float(check_scalar(self.epsilon, "epsilon", numbers.Real, **positive))
        if not 1 - epsilon < self.bound < np.inf or not epsilon < np.inf:
            raise ValueError(
                f"bound must be finite and above 1 - epsilon = {1 - epsilon:.4g}, or no weights "
                f"have a mean within epsilon of 1; got bound={self.bound}, epsilon={epsilon:.4g}"
            )
        return epsilon

    def _weights(self, pair: Pair) -> np.ndarray:
        epsilon = self._checked_epsilon(len(pair.source))
        order = canonical_order(pair.source)
        source, target = pair.source[order], pair.target[canonical_order(pair.target)]
        n = len(source)
        self.gamma_ = (
            median_gamma(source, target) if isinstance(self.gamma, str) else float(self.gamma)
        )
        kappa = n * rbf_mean(source, target, self.gamma_)
        weights = np.zeros(n)
        if kappa.max() <= _NO_OVERLAP * n:
            return weights
        weights[order], self.n_iter_ = solve_matching(
            kernel_of(source, self.gamma_, self.max_size, self.n_components),
            kappa,
            bound=float(self.bound),
            low=n * (1 - epsilon),
            high=n * (1 + epsilon),
        )
        self.mean_weight_ = float(weights.mean())
        return weights
