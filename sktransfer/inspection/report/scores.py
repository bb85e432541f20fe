"""Scores of predictions, with intervals."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import xlogy
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

N_DRAWS = 1000
_Z = 1.959963984540054
"""Quantile of the normal distribution for 95 %."""

_MOST_DRAWN = 20_000_000
"""Rows that are drawn in all; of more rows there are fewer draws."""

_FLOOR = np.finfo(np.float64).eps
"""The smallest probability, as in scikit-learn's log loss."""


_LOWER_IS_BETTER = ("log loss", "mean absolute error", "root mean squared error")

_Measure = tuple[Callable[[np.ndarray], float], float | None, str]
"""The score of some rows, that of the best constant prediction, and an explanation."""


@dataclass(frozen=True)
class Score:
    """A number and its 95 % interval."""

    name: str
    value: float
    interval: tuple[float, float] | None  # None where resampling says nothing
    baseline: float | None  # the score of the best constant prediction
    explanation: str
    higher_is_better: bool = True


def wilson(hits: float, n: float) -> tuple[float, float]:
    """95 % interval of a share, which is sound for few rows and for shares of 0 and 1.

    References
    ----------
    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA
    22(158), 1927.
    """
    share = hits / n
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    # Of no hits, and of nothing but hits, the bound is exact; the formula comes near it only.
    low = 0.0 if hits == 0 else _rounded(middle - half)
    return low, 1.0 if hits == n else _rounded(middle + half)


def _rounded(bound: float) -> float:
    """Without the last digits, which arithmetic leaves behind: 1, not 0.9999999999999999."""
    return float(f"{bound:.12g}")


def losses_of(true: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """Minus the logarithm of the probability of each row's true class, a column of `proba`."""
    shares = np.clip(proba, _FLOOR, None)
    shares = shares / shares.sum(axis=1, keepdims=True)
    return -np.log(shares[np.arange(len(true)), true])


def classification_scores(
    true: np.ndarray,
    predicted: np.ndarray,
    n_classes: int,
    proba: np.ndarray | None,
    random: np.random.RandomState,
) -> list[Score]:
    """Accuracy and its like."""
    n = len(true)
    right = true == predicted
    shares = np.bincount(true, minlength=n_classes) / n
    present = np.count_nonzero(shares)
    common = np.full(n, shares.argmax())

    def matrix(rows: np.ndarray, guesses: np.ndarray) -> np.ndarray:
        cells = np.bincount(true[rows] * n_classes + guesses[rows], minlength=n_classes**2)
        return cells.reshape(n_classes, n_classes)

    measures: dict[str, _Measure] = {
        "balanced accuracy": (
            lambda drawn: _balanced(matrix(drawn, predicted)),
            1 / present,
            "mean over classes of the share of their rows that is found",
        ),
        "macro F1": (
            lambda drawn: _macro_f1(matrix(drawn, predicted)),
            _macro_f1(matrix(np.arange(n), common)),
            "mean over classes of F1, which joins precision and recall",
        ),
    }
    if proba is not None and n_classes == 2 and present == 2:
        rank = np.unique(proba[:, 1], return_inverse=True)[1]
        measures["ROC AUC"] = (
            lambda drawn: _auc(true[drawn], rank[drawn]),
            0.5,
            "chance that a row of the second class is rated above one of the first",
        )
    if proba is not None:
        losses = losses_of(true, proba)
        measures["log loss"] = (
            lambda drawn: float(losses[drawn].mean()),
            float(-xlogy(shares, shares).sum()),
            "surprise at the true class; punishes wrong certainty",
        )
    text = "share of rows whose class is right"
    accuracy = wilson(right.sum(), n)
    return [
        Score("accuracy", float(right.mean()), accuracy, float(shares.max()), text),
        *_resampled(measures, n, random),
    ]


def _resampled(measures: dict[str, _Measure], n: int, random: np.random.RandomState) -> list[Score]:
    """Scores by their measures of n rows, with bootstrap intervals."""
    intervals = bootstrap([measure for measure, _, _ in measures.values()], n, random)
    return [
        Score(name, measure(np.arange(n)), interval, baseline, text, name not in _LOWER_IS_BETTER)
        for (name, (measure, baseline, text)), interval in zip(
            measures.items(), intervals, strict=True
        )
    ]


def regression_scores(
    true: np.ndarray, predicted: np.ndarray, random: np.random.RandomState
) -> list[Score]:
    """R2, errors and their intervals; of several outputs the mean over them."""
    true, predicted = (each.reshape(len(true), -1).astype(np.float64) for each in (true, predicted))
    middle = np.broadcast_to(np.median(true, axis=0), true.shape)
    mean = np.broadcast_to(true.mean(axis=0), true.shape)

    def absolute(rows: np.ndarray, guesses: np.ndarray = predicted) -> float:
        return float(np.abs(true[rows] - guesses[rows]).mean())

    def root(rows: np.ndarray, guesses: np.ndarray = predicted) -> float:
        return float(np.sqrt(((true[rows] - guesses[rows]) ** 2).mean(axis=0)).mean())

    def explained(rows: np.ndarray) -> float:
        left = ((true[rows] - predicted[rows]) ** 2).sum(axis=0)
        total = ((true[rows] - true[rows].mean(axis=0)) ** 2).sum(axis=0)
        return float(np.mean(1 - left / total)) if total.all() else np.nan

    rows = np.arange(len(true))
    measures: dict[str, _Measure] = {
        "R2": (explained, 0.0, "share of the variance that is explained"),
        "mean absolute error": (absolute, absolute(rows, middle), "in units of y"),
        "root mean squared error": (
            root,
            root(rows, mean),
            "in units of y; large errors weigh more",
        ),
    }
    return _resampled(measures, len(true), random)


def bootstrap(
    statistics: list[Callable[[np.ndarray], float]], n: int, random: np.random.RandomState
) -> list[tuple[float, float] | None]:
    """Percentile intervals over rows drawn with replacement, the same rows for all.

    Where all draws give one value, as without any error, resampling says nothing: None.
    """
    n_draws = int(np.clip(_MOST_DRAWN // n, 100, N_DRAWS))
    values = np.empty((n_draws, len(statistics)))
    for draw in range(n_draws):
        rows = random.randint(n, size=n)
        values[draw] = [statistic(rows) for statistic in statistics]
    intervals: list[tuple[float, float] | None] = []
    for column in values.T:
        known = column[np.isfinite(column)]
        if not len(known):
            intervals.append(None)
            continue
        low, high = map(_rounded, np.percentile(known, [2.5, 97.5]))
        intervals.append((low, high) if low < high else None)
    return intervals


def class_table(
    true: np.ndarray, predicted: np.ndarray, n_classes: int
) -> list[tuple[int, float, float, float, tuple[float, float] | None]]:
    """Number of rows, precision, recall, F1 and the interval of the recall of each class."""
    precision, recall, f1, support = precision_recall_fscore_support(
        true, predicted, labels=np.arange(n_classes), zero_division=0
    )
    hits = confusion_matrix(true, predicted, labels=np.arange(n_classes)).diagonal()
    return [
        (
            int(support[c]),
            float(precision[c]),
            float(recall[c]),
            float(f1[c]),
            wilson(hits[c], support[c]) if support[c] else None,
        )
        for c in range(n_classes)
    ]


def _balanced(matrix: np.ndarray) -> float:
    rows = matrix.sum(axis=1)
    there = rows > 0
    return float((matrix.diagonal()[there] / rows[there]).mean())


def _macro_f1(matrix: np.ndarray) -> float:
    """Over the classes that occur, as labels or as predictions."""
    total = matrix.sum(axis=0) + matrix.sum(axis=1)
    there = total > 0
    return float((2 * matrix.diagonal()[there] / total[there]).mean())


def _auc(true: np.ndarray, rank: np.ndarray) -> float:
    """Share of pairs of the two classes in the right order, ties counting half.

    scikit-learn's takes milliseconds, and there are a thousand draws.
    """
    of_first, of_second = (np.bincount(rank[true == c], minlength=rank.max() + 1) for c in (0, 1))
    n_pairs = of_first.sum() * of_second.sum()
    below = np.cumsum(of_first) - of_first / 2
    return float((of_second * below).sum() / n_pairs) if n_pairs else np.nan


def multilabel_scores(
    true: np.ndarray, predicted: np.ndarray, random: np.random.RandomState
) -> list[Score]:
    """Scores of indicator matrices of shape (n, n_labels)."""
    right = (true == predicted).all(axis=1)

    def f1(rows: np.ndarray) -> float:
        both = (true[rows] * predicted[rows]).sum(axis=0)
        total = true[rows].sum(axis=0) + predicted[rows].sum(axis=0)
        there = total > 0
        return float((2 * both[there] / total[there]).mean()) if there.any() else np.nan

    usual = np.round(true.mean(axis=0))
    return [
        Score(
            "exact match",
            float(right.mean()),
            wilson(right.sum(), len(true)),
            float((true == usual).all(axis=1).mean()),
            "share of rows all of whose labels are right",
        ),
        *_resampled({"macro F1": (f1, None, "mean over labels of F1")}, len(true), random),
    ]
