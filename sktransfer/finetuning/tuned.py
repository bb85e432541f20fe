"""A network after its training."""

import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np
from skorch import NeuralNet

from sktransfer.finetuning.averaging import (
    Ends,
)
from sktransfer.finetuning.held_out import (
    Verdict,
)
from sktransfer.finetuning.network import LinearHead, TunedNetwork
from sktransfer.finetuning.skorch_net import (
    FineTuningNet,
)

_NOT_IN_HISTORY = ("train_batch_count", "valid_batch_count")


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
    ends : Ends or None
        With ``interpolate=``, what lies between the source network and the tuned one.
    alpha : float or None
        Where the network lies between them.
    learning_rate : float
        Peak rate.
    rate_curve : dict of str to ndarray, or None
        The range test that has found the rate.
    """

    net: FineTuningNet
    trained: tuple[str, ...]
    interrupted: bool
    learning_rate: float
    ends: Ends | None = None
    alpha: float | None = None
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
                if name in Verdict._fields or (_is_number(value) and name not in _NOT_IN_HISTORY)
            }
            for epoch in self.net.history
        ]

    @property
    def n_trained(self) -> int:
        """Number of trained parameters, including the head's."""
        return self.network.n_trained(self.trained)


def finished(net: FineTuningNet) -> Tuned:
    """The result of a training, whose weights are frozen from now on."""
    drop_unfinished(net)
    freeze_for_inference(net.module_)
    return Tuned(
        net,
        net.module_.unfrozen_names(),
        net.interrupted,
        float(net.lr),
        net.ends,
        net.alpha,
        net.rate_curve,
    )


def raise_interrupt(tuned: Tuned | None) -> None:
    """Raise the KeyboardInterrupt that skorch caught, once the estimator is in a valid state."""
    if tuned is not None and tuned.interrupted:
        raise KeyboardInterrupt(
            f"fine-tuning was interrupted in epoch {len(tuned.history) + 1}; the estimator can be "
            "used as it is"
        )


def freeze_for_inference(network: TunedNetwork) -> None:
    """Set evaluation mode, freeze all parameters, and check that they are finite."""
    network.freeze()
    if not all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values()):
        raise ValueError(
            "fine-tuning diverged: weights are NaN or infinite; lower learning_rate, or set "
            "gradient_clip=1.0"
        )


def drop_unfinished(net: NeuralNet) -> None:
    """Drop the record of an interrupted epoch."""
    if net.history and "dur" not in net.history[-1]:
        del net.history[-1]


def _is_number(value: Any) -> bool:
    # Truth values tell about the best epoch so far, which the numbers tell, too.
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
