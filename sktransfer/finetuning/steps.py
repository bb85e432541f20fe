"""What happens between the steps of a training, as skorch callbacks."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from skorch.callbacks import Callback
from torch import Tensor, nn
from tqdm.auto import tqdm

from sktransfer.finetuning.network import TunedNetwork
from sktransfer.finetuning.objective import Objective


class DrawToSource(Callback):
    """L2-SP: after each step, draw weights towards where they began.

    The step is the proximal one of weight / 2 * ||w - w0||^2 at the step's learning rate, so that
    it is stable for any weight: an infinite one stays at the source, zero does nothing, and for
    plain gradient descent the fixed point is the optimum of loss plus penalty.

    Parameters
    ----------
    source : dict of str to Tensor
        Weights of the source network, by name.
    weight : float
    """

    def __init__(self, source: Mapping[str, Tensor], weight: float) -> None:
        self.source = source
        self.weight = weight

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        """Take the step."""
        if not training:
            return
        rates = {
            id(parameter): group["lr"]
            for group in net.optimizer_.param_groups
            for parameter in group["params"]
        }
        with torch.no_grad():
            for name, parameter in net.module_.trained_parameters().items():
                if parameter.grad is None:  # not yet unfrozen
                    continue
                pull = rates[id(parameter)] * self.weight
                share = 1.0 if math.isinf(self.weight) else pull / (1 + pull)
                parameter.lerp_(self.source[name], share)


class UnfreezeGradually(Callback):
    """Train the head alone at first, and one more stage every so many epochs.

    Parameters
    ----------
    stages : list of int
        Those that have something to train, from the deepest.
    every : int
        Epochs.
    """

    def __init__(self, stages: list[int], every: int) -> None:
        self.stages = stages
        self.every = every

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Begin with epoch 0."""
        self.epoch = 0

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Unfreeze what is due."""
        n_awake = min(self.epoch // self.every, len(self.stages))
        # Before the first is due, from where there is none.
        net.module_.unfreeze_from(self.stages[n_awake - 1] if n_awake else self.stages[0] + 1)
        self.epoch += 1


class RiseOnce(Callback):
    """Let learning rates rise linearly over some steps.

    skorch's own scheduler counts from the beginning of the history.

    Parameters
    ----------
    n_steps : int
    """

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Note the heights."""
        self.heights = [group["lr"] for group in net.optimizer_.param_groups]
        self.step = 0

    def on_batch_begin(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        """Set the rates of a step."""
        self.step += 1
        share = min(1.0, self.step / (self.n_steps + 1))
        for group, height in zip(net.optimizer_.param_groups, self.heights, strict=True):
            group["lr"] = height * share

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Stay at the heights."""
        for group, height in zip(net.optimizer_.param_groups, self.heights, strict=True):
            group["lr"] = height


class Watch(Callback):
    """Stop what diverges, tell the objective how far the training is, and show the epochs.

    Parameters
    ----------
    n_steps : int
    n_epochs : int
    label : str or None
        Of the progress bar; None for no bar.
    learning_rate : float
        For the message.

    Attributes
    ----------
    amid_epoch : bool
        Whether an epoch has begun and not ended. Callbacks stop a training between epochs, in
        the way that Ctrl-C does anywhere.
    """

    def __init__(
        self, n_steps: int, n_epochs: int, label: str | None, learning_rate: float
    ) -> None:
        self.n_steps = n_steps
        self.n_epochs = n_epochs
        self.label = label
        self.learning_rate = learning_rate
        self.amid_epoch = False

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Start the bar."""
        self.bar = tqdm(
            total=self.n_epochs, desc=self.label, unit="epoch", disable=self.label is None
        )
        self.step = 0

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Note it."""
        self.amid_epoch = True

    def on_batch_end(
        self, net: Any, training: bool = False, loss: Tensor | None = None, **kwargs: Any
    ) -> None:
        """Look at the loss."""
        if loss is None or not training:
            return
        self.step += 1
        objective: Objective = net.criterion_
        objective.progress = min(1.0, self.step / self.n_steps)
        if not math.isfinite(float(loss.detach())):
            raise ValueError(
                f"fine-tuning diverged: the loss of step {self.step} is {float(loss.detach())}; "
                f"lower learning_rate={self.learning_rate}, or set gradient_clip=1.0"
            )

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Move the bar."""
        self.amid_epoch = False
        shown = {
            name: f"{net.history[-1, name]:.3g}"
            for name in ("train_loss", "valid_loss")
            if name in net.history[-1]
        }
        self.bar.set_postfix(shown)
        self.bar.update()

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Close the bar, and take from the callback what no pickle can hold."""
        self.bar.close()
        del self.bar


def optimizer_for(
    network: TunedNetwork,
    build: Callable[..., torch.optim.Optimizer],
    *,
    layer_decay: float,
    weight_decay: float,
    body_decay: float,
) -> Callable[..., torch.optim.Optimizer]:
    """What skorch calls to make the optimizer of a network and its criterion.

    Rates fall from the deepest stage to the shallowest. Vectors, such as biases and the scales of
    batch norm, have no weight decay. Parameters of the same settings are one group, as few large
    groups are stepped faster than the one group per name that skorch's patterns would make.
    """
    of = network.body.stages.of
    deepest = len(network.body.stages.names) - 1
    settings = {id(network.head.weight): (1.0, weight_decay), id(network.head.bias): (1.0, 0.0)}
    for name, parameter in network.trained_parameters().items():
        decay = body_decay if parameter.ndim > 1 else 0.0
        settings[id(parameter)] = (layer_decay ** (deepest - of[name]), decay)
    own = {id(parameter) for parameter in network.parameters()}

    def optimizer(parameters: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in (p for group in parameters for p in group["params"]):
            if id(parameter) in settings or id(parameter) not in own:  # or of the criterion
                key = settings.get(id(parameter), (1.0, weight_decay))
                groups.setdefault(key, []).append(parameter)
        return build(
            [
                {"params": members, "lr": lr * factor, "weight_decay": decay, "factor": factor}
                for (factor, decay), members in groups.items()
            ],
            lr=lr,
        )

    return optimizer
