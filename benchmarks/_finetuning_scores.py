"""How predictions of fine-tuned networks are judged."""

from typing import Any

import numpy as np
from sklearn.metrics import (
    balanced_accuracy_score,
    log_loss,
    mean_absolute_error,
    r2_score,
    recall_score,
)

BINS = 15


def expected_calibration_error(y: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """Mean distance between confidence and accuracy of the predicted classes.

    Rows are binned by the confidence in their predicted class, in bins of equal width (C. Guo et
    al., "On calibration of modern neural networks", ICML 2017, equation 5).

    Parameters
    ----------
    y : ndarray of shape (n,)
        Numbers of the columns of `probabilities`.
    probabilities : ndarray of shape (n, n_classes)
    bins : int, default=15
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == y
    # The bins are closed on the right, as in the paper.
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    sums = [np.bincount(number, weights=v, minlength=bins) for v in (confidence, correct)]
    return float(np.abs(sums[0] - sums[1]).sum() / len(y))


def classification_scores(
    y: np.ndarray, probabilities: np.ndarray, counts: np.ndarray
) -> dict[str, Any]:
    """Scores of probabilities; classes of less than half the most frequent one's rows are rare."""
    labels = np.arange(probabilities.shape[1])
    # Rows of float32 add up to one only to its precision, and log_loss wants better.
    certain = probabilities.astype(np.float64)
    certain /= certain.sum(axis=1, keepdims=True)
    predicted = certain.argmax(axis=1)
    few = counts < counts.max() / 2
    found = {
        "accuracy": float(np.mean(predicted == y)),
        "log_loss": float(log_loss(y, certain, labels=labels)),
        "ece": expected_calibration_error(y, certain),
        "balanced_accuracy": float(balanced_accuracy_score(y, predicted)),
    }
    if few.any():
        recalls = recall_score(y, predicted, average=None, labels=labels)
        found["recall"] = {"few": float(recalls[few].mean()), "many": float(recalls[~few].mean())}
    return found


def regression_scores(y: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """Scores of predicted numbers."""
    return {"r2": float(r2_score(y, predicted)), "mae": float(mean_absolute_error(y, predicted))}
