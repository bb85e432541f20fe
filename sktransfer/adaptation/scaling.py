"""A scaler that standardises each domain by its own mean and standard deviation."""

from typing import Any

import numpy as np
from sklearn.base import OneToOneFeatureMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data

from sktransfer._validation import Vector, check_flag, checked_domain
from sktransfer.adaptation._base import DomainMap, DomainPair


class DomainStandardScaler(OneToOneFeatureMixin, DomainMap):
    """Standardise each domain by its own mean and standard deviation.

    The simplest adaptation, and a baseline for others: it removes the differences between domains
    in location and scale of single features. Every number in `sample_domain` is a domain of its
    own, so that several sources, or several targets, are standardised one by one.

    Parameters
    ----------
    with_mean : bool, default=True
        Whether to centre each domain.
    with_std : bool, default=True
        Whether to scale each domain to unit variance. Constant features are not scaled.

    Attributes
    ----------
    domains_ : ndarray of shape (n_domains,)
        The distinct numbers in `sample_domain`, in ascending order; ``[-1, 1]`` without it.
    mean_ : ndarray of shape (n_domains, n_features)
    scale_ : ndarray of shape (n_domains, n_features)
        Standard deviations, 1 for constant features.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only if X had names.

    Raises
    ------
    ValueError
        A parameter is not a bool, or `transform` gets a domain that `fit` has not seen.

    Notes
    -----
    `transform` without `sample_domain` treats rows as target rows; with several targets, by the
    mean and the standard deviation of all their rows together. Like other methods of this kind it
    does harm if the domains differ in the frequency of their classes. It is common for
    brain-computer interfaces and in acoustics, where each recording is standardised by itself.

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

    def __init__(self, *, with_mean: bool = True, with_std: bool = True) -> None:
        self.with_mean = with_mean
        self.with_std = with_std

    def _learn(self, pair: DomainPair) -> None:
        check_flag(self, "with_mean")
        check_flag(self, "with_std")
        self._source, self._target = self._moments(pair.source), self._moments(pair.target)
        self.domains_, moments = np.array([-1, 1]), [self._target, self._source]
        if not pair.is_source.all():
            self.domains_ = np.unique(pair.domain)
            moments = [self._moments(pair.table[pair.domain == d]) for d in self.domains_]
        self.mean_, self.scale_ = (np.stack(each) for each in zip(*moments, strict=True))

    def _moments(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scaler = StandardScaler(with_mean=self.with_mean, with_std=self.with_std).fit(rows)
        width = rows.shape[1]
        mean = scaler.mean_ if self.with_mean else np.zeros(width)
        return mean, scaler.scale_ if self.with_std else np.ones(width)

    def _map_source(self, X: np.ndarray) -> np.ndarray:
        return (X - self._source[0]) / self._source[1]

    def _map_target(self, X: np.ndarray) -> np.ndarray:
        return (X - self._target[0]) / self._target[1]

    def transform(self, X: Any, *, sample_domain: Vector = None) -> np.ndarray:
        check_is_fitted(self)
        if sample_domain is None:
            return super().transform(X)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        domain = checked_domain(sample_domain, len(X))
        unknown = np.setdiff1d(domain, self.domains_)
        if len(unknown):
            raise ValueError(
                f"sample_domain holds {unknown[0]}, and fit has seen {self.domains_.tolist()}; "
                "leave sample_domain out to treat all rows as target rows"
            )
        number = np.searchsorted(self.domains_, domain)
        return ((X - self.mean_[number]) / self.scale_[number]).astype(X.dtype, copy=False)
