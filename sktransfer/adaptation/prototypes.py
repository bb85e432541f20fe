"""Relation transfer by prototypes: how rows stand to the means of their classes."""

import numbers
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import normalize
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted, validate_data

from sktransfer.adaptation._base import DomainMethod
from sktransfer.adaptation._kernels import squared_distances
from sktransfer.adaptation._labels import (
    UNLABELLED,
    check_option,
    class_means,
    class_sums,
    coded_labels,
)
from sktransfer.adaptation._maps import check_number

_METRICS = ("euclidean", "cosine")

_LEAST_MASS = 1e-10
"""Of a class in the target, in rows, for its prototype to move."""


class PrototypeTransferClassifier(ClassifierMixin, DomainMethod):
    """Classes as prototypes: means of the source that move to where the target's rows are.

    Each class is the mean of its rows, as in prototypical networks [1]_, and a row belongs to the
    nearest. Unlabelled target rows are then assigned to the prototypes, softly, and these become
    the weighted means of the rows, again and again: soft k-means that starts from the source, the
    refinement of Ren et al. [2]_ and of the pseudo-labels in SHOT [3]_.

    What is transferred is a relation: that rows lie around the mean of their class. Features of a
    network that was tuned with ``FineTune(penalty="rkd")`` keep such relations between rows.

    Parameters
    ----------
    metric : {"euclidean", "cosine"}, default="euclidean"
        "cosine" scales rows and prototypes to length 1 first.
    n_iterations : int, default=10
        Updates of the prototypes. 0 keeps the class means of the source: the nearest-centroid
        classifier.
    temperature : float, default=1.0
        Class probabilities are proportional to ``exp(-d**2 / (2 * scale_ * temperature))`` with
        the distance d to the prototype. At 1 they are the posterior of a spherical Gaussian mixture
        with the source's variance within classes and equally frequent classes. 0 assigns each row
        to its nearest prototype alone: k-means.
    source_weight : float, default=0.0
        Weight of a source row in the updates, beside 1 of a target row. 0 lets prototypes follow
        the target alone, as SHOT does; 1 is equation 5 of Ren et al. [2]_.

    Attributes
    ----------
    prototypes_ : ndarray of shape (n_classes, n_features)
        Of length 1 with ``metric="cosine"``.
    source_prototypes_ : ndarray of shape (n_classes, n_features)
        Before the updates.
    scale_ : float
        Mean variance of a feature within the classes, by the labelled rows.
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only if X had names of columns.

    See Also
    --------
    sklearn.neighbors.NearestCentroid : Without a target.
    sktransfer.adaptation.LabelPropagationClassifier : For classes of any shape.

    Notes
    -----
    Labelled target rows (`target_labeled`) count with weight 1 throughout, before the updates and
    in them. A class should be one cluster, and nearer to its own prototype than to others before
    the updates: where the shift is greater than half the distance between classes, updates make
    errors worse. A class that the target lacks still draws rows; `source_weight` holds it in place.

    References
    ----------
    .. [1] J. Snell, K. Swersky and R. Zemel, "Prototypical networks for few-shot learning", NeurIPS
       2017, equations 1 and 2.
    .. [2] M. Ren et al., "Meta-learning for semi-supervised few-shot classification", ICLR 2018,
       equation 5.
    .. [3] J. Liang, D. Hu and J. Feng, "Do we really need to access the source data? Source
       hypothesis transfer for unsupervised domain adaptation", ICML 2020, equations 4 to 6.

    Examples
    --------
    The target's classes lie one further to the right:

    >>> from sktransfer.adaptation import PrototypeTransferClassifier, stack_domains
    >>> X, y, sample_domain = stack_domains(
    ...     [[-0.2], [0.0], [0.2], [2.8], [3.0], [3.2]],
    ...     [[0.8], [1.0], [1.4], [1.7], [3.8], [4.0], [4.2]],
    ...     ["low", "low", "low", "high", "high", "high"],
    ... )
    >>> classifier = PrototypeTransferClassifier()
    >>> classifier.fit(X, y, sample_domain=sample_domain).predict([[1.7], [4.0]])
    array(['low', 'high'], dtype='<U4')
    >>> classifier.source_prototypes_.ravel().round(2), classifier.prototypes_.ravel().round(2)
    (array([3., 0.]), array([4.  , 1.22]))
    """

    _needs_labels = True

    def __init__(
        self,
        metric: str = "euclidean",
        *,
        n_iterations: int = 10,
        temperature: float = 1.0,
        source_weight: float = 0.0,
    ) -> None:
        self.metric = metric
        self.n_iterations = n_iterations
        self.temperature = temperature
        self.source_weight = source_weight

    def fit(self, X: Any, y: Any, *, sample_domain: Any = None, target_labeled: Any = None) -> Self:
        """Take the means of the classes, and move them to the target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of both domains, in any order.
        y : array-like of shape (n_samples,)
            Classes. Those of target rows are not looked at but where `target_labeled` says so.
        sample_domain : array-like of shape (n_samples,) or None, default=None
            Positive for source and negative for target rows. With None all rows are labelled and
            nothing moves, with a `DomainWarning`.
        target_labeled : array-like of shape (n_samples,), bool, or None, default=None
            Target rows whose labels may be used.

        Returns
        -------
        self
        """
        check_option("metric", self.metric, _METRICS)
        check_scalar(self.n_iterations, "n_iterations", numbers.Integral, min_val=0)
        check_number("temperature", self.temperature)
        check_number("source_weight", self.source_weight)
        pair, is_source, _ = self._split(X, y, sample_domain, target_labeled)
        self.classes_, source_codes, target_codes = coded_labels(pair)
        n_classes = len(self.classes_)
        source, target = self._scaled(pair.source), self._scaled(pair.target)
        free = target[target_codes == UNLABELLED]
        if is_source.all():
            free = free[:0]  # no target rows, but the source's once more
        told = target[target_codes != UNLABELLED]
        told_codes = target_codes[target_codes != UNLABELLED]
        rows = np.concatenate([source, told])
        codes = np.concatenate([source_codes, told_codes])
        means = class_means(rows, codes, n_classes)
        self.scale_ = float(np.square(rows - means[codes]).mean())
        self.prototypes_ = self._scaled(means)
        self.source_prototypes_ = self.prototypes_.copy()
        if not len(free):
            return self
        weights = np.repeat([float(self.source_weight), 1.0], [len(source), len(told)])
        held_mass = np.bincount(codes, weights, n_classes)
        held_sum = class_sums(rows * weights[:, None], codes, n_classes)
        for _ in range(self.n_iterations):
            shares = self._shares(self._squares(free))
            mass = held_mass + shares.sum(axis=0)
            moved = mass > _LEAST_MASS  # else the class has no rows in the target, and stays
            sums = (held_sum + shares.T @ free)[moved]
            self.prototypes_[moved] = self._scaled(sums / mass[moved, None])
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The class of the nearest prototype.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,)
        """
        squares, _ = self._checked_squares(X)
        return self.classes_[squares.argmin(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes by the distances to their prototypes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        P : ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`; float32 if X is, else float64.
        """
        squares, dtype = self._checked_squares(X)
        return self._shares(squares).astype(dtype, copy=False)

    def _checked_squares(self, X: Any) -> tuple[np.ndarray, np.dtype]:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self._squares(self._scaled(X.astype(np.float64))), X.dtype

    def _scaled(self, rows: np.ndarray) -> np.ndarray:
        return normalize(rows) if self.metric == "cosine" and len(rows) else rows

    def _squares(self, rows: np.ndarray) -> np.ndarray:
        return squared_distances(rows, self.prototypes_)

    def _shares(self, squares: np.ndarray) -> np.ndarray:
        """How much of each row belongs to each prototype; rows sum to 1."""
        gaps = squares - squares.min(axis=1, keepdims=True)
        spread = 2 * self.scale_ * self.temperature
        if spread <= np.finfo(np.float64).tiny:
            shares = np.zeros_like(squares)
            shares[np.arange(len(squares)), squares.argmin(axis=1)] = 1.0
            return shares
        with np.errstate(over="ignore"):  # far beyond what has any share
            shares = np.exp(-gaps / spread)
        return shares / shares.sum(axis=1, keepdims=True)
