"""Linear models on the features of the untuned network, as initial or final heads."""

import warnings
from typing import NamedTuple

import numpy as np
from scipy.linalg import qr
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV

from sktransfer.finetuning.network import LinearHead

_ALPHAS = np.logspace(-2, 6, 17)

_CS = np.logspace(-4, 0, 9)
"""Candidates for the inverse penalty C of a logistic head. No single one suits all data: for 1,280
features of 2,000 images 0.01 is best, for the features of 40 series 1."""

_INITIAL_C_SHARE = 0.1
"""C of an initial head, relative to the best one: a head that fits its rows perfectly has no
gradient left from which the network could learn."""

_POWERS = {"classification": (1.0, 0.5), "multilabel": (1.0, 0.5), "regression": (1.0, 0.5, 0.0)}
"""Powers of the standard deviation by which features are divided. 1 gives all features the same
variance; 0.5 (Pareto scaling) leaves more to those that vary more; 0 divides all by the mean
deviation. The first suits series, the others images."""

_LEAST_SCALE = 0.1
"""Least scale of a feature, relative to the mean scale."""

_ROUNDING = 16 * float(np.finfo(np.float32).eps)
"""Least scale of a feature, relative to its mean: networks compute in float32, and their sums round
in another way in batches of another size."""

_FOLDS = 3
_ROWS_OF_ONE_FOLD = 1000
"""With this many rows, holding out one of the folds is accurate enough."""


class RowSpace(NamedTuple):
    """Rows of a wide table in an orthonormal basis of the space that they span.

    The squared norm of the coefficients is the same in either basis, and the best coefficients lie
    in that space, as anything outside it costs a penalty and changes no score. A linear model with
    an L2 penalty may therefore be fitted to the few coordinates, and its coefficients mapped back.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_coordinates)
    basis : ndarray of shape (n_features, n_coordinates) or None
        None if the rows are not changed.
    """

    rows: np.ndarray
    basis: np.ndarray | None

    @classmethod
    def of(cls, table: np.ndarray) -> "RowSpace":
        """The row space of a table, where that is much smaller than all columns."""
        if 2 * table.shape[0] > table.shape[1]:
            return cls(table, None)
        basis, triangle = qr(table.T, mode="economic")
        return cls(np.ascontiguousarray(triangle.T), basis)

    def of_columns(self, coef: np.ndarray) -> np.ndarray:
        """Coefficients of the columns, (n_outputs, n_features), from those of the coordinates."""
        return coef if self.basis is None else coef @ self.basis.T


def fit_head(
    features: np.ndarray,
    values: np.ndarray,
    weights: np.ndarray,
    *,
    task: str,
    random: np.random.RandomState | None = None,
    final: bool = False,
) -> LinearHead:
    """Scale features, and fit a linear model to them, with values as in `Targets`.

    Classes and labels get logistic regression, whose penalty and scaling of features are chosen by
    the log loss of held-out rows; numbers get ridge regression, with both by leave-one-out errors,
    or their weighted mean where that has smaller ones. With `random` the weights are drawn instead,
    as ``torch.nn.Linear`` does. A head that is not `final` is the start of a training.
    """
    features, weights = features.astype(np.float64), weights.astype(np.float64)
    share = weights / weights.sum()
    mean = share @ features
    std = np.sqrt(share @ (features - mean) ** 2)
    # Rounding gives a constant column a tiny deviation, which must not be scaled up to 1.
    constant = std <= len(features) * np.finfo(np.float64).eps * np.abs(mean)
    # Dividing by a tiny deviation would amplify a feature enormously in a row that has more of it
    # than the training rows, or once tuning activates it.
    std = np.maximum(std, _LEAST_SCALE * std.mean())
    std = np.maximum(std, _ROUNDING * np.abs(mean))
    powers = _POWERS[task] if final or task != "regression" else (1.0,)
    scales = [np.where(constant, 1.0, std**p * std.mean() ** (1 - p)) for p in powers]
    n_outputs = values.shape[1]
    if random is not None:
        bound = 1 / np.sqrt(features.shape[1])
        coef = random.uniform(-bound, bound, (n_outputs, features.shape[1]))
        return LinearHead(mean, scales[0], coef, np.zeros(n_outputs))
    # Rows of weight zero are left out, also where that leaves a class without rows.
    counted = weights > 0
    centred, values, weights = (features - mean)[counted], values[counted], weights[counted]
    if task == "regression":
        ridges = [_ridge(centred / scale, values, weights) for scale in scales]
        best = min(range(len(scales)), key=lambda number: ridges[number].error.sum())
        return LinearHead(mean, scales[best], ridges[best].coef, ridges[best].intercept)
    with warnings.catch_warnings():
        if not final:
            warnings.simplefilter("ignore", ConvergenceWarning)  # an initial head may be rough
        # One problem with several classes, or a binary problem for each label.
        problems = [values.argmax(1)] if task == "classification" else list(values.T > 0.5)
        tables = [RowSpace.of(centred / scale) for scale in scales]
        choices = [
            [_choose_penalty(table.rows, codes, weights) for codes in problems] for table in tables
        ]
        best = min(range(len(scales)), key=lambda number: sum(loss for loss, _ in choices[number]))
        n_classes = n_outputs if task == "classification" else 2
        models = [
            _logistic(tables[best].rows, codes, weights, C, final, n_classes)
            for codes, (_, C) in zip(problems, choices[best], strict=True)
        ]
    if task == "classification":
        coef, intercept = models[0]
    else:
        coef = np.stack([c[1] - c[0] for c, _ in models])
        intercept = np.array([b[1] - b[0] for _, b in models])
    return LinearHead(mean, scales[best], tables[best].of_columns(coef), intercept)


class _Ridge(NamedTuple):
    """Coefficients, (n_outputs, n_features), intercepts and leave-one-out errors, (n_outputs,)."""

    coef: np.ndarray
    intercept: np.ndarray
    error: np.ndarray


def _ridge(table: np.ndarray, values: np.ndarray, weights: np.ndarray) -> _Ridge:
    """Ridge regression of each output with its best penalty, or the mean if none is as good.

    The errors are weighted means of squares. Without the row i, of weight w_i, the mean of the
    others differs from y_i by (y_i - mean) W / (W - w_i), where W is the sum of all weights.
    """
    n_outputs = values.shape[1]
    model = RidgeCV(alphas=_ALPHAS, alpha_per_target=n_outputs > 1)
    model.fit(table, values if n_outputs > 1 else values[:, 0], sample_weight=weights)
    coef, intercept = model.coef_.reshape(n_outputs, -1), np.ravel(model.intercept_)
    error = -np.ravel(model.best_score_)
    if len(values) > 1:
        mean = weights @ values / weights.sum()
        left_out = (values - mean) / (1 - weights / weights.sum())[:, None]
        of_mean = np.mean(weights[:, None] * left_out**2, axis=0)
        worse = ~(error < of_mean)
        coef[worse], intercept[worse], error[worse] = 0.0, mean[worse], of_mean[worse]
    return _Ridge(coef, intercept, error)


def _logistic(
    table: np.ndarray, codes: np.ndarray, weights: np.ndarray, C: float, final: bool, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients, (n_classes, n_features), and intercepts, (n_classes,), of a logistic model."""
    codes = codes.astype(np.int64)
    present = np.unique(codes)
    coef = np.zeros((n_classes, table.shape[1]))
    # A class without rows gets about the probability 1 / (n + 1).
    intercept = np.full(n_classes, -np.log(len(codes) + 1.0))
    if len(present) == 1:
        intercept[present] = 0.0
        return coef, intercept
    if final:
        model = LogisticRegression(C=C, max_iter=1000)
    else:
        model = _coarse_logistic(C * _INITIAL_C_SHARE)
    model.fit(table, codes, sample_weight=weights)
    if len(present) == 2:  # scikit-learn then has one row of coefficients
        coef[present] = np.concatenate([-model.coef_, model.coef_]) / 2
        intercept[present] = np.concatenate([-model.intercept_, model.intercept_]) / 2
    else:
        coef[present], intercept[present] = model.coef_, model.intercept_
    return coef, intercept


def _coarse_logistic(C: float) -> LogisticRegression:
    return LogisticRegression(C=C, max_iter=200, tol=1e-3, warm_start=True)


def _choose_penalty(
    table: np.ndarray, codes: np.ndarray, weights: np.ndarray
) -> tuple[float, float]:
    """The least log loss on held-out rows, and its C.

    C rises until the loss does, as models with weak penalties take the longest to fit.
    """
    # The rows of each class are assigned to the folds in turn, so that the folds are stratified.
    order = np.argsort(codes, kind="stable")
    fold_of = np.empty(len(codes), dtype=np.int64)
    fold_of[order] = np.arange(len(codes)) % _FOLDS
    n_folds = _FOLDS if len(codes) < _ROWS_OF_ONE_FOLD else 1
    folds = [(fold_of != fold, fold_of == fold) for fold in range(n_folds)]
    seen = [test & np.isin(codes, codes[train]) for train, test in folds]
    # Too few rows to choose by: a class has all of them, or every class has a single one.
    if any(len(np.unique(codes[train])) < 2 for train, _ in folds) or not np.any(seen):
        return np.inf, _CS[-1]
    models = [_coarse_logistic(1.0) for _ in folds]
    least, best = np.inf, _CS[0]
    for C in _CS:
        loss = 0.0
        for model, (train, _), known in zip(models, folds, seen, strict=True):
            if not known.any():  # rows of other classes are wrong for every C
                continue
            model.set_params(C=C).fit(table[train], codes[train], sample_weight=weights[train])
            columns = np.searchsorted(model.classes_, codes[known])
            log_probabilities = model.predict_log_proba(table[known])
            loss -= weights[known] @ log_probabilities[np.arange(len(columns)), columns]
        if loss >= least:
            break
        least, best = loss, C
    return float(least), float(best)
