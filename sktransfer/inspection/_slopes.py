"""How the score of a class, or a predicted number, changes with each feature."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp
from sklearn.pipeline import Pipeline

from sktransfer.finetuning.estimator import FineTuned

_STEP = 1e-4
"""Of a difference, relative to the feature and to the root mean square of all of its image:
small beside the curvature of any head, large beside the rounding of one in float32."""

_BYTES = 2**26
"""Of feature vectors that are handed to a head at once."""


@dataclass(frozen=True)
class Head:
    """What comes after the features.

    Parameters
    ----------
    name : str
        For errors.
    classes : ndarray or None
        Labels of the columns of `scores`; None for numbers.
    scores : callable
        From features (n, n_features) to (n, n_outputs).
    slopes : callable
        From features and one column per row to the derivatives (n, n_features).
    predicted : callable
        From features to the column that is predicted for each row.
    """

    name: str
    classes: np.ndarray | None
    scores: Callable[[np.ndarray], np.ndarray]
    slopes: Callable[[np.ndarray, np.ndarray], np.ndarray]
    predicted: Callable[[np.ndarray], np.ndarray]

    def columns(self, features: np.ndarray, target: Any) -> np.ndarray:
        """The column that `target`, one or one for each row, means; None is the predicted one.

        Raises
        ------
        ValueError
            There is no such class or output.
        """
        if target is None:
            return self.predicted(features)
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
        """What is explained, in a few characters."""
        return f"{score:.3g}" if self.classes is None else str(self.classes[column])


def head_of_tuned(estimator: FineTuned) -> Head:
    """The linear head of a fine-tuned estimator; for two classes the difference of their scores."""
    coef, intercept = estimator.coef_, estimator.intercept_
    if estimator._fitted_task == "classification" and len(coef) == 2:
        coef, intercept = coef - coef[::-1], intercept - intercept[::-1]

    def scores(features: np.ndarray) -> np.ndarray:
        return features @ coef.T + intercept

    return Head(
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


def head_of_steps(tail: Pipeline) -> Head:
    """Fitted steps after the features, ending in a classifier or regressor.

    Raises
    ------
    TypeError
        The last step predicts nothing, or several things at once.
    """
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

    def named(rows: np.ndarray) -> Any:
        if names_in is None:
            return rows
        import pandas as pd

        return pd.DataFrame(rows, columns=names_in)

    def scores(rows: np.ndarray) -> np.ndarray:
        if hasattr(tail, "decision_function"):
            found = np.asarray(tail.decision_function(named(rows)), dtype=np.float64)
        elif classes is None:
            found = np.asarray(tail.predict(named(rows)), dtype=np.float64)
        elif hasattr(tail, "predict_proba"):
            return _log_odds(_log_proba(tail, named(rows)))
        else:
            raise TypeError(
                f"{name} has neither decision_function nor predict_proba, so its classes have no "
                f"score to explain; {_WOULD_DO}"
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

    def predicted(features: np.ndarray) -> np.ndarray:
        if classes is None:
            return np.zeros(len(features), dtype=int)
        labels = np.asarray(tail.predict(named(features)))
        if labels.ndim == 2:  # several labels: the surest
            return scores(features).argmax(axis=1)
        return np.array([np.flatnonzero(classes == label)[0] for label in labels])

    def slopes(features: np.ndarray, columns: np.ndarray) -> np.ndarray:
        found = np.stack(
            [
                _differences(scores, row, column)
                for row, column in zip(features, columns, strict=True)
            ]
        )
        flat = np.flatnonzero(~found.any(axis=1))
        if len(flat):
            raise ValueError(
                f"the score of {name} does not change with the features near X[{flat[0]}]: it is "
                "constant there, as it is between the thresholds of trees and forests and among "
                f"nearest neighbours, or it is saturated; {_WOULD_DO}"
            )
        return found

    return Head(name, None if classes is None else np.asarray(classes), scores, slopes, predicted)


_WOULD_DO = (
    "Grad-CAM needs a head whose score has a slope, such as LogisticRegression, "
    "LinearDiscriminantAnalysis, SVC, RidgeClassifier, MLPClassifier, Ridge or SVR"
)


def _differences(
    scores: Callable[[np.ndarray], np.ndarray], row: np.ndarray, column: int
) -> np.ndarray:
    """Central differences of one score, of many features in one call.

    Where a score jumps, as that of a support vector machine does where one of its votes changes,
    the side without the jump counts.
    """
    x = row.astype(np.float64)
    typical = np.sqrt(np.mean(x**2)) or 1.0
    step = _STEP * np.maximum(np.abs(x), typical)
    here = scores(x[None])[0, column]
    slopes = np.empty_like(x)
    n_at_once = max(1, _BYTES // (2 * x.nbytes))
    for start in range(0, len(x), n_at_once):
        which = np.arange(start, min(start + n_at_once, len(x)))
        at = np.arange(len(which))
        rows = np.repeat(x[None], 2 * len(which), axis=0)
        rows[at, which] += step[which]
        rows[at + len(which), which] -= step[which]
        above, below = scores(rows)[:, column].reshape(2, -1)
        up = (above - here) / step[which]
        down = (here - below) / step[which]
        smaller = np.where(np.abs(up) < np.abs(down), up, down)
        jumps = np.maximum(np.abs(up), np.abs(down)) > 2 * np.abs(smaller)
        slopes[which] = np.where(jumps, smaller, (up + down) / 2)
    return slopes


def _log_proba(tail: Pipeline, rows: Any) -> np.ndarray:
    with np.errstate(divide="ignore"):
        found = (
            tail.predict_log_proba(rows)
            if hasattr(tail, "predict_log_proba")
            else np.log(tail.predict_proba(rows))
        )
    return np.nan_to_num(np.asarray(found, dtype=np.float64), neginf=-1e300)


def _log_odds(log_proba: np.ndarray) -> np.ndarray:
    """Log p - log(1 - p) of each class, without underflow."""
    others = [
        logsumexp(np.delete(log_proba, column, axis=1), axis=1)
        for column in range(log_proba.shape[1])
    ]
    return log_proba - np.stack(others, axis=1)
