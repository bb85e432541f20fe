"""Feature transfer by second moments: covariances and principal axes."""

import numbers
from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, OneToOneFeatureMixin
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_scalar

from sktransfer.adaptation._base import DomainMap, Pair
from sktransfer.adaptation._maps import (
    check_flag,
    check_number,
    check_two_rows,
    covariance,
    root,
    with_signs,
)


class CORAL(OneToOneFeatureMixin, DomainMap):
    """Correlation alignment: give the source rows the covariance of the target [1]_.

    A source row x becomes ``(x - m_s) C_s^(-1/2) C_t^(1/2) + m_t``; target rows stay as they are.

    Parameters
    ----------
    reg : float or "auto", default=1.0
        What is added to both covariances' diagonals, in squared units of the features. 1 is that
        of the paper, which is meant for standardised features; 0 makes the covariances exactly
        equal, if that of the source has full rank. "auto" shrinks each covariance by Ledoit and
        Wolf's rule [2]_ instead, which depends on no unit.
    match_mean : bool, default=True
        Whether the mean of the source is moved to that of the target, too. The paper standardises
        each domain first, so that both means are 0 and it makes no difference. Otherwise False,
        which leaves out m_s and m_t, gives the source a mean that depends on where the features
        have their zero.

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
        A parameter is none of the above, or a domain has less than two rows.

    Notes
    -----
    Two moments are all that is aligned. It does harm where the domains differ in how frequent
    their classes are, since the moments of the whole then differ rightly, and where the target
    is the source turned inside out (an inverted image has the same covariance).

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

    coef_: np.ndarray
    intercept_: np.ndarray

    def __init__(self, reg: float | str = 1.0, *, match_mean: bool = True) -> None:
        self.reg = reg
        self.match_mean = match_mean

    def _learn(self, pair: Pair) -> None:
        if isinstance(self.reg, str):
            if self.reg != "auto":
                raise ValueError(f"reg must be a number from 0 on or 'auto', got {self.reg!r}")
        else:
            check_number("reg", self.reg)
        check_flag("match_mean", self.match_mean)
        check_two_rows("CORAL", pair)
        whiten = root(self._covariance(pair.source), -0.5)
        self.coef_ = whiten @ root(self._covariance(pair.target), 0.5)
        self.intercept_ = np.zeros(len(self.coef_))
        if self.match_mean:
            self.intercept_ = pair.target.mean(axis=0) - pair.source.mean(axis=0) @ self.coef_

    def _covariance(self, rows: np.ndarray) -> np.ndarray:
        if not isinstance(self.reg, str):
            return covariance(rows) + self.reg * np.eye(rows.shape[1])
        # Shrunk towards the identity, which only standardised features have in common.
        scaler = StandardScaler().fit(rows)
        shrunk, _ = ledoit_wolf(scaler.transform(rows))
        return shrunk * np.outer(scaler.scale_, scaler.scale_)

    def _map_source(self, X: np.ndarray) -> np.ndarray:
        return X @ self.coef_ + self.intercept_

    def _map_target(self, X: np.ndarray) -> np.ndarray:
        return X


class SubspaceAlignment(ClassNamePrefixFeaturesOutMixin, DomainMap):
    """Turn the principal axes of the source into those of the target [1]_.

    Target rows become their coordinates on the principal axes of the target; source rows those
    on the axes of the source, times the matrix ``P_s P_t^T`` that brings the one closest to the
    other.

    Parameters
    ----------
    n_components : int, float or None, default=0.9
        How many axes of each domain. A float in (0, 1): so many that this share of the variance
        is kept in both domains. None: all that both have, ``min(n_source, n_target, n_features)``;
        with as many axes as features nothing is turned, and what remains is to centre each domain.

    Attributes
    ----------
    source_components_, target_components_ : ndarray of shape (n_components_, n_features)
        Principal axes P_s and P_t, as rows.
    source_mean_, target_mean_ : ndarray of shape (n_features,)
    alignment_ : ndarray of shape (n_components_, n_components_)
        P_s P_t^T, which multiplies source coordinates from the right.
    n_components_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only if X had names.

    Raises
    ------
    ValueError
        `n_components` is none of the above, or a domain has less than two rows.

    Notes
    -----
    Axes are turned, not scaled, and their order is that of the variance: a feature that the
    domains weigh differently may come to lie on another one. Standardise first, as the paper
    does. It is no use where the classes differ along directions of little variance.

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

    source_components_: np.ndarray
    target_components_: np.ndarray
    source_mean_: np.ndarray
    target_mean_: np.ndarray
    alignment_: np.ndarray
    n_components_: int

    def __init__(self, n_components: int | float | None = 0.9) -> None:
        self.n_components = n_components

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def _learn(self, pair: Pair) -> None:
        check_two_rows("SubspaceAlignment", pair)
        most = min(*pair.source.shape, len(pair.target))
        wanted: Any = self.n_components
        if isinstance(wanted, float | np.floating):
            if not 0 < wanted < 1:
                raise ValueError(
                    "n_components must be a whole number, a share in (0, 1) or None, got "
                    f"{wanted!r}"
                )
        elif wanted is not None:
            check_scalar(wanted, "n_components", numbers.Integral, min_val=1, max_val=most)
        source, target = _axes(pair.source), _axes(pair.target)
        if wanted is None:
            kept = most
        elif isinstance(wanted, float | np.floating):
            kept = min(most, max(_enough(pca, float(wanted)) for pca in (source, target)))
        else:
            kept = int(wanted)
        self.n_components_ = kept
        self.source_mean_, self.target_mean_ = source.mean_, target.mean_
        self.source_components_ = with_signs(source.components_[:kept].T).T
        self.target_components_ = with_signs(target.components_[:kept].T).T
        self.alignment_ = self.source_components_ @ self.target_components_.T

    def _map_source(self, X: np.ndarray) -> np.ndarray:
        return (X - self.source_mean_) @ self.source_components_.T @ self.alignment_

    def _map_target(self, X: np.ndarray) -> np.ndarray:
        return (X - self.target_mean_) @ self.target_components_.T


def _axes(rows: np.ndarray) -> PCA:
    # Never the randomised solver, which would need a seed.
    return PCA(svd_solver="covariance_eigh" if len(rows) >= rows.shape[1] else "full").fit(rows)


def _enough(pca: PCA, share: float) -> int:
    """The least number of axes that keep a share of the variance."""
    variances = pca.explained_variance_
    sums = np.cumsum(variances)
    return int(np.searchsorted(sums, share * sums[-1])) + 1
