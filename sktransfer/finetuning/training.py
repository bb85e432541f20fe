"""Training of a body and a head under a strategy, with skorch."""

import copy
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from skorch import NeuralNet
from skorch.helper import predefined_split
from torch import Tensor

from sktransfer._validation import Seed
from sktransfer.finetuning.batches import Batches, Inputs, TrainingRows
from sktransfer.finetuning.network import Body, LinearHead, TunedNetwork
from sktransfer.finetuning.objective import Objective, TaskLoss
from sktransfer.finetuning.outputs import Outputs
from sktransfer.finetuning.penalties import channel_attention, loss_increase
from sktransfer.finetuning.probing import fit_head
from sktransfer.finetuning.protocols import Tunable
from sktransfer.finetuning.rate_finding import find_rate, with_rate
from sktransfer.finetuning.skorch_net import (
    FineTuningNet,
    make_net,
    own_callbacks,
    penalty_weight,
    schedule_callbacks,
    step_callbacks,
)
from sktransfer.finetuning.steps import LinearWarmup, ProgressMonitor
from sktransfer.finetuning.strategy import SCHEDULE_CALLBACKS, FineTune
from sktransfer.finetuning.targets import Targets
from sktransfer.finetuning.unfreezing import resolve_unfreeze
from sktransfer.networks.seeding import seeded

_PROBE_ROWS = 5000
"""Most rows that an initial head is fitted to: more take minutes and hardly change it."""

_HELD_OUT = {"classification": 10, "multilabel": 100, "regression": 100}
"""Least held-out rows, of each class in classification, for ``early_stopping="auto"``."""

_NOT_IN_HISTORY = ("train_batch_count", "valid_batch_count")


def seed_of(strategy: FineTune, random_state: Seed) -> int:
    """Seed of a training, from the strategy's random state or else that of its estimator."""
    state = random_state if strategy.random_state is None else strategy.random_state
    return int(check_random_state(state).randint(2**31 - 1))


@dataclass
class Tuned:
    """A tuned network.

    Parameters
    ----------
    net : FineTuningNet
    trained : tuple of str
        Names of the body's parameters that were trained.
    interrupted : bool
        Whether the user ended it early.
    learning_rate : float
        Peak rate.
    rate_curve : dict of str to ndarray, or None
        The range test that has found the rate.
    """

    net: FineTuningNet
    trained: tuple[str, ...]
    interrupted: bool
    learning_rate: float
    rate_curve: dict[str, np.ndarray] | None = None

    @property
    def network(self) -> TunedNetwork:
        """Body and head."""
        return self.net.module_

    @property
    def head(self) -> LinearHead:
        """The head alone."""
        return self.network.head

    @property
    def history(self) -> list[dict[str, Any]]:
        """Numbers that skorch and callbacks have recorded for each epoch, without its batches."""
        return [
            {
                name: value.item() if isinstance(value, np.generic) else value
                for name, value in epoch.items()
                if _is_number(value) and name not in _NOT_IN_HISTORY
            }
            for epoch in self.net.history
        ]

    @property
    def n_trained(self) -> int:
        """Number of trained parameters, including the head's."""
        trained = self.network.trained_parameters()
        parameters = [*(trained[name] for name in self.trained), *self.head.parameters()]
        return sum(parameter.numel() for parameter in parameters)


def tune(
    tunable: Tunable,
    targets: Targets,
    strategy: FineTune,
    seed: int,
    *,
    progress: str | None = None,
    head: LinearHead | None = None,
) -> Tuned:
    """Fine-tune a network.

    Parameters
    ----------
    tunable : Tunable
    targets : Targets
        One row per row of X.
    strategy : FineTune
        With checked parameters.
    seed : int
        Seed of all random draws; the state of global generators is restored.
    progress : str or None, default=None
        Label of the progress bar; None for no bar.
    head : LinearHead or None, default=None
        Initial head; None makes one.

    Raises
    ------
    ValueError
        The strategy does not fit the network or the data, or training diverges.
    """
    if strategy.alignment is not None and targets.labelled.all():
        raise ValueError(
            f"alignment={strategy.alignment!r} needs rows of two domains; pass "
            "sample_domain to fit, positive for source and negative for target rows"
        )
    body = tunable.body
    trained = resolve_unfreeze(strategy.unfreeze, body.stages)
    inputs, readable = tunable.inputs(trained, strategy)
    if strategy.mixup and not inputs.mixable:
        raise ValueError("mixup needs rows of one shape, which sequences do not have; set mixup=0")
    usable = targets.weights > 0
    if strategy.alignment is not None:
        usable |= ~targets.labelled
    usable &= readable
    _check_rows(usable, targets, strategy)
    rows = np.flatnonzero(usable)
    # Without trained weights in the body its features are those of the source.
    penalty = strategy.penalty if trained else None
    draw = np.random.RandomState(seed)
    rows, held_out = _split(rows, targets, strategy, draw)
    if strategy.scoring is not None and held_out is None:
        raise ValueError(
            f"scoring={strategy.scoring!r} needs held-out rows, and early_stopping="
            f"{strategy.early_stopping!r} holds out none of these {len(rows)}; set "
            "early_stopping=True, or scoring=None"
        )
    with seeded(seed):  # dropout and torch's initialisations draw from global generators
        if head is None:
            head = _initial_head(body, inputs, targets, rows, strategy, draw, tunable.device)
        network = TunedNetwork(
            body,
            head.to(tunable.device),
            trained,
            strategy.batch_norm,
            compare={"delta": "maps", "rkd": "features"}.get(penalty or ""),
        ).to(tunable.device)
        objective = Objective(
            TaskLoss(targets.task, strategy.label_smoothing),
            None if penalty == "l2-sp" else penalty,  # which is a callback, not part of the loss
            penalty_weight(strategy),
            strategy.alignment,
            strategy.alignment_weight,
            head.weight.shape[1],
        )
        dataset = TrainingRows(inputs, targets, rows, **_sampling_options(strategy, targets, draw))
        if penalty == "delta":
            objective.channel_weights = _channel_weights(network, objective, dataset, strategy)
        curve = None
        if strategy.learning_rate == "find":
            rate, curve = find_rate(
                network, objective, dataset, strategy, penalty, tunable.device, seed
            )
            strategy = with_rate(strategy, rate)
        n_steps = len(Batches(dataset, strategy.batch_size))
        watch = ProgressMonitor(
            strategy.epochs * n_steps, strategy.epochs, progress, strategy.learning_rate
        )
        callbacks = [
            ("monitor", watch),
            # Before the scheduler, as L2-SP needs the learning rate of the step that was taken.
            *step_callbacks(network, strategy, penalty),
            *own_callbacks(strategy),
            # Last, as early stopping ends the epoch for those after it.
            *schedule_callbacks(network, strategy, n_steps, held_out is not None),
        ]
        net = make_net(network, objective, strategy, tunable.device, callbacks, Outputs.of(targets))
        if held_out is not None:
            net.set_params(train_split=predefined_split(TrainingRows(inputs, targets, held_out)))
        net.fit(dataset)
    _drop_unfinished(net)
    freeze_for_inference(network)
    return Tuned(net, network.unfrozen_names(), net.interrupted, strategy.learning_rate, curve)


def rebuild(
    body: Body,
    head: Mapping[str, np.ndarray],
    trained: tuple[str, ...],
    strategy: FineTune,
    outputs: Outputs,
    device: str,
    history: list[dict[str, Any]],
) -> Tuned:
    """Restore a tuned network from a file, without its source network and optimizer state."""
    linear = LinearHead.from_state(head)
    network = TunedNetwork(body, linear, trained, strategy.batch_norm, None).to(device)
    loss = TaskLoss(outputs.task, strategy.label_smoothing)
    objective = Objective(loss, None, 0, None, 0, linear.weight.shape[1])
    watch = ProgressMonitor(1, 1, None, strategy.learning_rate)
    callbacks = [
        ("monitor", watch),
        *step_callbacks(network, strategy, None),
        *own_callbacks(strategy),
    ]
    net = make_net(network, objective, strategy, device, callbacks, outputs)
    with seeded(0):
        net.initialize()
    for epoch in history:
        net.history.new_epoch()
        for name, value in epoch.items():
            net.history.record(name, value)
    network.eval().requires_grad_(False)
    return Tuned(net, trained, False, strategy.learning_rate)


def continue_training(
    tuned: Tuned, inputs: Inputs, targets: Targets, strategy: FineTune, seed: int
) -> None:
    """Train a tuned network for one more epoch, with learning rates that rise to their peak."""
    net, network = tuned.net, tuned.network
    rows = np.flatnonzero(targets.weights > 0)
    if not len(rows):
        raise ValueError("there is nothing to learn from: no row of X was read and has a weight")
    dataset = TrainingRows(
        inputs, targets, rows, **_sampling_options(strategy, targets, np.random.RandomState(seed))
    )
    n_steps = len(Batches(dataset, strategy.batch_size))
    watch = ProgressMonitor(n_steps, 1, None, strategy.learning_rate)
    net.callbacks_ = [
        (name, watch if name == "monitor" else each)
        for name, each in net.callbacks_
        if name not in SCHEDULE_CALLBACKS
    ]
    # The rows may differ from earlier ones: full steps at once would undo much of what was learned.
    net.callbacks_.append(("rate", LinearWarmup(n_steps)))
    # The schedule of the first training has left the rates at its end, which may be 0.
    for group in net.optimizer_.param_groups:
        group["lr"] = strategy.learning_rate * group["factor"]
    # An error or an interrupt must leave the estimator as it was.
    parts = (network, net.criterion_, net.optimizer_)
    before = [copy.deepcopy(part.state_dict()) for part in parts]
    n_epochs = len(net.history)
    network.match_source_input()
    network.unfreeze_again()
    try:
        with seeded(seed):
            net.set_params(max_epochs=1, train_split=None, batch_size=strategy.batch_size)
            net.partial_fit(dataset)
        _drop_unfinished(net)
        freeze_for_inference(network)
    except BaseException:
        for part, state in zip(parts, before, strict=True):
            part.load_state_dict(state)
        del net.history[n_epochs:]
        network.eval().requires_grad_(False)
        raise
    tuned.interrupted = net.interrupted


def raise_interrupt(tuned: Tuned | None) -> None:
    """Raise the KeyboardInterrupt that skorch caught, once the estimator is in a valid state."""
    if tuned is not None and tuned.interrupted:
        raise KeyboardInterrupt(
            f"fine-tuning was interrupted in epoch {len(tuned.history) + 1}; the estimator can be "
            "used as it is"
        )


def freeze_for_inference(network: TunedNetwork) -> None:
    """Set evaluation mode, freeze all parameters, and check that they are finite."""
    network.eval().requires_grad_(False)
    if not all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values()):
        raise ValueError(
            "fine-tuning diverged: weights are NaN or infinite; lower learning_rate, or set "
            "gradient_clip=1.0"
        )


def extract_features(
    body: Body, inputs: Inputs, rows: np.ndarray, batch_size: int, device: torch.device
) -> np.ndarray:
    """Features of some rows by the untuned body."""
    body.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            batch = inputs.batch(rows[start : start + batch_size], training=False)
            parts.append(body(to_device(batch, device)).cpu().numpy())
    return np.concatenate(parts)


def to_device(batch: Any, device: torch.device) -> Any:
    """Move a tensor, or a tuple of them, to a device."""
    return batch.to(device) if isinstance(batch, Tensor) else tuple(t.to(device) for t in batch)


def _is_number(value: Any) -> bool:
    # Truth values tell about the best epoch so far, which the numbers tell, too.
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)


def _drop_unfinished(net: NeuralNet) -> None:
    """Drop the record of an interrupted epoch."""
    if net.history and "dur" not in net.history[-1]:
        del net.history[-1]


def _check_rows(usable: np.ndarray, targets: Targets, strategy: FineTune) -> None:
    """Check that the rows that could be read are enough to learn from."""
    labelled = usable & targets.labelled
    count = f"of {len(usable)} rows, {labelled.sum()} have a label and a weight and could be read"
    if not labelled.any():
        raise ValueError(f"there is nothing to learn from: {count}")
    if targets.task == "classification" and len(np.unique(targets.codes[labelled])) < 2:
        raise ValueError(f"fine-tuning needs at least 2 classes, and {count}, all of one class")
    if strategy.alignment is not None and not (usable & ~targets.labelled).any():
        raise ValueError(f"alignment={strategy.alignment!r}: no row of the target could be read")


def _split(
    rows: np.ndarray, targets: Targets, strategy: FineTune, draw: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray | None]:
    """Training rows, and held-out rows or None."""
    source = rows[targets.labelled[rows]]
    if strategy.early_stopping is False:
        return rows, None
    classes = targets.codes[source] if targets.task == "classification" else None
    counts = np.array([len(source)]) if classes is None else np.bincount(classes)
    smallest = int(counts[counts > 0].min() * strategy.validation_fraction)
    if strategy.early_stopping == "auto" and smallest < _HELD_OUT[targets.task]:
        return rows, None
    if smallest < 1:
        raise ValueError(
            f"early_stopping=True cannot hold out validation_fraction="
            f"{strategy.validation_fraction} of {counts.min()} rows (of the smallest class); set "
            "early_stopping=False"
        )
    _, held_out = train_test_split(
        source,
        test_size=strategy.validation_fraction,
        stratify=classes,
        random_state=draw.randint(2**31 - 1),
    )
    return np.setdiff1d(rows, held_out), held_out


def _initial_head(
    body: Body,
    inputs: Inputs,
    targets: Targets,
    rows: np.ndarray,
    strategy: FineTune,
    draw: np.random.RandomState,
    device: torch.device,
) -> LinearHead:
    sample = rows[targets.labelled[rows]]
    if len(sample) > _PROBE_ROWS:
        sample = np.sort(draw.choice(sample, _PROBE_ROWS, replace=False))
    features = extract_features(body, inputs, sample, strategy.batch_size, device)
    if not np.isfinite(features).all():
        row = sample[np.flatnonzero(~np.isfinite(features).all(1))[0]]
        raise ValueError(
            f"the network's features of X[{row}] are NaN or infinite; check its weights"
        )
    return fit_head(
        features,
        targets.values[sample],
        targets.weights[sample],
        task=targets.task,
        random=draw if strategy.head_init == "random" else None,
    )


def _sampling_options(
    strategy: FineTune, targets: Targets, draw: np.random.RandomState
) -> dict[str, Any]:
    """Arguments of `TrainingRows` that decide the order and the blending of training rows."""
    if strategy.sampler is not None and targets.task != "classification":
        raise ValueError(
            f"sampler={strategy.sampler!r} is for classification, and y makes this {targets.task}"
        )
    seed = draw.randint(2**31 - 1)
    return {"seed": seed, "sampler": strategy.sampler, "mixup": strategy.mixup}


def _channel_weights(
    network: TunedNetwork, objective: Objective, dataset: TrainingRows, strategy: FineTune
) -> Tensor:
    """Weight of each channel of the deepest stage by its effect on the initial head's loss."""
    device = next(network.parameters()).device
    network.eval()
    total: Tensor | None = None
    rows = dataset.rows[dataset.targets.labelled[dataset.rows]][:_PROBE_ROWS]
    n_batches = -(-len(rows) // strategy.batch_size)
    for some in np.array_split(rows, n_batches):
        inputs, target = dataset.take(some, training=False)
        with torch.enable_grad():
            features, maps = network.body.with_maps(to_device(inputs, device), leaf=True)
            scores = network.head(network.head.standardise(features))
            losses = objective.task_loss(scores, target["values"].to(device))
            gradient = torch.autograd.grad(losses.sum(), maps)[0]
        increase = loss_increase(maps.detach(), gradient)
        total = increase if total is None else total + increase
    assert total is not None
    return channel_attention(total / len(rows))
