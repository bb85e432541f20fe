"""Transfer learning as scikit-learn estimators.

A pretrained network becomes a transformer that stands in a Pipeline, and what to
transfer - which network, which layer, which pooling - becomes a hyperparameter:

>>> from sklearn.datasets import load_digits
>>> from sklearn.linear_model import LogisticRegression
>>> from sklearn.model_selection import GridSearchCV
>>> from sklearn.pipeline import Pipeline
>>> from sktransfer import PretrainedCNNFeatures
>>> digits = load_digits()
>>> images, labels = digits.images[:100] / 16, digits.target[:100]
>>> pipeline = Pipeline([("features", PretrainedCNNFeatures(image_size=32)),
...                      ("head", LogisticRegression(max_iter=1000))])
>>> grid = {"features__layer": ["blocks.3", "penultimate"]}
>>> GridSearchCV(pipeline, grid, cv=3).fit(images, labels).best_params_
{'features__layer': 'blocks.3'}

Importing the package is cheap: torch is loaded with the first estimator.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sktransfer.backbones import describe_backbone, list_backbones, load_backbone
    from sktransfer.features import (
        PretrainedCNNFeatures,
        PretrainedTextFeatures,
        RNNSequenceFeatures,
    )
    from sktransfer.finetuning import (
        FineTune,
        FineTunedClassifier,
        FineTunedRegressor,
        count_trained_parameters,
        interpolate_weights,
        interpolation_scores,
        soup,
        strategy_table,
    )
    from sktransfer.sequences.pretraining import Pretraining
    from sktransfer.store import FeatureStore

__version__ = "0.1.0"

_HOMES = {
    "FeatureStore": "sktransfer.store",
    "FineTune": "sktransfer.finetuning",
    "FineTunedClassifier": "sktransfer.finetuning",
    "FineTunedRegressor": "sktransfer.finetuning",
    "PretrainedCNNFeatures": "sktransfer.features",
    "PretrainedTextFeatures": "sktransfer.features",
    "Pretraining": "sktransfer.sequences.pretraining",
    "RNNSequenceFeatures": "sktransfer.features",
    "count_trained_parameters": "sktransfer.finetuning",
    "describe_backbone": "sktransfer.backbones",
    "interpolate_weights": "sktransfer.finetuning",
    "interpolation_scores": "sktransfer.finetuning",
    "list_backbones": "sktransfer.backbones",
    "load_backbone": "sktransfer.backbones",
    "soup": "sktransfer.finetuning",
    "strategy_table": "sktransfer.finetuning",
}

__all__ = [
    "FeatureStore",
    "FineTune",
    "FineTunedClassifier",
    "FineTunedRegressor",
    "PretrainedCNNFeatures",
    "PretrainedTextFeatures",
    "Pretraining",
    "RNNSequenceFeatures",
    "count_trained_parameters",
    "describe_backbone",
    "interpolate_weights",
    "interpolation_scores",
    "list_backbones",
    "load_backbone",
    "soup",
    "strategy_table",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
