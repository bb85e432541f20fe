"""A head to begin with: a linear model on the features of the network as it is."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV

from sktransfer.finetuning.network import Head

_ALPHAS = np.logspace(-2, 6, 17)

_C_START = 0.1
"""Inverse penalty of a head to begin with. A confident one lets the first steps of training throw
the features about (with 1 the loss of the first epoch was ten times as high), and a timid one is
not done in the few steps of small data (with 0.01 it stayed behind the frozen features)."""


_LEAST_SCALE = 0.1
"""Of a feature, relative to the mean one."""


def fit_head(
    features: np.ndarray,
    values: np.ndarray,
    weights: np.ndarray,
    *,
    task: str,
    random: np.random.RandomState | None = None,
    final: bool = False,
) -> Head:
    """Standardise features, and fit a linear model to them.

    Parameters
    ----------
    features : ndarray of shape (n, n_features)
    values : ndarray of shape (n, n_outputs)
        As in `sktransfer.finetuning.targets.Targets`.
    weights : ndarray of shape (n,)
    task : {"classification", "multilabel", "regression"}
        For the first two, logistic regression; for the last, ridge regression whose penalty is
        chosen by leave-one-out errors.
    random : RandomState or None, default=None
        Draw the head's weights from it instead, as ``torch.nn.Linear`` does.
    final : bool, default=False
        Whether it is the last word, with C=1, rather than a start for training.
    """
    features, weights = features.astype(np.float64), weights.astype(np.float64)
    share = weights / weights.sum()
    mean = share @ features
    std = np.sqrt(share @ (features - mean) ** 2)
    # A unit that hardly ever moves would shout if tuning woke it; small ones may well matter.
    scale = std.copy() if final else np.maximum(std, _LEAST_SCALE * std.mean())
    # Rounding gives a constant a deviation, too, which must not be blown up to 1.
    scale[scale <= len(features) * np.finfo(np.float64).eps * np.abs(mean)] = 1.0
    n_outputs = values.shape[1]
    if random is not None:
        bound = 1 / np.sqrt(features.shape[1])
        coef = random.uniform(-bound, bound, (n_outputs, features.shape[1]))
        return Head(mean, scale, coef, np.zeros(n_outputs))
    # Weights of zero may leave a class without rows; the others decide then.
    counted = weights > 0
    table, values, weights = ((features - mean) / scale)[counted], values[counted], weights[counted]
    with warnings.catch_warnings():
        if not final:
            warnings.simplefilter("ignore", ConvergenceWarning)  # it is a start, no more
        if task == "regression":
            ridge = RidgeCV(alphas=_ALPHAS).fit(table, values, sample_weight=weights)
            coef, intercept = ridge.coef_.reshape(n_outputs, -1), np.ravel(ridge.intercept_)
        elif task == "multilabel":
            columns = [_logistic(table, column > 0.5, weights, final) for column in values.T]
            coef = np.stack([c[1] - c[0] for c, _ in columns])
            intercept = np.array([b[1] - b[0] for _, b in columns])
        else:
            coef, intercept = _logistic(table, values.argmax(1), weights, final, n_outputs)
    return Head(mean, scale, coef, intercept)


def _logistic(
    table: np.ndarray, codes: np.ndarray, weights: np.ndarray, final: bool, n_classes: int = 2
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
    how = {"max_iter": 1000} if final else {"C": _C_START, "max_iter": 200, "tol": 1e-3}
    model = LogisticRegression(**how).fit(table, codes, sample_weight=weights)
    if len(present) == 2:
        coef[present] = np.concatenate([-model.coef_, model.coef_]) / 2
        intercept[present] = np.concatenate([-model.intercept_, model.intercept_]) / 2
    else:
        coef[present], intercept[present] = model.coef_, model.intercept_
    return coef, intercept
