"""The skorch net of a fine-tuning, with its optimizer and callbacks."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import Tags
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, GradientNormClipping, LRScheduler
from skorch.utils import is_dataset, noop
from torch import Tensor

from sktransfer.finetuning.averaging import (
    Ends,
    WeightAverage,
    interpolate_between,
    rescaled_heads,
)
from sktransfer.finetuning.batches import Batches, pieces_of_step
from sktransfer.finetuning.callbacks import copied_callbacks
from sktransfer.finetuning.low_rank import WriteUpdates
from sktransfer.finetuning.network import TunedNetwork, joined_outputs
from sktransfer.finetuning.objective import Objective
from sktransfer.finetuning.outputs import Outputs, as_scores
from sktransfer.finetuning.penalties import PullToSource
from sktransfer.finetuning.schedules import rate_over_steps
from sktransfer.finetuning.scoring import HeldOutScores
from sktransfer.finetuning.steps import UnfreezeGradually, optimizer_for
from sktransfer.finetuning.strategy import PENALTY_WEIGHTS, FineTune

_PLATEAU_EPOCHS = 3
_MOMENTUM = 0.9

_RATES = {"all": 1.0, "bias": 10.0, "norm": 10.0, "lora": 10.0}
"""Learning rate of the body's parameters, relative to `learning_rate`, for each `tune`."""

_LEAST_WARMUP = 32
"""Steps. An epoch of 200 rows has only three, and so short a warmup destroyed features."""


class FineTuningNet(NeuralNet):
    """A net that predicts what the estimator of its network would, for scorers and callbacks.

    Callbacks get y in the form of the user, and scores of the labelled rows as predictions. The
    net tells Ctrl-C from early stopping: by KeyboardInterrupt skorch ends for either. It may be
    resumed, and where the iterator gives several times `batch_size` rows for a step, they go
    through the network in as many pieces.

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
    rate_curve : dict of str to ndarray, or None
        The range test that has found the learning rate.
    outputs_ : Outputs
    """

    interrupted = False
    ends: Ends | None = None
    alpha: float | None = None
    epochs_before = 0
    rate_curve: dict[str, np.ndarray] | None = None
    outputs_: Outputs

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

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        """Call the callbacks, which get batches that they can read."""
        if method_name == "on_batch_end":
            inputs, target = cb_kwargs["batch"]
            scores = cb_kwargs["y_pred"].scores.detach()
            labelled = target["labelled"].to(scores.device)
            cb_kwargs |= {
                "batch": (inputs, self.outputs_.decode(target)),
                "y_pred": scores[labelled],
            }
        super().notify(method_name, **cb_kwargs)

    @property
    def classes_(self) -> np.ndarray:
        """Classes, for a network that tells them apart."""
        if self.outputs_.classes is None:
            raise AttributeError("a regressor has no classes_")
        return self.outputs_.classes

    def evaluation_step(self, batch: Any, training: bool = False) -> Tensor:
        """Scores of a batch."""
        return super().evaluation_step(batch, training=training).scores

    def forward_iter(self, X: Any, training: bool = False, device: str = "cpu") -> Iterator[Tensor]:
        """Scores of all batches of `TrainingRows` in their order, or of one batch of inputs."""
        batches = Batches(X.in_order(), self.batch_size) if is_dataset(X) else [(X, None)]
        for batch in batches:
            yield self.evaluation_step(batch, training=training).to(device)

    @contextmanager
    def predicting(self, scores: np.ndarray) -> Iterator[None]:
        """Predict from these scores instead of running the network."""
        self.__dict__["forward_iter"] = lambda *args, **kwargs: iter([torch.from_numpy(scores)])
        try:
            yield
        finally:
            del self.__dict__["forward_iter"]

    def _scores(self, X: Any) -> np.ndarray:
        return as_scores(torch.cat([*self.forward_iter(X)]))

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores of the classes."""
        return self.outputs_.decision_function(self._scores(X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes; numbers of a regressor, as skorch has it."""
        if self.outputs_.task == "regression":
            return self.predict(X)
        return self.outputs_.predict_proba(self._scores(X))

    def predict(self, X: Any) -> np.ndarray:
        """Classes, labels or numbers in the units of y."""
        return self.outputs_.predict(self._scores(X))

    def score(self, X: Any, y: Any) -> float:
        """Accuracy, or R2 of a regressor, as of scikit-learn's estimators."""
        metric = r2_score if self.outputs_.task == "regression" else accuracy_score
        return float(metric(y, self.predict(X)))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "regressor" if self.outputs_.task == "regression" else "classifier"
        return tags


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
    outputs: Outputs,
) -> FineTuningNet:
    """A skorch net, not initialized yet."""
    net = FineTuningNet(
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
    net.outputs_ = outputs
    return net


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
    """Callbacks for every step, also of `continue_training`."""
    callbacks: list[tuple[str, Callback]] = []
    if network.updates is not None:
        callbacks.append(("updates", WriteUpdates()))
    if strategy.gradient_clip is not None:
        callbacks.append(("clip", GradientNormClipping(strategy.gradient_clip)))
    if penalty == "l2-sp":
        source = {n: p.detach().clone() for n, p in network.trained_parameters().items()}
        callbacks.append(("pull", PullToSource(source, penalty_weight(strategy))))
    return callbacks


def own_callbacks(strategy: FineTune) -> list[tuple[str, Callback]]:
    """The scores and callbacks that the user asks for, also of `continue_training`."""
    callbacks: list[tuple[str, Callback]] = []
    if strategy.scoring is not None:
        callbacks.append(("scores", HeldOutScores(strategy.scoring)))
    # Copies, as skorch sets attributes of a callback, and a strategy may be used by many fits.
    for number, each in enumerate(copied_callbacks(strategy.callbacks) or ()):
        callbacks.append(each if isinstance(each, tuple) else (f"own_{number}", each))
    return callbacks


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
