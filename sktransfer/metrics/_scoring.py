"""Base class of the scorers without target labels, with losses and density ratios for them."""

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

from sktransfer._validation import Seed, Vector, as_array, checked_domain, source_mask

LOSSES = ("auto", "zero_one", "log", "squared", "absolute")

_LEAST_PROBABILITY = np.finfo(np.float64).eps


class DomainScorer(BaseEstimator, ABC):
    """A callable ``scorer(estimator, X, y, sample_domain=...)``; higher values are better.

    Subclasses implement `_value`.
    """

    __metadata_request__score: ClassVar[dict[str, Any]] = {
        "estimator": UNUSED,
        "sample_domain": True,
    }

    sample_domain: Vector

    def __call__(
        self, estimator: BaseEstimator, X: Any, y: Any = None, *, sample_domain: Vector = None
    ) -> float:
        """Score a fitted estimator.

        Parameters
        ----------
        estimator : estimator
        X : array-like of shape (n_samples, ...)
            Rows of both domains, in any order.
        y : array-like of shape (n_samples,) or None, default=None
            Labels; those of target rows are ignored.
        sample_domain : array-like of shape (n_samples,) or None, default=None
            Positive for source and negative for target rows. None takes them from the scorer's own
            `sample_domain`.

        Returns
        -------
        float
        """
        return self.score(estimator, X, y, sample_domain=sample_domain)

    def score(
        self, estimator: BaseEstimator, X: Any, y: Any = None, *, sample_domain: Vector = None
    ) -> float:
        """Score a fitted estimator, like a call; metadata routing looks for this name."""
        if not hasattr(X, "shape"):
            X = np.asarray(X)
        if sample_domain is None:
            sample_domain = self._domain_of_rows(X)
        domain = checked_domain(sample_domain, X.shape[0])
        is_source = source_mask(domain, X.shape[0])
        if is_source.all():
            raise ValueError(
                "sample_domain has no target row (below 0), on which the estimator is to be scored"
            )
        return float(self._value(estimator, X, y, domain, is_source))

    @abstractmethod
    def _value(
        self, estimator: BaseEstimator, X: Any, y: Any, domain: np.ndarray, is_source: np.ndarray
    ) -> float:
        """The score, for valid domains and X with a shape."""

    def _domain_of_rows(self, X: Any) -> Any:
        """Domains of the rows of a DataFrame, from the Series that the scorer was given."""
        known: Any = self.sample_domain
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
                "sample_domain of a scorer must be a pandas Series, and X a DataFrame, to look up "
                f"rows by their index; got {type(known).__name__} and {type(X).__name__}. For "
                "arrays, enable metadata routing and pass sample_domain with X"
            )
        if not known.index.is_unique or not X.index.isin(known.index).all():
            raise ValueError(
                "sample_domain of a scorer must have one entry for each row of X, but its index is "
                "not unique or lacks rows of X"
            )
        return known.reindex(X.index)


def take_rows(X: Any, mask: np.ndarray) -> Any:
    """Some rows of an array, a sparse matrix or a DataFrame."""
    return X.iloc[np.flatnonzero(mask)] if hasattr(X, "iloc") else X[mask]


def source_labels(y: Any, is_source: np.ndarray, owner: Any) -> np.ndarray:
    """Labels of the source rows, (n_source,); those of target rows are not even checked."""
    if y is None:
        raise ValueError(f"{type(owner).__name__} needs y with the labels of the source rows")
    y = as_array(y)
    check_consistent_length(y, is_source)
    labels = column_or_1d(y, warn=True)[is_source]
    # Placeholders of missing labels may have made it an object array.
    return np.array(labels.tolist()) if labels.dtype.kind == "O" else labels


def takes_domain(estimator: BaseEstimator, name: str) -> bool:
    """Whether a method of an estimator accepts `sample_domain`."""
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
    # Without routing a pipeline passes the arguments of its methods on to its last step.
    return isinstance(estimator, Pipeline) and takes_domain(estimator.steps[-1][1], name)


def domain_fit_params(estimator: BaseEstimator, domain: np.ndarray) -> dict[str, np.ndarray]:
    """Arguments of `fit` that pass on the domains of rows; none if it does not accept them."""
    if isinstance(estimator, Pipeline) and not get_config()["enable_metadata_routing"]:
        names = [name for name, step in estimator.steps if takes_domain(step, "fit")]
        return {f"{name}__sample_domain": domain for name in names}
    return {"sample_domain": domain} if takes_domain(estimator, "fit") else {}


def predict_rows(estimator: BaseEstimator, name: str, X: Any, domain: np.ndarray) -> np.ndarray:
    """Result of a method for some rows, with their domains if the method accepts them."""
    method = getattr(estimator, name, None)
    if method is None:
        raise ValueError(
            f"{type(estimator).__name__} has no {name}, which the scorer needs. Use an estimator "
            "that has it, such as LogisticRegression, or wrap yours in CalibratedClassifierCV(...)"
            + ("" if name == "transform" else ", or choose another scorer or loss")
        )
    if takes_domain(estimator, name):
        return np.asarray(method(X, sample_domain=domain))
    return np.asarray(method(X))


def check_loss(loss: Any) -> None:
    """Refuse a loss that is neither a known name nor callable."""
    if not callable(loss) and (not isinstance(loss, str) or loss not in LOSSES):
        raise ValueError(f"loss must be one of {LOSSES} or callable, got {loss!r}")


def row_losses(
    estimator: BaseEstimator,
    loss: str | Callable[..., Any],
    X: Any,
    y: np.ndarray,
    domain: np.ndarray,
) -> np.ndarray:
    """Loss of each row, (n,) of float64."""
    if loss == "auto":
        loss = "squared" if is_regressor(estimator) else "zero_one"
    if loss == "log":
        proba = predict_rows(estimator, "predict_proba", X, domain)
        classes = list(estimator.classes_)
        columns = np.array([classes.index(label) if label in classes else -1 for label in y])
        chosen = np.where(columns >= 0, proba[np.arange(len(y)), columns], 0.0)
        # Clipped, as a single probability of 0 would make the mean infinite.
        return -np.log(np.maximum(chosen, _LEAST_PROBABILITY))
    guess = predict_rows(estimator, "predict", X, domain)
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
            f"loss={loss!r} needs numbers, and y holds {y.dtype}; for classes use 'zero_one' or "
            "'log'"
        )
    errors = guess.astype(np.float64) - y
    return np.abs(errors) if loss == "absolute" else errors**2


def density_ratio(
    source: np.ndarray, target: np.ndarray, *, cv: int | None = None, random: Seed = None
) -> np.ndarray:
    """Target density over source density at the source rows, by logistic regression, (n_source,).

    `cv` folds give out-of-fold odds; None predicts the rows that the model was fitted to.
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    # Folds depend on positions: sort the rows, so that their order in X does not matter.
    order = np.lexsort(source.T)
    rows = np.concatenate([source[order], target[np.lexsort(target.T)]])
    is_target = np.repeat([0, 1], [len(source), len(target)])
    if cv is None:
        odds = model.fit(rows, is_target).decision_function(rows)
    else:
        folds = StratifiedKFold(cv, shuffle=True, random_state=random)
        odds = cross_val_predict(
            model, rows, is_target, cv=folds, method="decision_function", params={}
        )
    # n rows cannot show that a probability of the source is below 1 / (2 n), so that odds are
    # clipped: otherwise one row could get all the weight.
    ratios = np.exp(np.minimum(odds[: len(source)], np.log(2 * len(rows))))
    in_order = np.empty(len(source))
    in_order[order] = ratios * len(source) / len(target)
    return in_order


def flatten_rows(X: Any) -> np.ndarray:
    """Rows as vectors, (n, n_values) of float64."""
    values = X.toarray() if hasattr(X, "toarray") else np.asarray(X)
    return values.astype(np.float64).reshape(len(values), -1)
