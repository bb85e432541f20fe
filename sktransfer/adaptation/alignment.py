"""Maps that align the covariances (CORAL) or the principal axes of two domains."""

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, OneToOneFeatureMixin
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from sktransfer._validation import check_count, check_flag, check_number
from sktransfer.adaptation._base import DomainMap, DomainPair
from sktransfer.adaptation._matrices import covariance, fix_signs, symmetric_power


class CORAL(OneToOneFeatureMixin, DomainMap):
    """Correlation alignment (CORAL): give the source rows the covariance of the target [1]_.

    A source row x becomes ``(x - m_s) C_s^(-1/2) C_t^(1/2) + m_t``; target rows stay as they are.

    Parameters
    ----------
    reg : float or "auto", default=1.0
        Number that is added to the diagonals of both covariances, in squared units of the
        features. 1 is the paper's, for standardised features; 0 makes the covariances exactly
        equal, if that of the source has full rank. "auto" shrinks each covariance by Ledoit and
        Wolf's rule [2]_ instead, which depends on no unit.
    match_mean : bool, default=True
        Whether to move the mean of the source to that of the target, too. It makes no difference
        if each domain is standardised first, as in the paper. Otherwise False, which leaves out
        m_s and m_t, gives the source a mean that depends on the origin of the features.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features, n_features)
        C_s^(-1/2) C_t^(1/2).
    intercept_ : ndarray of shape (n_features,)
        Source rows are mapped to ``x @ coef_ + intercept_``.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only if X had names.

    Raises
    ------
    ValueError
        A parameter is none of the above, or a domain has fewer than two rows.

    Notes
    -----
    Only the first two moments are aligned. That does harm if the domains differ in the frequency
    of their classes, since then their moments should differ, and if features are mirrored
    (inverting all features does not change their covariance).

    References
    ----------
    .. [1] B. Sun, J. Feng and K. Saenko, "Return of frustratingly easy domain adaptation", AAAI
       2016, algorithm 1.
    .. [2] O. Ledoit and M. Wolf, "A well-conditioned estimator for large-dimensional covariance
       matrices", Journal of Multivariate Analysis 88, 2004, equation 14.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.adaptation import CORAL, stack_domains
    >>> X_source, X_target = [[0.0], [2.0]], [[10.0], [16.0]]
    >>> X, _, sample_domain = stack_domains(X_source, X_target)
    >>> CORAL(reg=0).fit_transform(X, sample_domain=sample_domain).round(3).tolist()
    [[10.0], [16.0], [10.0], [16.0]]
    """

    def __init__(self, reg: float | str = 1.0, *, match_mean: bool = True) -> None:
        self.reg = reg
        self.match_mean = match_mean

    def _learn(self, pair: DomainPair) -> None:
        if isinstance(self.reg, str):
            if self.reg != "auto":
                raise ValueError(f"reg must be 'auto' or a number of at least 0, got {self.reg!r}")
        else:
            check_number("reg", self.reg)
        check_flag(self, "match_mean")
        pair.require_two_rows("CORAL")
        whiten = symmetric_power(self._covariance(pair.source), -0.5)
        self.coef_ = whiten @ symmetric_power(self._covariance(pair.target), 0.5)
        self.intercept_ = np.zeros(len(self.coef_))
        if self.match_mean:
            self.intercept_ = pair.target.mean(axis=0) - pair.source.mean(axis=0) @ self.coef_

    def _covariance(self, rows: np.ndarray) -> np.ndarray:
        if not isinstance(self.reg, str):
            return covariance(rows) + self.reg * np.eye(rows.shape[1])
        # The rule shrinks towards a multiple of the identity: first scale features to variance 1.
        scaler = StandardScaler().fit(rows)
        shrunk, _ = ledoit_wolf(scaler.transform(rows))
        return shrunk * np.outer(scaler.scale_, scaler.scale_)


class SubspaceAlignment(ClassNamePrefixFeaturesOutMixin, DomainMap):
    """Rotate the principal axes of the source into those of the target [1]_.

    Target rows are mapped to their coordinates on the principal axes of the target; source rows
    to those on the axes of the source, times the matrix ``P_s P_t^T`` that brings the two sets of
    axes closest together.

    Parameters
    ----------
    n_components : int, float or None, default=0.9
        Number of axes of each domain. A float in (0, 1) takes as many as keep this share of the
        variance in both domains. None takes all that both have, ``min(n_source, n_target,
        n_features)``; with as many axes as features the map only centres each domain.

    Attributes
    ----------
    source_components_, target_components_ : ndarray of shape (n_components_, n_features)
        Principal axes P_s and P_t, as rows.
    source_mean_, target_mean_ : ndarray of shape (n_features,)
    alignment_ : ndarray of shape (n_components_, n_components_)
        P_s P_t^T, by which source coordinates are multiplied from the right.
    n_components_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only if X had names.

    Raises
    ------
    ValueError
        `n_components` is none of the above, or a domain has fewer than two rows.

    Notes
    -----
    Axes are rotated, not scaled, and ordered by their variance: a feature that the domains scale
    differently may be aligned with another one. Standardise first, as the paper does. It is no
    use if the classes differ along directions of little variance.

    References
    ----------
    .. [1] B. Fernando, A. Habrard, M. Sebban and T. Tuytelaars, "Unsupervised visual domain
       adaptation using subspace alignment", ICCV 2013, equations 1 to 4 and algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.adaptation import SubspaceAlignment, stack_domains
    >>> X_source, X_target = np.diag([3.0, 1.0, 0.1]), np.diag([0.1, 1.0, 3.0])
    >>> X, _, sample_domain = stack_domains(X_source, X_target)
    >>> Z = SubspaceAlignment(n_components=1).fit_transform(X, sample_domain=sample_domain)
    >>> Z.shape
    (6, 1)
    """

    def __init__(self, n_components: int | float | None = 0.9) -> None:
        self.n_components = n_components

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def _learn(self, pair: DomainPair) -> None:
        pair.require_two_rows("SubspaceAlignment")
        most = min(*pair.source.shape, len(pair.target))
        wanted = self.n_components
        if isinstance(wanted, float | np.floating):
            if not 0 < wanted < 1:
                raise ValueError(
                    f"n_components must be an integer, a share in (0, 1) or None, got {wanted!r}"
                )
        elif wanted is not None:
            check_count("n_components", wanted, high=most)
        source, target = _axes(pair.source), _axes(pair.target)
        if wanted is None:
            n_axes = most
        elif isinstance(wanted, float | np.floating):
            n_axes = min(most, max(_n_axes(pca, float(wanted)) for pca in (source, target)))
        else:
            n_axes = int(wanted)
        self.n_components_ = n_axes
        self.source_mean_, self.target_mean_ = source.mean_, target.mean_
        self.source_components_ = fix_signs(source.components_[:n_axes].T).T
        self.target_components_ = fix_signs(target.components_[:n_axes].T).T
        self.alignment_ = self.source_components_ @ self.target_components_.T

    def _map_source(self, X: np.ndarray) -> np.ndarray:
        return (X - self.source_mean_) @ self.source_components_.T @ self.alignment_

    def _map_target(self, X: np.ndarray) -> np.ndarray:
        return (X - self.target_mean_) @ self.target_components_.T


def _axes(rows: np.ndarray) -> PCA:
    # PCA's default may choose the randomised solver, which would need a seed.
    return PCA(svd_solver="covariance_eigh" if len(rows) >= rows.shape[1] else "full").fit(rows)


def _n_axes(pca: PCA, share: float) -> int:
    """Least number of axes that keep a share of the variance."""
    variances = pca.explained_variance_
    sums = np.cumsum(variances)
    return int(np.searchsorted(sums, share * sums[-1])) + 1
