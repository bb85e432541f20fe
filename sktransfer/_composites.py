"""Access to the estimators inside pipelines, unions, searches and all other meta-estimators."""

from collections.abc import Callable, Iterator, Mapping
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
    if not (hasattr(estimator, "refit") and hasattr(estimator, "estimator")):
        return False
    # TunedThresholdClassifierCV refits an estimator, too, but varies none of its parameters.
    return any(name.startswith(("param", "search_space")) for name in vars(estimator))


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
    `transformers_` of a ColumnTransformer, the members of an ensemble. "drop" and "passthrough"
    are left out.
    """
    inner = unwrapped(estimator)
    if inner is not estimator:
        return [inner]
    for name in ("steps", "transformer_list", "transformers"):  # which hold them with their names
        parts = getattr(estimator, f"{name}_", getattr(estimator, name, None))
        if parts is not None:
            return [part[1] for part in parts if _is_estimator(part[1])]
    given = estimator.get_params(deep=False) if hasattr(estimator, "get_params") else {}
    held = vars(estimator) if hasattr(estimator, "__dict__") else {}
    # An ensemble keeps its unfitted template beside its fitted members.
    learned = [value for name, value in held.items() if name not in given and name[0] != "_"]
    fitted = [each for each in _inside(learned) if not hasattr(each, "fit") or is_fitted(each)]
    return fitted or [*_inside(given)]


def find_all(estimator: Any, wanted: Callable[[Any], bool]) -> Iterator[Any]:
    """The estimators that are wanted, in order; their own components are not searched."""
    if wanted(estimator):
        yield estimator
        return
    for component in components(estimator):
        yield from find_all(component, wanted)


def _inside(value: Any) -> Iterator[Any]:
    """The estimators in lists, tuples and dicts, each once."""
    seen: set[int] = set()

    def search(each: Any) -> Iterator[Any]:
        if isinstance(each, Mapping):
            each = list(each.values())
        if isinstance(each, list | tuple):
            for part in each:
                yield from search(part)
        elif _is_estimator(each) and id(each) not in seen:
            seen.add(id(each))
            yield each

    return search(value)


def _is_estimator(value: Any) -> bool:
    if isinstance(value, type) or not hasattr(value, "__dict__"):
        return False
    # A member of a CalibratedClassifierCV has nothing but predict_proba.
    return any(hasattr(value, name) for name in ("fit", "predict", "predict_proba"))
