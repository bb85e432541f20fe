"""Fine-tuning of pretrained networks on the labels of a new task."""

from sktransfer.finetuning.classifier import FineTunedClassifier
from sktransfer.finetuning.interpolation import interpolate_weights, interpolation_scores
from sktransfer.finetuning.regressor import FineTunedRegressor
from sktransfer.finetuning.search import count_trained_parameters, strategy_table
from sktransfer.finetuning.soups import soup
from sktransfer.finetuning.strategy import FineTune

__all__ = [
    "FineTune",
    "FineTunedClassifier",
    "FineTunedRegressor",
    "count_trained_parameters",
    "interpolate_weights",
    "interpolation_scores",
    "soup",
    "strategy_table",
]
