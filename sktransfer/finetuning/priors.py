"""Shares of the classes among training rows, and what other shares change in the scores."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sktransfer.finetuning.targets import Targets


def row_prior(targets: Targets, sampler: str | None = None) -> np.ndarray:
    """Shares of the classes, or of the rows with each label, as a training sees them.

    They are shares of the weights of the rows; with a balanced sampler, of the mean weights of the
    classes. A class without rows gets the share that a head gives it, 1 / (n + 1).

    Returns
    -------
    ndarray of shape (n_outputs,), positive
    """
    weights = targets.weights.astype(np.float64)
    values = targets.values.astype(np.float64)
    least = 1 / (np.count_nonzero(weights) + 1)
    totals = weights @ values
    if targets.task == "multilabel":
        return np.clip(totals / weights.sum(), least, 1 - least)
    if sampler == "balanced":
        totals = totals / np.maximum(1, (weights > 0) @ values)
    shares = np.maximum(totals / totals.sum(), np.where(totals > 0, 0, least))
    return shares / shares.sum()


def equal_prior(task: str, n_outputs: int) -> np.ndarray:
    """Equal shares of all classes; for several labels, half of the rows for each."""
    return np.full(n_outputs, 0.5 if task == "multilabel" else 1 / n_outputs)


def log_prior(prior: np.ndarray, task: str) -> np.ndarray:
    """What a prior adds to the scores: log shares of classes, log odds of labels."""
    return np.log(prior) - np.log1p(-prior) if task == "multilabel" else np.log(prior)


def check_prior(class_prior: Any, classes: np.ndarray, task: str) -> np.ndarray:
    """Shares of the classes in the order of `classes`, from a parameter `class_prior`.

    Raises
    ------
    ValueError
        It is neither "balanced" nor a positive share for each class, with a sum of 1.
    """
    labels = classes.tolist()
    if isinstance(class_prior, str):
        if class_prior != "balanced":
            raise ValueError(
                f"class_prior must be None, 'balanced', a dict or an array, got {class_prior!r}"
            )
        return equal_prior(task, len(labels))
    if isinstance(class_prior, Mapping):
        if set(class_prior) != set(labels):
            raise ValueError(
                f"class_prior must give a share to each of the classes {labels}, got {class_prior}"
            )
        class_prior = [class_prior[label] for label in labels]
    shares = np.asarray(class_prior, dtype=np.float64)
    if shares.shape != (len(labels),):
        raise ValueError(
            f"class_prior must have one share for each of the classes {labels}, got an array of "
            f"shape {shares.shape}"
        )
    if task == "multilabel":
        if not ((shares > 0) & (shares < 1)).all():
            raise ValueError(
                "class_prior of several labels must be, for each, the share of rows that have it, "
                f"between 0 and 1, got {shares.tolist()}"
            )
    elif not ((shares > 0) & np.isfinite(shares)).all() or not np.isclose(shares.sum(), 1):
        raise ValueError(
            "class_prior must hold positive shares with a sum of 1, got "
            f"{shares.tolist()} with a sum of {shares.sum():.6g}; divide them by it"
        )
    return shares
