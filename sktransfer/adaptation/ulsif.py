"""uLSIF: the density ratio of least squared error, in closed form."""

from collections.abc import Sequence

import numpy as np
from sklearn.utils import check_random_state

from sktransfer._validation import Seed
from sktransfer.adaptation._kernel_ratio import KernelRatio
from sktransfer.adaptation._kernels import check_candidates, squared_distances

_PENALTIES = 10.0 ** np.arange(-3, 2)
"""Candidates of ``regularization="auto"``."""


class ULSIF(KernelRatio):
    """Unconstrained least-squares importance fitting: the density ratio in closed form.

    The ratio is modelled as sum_j alpha_j exp(-gamma ||x - c_j||^2) with centres c_j among the
    target rows. alpha = max(0, (H + regularization I)^-1 h), where H is the mean product of
    kernels over the source and h the mean kernel over the target [1]_ (section 3.1), minimises the
    squared error of the ratio over the source. Its leave-one-out error has a closed form, too
    ([1]_, figure 2), by which gamma and regularization are chosen.

    Labels are assumed to depend on features in the same way in both domains (covariate shift). The
    squared error hardly counts where the source has few rows, so that ratios are often too small
    there. Standardise features first.

    Parameters
    ----------
    gamma : "auto", float or sequence of float, default="auto"
        Parameter of the kernel. From several values the one with the least leave-one-out error is
        chosen. "auto" tries seven, from 1/64 to 64 times that of the median distance between rows
        of both domains.
    regularization : "auto", float or sequence of float, default="auto"
        Ridge penalty of alpha, chosen likewise. "auto" tries 0.001, 0.01, 0.1, 1 and 10.
    n_centers : int, default=100
        Number of kernels; their centres are target rows, drawn at random if there are more.
    random_state : int, RandomState instance or None, default=None
        Seed of the draw of centres, and of the pairs of a source and a target row that are left
        out together. What is drawn does not depend on the order of the rows in X.

    Attributes
    ----------
    sample_weight_ : ndarray of shape (n_samples,)
        Weights of the rows of `fit`, in their order: source rows have mean 1, target rows 0.
    effective_sample_size_ : float
        Number of equally weighted rows that the source rows are worth, (sum w)^2 / sum w^2.
    gamma_ : float
    regularization_ : float
    centers_ : ndarray of shape (n_centers, n_features)
    dual_coef_ : ndarray of shape (n_centers,)
        alpha.
    cv_errors_ : dict of (float, float) to float, or None
        Leave-one-out error for each gamma and regularization (lower is better; it may be negative,
        as a constant is left out).
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        If X was a DataFrame.

    See Also
    --------
    KLIEP : The same model, by likelihood.

    References
    ----------
    .. [1] Kanamori, T., Hido, S., & Sugiyama, M. (2009). A least-squares approach to direct
       importance estimation. Journal of Machine Learning Research, 10, 1391-1445.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.adaptation import ULSIF
    >>> X = np.concatenate([np.linspace(-1, 1, 21), np.linspace(0, 1, 11)])[:, None]
    >>> ulsif = ULSIF(gamma=10.0, regularization=0.1)
    >>> ulsif = ulsif.fit(X, sample_domain=np.repeat([1, -1], [21, 11]))
    >>> ulsif.density_ratio([[-0.9], [0.5]]).round(2)
    array([0.  , 1.86])
    """

    def __init__(
        self,
        *,
        gamma: float | Sequence[float] | str = "auto",
        regularization: float | Sequence[float] | str = "auto",
        n_centers: int = 100,
        random_state: Seed = None,
    ) -> None:
        self.gamma = gamma
        self.regularization = regularization
        self.n_centers = n_centers
        self.random_state = random_state

    def _weights(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        gammas = self._candidates(source, target)
        if isinstance(self.regularization, str) and self.regularization == "auto":
            penalties = _PENALTIES
        else:
            penalties = check_candidates(self.regularization, "regularization")
        random = check_random_state(self.random_state)
        target = target[random.permutation(len(target))]
        shuffled = source[random.permutation(len(source))]
        self.centers_ = target[: self.n_centers]
        to_source, to_target = (
            squared_distances(shuffled, self.centers_),
            squared_distances(target, self.centers_),
        )
        # The middle candidates, if a domain has one row only, which cannot be left out.
        self.gamma_ = float(gammas[len(gammas) // 2])
        self.regularization_, self.cv_errors_ = float(penalties[len(penalties) // 2]), None
        if len(gammas) * len(penalties) > 1 and min(len(source), len(target)) > 1:
            self.cv_errors_ = {}
            for gamma in gammas:
                K_source, K_target = np.exp(-gamma * to_source), np.exp(-gamma * to_target)
                for penalty, error in zip(
                    penalties, leave_one_out_errors(K_source, K_target, penalties), strict=True
                ):
                    self.cv_errors_[float(gamma), float(penalty)] = error
            best = min(self.cv_errors_, key=self.cv_errors_.__getitem__)
            self.gamma_, self.regularization_ = best
        K_source = np.exp(-self.gamma_ * to_source)
        H = K_source.T @ K_source / len(source)
        h = np.exp(-self.gamma_ * to_target).mean(axis=0)
        alpha = np.linalg.solve(H + self.regularization_ * np.eye(len(h)), h)
        # A ratio is not negative. Clipping afterwards, as the paper does, keeps the closed form.
        self.dual_coef_ = np.maximum(alpha, 0)
        return self._ratio(source)


def leave_one_out_errors(
    K_source: np.ndarray, K_target: np.ndarray, penalties: np.ndarray
) -> list[float]:
    """Leave-one-out squared error of the ratio for each penalty, by kernels (n, n_centers).

    Row i of both is left out at once, up to the number of rows of the smaller one.
    """
    n_source, n_target = len(K_source), len(K_target)
    h = K_target.mean(axis=0)
    # In the eigenvectors of H the systems of all penalties are diagonal.
    values, vectors = np.linalg.eigh(K_source.T @ K_source / n_source)
    n = min(n_source, n_target)
    K, L = K_source[:n], K_target[:n]
    rotated, turned, mean = K @ vectors, L @ vectors, h @ vectors
    errors = []
    for penalty in penalties:
        # Without row i, H + penalty I is a multiple of B = H + (1 - 1 / n_source) penalty I minus
        # a matrix of rank one, so that the Sherman-Morrison formula gives its inverse.
        inverse = 1 / (values + penalty * (n_source - 1) / n_source)
        BK = rotated * inverse
        left = n_source - (rotated * BK).sum(axis=1)
        whole = mean * inverse + BK * ((BK @ mean) / left)[:, None]
        left_out = turned * inverse + BK * ((BK * turned).sum(axis=1) / left)[:, None]
        scale = (n_source - 1) / (n_source * (n_target - 1))
        alpha = np.maximum((scale * (n_target * whole - left_out)) @ vectors.T, 0)
        ratio = (K * alpha).sum(axis=1)
        errors.append(float((ratio**2).mean() / 2 - (L * alpha).sum(axis=1).mean()))
    return errors
