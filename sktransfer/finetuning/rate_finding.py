"""A learning rate from a range test: one short training whose rate rises until the loss explodes.

L. N. Smith, "Cyclical learning rates for training neural networks", WACV 2017, section 3.3, with
rates that rise exponentially instead of linearly, as they are compared by their ratios.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import Tensor, nn

from sktransfer.finetuning.batches import Batches, TrainingRows
from sktransfer.finetuning.network import TunedNetwork
from sktransfer.finetuning.objective import Objective
from sktransfer.finetuning.outputs import Outputs
from sktransfer.finetuning.skorch_net import make_net, step_callbacks
from sktransfer.finetuning.strategy import FineTune, with_rate
from sktransfer.networks.seeding import seeded

N_STEPS = 100
"""Most steps of a range test; small data repeat their batches."""

_LOWEST, _HIGHEST = 1e-6, 10.0

_START = 10
"""Steps at whose tiny rates nothing is learned yet."""

_EXPLODED = 4.0
"""Ratio of the smoothed loss to that of the start at which the test ends."""

_MEMORY = 0.9
"""Weight of the past in the moving average of losses."""

_FALL = 0.4
"""Share of the loss's fall at the chosen rate, a little before the steepest descent: at larger ones
a head that is trained alone learns few labels by heart, which costs log loss."""


class _TestOver(Exception):
    """The loss has exploded, or all rates were tried."""


class RaiseRate(Callback):
    """Raise the learning rate at every step, note the losses, and stop when they explode."""

    def __init__(self, rates: np.ndarray) -> None:
        self.rates = rates

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Begin with the first rate."""
        self.losses_: list[float] = []

    def on_batch_begin(self, net: Any, **kwargs: Any) -> None:
        """Set the rate of the step, which is smaller in shallow stages."""
        for group in net.optimizer_.param_groups:
            group["lr"] = self.rates[len(self.losses_)] * group["factor"]

    def on_batch_end(self, net: Any, loss: Tensor | None = None, **kwargs: Any) -> None:
        """Note the loss, and end the test if it has exploded."""
        assert loss is not None
        self.losses_.append(float(loss.detach()))
        smoothed = smooth(self.losses_)
        exploded = not math.isfinite(self.losses_[-1])
        if len(smoothed) > _START:
            exploded |= bool(smoothed[-1] > _EXPLODED * np.median(smoothed[:_START]))
        if exploded or len(self.losses_) == len(self.rates):
            raise _TestOver


def smooth(losses: Sequence[float]) -> np.ndarray:
    """Exponential moving average, (n,), without the bias of its start (Adam, section 3)."""
    weights = _MEMORY ** np.arange(len(losses))
    return np.convolve(losses, weights)[: len(losses)] / np.cumsum(weights)


def choose_rate(curve: Mapping[str, np.ndarray]) -> float:
    """The rate at which the loss has fallen two fifths of the way from its start to its minimum.

    Where the loss falls as a sigmoid of the logarithm of the rate, that is a little before the
    steepest descent. Unlike the largest difference of neighbours it does not depend on single
    batches.

    Raises
    ------
    ValueError
        The loss has never fallen.
    """
    smoothed = curve["smoothed_loss"][np.isfinite(curve["smoothed_loss"])]
    # The first averages are of few steps, and low by chance.
    start = np.median(smoothed[:_START]) if len(smoothed) else np.nan
    least = smoothed[_START:].min(initial=np.inf)
    if not least < start:
        raise ValueError(
            "learning_rate='find' found no rate at which the loss falls; give a number instead"
        )
    lowest = _START + int(smoothed[_START:].argmin())
    above = np.flatnonzero(smoothed[:lowest] > start - _FALL * (start - least))
    return float(curve["rate"][above[-1] + 1])


def find_rate(
    network: TunedNetwork,
    objective: Objective,
    dataset: TrainingRows,
    strategy: FineTune,
    penalty: str | None,
    device: torch.device,
    seed: int,
) -> tuple[float, dict[str, np.ndarray]]:
    """A learning rate, and "rate", "loss" and "smoothed_loss" of the steps that it was found by.

    The test trains all that `strategy` is going to train, from the same weights, on the same rows
    with a random order of its own. Then weights and buffers are set back, bit for bit.

    Raises
    ------
    ValueError
        The loss has never fallen.
    KeyboardInterrupt
        The user has ended the test.
    """
    rows = copy.copy(dataset)
    rows.rng = np.random.default_rng(seed)  # that of the training must not move on
    plain = with_rate(strategy, _LOWEST)
    n_epochs = -(-N_STEPS // len(Batches(rows, strategy.batch_size * strategy.accumulate)))
    rising = RaiseRate(np.geomspace(_LOWEST, _HIGHEST, N_STEPS))
    callbacks = [*step_callbacks(network, plain, penalty), ("range", rising)]
    outputs = Outputs.of(dataset.targets)
    net = make_net(network, objective, plain, n_epochs, device, callbacks, outputs)
    with seeded(seed), _set_back(network, objective), suppress(_TestOver):
        net.fit(rows)
    if net.interrupted:
        raise KeyboardInterrupt(
            "the range test of learning_rate='find' was interrupted; nothing has been fitted"
        )
    curve = {
        "rate": rising.rates[: len(rising.losses_)],
        "loss": np.array(rising.losses_),
        "smoothed_loss": smooth(rising.losses_),
    }
    return choose_rate(curve), curve


@contextmanager
def _set_back(*modules: nn.Module) -> Iterator[None]:
    """Give modules the values back that they have now, also of buffers that are not saved."""
    tensors = [each for module in modules for each in (*module.parameters(), *module.buffers())]
    before = [each.detach().clone() for each in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for each, value in zip(tensors, before, strict=True):
                each.copy_(value)
                each.grad = None
