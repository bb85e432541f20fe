"""Kernel mean matching: weights that match the source's mean in a kernel space to the target's."""

import numbers

import numpy as np
from sklearn.utils import check_scalar

from sktransfer._validation import check_count, check_gamma
from sktransfer.adaptation._base import DomainWeights
from sktransfer.adaptation._kernel_matrices import kernel_of
from sktransfer.adaptation._kernels import median_gamma, rbf_mean
from sktransfer.adaptation._matching import solve_matching

_NO_OVERLAP = 1e-12
"""Mean kernel with the target that some source row must exceed for the domains to overlap."""


class KernelMeanMatching(DomainWeights):
    """Kernel mean matching: weights of source rows that give the source the target's kernel mean.

    Solves the quadratic programme [1]_ (section 3)

    minimise  b' K b / 2 - kappa' b  over  0 <= b_i <= bound  and  abs(sum(b) / n - 1) <= epsilon

    where K is the Gaussian kernel of the n source rows, and kappa_i is n times the mean kernel of
    source row i with the target. No density is estimated and no label is used.

    Weights cannot help where the target has rows and the source has none. They assume that labels
    depend on features in the same way in both domains (covariate shift). The solution is sparse:
    few rows get nearly all the weight, especially in many dimensions, as `effective_sample_size_`
    shows. A smaller `bound`, such as 5, spreads it. Standardise features first.

    Parameters
    ----------
    gamma : float or "median", default="median"
        Parameter of the kernel exp(-gamma ||x - y||^2). "median" is 1 / (2 m^2) for the median
        distance m between rows of both domains.
    bound : float, default=1000.0
        Largest weight (B in [1]_), relative to a mean weight of about 1. Must be above 1 - epsilon.
    epsilon : float or None, default=None
        Largest distance of the mean weight from 1, above 0. None is ``1 - 1 / sqrt(n)``.
    max_size : int, default=3000
        Most source rows for which the programme is solved with the full kernel matrix (72 MB and
        a few seconds at 3,000). For more, and for more than 3 * `n_components`, the matrix is
        approximated by `n_components` columns of its pivoted Cholesky factor [2]_, plus the rest
        of its diagonal; every row keeps a weight of its own, and kappa is exact.
    n_components : int, default=500
        Columns of that factor. Memory is that of n x n_components numbers: 80 MB for 20,000 rows.

    Attributes
    ----------
    sample_weight_ : ndarray of shape (n_samples,)
        Weights of the rows of `fit`, in their order: source rows have mean 1, target rows 0.
    effective_sample_size_ : float
        Number of equally weighted rows that the source rows are worth, (sum w)^2 / sum w^2.
    gamma_ : float
    mean_weight_ : float
        Mean weight of the programme's solution, before weights were scaled to mean 1.
    n_iter_ : int
        Steps of the solver, an interior point method.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        If X was a DataFrame.

    See Also
    --------
    KLIEP, ULSIF : Estimate a density ratio that applies to new rows, too.

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
            check_count(name, getattr(self, name))
        check_scalar(self.bound, "bound", numbers.Real, min_val=0, include_boundaries="neither")
        if self.epsilon is None:
            # The paper's default, which is 0 for a single row and would leave no interior.
            epsilon = max(1 - 1 / np.sqrt(n_source), 1e-3)
        else:
            epsilon = float(self.epsilon)
            check_scalar(epsilon, "epsilon", numbers.Real, min_val=0, include_boundaries="neither")
        if not 1 - epsilon < self.bound < np.inf or not epsilon < np.inf:
            raise ValueError(
                f"bound must be finite and above 1 - epsilon = {1 - epsilon:.4g}, or no weights "
                f"have a mean within epsilon of 1; got bound={self.bound}, epsilon={epsilon:.4g}"
            )
        return epsilon

    def _weights(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        n = len(source)
        epsilon = self._checked_epsilon(n)
        self.gamma_ = (
            median_gamma(source, target) if isinstance(self.gamma, str) else float(self.gamma)
        )
        kappa = n * rbf_mean(source, target, self.gamma_)
        if kappa.max() <= _NO_OVERLAP * n:
            return np.zeros(n)  # `fit` refuses weights that are all 0, with advice
        weights, self.n_iter_ = solve_matching(
            kernel_of(source, self.gamma_, self.max_size, self.n_components),
            kappa,
            bound=float(self.bound),
            low=n * (1 - epsilon),
            high=n * (1 + epsilon),
        )
        self.mean_weight_ = float(weights.mean())
        return weights
