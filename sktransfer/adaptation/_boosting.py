"""The rounds of TrAdaBoost, which its classifier and its regressor have in common."""

import numbers
import warnings
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from sktransfer._validation import labelled_mask, source_mask
from sktransfer.adaptation._base import checked_labels, checked_weights
from sktransfer.adaptation._cloning import seeded_clone
from sktransfer.exceptions import DomainWarning

_LEAST_ERROR = 1e-6
"""An error below counts as this: by the book a perfect round would outvote all others for ever."""

_CLOSE = 1e-10
"""To chance. A learner that comes again errs by exactly a half, up to rounding."""


class TransferBoost(BaseEstimator, ABC):
    """Rounds that attend to hard target rows, and turn from source rows that differ."""

    _default: ClassVar[Any]
    estimators_: list[Any]
    estimator_weights_: np.ndarray
    estimator_errors_: np.ndarray
    source_share_: np.ndarray
    beta_: float
    _first_voter: int

    def __init__(
        self, estimator: Any = None, *, n_estimators: int = 50, random_state: Any = None
    ) -> None:
        self.estimator = estimator
        self.n_estimators = n_estimators
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sample_domain: Any = None,
        target_labeled: Any = None,
        sample_weight: Any = None,
    ) -> Self:
        """Boost on all rows of the source, and the labelled rows of the target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of both domains, in any order.
        y : array-like of shape (n_samples,)
            Labels. Those of target rows are not looked at but where `target_labeled` says so.
        sample_domain : array-like of shape (n_samples,) or None, default=None
            Positive for source and negative for target rows. None takes all rows for labelled
            target rows, with a `DomainWarning`: then it is AdaBoost.
        target_labeled : array-like of shape (n_samples,), bool, or None, default=None
            Target rows whose labels may be used. There must be some where `sample_domain` is
            given; rows of the target without label are left out.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            Weights to begin with, none negative; None is equal weights.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            No target row is labelled; `estimator` takes no `sample_weight`; or no round that has
            a vote is better than chance.
        """
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        is_source = source_mask(sample_domain, len(X))
        used = labelled_mask(is_source, target_labeled)
        y = checked_labels(y, used)
        if sample_domain is None:
            warnings.warn(
                f"{type(self).__name__} was fitted without sample_domain: all rows are taken for "
                "labelled target rows, as AdaBoost does. Pass sample_domain, positive for source "
                "and negative for target rows, and target_labeled",
                DomainWarning,
                stacklevel=2,
            )
            is_source = np.zeros(len(X), dtype=bool)
        elif not used[~is_source].any():
            raise ValueError(
                f"target_labeled says of no target row that it is labelled, and "
                f"{type(self).__name__} needs some. Pass target_labeled; without labels of the "
                "target, weights such as KernelMeanMatching or KLIEP and maps such as CORAL do"
            )
        weights = _weights_of(sample_weight, len(X))
        if not (weights > 0)[used & ~is_source].any():
            raise ValueError(
                "sample_weight is zero for every labelled target row, and nothing is left to learn "
                "from; give some a weight above 0"
            )
        # Rows of no weight are as good as not there, classes that only they have included.
        used &= weights > 0
        weights = weights[used] / weights[used].sum()
        self._boost(X[used], self._prepared(y[used]), is_source[used], weights)
        return self

    @abstractmethod
    def _prepared(self, y: np.ndarray) -> np.ndarray:
        """Labels, checked, as the estimator is to see them."""

    @abstractmethod
    def _losses(self, predicted: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Loss of each row, (n,) within [0, 1]."""

    @property
    @abstractmethod
    def _chances(self) -> int:
        """Number of outcomes of which a guess is right in one."""

    def _vote(self, error: float) -> float:
        """What a round has to say: nothing, where it is not better than chance."""
        error = max(error, _LEAST_ERROR)
        if error >= 1 - 1 / self._chances - _CLOSE:
            return 0.0
        return float(np.log((1 - error) / error) + np.log(self._chances - 1))

    def _checked_estimator(self) -> Any:
        check_scalar(self.n_estimators, "n_estimators", numbers.Integral, min_val=1)
        estimator = self._default if self.estimator is None else self.estimator
        if not has_fit_parameter(estimator, "sample_weight"):
            raise ValueError(
                f"estimator must take sample_weight in fit, by which boosting tells it what to "
                f"attend to; {estimator!r} does not. Take another, such as a decision tree"
            )
        return estimator

    def _boost(
        self, X: np.ndarray, y: np.ndarray, is_source: np.ndarray, weights: np.ndarray
    ) -> None:
        estimator = self._checked_estimator()
        random = check_random_state(self.random_state)
        n_source = int(is_source.sum())
        self.beta_ = 1 / (1 + np.sqrt(2 * np.log(max(n_source, 1)) / self.n_estimators))
        learners, votes, errors, shares = [], [], [], []
        for _ in range(self.n_estimators):
            # As in scikit-learn, no weight gets so small that it cannot come back.
            weights = np.maximum(weights, np.finfo(np.float64).eps)
            learner = seeded_clone(estimator, random).fit(X, y, sample_weight=weights)
            losses = self._losses(learner.predict(X), y)
            error = float(np.average(losses[~is_source], weights=weights[~is_source]))
            vote = self._vote(error)
            learners.append(learner)
            votes.append(vote)
            errors.append(error)
            shares.append(float(weights[is_source].sum() / weights.sum()))
            # Without a vote, too, target rows must gain on a source that outnumbers them.
            gain = vote if vote > 0 or n_source == 0 else -np.log(self.beta_)
            powers = np.where(is_source, np.log(self.beta_), gain) * losses
            if not powers.any():
                break  # all further rounds would be this one again
            weights = weights * np.exp(powers)
            weights = weights / weights.sum()
        if n_source == 0 and votes[-1] == 0 and len(votes) > 1:
            for values in (learners, votes, errors, shares):
                values.pop()
        self.estimators_ = learners
        self.estimator_weights_, self.estimator_errors_ = np.array(votes), np.array(errors)
        self.source_share_ = np.array(shares)
        self._first_voter = 0 if n_source == 0 else -(-len(learners) // 2) - 1
        if not self.estimator_weights_[self._first_voter :].any():
            self._without_voters()

    @abstractmethod
    def _without_voters(self) -> None:
        """What is to be done where no round that counts is better than chance."""

    def _voters(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Predictions of the rounds that have a vote, (n_voters, n), and their votes."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        votes = self.estimator_weights_[self._first_voter :]
        learners = self.estimators_[self._first_voter :]
        some = [learner.predict(X) for learner, vote in zip(learners, votes, strict=True) if vote]
        return np.array(some), votes[votes > 0]


def _weights_of(sample_weight: Any, n_rows: int) -> np.ndarray:
    """Weights to begin with, (n_rows,) of float64."""
    if sample_weight is None:
        return np.ones(n_rows)
    weights = checked_weights(sample_weight, n_rows)
    if (weights < 0).any():
        raise ValueError(f"Negative values in data passed to sample_weight: {weights.min()}")
    return weights
