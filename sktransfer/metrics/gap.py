"""How far apart two domains are, as a number: MMD, energy, CORAL and proxy A-distance."""

import numbers
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import energy_distance as energy_distance_of_one_feature
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array, check_random_state, check_scalar

from sktransfer.metrics._kernel_sums import (
    ESTIMATORS,
    KERNELS,
    BlockKernel,
    PermutationTestResult,
    discrepancy,
    partition_sums,
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
    X : array-like of shape (n_samples_X, n_features)
    Y : array-like of shape (n_samples_Y, n_features)
    kernel : {"rbf", "laplacian", "linear"}, default="rbf"
        ``exp(-gamma |x - y|^2)``, ``exp(-gamma |x - y|_1)`` or ``x . y``. Of the last the square is
        that of the distance of the means.
    gamma : float or "median", default="median"
        "median" makes the kernel as wide as rows of either sample typically lie apart: 1 over twice
        the median squared distance for "rbf", 1 over the median distance for "laplacian", of 2,000
        rows if there are more. "linear" has none.
    estimator : {"unbiased", "biased"}, default="unbiased"
        The unbiased one is 0 on average for samples of one distribution, and so may be negative.
        The biased one never is, and is about ``1 / n_samples_X + 1 / n_samples_Y`` then.

    Returns
    -------
    float
        In squared units of the kernel: between 0 and 2 for "rbf" and "laplacian" but for chance.

    Raises
    ------
    ValueError
        The samples differ in their number of features, have fewer than 2 rows, or a parameter is
        not sound.

    Notes
    -----
    Equations 3 and 5 of [1]_, in float64, with kernels in blocks, never the whole matrix: 20,000
    and 20,000 rows need little memory, and about five seconds. The square has no unit that would
    tell great from small; `mmd_permutation_test` does. Features should be on like scales, and in
    many dimensions a kernel sees little but the means.

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
    sums = partition_sums(rows, function, is_X[:, None])
    return float(discrepancy(sums, estimator)[0])


def mmd_permutation_test(
    X: Any,
    Y: Any,
    *,
    kernel: str = "rbf",
    gamma: float | str = "median",
    estimator: str = "unbiased",
    n_permutations: int = 199,
    random_state: Any = None,
) -> PermutationTestResult:
    """Test by permutations whether two samples are of one distribution.

    Parameters
    ----------
    X, Y, kernel, gamma, estimator :
        As in `mmd`.
    n_permutations : int, default=199
        How often the rows are dealt out anew. The p-value is at least
        ``1 / (n_permutations + 1)``.
    random_state : int, RandomState instance or None, default=None
        Of the permutations.

    Returns
    -------
    PermutationTestResult
        A named tuple of `statistic`, which is that of `mmd`; `pvalue`, which is uniform for samples
        of one distribution; and `null_distribution`, of shape (n_permutations,).

    Raises
    ------
    ValueError
        As `mmd` does.

    Notes
    -----
    Section 5 of [1]_; the data themselves count as one of the permutations. Kernels are computed
    once for all permutations, in blocks: with 199 of them, samples of 2,000 rows take a third of a
    second, and of 20,000 a quarter of a minute. Rows must be independent: repeated measurements of
    the same things make any two samples differ. With very many rows differences that are of no
    matter become significant, so look at the statistic, too.

    References
    ----------
    .. [1] A. Gretton et al., "A kernel two-sample test", JMLR 13, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.metrics import mmd_permutation_test
    >>> X = np.random.RandomState(0).normal(size=(100, 2))
    >>> Y = np.random.RandomState(1).normal(size=(100, 2))
    >>> mmd_permutation_test(X, Y + 1, random_state=0).pvalue
    0.005
    """
    check_scalar(n_permutations, "n_permutations", numbers.Integral, min_val=1)
    rows, is_X, function = _prepared(X, Y, kernel, gamma, estimator)
    random = check_random_state(random_state)
    dealt = np.empty((len(rows), n_permutations + 1), dtype=bool)
    dealt[:, 0] = is_X
    for column in range(1, n_permutations + 1):
        dealt[:, column] = is_X[random.permutation(len(rows))]
    statistics = discrepancy(partition_sums(rows, function, dealt), estimator)
    observed, others = float(statistics[0]), statistics[1:]
    # The same partition, drawn again, must count whatever its sums were rounded to.
    reached = others >= observed - 1e-10 * np.abs(statistics).max()
    pvalue = float((1 + reached.sum()) / (n_permutations + 1))
    return PermutationTestResult(observed, pvalue, others)


def energy_distance(X: Any, Y: Any) -> float:
    """Energy distance of two samples: for one feature, that of `scipy.stats.energy_distance`.

    Parameters
    ----------
    X : array-like of shape (n_samples_X, n_features)
    Y : array-like of shape (n_samples_Y, n_features)

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
    instead. It needs no bandwidth, and no features on other scales, which would rule it. For
    samples of one distribution it is small, but not 0.

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
    X : array-like of shape (n_samples_X, n_features)
    Y : array-like of shape (n_samples_Y, n_features)

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
    Equation 1 of [1]_, which is also the loss of ``FineTune(alignment="coral")``. It does not see
    means, nor anything else but covariances.

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
    X: Any, Y: Any, *, estimator: Any = None, cv: int = 5, random_state: Any = None
) -> float:
    """How well a classifier tells two samples apart: 0 if not at all, 2 if without any error.

    Parameters
    ----------
    X : array-like of shape (n_samples_X, n_features)
    Y : array-like of shape (n_samples_Y, n_features)
    estimator : classifier or None, default=None
        It is cloned. None is logistic regression of standardised features, with both samples of
        one weight. A linear classifier sees means only; a forest or a kernel sees more.
    cv : int, default=5
        Number of folds: each row is judged by a classifier that was not fitted to it.
    random_state : int, RandomState instance or None, default=None
        Of the folds.

    Returns
    -------
    float
        ``2 (1 - 2 error)``, where error is the mean of the errors on either sample, so that it is
        0 for a guess however many rows each has. Chance can make it somewhat negative.

    Raises
    ------
    ValueError
        A sample has fewer rows than there are folds, or the two differ in their features.

    Notes
    -----
    Section 4 of [1]_. With many features and few rows, samples of any two sources of data are told
    apart by something, even if it is of no matter for the labels.

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
    check_scalar(cv, "cv", numbers.Integral, min_val=2)
    X, Y = _samples(X, Y, 2)
    if min(len(X), len(Y)) < cv:
        raise ValueError(
            f"cv must be at most the number of rows of the smaller sample, {min(len(X), len(Y))}, "
            f"got {cv}"
        )
    if estimator is None:
        head = LogisticRegression(class_weight="balanced", max_iter=1000)
        estimator = make_pipeline(StandardScaler(), head)
    # Folds are dealt by position: sorted first, rows may come in any order.
    X, Y = (rows[np.lexsort(rows.T)] for rows in (X, Y))
    is_Y = np.repeat([0, 1], [len(X), len(Y)])
    folds = StratifiedKFold(cv, shuffle=True, random_state=check_random_state(random_state))
    guess = cross_val_predict(clone(estimator), np.concatenate([X, Y]), is_Y, cv=folds)
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
    X: Any, Y: Any, kernel: Any, gamma: Any, estimator: Any
) -> tuple[np.ndarray, np.ndarray, BlockKernel]:
    """All rows, which of them are of X, and the kernel."""
    for name, value, options in (("kernel", kernel, KERNELS), ("estimator", estimator, ESTIMATORS)):
        if not isinstance(value, str) or value not in options:
            raise ValueError(f"{name} must be one of {options}, got {value!r}")
    if isinstance(gamma, str) and gamma != "median":
        raise ValueError(f"gamma must be a number above 0 or 'median', got {gamma!r}")
    if not isinstance(gamma, str):
        check_scalar(gamma, "gamma", numbers.Real, min_val=0, include_boundaries="neither")
        if not np.isfinite(gamma):
            raise ValueError(f"gamma must be a number above 0 or 'median', got {gamma!r}")
    X, Y = _samples(X, Y, 2)
    rows = np.concatenate([X, Y])
    # No kernel here changes the discrepancy when all rows move alike, and small numbers lose less.
    rows -= rows.mean(0)
    return rows, np.repeat([True, False], [len(X), len(Y)]), BlockKernel(kernel, gamma, rows)


def _mean_distance(X: np.ndarray, Y: np.ndarray) -> float:
    """Mean Euclidean distance over all pairs."""
    total = 0.0
    for start in range(0, len(X), _BLOCK):
        for other in range(start if X is Y else 0, len(Y), _BLOCK):
            part = cdist(X[start : start + _BLOCK], Y[other : other + _BLOCK]).sum()
            total += 2 * part if X is Y and other > start else part
    return float(total / (len(X) * len(Y)))
