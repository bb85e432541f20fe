"""Derivatives of a class score, or of a predicted number, with respect to the features."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp
from sklearn.pipeline import Pipeline

from sktransfer.finetuning.estimator import FineTuned

_RELATIVE_STEP = 1e-4
"""Step of a finite difference, relative to the larger of the feature and the root mean square of
the row: small enough for a curved score, and large enough for one that is rounded to float32."""

_MAX_BYTES = 2**26
"""Size of the feature vectors that a head scores in one call."""


@dataclass(frozen=True)
class DifferentiableHead:
    """Scores of the steps after the features, and their derivatives."""

    name: str  # of the estimator, for errors
    classes: np.ndarray | None  # labels of the columns of `scores`; None for a regressor
    # From features (n, n_features) to scores (n, n_outputs).
    scores: Callable[[np.ndarray], np.ndarray]
    # From features and one column per row to the derivatives (n, n_features).
    gradients: Callable[[np.ndarray, np.ndarray], np.ndarray]
    # From features to the column of the prediction for each row.
    predicted_columns: Callable[[np.ndarray], np.ndarray]

    def columns(self, features: np.ndarray, target: Any) -> np.ndarray:
        """Columns of the scores of `target`, a label or one per row; None is the predicted one."""
        if target is None:
            return self.predicted_columns(features)
        n = len(features)
        targets = [target] * n if np.ndim(target) == 0 else list(target)
        known = (
            list(range(self.scores(features[:1]).shape[1]))
            if self.classes is None
            else self.classes.tolist()
        )
        plain = [each.item() if isinstance(each, np.generic) else each for each in targets]
        for each in plain:
            if each not in known:
                kind = "number of an output" if self.classes is None else "class"
                raise ValueError(f"target={each!r} is no {kind}; there are {known}")
        return np.array([known.index(each) for each in plain])

    def title(self, column: int, score: float) -> str:
        """The class of a column, or the score that a regressor predicts."""
        return f"{score:.3g}" if self.classes is None else str(self.classes[column])


def head_of_fine_tuned(estimator: FineTuned) -> DifferentiableHead:
    """The linear head of a fine-tuned estimator; with two classes, each against the other."""
    coef = estimator.coef_
    two = estimator._fitted_task == "classification" and len(coef) == 2
    if two:
        coef = coef - coef[::-1]

    def scores(features: np.ndarray) -> np.ndarray:
        found = estimator._head_scores(features)
        return found - found[:, ::-1] if two else found

    return DifferentiableHead(
        type(estimator).__name__,
        getattr(estimator, "classes_", None),
        scores,
        lambda features, columns: coef[columns],
        lambda features: (
            scores(features).argmax(axis=1)
            if hasattr(estimator, "classes_")
            else np.zeros(len(features), dtype=int)
        ),
    )


def head_of_pipeline(tail: Pipeline) -> DifferentiableHead:
    """The head that consists of the fitted steps after the features."""
    last = tail.steps[-1][1] if tail.steps else None
    name = type(last).__name__
    if not hasattr(tail, "predict"):
        raise TypeError(
            "estimator must end in a fitted classifier or regressor after the network, as in "
            f"make_pipeline(PretrainedCNNFeatures(), LogisticRegression()); its last step is "
            f"{'the network' if last is None else name}"
        )
    classes: Any = getattr(tail, "classes_", None)
    if isinstance(classes, list):
        raise TypeError(
            f"{name} predicts several outputs of classes at once; explain one fitted to a single y"
        )
    names_in = getattr(tail.steps[0][1], "feature_names_in_", None)

    def with_names(rows: np.ndarray) -> Any:
        if names_in is None:  # the steps were not fitted to a DataFrame
            return rows
        import pandas as pd

        return pd.DataFrame(rows, columns=names_in)

    def scores(rows: np.ndarray) -> np.ndarray:
        if hasattr(tail, "decision_function"):
            found = np.asarray(tail.decision_function(with_names(rows)), dtype=np.float64)
        elif classes is None:
            found = np.asarray(tail.predict(with_names(rows)), dtype=np.float64)
        elif hasattr(tail, "predict_proba"):
            return _log_odds(_log_proba(tail, with_names(rows)))
        else:
            raise TypeError(
                f"{name} has neither decision_function nor predict_proba, so its classes have no "
                f"score to explain; {_SUITABLE_HEADS}"
            )
        if found.ndim == 1:
            found = found[:, None]
        if classes is None or found.shape[1] == len(classes):
            return found
        if len(classes) == 2 and found.shape[1] == 1:
            return np.hstack([-found, found])
        raise TypeError(
            f"the decision_function of {name} has {found.shape[1]} columns for {len(classes)} "
            "classes; for a support vector machine set decision_function_shape='ovr'"
        )

    def predicted_columns(features: np.ndarray) -> np.ndarray:
        if classes is None:
            return np.zeros(len(features), dtype=int)
        labels = np.asarray(tail.predict(with_names(features)))
        if labels.ndim == 2:  # an indicator matrix: explain the label with the highest score
            return scores(features).argmax(axis=1)
        return np.array([np.flatnonzero(classes == label)[0] for label in labels])

    def gradients(features: np.ndarray, columns: np.ndarray) -> np.ndarray:
        found = np.stack(
            [
                _numerical_gradient(scores, row, column)
                for row, column in zip(features, columns, strict=True)
            ]
        )
        flat = np.flatnonzero(~found.any(axis=1))
        if len(flat):
            raise ValueError(
                f"the score of {name} does not change with the features near X[{flat[0]}]: it is "
                "constant there, as it is between the thresholds of trees and forests and among "
                f"nearest neighbours, or it is saturated; {_SUITABLE_HEADS}"
            )
        return found

    labels = None if classes is None else np.asarray(classes)
    return DifferentiableHead(name, labels, scores, gradients, predicted_columns)


_SUITABLE_HEADS = (
    "Grad-CAM needs a head whose score has a slope, such as LogisticRegression, "
    "LinearDiscriminantAnalysis, SVC, RidgeClassifier, MLPClassifier, Ridge or SVR"
)


def _numerical_gradient(
    scores: Callable[[np.ndarray], np.ndarray], row: np.ndarray, column: int
) -> np.ndarray:
    """The gradient of one score by central differences, for many features in each call.

    A score may jump, as that of a support vector machine does where one of its votes changes.
    Where one side is much steeper than the other, the derivative of the flatter side is taken.
    """
    x = row.astype(np.float64)
    scale = np.sqrt(np.mean(x**2)) or 1.0
    step = _RELATIVE_STEP * np.maximum(np.abs(x), scale)
    score = scores(x[None])[0, column]
    gradient = np.empty_like(x)
    batch_size = max(1, _MAX_BYTES // (2 * x.nbytes))
    for start in range(0, len(x), batch_size):
        batch = np.arange(start, min(start + batch_size, len(x)))
        numbers = np.arange(len(batch))
        rows = np.repeat(x[None], 2 * len(batch), axis=0)
        rows[numbers, batch] += step[batch]
        rows[numbers + len(batch), batch] -= step[batch]
        above, below = scores(rows)[:, column].reshape(2, -1)
        up = (above - score) / step[batch]
        down = (score - below) / step[batch]
        smaller = np.where(np.abs(up) < np.abs(down), up, down)
        jumps = np.maximum(np.abs(up), np.abs(down)) > 2 * np.abs(smaller)
        gradient[batch] = np.where(jumps, smaller, (up + down) / 2)
    return gradient


def _log_proba(tail: Pipeline, rows: Any) -> np.ndarray:
    with np.errstate(divide="ignore"):
        found = (
            tail.predict_log_proba(rows)
            if hasattr(tail, "predict_log_proba")
            else np.log(tail.predict_proba(rows))
        )
    return np.nan_to_num(np.asarray(found, dtype=np.float64), neginf=-1e300)


def _log_odds(log_proba: np.ndarray) -> np.ndarray:
    """The log odds of each class, log p - log(1 - p), without underflow."""
    others = [
        logsumexp(np.delete(log_proba, column, axis=1), axis=1)
        for column in range(log_proba.shape[1])
    ]
    return log_proba - np.stack(others, axis=1)
