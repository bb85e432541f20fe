"""Choosing models for a target domain that has no labels: scorers for ``scoring=``.

All of them are called ``scorer(estimator, X, y, sample_domain=...)``, look at the labels of source
rows only, and return a number of which more is better.

With metadata routing enabled they ask for `sample_domain` by themselves, so that
``GridSearchCV(estimator, grid, scoring=scorer).fit(X, y, sample_domain=...)`` hands each of them
the domains of the rows that are held out. Without, scikit-learn hands a scorer nothing but X and y:
then either X is a DataFrame, and the scorer is constructed with a Series of domains, in which rows
are looked up by their index; or the scorer is called by hand.
"""

import numbers
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import clone, is_regressor
from sklearn.metrics import mean_squared_error, recall_score
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state, check_scalar

from sktransfer.metrics._scoring import (
    DomainScorer,
    called,
    check_loss,
    density_ratio,
    fit_domains,
    flat,
    labels_of_source,
    losses_of,
    rows_of,
)


class ImportanceWeightedScorer(DomainScorer):
    """Minus the loss on source rows, each weighted by how much it is like target rows.

    Parameters
    ----------
    loss : {"auto", "zero_one", "log", "squared", "absolute"} or callable, default="auto"
        "auto" is "squared" for regressors and else "zero_one", which is the share of errors. "log"
        needs `predict_proba`. A callable gets true and predicted values, and returns a loss per
        row.
    method : estimator or None, default=None
        Of what gives the weights: it has ``fit(X, sample_domain=...)`` and then `sample_weight_`,
        as the reweighting methods of `sktransfer.adaptation` do. It is cloned. None takes the odds
        of logistic regression of domains on standardised features.
    sample_domain : Series or None, default=None
        Domains of all rows, for when they are not passed in the call: rows of a DataFrame are
        looked up by their index.

    Notes
    -----
    Section 3 of [1]_, with weights of mean 1. It estimates the loss on the target if domains
    differ by covariate shift alone, and if source rows lie wherever target rows do. If few of them
    carry all the weight the estimate is of high variance: see `effective_sample_size_` of the
    reweighting methods. The default weights follow a change of means, not one of spread.

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
        method: Any = None,
        sample_domain: Any = None,
    ) -> None:
        self.loss = loss
        self.method = method
        self.sample_domain = sample_domain

    def _value(
        self, estimator: Any, X: Any, y: Any, domain: np.ndarray, is_source: np.ndarray
    ) -> float:
        check_loss(self.loss)
        labels = labels_of_source(y, is_source, self)
        if self.method is None:
            weights = density_ratio(flat(rows_of(X, is_source)), flat(rows_of(X, ~is_source)))
        else:
            fitted = clone(self.method).fit(X, sample_domain=domain)
            weights = fitted.sample_weight_[is_source]
        source = rows_of(X, is_source)
        losses = losses_of(estimator, self.loss, source, labels, domain[is_source])
        return -float(np.average(losses, weights=weights))


class PredictionEntropyScorer(DomainScorer):
    """Minus the mean entropy of the probabilities that are predicted for target rows.

    Parameters
    ----------
    sample_domain : Series or None, default=None
        As in `ImportanceWeightedScorer`.

    Notes
    -----
    The criterion of [1]_; in nats. It looks at no label at all, and needs an estimator with
    `predict_proba`. A model that is sure and wrong scores best: one that calls all rows the same
    class, or one with little regularisation. So compare with it models of equal confidence, such
    as strengths of one adaptation, never penalties of one classifier.

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

    def __init__(self, *, sample_domain: Any = None) -> None:
        self.sample_domain = sample_domain

    def _value(
        self, estimator: Any, X: Any, y: Any, domain: np.ndarray, is_source: np.ndarray
    ) -> float:
        target = rows_of(X, ~is_source)
        proba = called(estimator, "predict_proba", target, domain[~is_source]).astype(np.float64)
        logs = np.log(proba, out=np.zeros_like(proba), where=proba > 0)
        return float((proba * logs).sum(1).mean())


class DeepEmbeddedValidationScorer(DomainScorer):
    """Minus the loss on source rows, weighted in the estimator's features, with less variance.

    Parameters
    ----------
    loss : {"auto", "zero_one", "log", "squared", "absolute"} or callable, default="auto"
        As in `ImportanceWeightedScorer`.
    features : "auto" or callable, default="auto"
        Where domains are compared. "auto" takes what the last estimator learns from: what reaches
        the last step of a Pipeline, and what the map of an `AdaptedClassifier` makes of that; of a
        search its best estimator counts. A callable gets the estimator, X and the domains, and
        returns an array of shape (n_samples, n_features).
    cv : int, default=5
        Folds of the logistic regression that tells the domains apart: rows are weighted by one that
        was not fitted to them.
    random_state : int, RandomState instance or None, default=None
        Of the folds.
    sample_domain : Series or None, default=None
        As in `ImportanceWeightedScorer`.

    Notes
    -----
    Algorithm 1 of [1]_: ``mean(w l) + eta mean(w) - eta`` with ``eta = -cov(w l, w) / var(w)``,
    where l are the losses and w the density ratios, whose mean is known to be 1. The estimate
    may be below 0, or above the largest loss. What is said of `ImportanceWeightedScorer` holds
    here, in features; if these tell domains apart without error, the weights are all but 0 and the
    score tells nothing.

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
        random_state: Any = None,
        sample_domain: Any = None,
    ) -> None:
        self.loss = loss
        self.features = features
        self.cv = cv
        self.random_state = random_state
        self.sample_domain = sample_domain

    def _value(
        self, estimator: Any, X: Any, y: Any, domain: np.ndarray, is_source: np.ndarray
    ) -> float:
        check_loss(self.loss)
        check_scalar(self.cv, "cv", numbers.Integral, min_val=2)
        fewest = min(is_source.sum(), (~is_source).sum())
        if fewest < self.cv:
            raise ValueError(
                f"cv must be at most the number of rows of the smaller domain, {fewest}, got "
                f"{self.cv}"
            )
        labels = labels_of_source(y, is_source, self)
        features = self._features(estimator, X, domain)
        weights = density_ratio(
            features[is_source],
            features[~is_source],
            cv=self.cv,
            random=check_random_state(self.random_state),
        )
        source = rows_of(X, is_source)
        losses = losses_of(estimator, self.loss, source, labels, domain[is_source])
        return -controlled_mean(losses, weights)

    def _features(self, estimator: Any, X: Any, domain: np.ndarray) -> np.ndarray:
        if callable(self.features):
            return flat(self.features(estimator, X, domain))
        if not isinstance(self.features, str) or self.features != "auto":
            raise ValueError(f"features must be 'auto' or callable, got {self.features!r}")
        if hasattr(estimator, "best_estimator_"):
            return self._features(estimator.best_estimator_, X, domain)
        if isinstance(estimator, Pipeline):
            if len(estimator.steps) > 1:
                X = called(estimator[:-1], "transform", X, domain)
            return self._features(estimator.steps[-1][1], X, domain)
        if hasattr(getattr(estimator, "method_", None), "transform"):
            return flat(called(estimator.method_, "transform", flat(X), domain))
        return flat(X)


class CircularValidationScorer(DomainScorer):
    """Whether labels survive the way to the target and back.

    A clone of the estimator learns from target rows, with the labels that the estimator predicts
    for them, with the domains' parts reversed; it is judged on the source rows, whose labels are
    known.

    Parameters
    ----------
    metric : callable or None, default=None
        Gets true and predicted values of source rows, and returns a number of which more is better.
        None is balanced accuracy, or minus the mean squared error for regressors.
    sample_domain : Series or None, default=None
        As in `ImportanceWeightedScorer`.

    Notes
    -----
    The circular strategy of [1]_. The estimator is fitted once more for each score, to the rows
    that are scored: hold out enough of them. A wrong way there with its inverse back, such as two
    classes swapped for one another, goes unnoticed.

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

    def __init__(self, *, metric: Callable[..., Any] | None = None, sample_domain: Any = None):
        self.metric = metric
        self.sample_domain = sample_domain

    def _value(
        self, estimator: Any, X: Any, y: Any, domain: np.ndarray, is_source: np.ndarray
    ) -> float:
        metric = self.metric
        if metric is not None and not callable(metric):
            raise ValueError(f"metric must be None or callable, got {metric!r}")
        if metric is None:
            metric = _minus_squared_error if is_regressor(estimator) else _mean_recall
        labels = labels_of_source(y, is_source, self)
        source, target = rows_of(X, is_source), rows_of(X, ~is_source)
        there = called(estimator, "predict", target, domain[~is_source])
        if not is_regressor(estimator) and (there == there[0]).all():
            # Most classifiers refuse a single class; what they would have learned is plain.
            back = np.full(len(labels), there[0])
        else:
            domains = fit_domains(estimator, -domain)
            if domains:
                # Source rows are targets now, and must not bring their labels along.
                mixed = np.full(len(domain), there[0], dtype=there.dtype)
                mixed[~is_source] = there
                returning = clone(estimator).fit(X, mixed, **domains)
            else:
                returning = clone(estimator).fit(target, there)
            back = called(returning, "predict", source, -domain[is_source])
        return float(metric(labels, back))


def controlled_mean(losses: np.ndarray, weights: np.ndarray) -> float:
    """Weighted mean loss, with the weights, whose mean is to be 1, as control variate."""
    weighted = losses * weights
    covariance = np.cov(weighted, weights)
    eta = -covariance[0, 1] / covariance[1, 1] if covariance[1, 1] > 0 else 0.0
    return float(weighted.mean() + eta * weights.mean() - eta)


def _minus_squared_error(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    return -float(mean_squared_error(y_true, y_pred))


def _mean_recall(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Balanced accuracy, without a warning where a class is predicted that y_true lacks."""
    return float(recall_score(y_true, y_pred, labels=np.unique(y_true), average="macro"))
