"""Predictions and true targets of a network, in the form that scikit-learn's scorers know."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import expit, softmax
from torch import Tensor

from sktransfer.finetuning.targets import Targets


@dataclass(frozen=True)
class Outputs:
    """What the outputs of a network mean.

    Parameters
    ----------
    task : {"classification", "multilabel", "regression"}
    classes : ndarray or None
    location : tuple of ndarray of shape (n_outputs,) or None
        Mean and scale of numbers.
    flat : bool
        Whether y had one dimension.
    """

    task: str
    classes: np.ndarray | None
    location: tuple[np.ndarray, np.ndarray] | None
    flat: bool

    @classmethod
    def of(cls, targets: Targets) -> "Outputs":
        """Those of a network that learns some targets."""
        return cls(targets.task, targets.classes, targets.location, targets.flat)

    def decision_function(self, scores: np.ndarray) -> np.ndarray:
        """Scores of classes, (n, n_classes), or (n,) for two classes."""
        if self.task == "classification" and scores.shape[1] == 2:
            return scores[:, 1] - scores[:, 0]
        return scores

    def predict_proba(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities of classes, or of each label on its own, (n, n_outputs)."""
        return expit(scores) if self.task == "multilabel" else softmax(scores, axis=1)

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """Classes, labels of 0 and 1, or numbers in the units of y."""
        if self.task == "multilabel":
            return (scores > 0).astype(np.int64)
        if self.location is not None:
            mean, scale = self.location
            numbers = scores * scale + mean
            return numbers[:, 0] if self.flat else numbers
        assert self.classes is not None
        return self.classes[scores.argmax(axis=1)]

    def decode(self, target: dict[str, Tensor]) -> np.ndarray:
        """The y of the labelled rows of a batch.

        Of rows that mixup has blended, y is blended too, and classes are those of the larger part.
        """
        values = target["values"]
        if "share" in target:
            values = torch.lerp(target["other_values"], values, target["share"][:, None])
        known = values[target["labelled"]].cpu().numpy().astype(np.float64)
        # Values above a half are labels, as scores above zero are.
        return self.predict(known - 0.5 if self.task == "multilabel" else known)


def as_scores(output: Any) -> np.ndarray:
    """Scores, (n, n_outputs), as float64 like those of an estimator."""
    return output.detach().cpu().numpy().astype(np.float64)
