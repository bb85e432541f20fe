"""Diagnosis of the shift between two domains, with advice on a family of methods."""

import numbers
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_array, check_random_state, check_scalar

from sktransfer._validation import Seed, check_count
from sktransfer.metrics import _shift_tests as tests
from sktransfer.metrics._scoring import density_ratio
from sktransfer.metrics.distances import mmd_permutation_test, proxy_a_distance
from sktransfer.metrics.transferability import class_codes

_N_PERMUTATIONS = 499
_MOST_OUTSIDE = 0.1
_LEAST_SHARE = 0.05
_SEPARATED = 1.9
"""Proxy A-distance at which a linear classifier is wrong in 2.5 % of the rows: so few rows cannot
support weights, which are the odds of such a classifier."""

_ADVICE = {
    "none": "no gap was found; fit to the source as it is",
    "label": "weight the classes of the source by class_weight",
    "instance": "the source covers the target; weight its rows (sktransfer.adaptation)",
    "feature": "the domains overlap too little for weights of rows to help; map the features with "
    "CORAL, SubspaceAlignment or another map of sktransfer.adaptation",
}


@dataclass(frozen=True)
class ShiftReport:
    """Result of `diagnose_shift`, which prints as a table.

    Attributes
    ----------
    kind : {"none", "label", "covariate", "unknown"}
        "none": no gap was found. "label": different class proportions explain it. "covariate":
        features differ, and class proportions do not explain it, or not alone. "unknown": features
        differ, and labels of the source are missing, or cannot be predicted from features.
    family : {"none", "instance", "feature"}
        Kind of transfer to begin with: weights of rows, or maps of features.
    advice : str
        The same in a sentence.
    pvalue : float
        p-value of the hypothesis that there is no gap.
    mmd : float
        Squared maximum mean discrepancy of standardised features, unbiased.
    proxy_a_distance : float
        0: a linear classifier cannot distinguish the domains; 2: it does so without error.
    mean_gap : float
        Distance of the means in pooled standard deviations, as root mean square over features.
    covariance_gap : float
        Frobenius norm of the difference of the covariances of pooled standardised features, over
        that of the source's. Chance alone gives about ``sqrt(2 n_features / n)``.
    outside_support : float
        Share of target rows whose neighbours in the source are further away than those of 99 % of
        the source rows: about 0.01 without a gap.
    effective_sample_share : float
        Effective sample size of the source rows, weighted to resemble the target, over their
        number.
    class_weight : dict or None
        Proportion of each class in the target over that in the source, for label shift.
    label_pvalue : float or None
        p-value of the hypothesis that class proportions explain the whole gap.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.metrics import diagnose_shift
    >>> X = np.random.RandomState(0).normal(size=(200, 2))
    >>> print(diagnose_shift(X[:100], X[100:], random_state=0))
    kind of shift: none
    advice: no gap was found; fit to the source as it is
      pvalue ...
    """

    kind: str
    family: str
    advice: str
    pvalue: float
    mmd: float
    proxy_a_distance: float
    mean_gap: float
    covariance_gap: float
    outside_support: float
    effective_sample_share: float
    class_weight: dict[Any, float] | None
    label_pvalue: float | None

    def __str__(self) -> str:
        lines = [f"kind of shift: {self.kind}", f"advice: {self.advice}"]
        for field in fields(self)[3:]:
            value = getattr(self, field.name)
            if isinstance(value, dict):
                text = ", ".join(f"{label}: {weight:.3g}" for label, weight in value.items())
            else:
                text = "-" if value is None else f"{value:.3g}"
            lines.append(f"  {field.name:<24}{text}")
        return "\n".join(lines)


def diagnose_shift(
    X_source: Any,
    X_target: Any,
    y_source: Any = None,
    *,
    estimator: BaseEstimator | None = None,
    alpha: float = 0.01,
    max_rows: int = 2000,
    random_state: Seed = None,
) -> ShiftReport:
    """Diagnose the size and kind of the gap between two domains, and what to try.

    Parameters
    ----------
    X_source : array-like of shape (n_source, n_features)
    X_target : array-like of shape (n_target, n_features)
        At least 20 rows each.
    y_source : array-like of shape (n_source,) or None, default=None
        Labels, of any kind. Without them label shift cannot be distinguished from other shifts.
    estimator : classifier or None, default=None
        Its `predict_proba` predicts classes in the target; it is cloned, and gets standardised
        features. The better it is, the better label shift is detected. None is logistic regression.
    alpha : float, default=0.01
        Significance level of the test for a gap, and of the test that class proportions explain it.
    max_rows : int, default=2000
        Most rows of each domain that are used; a sample is drawn if there are more.
    random_state : int, RandomState instance or None, default=None
        Seed of samples, permutations, folds and landmarks of a kernel.

    Returns
    -------
    ShiftReport

    Raises
    ------
    ValueError
        The domains differ in their number of features, or a parameter is invalid.

    Notes
    -----
    Three tests look for a gap: `mmd_permutation_test` [1]_, one of the means of principal
    components and kernel principal components, and one of the predicted classes; p-values are
    multiplied by the number of tests. If there is a gap, class proportions in the target are
    estimated from predictions [2]_ (with probabilities in place of predicted classes), and the same
    means are compared with source rows weighted accordingly; the test allows for the error of the
    proportions.

    Its limits: *concept shift*, different labels for the same features, changes no feature, and is
    compatible with every result, including "none". Covariate shift that looks like different class
    proportions, for example because classes are clusters, is called "label". "covariate" stands for
    every other change of features, such as another camera or rotated axes, and may include label
    shift. With few rows small gaps are missed, and hardly anything is evidence against "label".

    Correct results when target rows were left out without regard to anything, by class, or by a
    direction of the features (40 draws each): with 900 to 2,000 source rows of four data sets 160,
    158 and 148 of 160; with 284 rows of breast cancer 40, 40 and 29 of 40; with 89 of wine, which
    are too few, 40, 23 and 2.

    References
    ----------
    .. [1] A. Gretton et al., "A kernel two-sample test", JMLR 13, 2012.
    .. [2] Z. C. Lipton, Y.-X. Wang and A. J. Smola, "Detecting and correcting for label shift with
       black box predictors", ICML 2018.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sktransfer.metrics import diagnose_shift
    >>> X, y = make_classification(1000, 5, n_informative=3, random_state=0)
    >>> X_target = X[500:][y[500:] == 1]  # one class is missing
    >>> report = diagnose_shift(X[:500], X_target, y[:500], random_state=0)
    >>> report.kind, report.family
    ('label', 'instance')
    """
    check_scalar(alpha, "alpha", numbers.Real, min_val=0, max_val=1, include_boundaries="neither")
    check_count("max_rows", max_rows, low=20)
    random = check_random_state(random_state)
    source = check_array(X_source, dtype=np.float64, ensure_min_samples=20, input_name="X_source")
    target = check_array(X_target, dtype=np.float64, ensure_min_samples=20, input_name="X_target")
    if source.shape[1] != target.shape[1]:
        raise ValueError(
            "X_source and X_target must have equally many features, got "
            f"{source.shape[1]} and {target.shape[1]}"
        )
    drawn = _sample(len(source), max_rows, random)
    labels = codes = None
    if y_source is not None:
        class_codes(source, y_source, "y_source")  # checks the labels of all rows
        labels, codes = np.unique(np.asarray(y_source).ravel()[drawn], return_inverse=True)
    source, target = _standardised(source[drawn], target[_sample(len(target), max_rows, random)])

    test = mmd_permutation_test(source, target, n_permutations=_N_PERMUTATIONS, random_state=random)
    values = tests.moments(source, target, random)
    pvalues = [test.pvalue, tests.equal_means(*values)]
    ratios = label_pvalue = None
    if labels is not None and codes is not None:
        estimator = LogisticRegression(max_iter=1000) if estimator is None else estimator
        guesses = tests.predicted(source, codes, target, estimator, random)
        if guesses is not None:
            pvalues.append(tests.equal_predictions(*guesses))
            ratios = tests.class_ratios(codes, *guesses)
            if ratios is not None:
                label_pvalue = tests.label_shift_alone(values, codes, *guesses, ratios)
    pvalue = min(1.0, len(pvalues) * min(pvalues))  # Bonferroni's correction
    kind = _kind(pvalue, label_pvalue, alpha)
    class_weight = None
    if kind == "label" and ratios is not None and labels is not None:
        class_weight = dict(zip(labels.tolist(), np.maximum(ratios, 0).tolist(), strict=True))
    weights = density_ratio(source, target)
    share = float(weights.sum() ** 2 / (weights**2).sum() / len(weights))
    outside = tests.outside_support(source, target)
    distance = proxy_a_distance(source, target, random_state=random)
    covered = outside <= _MOST_OUTSIDE and share >= _LEAST_SHARE and distance < _SEPARATED
    family = "none" if kind == "none" else "instance" if kind == "label" or covered else "feature"
    return ShiftReport(
        kind=kind,
        family=family,
        advice=_ADVICE["label" if kind == "label" else family],
        pvalue=pvalue,
        mmd=test.statistic,
        proxy_a_distance=distance,
        mean_gap=float(np.sqrt(((source.mean(0) - target.mean(0)) ** 2).mean())),
        covariance_gap=_covariance_gap(source, target),
        outside_support=outside,
        effective_sample_share=share,
        class_weight=class_weight,
        label_pvalue=label_pvalue,
    )


def _sample(n_rows: int, most: int, random: np.random.RandomState) -> np.ndarray:
    """Ascending positions of at most `most` rows, drawn at random if there are more."""
    if n_rows <= most:
        return np.arange(n_rows)
    return np.sort(random.choice(n_rows, most, replace=False))


def _standardised(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both domains, standardised by the mean and the standard deviation of all rows."""
    both = np.concatenate([source, target])
    mean, scale = both.mean(0), both.std(0)
    # Rounding gives a constant column a tiny deviation, by which it must not be divided.
    scale[scale <= len(both) * np.finfo(np.float64).eps * np.abs(both).max(0)] = 1.0
    return (source - mean) / scale, (target - mean) / scale


def _kind(pvalue: float, label_pvalue: float | None, alpha: float) -> str:
    if pvalue >= alpha:
        return "none"
    if label_pvalue is None:
        return "unknown"
    return "label" if label_pvalue >= alpha else "covariate"


def _covariance_gap(source: np.ndarray, target: np.ndarray) -> float:
    gap = np.atleast_2d(np.cov(source.T)) - np.atleast_2d(np.cov(target.T))
    size = float(np.linalg.norm(np.cov(source.T)))
    return float(np.linalg.norm(gap)) / size if size > 0 else 0.0
