"""From a body, rows and a strategy to a tuned network: skorch runs the epochs."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from skorch import NeuralNet
from skorch.helper import predefined_split
from torch import Tensor

from sktransfer.finetuning.batches import Batches, Inputs, Rows
from sktransfer.finetuning.net import (
    lasting_callbacks,
    make_net,
    penalty_weight,
    planned_callbacks,
)
from sktransfer.finetuning.network import Body, Head, TunedNetwork
from sktransfer.finetuning.objective import Objective, TaskLoss
from sktransfer.finetuning.penalties import channel_attention, loss_increase
from sktransfer.finetuning.probing import fit_head
from sktransfer.finetuning.steps import (
    RiseOnce,
    Watch,
)
from sktransfer.finetuning.strategy import PLANNED, FineTune
from sktransfer.finetuning.targets import Targets
from sktransfer.finetuning.unfreezing import resolve_unfreeze
from sktransfer.networks.seeding import seeded

_PROBE_ROWS = 5000
"""Rows that a head begins with: more cost minutes and hardly change the start."""

_HELD_OUT = {"classification": 10, "multilabel": 100, "regression": 100}
"""Rows, of each class in classification, that ``early_stopping="auto"`` wants to hold out."""

_NOTED = ("epoch", "train_loss", "valid_loss", "dur", "event_lr")


def seed_of(strategy: FineTune, random_state: Any) -> int:
    """The seed of a training: of the strategy, or else of the estimator it is given to."""
    own = strategy.random_state
    return int(check_random_state(random_state if own is None else own).randint(2**31 - 1))


class Tunable(Protocol):
    """What a transformer gives to be tuned.

    Attributes
    ----------
    body : Body
        On its device, with a copy of the network that may be trained.
    device : torch.device
    """

    body: Body
    device: torch.device

    def __len__(self) -> int: ...

    def inputs(self, trained: tuple[str, ...], strategy: FineTune) -> tuple[Inputs, np.ndarray]:
        """All rows of X as the body is going to need them, and which of them could be read."""


@dataclass
class Tuned:
    """A tuned network.

    Parameters
    ----------
    net : skorch.NeuralNet
    trained : tuple of str
        Names of the body's parameters that were trained.
    interrupted : bool
        Whether the user ended it early.
    """

    net: NeuralNet
    trained: tuple[str, ...]
    interrupted: bool

    @property
    def network(self) -> TunedNetwork:
        """Body and head."""
        return self.net.module_

    @property
    def head(self) -> Head:
        """The head alone."""
        return self.network.head

    @property
    def history(self) -> list[dict[str, Any]]:
        """What skorch notes of each epoch, without its batches."""
        return [
            {name: _plain(value) for name, value in epoch.items() if name in _NOTED}
            for epoch in self.net.history
        ]

    @property
    def n_trained(self) -> int:
        """How many numbers were trained, the head's too."""
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
    head: Head | None = None,
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
        Of all that is drawn; global generators are left alone.
    progress : str or None, default=None
        Label of the progress bar; None for no bar.
    head : Head or None, default=None
        To begin with; None makes one.

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
        raise ValueError("mixup blends rows of one shape, which sequences are not; set mixup=0")
    usable = targets.weights > 0
    if strategy.alignment is not None:
        usable |= ~targets.labelled
    usable &= readable
    _check_rows(usable, targets, strategy)
    rows = np.flatnonzero(usable)
    # A head alone cannot stray from the source.
    penalty = strategy.penalty if trained else None
    draw = np.random.RandomState(seed)
    rows, held_out = _split(rows, targets, strategy, draw)
    with seeded(seed):
        if head is None:
            head = _first_head(body, inputs, targets, rows, strategy, draw, tunable.device)
        network = TunedNetwork(
            body,
            head.to(tunable.device),
            trained,
            strategy.batch_norm,
            compare={"delta": "maps", "rkd": "features"}.get(penalty or ""),
        ).to(tunable.device)
        objective = Objective(
            TaskLoss(targets.task, strategy.label_smoothing),
            None if penalty == "l2-sp" else penalty,
            penalty_weight(strategy),
            strategy.alignment,
            strategy.alignment_weight,
            head.weight.shape[1],
        )
        dataset = Rows(inputs, targets, rows, **_drawing(strategy, targets, draw))
        if penalty == "delta":
            objective.channel_weights = _attention(network, objective, dataset, strategy)
        n_steps = len(Batches(dataset, strategy.batch_size))
        watch = Watch(strategy.epochs * n_steps, strategy.epochs, progress, strategy.learning_rate)
        callbacks = [
            ("watch", watch),
            # Before the learning rate becomes that of the next step.
            *lasting_callbacks(network, strategy, penalty),
            *planned_callbacks(network, strategy, n_steps, held_out is not None),
        ]
        net = make_net(network, objective, strategy, tunable.device, callbacks)
        if held_out is not None:
            net.set_params(train_split=predefined_split(Rows(inputs, targets, held_out)))
        net.fit(dataset)
    _drop_unfinished(net)
    settle(network)
    return Tuned(net, network.awake(), watch.amid_epoch)


def rebuild(
    body: Body,
    head: Mapping[str, np.ndarray],
    trained: tuple[str, ...],
    strategy: FineTune,
    task: str,
    device: str,
    history: list[dict[str, Any]],
) -> Tuned:
    """A tuned network as it was, but for its source and the state of its optimizer.

    That is what is left of it in a file.
    """
    own = Head.from_state(head)
    network = TunedNetwork(body, own, trained, strategy.batch_norm, None).to(device)
    loss = TaskLoss(task, strategy.label_smoothing)
    objective = Objective(loss, None, 0, None, 0, own.weight.shape[1])
    watch = Watch(1, 1, None, strategy.learning_rate)
    callbacks = [("watch", watch), *lasting_callbacks(network, strategy, None)]
    net = make_net(network, objective, strategy, device, callbacks)
    with seeded(0):
        net.initialize()
    for epoch in history:
        net.history.new_epoch()
        for name, value in epoch.items():
            net.history.record(name, value)
    network.eval().requires_grad_(False)
    return Tuned(net, trained, False)


def go_on(tuned: Tuned, inputs: Inputs, targets: Targets, strategy: FineTune, seed: int) -> None:
    """Train a tuned network for one more epoch, at a rate that rises to its height."""
    net, network = tuned.net, tuned.network
    rows = np.flatnonzero(targets.weights > 0)
    if not len(rows):
        raise ValueError("there is nothing to learn from: no row of X could be read and has weight")
    dataset = Rows(
        inputs, targets, rows, **_drawing(strategy, targets, np.random.RandomState(seed))
    )
    n_steps = len(Batches(dataset, strategy.batch_size))
    watch = Watch(n_steps, 1, None, strategy.learning_rate)
    net.callbacks_ = [
        (name, watch if name == "watch" else each)
        for name, each in net.callbacks_
        if name not in PLANNED
    ]
    # Other rows than before: full steps at once would undo much of what was learned.
    net.callbacks_.append(("rate", RiseOnce(n_steps)))
    for group in net.optimizer_.param_groups:
        group["lr"] = strategy.learning_rate * group["factor"]
    parts = (network, net.criterion_, net.optimizer_)
    before = [copy.deepcopy(part.state_dict()) for part in parts]
    n_epochs = len(net.history)
    network.begin_where_the_body_does()
    network.wake()
    try:
        with seeded(seed):
            net.set_params(max_epochs=1, train_split=None, batch_size=strategy.batch_size)
            net.partial_fit(dataset)
        _drop_unfinished(net)
        settle(network)
    except BaseException:
        for part, state in zip(parts, before, strict=True):
            part.load_state_dict(state)
        del net.history[n_epochs:]
        network.eval().requires_grad_(False)
        raise
    tuned.interrupted = watch.amid_epoch


def raise_interrupt(tuned: Tuned | None) -> None:
    """Pass on a Ctrl-C that ended a training, now that nothing is left half done."""
    if tuned is not None and tuned.interrupted:
        raise KeyboardInterrupt(
            f"fine-tuning was ended in epoch {len(tuned.history) + 1}; the estimator can be used "
            "as it is"
        )


def settle(network: TunedNetwork) -> None:
    """Put a network back into the state that features are read in."""
    network.eval().requires_grad_(False)
    if not all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values()):
        raise ValueError(
            "fine-tuning diverged: weights are NaN or infinite; lower learning_rate, or set "
            "gradient_clip=1.0"
        )


def features_of(
    body: Body, inputs: Inputs, rows: np.ndarray, batch_size: int, device: torch.device
) -> np.ndarray:
    """Features of some rows from the body as it is."""
    body.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            batch = inputs.batch(rows[start : start + batch_size], training=False)
            parts.append(body(to_device(batch, device)).cpu().numpy())
    return np.concatenate(parts)


def to_device(batch: Any, device: torch.device) -> Any:
    """A tensor, or a tuple of them, on a device."""
    return batch.to(device) if isinstance(batch, Tensor) else tuple(t.to(device) for t in batch)


def _drop_unfinished(net: NeuralNet) -> None:
    """Forget an epoch that an interrupt has ended."""
    if net.history and "dur" not in net.history[-1]:
        del net.history[-1]


def _check_rows(usable: np.ndarray, targets: Targets, strategy: FineTune) -> None:
    """See that there is something to learn from among the rows that could be read."""
    labelled = usable & targets.labelled
    some = f"of {len(usable)} rows, {labelled.sum()} have a label and a weight and could be read"
    if not labelled.any():
        raise ValueError(f"there is nothing to learn from: {some}")
    if targets.task == "classification" and len(np.unique(targets.codes[labelled])) < 2:
        raise ValueError(f"fine-tuning needs at least 2 classes, and {some}, all of one class")
    if strategy.alignment is not None and not (usable & ~targets.labelled).any():
        raise ValueError(f"alignment={strategy.alignment!r}: no row of the target could be read")


def _split(
    rows: np.ndarray, targets: Targets, strategy: FineTune, draw: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows to learn from, and those held out, if any."""
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


def _first_head(
    body: Body,
    inputs: Inputs,
    targets: Targets,
    rows: np.ndarray,
    strategy: FineTune,
    draw: np.random.RandomState,
    device: torch.device,
) -> Head:
    some = rows[targets.labelled[rows]]
    if len(some) > _PROBE_ROWS:
        some = np.sort(draw.choice(some, _PROBE_ROWS, replace=False))
    features = features_of(body, inputs, some, strategy.batch_size, device)
    if not np.isfinite(features).all():
        row = some[np.flatnonzero(~np.isfinite(features).all(1))[0]]
        raise ValueError(f"the network puts out NaN or infinity for X[{row}]; check its weights")
    return fit_head(
        features,
        targets.values[some],
        targets.weights[some],
        task=targets.task,
        random=draw if strategy.head_init == "random" else None,
    )


def _drawing(strategy: FineTune, targets: Targets, draw: np.random.RandomState) -> dict[str, Any]:
    """How rows are drawn for training."""
    if strategy.sampler is not None and targets.task != "classification":
        raise ValueError(
            f"sampler={strategy.sampler!r} is for classification, and y makes this {targets.task}"
        )
    seed = draw.randint(2**31 - 1)
    return {"seed": seed, "sampler": strategy.sampler, "mixup": strategy.mixup}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _attention(
    network: TunedNetwork, objective: Objective, dataset: Rows, strategy: FineTune
) -> Tensor:
    """How much each channel of the deepest stage matters to the first head."""
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
