"""Rows that are left out of training, and what their losses tell."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from sktransfer.finetuning.strategy import FineTune
from sktransfer.finetuning.targets import Targets

_TO_STOP_BY = {"classification": 10, "multilabel": 100, "regression": 100}
"""Least held-out rows, of each class in classification, for ``early_stopping="auto"``."""

_FOLDS = 3
_LEAST_IN_FOLDS = 60
"""Fewer rows tell neither which of two networks is better nor how sure one may be."""

_MOST_IN_FOLDS = 2000
"""With more rows a single part of them is accurate enough, and folds would take long."""

_PRIOR_DEVIATION = 1.0
"""Standard deviation of the logarithm of the temperature before any row has been seen."""


class Split(NamedTuple):
    """Numbers of the rows to train on, and of those to hold out.

    `stops` tells whether training stops early by the loss on the held-out rows.
    """

    train: np.ndarray
    held_out: np.ndarray
    stops: bool = False


def split_to_stop(
    rows: np.ndarray, targets: Targets, strategy: FineTune, draw: np.random.RandomState
) -> Split:
    """The rows by whose loss training stops early, stratified by class, and the others.

    Raises
    ------
    ValueError
        There are too few rows for ``early_stopping=True``.
    """
    labelled = rows[targets.labelled[rows]]
    if strategy.early_stopping is False:
        return Split(rows, rows[:0])
    classes = _classes_of(labelled, targets)
    counts = np.array([len(labelled)]) if classes is None else np.bincount(classes)
    smallest = int(counts[counts > 0].min() * strategy.validation_fraction)
    if strategy.early_stopping == "auto" and smallest < _TO_STOP_BY[targets.task]:
        return Split(rows, rows[:0])
    if smallest < 1:
        raise ValueError(
            f"early_stopping=True cannot hold out validation_fraction="
            f"{strategy.validation_fraction} of {counts.min()} rows (of the smallest class); set "
            "early_stopping=False"
        )
    _, held_out = train_test_split(
        labelled,
        test_size=strategy.validation_fraction,
        stratify=classes,
        random_state=draw.randint(2**31 - 1),
    )
    return Split(np.setdiff1d(rows, held_out), held_out, stops=True)


def folds_to_judge(
    rows: np.ndarray, targets: Targets, strategy: FineTune, seed: int
) -> list[Split]:
    """Folds in which each labelled row is held out once; none where the guard needs none.

    Raises
    ------
    ValueError
        There are too few rows for ``guard=True``.
    """
    labelled = rows[targets.labelled[rows]]
    if strategy.guard == "auto" and not _LEAST_IN_FOLDS <= len(labelled) <= _MOST_IN_FOLDS:
        return []
    classes = _classes_of(labelled, targets)
    if classes is not None and np.bincount(classes).max() < 2:
        if strategy.guard == "auto":
            return []
        raise ValueError(
            "guard=True trains without some rows and needs two of a class, and every class has a "
            "single one; set guard=False"
        )
    if len(labelled) < _FOLDS:
        raise ValueError(
            f"guard=True needs at least {_FOLDS} rows with a label, got {len(labelled)}; set "
            "guard=False"
        )
    shuffled = {"n_splits": _FOLDS, "shuffle": True, "random_state": seed}
    splitter = KFold(**shuffled) if classes is None else StratifiedKFold(**shuffled)
    with warnings.catch_warnings():
        # A class may have fewer rows than there are folds.
        warnings.filterwarnings("ignore", message="The least populated class")
        parts = [labelled[test] for _, test in splitter.split(labelled, classes)]
    folds = [Split(np.setdiff1d(rows, part), part) for part in parts]
    return folds if classes is None else [_of_known_classes(fold, targets) for fold in folds]


def _of_known_classes(fold: Split, targets: Targets) -> Split:
    """A fold without held-out rows of classes that it does not train on."""
    known = np.unique(targets.codes[fold.train[targets.labelled[fold.train]]])
    return fold._replace(held_out=fold.held_out[np.isin(targets.codes[fold.held_out], known)])


def _classes_of(rows: np.ndarray, targets: Targets) -> np.ndarray | None:
    return targets.codes[rows] if targets.task == "classification" else None


class HeldOutScores(NamedTuple):
    """Scores of the tuned and the frozen network for rows that neither has been trained on."""

    rows: np.ndarray
    tuned: np.ndarray
    frozen: np.ndarray


class Verdict(NamedTuple):
    """Which of the tuned and the frozen network is better on held-out rows, and its temperature.

    Both have been trained on fewer rows than there are, which is to the tuned network's
    disadvantage: it is kept unless it is worse by more than a standard error of the difference.
    """

    tuned_loss: float
    frozen_loss: float
    keeps_frozen: bool
    temperature: float


def judge(parts: Sequence[HeldOutScores], targets: Targets, strategy: FineTune) -> Verdict:
    """Compare two networks by their losses on held-out rows, each at its best temperature."""
    rows, tuned, frozen = (np.concatenate(each) for each in zip(*parts, strict=True))
    weights = targets.weights[rows].astype(np.float64)
    if strategy.sampler == "balanced":  # then classes count alike in training
        codes = targets.codes[rows]
        weights /= np.bincount(codes)[codes]
    weights /= weights.mean()
    losses, temperatures = [], []
    for scores in (tuned, frozen):
        temperature = temperature_of(scores, targets, rows, weights)
        losses.append(weights * row_losses(scores / temperature, targets, rows))
        temperatures.append(temperature)
    difference = losses[0] - losses[1]
    keeps_frozen = bool(difference.mean() > difference.std() / np.sqrt(len(rows)))
    tuned_loss, frozen_loss = (float(loss.mean()) for loss in losses)
    return Verdict(tuned_loss, frozen_loss, keeps_frozen, temperatures[keeps_frozen])


def temperature_of(
    scores: np.ndarray, targets: Targets, rows: np.ndarray, weights: np.ndarray
) -> float:
    """The temperature by which to divide the scores of held-out rows for the least log loss.

    Guo et al., "On calibration of modern neural networks", ICML 2017, section 4.2. A normal prior
    on its logarithm keeps it near 1 if there are few rows.
    """
    if targets.task == "regression":
        return 1.0

    def cost(log_temperature: float) -> float:
        loss = weights @ row_losses(scores / np.exp(log_temperature), targets, rows)
        return float(loss + (log_temperature / _PRIOR_DEVIATION) ** 2 / 2)

    return float(np.exp(minimize_scalar(cost, bounds=(-5, 5), method="bounded").x))


def row_losses(scores: np.ndarray, targets: Targets, rows: np.ndarray) -> np.ndarray:
    """Loss of each row: log loss, the mean log loss of several labels, or squared error."""
    values = targets.values[rows].astype(np.float64)
    if targets.task == "classification":
        return np.asarray(-(values * log_softmax(scores, axis=1)).sum(axis=1))
    if targets.task == "multilabel":
        return -np.asarray(values * log_expit(scores) + (1 - values) * log_expit(-scores)).mean(1)
    return np.asarray(((scores - values) ** 2).mean(axis=1))
