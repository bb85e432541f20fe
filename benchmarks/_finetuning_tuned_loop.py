"""The loop of someone who knows how: a linear probe first, then all weights with small steps.

The head is first fitted by itself to the untouched features (A. Kumar et al., ICLR 2022), then
everything is trained by AdamW with a warmup of an epoch and a cosine, label smoothing of 0.1,
gradients clipped to norm 1 and rates that fall by a quarter from stage to stage (J. Howard and
S. Ruder, ACL 2018). Few labels get more epochs and smaller batches, and keep the statistics of
batch norm. The rate is the best of three on rows left out: of three folds of few labels, and a
fifth of at most 5,000 of many.
"""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from _finetuning_peers import (
    STAGES,
    Settings,
    Targets,
    Task,
    Torch,
    batches_of,
    body_of,
    network,
    outputs_of,
    train,
)
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import log_loss, r2_score
from sklearn.model_selection import KFold, ShuffleSplit, StratifiedKFold, StratifiedShuffleSplit
from torch import nn

RATES = (1e-4, 3e-4, 1e-3)
LAYER_DECAY = 0.75
SMOOTHING = 0.1
FEW = 1_000  # below so many labels batches are small, and batch norm keeps its statistics
EPOCHS = ((200, 30), (1_000, 20), (5_000, 12))  # up to so many labels; else the last ones
EPOCHS_OF_MANY = 6
FOLDS_UP_TO = 500  # labels; of more a single split is exact enough
MOST_SEARCHED = 5_000


class Searched(NamedTuple):
    """The rate that was chosen, and what choosing it cost."""

    learning_rate: float
    scores: dict[str, float]
    seconds: float


def settings_for(labels: int, seed: int, learning_rate: float, epochs: int | None) -> Settings:
    """More epochs and smaller batches for fewer labels."""
    usual = next((many for below, many in EPOCHS if labels <= below), EPOCHS_OF_MANY)
    return Settings(epochs or usual, 32 if labels < FEW else 64, learning_rate, seed)


def searched(X: np.ndarray, y: np.ndarray, task: Task, seed: int, epochs: int | None) -> Searched:
    """Choose the rate: by accuracy and then log loss on rows left out, or by R2."""
    started, labels = time.perf_counter(), len(y)
    scores: dict[float, list[tuple[float, float]]] = {rate: [] for rate in RATES}
    if len(y) > MOST_SEARCHED:
        chosen = np.random.default_rng(seed).permutation(len(y))[:MOST_SEARCHED]
        X, y = X[chosen], y[chosen]
    for fitted, left_out in splits(y, task, seed):
        for rate in RATES:
            model = tuned_loop(X[fitted], y[fitted], task, seed, rate, epochs, labels)
            scores[rate].append(score(model, X[left_out], y[left_out], task))
    means = {rate: tuple(np.mean(pairs, axis=0)) for rate, pairs in scores.items()}
    best = max(means, key=lambda rate: means[rate])
    found = {f"{rate:g}": float(mean[0]) for rate, mean in means.items()}
    return Searched(best, found, time.perf_counter() - started)


def splits(y: np.ndarray, task: Task, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit and rows to leave out; classes with too few rows are not stratified."""
    few = len(y) <= FOLDS_UP_TO
    if task.numbers or np.bincount(y).min() < (3 if few else 2):
        kind: Any = KFold(3, shuffle=True, random_state=seed)
        return (kind if few else ShuffleSplit(1, test_size=0.2, random_state=seed)).split(y)
    if few:
        return StratifiedKFold(3, shuffle=True, random_state=seed).split(y, y)
    return StratifiedShuffleSplit(1, test_size=0.2, random_state=seed).split(y, y)


def score(model: Torch, X: np.ndarray, y: np.ndarray, task: Task) -> tuple[float, float]:
    """Accuracy and negative log loss, or R2."""
    if task.numbers:
        return float(r2_score(y, model.predict(X))), 0.0
    probabilities = model.predict_proba(X).astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    accuracy = float(np.mean(probabilities.argmax(axis=1) == y))
    return accuracy, -float(log_loss(y, probabilities, labels=np.arange(task.n_outputs)))


def tuned_loop(
    X: np.ndarray,
    y: np.ndarray,
    task: Task,
    seed: int,
    learning_rate: float,
    epochs: int | None = None,
    labels: int | None = None,
) -> Torch:
    """Train by the rules above at a given rate; a part of the labels by the rules for all."""
    labels = labels or len(y)
    settings = settings_for(labels, seed, learning_rate, epochs)
    targets = Targets(y, task)
    module = network(task, seed)
    probe(module.classifier, outputs_of(body_of("default", 0), X, task.side), y, task, targets)
    module = module.to(memory_format=torch.channels_last)
    if labels < FEW:
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eval()
    optimizer = torch.optim.AdamW(groups(module, learning_rate), weight_decay=0.01)
    per_epoch = sum(1 for _ in batches_of(len(X), settings.batch_size))
    steps = settings.epochs * per_epoch

    def clip(*_: Any) -> None:
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)

    optimizer.register_step_pre_hook(clip)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: warm_cosine(step, per_epoch, steps)
    )
    smoothed = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    criterion = nn.MSELoss() if task.numbers else smoothed
    train(module, X, targets.encoded(y), task, settings, optimizer, schedule, criterion)
    return Torch(module, task, targets)


def warm_cosine(step: int, warmup: int, steps: int) -> float:
    """Factor of the rate: a line up to 1 over the warmup, then half a cosine to 0."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + np.cos(np.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


def probe(
    classifier: nn.Linear, features: np.ndarray, y: np.ndarray, task: Task, targets: Targets
) -> None:
    """Make the head a linear model of the features, which have one scale for all."""
    mean, scale = features.mean(axis=0), features.std()
    table = (features - mean) / scale
    if task.numbers:
        model: Any = RidgeCV(np.logspace(-1, 5, 13)).fit(table, targets.encoded(y)[:, 0])
    else:
        model = LogisticRegression(C=0.1, max_iter=500).fit(table, y)
    weight = np.atleast_2d(model.coef_) / scale
    bias = np.atleast_1d(model.intercept_) - weight @ mean
    if len(weight) == 1 and task.n_outputs == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    with torch.no_grad():
        classifier.weight.copy_(torch.from_numpy(weight))
        classifier.bias.copy_(torch.from_numpy(bias))


def groups(module: nn.Module, learning_rate: float) -> list[dict[str, Any]]:
    """Weights by depth, each a quarter slower than those after it; biases and norms undecayed."""
    made: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, weight in module.named_parameters():
        made.setdefault((depth(name), weight.ndim > 1), []).append(weight)
    return [
        {
            "params": weights,
            "lr": learning_rate * LAYER_DECAY**above,
            "weight_decay": 0.01 if decays else 0.0,
        }
        for (above, decays), weights in made.items()
    ]


def depth(name: str) -> int:
    """How many stages a parameter is before the last."""
    parts = name.split(".")
    if parts[0] == "blocks":
        return STAGES - 1 - int(parts[1])
    return STAGES if parts[0] in ("conv_stem", "bn1") else 0
