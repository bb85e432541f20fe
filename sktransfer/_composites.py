"""Access to the estimators inside pipelines, unions, column transformers and searches."""

from collections.abc import Callable, Iterator
from typing import Any

from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted


def is_fitted(estimator: Any) -> bool:
    """Whether `fit` was called."""
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True


def is_search(estimator: Any) -> bool:
    """Whether an estimator is a GridSearchCV, RandomizedSearchCV or the like."""
    return hasattr(estimator, "refit") and hasattr(estimator, "estimator")


def model_of(estimator: Any) -> Any:
    """The best estimator of a search, or the one it varies before `fit`; else the estimator."""
    if not is_search(estimator):
        return estimator
    return getattr(estimator, "best_estimator_", estimator.estimator)


def unwrapped(estimator: Any) -> Any:
    """The estimator inside a fitted search or a FrozenEstimator, however nested."""
    while True:
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        else:
            return estimator


def components(estimator: Any) -> list[Any]:
    """The estimators directly inside another one; none for an estimator that holds no others.

    Fitted estimators are preferred to those that were given: the best estimator of a search, the
    `transformers_` of a ColumnTransformer. "drop" and "passthrough" are left out.
    """
    inner = unwrapped(estimator)
    if inner is not estimator:
        return [inner]
    if is_search(estimator):
        return [estimator.estimator]
    for name in ("steps", "transformer_list", "transformers"):
        parts = getattr(estimator, f"{name}_", getattr(estimator, name, None))
        if parts is not None:
            return [part[1] for part in parts if not isinstance(part[1], str | None)]
    fitted = getattr(estimator, "estimator_", None)
    # A meta-estimator keeps a fitted estimator there, but an ensemble its unfitted template.
    return [fitted] if fitted is not None and is_fitted(fitted) else []


def find_all(estimator: Any, wanted: Callable[[Any], bool]) -> Iterator[Any]:
    """The estimators that are wanted, in order; their own components are not searched."""
    if wanted(estimator):
        yield estimator
        return
    for component in components(estimator):
        yield from find_all(component, wanted)
