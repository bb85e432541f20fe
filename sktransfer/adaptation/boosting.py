"""TrAdaBoost for classification and regression: boosting on source and labelled target rows."""

from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.multiclass import check_classification_targets

from sktransfer.adaptation._boosting import TransferBoost


class TrAdaBoostClassifier(ClassifierMixin, TransferBoost):
    """TrAdaBoost: boosting on source rows and a few labelled target rows.

    Each round fits the estimator to the weighted rows of both domains, and measures its error on
    the target rows alone. Misclassified target rows gain weight, as in AdaBoost; misclassified
    source rows are of no use to the target, and lose weight by the factor
    beta = 1 / (1 + sqrt(2 ln(n_source) / n_estimators)). The rounds of the second half vote
    [1]_ (algorithm 1).

    For more than two classes, target weights and votes are those of SAMME [2]_, with
    log((1 - error) / error) + log(n_classes - 1), which for two classes is the paper's.

    Two changes let it continue where the paper's loop would end. A round that is no better than
    chance on the target gets no vote; misclassified source rows lose weight as usual, and
    misclassified target rows gain by 1 / beta. And an error below 1e-6 counts as 1e-6.

    It needs labels of the target, usually some dozens, on which the error of each round is
    estimated. If source and target share nothing, it approaches AdaBoost on the labelled target
    rows, given enough `n_estimators`. `source_share_` shows whether the source was used.

    Parameters
    ----------
    estimator : classifier or None, default=None
        Its `fit` must accept `sample_weight`. None is a decision tree of depth 1.
    n_estimators : int, default=50
        Maximum number of rounds; it ends earlier when the weights do not change any more.
    random_state : int, RandomState instance or None, default=None
        Seed of each `random_state` parameter in `estimator`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    estimators_ : list of classifiers
        One per round.
    estimator_weights_ : ndarray of shape (n_rounds,)
        Votes. With a source, those of the first half are not used for prediction.
    estimator_errors_ : ndarray of shape (n_rounds,)
        Weighted share of misclassified target rows.
    source_share_ : ndarray of shape (n_rounds,)
        Share of all weight that source rows had in the round.
    beta_ : float
        Factor by which the weight of a misclassified source row is multiplied.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        If X was a DataFrame.

    See Also
    --------
    TrAdaBoostRegressor : The same for numbers.

    References
    ----------
    .. [1] Dai, W., Yang, Q., Xue, G.-R., & Yu, Y. (2007). Boosting for transfer learning. ICML.
    .. [2] Zhu, J., Zou, H., Rosset, S., & Hastie, T. (2009). Multi-class AdaBoost. Statistics and
       Its Interface, 2(3), 349-360.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.adaptation import TrAdaBoostClassifier
    >>> X = np.concatenate([np.arange(20.0), np.arange(20.0)])[:, None]
    >>> y = np.concatenate([np.arange(20) > 12, np.arange(20) > 8])  # the border has moved
    >>> boost = TrAdaBoostClassifier(random_state=0).fit(
    ...     X,
    ...     y,
    ...     sample_domain=np.repeat([1, -1], 20),
    ...     target_labeled=np.tile([False, True], 20),
    ... )
    >>> boost.predict([[8.0], [10.0]]).tolist()
    [False, True]
    """

    _default = DecisionTreeClassifier(max_depth=1)
    classes_: np.ndarray

    @property
    def _n_outcomes(self) -> int:
        return len(self.classes_)

    def _checked_targets(self, y: np.ndarray) -> np.ndarray:
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y of the labelled rows has one class, {self.classes_.tolist()}, and a classifier "
                "needs at least two"
            )
        return y

    def _losses(self, predicted: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (predicted != y).astype(np.float64)

    def _handle_no_vote(self) -> None:
        raise ValueError(
            f"no round with a vote is better than chance on the labelled target rows (errors "
            f"{self.estimator_errors_.min():.3g} to {self.estimator_errors_.max():.3g}); use a "
            "stronger estimator or more n_estimators, and check the labels"
        )

    def decision_function(self, X: Any) -> np.ndarray:
        """Votes for each class, as in `sklearn.ensemble.AdaBoostClassifier`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
            Share of the votes for the class, less those for others over n_classes - 1; for two
            classes twice that of the second.
        """
        predicted, votes = self._voting_predictions(X)
        n_classes = len(self.classes_)
        share = np.stack([votes @ (predicted == label) for label in self.classes_], axis=1)
        scores = (share / votes.sum() * n_classes - 1) / (n_classes - 1)
        return 2 * scores[:, 1] if n_classes == 2 else scores

    def predict(self, X: Any) -> np.ndarray:
        scores = self.decision_function(X)
        codes = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[codes]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes, from the votes as in SAMME (Zhu et al., 2009, equation 15).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
        """
        scores = self.decision_function(X)
        if scores.ndim == 1:
            return softmax(np.stack([-scores, scores], axis=1) / 2, axis=1)
        return softmax(scores / (len(self.classes_) - 1), axis=1)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithms of `predict_proba`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return np.log(self.predict_proba(X))


class TrAdaBoostRegressor(RegressorMixin, TransferBoost):
    """TrAdaBoost.R2: boosting of a regressor on source rows and a few labelled target rows.

    Like `TrAdaBoostClassifier`, with the loss of AdaBoost.R2 [2]_: the absolute error of a row over
    the greatest of all rows, to which the weights' exponents are proportional. The prediction is
    the weighted median of the rounds of the second half [1]_.

    Rows are weighted, while AdaBoost.R2 draws them, so that only the estimator is random. A round
    with an error of a half or more on the target gets no vote; source rows lose weight as usual,
    and target rows gain by beta to the power of minus their loss. If no round of the second half
    has a smaller error, the best of all rounds predicts alone.

    It needs labels of the target. As all losses are relative to the greatest error, one gross
    outlier makes all other errors small: look for outliers first.

    Parameters
    ----------
    estimator : regressor or None, default=None
        Its `fit` must accept `sample_weight`. None is a decision tree of depth 3.
    n_estimators : int, default=50
        Maximum number of rounds; it ends earlier when the weights do not change any more.
    random_state : int, RandomState instance or None, default=None
        Seed of each `random_state` parameter in `estimator`.

    Attributes
    ----------
    estimators_ : list of regressors
        One per round.
    estimator_weights_ : ndarray of shape (n_rounds,)
        With a source, those of the first half are not used for prediction.
    estimator_errors_ : ndarray of shape (n_rounds,)
        Weighted mean loss of the target rows.
    source_share_ : ndarray of shape (n_rounds,)
        Share of all weight that source rows had in the round.
    beta_ : float
        Factor by which the weight of a source row with a loss of 1 is multiplied.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        If X was a DataFrame.

    See Also
    --------
    TrAdaBoostClassifier : The same for classes.

    References
    ----------
    .. [1] Pardoe, D., & Stone, P. (2010). Boosting for regression transfer. ICML.
    .. [2] Drucker, H. (1997). Improving regressors using boosting techniques. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.adaptation import TrAdaBoostRegressor
    >>> X = np.concatenate([np.arange(20.0), np.arange(20.0)])[:, None]
    >>> y = np.concatenate([np.arange(20) > 12, np.arange(20) > 8]) * 1.0
    >>> boost = TrAdaBoostRegressor(random_state=0).fit(
    ...     X,
    ...     y,
    ...     sample_domain=np.repeat([1, -1], 20),
    ...     target_labeled=np.tile([False, True], 20),
    ... )
    >>> boost.predict([[8.0], [11.0]]).round(2).tolist()
    [0.0, 1.0]
    """

    _default = DecisionTreeRegressor(max_depth=3)
    _n_outcomes = 2

    def _checked_targets(self, y: np.ndarray) -> np.ndarray:
        return y.astype(np.float64)

    def _losses(self, predicted: np.ndarray, y: np.ndarray) -> np.ndarray:
        errors = np.abs(predicted - y)
        return errors / errors.max() if errors.max() > 0 else errors

    def _handle_no_vote(self) -> None:
        # A mean loss of a half is not necessarily chance for a regressor; the best round predicts.
        best = int(self.estimator_errors_.argmin())
        self.estimator_weights_[best] = 1.0
        self._first_voter = min(self._first_voter, best)

    def predict(self, X: Any) -> np.ndarray:
        predicted, votes = self._voting_predictions(X)
        order = predicted.argsort(axis=0)
        sums = votes[order].cumsum(axis=0)
        middle = (sums >= sums[-1] / 2).argmax(axis=0)
        return np.take_along_axis(predicted, order, axis=0)[middle, np.arange(predicted.shape[1])]
