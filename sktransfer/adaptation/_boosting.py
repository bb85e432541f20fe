"""The boosting rounds that the TrAdaBoost classifier and regressor share."""

import warnings
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from sktransfer._validation import (
    Seed,
    Vector,
    check_count,
    checked_labels,
    labelled_mask,
    source_mask,
    training_weights,
)
from sktransfer.adaptation._base import seeded_clone
from sktransfer.exceptions import DomainWarning

_LEAST_ERROR = 1e-6
"""Smaller errors count as this one: otherwise a perfect round would have an infinite vote."""

_CHANCE_TOLERANCE = 1e-10
"""Distance from chance that counts as chance. A learner that is fitted again to the weights that
its own errors made is wrong in exactly half of them, up to rounding."""


class TransferBoost(BaseEstimator, ABC):
    """Boosting that raises the weights of wrong target rows, and lowers those of source rows."""

    _default: ClassVar[BaseEstimator]

    def __init__(
        self,
        estimator: BaseEstimator | None = None,
        *,
        n_estimators: int = 50,
        random_state: Seed = None,
    ) -> None:
        self.estimator = estimator
        self.n_estimators = n_estimators
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sample_domain: Vector = None,
        target_labeled: Vector = None,
        sample_weight: Vector = None,
    ) -> Self:
        """Boost on all rows of the source, and the labelled rows of the target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of both domains, in any order.
        y : array-like of shape (n_samples,)
            Labels; those of target rows are ignored, except where `target_labeled` is True.
        sample_domain : array-like of shape (n_samples,) or None, default=None
            Positive for source and negative for target rows. With None all rows count as labelled
            target rows, with a `DomainWarning`, and the method is AdaBoost.
        target_labeled : array-like of shape (n_samples,), bool, or None, default=None
            Target rows whose labels may be used. If `sample_domain` is given there must be some;
            target rows without a label are left out.
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
                f"{type(self).__name__} was fitted without sample_domain: all rows count as "
                "labelled target rows, as in AdaBoost. Pass sample_domain, positive for source "
                "and negative for target rows, and target_labeled",
                DomainWarning,
                stacklevel=2,
            )
            is_source = np.zeros(len(X), dtype=bool)
        elif not used[~is_source].any():
            raise ValueError(
                f"target_labeled marks no target row as labelled, and {type(self).__name__} needs "
                "some. Mark them; without labels of the target use weights such as "
                "KernelMeanMatching or KLIEP, or maps such as CORAL"
            )
        weights = training_weights(sample_weight, len(X))
        if not (weights > 0)[used & ~is_source].any():
            raise ValueError(
                "sample_weight is zero for every labelled target row, and nothing is left to learn "
                "from; give some a weight above 0"
            )
        # A weight of 0 means absence, so that a class which only such rows have does not exist.
        used &= weights > 0
        weights = weights[used] / weights[used].sum()
        self._boost(X[used], self._checked_targets(y[used]), is_source[used], weights)
        return self

    @abstractmethod
    def predict(self, X: Any) -> np.ndarray:
        """The class that most votes are for, or the weighted median of the rounds' predictions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,)
        """

    @abstractmethod
    def _checked_targets(self, y: np.ndarray) -> np.ndarray:
        """Labels, checked and of the type that the estimator is fitted to."""

    @abstractmethod
    def _losses(self, predicted: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Loss of each row, (n,), in [0, 1]."""

    @property
    @abstractmethod
    def _n_outcomes(self) -> int:
        """Number k of outcomes, so that a guess has an error of 1 - 1 / k."""

    def _vote(self, error: float) -> float:
        """Weight of a round in the prediction, as in SAMME; 0 if it is not better than chance."""
        error = max(error, _LEAST_ERROR)
        if error >= 1 - 1 / self._n_outcomes - _CHANCE_TOLERANCE:
            return 0.0
        return float(np.log((1 - error) / error) + np.log(self._n_outcomes - 1))

    def _checked_estimator(self) -> Any:
        check_count("n_estimators", self.n_estimators)
        estimator = self._default if self.estimator is None else self.estimator
        if not has_fit_parameter(estimator, "sample_weight"):
            raise ValueError(
                f"estimator must accept sample_weight in fit, through which boosting weights the "
                f"rows; {estimator!r} does not. Choose another, such as a decision tree"
            )
        return estimator

    def _boost(
        self, X: np.ndarray, y: np.ndarray, is_source: np.ndarray, weights: np.ndarray
    ) -> None:
        estimator = self._checked_estimator()
        random = check_random_state(self.random_state)
        n_source = int(is_source.sum())
        self.beta_ = 1 / (1 + np.sqrt(2 * np.log(max(n_source, 1)) / self.n_estimators))
        rounds = []
        for _ in range(self.n_estimators):
            # As in scikit-learn's AdaBoost: a weight of 0 could never grow again.
            weights = np.maximum(weights, np.finfo(np.float64).eps)
            learner = seeded_clone(estimator, random).fit(X, y, sample_weight=weights)
            losses = self._losses(learner.predict(X), y)
            error = float(np.average(losses[~is_source], weights=weights[~is_source]))
            vote = self._vote(error)
            rounds.append((learner, vote, error, weights[is_source].sum() / weights.sum()))
            # A round without a vote still raises the weights of wrong target rows: otherwise
            # a source that outnumbers them would decide the following rounds, too.
            gain = vote if vote > 0 or n_source == 0 else -np.log(self.beta_)
            powers = np.where(is_source, np.log(self.beta_), gain) * losses
            if not powers.any():
                break  # no weight changes, so that every further round would repeat this one
            weights = weights * np.exp(powers)
            weights = weights / weights.sum()
        if n_source == 0 and rounds[-1][1] == 0 and len(rounds) > 1:
            rounds.pop()
        self.estimators_ = [each[0] for each in rounds]
        self.estimator_weights_, self.estimator_errors_, self.source_share_ = np.array(
            [each[1:] for each in rounds]
        ).T.copy()
        self._first_voter = 0 if n_source == 0 else -(-len(rounds) // 2) - 1
        if not self.estimator_weights_[self._first_voter :].any():
            self._handle_no_vote()

    @abstractmethod
    def _handle_no_vote(self) -> None:
        """Act on the case that no round of the second half is better than chance."""

    def _voting_predictions(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Predictions of the rounds with a vote, (n_voters, n), and their votes, (n_voters,)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        votes = self.estimator_weights_[self._first_voter :]
        learners = self.estimators_[self._first_voter :]
        some = [learner.predict(X) for learner, vote in zip(learners, votes, strict=True) if vote]
        return np.array(some), votes[votes > 0]
