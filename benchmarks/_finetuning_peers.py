"""Peers of fine-tuning: a loop in torch, skorch, fastai, and heads on frozen features.

All get raw images and make their batches of the network's size. A fitted peer has `predict_proba`
or, for numbers, `predict`.
"""

import copy
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

NAME = "efficientnet_lite0"
STAGES = 7
# What is frozen, as patterns of names; "1" is the last stage and the layers after it.
FROZEN = {
    "head": ("conv_stem", "bn1", "blocks", "conv_head", "bn2"),
    "1": ("conv_stem", "bn1", *(f"blocks.{stage}" for stage in range(STAGES - 1))),
    "all": (),
}


class Task(NamedTuple):
    """What a network is to predict, and the side of its input."""

    n_outputs: int
    side: int
    numbers: bool = False


class Settings(NamedTuple):
    """Settings of a training."""

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int


class Model(Protocol):
    """A fitted classifier of images; a regressor has `predict` instead."""

    def predict_proba(self, X: np.ndarray) -> np.ndarray: ...


class Targets:
    """Targets as a network learns them: classes, or numbers of mean 0 and variance 1."""

    def __init__(self, y: np.ndarray, task: Task) -> None:
        self.task = task
        self.mean, self.scale = (y.mean(), y.std()) if task.numbers else (0.0, 1.0)

    def encoded(self, y: np.ndarray) -> np.ndarray:
        if not self.task.numbers:
            return y
        return ((y - self.mean) / self.scale).astype(np.float32)[:, None]

    def decoded(self, outputs: np.ndarray) -> np.ndarray:
        return outputs[:, 0] * self.scale + self.mean


# Pixels


def resized(X: np.ndarray, side: int) -> np.ndarray:
    """Images of bytes (n, side, side, 1 or 3) at the size of the network's input."""
    if X.shape[1:3] != (side, side):
        bicubic = Image.Resampling.BICUBIC
        X = np.stack([np.asarray(Image.fromarray(x).resize((side, side), bicubic)) for x in X])
    return X[..., None] if X.ndim == 3 else X


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """Bytes (n, height, width, 1 or 3) to three channels, with mean and deviation of 0.5."""
    return pixels.permute(0, 3, 1, 2).expand(-1, 3, -1, -1).float().div_(127.5).sub_(1)


def as_float(X: np.ndarray, side: int) -> np.ndarray:
    """Float32 arrays (n, 3, side, side) in torch's layout, as users of skorch and fastai have."""
    return normalised(torch.from_numpy(np.array(resized(X, side)))).contiguous().numpy()


# Networks


@cache
def loaded(weights: str, seed: int) -> nn.Module:
    """The network as sktransfer loads it."""
    from sktransfer import load_backbone

    return load_backbone(NAME, weights, random_state=seed).module


def network(task: Task, seed: int, weights: str = "default") -> nn.Module:
    """A copy in torch's default layout that can be trained, with a random head for the task."""
    made = copy.deepcopy(loaded(weights, seed)).to(memory_format=torch.contiguous_format)
    torch.manual_seed(seed)
    made.classifier = nn.Linear(made.classifier.in_features, task.n_outputs)
    return made.requires_grad_(True).train()


class Torch:
    """Predicts by a network of channels-last layout, in batches of raw images."""

    def __init__(self, module: nn.Module, task: Task, targets: Targets) -> None:
        self.module = module.eval()
        self.task, self.targets = task, targets

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return softmax(outputs_of(self.module, X, self.task.side), axis=1)

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.targets.decoded(outputs_of(self.module, X, self.task.side))


@torch.inference_mode()
def outputs_of(module: nn.Module, X: np.ndarray, side: int, batch_size: int = 128) -> np.ndarray:
    """Outputs of a network in evaluation mode for raw images."""
    pixels = torch.from_numpy(np.array(resized(X, side)))
    parts = [
        module(normalised(part).contiguous(memory_format=torch.channels_last))
        for part in pixels.split(batch_size)
    ]
    return torch.cat(parts).numpy()


def batches_of(count: int, size: int) -> Iterator[slice]:
    """Slices of rows, without a last one of a single row, which batch norm cannot take."""
    return (slice(start, start + size) for start in range(0, count, size) if count - start > 1)


# The loop


def hand_written(
    X: np.ndarray,
    y: np.ndarray,
    unfreeze: str | int,
    task: Task,
    settings: Settings,
    *,
    weights: str = "default",
) -> Model:
    """Fine-tuning by a loop in torch: AdamW and a cosine, from a random head."""
    module = network(task, settings.seed, weights).to(memory_format=torch.channels_last)
    for name in FROZEN[str(unfreeze)]:
        module.get_submodule(name).requires_grad_(False).eval()
    trained = [weight for weight in module.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate)
    n_steps = settings.epochs * sum(1 for _ in batches_of(len(X), settings.batch_size))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    criterion = nn.MSELoss() if task.numbers else nn.CrossEntropyLoss()
    targets = Targets(y, task)
    train(module, X, targets.encoded(y), task, settings, optimizer, schedule, criterion)
    return Torch(module, task, targets)


def train(
    module: nn.Module,
    X: np.ndarray,
    y: np.ndarray,
    task: Task,
    settings: Settings,
    optimizer: torch.optim.Optimizer,
    schedule: Any,
    criterion: nn.Module,
) -> None:
    """Epochs over raw images in an order of their own."""
    pixels, labels = torch.from_numpy(np.array(resized(X, task.side))), torch.from_numpy(y)
    for _ in range(settings.epochs):
        order = torch.randperm(len(pixels))
        for rows in batches_of(len(pixels), settings.batch_size):
            chosen = order[rows]
            images = normalised(pixels[chosen]).contiguous(memory_format=torch.channels_last)
            loss = criterion(module(images), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


# skorch


class Skorch:
    """A fitted skorch net, given raw images."""

    def __init__(self, net: Any, task: Task, targets: Targets) -> None:
        self.net, self.task, self.targets = net, task, targets

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return self.net.predict_proba(as_float(X, self.task.side))

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.targets.decoded(self.net.predict(as_float(X, self.task.side)))


def by_skorch(
    X: np.ndarray, y: np.ndarray, unfreeze: str | int, task: Task, settings: Settings
) -> Model:
    """Fine-tuning by skorch as its documentation has one do it.

    Frozen batch norm still updates its statistics, which Freezer does not prevent.
    """
    from skorch import NeuralNetClassifier, NeuralNetRegressor
    from skorch.callbacks import Freezer, LRScheduler

    callbacks: list[Any] = [LRScheduler("CosineAnnealingLR", T_max=settings.epochs)]
    if frozen := FROZEN[str(unfreeze)]:
        callbacks.append(Freezer([f"{name}.*" for name in frozen]))
    # Without the criterion predict_proba would return what the network puts out.
    kind, criterion = NeuralNetClassifier, nn.CrossEntropyLoss
    if task.numbers:
        kind, criterion = NeuralNetRegressor, nn.MSELoss
    net = kind(
        network(task, settings.seed),
        criterion=criterion,
        optimizer=torch.optim.AdamW,
        lr=settings.learning_rate,
        max_epochs=settings.epochs,
        batch_size=settings.batch_size,
        iterator_train__shuffle=True,
        iterator_train__drop_last=len(X) % settings.batch_size == 1,
        train_split=None,
        callbacks=callbacks,
        verbose=0,
    )
    targets = Targets(y, task)
    return Skorch(net.fit(as_float(X, task.side), targets.encoded(y)), task, targets)


# fastai


class FastAI:
    """A network that fastai has trained, given raw images."""

    def __init__(self, module: nn.Module, task: Task, targets: Targets) -> None:
        self.module, self.task, self.targets = module.eval(), task, targets

    @torch.inference_mode()
    def outputs(self, X: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(as_float(X, self.task.side))
        return torch.cat([self.module(part) for part in pixels.split(64)]).numpy()

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return softmax(self.outputs(X), axis=1)

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.targets.decoded(self.outputs(X))


def by_fastai(X: np.ndarray, y: np.ndarray, task: Task, settings: Settings) -> Model:
    """Train by fastai: fine_tune with its defaults, and the head and splitting of vision_learner.

    The network is cut before its pooling, as create_body does; vision_learner itself would
    download weights.
    """
    from fastai.vision import all as fastai

    trained = network(task, settings.seed)
    body = nn.Sequential(*(getattr(trained, name) for name in FROZEN["head"]))
    head = fastai.create_head(trained.classifier.in_features, task.n_outputs)
    fastai.apply_init(head, nn.init.kaiming_normal_)
    targets = Targets(y, task)
    pixels, labels = torch.from_numpy(as_float(X, task.side)), torch.from_numpy(targets.encoded(y))
    rows = torch.utils.data.TensorDataset(pixels, labels)
    size = min(settings.batch_size, len(rows))
    batches = fastai.DataLoader(rows, bs=size, shuffle=True, drop_last=True, num_workers=0)
    learner = fastai.Learner(
        fastai.DataLoaders(batches, batches, device="cpu"),
        nn.Sequential(body, head),
        loss_func=fastai.MSELossFlat() if task.numbers else fastai.CrossEntropyLossFlat(),
        splitter=fastai.default_split,
    )

    class NoValidation(fastai.Callback):
        """Validation after each epoch is no part of the training, and would only cost time."""

        def before_validate(self) -> None:
            raise fastai.CancelValidException

    with learner.no_bar(), learner.no_logging(), learner.added_cbs(NoValidation()):
        learner.fine_tune(settings.epochs)
    return FastAI(learner.model, task, targets)


# Heads on frozen features


def head(class_weight: str | None = None, numbers: bool = False) -> Any:
    """Scaler and a linear model."""
    if numbers:
        return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 5, 15)))
    regression = LogisticRegression(max_iter=1000, class_weight=class_weight)
    return make_pipeline(StandardScaler(), regression)


class OnFeatures:
    """An estimator of scikit-learn on what a function makes of raw images."""

    def __init__(self, features: Callable[[np.ndarray], np.ndarray], estimator: Any) -> None:
        self.features, self.estimator = features, estimator

    def fit(self, X: np.ndarray, y: np.ndarray) -> Model:
        self.estimator.fit(self.features(X), y)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return self.estimator.predict_proba(self.features(X))

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.estimator.predict(self.features(X))


def frozen_features(
    X: np.ndarray, y: np.ndarray, task: Task, *, class_weight: str | None = None
) -> Model:
    """A linear model on features of the network as it is, by an eager loop."""
    module = body_of("default", 0)
    estimator = head(class_weight, task.numbers)
    return OnFeatures(lambda images: outputs_of(module, images, task.side), estimator).fit(X, y)


def body_of(weights: str, seed: int) -> nn.Module:
    """The network without its classifier, in evaluation mode."""
    module = copy.deepcopy(loaded(weights, seed)).to(memory_format=torch.channels_last).eval()
    module.classifier = nn.Identity()
    return module
