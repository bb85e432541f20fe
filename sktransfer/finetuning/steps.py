"""The optimizer's parameter groups, and skorch callbacks that act between training steps."""

import math
from collections.abc import Callable
from typing import Any

import torch
from skorch.callbacks import Callback
from torch import Tensor, nn
from tqdm.auto import tqdm

from sktransfer.finetuning.network import TunedNetwork
from sktransfer.finetuning.objective import Objective


class UnfreezeGradually(Callback):
    """Train the head alone at first, and unfreeze one more stage every few epochs.

    `stages` are the numbers of the stages to train, the deepest first.
    """

    def __init__(self, stages: list[int], every: int) -> None:
        self.stages = stages
        self.every = every

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Count epochs from 0."""
        self.epoch = 0

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Unfreeze the stages that are due."""
        n_unfrozen = min(self.epoch // self.every, len(self.stages))
        # Before the first one is due: from beyond the deepest, which leaves all of them frozen.
        net.module_.unfreeze_from(self.stages[n_unfrozen - 1] if n_unfrozen else self.stages[0] + 1)
        self.epoch += 1

    def state_dict(self) -> dict[str, Any]:
        """Epochs that have begun."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.epoch = state["epoch"]


class LinearWarmup(Callback):
    """Increase learning rates linearly over some steps, in a training that continues.

    skorch's scheduler counts steps from the beginning of the history.
    """

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Store the peak rates."""
        self.peak_rates = [group["lr"] for group in net.optimizer_.param_groups]
        self.step = 0

    def on_batch_begin(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        """Set the rates of the step."""
        self.step += 1
        share = min(1.0, self.step / (self.n_steps + 1))
        for group, peak in zip(net.optimizer_.param_groups, self.peak_rates, strict=True):
            group["lr"] = peak * share

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Restore the peak rates."""
        for group, peak in zip(net.optimizer_.param_groups, self.peak_rates, strict=True):
            group["lr"] = peak


class ProgressMonitor(Callback):
    """Stop a diverging training, update the objective's progress, and show a progress bar.

    Without a label there is no bar.
    """

    def __init__(self, n_steps: int, n_epochs: int, label: str | None, learning_rate: Any) -> None:
        self.n_steps = n_steps
        self.n_epochs = n_epochs
        self.label = label
        self.learning_rate = learning_rate

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Start the bar."""
        self.bar = tqdm(
            total=self.n_epochs, desc=self.label, unit="epoch", disable=self.label is None
        )
        self.step = 0

    def on_batch_end(
        self, net: Any, training: bool = False, loss: Tensor | None = None, **kwargs: Any
    ) -> None:
        """Check the loss."""
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
        """Advance the bar."""
        shown = {
            name: f"{net.history[-1, name]:.3g}"
            for name in ("train_loss", "valid_loss")
            if name in net.history[-1]
        }
        self.bar.set_postfix(shown)
        self.bar.update()

    def state_dict(self) -> dict[str, Any]:
        """Steps that were taken, and epochs that the bar shows."""
        return {"step": self.step, "epochs": self.bar.n}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.step = state["step"]
        self.bar.update(state["epochs"])

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Close the bar, and drop it, as it cannot be pickled."""
        self.bar.close()
        del self.bar


def optimizer_for(
    network: TunedNetwork,
    build: Callable[..., torch.optim.Optimizer],
    *,
    rate: float = 1.0,
    layer_decay: float,
    weight_decay: float,
    body_decay: float,
) -> Callable[..., torch.optim.Optimizer]:
    """A function that skorch calls to build the optimizer of a network and its criterion.

    Learning rates of the body have the factor `rate`, and fall from the deepest stage to the
    shallowest. Low-rank factors stand for the weights that they update. Vectors, such as biases
    and the scales of batch norm, have no weight decay. Parameters with the same settings form one
    group, as a step over few large groups is faster than over one group per name, as skorch would
    make.
    """

    def settings_of() -> dict[int, tuple[float, float]]:
        """Factor of the rate and weight decay of each parameter, by its id."""
        stage_of = network.body.stages.of
        deepest = len(network.body.stages.names) - 1
        head = network.head
        settings = {id(head.weight): (1.0, weight_decay), id(head.bias): (1.0, 0.0)}
        for name, parameter in network.trained_parameters().items():
            decay = body_decay if parameter.ndim > 1 else 0.0
            factor = rate * layer_decay ** (deepest - stage_of[name])
            trained = (parameter,) if network.updates is None else network.updates.factors(name)
            settings |= {id(each): (factor, decay) for each in trained}
        return settings

    def optimizer(parameters: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        settings = settings_of()  # only now, as every training has low-rank factors of its own
        in_network = {id(parameter) for parameter in network.parameters()}
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in (p for group in parameters for p in group["params"]):
            # Parameters outside the network are the criterion's, such as a discriminator's.
            if id(parameter) in settings or id(parameter) not in in_network:
                key = settings.get(id(parameter), (1.0, weight_decay))
                groups.setdefault(key, []).append(parameter)
        return build(
            [
                # `continue_training` reads the factor to restore the rates.
                {"params": members, "lr": lr * factor, "weight_decay": decay, "factor": factor}
                for (factor, decay), members in groups.items()
            ],
            lr=lr,
        )

    return optimizer
