"""A head to begin with: a linear model on the features of the network as it is."""

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV

from sktransfer.finetuning.network import Head

_ALPHAS = np.logspace(-2, 6, 17)

_STRENGTHS = np.logspace(-4, 0, 9)
"""Inverse penalties C that a logistic head is chosen from. No single one will do: for 1,280
features of 2,000 images 0.01 is best, for the features of 40 series 1."""

_TIMID = 0.1
"""Of the best C, for a head to begin with: one that has learned its rows by heart leaves the
network nothing to learn from them."""

_POWERS = (1.0, 0.5)
"""Of the deviations that features are divided by. 1 makes all features equal; 0.5, Pareto scaling,
leaves those that vary more some of their weight. Series want the one, images the other."""

_LEAST_SCALE = 0.1
"""Of a feature, relative to the mean one."""

_FOLDS = 3
_ROWS_OF_ONE_FOLD = 1000
"""With so many rows, to leave out one fold tells enough."""


def fit_head(
    features: np.ndarray,
    values: np.ndarray,
    weights: np.ndarray,
    *,
    task: str,
    random: np.random.RandomState | None = None,
    final: bool = False,
) -> Head:
    """Scale features, and fit a linear model to them.

    Parameters
    ----------
    features : ndarray of shape (n, n_features)
    values : ndarray of shape (n, n_outputs)
        As in `sktransfer.finetuning.targets.Targets`.
    weights : ndarray of shape (n,)
    task : {"classification", "multilabel", "regression"}
        For the first two, logistic regression, whose penalty and scaling of features are chosen by
        the log loss of rows left out; for the last, ridge regression on standardised features,
        whose penalty is chosen by leave-one-out errors.
    random : RandomState or None, default=None
        Draw the head's weights from it instead, as ``torch.nn.Linear`` does.
    final : bool, default=False
        Whether it is the last word rather than a start for training.
    """
    features, weights = features.astype(np.float64), weights.astype(np.float64)
    share = weights / weights.sum()
    mean = share @ features
    std = np.sqrt(share @ (features - mean) ** 2)
    # Rounding gives a constant a deviation, too, which must not be blown up to 1.
    constant = std <= len(features) * np.finfo(np.float64).eps * np.abs(mean)
    if not final:
        # A unit that hardly ever moves would shout if tuning woke it; small ones may well matter.
        std = np.maximum(std, _LEAST_SCALE * std.mean())
    scales = [np.where(constant, 1.0, std**p * std.mean() ** (1 - p)) for p in _POWERS]
    n_outputs = values.shape[1]
    if random is not None:
        bound = 1 / np.sqrt(features.shape[1])
        coef = random.uniform(-bound, bound, (n_outputs, features.shape[1]))
        return Head(mean, scales[0], coef, np.zeros(n_outputs))
    # Weights of zero may leave a class without rows; the others decide then.
    counted = weights > 0
    centred, values, weights = (features - mean)[counted], values[counted], weights[counted]
    if task == "regression":
        ridge = RidgeCV(alphas=_ALPHAS).fit(centred / scales[0], values, sample_weight=weights)
        return Head(mean, scales[0], ridge.coef_.reshape(n_outputs, -1), np.ravel(ridge.intercept_))
    with warnings.catch_warnings():
        if not final:
            warnings.simplefilter("ignore", ConvergenceWarning)  # it is a start, no more
        # One question with several answers, or several with two each.
        questions = [values.argmax(1)] if task == "classification" else list(values.T > 0.5)
        choices = [_choose_penalties(centred / scale, questions, weights) for scale in scales]
        best = min(range(len(scales)), key=lambda number: choices[number][0])
        scale, penalties = scales[best], choices[best][1]
        n_answers = n_outputs if task == "classification" else 2
        answers = [
            _logistic(centred / scale, codes, weights, C, final, n_answers)
            for codes, C in zip(questions, penalties, strict=True)
        ]
    if task == "classification":
        coef, intercept = answers[0]
    else:
        coef = np.stack([c[1] - c[0] for c, _ in answers])
        intercept = np.array([b[1] - b[0] for _, b in answers])
    return Head(mean, scale, coef, intercept)


def _logistic(
    table: np.ndarray, codes: np.ndarray, weights: np.ndarray, C: float, final: bool, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """A row of coefficients and an intercept for each class."""
    codes = codes.astype(np.int64)
    present = np.unique(codes)
    coef = np.zeros((n_classes, table.shape[1]))
    # What does not occur is improbable, by about as many rows as there are.
    intercept = np.full(n_classes, -np.log(len(codes) + 1.0))
    if len(present) == 1:
        intercept[present] = 0.0
        return coef, intercept
    model = LogisticRegression(C=C, max_iter=1000) if final else _rough(C * _TIMID)
    model.fit(table, codes, sample_weight=weights)
    if len(present) == 2:
        coef[present] = np.concatenate([-model.coef_, model.coef_]) / 2
        intercept[present] = np.concatenate([-model.intercept_, model.intercept_]) / 2
    else:
        coef[present], intercept[present] = model.coef_, model.intercept_
    return coef, intercept


def _rough(C: float) -> LogisticRegression:
    return LogisticRegression(C=C, max_iter=200, tol=1e-3, warm_start=True)


def _choose_penalties(
    table: np.ndarray, questions: Sequence[np.ndarray], weights: np.ndarray
) -> tuple[float, list[float]]:
    """The loss on rows left out, and the C of each question that makes it least."""
    chosen = [_choose_penalty(table, codes, weights) for codes in questions]
    return sum(loss for loss, _ in chosen), [C for _, C in chosen]


def _choose_penalty(
    table: np.ndarray, codes: np.ndarray, weights: np.ndarray
) -> tuple[float, float]:
    """The least log loss on rows left out, and its C.

    C rises until the loss does: weak penalties take the longest to fit.
    """
    # Rows of a class are dealt to the folds in turn, so that each has of all that are frequent.
    order = np.argsort(codes, kind="stable")
    fold_of = np.empty(len(codes), dtype=np.int64)
    fold_of[order] = np.arange(len(codes)) % _FOLDS
    n_folds = _FOLDS if len(codes) < _ROWS_OF_ONE_FOLD else 1
    folds = [(fold_of != fold, fold_of == fold) for fold in range(n_folds)]
    if any(len(np.unique(codes[learn])) < 2 for learn, _ in folds):  # so few rows tell nothing
        return np.inf, _STRENGTHS[-1]
    models = [_rough(1.0) for _ in folds]
    least, best = np.inf, _STRENGTHS[0]
    for C in _STRENGTHS:
        loss = 0.0
        for model, (learn, look) in zip(models, folds, strict=True):
            model.set_params(C=C).fit(table[learn], codes[learn], sample_weight=weights[learn])
            known = look & np.isin(codes, model.classes_)  # others are wrong whatever C is
            of_own = np.searchsorted(model.classes_, codes[known])
            log_probabilities = model.predict_log_proba(table[known])
            loss -= weights[known] @ log_probabilities[np.arange(len(of_own)), of_own]
        if loss >= least:
            break
        least, best = loss, C
    return float(least), float(best)
