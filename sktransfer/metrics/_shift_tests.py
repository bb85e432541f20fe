"""Hypothesis tests on two domains: equal means, equal predictions, and label shift alone."""

import numpy as np
from scipy.stats import chi2, chi2_contingency
from sklearn.base import BaseEstimator, clone
from sklearn.kernel_approximation import Nystroem
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import NearestNeighbors

from sktransfer.metrics._kernel_sums import kernel_width

_FOLDS = 5
_MOST_COMPONENTS = 10
_ROWS_PER_COMPONENT = 10
_LANDMARKS = 100
_N_NEIGHBORS = 5
_SUPPORT = 0.99
"""Share of the source rows that the estimated support of the source contains."""

_WORST_CONDITION = 100.0
"""Condition number of the confusion matrix above which its inverse amplifies noise too much."""


def moments(
    source: np.ndarray, target: np.ndarray, random: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Functions of the rows whose means are compared: linear and kernel principal components."""
    both = np.concatenate([source, target])
    count = max(1, min(_MOST_COMPONENTS, min(len(source), len(target)) // _ROWS_PER_COMPONENT))
    kernel = Nystroem(
        gamma=1 / kernel_width(both, "rbf"),
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
    # On the scale of correlations, so that one tolerance fits eigenvalues of any units.
    gap, deviations = gap[varies] / deviations[varies], deviations[varies]
    correlation = covariance[np.ix_(varies, varies)] / np.outer(deviations, deviations)
    values, vectors = np.linalg.eigh(correlation)
    significant = values > 1e-6 * values.max()
    statistic = ((vectors[:, significant].T @ gap) ** 2 / values[significant]).sum()
    return float(chi2.sf(statistic, significant.sum()))


def predicted(
    source: np.ndarray,
    codes: np.ndarray,
    target: np.ndarray,
    estimator: BaseEstimator,
    random: np.random.RandomState,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Out-of-fold class probabilities of source rows, and those of target rows, (n, n_classes).

    None if there is only one class, or a class has too few rows for two folds.
    """
    counts = np.bincount(codes)
    n_folds = int(min(_FOLDS, counts.min()))
    if len(counts) < 2 or n_folds < 2:
        return None
    source_proba = np.zeros((len(source), len(counts)))
    target_proba = np.zeros((len(target), len(counts)))
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=random)
    for train, held_out in folds.split(source, codes):
        model = clone(estimator).fit(source[train], codes[train])
        source_proba[held_out] = model.predict_proba(source[held_out])
        # The mean over folds, so that the same models predict both domains.
        target_proba += model.predict_proba(target) / n_folds
    return source_proba, target_proba


def equal_predictions(source_proba: np.ndarray, target_proba: np.ndarray) -> float:
    """p-value of the chi-squared test that classes are predicted equally often in both domains."""
    n_classes = source_proba.shape[1]
    counts = [np.bincount(P.argmax(1), minlength=n_classes) for P in (source_proba, target_proba)]
    table = np.stack(counts)[:, np.sum(counts, 0) > 0]
    return float(chi2_contingency(table).pvalue) if table.shape[1] > 1 else 1.0


def class_ratios(
    codes: np.ndarray, source_proba: np.ndarray, target_proba: np.ndarray
) -> np.ndarray | None:
    """Class proportions in the target over those in the source, (n_classes,).

    This is black-box shift estimation. Chance may make some ratios negative. None if the classifier
    does not separate the classes.
    """
    joint = _joint(source_proba, codes)
    if np.linalg.cond(joint / (np.bincount(codes) / len(codes))) > _WORST_CONDITION:
        return None
    return np.linalg.solve(joint, target_proba.mean(0))


def label_shift_alone(
    values: tuple[np.ndarray, np.ndarray],
    codes: np.ndarray,
    source_proba: np.ndarray,
    target_proba: np.ndarray,
    ratios: np.ndarray,
) -> float:
    """p-value of the hypothesis that class ratios explain the whole gap.

    Under this hypothesis the means of any function of the rows are equal when source rows are
    weighted by `ratios`. But the ratios are estimated from the same rows, by solving ``joint @
    ratios = mean of predictions``. To first order this error is accounted for by subtracting the
    regression ``means joint^-1 predictions`` from each function; then the means are compared.
    """
    joint = _joint(source_proba, codes)
    slopes = np.linalg.solve(joint.T, _joint(values[0], codes).T)
    source = (values[0] - source_proba @ slopes) * ratios[codes][:, None]
    return equal_means(source, values[1] - target_proba @ slopes)


def outside_support(source: np.ndarray, target: np.ndarray) -> float:
    """Share of target rows further from their source neighbours than 99 % of the source rows."""
    count = min(_N_NEIGHBORS, len(source) - 1)
    index = NearestNeighbors(n_neighbors=count).fit(source)
    usual = index.kneighbors()[0][:, -1]  # without X a row is not its own neighbour
    distances = index.kneighbors(target)[0][:, -1]
    return float((distances > np.quantile(usual, _SUPPORT)).mean())


def _components(table: np.ndarray, count: int) -> np.ndarray:
    """The first principal components; unlike `PCA` it accepts tables of constant columns."""
    table = table - table.mean(0)
    return table @ np.linalg.svd(table, full_matrices=False)[2][:count].T


def _joint(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Means of the values times the indicator of each class, (n_values, n_classes)."""
    return values.T @ np.eye(codes.max() + 1)[codes] / len(codes)
