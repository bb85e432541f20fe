"""Weights from a classifier that tells the domains apart, and from nearest neighbours."""

import numbers
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from sktransfer.adaptation._base import DomainWeights, Pair
from sktransfer.adaptation._cloning import seeded_clone
from sktransfer.adaptation._kernels import canonical_order, equal_rows
from sktransfer.adaptation._maps import check_number


class ClassifierDensityRatio(DomainWeights):
    """Density ratio from a classifier that tells target rows from source rows.

    By Bayes' rule the ratio of the target's density to the source's is n_source / n_target times
    P(target given x) / P(source given x) [1]_ (section 3). Any classifier with `predict_proba`
    does, so that the method scales as far as classifiers do.

    Probabilities must be good, not only ranks: calibrate a classifier whose are not. Where domains
    can be told apart with certainty there is no overlap, and few rows get all the weight. Labels
    are assumed to depend on features alike in both domains (covariate shift).

    Parameters
    ----------
    estimator : classifier or None, default=None
        With `predict_proba`. A clone is fitted to rows of both domains, the target being class 1.
        None is logistic regression on standardised features.
    cv : int, "auto" or None, default="auto"
        Take the probabilities of source rows from classifiers that have not seen them, for so many
        parts of the rows. None takes them from the one that has seen all: well for linear models,
        but a forest or a neighbour knows what it has seen. "auto" is None where `estimator` is
        None, and 5 elsewhere.
    random_state : int, RandomState instance or None, default=None
        Of the parts, and of each `random_state` in `estimator`. What is drawn does not depend on
        the order of rows.

    Attributes
    ----------
    sample_weight_ : ndarray of shape (n_samples,)
        Of the rows of `fit` in their order. Source rows have mean 1, target rows 0.
    effective_sample_size_ : float
        How many rows of equal weight the weighted source rows are worth, (sum w)^2 / sum w^2.
    estimator_ : classifier
        Fitted to all rows.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        If X was a DataFrame.

    Notes
    -----
    A probability of the source below 1 / (2 n), for n rows of both domains, is taken for that: it
    cannot be told from zero, which would let one row outweigh all others.

    References
    ----------
    .. [1] Bickel, S., Brueckner, M., & Scheffer, T. (2009). Discriminative learning under
       covariate shift. Journal of Machine Learning Research, 10, 2137-2155.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.adaptation import ClassifierDensityRatio
    >>> X = np.concatenate([np.linspace(-1, 1, 21), np.linspace(0, 1, 11)])[:, None]
    >>> ratio = ClassifierDensityRatio().fit(X, sample_domain=np.repeat([1, -1], [21, 11]))
    >>> ratio.density_ratio([[-0.9], [0.0], [0.9]]).round(1)
    array([0.2, 0.7, 2.7])
    """

    estimator_: Any

    def __init__(
        self, estimator: Any = None, *, cv: int | str | None = "auto", random_state: Any = None
    ) -> None:
        self.estimator = estimator
        self.cv = cv
        self.random_state = random_state

    def _weights(self, pair: Pair) -> np.ndarray:
        if self.estimator is not None and not hasattr(self.estimator, "predict_proba"):
            raise ValueError(
                f"estimator must have predict_proba, which {self.estimator!r} lacks; wrap it in "
                "sklearn.calibration.CalibratedClassifierCV"
            )
        n_folds = self._n_folds()
        random = check_random_state(self.random_state)
        order = canonical_order(pair.source)
        target = pair.target[canonical_order(pair.target)]
        X = np.concatenate([pair.source[order], target])
        sizes = len(order), len(target)
        is_target = np.repeat([0, 1], sizes)
        self._prior, self._least = sizes[0] / sizes[1], 1 / (2 * len(X))
        self.estimator_ = self._fresh(random).fit(X, is_target)
        source, n_folds = X[: sizes[0]], min(n_folds, *sizes)
        if n_folds < 2:
            ratio = self._ratio(self.estimator_, source)
        else:
            ratio = np.empty(len(source))
            fold = np.concatenate([random.permutation(size) % n_folds for size in sizes])
            for k in range(n_folds):
                kept, held = fold != k, fold[: sizes[0]] == k
                classifier = self._fresh(random).fit(X[kept], is_target[kept])
                ratio[held] = self._ratio(classifier, source[held])
            # Equal rows may be in several parts, and share what these say.
            place = equal_rows(source)
            ratio = (np.bincount(place, ratio) / np.bincount(place))[place]
        weights = np.empty(len(order))
        weights[order] = ratio
        return weights

    def _n_folds(self) -> int:
        if isinstance(self.cv, str) and self.cv == "auto":
            return 0 if self.estimator is None else 5
        if self.cv is None:
            return 0
        cv: Any = self.cv
        if isinstance(cv, bool) or not isinstance(cv, numbers.Integral) or cv < 2:
            raise ValueError(f"cv must be 'auto', None or an int above 1, got {cv!r}")
        return int(cv)

    def _fresh(self, random: np.random.RandomState) -> Any:
        if self.estimator is None:
            return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        return seeded_clone(self.estimator, random)

    def _ratio(self, classifier: Any, X: np.ndarray) -> np.ndarray:
        probability = np.asarray(classifier.predict_proba(X), dtype=np.float64)
        return self._prior * probability[:, 1] / np.maximum(probability[:, 0], self._least)

    def density_ratio(self, X: Any) -> np.ndarray:
        """Density of the target over that of the source.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of either domain.

        Returns
        -------
        ratio : ndarray of shape (n_samples,), float64
            Off by a factor if `estimator` weighs classes, as ``class_weight="balanced"`` does.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return self._ratio(self.estimator_, X)


class NearestNeighborWeights(DomainWeights):
    """Weights that count the target rows to which a source row is the nearest.

    That is the number of target rows in the row's cell of the source's Voronoi diagram [1]_: an
    estimate of the density ratio without a parameter to choose. The target rows of a place where
    several source rows are equal are shared among these.

    In many dimensions a few rows are the nearest to nearly all ("hubs"). Standardise features
    first.

    Parameters
    ----------
    smoothing : float, default=1.0
        Added to each count (Laplace smoothing), so that no source row is lost; 0 for the bare
        count.

    Attributes
    ----------
    sample_weight_ : ndarray of shape (n_samples,)
        Of the rows of `fit` in their order. Source rows have mean 1, target rows 0.
    effective_sample_size_ : float
        How many rows of equal weight the weighted source rows are worth, (sum w)^2 / sum w^2.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        If X was a DataFrame.

    References
    ----------
    .. [1] Loog, M. (2012). Nearest neighbor-based importance weighting. IEEE International
       Workshop on Machine Learning for Signal Processing.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.adaptation import NearestNeighborWeights
    >>> X = [[0.0], [1.0], [2.0], [0.9], [1.1], [1.8]]
    >>> sample_domain = [1, 1, 1, -1, -1, -1]
    >>> NearestNeighborWeights(smoothing=0).fit(X, sample_domain=sample_domain).sample_weight_
    array([0., 2., 1., 0., 0., 0.])
    """

    def __init__(self, *, smoothing: float = 1.0) -> None:
        self.smoothing = smoothing

    def _weights(self, pair: Pair) -> np.ndarray:
        check_number("smoothing", self.smoothing)
        order = canonical_order(pair.source)
        source = pair.source[order]
        place = equal_rows(source)
        sharing = np.bincount(place)
        places = source[sharing.cumsum() - 1]
        self._neighbors = NearestNeighbors(n_neighbors=1).fit(places)
        nearest = self._neighbors.kneighbors(pair.target, return_distance=False)[:, 0]
        counts = np.bincount(nearest, minlength=len(places)) / sharing + self.smoothing
        weights = np.empty(len(order))
        weights[order] = counts[place]
        self._cell_ratio = counts / weights.mean()
        return weights

    def density_ratio(self, X: Any) -> np.ndarray:
        """Density of the target over that of the source: the weight of the nearest source row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of either domain.

        Returns
        -------
        ratio : ndarray of shape (n_samples,), float64
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return self._cell_ratio[self._neighbors.kneighbors(X, return_distance=False)[:, 0]]
