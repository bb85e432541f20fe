"""Each domain standardised by itself."""

from typing import Any, Self

import numpy as np
from sklearn.base import OneToOneFeatureMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data

from sktransfer._validation import checked_domain
from sktransfer.adaptation._base import DomainMap, Pair
from sktransfer.adaptation._maps import check_flag


class DomainStandardScaler(OneToOneFeatureMixin, DomainMap):
    """Standardise each domain by its own mean and standard deviation.

    The simplest of all adaptations, and one to measure others by: what differs between domains
    in shift and scale of single features is gone. Every number in `sample_domain` is a domain of
    its own, so that several sources, or several targets, are standardised one by one.

    Parameters
    ----------
    with_mean : bool, default=True
        Whether means are taken to 0.
    with_std : bool, default=True
        Whether standard deviations are taken to 1. Constant features are left as they are.

    Attributes
    ----------
    domains_ : ndarray of shape (n_domains,)
        The numbers that `sample_domain` held, in rising order; ``[-1, 1]`` without it.
    mean_ : ndarray of shape (n_domains, n_features)
    scale_ : ndarray of shape (n_domains, n_features)
        Standard deviations, 1 for constant features.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only if X had names.

    Raises
    ------
    ValueError
        A parameter is no bool; or, from `transform`, a domain is asked for that `fit` has not
        seen.

    Notes
    -----
    `transform` without `sample_domain` takes rows for rows of the target; where there were
    several targets, by mean and deviation of all their rows together. Like other methods of this
    kind it does harm where the domains differ in how frequent their classes are. It is known from
    brain-computer interfaces and acoustics, where each recording is standardised by itself.

    References
    ----------
    .. [1] Y. Li, N. Wang, J. Shi, X. Hou and J. Liu, "Adaptive batch normalization for practical
       domain adaptation", Pattern Recognition 80, 2018, algorithm 1: the same for each unit of a
       network.

    Examples
    --------
    >>> from sktransfer.adaptation import DomainStandardScaler
    >>> X, sample_domain = [[0.0], [2.0], [10.0], [30.0]], [1, 1, -1, -1]
    >>> DomainStandardScaler().fit_transform(X, sample_domain=sample_domain).tolist()
    [[-1.0], [1.0], [-1.0], [1.0]]
    """

    domains_: np.ndarray
    mean_: np.ndarray
    scale_: np.ndarray

    def __init__(self, *, with_mean: bool = True, with_std: bool = True) -> None:
        self.with_mean = with_mean
        self.with_std = with_std

    def fit(
        self, X: Any, y: Any = None, *, sample_domain: Any = None, target_labeled: Any = None
    ) -> Self:
        """Learn means and deviations.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of all domains, in any order.
        y : Ignored
        sample_domain : array-like of shape (n_samples,) or None, default=None
            Which domain each row is of, positive for sources and negative for targets. None takes
            all rows for both, with a `DomainWarning`.
        target_labeled : Ignored

        Returns
        -------
        self
        """
        self._fitted_rows(X, y, sample_domain, target_labeled)
        return self

    def fit_transform(
        self, X: Any, y: Any = None, *, sample_domain: Any = None, target_labeled: Any = None
    ) -> np.ndarray:
        """Learn means and deviations, and standardise the same rows.

        Parameters are those of `fit`, the result that of `transform`.
        """
        self._fitted_rows(X, y, sample_domain, target_labeled)
        return self.transform(X, sample_domain=sample_domain)

    def _fitted_rows(self, X: Any, y: Any, sample_domain: Any, target_labeled: Any) -> None:
        pair, _, X = self._split(X, y, sample_domain, target_labeled)
        self._learn(pair)
        if sample_domain is None:
            return
        domain, table = checked_domain(sample_domain, len(X)), X.astype(np.float64)
        self.domains_ = np.unique(domain)
        self.mean_, self.scale_ = (
            np.stack(each)
            for each in zip(
                *(self._moments(table[domain == d]) for d in self.domains_), strict=True
            )
        )

    def _learn(self, pair: Pair) -> None:
        check_flag("with_mean", self.with_mean)
        check_flag("with_std", self.with_std)
        self._source, self._target = self._moments(pair.source), self._moments(pair.target)
        self.domains_ = np.array([-1, 1])
        self.mean_, self.scale_ = (
            np.stack(each) for each in zip(self._target, self._source, strict=True)
        )

    def _moments(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scaler = StandardScaler(with_mean=self.with_mean, with_std=self.with_std).fit(rows)
        width = rows.shape[1]
        mean = scaler.mean_ if self.with_mean else np.zeros(width)
        return mean, scaler.scale_ if self.with_std else np.ones(width)

    def _map_source(self, X: np.ndarray) -> np.ndarray:
        return (X - self._source[0]) / self._source[1]

    def _map_target(self, X: np.ndarray) -> np.ndarray:
        return (X - self._target[0]) / self._target[1]

    def transform(self, X: Any, *, sample_domain: Any = None) -> np.ndarray:
        """Standardise rows, each as one of its domain.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        sample_domain : array-like of shape (n_samples,) or None, default=None
            Numbers that `fit` has seen. None takes rows for rows of the target.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_features)
            In the order of X, float32 if X is, else float64.
        """
        check_is_fitted(self)
        if sample_domain is None:
            return super().transform(X)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        domain = checked_domain(sample_domain, len(X))
        strange = np.setdiff1d(domain, self.domains_)
        if len(strange):
            raise ValueError(
                f"sample_domain holds {strange[0]}, and fit has seen {self.domains_.tolist()}; "
                "leave sample_domain out to take all rows for rows of the target"
            )
        which = np.searchsorted(self.domains_, domain)
        return ((X - self.mean_[which]) / self.scale_[which]).astype(X.dtype, copy=False)
