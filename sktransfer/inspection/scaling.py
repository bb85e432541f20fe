"""Diagnosis of scalers that divide features by next to nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.utils.validation import check_is_fitted

from sktransfer._composites import unwrapped

_ROUNDING = 16 * float(np.finfo(np.float32).eps)
"""Scale of a column, relative to its largest value, at which it is rounding: networks compute in
float32, and their sums round in another way in batches of another size."""

_SMALL = 0.1
"""Scale of a column, relative to the mean scale, at which a new row may be far away for nothing."""

_FAR = 100.0
"""Scaled value that is far away, of scalers that do not divide by the deviation."""

_MOST_NAMED = 5


@dataclass(frozen=True)
class ScalingReport:
    """Result of `diagnose_scaling`, which prints as a sentence.

    Attributes
    ----------
    step : str or None
        Name of the step that scales such columns; None if there is none.
    columns : ndarray of int
        Columns of its input that it divides by next to nothing, those of the largest scaled values
        first.
    rounding : ndarray of int
        Those of them whose scale is no more than rounding to float32.
    largest : float
        Largest absolute value of these columns in X behind the step; 0.0 without columns.
    limit : float or None
        Largest one that a training row of a StandardScaler of n rows can have, sqrt(n - 1); None
        for other scalers.
    advice : str

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import RidgeCV
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sktransfer.inspection import diagnose_scaling
    >>> X = np.random.RandomState(0).normal(size=(50, 3))
    >>> X[1:, 2] = 0                                   # hardly ever active
    >>> X[0, 2] = 1e-4
    >>> pipeline = make_pipeline(StandardScaler(), RidgeCV()).fit(X, X[:, 0])
    >>> print(diagnose_scaling(pipeline, [[0, 0, 0.5]]))
    standardscaler divides 1 column by next to nothing (0 by rounding alone; 2): the largest ...
    """

    step: str | None
    columns: np.ndarray
    rounding: np.ndarray
    largest: float
    limit: float | None
    advice: str

    def __str__(self) -> str:
        if self.step is None:
            return f"no column is divided by next to nothing; {self.advice}"
        n = len(self.columns)
        named = ", ".join(map(str, self.columns[:_MOST_NAMED])) + (", ..." * (n > _MOST_NAMED))
        bound = "" if self.limit is None else f", and no training row can exceed {self.limit:.0f}"
        return (
            f"{self.step} divides {n} column{'s' * (n > 1)} by next to nothing "
            f"({len(self.rounding)} by rounding alone; {named}): the largest scaled value in X is "
            f"{self.largest:.0f}{bound}; {self.advice}"
        )


_NONE = "nothing to do"
_CURE = (
    "leave the scaler out and let RidgeCV(np.logspace(-6, 6, 25)) choose the penalty, or use "
    "FineTunedRegressor or FineTunedClassifier with strategy='frozen'"
)


def diagnose_scaling(estimator: Any, X: Any) -> ScalingReport:
    """Find scalers of a fitted pipeline that divide features by next to nothing.

    A feature that hardly varies in the training rows has a tiny scale: rounding, or that of a unit
    which is active in a few of them. Divided by it, a new row in which the unit is active is
    thousands of deviations away, and a linear model behind the scaler predicts anything for it.

    Parameters
    ----------
    estimator : fitted Pipeline, or search over one
        Its StandardScaler, RobustScaler, MinMaxScaler and MaxAbsScaler are looked at, also in
        pipelines inside it, but not in unions.
    X : Any
        n samples in any of the forms that the pipeline takes, best of rows that it was not fitted
        to.

    Returns
    -------
    ScalingReport
        Of the step with the largest scaled value, if there are several.

    Raises
    ------
    TypeError
        The estimator is no Pipeline.
    NotFittedError
        It is not fitted.

    Notes
    -----
    A column counts if its scale is below 16 float32 roundings of its largest value in X, or if it
    is below a tenth of the mean scale and a scaled value of X exceeds what any training row can
    have: of n rows, none is more than sqrt(n - 1) deviations from their mean. Of scalers that
    divide by something else, a scaled value above 100 counts.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import RidgeCV
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sktransfer.inspection import diagnose_scaling
    >>> X = np.random.RandomState(0).normal(size=(50, 3))
    >>> pipeline = make_pipeline(StandardScaler(), RidgeCV()).fit(X[:40], X[:40, 0])
    >>> print(diagnose_scaling(pipeline, X[40:]))
    no column is divided by next to nothing; nothing to do
    """
    estimator = unwrapped(estimator)
    if not isinstance(estimator, Pipeline):
        raise TypeError(
            "diagnose_scaling needs a fitted Pipeline, or a search over one, whose steps it can "
            f"look at; got {estimator!r}"
        )
    check_is_fitted(estimator)
    found = [report for report in _of_steps(estimator, X, "") if report is not None]
    if not found:
        empty = np.zeros(0, dtype=np.int64)
        return ScalingReport(None, empty, empty, 0.0, None, _NONE)
    return max(found, key=lambda report: report.largest)


def _of_steps(pipeline: Pipeline, X: Any, prefix: str) -> Iterator[ScalingReport | None]:
    scaled = X
    for number, (name, step) in enumerate(pipeline.steps):
        inner = unwrapped(step)
        if isinstance(inner, Pipeline):
            yield from _of_steps(inner, scaled, f"{prefix}{name}.")
        elif scale_of(inner) is not None:
            yield _of_scaler(f"{prefix}{name}", inner, scaled)
        if number + 1 < len(pipeline.steps) and step not in (None, "passthrough"):
            scaled = step.transform(scaled)


def scale_of(step: Any) -> np.ndarray | None:
    """What a fitted scaler divides each column by; None for other steps."""
    if isinstance(step, MinMaxScaler):
        return 1 / np.asarray(step.scale_, dtype=np.float64)
    if isinstance(step, StandardScaler | RobustScaler | MaxAbsScaler):
        scale = step.scale_
        return None if scale is None else np.asarray(scale, dtype=np.float64)
    return None


def _of_scaler(name: str, scaler: Any, X: Any) -> ScalingReport | None:
    scale = scale_of(scaler)
    assert scale is not None
    rows = np.asarray(X, dtype=np.float64)
    rows = rows[np.isfinite(rows).all(axis=1)]
    if not len(rows):
        return None
    limit = None
    if isinstance(scaler, StandardScaler) and scaler.with_mean:
        limit = float(np.sqrt(np.min(scaler.n_samples_seen_) - 1))
    reached = np.abs(np.asarray(scaler.transform(X), dtype=np.float64))
    reached = reached[np.isfinite(reached).all(axis=1)].max(axis=0)
    # scikit-learn sets the scale of a constant column to 1.
    is_rounding = (scale <= _ROUNDING * np.abs(rows).max(axis=0)) & (scale != 1)
    far = _FAR if limit is None else limit * (1 + 1e-6)  # training rows reach it up to rounding
    is_far = (scale <= _SMALL * scale.mean()) & (reached > far)
    columns = np.flatnonzero(is_rounding | is_far)
    if not len(columns):
        return None
    columns = columns[np.argsort(-reached[columns], kind="stable")]
    largest = float(reached[columns[0]])
    return ScalingReport(name, columns, columns[is_rounding[columns]], largest, limit, _CURE)
