"""Averages of weights: over the steps of a training, and between a source and a tuned network."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import Tensor, nn

Ends = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Tensors of the source network and of the tuned one, by their name in a state dict."""

BODY, HEAD = "body.module.", "head."
"""Beginnings of the names of a network's tensors and those of its head."""

ALPHAS = tuple(number / 10 for number in range(10, -1, -1))
"""Candidates for ``interpolate="auto"``; of equal ones the first is taken."""

FIXED_ALPHA = 0.5
"""What ``interpolate="auto"`` takes without enough rows to choose by (Wortsman et al. 2022)."""

_EMA_HORIZON = 0.2
"""Steps that an exponential average looks back on, as a share of all. Rates such as 0.999 are for
millions of steps: after the few hundred of a fine-tuning they would still hold the beginning."""

_SWA_SHARE = 0.25
"""Share of the steps, at the end, whose weights are averaged."""


class WeightAverage(Callback):
    """Average the weights over training steps; the average is what is validated and kept.

    Between the steps of an epoch and the beginning of the next, the network holds the average, so
    that held-out rows judge it and early stopping keeps the best one. Training goes on from the
    weights that the optimizer has reached. Statistics of batch norm that are updated are averaged,
    too; buffers of whole numbers stay those of the last step.

    Parameters
    ----------
    average : {"ema", "swa"}
        "ema": the weights of `n` steps ago count ``(1 - 1 / h) ** n``, where ``h`` is a fifth of
        all steps, divided by the sum of these numbers, as Adam's moments are (Kingma and Ba 2015,
        section 3). "swa": the equal mean over the last quarter of the steps (Izmailov et al. 2018,
        algorithm 1, with a cycle of one step); before, the weights themselves.
    n_steps : int
        Steps of the training.
    """

    def __init__(self, average: str, n_steps: int) -> None:
        self.average = average
        self.n_steps = n_steps

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Begin with no step."""
        self.moving = [t for t in net.module_.moving_tensors() if t.is_floating_point()]
        self.n_before = self.n_steps - max(1, round(_SWA_SHARE * self.n_steps))
        if self.average == "ema":
            self.n_before = 0
        self.step = 0
        self.mean: list[Tensor] = []
        self.reached: list[Tensor] = []

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Go on from the weights that the optimizer has reached."""
        _copy(self.reached, self.moving)
        self.reached = []

    def on_batch_begin(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        """Validate the average."""
        if not training:
            self._take_the_average()

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        """Add the weights after a step."""
        if not training:
            return
        self.step += 1
        number = self.step - self.n_before
        if number < 1:
            return
        if not self.mean:
            self.mean = [tensor.detach().clone() for tensor in self.moving]
        share = self._share(number)
        with torch.no_grad():
            for mean, tensor in zip(self.mean, self.moving, strict=True):
                mean.lerp_(tensor, share)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Take the average."""
        self._take_the_average()

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Keep the average, and nothing else."""
        self._take_the_average()
        self.moving, self.mean, self.reached = [], [], []

    def state_dict(self) -> dict[str, Any]:
        """What the rest of a training depends on, for a checkpoint."""
        return {"step": self.step, "mean": self.mean, "reached": self.reached}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.step = state["step"]
        for name in ("mean", "reached"):
            tensors = [torch.empty_like(tensor) for tensor in self.moving[: len(state[name])]]
            _copy(state[name], tensors)
            setattr(self, name, tensors)

    def _share(self, number: int) -> float:
        """Weight of the latest of so many steps in their average."""
        if self.average == "swa":
            return 1 / number
        decay = 1 - 1 / max(1.0, _EMA_HORIZON * self.n_steps)
        return (1 - decay) / (1 - decay**number)

    def _take_the_average(self) -> None:
        if self.mean and not self.reached:
            self.reached = [tensor.detach().clone() for tensor in self.moving]
            _copy(self.mean, self.moving)


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Copies of all tensors of a network."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def ends_between(source: Mapping[str, Tensor], module: nn.Module) -> dict[str, Any]:
    """The tensors of a network that are no longer what they were, before and now."""
    return {
        name: (_as_array(source[name]), _as_array(tensor))
        for name, tensor in module.state_dict().items()
        if not torch.equal(source[name], tensor)
    }


def interpolate_between(ends: Ends, alpha: float, module: nn.Module) -> None:
    """Set a network to a point between its source (0) and its tuned weights (1).

    Equation 1 of M. Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
    """
    state = module.state_dict()
    for name, (source, tuned) in ends.items():
        state[name].copy_(torch.from_numpy(interpolated_array(source, tuned, alpha)))


def interpolated_array(source: np.ndarray, tuned: np.ndarray, alpha: float) -> np.ndarray:
    """``(1 - alpha) * source + alpha * tuned``, exact at both ends; counters are the tuned ones."""
    if alpha == 0:
        return source
    if alpha == 1 or source.dtype.kind != "f":
        return tuned
    return ((1 - alpha) * source + alpha * tuned).astype(source.dtype)


def rescaled_heads(ends: Ends, temperature: float, shift: Tensor) -> Ends:
    """Both ends, with heads whose scores are divided by a temperature and then shifted."""

    def rescaled(name: str, array: np.ndarray) -> np.ndarray:
        if not name.startswith(HEAD):
            return array
        divided = torch.from_numpy(array).div(temperature)
        return (divided + shift if name.endswith("bias") else divided).numpy()

    return {
        name: (rescaled(name, source), rescaled(name, tuned))
        for name, (source, tuned) in ends.items()
    }


def _as_array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().clone().numpy()


def _copy(values: list[Tensor], into: list[Tensor]) -> None:
    with torch.no_grad():
        for value, tensor in zip(values, into, strict=False):  # of none, if there is no average
            tensor.copy_(value)
