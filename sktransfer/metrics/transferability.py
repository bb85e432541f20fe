"""Estimates of how well features suit a task without training: LogME, H-score, LEEP and others."""

import numbers
from typing import Any

import numpy as np
from sklearn.metrics import mutual_info_score
from sklearn.utils import check_array, check_consistent_length, check_scalar, column_or_1d
from sklearn.utils.multiclass import type_of_target

from sktransfer._validation import check_option
from sktransfer.metrics._spectral import coding_rate, greatest_evidence, ledoit_wolf, spectrum

TASKS = ("auto", "classification", "regression")


def logme(X: Any, y: Any, *, task: str = "auto") -> float:
    """Log evidence of a Bayesian linear model, per row: LogME.

    The evidence is that of ``y = X w + noise`` with Gaussian `w` and noise, whose variances are
    chosen to maximise it; the result is the mean over the columns of y, of which there is one per
    class. It ranks features of several networks, or layers: higher is better.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Features. They are not centred, and there is no intercept; add a constant column for one.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Labels, of any kind, or numbers.
    task : {"auto", "classification", "regression"}, default="auto"
        With "auto", y of the types "binary" and "multiclass" of
        `sklearn.utils.multiclass.type_of_target` are labels, and all others, including
        two-dimensional y, are numbers.

    Returns
    -------
    float
        In nats per row. Evidence is a density, and may be above 0.

    Raises
    ------
    ValueError
        X or y is invalid, or a column of numbers is all 0, whose evidence is infinite.

    Notes
    -----
    Equations 2 and 3 of [1]_, at the maximum: the authors' iteration stops after 11 rounds, when
    it may not have converged. The search is over the ratio of the two precisions, as the other
    unknown has a closed form then, and finds the highest of several maxima. The ratio is kept
    above 2e-16 times the largest squared singular value of X, which bounds the evidence if y is a
    linear function of X without any noise.

    One QR and one small singular value decomposition serve all classes, 2 n d^2 operations.

    Scores of different y cannot be compared, nor can those of networks with many more features
    than rows, which fit any y. The ranking may change if fine-tuning changes the features much.

    References
    ----------
    .. [1] K. You, Y. Liu, J. Wang and M. Long, "LogME: practical assessment of pre-trained models
       for transfer learning", ICML 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sktransfer.metrics import logme
    >>> X, y = load_iris(return_X_y=True)
    >>> round(logme(X, y), 3), round(logme(X[:, :2], y), 3)
    (-0.16, -0.395)
    """
    X = _features(X)
    columns = _columns(X, y, task)
    norms = (columns**2).sum(0)
    if (norms == 0).any():
        raise ValueError(
            f"column {int(np.argmin(norms))} of y is 0 in all rows, which any features predict; "
            "drop it"
        )
    return float(logme_by_output(X, columns).mean())


def logme_by_output(
    X: np.ndarray, columns: np.ndarray, sample_weight: np.ndarray | None = None
) -> np.ndarray:
    """LogME of each column, (k,), for X (n, d) and columns (n, k) of float64, none of them all 0.

    A row of weight 2 counts as two rows.
    """
    n_rows: float = len(X)
    if sample_weight is not None:
        # Only X^T X, X^T y and y^T y enter the evidence, where a root on both sides is a weight.
        root = np.sqrt(sample_weight)[:, None]
        X, columns, n_rows = X * root, columns * root, float(sample_weight.sum())
    squares, shares, rest = spectrum(X, columns)
    return greatest_evidence(squares, shares, rest, n_rows) / n_rows


def h_score(X: Any, y: Any, *, shrinkage: str | float | None = None) -> float:
    """H-score: variance of the features between classes, relative to their covariance.

    It is ``trace(cov(X)^-1 cov(E[X | y]))``, the sum of the squared canonical correlations of
    features and classes.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,)
        Labels, of any kind.
    shrinkage : None, "auto" or float in [0, 1], default=None
        None: the empirical covariance, with a pseudo-inverse if it is singular [1]_. "auto":
        shrinkage towards a multiple of the identity by Ledoit and Wolf's rule, the regularised
        H-score [2]_. A float is the share of the identity.

    Returns
    -------
    float
        Between 0 and the number of classes minus one.

    Raises
    ------
    ValueError
        X, y or `shrinkage` is invalid.

    Notes
    -----
    Without shrinkage, more features than rows separate any labels, so that the score is at its
    upper bound and says nothing. It needs classes; for numbers use `logme`. It depends on the units
    of the features with shrinkage only. If the covariance is nearly a multiple of the identity, as
    for whitened features, "auto" shrinks it completely, and the score is 0 for any labels.

    References
    ----------
    .. [1] Y. Bao et al., "An information-theoretic approach to transferability in task transfer
       learning", ICIP 2019.
    .. [2] S. Ibrahim, N. Ponomareva and R. Mazumder, "Newer is not always better: rethinking
       transferability metrics, their peculiarities, stability and performance", ECML 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sktransfer.metrics import h_score
    >>> X, y = load_iris(return_X_y=True)
    >>> round(h_score(X, y), 3), round(h_score(X, y, shrinkage="auto"), 3)
    (1.192, 1.17)
    """
    X = _features(X)
    one_hot = _one_hot(class_codes(X, y))
    _check_shrinkage(shrinkage)
    n_rows, n_features = X.shape
    largest = np.abs(X).max(0)
    X = X - X.mean(0)
    norms = np.sqrt((X**2).sum(0))
    # Centring leaves rounding errors of a constant column, which must not count as variance.
    X[:, norms <= n_rows * np.finfo(np.float64).eps * largest] = 0.0
    if shrinkage is None:
        X /= np.where(norms > 0, norms, 1.0)
    # With columns of unit length the squared projections sum to the variance between classes.
    squares, shares, _ = spectrum(X, one_hot / np.sqrt(one_hot.sum(0)))
    nonzero = squares > (max(X.shape) * np.finfo(np.float64).eps) ** 2 * squares.max(initial=0.0)
    between, squares = shares.sum(1)[nonzero], squares[nonzero] / n_rows
    if shrinkage is None or len(squares) == 0:
        return float(between.sum())
    mean = squares.sum() / n_features
    share = ledoit_wolf(X, squares, mean) if shrinkage == "auto" else float(shrinkage)
    shrunk = (1 - share) * squares + share * mean
    return float((1 - share) * (squares / shrunk) @ between)


def leep(P: Any, y: Any) -> float:
    """LEEP: log likelihood of target labels, predicted from the source model's classes.

    Parameters
    ----------
    P : array-like of shape (n_samples, n_source_classes)
        Probabilities of the source model's classes for target rows. Each row sums to 1.
    y : array-like of shape (n_samples,)
        Target labels, of any kind.

    Returns
    -------
    float
        Mean log likelihood in nats, at most 0; higher is better. If all probabilities are 0 or 1
        it equals `nce`.

    Raises
    ------
    ValueError
        P holds no probabilities, or y is invalid.

    Notes
    -----
    Equations 1 and 2 of [1]_. A source class of probability 0 in all rows does not matter. LEEP
    needs a source model with a classifier, and ignores its features, which may be better than its
    classes suggest.

    References
    ----------
    .. [1] C. V. Nguyen et al., "LEEP: a new measure to evaluate transferability of learned
       representations", ICML 2020.

    Examples
    --------
    >>> from sktransfer.metrics import leep
    >>> round(leep([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9]], ["cat", "cat", "dog"]), 3)
    -0.245
    """
    P = check_array(P, dtype=np.float64, input_name="P")
    sums = P.sum(1)
    if (P < 0).any() or np.abs(sums - 1).max() > 1e-3:
        raise ValueError(
            "P must hold probabilities, none below 0 and each row with sum 1, got a least value of "
            f"{P.min():.3g} and sums from {sums.min():.3g} to {sums.max():.3g}; pass the result of "
            "predict_proba, or the softmax of scores"
        )
    codes = class_codes(P, y)
    rows = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
    joint = np.stack([P[some].sum(0) for some in rows])
    marginal = joint.sum(0)
    given = np.divide(joint, marginal, out=np.zeros_like(joint), where=marginal > 0)
    total = sum(np.log(P[some] @ given[code]).sum() for code, some in enumerate(rows))
    return float(total / len(P))


def nce(z: Any, y: Any) -> float:
    """Negative conditional entropy of target labels, given source labels of the same rows.

    Parameters
    ----------
    z : array-like of shape (n_samples,)
        Source labels of any kind, or the classes that a source model predicts.
    y : array-like of shape (n_samples,)
        Target labels.

    Returns
    -------
    float
        ``-H(y | z)`` in nats, at most 0; the higher the better.

    Raises
    ------
    ValueError
        One of them holds no labels, or they differ in length.

    Notes
    -----
    Definition 1 of [1]_. With nearly as many source labels as rows, 0 is reached by chance.

    References
    ----------
    .. [1] A. T. Tran, C. V. Nguyen and T. Hassner, "Transferability and hardness of supervised
       classification tasks", ICCV 2019.

    Examples
    --------
    >>> from sktransfer.metrics import nce
    >>> round(nce([0, 0, 1, 1], ["cat", "dog", "bird", "bird"]), 4)
    -0.3466
    """
    z = column_or_1d(z)
    source, target = class_codes(z, z, "z"), class_codes(z, y)
    share = np.bincount(target) / len(target)
    entropy = -(share * np.log(share)).sum()
    return float(min(0.0, mutual_info_score(source, target) - entropy))


def transrate(X: Any, y: Any, *, eps: float = 1e-4) -> float:
    """TransRate: coding rate of the features minus their coding rate within classes, in nats.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,)
        Labels, of any kind.
    eps : float, default=1e-4
        Squared distortion, in squared units of X: it should be well below the features' variances.

    Returns
    -------
    float
        Coding rate of all rows minus the mean rate of the rows of each class; never below 0.

    Raises
    ------
    ValueError
        X, y or `eps` is invalid.

    Notes
    -----
    The measure of [1]_, with the rates of classes weighted by their numbers of rows, like the rate
    distortion of a partition. (The listing in the paper gives classes equal weight, which is the
    same for balanced classes, and may be negative for others.) The score depends on the units of X:
    compare networks whose features have similar variances, or standardise them first.

    References
    ----------
    .. [1] L.-K. Huang et al., "Frustratingly easy transferability estimation", ICML 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sktransfer.metrics import transrate
    >>> X, y = load_iris(return_X_y=True)
    >>> round(transrate(X, y), 3)
    0.589
    """
    X = _features(X)
    codes = class_codes(X, y)
    check_scalar(eps, "eps", numbers.Real, min_val=0, include_boundaries="neither")
    X = X - X.mean(0)
    rate = coding_rate(X, eps)
    for code in range(codes.max() + 1):
        rows = X[codes == code]
        rate -= len(rows) / len(X) * coding_rate(rows, eps)
    return max(0.0, rate)


def _features(X: Any) -> np.ndarray:
    return check_array(X, dtype=np.float64, ensure_min_samples=2)


def class_codes(X: Any, y: Any, name: str = "y") -> np.ndarray:
    """Labels of the rows of X as integers from 0, (n,)."""
    y = column_or_1d(y, warn=True)
    check_consistent_length(X, y)
    kind = type_of_target(y, input_name=name)
    if kind not in ("binary", "multiclass"):
        raise ValueError(
            f"{name} must hold labels, got {kind} values; for numbers use sktransfer.metrics.logme"
        )
    return np.unique(y, return_inverse=True)[1]


def _one_hot(codes: np.ndarray) -> np.ndarray:
    return np.eye(codes.max() + 1)[codes]


def _columns(X: np.ndarray, y: Any, task: str) -> np.ndarray:
    """The columns to predict, (n, n_outputs)."""
    check_option("task", task, TASKS)
    if task == "auto":
        labels = type_of_target(y, input_name="y") in ("binary", "multiclass")
        task = "classification" if labels else "regression"
    if task == "classification":
        return _one_hot(class_codes(X, y))
    y = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y")
    check_consistent_length(X, y)
    return y.reshape(len(y), -1)


def _check_shrinkage(shrinkage: Any) -> None:
    if shrinkage is None or (isinstance(shrinkage, str) and shrinkage == "auto"):
        return
    if isinstance(shrinkage, str):
        raise ValueError(f"shrinkage must be None, 'auto' or within [0, 1], got {shrinkage!r}")
    check_scalar(shrinkage, "shrinkage", numbers.Real, min_val=0, max_val=1)
