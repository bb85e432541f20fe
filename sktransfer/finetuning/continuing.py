"""A tuned network that comes back from a file, or is trained for another epoch."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from sktransfer.finetuning.averaging import (
    Ends,
    ends_between,
    interpolate_between,
    snapshot,
)
from sktransfer.finetuning.batches import Batches, Inputs, TrainingRows
from sktransfer.finetuning.network import Body, LinearHead, TunedNetwork
from sktransfer.finetuning.objective import Objective
from sktransfer.finetuning.outputs import Outputs
from sktransfer.finetuning.resolving import (
    make_task_loss,
    partly_trained,
    sampling_options,
    seeded_for,
    with_learning_rate,
)
from sktransfer.finetuning.skorch_net import (
    average_callbacks,
    make_net,
    own_callbacks,
    step_callbacks,
)
from sktransfer.finetuning.steps import LinearWarmup, ProgressMonitor
from sktransfer.finetuning.strategy import SCHEDULE_CALLBACKS, FineTune
from sktransfer.finetuning.targets import Targets
from sktransfer.finetuning.tuned import Tuned, drop_unfinished, freeze_for_inference
from sktransfer.networks.seeding import seeded


def rebuild(
    body: Body,
    head: Mapping[str, np.ndarray],
    trained: tuple[str, ...],
    strategy: FineTune,
    outputs: Outputs,
    device: str,
    history: list[dict[str, Any]],
    ends: Ends | None = None,
    alpha: float | None = None,
    prior: np.ndarray | None = None,
) -> Tuned:
    """Restore a tuned network from a file, without its source network and optimizer state.

    `prior` has the shares of the classes in the training rows, for the logit-adjusted loss.
    """
    strategy = with_learning_rate(strategy, body, trained)
    linear = LinearHead.from_state(head)
    # "auto" depends on the rows of the first training, which are not known here.
    batch_norm = "update" if strategy.batch_norm == "update" else "frozen"
    partly = partly_trained(strategy, body, trained)
    with seeded(0):
        network = TunedNetwork(
            body,
            linear,
            trained,
            batch_norm,
            None,
            precision=strategy.precision,
            recompute=strategy.recompute_activations,
            **partly,
        )
    network.to(device)
    loss = make_task_loss(strategy, outputs.task, prior)
    objective = Objective(loss, None, 0, None, 0, linear.weight.shape[1])
    watch = ProgressMonitor(1, 1, None, strategy.learning_rate)
    callbacks = [
        ("monitor", watch),
        *step_callbacks(network, strategy, None),
        *own_callbacks(strategy),
    ]
    net = make_net(network, objective, strategy, 1, device, callbacks, outputs)
    with seeded(0):
        net.initialize()
    for epoch in history:
        net.history.new_epoch()
        for name, value in epoch.items():
            net.history.record(name, value)
    network.freeze()
    return Tuned(net, trained, False, float(net.lr), ends, alpha)


def continue_training(
    tuned: Tuned, inputs: Inputs, targets: Targets, strategy: FineTune, seed: int
) -> None:
    """Train a tuned network for one more epoch, with learning rates that rise to their peak."""
    net, network = tuned.net, tuned.network
    strategy = with_learning_rate(strategy, network.body, tuned.trained)
    rows = np.flatnonzero(targets.weights > 0)
    if not len(rows):
        raise ValueError("there is nothing to learn from: no row of X was read and has a weight")
    dataset = TrainingRows(
        inputs, targets, rows, **sampling_options(strategy, targets, np.random.RandomState(seed))
    )
    step_rows = strategy.batch_size * strategy.accumulate
    n_steps = len(Batches(dataset, step_rows))
    watch = ProgressMonitor(n_steps, 1, None, strategy.learning_rate)
    net.callbacks_ = [
        (name, watch if name == "monitor" else each)
        for name, each in net.callbacks_
        if name not in SCHEDULE_CALLBACKS
    ]
    # The rows may differ from earlier ones: full steps at once would undo much of what was learned.
    net.callbacks_.append(("rate", LinearWarmup(n_steps)))
    net.callbacks_.extend(average_callbacks(strategy, n_steps))
    # An error or an interrupt must leave the estimator as it was.
    parts = (network, net.criterion_, net.optimizer_)
    before = [copy.deepcopy(part.state_dict()) for part in parts]
    n_epochs = len(net.history)
    network.match_source_input()
    ends = tuned.ends
    try:
        if ends is not None:  # training goes on from the tuned end, not from between
            interpolate_between(ends, 1, network)
            source = snapshot(network)
            source |= {name: torch.from_numpy(first) for name, (first, _) in ends.items()}
        with seeded_for(strategy, seed):
            network.unfreeze_again()
            if strategy.tune == "lora" and tuned.trained:
                net.initialize_optimizer()  # for the new factors
            # The schedule of the first training has left the rates at its end, which may be 0.
            for group in net.optimizer_.param_groups:
                group["lr"] = strategy.learning_rate * group["factor"]
            net.set_params(max_epochs=1, train_split=None, batch_size=strategy.batch_size)
            # skorch sets parameters of an iterator before a net is initialised, and not after.
            net.iterator_train__batch_size = step_rows
            net.partial_fit(dataset)
        if ends is not None:
            assert tuned.alpha is not None
            ends = ends_between(source, network)
            interpolate_between(ends, tuned.alpha, network)
        drop_unfinished(net)
        freeze_for_inference(network)
    except BaseException:
        network.freeze()
        net.optimizer_ = parts[-1]
        for part, state in zip(parts, before, strict=True):
            part.load_state_dict(state)
        del net.history[n_epochs:]
        raise
    tuned.interrupted = net.interrupted
    tuned.ends = ends
