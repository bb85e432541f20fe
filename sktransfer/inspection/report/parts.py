"""Parts of an estimator: its search, its model and the transformers that run a network."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import sklearn
from sklearn.base import is_classifier, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from sktransfer._composites import components, find_all, is_search, model_of
from sktransfer.finetuning.estimator import FineTuned


def check_predicts(estimator: Any) -> None:
    """Refuse an estimator that does not predict."""
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


def extractors_of(estimator: Any) -> list[Any]:
    """The feature transformers that run a network, fitted ones where there are such."""
    found = find_all(estimator, lambda each: isinstance(each, FineTuned) or _is_extractor(each))
    features = (
        getattr(each, "features_", each.features) if isinstance(each, FineTuned) else each
        for each in found
    )
    return [each for each in features if _is_extractor(each)]


def _is_extractor(estimator: Any) -> bool:
    return hasattr(estimator, "transform") and {"backbone", "cache"} <= set(vars(estimator))


def readers_of(estimator: Any) -> list[Any]:
    """The feature transformers that get X as it is, without a step before them."""
    model = model_of(estimator)
    if isinstance(model, FineTuned) or _is_extractor(model):
        return extractors_of(model)
    if isinstance(model, ColumnTransformer):  # which gives out parts of X
        return []
    parts = components(model)[:1] if isinstance(model, Pipeline) else components(model)
    return [reader for part in parts for reader in readers_of(part)]


def features_of(model: Any, X: Any) -> np.ndarray | None:
    """Features that the networks of a fitted model make of X; None if it has no network.

    Of an estimator that holds several models, such as CalibratedClassifierCV, those of the first.
    """
    if isinstance(model, FineTuned):
        return np.asarray(model.features_.transform(X))
    if not extractors_of(model):
        return None
    if not isinstance(model, Pipeline):
        if hasattr(model, "transform"):  # a transformer, or a union of some
            return None
        found = (features_of(part, X) for part in components(model))
        return next((each for each in found if each is not None), None)
    last = max(i for i, (_, step) in enumerate(model.steps) if extractors_of(step))
    if last < len(model.steps) - 1:
        return np.asarray(model[: last + 1].transform(X))
    before = X if last == 0 else model[:last].transform(X)
    return features_of(model.steps[last][1], before)


def domain_parameters(estimator: Any, sample_domain: Any) -> dict[str, Any]:
    """Parameters of `fit` that pass the domains to all steps that take them."""
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
    """Give networks that have no feature store a store within a context."""
    changed = [(each, each.cache) for each in extractors if replace or each.cache is None]
    try:
        for extractor, _ in changed:
            extractor.cache = cache
        yield
    finally:
        for extractor, before in changed:
            extractor.cache = before
