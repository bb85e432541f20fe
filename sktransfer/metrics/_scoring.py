"""What scorers of adapted estimators share: domains of rows, predictions, losses and weights."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, is_regressor
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.metadata_routing import UNUSED, get_routing_for_object

from sktransfer._validation import checked_domain, source_mask

LOSSES = ("auto", "zero_one", "log", "squared", "absolute")

_LEAST_PROBABILITY = np.finfo(np.float64).eps


class DomainScorer(BaseEstimator, ABC):
    """A callable ``scorer(estimator, X, y, sample_domain=...)``: the higher the better.

    Subclasses implement `_value`.
    """

    __metadata_request__score: ClassVar[dict[str, Any]] = {
        "estimator": UNUSED,
        "sample_domain": True,
    }

    sample_domain: Any

    def __call__(
        self, estimator: Any, X: Any, y: Any = None, *, sample_domain: Any = None
    ) -> float:
        """Score a fitted estimator.

        Parameters
        ----------
        estimator : estimator
        X : array-like of shape (n_samples, ...)
            Rows of both domains, in any order.
        y : array-like of shape (n_samples,) or None, default=None
            Labels. Those of target rows are not looked at, whatever they are.
        sample_domain : array-like of shape (n_samples,) or None, default=None
            Positive for source and negative for target rows. None takes them from the scorer's own
            `sample_domain`.

        Returns
        -------
        float
        """
        return self.score(estimator, X, y, sample_domain=sample_domain)

    def score(self, estimator: Any, X: Any, y: Any = None, *, sample_domain: Any = None) -> float:
        """Score a fitted estimator, as a call does; metadata routing looks for this name."""
        if not hasattr(X, "shape"):
            X = np.asarray(X)
        if sample_domain is None:
            sample_domain = self._looked_up(X)
        domain = checked_domain(sample_domain, X.shape[0])
        is_source = source_mask(domain, X.shape[0])
        if is_source.all():
            raise ValueError(
                "sample_domain has no target row (below 0), for which the estimator is judged"
            )
        return float(self._value(estimator, X, y, domain, is_source))

    @abstractmethod
    def _value(
        self, estimator: Any, X: Any, y: Any, domain: np.ndarray, is_source: np.ndarray
    ) -> float:
        """The score, of X with a shape and domains that are sound."""

    def _looked_up(self, X: Any) -> Any:
        """The domains of rows of a DataFrame, from the Series that the scorer holds."""
        known = self.sample_domain
        if known is None:
            raise ValueError(
                f"{type(self).__name__} needs sample_domain, which it was not given. In a search "
                "or cross-validation, enable metadata routing with "
                "sklearn.set_config(enable_metadata_routing=True) and pass it there; or make X a "
                f"DataFrame and construct {type(self).__name__}(sample_domain=Series with the "
                "index of X); or call the scorer itself with sample_domain=..."
            )
        if not hasattr(known, "reindex") or not hasattr(X, "index"):
            raise ValueError(
                "sample_domain of a scorer must be a pandas Series, and X a DataFrame, whose rows "
                f"are looked up by their index; got {type(known).__name__} and {type(X).__name__}. "
                "For arrays, enable metadata routing and pass sample_domain with X"
            )
        if not known.index.is_unique or not X.index.isin(known.index).all():
            raise ValueError(
                "sample_domain of a scorer must have one entry for each row of X, but its index is "
                "not unique or lacks rows of X"
            )
        return known.reindex(X.index)


def rows_of(X: Any, mask: np.ndarray) -> Any:
    """Some rows of an array, a sparse matrix or a DataFrame."""
    return X.iloc[np.flatnonzero(mask)] if hasattr(X, "iloc") else X[mask]


def labels_of_source(y: Any, is_source: np.ndarray, owner: Any) -> np.ndarray:
    """Labels of source rows, (n_source,); those of the others are dropped before any is checked."""
    if y is None:
        raise ValueError(
            f"{type(owner).__name__} needs y, of which it reads the labels of source rows"
        )
    y = y.to_numpy() if hasattr(y, "to_numpy") else np.asarray(y)
    check_consistent_length(y, is_source)
    some = column_or_1d(y, warn=True)[is_source]
    # What stood in for missing labels may have made an object array of it.
    return np.array(some.tolist()) if some.dtype.kind == "O" else some


def takes_domain(estimator: Any, name: str) -> bool:
    """Whether a method of an estimator can be told the domains of rows."""
    method = getattr(estimator, name, None)
    if method is None:
        return False
    parameters = inspect.signature(method).parameters
    if "sample_domain" in parameters:
        return True
    if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return False
    if get_config()["enable_metadata_routing"]:
        return bool(get_routing_for_object(estimator).consumes(name, ["sample_domain"]))
    # Without routing a pipeline hands its last step what it is given.
    return isinstance(estimator, Pipeline) and takes_domain(estimator.steps[-1][1], name)


def fit_domains(estimator: Any, domain: np.ndarray) -> dict[str, np.ndarray]:
    """Arguments that tell `fit` the domains of rows; none if it does not want to know."""
    if isinstance(estimator, Pipeline) and not get_config()["enable_metadata_routing"]:
        wanting = [name for name, step in estimator.steps if takes_domain(step, "fit")]
        return {f"{name}__sample_domain": domain for name in wanting}
    return {"sample_domain": domain} if takes_domain(estimator, "fit") else {}


def called(estimator: Any, name: str, X: Any, domain: np.ndarray) -> np.ndarray:
    """Predictions of some rows, with their domains where the estimator knows of such."""
    method = getattr(estimator, name, None)
    if method is None:
        raise ValueError(
            f"{type(estimator).__name__} has no {name}, which the scorer needs. Take an estimator "
            "that has, such as LogisticRegression or CalibratedClassifierCV(...) around yours"
            + ("" if name == "transform" else ", or another scorer or loss")
        )
    if takes_domain(estimator, name):
        return np.asarray(method(X, sample_domain=domain))
    return np.asarray(method(X))


def check_loss(loss: Any) -> None:
    """Refuse what is no loss."""
    if not callable(loss) and (not isinstance(loss, str) or loss not in LOSSES):
        raise ValueError(f"loss must be one of {LOSSES} or callable, got {loss!r}")


def losses_of(
    estimator: Any, loss: str | Callable[..., Any], X: Any, y: np.ndarray, domain: np.ndarray
) -> np.ndarray:
    """Loss of each row, (n,) float64."""
    if loss == "auto":
        loss = "squared" if is_regressor(estimator) else "zero_one"
    if loss == "log":
        proba = called(estimator, "predict_proba", X, domain)
        classes = list(estimator.classes_)
        columns = np.array([classes.index(label) if label in classes else -1 for label in y])
        chosen = np.where(columns >= 0, proba[np.arange(len(y)), columns], 0.0)
        return -np.log(np.maximum(chosen, _LEAST_PROBABILITY))
    guess = called(estimator, "predict", X, domain)
    if loss == "zero_one":
        return (guess != y).astype(np.float64)
    if callable(loss):
        losses = np.asarray(loss(y, guess), dtype=np.float64)
        if losses.shape != (len(y),):
            raise ValueError(
                f"loss must return one number per row, of shape ({len(y)},), got shape "
                f"{losses.shape}; a mean over rows cannot be weighted"
            )
        return losses
    if y.dtype.kind not in "biuf":
        raise ValueError(
            f"loss={loss!r} needs numbers, and y holds {y.dtype}; for classes take 'zero_one' or "
            "'log'"
        )
    errors = guess.astype(np.float64) - y
    return np.abs(errors) if loss == "absolute" else errors**2


def density_ratio(
    source: np.ndarray, target: np.ndarray, *, cv: int | None = None, random: Any = None
) -> np.ndarray:
    """Density of target rows over that of source rows, at the source rows, by logistic regression.

    Parameters
    ----------
    source, target : ndarray of shape (n, n_features)
    cv : int or None
        So many folds, each judged by the others; None fits and judges the same rows.
    random : RandomState
        Of the folds.
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    # Folds are dealt by position: sorted first, rows may come in any order.
    order = np.lexsort(source.T)
    rows = np.concatenate([source[order], target[np.lexsort(target.T)]])
    is_target = np.repeat([0, 1], [len(source), len(target)])
    if cv is None:
        odds = model.fit(rows, is_target).decision_function(rows)
    else:
        folds = StratifiedKFold(cv, shuffle=True, random_state=random)
        odds = cross_val_predict(model, rows, is_target, cv=folds, method="decision_function")
    # That a row is of the source with less than this probability, so few rows cannot tell.
    ratios = np.exp(np.minimum(odds[: len(source)], np.log(2 * len(rows))))
    in_order = np.empty(len(source))
    in_order[order] = ratios * len(source) / len(target)
    return in_order


def flat(X: Any) -> np.ndarray:
    """Rows as vectors of float64."""
    values = X.toarray() if hasattr(X, "toarray") else np.asarray(X)
    return values.astype(np.float64).reshape(len(values), -1)
