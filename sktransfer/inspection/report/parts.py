"""What an estimator is made of: the search, the model, what makes features of X, the networks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import sklearn
from sklearn.base import is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from sktransfer.finetuning.estimator import FineTuned


def is_fitted(estimator: Any) -> bool:
    """Whether `fit` was called."""
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True


def check_predicts(estimator: Any) -> None:
    """Complain of what is no classifier or regressor.

    Raises
    ------
    TypeError, ValueError
        It is a class, does not predict, or is a search that kept no model.
    """
    if isinstance(estimator, type) or not hasattr(estimator, "fit"):
        raise TypeError(
            "estimator must be a classifier, a regressor, or a pipeline or search of one, got "
            f"{estimator!r}"
        )
    if is_search(estimator) and estimator.refit is False:
        raise ValueError(
            "the search has refit=False, so it keeps no model to report on; set refit=True (with "
            "several scorers: refit='<name of one>')"
        )
    if not (is_classifier(estimator) or is_regressor(estimator)):
        raise TypeError(
            "estimator must end in a classifier or regressor, since a report is about predictions; "
            f"got {estimator!r}. Add one, as in make_pipeline(features, LogisticRegression())"
        )


def is_search(estimator: Any) -> bool:
    """Whether it is a GridSearchCV, RandomizedSearchCV or the like."""
    return hasattr(estimator, "refit") and hasattr(estimator, "estimator")


def model_of(estimator: Any) -> Any:
    """The model itself: of a search the best, or, before it is fitted, the one that is varied."""
    if not is_search(estimator):
        return estimator
    return getattr(estimator, "best_estimator_", estimator.estimator)


def extractors_of(estimator: Any) -> list[Any]:
    """The feature transformers that run a network, fitted ones where there are such."""
    return [*_extractors(model_of(estimator))]


def _extractors(estimator: Any) -> Iterator[Any]:
    if estimator is None or isinstance(estimator, str | type):
        return
    if isinstance(estimator, FineTuned):
        yield from _extractors(getattr(estimator, "features_", estimator.features))
    elif _is_extractor(estimator):
        yield estimator
    else:
        for name in ("steps", "transformer_list", "transformers"):
            # What was fitted, where it is another object than what was given.
            parts = getattr(estimator, f"{name}_", getattr(estimator, name, ()))
            for part in parts:
                yield from _extractors(part[1])


def _is_extractor(estimator: Any) -> bool:
    return hasattr(estimator, "transform") and {"backbone", "cache"} <= set(vars(estimator))


def readers_of(estimator: Any) -> list[Any]:
    """The feature transformers that get X as it is, without a step before them."""
    model = model_of(estimator)
    while isinstance(model, Pipeline):
        model = model.steps[0][1]
    if isinstance(model, FeatureUnion):
        return [each for _, part in model.transformer_list for each in readers_of(part)]
    return extractors_of(model) if isinstance(model, FineTuned) or _is_extractor(model) else []


def features_of(model: Any, X: Any) -> np.ndarray | None:
    """What the networks of a fitted model make of X; None if it has no network."""
    if isinstance(model, FineTuned):
        return np.asarray(model.features_.transform(X))
    if not isinstance(model, Pipeline) or not extractors_of(model):
        return None
    last = max(i for i, (_, step) in enumerate(model.steps) if extractors_of(step))
    if last < len(model.steps) - 1:
        return np.asarray(model[: last + 1].transform(X))
    before = X if last == 0 else model[:last].transform(X)
    return features_of(model.steps[last][1], before)


def domain_parameters(estimator: Any, sample_domain: Any) -> dict[str, Any]:
    """What `fit` is to be given, so that whoever knows domains is told them."""
    if sample_domain is None:
        return {}
    if sklearn.get_config()["enable_metadata_routing"]:
        routed = sklearn.utils.metadata_routing.get_routing_for_object(estimator)
        known = routed.consumes("fit", ["sample_domain"])
        return {"sample_domain": sample_domain} if known else {}
    model = estimator.estimator if is_search(estimator) else estimator
    if isinstance(model, Pipeline):
        steps = [name for name, step in model.steps if _fits_domains(step)]
        return {f"{name}__sample_domain": sample_domain for name in steps}
    return {"sample_domain": sample_domain} if _fits_domains(model) else {}


def _fits_domains(step: Any) -> bool:
    return hasattr(step, "fit") and has_fit_parameter(step, "sample_domain")


def is_tuned(extractor: Any) -> bool:
    """Whether labels have changed the network."""
    return bool(getattr(extractor, "trained_parameters_", ()))


@contextmanager
def caching_in(extractors: list[Any], cache: Any, *, replace: bool = False) -> Iterator[None]:
    """Have networks keep their features in a store for a while, if they have none of their own."""
    changed = [(each, each.cache) for each in extractors if replace or each.cache is None]
    try:
        for extractor, _ in changed:
            extractor.cache = cache
        yield
    finally:
        for extractor, before in changed:
            extractor.cache = before
