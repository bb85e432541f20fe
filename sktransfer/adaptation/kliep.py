"""KLIEP: the density ratio of maximum likelihood."""

from collections.abc import Sequence

import numpy as np
from sklearn.utils import check_random_state

from sktransfer._validation import Seed, check_count
from sktransfer.adaptation._kernel_ratio import KernelRatio
from sktransfer.adaptation._kernels import squared_distances
from sktransfer.adaptation._mixture import mixture_proportions

_NEGLIGIBLE = 1e-30
"""Kernel values below this share of a row's largest are set to 0: they do not change the sum, and
denormal numbers make products slow."""

_LEAST_MEAN_KERNEL = 1e-290
"""Centres whose mean kernel with the source is smaller are left out: their weights overflow."""


class KLIEP(KernelRatio):
    """Kullback-Leibler importance estimation procedure: the density ratio of maximum likelihood.

    The ratio is modelled as sum_j alpha_j exp(-gamma ||x - c_j||^2) with centres c_j among the
    target rows; alpha maximises the mean logarithm of the ratio over the target, alpha >= 0, such
    that the mean ratio over the source is 1 [1]_ (section 2). That is a concave problem, which is
    solved to a proven distance of 1e-9 from its maximum.

    Labels are assumed to depend on features in the same way in both domains (covariate shift). The
    ratio is a sum of kernels at target rows: it is 0 far from them, and cannot be estimated where
    the source has no rows. Standardise features first.

    Parameters
    ----------
    gamma : "auto", float or sequence of float, default="auto"
        Parameter of the kernel. From several values the one with the highest likelihood of
        held-out target rows is chosen. "auto" tries seven, from 1/64 to 64 times that of the
        median distance between rows of both domains.
    cv : int, default=5
        Number of folds of the target rows by which gamma is chosen.
    n_centers : int, default=100
        Number of kernels; their centres are target rows, drawn at random if there are more.
    random_state : int, RandomState instance or None, default=None
        Seed of the draw of centres and of the folds, whose result does not depend on the order of
        the rows in X.

    Attributes
    ----------
    sample_weight_ : ndarray of shape (n_samples,)
        Weights of the rows of `fit`, in their order: source rows have mean 1, target rows 0.
    effective_sample_size_ : float
        Number of equally weighted rows that the source rows are worth, (sum w)^2 / sum w^2.
    gamma_ : float
    centers_ : ndarray of shape (n_centers, n_features)
    dual_coef_ : ndarray of shape (n_centers,)
        alpha.
    score_ : float
        Mean logarithm of the ratio over the target rows of `fit`, an estimate of the
        Kullback-Leibler divergence of the source from the target.
    cv_scores_ : dict of float to float, or None
        Mean logarithm of the ratio over held-out rows for each gamma.
    n_iter_ : int
        Steps of the solver.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        If X was a DataFrame.

    See Also
    --------
    ULSIF : A closed form for another loss, the fastest choice among many gammas.
    KernelMeanMatching : Weights without a model of the ratio.

    References
    ----------
    .. [1] Sugiyama, M., Nakajima, S., Kashima, H., von Buenau, P., & Kawanabe, M. (2008). Direct
       importance estimation with model selection and its application to covariate shift
       adaptation. NIPS 20.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.adaptation import KLIEP
    >>> X = np.concatenate([np.linspace(-1, 1, 21), np.linspace(0, 1, 11)])[:, None]
    >>> kliep = KLIEP(gamma=10.0).fit(X, sample_domain=np.repeat([1, -1], [21, 11]))
    >>> kliep.density_ratio([[-0.9], [0.5]]).round(2)
    array([0.  , 1.93])
    """

    def __init__(
        self,
        *,
        gamma: float | Sequence[float] | str = "auto",
        cv: int = 5,
        n_centers: int = 100,
        random_state: Seed = None,
    ) -> None:
        self.gamma = gamma
        self.cv = cv
        self.n_centers = n_centers
        self.random_state = random_state

    def _weights(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        check_count("cv", self.cv, low=2)
        gammas = self._candidates(source, target)
        target = target[check_random_state(self.random_state).permutation(len(target))]
        self.gamma_, self.cv_scores_ = float(gammas[0]), None
        if len(gammas) > 1:
            self.cv_scores_ = self._scores(source, target, gammas)
            self.gamma_ = max(self.cv_scores_, key=self.cv_scores_.__getitem__)
        centers = target[: self.n_centers]
        exponents = -self.gamma_ * squared_distances(target, centers)
        kernel = np.exp(-self.gamma_ * squared_distances(source, centers))
        alpha, self.n_iter_ = _most_likely(exponents, kernel.mean(axis=0))
        self.centers_, self.dual_coef_ = centers, alpha
        weights = kernel @ alpha
        if weights.any():
            self.score_ = float(_log_ratio(exponents, alpha).mean())
        return weights

    def _scores(
        self, source: np.ndarray, target: np.ndarray, gammas: np.ndarray
    ) -> dict[float, float]:
        """Mean log-ratio of held-out target rows under each gamma.

        Centres are rows that are not held out: at a centre any narrow kernel would look good.
        """
        n_folds = min(self.cv, len(target))
        if n_folds < 2:
            # A single row cannot be held out; the middle candidate is that of the median distance.
            return {float(gammas[len(gammas) // 2]): np.nan}
        fold = np.arange(len(target)) % n_folds
        # So many candidates that n_centers of them remain in every training fold.
        pool = min(len(target), -(-self.n_centers * n_folds // (n_folds - 1)))
        to_target, to_source = (
            squared_distances(target, target[:pool]),
            squared_distances(source, target[:pool]),
        )
        scores = {}
        for gamma in gammas:
            mean_kernel = np.exp(-gamma * to_source).mean(axis=0)
            # Single precision is enough to compare kernels, and takes half the time.
            exponents = (-gamma * to_target).astype(np.float32)
            total = 0.0
            for k in range(n_folds):
                centers = np.flatnonzero(fold[:pool] != k)[: self.n_centers]
                train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
                alpha, _ = _most_likely(
                    exponents[np.ix_(train, centers)], mean_kernel[centers], tol=1e-4
                )
                total += _log_ratio(exponents[np.ix_(test, centers)], alpha).sum()
            scores[float(gamma)] = float(total) / len(target)
        return scores


def _most_likely(
    exponents: np.ndarray, mean_kernel: np.ndarray, tol: float = 1e-9
) -> tuple[np.ndarray, int]:
    """alpha, given logarithms of the kernel between target rows and centres, and steps taken.

    With alpha_j = p_j / mean_kernel_j the constraint says that p sums to 1: it is a mixture.
    """
    alpha = np.zeros(len(mean_kernel))
    near = mean_kernel > _LEAST_MEAN_KERNEL
    if not near.any():
        return alpha, 0
    logs = exponents[:, near] - np.log(mean_kernel[near]).astype(exponents.dtype)
    # A factor of a row only adds a constant to the log likelihood: scale its largest entry to 1.
    logs -= logs.max(axis=1, keepdims=True)
    P = np.exp(logs, out=logs)
    P[P < _NEGLIGIBLE] = 0.0
    used = P.any(axis=0)
    p, n_iter = mixture_proportions(P[:, used], tol=tol)
    near[near] = used
    alpha[near] = p / mean_kernel[near]
    return alpha, n_iter


def _log_ratio(exponents: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Logarithm of the ratio, also where the ratio itself would underflow to zero."""
    used = alpha > 0
    if not used.any():
        return np.full(len(exponents), -np.inf)
    some = exponents[:, used]
    largest = some.max(axis=1)
    some -= largest[:, None]
    return largest + np.log(np.exp(some, out=some) @ alpha[used])
