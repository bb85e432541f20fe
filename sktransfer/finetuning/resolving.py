"""What the parameters of a strategy mean for a network and its rows."""

import math
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

from sktransfer._validation import Seed
from sktransfer.finetuning.network import Body
from sktransfer.finetuning.objective import TaskLoss
from sktransfer.finetuning.priors import log_prior
from sktransfer.finetuning.strategy import FineTune, with_rate
from sktransfer.finetuning.targets import Targets
from sktransfer.finetuning.unfreezing import resolve_unfreeze
from sktransfer.networks.seeding import everything_seeded, seeded

_VALUES_OF_BATCH, _VALUES = 256, 2000
"""Least values of a channel, in a batch and in all rows, from which statistics are learned."""

_STEPS = 100
"""Least steps for it."""

_LEAST_EPOCHS = 10
"""Of ``epochs=None``."""


def seed_of(strategy: FineTune, random_state: Seed) -> int:
    """Seed of a training, from the strategy's random state or else that of its estimator."""
    state = random_state if strategy.random_state is None else strategy.random_state
    return int(check_random_state(state).randint(2**31 - 1))


def with_learning_rate(strategy: FineTune, body: Body, trained: tuple[str, ...]) -> FineTune:
    """A strategy whose learning rate is a number: for None that of the body, or of a head alone.

    `trained` names the parameters of the body that are trained.
    """
    if strategy.learning_rate is not None:
        return strategy
    # A head alone is a linear model of standardised features, whatever these are of.
    return with_rate(strategy, body.learning_rate if trained else Body.learning_rate)


def epochs_of(strategy: FineTune, n_steps: int) -> int:
    """Number of epochs of so many steps each."""
    if strategy.epochs is not None:
        return strategy.epochs
    return max(_LEAST_EPOCHS, math.ceil(strategy.min_steps / n_steps))


def batch_norm_mode(strategy: FineTune, n_rows: int, n_positions: int) -> str:
    """Whether batch norm is "frozen", or its statistics "update".

    Parameters
    ----------
    strategy : FineTune
    n_rows : int
        Rows to train on.
    n_positions : int
        Of the smallest maps.
    """
    if strategy.batch_norm != "auto":
        return strategy.batch_norm
    if strategy.penalty is not None or strategy.alignment is not None:
        # Other statistics would lead away from the source, or be those of two domains at once.
        return "frozen"
    in_batch = min(strategy.batch_size, n_rows) * n_positions
    steps_per_epoch = max(1, round(n_rows / (strategy.batch_size * strategy.accumulate)))
    enough = (
        in_batch >= _VALUES_OF_BATCH
        and n_rows * n_positions >= _VALUES
        # With fewer steps the averages would still hold much of the source's statistics.
        and epochs_of(strategy, steps_per_epoch) * steps_per_epoch >= _STEPS
    )
    return "update" if enough else "frozen"


def make_task_loss(strategy: FineTune, task: str, prior: np.ndarray | None) -> TaskLoss:
    """The loss of a strategy; `prior` has the shares of the classes in the training rows.

    Raises
    ------
    ValueError
        The loss is one of classes, and the targets are numbers.
    """
    if strategy.loss == "cross-entropy":
        return TaskLoss(task, strategy.label_smoothing)
    if task == "regression":
        raise ValueError(
            f"loss={strategy.loss!r} is for classes and labels, and y makes this regression, whose "
            "loss is the squared error; set loss='cross-entropy', the default"
        )
    if strategy.loss == "focal":
        return TaskLoss(task, strategy.label_smoothing, gamma=strategy.focal_gamma)
    shift = None if prior is None else torch.from_numpy(log_prior(prior, task)).float()
    return TaskLoss(task, strategy.label_smoothing, shift=shift)


def sampling_options(
    strategy: FineTune, targets: Targets, draw: np.random.RandomState
) -> dict[str, Any]:
    """Arguments of `TrainingRows` that decide the order and the blending of training rows."""
    if strategy.sampler is not None and targets.task != "classification":
        raise ValueError(
            f"sampler={strategy.sampler!r} is for classification, and y makes this {targets.task}"
        )
    seed = draw.randint(2**31 - 1)
    return {"seed": seed, "sampler": strategy.sampler, "mixup": strategy.mixup}


def partly_trained(strategy: FineTune, body: Body, trained: tuple[str, ...]) -> dict[str, Any]:
    """Arguments of `TunedNetwork` for a `tune` that trains a part of what is unfrozen."""
    if strategy.tune == "all" or not trained:
        return {}
    unfrozen = resolve_unfreeze(strategy.unfreeze, body.stages)
    return {"unfrozen": unfrozen, "rank": strategy.rank if strategy.tune == "lora" else None}


def seeded_for(strategy: FineTune, seed: int) -> AbstractContextManager[None]:
    """The generators that a training may draw from, seeded, and restored behind it."""
    return everything_seeded(seed) if callable(strategy.augment) else seeded(seed)
