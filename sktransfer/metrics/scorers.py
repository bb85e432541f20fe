"""Scorers for ``scoring=`` that select models for a target domain without labels.

They are called as ``scorer(estimator, X, y, sample_domain=...)``, read the labels of source rows
only, and return a number; higher is better.

With metadata routing enabled they request `sample_domain` by themselves, so that
``GridSearchCV(estimator, grid, scoring=scorer).fit(X, y, sample_domain=...)`` passes the domains of
the held-out rows to each of them. Without, scikit-learn passes only X and y to a scorer: then
either make X a DataFrame, and construct the scorer with a Series of domains, in which it looks up
rows by their index, or call the scorer yourself.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone, is_regressor
from sklearn.metrics import mean_squared_error, recall_score
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state

from sktransfer._validation import Seed, Vector, check_count
from sktransfer.metrics._scoring import (
    DomainScorer,
    check_loss,
    density_ratio,
    domain_fit_params,
    flatten_rows,
    predict_rows,
    row_losses,
    source_labels,
    take_rows,
)


class ImportanceWeightedScorer(DomainScorer):
    """Minus the loss on source rows, weighted by the density ratio of target to source.

    Parameters
    ----------
    loss : {"auto", "zero_one", "log", "squared", "absolute"} or callable, default="auto"
        "auto" is "squared" for regressors and otherwise "zero_one", the share of errors. "log"
        needs `predict_proba`. A callable gets true and predicted values, and returns a loss per
        row.
    method : estimator or None, default=None
        Method that computes the weights: `sample_weight_` after ``fit(X, sample_domain=...)``, as
        the reweighting methods of `sktransfer.adaptation` have it. It is cloned. None takes the
        odds of logistic regression of domains on standardised features.
    sample_domain : Series or None, default=None
        Domains of all rows, in case they are not passed in the call: rows of a DataFrame are
        looked up by their index.

    Notes
    -----
    Section 3 of [1]_, with weights of mean 1. It estimates the loss on the target if domains
    differ by covariate shift alone, and the source covers the target. If few source rows carry all
    the weight the estimate has a high variance: see `effective_sample_size_` of the reweighting
    methods. The default weights account for a change of means, but not of variances.

    References
    ----------
    .. [1] M. Sugiyama, M. Krauledat and K.-R. Mueller, "Covariate shift adaptation by importance
       weighted cross validation", JMLR 8, 2007.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sktransfer.metrics import ImportanceWeightedScorer
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0], [2.0], [3.0]])
    >>> y, sample_domain = np.array([0, 0, 1, 0, -1, -1]), np.array([1, 1, 1, 1, -1, -1])
    >>> model = LogisticRegression().fit(X[:3], y[:3])
    >>> score = ImportanceWeightedScorer()(model, X, y, sample_domain=sample_domain)
    >>> round(score, 2)  # one row of four is wrong, and it is like the target's
    -0.74
    """

    def __init__(
        self,
        loss: str | Callable[..., Any] = "auto",
        *,
        method: BaseEstimator | str | None = None,
        sample_domain: Vector = None,
    ) -> None:
        self.loss = loss
        self.method = method
        self.sample_domain = sample_domain

    def _value(
        self, estimator: BaseEstimator, X: Any, y: Any, domain: np.ndarray, is_source: np.ndarray
    ) -> float:
        check_loss(self.loss)
        labels = source_labels(y, is_source, self)
        if self.method is None:
            weights = density_ratio(
                flatten_rows(take_rows(X, is_source)), flatten_rows(take_rows(X, ~is_source))
            )
        else:
            fitted = clone(self.method).fit(X, sample_domain=domain)
            weights = fitted.sample_weight_[is_source]
        source = take_rows(X, is_source)
        losses = row_losses(estimator, self.loss, source, labels, domain[is_source])
        return -float(np.average(losses, weights=weights))


class PredictionEntropyScorer(DomainScorer):
    """Minus the mean entropy of the probabilities predicted for target rows.

    Parameters
    ----------
    sample_domain : Series or None, default=None
        As in `ImportanceWeightedScorer`.

    Notes
    -----
    The criterion of [1]_, in nats. It uses no labels, and needs an estimator with `predict_proba`.
    A confident model that is wrong scores best: one that predicts the same class for all rows, or
    one with little regularisation. So use it to compare models of equal confidence, such as
    strengths of an adaptation, never penalties of a classifier.

    References
    ----------
    .. [1] P. Morerio, J. Cavazza and V. Murino, "Minimal-entropy correlation alignment for
       unsupervised deep domain adaptation", ICLR 2018.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> from sktransfer.metrics import PredictionEntropyScorer
    >>> model = DummyClassifier(strategy="prior").fit([[0], [1]], ["cat", "dog"])
    >>> round(PredictionEntropyScorer()(model, [[0], [1]], sample_domain=[1, -1]), 4)
    -0.6931
    """

    def __init__(self, *, sample_domain: Vector = None) -> None:
        self.sample_domain = sample_domain

    def _value(
        self, estimator: BaseEstimator, X: Any, y: Any, domain: np.ndarray, is_source: np.ndarray
    ) -> float:
        target = take_rows(X, ~is_source)
        proba = predict_rows(estimator, "predict_proba", target, domain[~is_source]).astype(
            np.float64
        )
        logs = np.log(proba, out=np.zeros_like(proba), where=proba > 0)
        return float((proba * logs).sum(1).mean())


class DeepEmbeddedValidationScorer(DomainScorer):
    """Minus the loss on source rows, weighted in the estimator's features, with less variance.

    Parameters
    ----------
    loss : {"auto", "zero_one", "log", "squared", "absolute"} or callable, default="auto"
        As in `ImportanceWeightedScorer`.
    features : "auto" or callable, default="auto"
        Features in which the domains are compared. "auto" takes those that the last estimator
        learns from: the input of the last step of a Pipeline, mapped by the method of an
        `AdaptedClassifier`; for a search those of its best estimator. A callable gets the
        estimator, X and the domains, and returns an array of shape (n_samples, n_features).
    cv : int, default=5
        Folds of the logistic regression that distinguishes the domains: the weight of a row comes
        from a model that was not fitted to it.
    random_state : int, RandomState instance or None, default=None
        Seed of the folds.
    sample_domain : Series or None, default=None
        As in `ImportanceWeightedScorer`.

    Notes
    -----
    Algorithm 1 of [1]_: ``mean(w l) + eta mean(w) - eta`` with ``eta = -cov(w l, w) / var(w)``,
    where l are the losses and w the density ratios, whose mean is known to be 1. The estimate
    may be below 0, or above the largest loss. The notes on `ImportanceWeightedScorer` hold for
    these features; if they separate the domains without error, nearly all weights are 0 and the
    score is meaningless.

    References
    ----------
    .. [1] K. You et al., "Towards accurate model selection in deep unsupervised domain adaptation",
       ICML 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sktransfer.metrics import DeepEmbeddedValidationScorer
    >>> X = np.random.RandomState(0).normal(size=(200, 2))
    >>> y, sample_domain = (X[:, 0] > 0).astype(int), np.where(X[:, 1] > 0, 1, -1)
    >>> model = LogisticRegression().fit(X, y)
    >>> scorer = DeepEmbeddedValidationScorer(features=lambda model, X, _: X[:, :1])
    >>> round(scorer(model, X, y, sample_domain=sample_domain), 1)
    -0.0
    """

    def __init__(
        self,
        loss: str | Callable[..., Any] = "auto",
        *,
        features: str | Callable[..., Any] = "auto",
        cv: int = 5,
        random_state: Seed = None,
        sample_domain: Vector = None,
    ) -> None:
        self.loss = loss
        self.features = features
        self.cv = cv
        self.random_state = random_state
        self.sample_domain = sample_domain

    def _value(
        self, estimator: BaseEstimator, X: Any, y: Any, domain: np.ndarray, is_source: np.ndarray
    ) -> float:
        check_loss(self.loss)
        check_count("cv", self.cv, low=2)
        fewest = min(is_source.sum(), (~is_source).sum())
        if fewest < self.cv:
            raise ValueError(
                f"cv must be at most the number of rows of the smaller domain, {fewest}, got "
                f"{self.cv}"
            )
        labels = source_labels(y, is_source, self)
        features = self._features(estimator, X, domain)
        weights = density_ratio(
            features[is_source],
            features[~is_source],
            cv=self.cv,
            random=check_random_state(self.random_state),
        )
        source = take_rows(X, is_source)
        losses = row_losses(estimator, self.loss, source, labels, domain[is_source])
        return -controlled_mean(losses, weights)

    def _features(self, estimator: BaseEstimator, X: Any, domain: np.ndarray) -> np.ndarray:
        if callable(self.features):
            return flatten_rows(self.features(estimator, X, domain))
        if not isinstance(self.features, str) or self.features != "auto":
            raise ValueError(f"features must be 'auto' or callable, got {self.features!r}")
        if hasattr(estimator, "best_estimator_"):
            return self._features(estimator.best_estimator_, X, domain)
        if isinstance(estimator, Pipeline):
            if len(estimator.steps) > 1:
                X = predict_rows(estimator[:-1], "transform", X, domain)
            return self._features(estimator.steps[-1][1], X, domain)
        if hasattr(getattr(estimator, "method_", None), "transform"):
            return flatten_rows(
                predict_rows(estimator.method_, "transform", flatten_rows(X), domain)
            )
        return flatten_rows(X)


class CircularValidationScorer(DomainScorer):
    """Accuracy on the source of a clone that is trained on the target with predicted labels.

    The clone learns with the domains exchanged, from target rows with the labels that the estimator
    predicts for them; it is scored on the source rows, whose labels are known.

    Parameters
    ----------
    metric : callable or None, default=None
        Function of true and predicted values of source rows; higher values are better. None is
        balanced accuracy, or minus the mean squared error for regressors.
    sample_domain : Series or None, default=None
        As in `ImportanceWeightedScorer`.

    Notes
    -----
    The circular strategy of [1]_. A clone is fitted for each score, to the rows that are scored:
    hold out enough of them. An error that the way back undoes, such as two exchanged classes, goes
    unnoticed.

    References
    ----------
    .. [1] L. Bruzzone and M. Marconcini, "Domain adaptation problems: a DASVM classification
       technique and a circular validation strategy", IEEE TPAMI 32, 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sktransfer.metrics import CircularValidationScorer
    >>> X = np.array([[0.0], [1.0], [4.0], [5.0], [0.5], [1.5], [4.5], [5.5]])
    >>> y, sample_domain = np.array([0, 0, 1, 1, -1, -1, -1, -1]), np.repeat([1, -1], 4)
    >>> model = LogisticRegression().fit(X[:4], y[:4])
    >>> CircularValidationScorer()(model, X, y, sample_domain=sample_domain)
    1.0
    """

    def __init__(self, *, metric: Callable[..., Any] | None = None, sample_domain: Vector = None):
        self.metric = metric
        self.sample_domain = sample_domain

    def _value(
        self, estimator: BaseEstimator, X: Any, y: Any, domain: np.ndarray, is_source: np.ndarray
    ) -> float:
        metric = self.metric
        if metric is not None and not callable(metric):
            raise ValueError(f"metric must be None or callable, got {metric!r}")
        if metric is None:
            metric = _minus_squared_error if is_regressor(estimator) else _mean_recall
        labels = source_labels(y, is_source, self)
        source, target = take_rows(X, is_source), take_rows(X, ~is_source)
        guessed = predict_rows(estimator, "predict", target, domain[~is_source])
        if not is_regressor(estimator) and (guessed == guessed[0]).all():
            # Most classifiers refuse to learn from a single class, which they could only repeat.
            predicted = np.full(len(labels), guessed[0])
        else:
            domains = domain_fit_params(estimator, -domain)
            if domains:
                # Source rows are the target now, and their labels must not leak into the clone.
                pseudo_labels = np.full(len(domain), guessed[0], dtype=guessed.dtype)
                pseudo_labels[~is_source] = guessed
                reverse = clone(estimator).fit(X, pseudo_labels, **domains)
            else:
                reverse = clone(estimator).fit(target, guessed)
            predicted = predict_rows(reverse, "predict", source, -domain[is_source])
        return float(metric(labels, predicted))


def controlled_mean(losses: np.ndarray, weights: np.ndarray) -> float:
    """Weighted mean loss, with the weights, whose true mean is 1, as a control variate."""
    weighted = losses * weights
    covariance = np.cov(weighted, weights)
    eta = -covariance[0, 1] / covariance[1, 1] if covariance[1, 1] > 0 else 0.0
    return float(weighted.mean() + eta * weights.mean() - eta)


def _minus_squared_error(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    return -float(mean_squared_error(y_true, y_pred))


def _mean_recall(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Balanced accuracy, without its warning about predicted classes that y_true lacks."""
    return float(recall_score(y_true, y_pred, labels=np.unique(y_true), average="macro"))
