"""Model transfer: a pretrained network goes on learning, on the labels of the new task."""

from sktransfer.finetuning.classifier import FineTunedClassifier
from sktransfer.finetuning.regressor import FineTunedRegressor
from sktransfer.finetuning.search import count_trained_parameters, strategy_table
from sktransfer.finetuning.strategy import FineTune

__all__ = [
    "FineTune",
    "FineTunedClassifier",
    "FineTunedRegressor",
    "count_trained_parameters",
    "strategy_table",
]
