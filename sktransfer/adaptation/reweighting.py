"""Sample weights from a classifier that distinguishes the domains, and from nearest neighbours."""

import numbers
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state

from sktransfer._validation import Seed, check_number
from sktransfer.adaptation._base import DensityRatio, seeded_clone
from sktransfer.adaptation._kernels import equal_rows


class ClassifierDensityRatio(DensityRatio):
    """Density ratio from a classifier that distinguishes target rows from source rows.

    By Bayes' rule the ratio of the target's density to the source's is n_source / n_target times
    P(target given x) / P(source given x) [1]_ (section 3). Any classifier with `predict_proba` may
    be used, so that the method scales like classifiers.

    Probabilities must be accurate, not only their ranks: calibrate the classifier if they are not.
    If the domains can be distinguished with certainty they do not overlap, and few rows get all the
    weight. Labels are assumed to depend on features in the same way in both domains (covariate
    shift).

    Parameters
    ----------
    estimator : classifier or None, default=None
        It needs `predict_proba`. A clone is fitted to rows of both domains, with the target as
        class 1. None is logistic regression on standardised features.
    cv : int, "auto" or None, default="auto"
        Number of folds for out-of-fold probabilities of the source rows. None takes them from the
        classifier that was fitted to all rows: good for linear models, but a forest or nearest
        neighbours memorise their rows. "auto" is None if `estimator` is None, and 5 otherwise.
    random_state : int, RandomState instance or None, default=None
        Seed of the folds, and of each `random_state` in `estimator`. The folds do not depend on
        the order of the rows in X.

    Attributes
    ----------
    sample_weight_ : ndarray of shape (n_samples,)
        Weights of the rows of `fit`, in their order: source rows have mean 1, target rows 0.
    effective_sample_size_ : float
        Number of equally weighted rows that the source rows are worth, (sum w)^2 / sum w^2.
    estimator_ : classifier
        Fitted to all rows.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        If X was a DataFrame.

    Notes
    -----
    A probability of the source below 1 / (2 n), for n rows of both domains, counts as 1 / (2 n): so
    few rows cannot show that it is smaller, and near zero one row would outweigh all others.
    `density_ratio` is wrong by a factor if `estimator` weights classes, as
    ``class_weight="balanced"`` does.

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

    def __init__(
        self,
        estimator: BaseEstimator | None = None,
        *,
        cv: int | str | None = "auto",
        random_state: Seed = None,
    ) -> None:
        self.estimator = estimator
        self.cv = cv
        self.random_state = random_state

    def _weights(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        if self.estimator is not None and not hasattr(self.estimator, "predict_proba"):
            raise ValueError(
                f"estimator must have predict_proba, which {self.estimator!r} lacks; wrap it in "
                "sklearn.calibration.CalibratedClassifierCV"
            )
        n_folds = self._n_folds()
        random = check_random_state(self.random_state)
        X = np.concatenate([source, target])
        sizes = len(source), len(target)
        is_target = np.repeat([0, 1], sizes)
        self._prior, self._least = sizes[0] / sizes[1], 1 / (2 * len(X))
        self.estimator_ = self._new_classifier(random).fit(X, is_target)
        n_folds = min(n_folds, *sizes)
        if n_folds < 2:
            return self._ratio(source)
        ratio = np.empty(len(source))
        fold = np.concatenate([random.permutation(size) % n_folds for size in sizes])
        for k in range(n_folds):
            train, test = fold != k, fold[: sizes[0]] == k
            classifier = self._new_classifier(random).fit(X[train], is_target[train])
            ratio[test] = self._odds(classifier, source[test])
        # Equal rows may be in several folds, and get the mean of their ratios.
        group = equal_rows(source)
        return (np.bincount(group, ratio) / np.bincount(group))[group]

    def _n_folds(self) -> int:
        if isinstance(self.cv, str) and self.cv == "auto":
            return 0 if self.estimator is None else 5
        if self.cv is None:
            return 0
        cv: Any = self.cv  # annotated as int, but a user may pass anything
        if isinstance(cv, bool) or not isinstance(cv, numbers.Integral) or cv < 2:
            raise ValueError(f"cv must be 'auto', None or an int above 1, got {cv!r}")
        return int(cv)

    def _new_classifier(self, random: np.random.RandomState) -> Any:
        if self.estimator is None:
            return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        return seeded_clone(self.estimator, random)

    def _ratio(self, X: np.ndarray) -> np.ndarray:
        return self._odds(self.estimator_, X)

    def _odds(self, classifier: Any, X: np.ndarray) -> np.ndarray:
        probability = np.asarray(classifier.predict_proba(X), dtype=np.float64)
        return self._prior * probability[:, 1] / np.maximum(probability[:, 0], self._least)


class NearestNeighborWeights(DensityRatio):
    """Weights that count the target rows to which a source row is the nearest.

    The weight is the number of target rows in the row's cell of the source's Voronoi diagram [1]_:
    an estimate of the density ratio without a parameter to choose. Equal source rows divide the
    target rows of their cell among themselves.

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
        Weights of the rows of `fit`, in their order: source rows have mean 1, target rows 0.
    effective_sample_size_ : float
        Number of equally weighted rows that the source rows are worth, (sum w)^2 / sum w^2.
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

    def _weights(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        check_number("smoothing", self.smoothing)
        group = equal_rows(source)
        multiplicity = np.bincount(group)
        distinct = source[multiplicity.cumsum() - 1]
        self._neighbors = NearestNeighbors(n_neighbors=1).fit(distinct)
        nearest = self._neighbors.kneighbors(target, return_distance=False)[:, 0]
        counts = np.bincount(nearest, minlength=len(distinct)) / multiplicity + self.smoothing
        weights = counts[group]
        self._cell_ratio = counts / weights.mean()
        return weights

    def _ratio(self, X: np.ndarray) -> np.ndarray:
        return self._cell_ratio[self._neighbors.kneighbors(X, return_distance=False)[:, 0]]
