"""A classifier by class prototypes, which move from the source to the target."""

from typing import Any

import numpy as np
from sklearn.preprocessing import normalize
from sklearn.utils.validation import check_is_fitted, validate_data

from sktransfer._validation import check_count, check_number, check_option
from sktransfer.adaptation._base import DomainClassifier, DomainPair
from sktransfer.adaptation._kernels import squared_distances
from sktransfer.adaptation._labels import UNLABELLED, class_means, class_sums, encode_classes

_METRICS = ("euclidean", "cosine")

_LEAST_MASS = 1e-10
"""Target rows (a sum of shares) that a class needs for its prototype to move."""


class PrototypeTransferClassifier(DomainClassifier):
    """Nearest class prototype, with prototypes that move from the source to the target.

    The prototype of each class is the mean of its rows, as in prototypical networks [1]_, and a
    row belongs to the nearest one. Unlabelled target rows are then softly assigned to the
    prototypes, which become the weighted means of these rows, and so on: soft k-means that starts
    from the source, the refinement of Ren et al. [2]_ and of the pseudo-labels in SHOT [3]_.

    The relation that is transferred is that rows lie around the mean of their class. Features of a
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
        With ``metric="cosine"`` they have length 1.
    source_prototypes_ : ndarray of shape (n_classes, n_features)
        Prototypes before the updates.
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
    Labelled target rows (`target_labeled`) count with weight 1, before and in the updates. A class
    should be one cluster, and nearer to its own prototype than to others before the updates: if
    the shift is greater than half the distance between classes, updates make errors worse. A class
    that the target lacks still attracts rows; `source_weight` keeps its prototype in place.

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

    def _learn(self, pair: DomainPair) -> None:
        check_option("metric", self.metric, _METRICS)
        check_count("n_iterations", self.n_iterations, low=0)
        check_number("temperature", self.temperature)
        check_number("source_weight", self.source_weight)
        self.classes_, source_codes, target_codes = encode_classes(pair)
        n_classes = len(self.classes_)
        source, target = self._scaled(pair.source), self._scaled(pair.target)
        free = target[target_codes == UNLABELLED]
        if pair.is_source.all():
            free = free[:0]  # without domains the target rows are the source rows
        labelled = target[target_codes != UNLABELLED]
        rows = np.concatenate([source, labelled])
        codes = np.concatenate([source_codes, target_codes[target_codes != UNLABELLED]])
        means = class_means(rows, codes, n_classes)
        self.scale_ = float(np.square(rows - means[codes]).mean())
        self.prototypes_ = self._scaled(means)
        self.source_prototypes_ = self.prototypes_.copy()
        if not len(free):
            return
        weights = np.repeat([float(self.source_weight), 1.0], [len(source), len(labelled)])
        labelled_mass = np.bincount(codes, weights, n_classes)
        labelled_sum = class_sums(rows * weights[:, None], codes, n_classes)
        for _ in range(self.n_iterations):
            shares = self._shares(self._squares(free))
            mass = labelled_mass + shares.sum(axis=0)
            moved = mass > _LEAST_MASS  # the prototype of a class without target rows stays
            sums = (labelled_sum + shares.T @ free)[moved]
            self.prototypes_[moved] = self._scaled(sums / mass[moved, None])

    def predict(self, X: Any) -> np.ndarray:
        squares, _ = self._checked_squares(X)  # probabilities may be equal after rounding
        return self.classes_[squares.argmin(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
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
        """Soft assignment of rows to prototypes, (n, n_classes); each row sums to 1."""
        # Relative to the nearest prototype, whose exponential might underflow to 0 otherwise.
        gaps = squares - squares.min(axis=1, keepdims=True)
        spread = 2 * self.scale_ * self.temperature
        if spread <= np.finfo(np.float64).tiny:
            shares = np.zeros_like(squares)
            shares[np.arange(len(squares)), squares.argmin(axis=1)] = 1.0
            return shares
        with np.errstate(over="ignore"):  # a quotient that overflows has a share of 0
            shares = np.exp(-gaps / spread)
        return shares / shares.sum(axis=1, keepdims=True)
