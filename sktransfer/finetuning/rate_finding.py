"""A learning rate from a range test: one short training whose rate rises until the loss explodes.

L. N. Smith, "Cyclical learning rates for training neural networks", WACV 2017, section 3.3, with
rates that rise exponentially instead of linearly, as they are compared by their ratios.
"""

import copy
import math
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback

from sktransfer.finetuning.batches import Batches, TrainingRows
from sktransfer.finetuning.network import TunedNetwork
from sktransfer.finetuning.objective import Objective
from sktransfer.finetuning.outputs import Outputs
from sktransfer.finetuning.skorch_net import make_net, step_callbacks
from sktransfer.finetuning.strategy import FineTune
from sktransfer.networks.seeding import seeded

N_STEPS = 100
"""Most steps of a range test; small data repeat their batches."""

_LOWEST, _HIGHEST = 1e-6, 10.0

_EXPLODED = 4.0
"""Ratio of the smoothed loss to its minimum at which the test ends."""

_MEMORY = 0.9


class _Exploded(Exception):
    """The loss is out of bounds, or the last rate was tried."""


class RaiseRate(Callback):
    """Raise the learning rate exponentially at every step, and note the losses."""

    def __init__(self, rates: np.ndarray) -> None:
        self.rates = rates

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Begin with the first rate."""
        self.losses: list[float] = []

    def on_batch_begin(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        """Set the rate of the step."""
        if len(self.losses) == len(self.rates):
            raise _Exploded
        for group in net.optimizer_.param_groups:
            group["lr"] = self.rates[len(self.losses)] * group["factor"]

    def on_batch_end(self, net: Any, loss: Any = None, **kwargs: Any) -> None:
        """Note the loss, and end the test if it has exploded."""
        self.losses.append(float(loss.detach()))
        smoothed = smooth(self.losses)
        if not math.isfinite(self.losses[-1]) or smoothed[-1] > _EXPLODED * smoothed.min():
            raise _Exploded


def smooth(losses: Any) -> np.ndarray:
    """Exponential moving average of losses, without the bias of its start."""
    mean, out = 0.0, []
    for number, loss in enumerate(losses, 1):
        mean = _MEMORY * mean + (1 - _MEMORY) * loss
        out.append(mean / (1 - _MEMORY**number))
    return np.array(out)


def find_rate(
    network: TunedNetwork,
    objective: Objective,
    dataset: TrainingRows,
    strategy: FineTune,
    penalty: str | None,
    device: torch.device,
    seed: int,
) -> tuple[float, dict[str, np.ndarray]]:
    plain = with_rate(strategy, _LOWEST)
    rows = copy.copy(dataset)
    rows.rng = np.random.default_rng(seed)
    plain.epochs = -(-N_STEPS // len(Batches(rows, strategy.batch_size))) + 1
    rising = RaiseRate(np.geomspace(_LOWEST, _HIGHEST, N_STEPS))
    states = [
        (module, {name: t.detach().clone() for name, t in _tensors(module)})
        for module in (network, objective)
    ]
    with seeded(seed):
        callbacks = [*step_callbacks(network, plain, penalty), ("range", rising)]
        net = make_net(network, objective, plain, device, callbacks, Outputs.of(dataset.targets))
        try:
            net.fit(rows)
        except _Exploded:
            pass
        finally:
            with torch.no_grad():
                for module, state in states:
                    for name, tensor in _tensors(module):
                        tensor.copy_(state[name])
                        tensor.grad = None
    if net.interrupted:
        raise KeyboardInterrupt("the range test of learning_rate='find' was interrupted")
    curve = {
        "rate": rising.rates[: len(rising.losses)],
        "loss": np.array(rising.losses),
        "smoothed_loss": smooth(rising.losses),
    }
    return choose_rate(curve), curve


def choose_rate(curve):
    return 1e-3


def _tensors(module):
    yield from module.named_parameters()
    yield from module.named_buffers()


def with_rate(strategy: FineTune, rate: float) -> FineTune:
    """A strategy with another learning rate, and all else shared."""
    other = copy.copy(strategy)
    other.learning_rate = rate
    return other
