"""Fine-tuning of pretrained networks on the labels of a new task."""

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
