"""Tests of what two domains share, for `sktransfer.metrics.shift`."""

from typing import Any

import numpy as np
from scipy.stats import chi2, chi2_contingency
from sklearn.base import clone
from sklearn.kernel_approximation import Nystroem
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import NearestNeighbors

from sktransfer.metrics._kernel_sums import typical_distance

_FOLDS = 5
_MOST_COMPONENTS = 10
_ROWS_PER_COMPONENT = 10
_LANDMARKS = 100
_N_NEIGHBORS = 5
_SUPPORT = 0.99
"""Share of the source rows that their own support is to hold."""

_WORST_CONDITION = 100.0
"""Of the matrix of confusions: beyond it the classifier tells classes apart too badly."""


def moments(
    source: np.ndarray, target: np.ndarray, random: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """A few functions of rows whose means are compared: linear components and those of a kernel."""
    both = np.concatenate([source, target])
    count = max(1, min(_MOST_COMPONENTS, min(len(source), len(target)) // _ROWS_PER_COMPONENT))
    kernel = Nystroem(
        gamma=1 / typical_distance(both, "rbf"),
        n_components=min(_LANDMARKS, len(both)),
        random_state=random,
    ).fit_transform(both)
    values = np.hstack([_components(both, count), _components(kernel, count)])
    return values[: len(source)], values[len(source) :]


def equal_means(source: np.ndarray, target: np.ndarray) -> float:
    """p-value of Wald's test that two tables have the same means."""
    gap = source.mean(0) - target.mean(0)
    covariance = np.atleast_2d(np.cov(source.T)) / len(source)
    covariance = covariance + np.atleast_2d(np.cov(target.T)) / len(target)
    deviations = np.sqrt(np.diag(covariance))
    varies = deviations > 1e-12
    if not varies.any():
        return 1.0
    gap, deviations = gap[varies] / deviations[varies], deviations[varies]
    correlation = covariance[np.ix_(varies, varies)] / np.outer(deviations, deviations)
    values, vectors = np.linalg.eigh(correlation)
    kept = values > 1e-6 * values.max()
    statistic = ((vectors[:, kept].T @ gap) ** 2 / values[kept]).sum()
    return float(chi2.sf(statistic, kept.sum()))


def predicted(
    source: np.ndarray,
    codes: np.ndarray,
    target: np.ndarray,
    estimator: Any,
    random: np.random.RandomState,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Class probabilities of source rows, out of fold, and of target rows, (n, n_classes) each.

    None where a class has too few rows for it, or there is but one.
    """
    counts = np.bincount(codes)
    n_folds = int(min(_FOLDS, counts.min()))
    if len(counts) < 2 or n_folds < 2:
        return None
    of_source = np.zeros((len(source), len(counts)))
    of_target = np.zeros((len(target), len(counts)))
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=random)
    for train, held_out in folds.split(source, codes):
        model = clone(estimator).fit(source[train], codes[train])
        of_source[held_out] = model.predict_proba(source[held_out])
        of_target += model.predict_proba(target) / n_folds
    return of_source, of_target


def equal_predictions(of_source: np.ndarray, of_target: np.ndarray) -> float:
    """p-value of the test that classes are predicted equally often in both domains."""
    n_classes = of_source.shape[1]
    counts = [np.bincount(P.argmax(1), minlength=n_classes) for P in (of_source, of_target)]
    table = np.stack(counts)[:, np.sum(counts, 0) > 0]
    return float(chi2_contingency(table).pvalue) if table.shape[1] > 1 else 1.0


def class_ratios(
    codes: np.ndarray, of_source: np.ndarray, of_target: np.ndarray
) -> np.ndarray | None:
    """Shares of classes in the target over those in the source, by black-box shift estimation.

    (n_classes,), and None where the classifier does not tell the classes apart. Chance may make
    some negative.
    """
    joint = _joint(of_source, codes)
    if np.linalg.cond(joint / (np.bincount(codes) / len(codes))) > _WORST_CONDITION:
        return None
    return np.linalg.solve(joint, of_target.mean(0))


def label_shift_alone(
    values: tuple[np.ndarray, np.ndarray],
    codes: np.ndarray,
    of_source: np.ndarray,
    of_target: np.ndarray,
    ratios: np.ndarray,
) -> float:
    """p-value of the hypothesis that ratios of classes explain the whole gap.

    Under it the means of any function of rows, weighted by `ratios` in the source, are equal. The
    ratios are themselves estimated from the same rows, by solving ``joint @ ratios = mean of
    predictions``; to first order this error is what is left of it when each function has its
    regression ``means joint^-1 predictions`` taken off. Then the test is one of equal means.
    """
    joint = _joint(of_source, codes)
    slopes = np.linalg.solve(joint.T, _joint(values[0], codes).T)
    source = (values[0] - of_source @ slopes) * ratios[codes][:, None]
    return equal_means(source, values[1] - of_target @ slopes)


def outside_support(source: np.ndarray, target: np.ndarray) -> float:
    """Share of target rows whose neighbours in the source are further than is usual there."""
    count = min(_N_NEIGHBORS, len(source) - 1)
    index = NearestNeighbors(n_neighbors=count).fit(source)
    usual = index.kneighbors()[0][:, -1]  # a row is no neighbour of itself
    distances = index.kneighbors(target)[0][:, -1]
    return float((distances > np.quantile(usual, _SUPPORT)).mean())


def _components(table: np.ndarray, count: int) -> np.ndarray:
    """The first principal components, which may be constant, unlike those of `PCA`."""
    table = table - table.mean(0)
    return table @ np.linalg.svd(table, full_matrices=False)[2][:count].T


def _joint(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Means of values times membership of each class, (n_values, n_classes)."""
    return values.T @ np.eye(codes.max() + 1)[codes] / len(codes)
