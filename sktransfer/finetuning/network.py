"""The network that is tuned: a body that gives features, and a linear head."""

import copy
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from sktransfer.finetuning.unfreezing import Stages

_MOMENTUM = 0.1
"""Share of a batch in the statistics of batch norm. Networks made for millions of steps have 0.01,
of which the few steps of a fine-tuning would leave most of the source data's statistics."""


class Output(NamedTuple):
    """What a network puts out for a batch.

    Parameters
    ----------
    scores : Tensor of shape (n, n_outputs)
        Logits, or standardised numbers.
    features : Tensor of shape (n, n_features)
        Standardised.
    source : Tensor of shape (n, n_features) or None
        Those of the source network.
    maps, source_maps : Tensor of shape (n, channels, positions) or None
        Activations of the deepest stage, here and in the source network.
    """

    scores: Tensor
    features: Tensor
    source: Tensor | None = None
    maps: Tensor | None = None
    source_maps: Tensor | None = None


class Head(nn.Module):
    """A linear layer on standardised features.

    Parameters
    ----------
    mean, scale : ndarray of shape (n_features,)
        Of the features of the untuned network.
    coef : ndarray of shape (n_outputs, n_features)
    intercept : ndarray of shape (n_outputs,)
    """

    def __init__(
        self, mean: np.ndarray, scale: np.ndarray, coef: np.ndarray, intercept: np.ndarray
    ) -> None:
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32))
        self.weight = nn.Parameter(torch.as_tensor(coef, dtype=torch.float32))
        self.bias = nn.Parameter(torch.as_tensor(intercept, dtype=torch.float32))

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        """The head that has this state."""
        return cls(state["mean"], state["scale"], state["weight"], state["bias"])

    def standardise(self, features: Tensor) -> Tensor:
        """Features on the scale that they had before tuning."""
        return (features - self.mean) / self.scale

    def forward(self, standardised: Tensor) -> Tensor:
        """Map features to scores."""
        return nn.functional.linear(standardised, self.weight, self.bias)


class Body(nn.Module):
    """What turns a batch into features; subclasses say how.

    Attributes
    ----------
    module : nn.Module
        Holds the weights, under the names that `stages` knows.
    stages : Stages
    begin : Any
        What a batch holds, such as pixels or the activations of a layer.
    """

    module: nn.Module
    stages: Stages
    begin: Any

    def forward(self, batch: Any) -> Tensor:
        """Features, (n, n_features)."""
        raise NotImplementedError

    def with_maps(self, batch: Any, *, leaf: bool = False) -> tuple[Tensor, Tensor]:
        """Features, and what the deepest stage puts out, (n, channels, positions).

        Parameters
        ----------
        batch : Any
        leaf : bool, default=False
            Make the maps the start of the graph, so that gradients are for them.
        """
        raise ValueError("penalty='delta' compares feature maps, which only images have")


class TunedNetwork(nn.Module):
    """Body and head, of which only what is to be trained ever moves.

    Parameters
    ----------
    body : Body
    head : Head
    trained : collection of str
        Names of the body's parameters.
    batch_norm : {"frozen", "update"}
    compare : {"features", "maps"} or None
        What of the source network to put out beside, for the same batches.
    """

    def __init__(
        self,
        body: Body,
        head: Head,
        trained: Collection[str],
        batch_norm: str,
        compare: str | None,
    ) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self._batch_norm = batch_norm
        self._compare = compare
        self._stage_of = {name: body.stages.of[name] for name in trained}
        self._first = 0
        # In a list, so that it is no submodule: it is neither trained nor saved.
        self._source = [copy.deepcopy(body).eval().requires_grad_(False)] if compare else []
        if batch_norm == "update":
            for module in body.module.modules():
                if isinstance(module, _NormBase) and module.momentum is not None:
                    module.momentum = max(module.momentum, _MOMENTUM)
        self.unfreeze_from(0)

    def unfreeze_from(self, first: int) -> None:
        """Train the head, and what is to be trained of the stages from `first` on."""
        self._first = first
        self.head.requires_grad_(True)
        for name, parameter in self.body.module.named_parameters():
            parameter.requires_grad_(self._stage_of.get(name, -1) >= first)
        self._modes = self._modes_of_modules()
        self.train(self.training)

    def wake(self) -> None:
        """Train again what was trained last, after all has been frozen to be read."""
        self.unfreeze_from(self._first)

    def awake(self) -> tuple[str, ...]:
        """Names of the body's parameters that are trained by now."""
        return tuple(name for name, stage in self._stage_of.items() if stage >= self._first)

    def begin_where_the_body_does(self) -> None:
        """Let the source network take the same batches as the body."""
        for source in self._source:
            source.begin = self.body.begin

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """The body's parameters that are trained, sooner or later."""
        parameters = dict(self.body.module.named_parameters())
        return {name: parameters[name] for name in self._stage_of}

    def train(self, mode: bool = True) -> "TunedNetwork":
        """Put into training mode what is trained, and keep everything else still.

        A frozen batch norm in training mode would go on moving its statistics, and a frozen
        dropout would go on dropping.
        """
        for module, moving in self._modes:  # skorch asks before every step
            wanted = mode and moving
            if module.training is not wanted:
                module.training = wanted
        return self

    def _modes_of_modules(self) -> list[tuple[nn.Module, bool]]:
        """Each module, and whether training is to be in training mode for it."""
        moving = {id(self): True, id(self.head): True}
        for module in self.body.module.modules():
            own = list(module.parameters())
            trains = bool(own) and all(parameter.requires_grad for parameter in own)
            if isinstance(module, _NormBase):
                trains = trains and self._batch_norm == "update"
            if isinstance(module, nn.RNNBase):  # cuDNN gives gradients in training mode only
                trains = any(parameter.requires_grad for parameter in own)
            moving[id(module)] = trains
        # Dropout and the like act where all that their parent trains is trained.
        for parent in self.body.module.modules():
            for child in parent.children() if moving[id(parent)] else ():
                still = any(isinstance(each, _NormBase) for each in child.modules())
                if not still and not any(True for _ in child.parameters()):
                    moving |= {id(each): True for each in child.modules()}
        return [(module, moving.get(id(module), False)) for module in self.modules()]

    def forward(self, batch: Any) -> Output:
        """Scores and features of a batch, and in training what penalties look at."""
        maps = source = source_maps = None
        if self.training and self._compare == "maps":
            features, maps = self.body.with_maps(batch)
        else:
            features = self.body(batch)
        standardised = self.head.standardise(features)
        if self.training and self._compare:
            with torch.no_grad():
                if maps is not None:
                    source_maps = self._source[0].with_maps(batch)[1]
                else:
                    source = self.head.standardise(self._source[0](batch))
        return Output(self.head(standardised), standardised, source, maps, source_maps)
