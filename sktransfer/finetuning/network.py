"""The network that is tuned: a body that computes features, and a linear head."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from sktransfer.finetuning.low_rank import LowRankUpdates, n_entries
from sktransfer.finetuning.recomputing import modules_to_recompute, recomputed
from sktransfer.finetuning.unfreezing import Stages
from sktransfer.networks.layers import Read, Trace
from sktransfer.networks.modules import copied
from sktransfer.networks.resuming import Resumption

_MOMENTUM = 0.1
"""Least momentum of batch norm statistics. With 0.01, which some networks have for millions of
steps, most of the source data's statistics would remain after the few steps of a fine-tuning."""


class NetworkOutput(NamedTuple):
    """Outputs of a tuned network for a batch, and those of the source network for penalties.

    Maps are the activations of the deepest stage, (n, channels, positions).
    """

    scores: Tensor  # logits, or standardised numbers
    features: Tensor  # standardised, as are those of the source
    source: Tensor | None = None
    maps: Tensor | None = None
    source_maps: Tensor | None = None


def joined_outputs(outputs: Sequence[NetworkOutput]) -> NetworkOutput:
    """Scores and features for the rows of several batches, without their graphs."""
    return NetworkOutput(
        torch.cat([output.scores.detach() for output in outputs]),
        torch.cat([output.features.detach() for output in outputs]),
    )


class LinearHead(nn.Module):
    """A linear layer on features that are standardised as those of the untuned network."""

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
        """A head from its state dict as arrays."""
        return cls(state["mean"], state["scale"], state["weight"], state["bias"])

    def standardise(self, features: Tensor) -> Tensor:
        """Features on the scale that they had before tuning."""
        return (features - self.mean) / self.scale

    def rescale_scores(self, temperature: float, shift: Tensor) -> None:
        """Divide all scores by a temperature, and then shift those of each output."""
        with torch.no_grad():
            self.weight.div_(temperature)
            self.bias.div_(temperature).add_(shift.to(self.bias.device))

    def forward(self, standardised: Tensor) -> Tensor:
        """Map features to scores."""
        return nn.functional.linear(standardised, self.weight, self.bias)


class Body(nn.Module):
    """A module that computes features of a batch.

    Attributes
    ----------
    module : nn.Module
        The network; its parameters have the names in `stages`.
    stages : Stages
    trace : Trace or None
        Layers of the network; None for one that is always run as a whole.
    reads : tuple of Read
        Layers that are read, with a trace.
    begin : "input", "features" or Resumption
        What a batch holds: inputs of the network, features that are already computed, or the
        activations of the layer that the network resumes from.
    learning_rate : float
        What suits networks for such samples, where a strategy states none.
    """

    learning_rate: ClassVar[float] = 1e-3
    module: nn.Module
    stages: Stages
    trace: Trace | None = None
    reads: tuple[Read, ...] = ()
    begin: Resumption | str = "input"

    def forward(self, batch: Any) -> Tensor:
        """Features, (n, n_features)."""
        raise NotImplementedError

    @property
    def n_positions(self) -> int:
        """Number of positions in the maps of the deepest stage; 1 where there are no maps."""
        return 1

    def with_maps(self, batch: Any, *, leaf: bool = False) -> tuple[Tensor, Tensor]:
        """Features, and the output of the deepest stage, (n, channels, positions).

        With `leaf` the maps are a leaf of the autograd graph, so that they get gradients.
        """
        raise ValueError("penalty='delta' compares feature maps, which only images have")


class TunedNetwork(nn.Module):
    """Body and head, of which the head and the named parameters of the body are trained.

    The parts of `unfrozen` are in training mode; those of `trained` if it is None. With a `rank`,
    low-rank updates of the parameters are trained in their place.
    `compare` tells the output of the source network that a penalty needs for the same batches:
    "features", "maps" or None. In training the body computes in `precision`, and keeps no
    activations inside its stages if `recompute` is true.
    """

    def __init__(
        self,
        body: Body,
        head: LinearHead,
        trained: Collection[str],
        batch_norm: str,
        compare: str | None,
        *,
        unfrozen: Collection[str] | None = None,
        rank: int | None = None,
        precision: str = "float32",
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.training = False  # the body may be in use until training begins
        self.body = body
        self.head = head
        self._batch_norm = batch_norm
        self._compare = compare
        self._precision = precision
        self._recomputed = modules_to_recompute(body, trained) if recompute else ()
        self._stage_of = {name: body.stages.of[name] for name in trained}
        self._first = 0
        # Before the first trained weight the network may be skipped, and is the same in any mode.
        begin = min(self._stage_of.values(), default=0)
        unfrozen = trained if unfrozen is None else unfrozen
        self._mode_of = {n: body.stages.of[n] for n in unfrozen if body.stages.of[n] >= begin}
        self._rank = rank
        self.updates: LowRankUpdates | None = None
        # In a list, so that torch does not register it as a submodule: it is neither trained nor
        # part of the state dict.
        self._source = [copied(body).requires_grad_(False)] if compare else []
        if batch_norm == "update":
            for module in body.module.modules():
                if isinstance(module, _NormBase) and module.momentum is not None:
                    module.momentum = max(module.momentum, _MOMENTUM)
        self.unfreeze_again()

    def unfreeze_from(self, first: int) -> None:
        """Train the head, and of the chosen parameters those in stages from `first` on."""
        self._first = first
        self.head.requires_grad_(True)
        for name, parameter in self.body.module.named_parameters():
            parameter.requires_grad_(self._stage_of.get(name, -1) >= first)
        self._modes = self._training_modes()
        self.train(self.training)

    def unfreeze_again(self) -> None:
        """Undo `freeze`: train the stages that were trained before, with new low-rank updates."""
        if self._rank is not None:
            self.updates = LowRankUpdates(self.body.module, self._stage_of, self._rank)
        self.unfreeze_from(self._first)

    def freeze(self) -> None:
        """Set evaluation mode and freeze all parameters; updates remain in the weights."""
        if self.updates is not None:
            self.updates.release()
            self.updates = None
        self.eval().requires_grad_(False)

    def unfrozen_names(self) -> tuple[str, ...]:
        """Names of the body's parameters that have been unfrozen so far."""
        return tuple(name for name, stage in self._stage_of.items() if stage >= self._first)

    def match_source_input(self) -> None:
        """Let batches enter the source network at the same point as the body."""
        for source in self._source:
            source.begin = self.body.begin

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """The body's parameters to train, including those that are not unfrozen yet."""
        parameters = dict(self.body.module.named_parameters())
        return {name: parameters[name] for name in self._stage_of}

    def moving_tensors(self) -> list[Tensor]:
        """What training changes: weights to train, and buffers that batches update."""
        updated = [module for module, trains in self._modes if trains and module is not self.head]
        buffers = [buffer for module in updated for buffer in module.buffers(recurse=False)]
        return [*self.trained_parameters().values(), *self.head.parameters(), *buffers]

    def n_trained(self, names: Collection[str]) -> int:
        """Number of entries that are trained for some weights of the body, and of the head."""
        parameters = self.trained_parameters()
        n_of_head = sum(parameter.numel() for parameter in self.head.parameters())
        if self._rank is not None:
            return n_of_head + n_entries(self.body.module, names, self._rank)
        return n_of_head + sum(parameters[name].numel() for name in names)

    def train(self, mode: bool = True) -> "TunedNetwork":
        """Set the training mode of modules with trained parameters, and evaluation for the others.

        A frozen batch norm in training mode would still update its statistics, and dropout in a
        frozen part would still drop activations.
        """
        for module, trains in self._modes:
            wanted = mode and trains
            # skorch calls this before every step, and setting attributes of modules is slow.
            if module.training is not wanted:
                module.training = wanted
        return self

    def _training_modes(self) -> list[tuple[nn.Module, bool]]:
        """Each module, with whether it is in training mode during training."""
        trains = {id(self): True, id(self.head): True}
        unfrozen = {
            id(parameter)
            for name, parameter in self.body.module.named_parameters()
            if self._mode_of.get(name, -1) >= self._first
        }
        for module in self.body.module.modules():
            parameters = list(module.parameters())
            trained = bool(parameters) and all(id(each) in unfrozen for each in parameters)
            if isinstance(module, _NormBase):
                trained = trained and self._batch_norm == "update"
            if isinstance(module, nn.RNNBase):  # cuDNN computes gradients in training mode only
                trained = any(id(parameter) in unfrozen for parameter in parameters)
            trains[id(module)] = trained
        # Modules without parameters, such as dropout, follow the module that contains them.
        for parent in self.body.module.modules():
            for child in parent.children() if trains[id(parent)] else ():
                has_norm = any(isinstance(each, _NormBase) for each in child.modules())
                if not has_norm and not any(True for _ in child.parameters()):
                    trains |= {id(each): True for each in child.modules()}
        return [(module, trains.get(id(module), False)) for module in self.modules()]

    def forward(self, batch: Any) -> NetworkOutput:
        """Scores and features of a batch, and in training the outputs that penalties compare."""
        maps = source = source_maps = None
        with self._as_in_training():
            if self.training and self._compare == "maps":
                features, maps = self.body.with_maps(batch)
            else:
                features = self.body(batch)
        # Head and losses are cheap, and sums of squares need the digits.
        standardised = self.head.standardise(features.float())
        # Validation needs no comparison with the source network, which would double its cost.
        if self.training and self._compare:
            with torch.no_grad(), self._as_in_training():
                if maps is not None:
                    source_maps = self._source[0].with_maps(batch)[1].float()
                else:
                    source = self._source[0](batch)
            source = None if source is None else self.head.standardise(source.float()).detach()
            maps = None if maps is None else maps.float()
        return NetworkOutput(self.head(standardised), standardised, source, maps, source_maps)

    @contextmanager
    def _as_in_training(self) -> Iterator[None]:
        """Run the body in the precision of the training, and with little memory if that is set.

        Not in validation: what is judged there is the network as it is going to be used.
        """
        with ExitStack() as stack:
            if self.training and self._precision != "float32":
                device = self.head.weight.device.type
                dtype = getattr(torch, self._precision)
                stack.enter_context(torch.autocast(device, dtype=dtype))
            if self.training and self._recomputed:
                stack.enter_context(recomputed(self.body.module, self._recomputed))
            yield
