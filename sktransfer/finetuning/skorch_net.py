"""The skorch net of a fine-tuning, with its optimizer and callbacks."""

import copy
import traceback
from functools import partial
from typing import Any

import torch
from sklearn.base import clone
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, GradientNormClipping, LRScheduler
from skorch.utils import noop
from torch import Tensor

from sktransfer.finetuning.averaging import (
    Ends,
    WeightAverage,
    interpolate_between,
    rescaled_heads,
)
from sktransfer.finetuning.batches import Batches, pieces_of_step
from sktransfer.finetuning.low_rank import WriteUpdates
from sktransfer.finetuning.network import Body, TunedNetwork, joined_outputs
from sktransfer.finetuning.objective import Objective
from sktransfer.finetuning.penalties import PullToSource
from sktransfer.finetuning.schedules import rate_over_steps
from sktransfer.finetuning.steps import UnfreezeGradually, optimizer_for
from sktransfer.finetuning.strategy import PENALTY_WEIGHTS, FineTune

_PLATEAU_EPOCHS = 3
_MOMENTUM = 0.9

_RATES = {"all": 1.0, "bias": 10.0, "norm": 10.0, "lora": 10.0}
"""Learning rate of the body's parameters, relative to `learning_rate`, for each `tune`."""

_LEAST_WARMUP = 32
"""Steps. An epoch of 200 rows has only three, and so short a warmup destroyed features."""


class InterruptibleNet(NeuralNet):
    """A net whose training may be interrupted, resumed, and make a step of several batches.

    By KeyboardInterrupt skorch ends for Ctrl-C and for early stopping; this net tells them apart.
    Where the iterator gives several times `batch_size` rows for a step, they go through the network
    in as many pieces.

    Attributes
    ----------
    interrupted : bool
        Whether the last training was ended by anything but an `EarlyStopping`.
    ends : Ends or None
        With ``interpolate=``, what lies between the source network and the tuned one.
    alpha : float or None
        Where the network lies between them.
    epochs_before : int
        Epochs of an earlier process, whose checkpoint a callback has restored.
    """

    interrupted = False
    ends: Ends | None = None
    alpha: float | None = None
    epochs_before = 0

    def move_to(self, alpha: float) -> None:
        """Set the network to a point between its source and its tuned weights."""
        assert self.ends is not None
        interpolate_between(self.ends, alpha, self.module_)
        self.alpha = alpha

    def rescale_scores(self, temperature: float, shift: Tensor) -> None:
        """Divide all scores by a temperature and shift them, at both ends and between."""
        self.module_.head.rescale_scores(temperature, shift)
        if self.ends is not None:
            assert self.alpha is not None
            self.ends = rescaled_heads(self.ends, temperature, shift)
            self.move_to(self.alpha)

    def fit_loop(self, X: Any, y: Any = None, epochs: int | None = None, **kwargs: Any) -> Any:
        """Run the epochs that are left."""
        self.interrupted = False
        epochs = self.max_epochs if epochs is None else epochs
        left, self.epochs_before = epochs - self.epochs_before, 0
        try:
            return super().fit_loop(X, y, left, **kwargs)
        except KeyboardInterrupt as end:
            self.interrupted = not _is_early_stopping(end)
            raise

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Add up the gradients of the pieces of a step."""
        n_batches = self.iterator_train__batch_size // self.batch_size
        pieces = pieces_of_step(batch, self.batch_size, n_batches)
        if len(pieces) == 1:
            step: dict[str, Any] = super().train_step_single(batch, **fit_params)
            return step
        losses, outputs = [], []
        for piece in pieces:
            step = super().train_step_single(piece, **fit_params)
            losses.append(step["loss"].detach())
            # Without maps and graphs, which would be those of all pieces.
            outputs.append(joined_outputs([step.pop("y_pred")]))
        return {"loss": torch.stack(losses).sum(), "y_pred": joined_outputs(outputs)}


def _is_early_stopping(end: KeyboardInterrupt) -> bool:
    innermost = list(traceback.walk_tb(end.__traceback__))[-1][0]
    callback = innermost.f_locals.get("self")
    return isinstance(callback, EarlyStopping) and callback.misses_ == callback.patience


def make_net(
    network: TunedNetwork,
    objective: Objective,
    strategy: FineTune,
    n_epochs: int,
    device: torch.device | str,
    callbacks: list[tuple[str, Callback]],
) -> InterruptibleNet:
    """A skorch net, not initialized yet."""
    return InterruptibleNet(
        module=network,
        criterion=objective,
        optimizer=_optimizer_factory(network, strategy),
        lr=strategy.learning_rate,
        max_epochs=n_epochs,
        batch_size=strategy.batch_size,
        iterator_train=Batches,
        iterator_valid=Batches,
        iterator_train__batch_size=strategy.batch_size * strategy.accumulate,
        train_split=None,  # `tune` sets it if rows are held out
        callbacks=callbacks,
        device=str(device),
        verbose=0,
    )


def schedule_callbacks(
    network: TunedNetwork, strategy: FineTune, n_steps: int, n_epochs: int, held_out: bool
) -> list[tuple[str, Callback]]:
    """Callbacks that depend on the position of a step in the whole training."""
    callbacks: list[tuple[str, Callback]] = []
    if strategy.gradual is not None and network.trained_parameters():
        stage_of = network.body.stages.of
        stages = sorted({stage_of[name] for name in network.trained_parameters()}, reverse=True)
        if n_epochs <= strategy.gradual:
            raise ValueError(
                f"gradual must be less than epochs={n_epochs}, or only the head is trained; "
                f"got gradual={strategy.gradual}"
            )
        callbacks.append(("unfreeze", UnfreezeGradually(stages, strategy.gradual)))
    if strategy.schedule == "plateau":
        policy = partial(
            LRScheduler,
            torch.optim.lr_scheduler.ReduceLROnPlateau,
            monitor="valid_loss" if held_out else "train_loss",
        )
        callbacks.append(("rate", policy(patience=_PLATEAU_EPOCHS)))
    else:
        warmup = 0 if strategy.schedule == "one-cycle" else strategy.warmup_epochs
        total = n_epochs * n_steps
        rising = min(max(round(warmup * n_steps), _LEAST_WARMUP), total // 4) if warmup else 0
        factor = rate_over_steps(strategy.schedule, total, rising)
        policy = partial(LRScheduler, torch.optim.lr_scheduler.LambdaLR, step_every="batch")
        callbacks.append(("rate", policy(lr_lambda=factor)))
    # After whatever changes weights in a step, and before early stopping restores the best.
    callbacks.extend(average_callbacks(strategy, n_epochs * n_steps))
    if held_out:
        stopping = EarlyStopping(patience=strategy.patience, load_best=True, sink=noop)
        callbacks.append(("stop", stopping))
    return callbacks


def average_callbacks(strategy: FineTune, n_steps: int) -> list[tuple[str, Callback]]:
    """What averages weights over a training of so many steps, if anything does."""
    if strategy.average is None:
        return []
    return [("average", WeightAverage(strategy.average, n_steps))]


def step_callbacks(
    network: TunedNetwork, strategy: FineTune, penalty: str | None
) -> list[tuple[str, Callback]]:
    """Callbacks for every step, also of `continue_training`; the user's own come last."""
    callbacks: list[tuple[str, Callback]] = []
    if network.updates is not None:
        callbacks.append(("updates", WriteUpdates()))
    if strategy.gradient_clip is not None:
        callbacks.append(("clip", GradientNormClipping(strategy.gradient_clip)))
    if penalty == "l2-sp":
        source = {n: p.detach().clone() for n, p in network.trained_parameters().items()}
        callbacks.append(("pull", PullToSource(source, penalty_weight(strategy))))
    for number, callback in enumerate(strategy.callbacks or ()):
        # Cloned, as skorch sets attributes of a callback, and a strategy may be used by many fits.
        named = callback if isinstance(callback, tuple) else (f"own_{number}", callback)
        callbacks.append((named[0], clone(named[1], safe=False)))
    return callbacks


def with_learning_rate(strategy: FineTune, body: Body, trained: tuple[str, ...]) -> FineTune:
    """A strategy whose learning rate is a number: for None that of the body, or of a head alone.

    `trained` names the parameters of the body that are trained.
    """
    if strategy.learning_rate is not None:
        return strategy
    resolved = copy.copy(strategy)
    # A head alone is a linear model of standardised features, whatever these are of.
    resolved.learning_rate = body.learning_rate if trained else Body.learning_rate
    return resolved


def penalty_weight(strategy: FineTune) -> float:
    """The weight that was set, or the default of the penalty for None."""
    if strategy.penalty is None:
        return 0.0
    weight = strategy.penalty_weight
    return PENALTY_WEIGHTS[strategy.penalty] if weight is None else weight


def _optimizer_factory(network: TunedNetwork, strategy: FineTune) -> Any:
    build: Any = strategy.optimizer
    if build == "sgd":
        build = partial(torch.optim.SGD, momentum=_MOMENTUM, nesterov=True, fused=True)
    elif build == "adamw":
        # fused: one kernel updates all weights, which saves a tenth of a step, even on a CPU.
        build = partial(torch.optim.AdamW, fused=True)
    return optimizer_for(
        network,
        build,
        rate=_RATES[strategy.tune],
        layer_decay=strategy.layer_decay,
        weight_decay=strategy.weight_decay,
        body_decay=0.0 if strategy.penalty == "l2-sp" else strategy.weight_decay,
    )
