"""Distances between two samples: MMD, energy distance, CORAL distance and proxy A-distance."""

from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import energy_distance as energy_distance_of_one_feature
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array, check_random_state

from sktransfer._validation import Seed, check_count, check_gamma, check_option
from sktransfer.metrics._kernel_sums import (
    ESTIMATORS,
    KERNELS,
    BlockKernel,
    PermutationTestResult,
    discrepancies,
)

_BLOCK = 1024


def mmd(
    X: Any,
    Y: Any,
    *,
    kernel: str = "rbf",
    gamma: float | str = "median",
    estimator: str = "unbiased",
) -> float:
    """Squared maximum mean discrepancy of two samples.

    Parameters
    ----------
    X, Y : array-like of shape (n_samples, n_features)
        The samples, each with its own number of rows.
    kernel : {"rbf", "laplacian", "linear"}, default="rbf"
        ``exp(-gamma |x - y|^2)``, ``exp(-gamma |x - y|_1)`` or ``x . y``. With the last the result
        is the squared distance of the means.
    gamma : float or "median", default="median"
        "median" makes the kernel as wide as the typical distance between rows: 1 over twice the
        median squared distance for "rbf", 1 over the median distance for "laplacian", of 2,000
        rows if there are more. "linear" has none.
    estimator : {"unbiased", "biased"}, default="unbiased"
        The unbiased one is 0 on average for samples of one distribution, and so may be negative.
        The biased one is never negative, but then about 1 over the rows of X plus 1 over those of
        Y.

    Returns
    -------
    float
        In squared units of the kernel: between 0 and 2 for "rbf" and "laplacian", up to chance.

    Raises
    ------
    ValueError
        The samples differ in their number of features, have fewer than 2 rows, or a parameter is
        invalid.

    Notes
    -----
    Equations 3 and 5 of [1]_, in float64, with kernels in blocks, never the whole matrix: 20,000
    and 20,000 rows need little memory, and about five seconds. The value has no natural scale:
    `mmd_permutation_test` tells whether it is large. Features should have similar scales. In many
    dimensions a kernel hardly detects more than a difference of the means.

    References
    ----------
    .. [1] A. Gretton et al., "A kernel two-sample test", JMLR 13, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.metrics import mmd
    >>> X = np.random.RandomState(0).normal(size=(200, 2))
    >>> Y = np.random.RandomState(1).normal(size=(200, 2))
    >>> round(mmd(X, Y), 3), round(mmd(X, Y + 1), 3)
    (0.0, 0.261)
    """
    rows, is_X, function = _prepared(X, Y, kernel, gamma, estimator)
    return float(discrepancies(rows, function, is_X[:, None], estimator)[0])


def mmd_permutation_test(
    X: Any,
    Y: Any,
    *,
    kernel: str = "rbf",
    gamma: float | str = "median",
    estimator: str = "unbiased",
    n_permutations: int = 199,
    random_state: Seed = None,
) -> PermutationTestResult:
    """Test by permutations whether two samples are of one distribution.

    Parameters
    ----------
    X, Y, kernel, gamma, estimator :
        As in `mmd`, whose errors are raised here, too.
    n_permutations : int, default=199
        Number of random partitions of the rows. The p-value is at least
        ``1 / (n_permutations + 1)``.
    random_state : int, RandomState instance or None, default=None
        Seed of the permutations.

    Returns
    -------
    PermutationTestResult
        A named tuple of `statistic`, which is that of `mmd`; `pvalue`, which is uniform for samples
        of one distribution; and `null_distribution`, of shape (n_permutations,).

    Notes
    -----
    Section 5 of the reference of `mmd`; the data themselves count as one of the permutations.
    Kernels are computed once for all permutations, in blocks: with 199 of them, samples of 2,000
    rows take a third of a second, and of 20,000 a quarter of a minute. Rows must be independent:
    repeated measurements of the same objects make any two samples differ. With very many rows
    irrelevant differences become significant, so look at the statistic, too.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.metrics import mmd_permutation_test
    >>> X = np.random.RandomState(0).normal(size=(100, 2))
    >>> Y = np.random.RandomState(1).normal(size=(100, 2))
    >>> mmd_permutation_test(X, Y + 1, random_state=0).pvalue
    0.005
    """
    check_count("n_permutations", n_permutations)
    rows, is_X, function = _prepared(X, Y, kernel, gamma, estimator)
    random = check_random_state(random_state)
    partitions = np.empty((len(rows), n_permutations + 1), dtype=bool)
    partitions[:, 0] = is_X
    for column in range(1, n_permutations + 1):
        partitions[:, column] = is_X[random.permutation(len(rows))]
    statistics = discrepancies(rows, function, partitions, estimator)
    observed, others = float(statistics[0]), statistics[1:]
    # The tolerance makes the observed partition count as reached when it is drawn again, although
    # its sums may be rounded differently.
    reached = others >= observed - 1e-10 * np.abs(statistics).max()
    pvalue = float((1 + reached.sum()) / (n_permutations + 1))
    return PermutationTestResult(observed, pvalue, others)


def energy_distance(X: Any, Y: Any) -> float:
    """Energy distance of two samples: for one feature, that of `scipy.stats.energy_distance`.

    Parameters
    ----------
    X, Y : array-like of shape (n_samples, n_features)
        The samples, each with its own number of rows.

    Returns
    -------
    float
        ``sqrt(2 E|x - y| - E|x - x'| - E|y - y'|)``, means over all pairs of rows; the units are
        the square root of those of X. As in SciPy the root is taken, which Szekely and Rizzo do
        not.

    Raises
    ------
    ValueError
        The samples differ in their number of features.

    Notes
    -----
    The V-statistic of [1]_. Distances are computed in blocks; for one feature the rows are sorted
    instead. It needs no bandwidth, but features of similar scales, as those of large scale dominate
    it. For samples of one distribution it is small, but not 0.

    References
    ----------
    .. [1] G. J. Szekely and M. L. Rizzo, "Energy statistics: a class of statistics based on
       distances", Journal of Statistical Planning and Inference 143, 2013.

    Examples
    --------
    >>> from sktransfer.metrics import energy_distance
    >>> round(energy_distance([[0.0, 0.0], [0.0, 2.0]], [[3.0, 0.0], [3.0, 2.0]]), 4)
    2.1461
    """
    X, Y = _samples(X, Y, 1)
    if X.shape[1] == 1:
        return float(energy_distance_of_one_feature(X[:, 0], Y[:, 0]))
    squared = 2 * _mean_distance(X, Y) - _mean_distance(X, X) - _mean_distance(Y, Y)
    return float(np.sqrt(max(0.0, squared)))


def coral_distance(X: Any, Y: Any) -> float:
    """Squared distance of the covariances of two samples, over 4 times their squared width.

    Parameters
    ----------
    X, Y : array-like of shape (n_samples, n_features)
        The samples, each with its own number of rows.

    Returns
    -------
    float
        In the fourth power of the units of X.

    Raises
    ------
    ValueError
        The samples differ in their number of features, or have fewer than 2 rows.

    Notes
    -----
    Equation 1 of [1]_, which is also the loss of ``FineTune(alignment="coral")``. It depends on the
    covariances alone, not on the means.

    References
    ----------
    .. [1] B. Sun and K. Saenko, "Deep CORAL: correlation alignment for deep domain adaptation",
       ECCV 2016 workshops.

    Examples
    --------
    >>> from sktransfer.metrics import coral_distance
    >>> coral_distance([[0.0], [2.0]], [[0.0], [4.0]])
    9.0
    """
    X, Y = _samples(X, Y, 2)
    X = (X - X.mean(0)) / np.sqrt(len(X) - 1)
    Y = (Y - Y.mean(0)) / np.sqrt(len(Y) - 1)
    gap = X.T @ X - Y.T @ Y
    return float((gap**2).sum() / (4 * X.shape[1] ** 2))


def proxy_a_distance(
    X: Any,
    Y: Any,
    *,
    estimator: BaseEstimator | None = None,
    cv: int = 5,
    random_state: Seed = None,
) -> float:
    """Proxy A-distance: 0 if a classifier cannot distinguish two samples, 2 if it does perfectly.

    Parameters
    ----------
    X, Y : array-like of shape (n_samples, n_features)
        The samples, each with its own number of rows.
    estimator : classifier or None, default=None
        It is cloned. None is logistic regression on standardised features, with equal weight for
        both samples. A linear classifier detects a difference of means only; a forest or a kernel
        detects more.
    cv : int, default=5
        Number of folds: each row is predicted by a classifier that was not fitted to it.
    random_state : int, RandomState instance or None, default=None
        Seed of the folds.

    Returns
    -------
    float
        ``2 (1 - 2 error)``, where error is the mean of the errors on both samples, so that it is 0
        for a guess whatever their sizes. Chance can make it somewhat negative.

    Raises
    ------
    ValueError
        A sample has fewer rows than there are folds, or the two differ in their features.

    Notes
    -----
    Section 4 of [1]_. With many features and few rows almost any two data sets can be
    distinguished, even if their difference does not matter for the labels.

    References
    ----------
    .. [1] S. Ben-David et al., "Analysis of representations for domain adaptation", NIPS 2006.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.metrics import proxy_a_distance
    >>> X = np.random.RandomState(0).normal(size=(200, 2))
    >>> Y = np.random.RandomState(1).normal(size=(200, 2))
    >>> round(proxy_a_distance(X, Y + 2, random_state=0), 2)
    1.78
    """
    check_count("cv", cv, low=2)
    X, Y = _samples(X, Y, 2)
    if min(len(X), len(Y)) < cv:
        raise ValueError(
            f"cv must be at most the number of rows of the smaller sample, {min(len(X), len(Y))}, "
            f"got {cv}"
        )
    if estimator is None:
        head = LogisticRegression(class_weight="balanced", max_iter=1000)
        estimator = make_pipeline(StandardScaler(), head)
    # Folds depend on positions: sort the rows, so that their order in X and Y does not matter.
    X, Y = (rows[np.lexsort(rows.T)] for rows in (X, Y))
    is_Y = np.repeat([0, 1], [len(X), len(Y)])
    folds = StratifiedKFold(cv, shuffle=True, random_state=check_random_state(random_state))
    # With routing on, scikit-learn 1.6 takes no params=None.
    guess = cross_val_predict(clone(estimator), np.concatenate([X, Y]), is_Y, cv=folds, params={})
    wrong = guess != is_Y
    error = (wrong[is_Y == 0].mean() + wrong[is_Y == 1].mean()) / 2
    return float(2 * (1 - 2 * error))


def _samples(X: Any, Y: Any, least: int) -> tuple[np.ndarray, np.ndarray]:
    X = check_array(X, dtype=np.float64, ensure_min_samples=least, input_name="X")
    Y = check_array(Y, dtype=np.float64, ensure_min_samples=least, input_name="Y")
    if X.shape[1] != Y.shape[1]:
        raise ValueError(
            f"X and Y must have equally many features, got {X.shape[1]} and {Y.shape[1]}"
        )
    return X, Y


def _prepared(
    X: Any, Y: Any, kernel: str, gamma: float | str, estimator: str
) -> tuple[np.ndarray, np.ndarray, BlockKernel]:
    """All rows, the mask of those of X, and the kernel."""
    check_option("kernel", kernel, KERNELS)
    check_option("estimator", estimator, ESTIMATORS)
    check_gamma(gamma)
    X, Y = _samples(X, Y, 2)
    rows = np.concatenate([X, Y])
    # The discrepancy does not change if all rows are shifted, and small numbers lose fewer digits.
    rows -= rows.mean(0)
    return rows, np.repeat([True, False], [len(X), len(Y)]), BlockKernel(kernel, gamma, rows)


def _mean_distance(X: np.ndarray, Y: np.ndarray) -> float:
    """Mean Euclidean distance over all pairs."""
    total = 0.0
    for start in range(0, len(X), _BLOCK):
        for other in range(start if X is Y else 0, len(Y), _BLOCK):
            part = cdist(X[start : start + _BLOCK], Y[other : other + _BLOCK]).sum()
            # Blocks off the diagonal of a symmetric matrix stand for their mirror images, too.
            total += 2 * part if X is Y and other > start else part
    return float(total / (len(X) * len(Y)))
