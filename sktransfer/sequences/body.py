"""The sequence network as fine-tuning trains it, and the inputs of its training."""

import re
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer.finetuning.batches import ArrayInputs, Inputs
from sktransfer.finetuning.network import Body
from sktransfer.finetuning.protocols import Tunable
from sktransfer.finetuning.strategy import FineTune
from sktransfer.finetuning.unfreezing import Stages
from sktransfer.sequences.augmenting import Change, changed, check_changeable, series_change
from sktransfer.sequences.encoding import Encoder, recurrent_part
from sktransfer.sequences.recurrent import RecurrentNetwork, states_by_layer
from sktransfer.sequences.soft_pooling import soft_pool
from sktransfer.sequences.source import Sequences
from sktransfer.sequences.vectors import Rows, SequencePlan, pool_layers, rows_of

Batch = tuple[Tensor, Tensor, Tensor]
"""Steps (n, groups, time[, channels]), lengths (n, groups) and statistics (n, n_statistics)."""


class SequenceBody(Body):
    """A network for sequences, with the poolings that make features of its states.

    Parameters
    ----------
    module : nn.Module
        It is trained in place.
    layers : tuple of int or str
        Those that are read.
    poolings : tuple of str
    thresholds : list of ndarray of shape (n_groups, n_thresholds, units), one per layer
    backward : sequence of ndarray of shape (units,), bool, one per layer
        Units that read from the end; empty if none do.
    projection : ndarray of shape (n_features_out, n_features) or None
    """

    def __init__(
        self,
        module: nn.Module,
        layers: tuple[int | str, ...],
        poolings: tuple[str, ...],
        thresholds: Sequence[np.ndarray],
        backward: Sequence[np.ndarray],
        projection: np.ndarray | None,
    ) -> None:
        super().__init__()
        self.module = module
        self.layers = layers
        self.poolings = poolings
        self.stages = recurrent_stages(module, layers)
        for number, values in enumerate(thresholds):
            self.register_buffer(f"thresholds_{number}", torch.from_numpy(values))
            units = torch.from_numpy(backward[number]) if backward else None
            self.register_buffer(f"backward_{number}", units, persistent=False)
        components = None if projection is None else torch.from_numpy(projection).float()
        self.projection: Tensor | None
        self.register_buffer("projection", components)

    def forward(self, batch: Batch | Tensor) -> Tensor:
        """Features, in the columns of `RNNSequenceFeatures.transform`."""
        if self.begin == "features":
            assert isinstance(batch, Tensor)
            return batch
        steps, lengths, statistics = batch
        n, n_groups = lengths.shape
        by_time = steps.flatten(0, 1).transpose(0, 1)
        vectors = self._vectors(by_time, lengths.flatten(), n_groups)
        features = torch.cat([vectors.reshape(n, -1), statistics], 1)
        return features if self.projection is None else features @ self.projection.T

    def _vectors(self, steps: Tensor, lengths: Tensor, n_groups: int) -> Tensor:
        """A vector per row, (rows, width)."""
        groups = torch.arange(len(lengths), device=lengths.device) % n_groups
        if recurrent_part(self.module) is not None:
            return self._pool(self._recurrent(steps, lengths), lengths, groups)
        # Other modules run on rows of equal length only.
        parts, order = [], []
        for length in torch.unique(lengths):
            rows = torch.nonzero(lengths == length)[:, 0]
            states = Encoder(self.module, self.layers, "float32")(
                steps[: int(length), rows], lengths[rows]
            )
            parts.append(self._pool(states, lengths[rows], groups[rows]))
            order.append(rows)
        return torch.cat(parts)[torch.argsort(torch.cat(order))]

    def _recurrent(self, steps: Tensor, lengths: Tensor) -> list[Tensor]:
        rnn = recurrent_part(self.module)
        assert rnn is not None
        if isinstance(self.module, RecurrentNetwork):
            steps = self.module.embed(steps)
        numbers = [layer for layer in self.layers if isinstance(layer, int)]
        states = states_by_layer(rnn, steps, lengths, max(numbers) + 1)
        return [states[number] for number in numbers]

    def _pool(self, layers: list[Tensor], lengths: Tensor, groups: Tensor) -> Tensor:
        thresholds, backward = (
            [getattr(self, f"{name}_{number}") for number in range(len(layers))]
            for name in ("thresholds", "backward")
        )
        return pool_layers(
            layers, lengths, groups, self.module, self.poolings, thresholds, backward, soft_pool
        )


class SequenceInputs:
    """The views of all sequences as rows, and the statistics that views lose.

    A batch is asked for by rows of X, of which some may hold no sequence. With a change, those to
    train on are views of changed sequences.

    Parameters
    ----------
    sequences : Sequences
    plan : SequencePlan
    statistics : callable
        Computes the statistics of some sequences, (n, n_statistics).
    readable : ndarray of shape (n,), bool
        Mask of the rows of X that hold a sequence.
    change : callable or None
    """

    mixable = False

    def __init__(
        self,
        sequences: Sequences,
        plan: SequencePlan,
        statistics: Callable[[Sequences], np.ndarray],
        readable: np.ndarray,
        change: Change | None,
    ) -> None:
        if change is not None:
            check_changeable(sequences.is_tokens)
        self.sequences = sequences
        self.plan = plan
        self.statistics = statistics
        self.change = change
        self.places = np.cumsum(readable) - 1
        self.unchanged = self._seen(sequences)

    def _seen(self, sequences: Sequences) -> tuple[Rows, np.ndarray]:
        """Views of some sequences as rows, and their statistics."""
        return rows_of(sequences, self.plan), self.statistics(sequences).astype(np.float32)

    def batch(self, rows: np.ndarray, *, training: bool) -> Batch:
        """Padded by repeating the last step."""
        places = self.places[rows]
        if training and self.change is not None:
            views, statistics = self._seen(changed(self.sequences.take(places), self.change))
            places = np.arange(len(rows))
        else:
            views, statistics = self.unchanged
        n_groups = self.plan.n_groups
        every = places[:, None] * n_groups + np.arange(n_groups)
        lengths = views.lengths[every]
        within = np.minimum(np.arange(lengths.max()), lengths[:, :, None] - 1)
        steps = views.steps[torch.from_numpy(views.starts[every][:, :, None] + within)]
        return steps, torch.from_numpy(lengths), torch.from_numpy(statistics[places])


class TunableSequences(Tunable):
    """Sequences and their network, for `sktransfer.finetuning.training.tune`.

    Parameters
    ----------
    body : SequenceBody
    device : torch.device
    sequences : callable
        Reads all sequences that are usable.
    plan : SequencePlan
    statistics : callable
        Computes the statistics that the views of some sequences lose, (n, n_statistics).
    features : callable
        Returns the features of all sequences from the untuned network.
    readable : ndarray of shape (n,), bool
        Mask of the rows of X that are usable.
    """

    samples = "sequences"
    augments = True

    def __init__(
        self,
        body: SequenceBody,
        device: torch.device,
        sequences: Callable[[], Sequences],
        plan: SequencePlan,
        statistics: Callable[[Sequences], np.ndarray],
        features: Callable[[], np.ndarray],
        readable: np.ndarray,
    ) -> None:
        super().__init__(body, device)
        self._sequences = sequences
        self._plan = plan
        self._statistics = statistics
        self._compute = features
        self._readable = readable

    def _features(self) -> tuple[Inputs, np.ndarray]:
        values = self._compute()
        return ArrayInputs(values, values.shape[1:]), self._readable

    def _samples(self, strategy: FineTune) -> tuple[Inputs, np.ndarray]:
        change = series_change(strategy)
        inputs = SequenceInputs(
            self._sequences(), self._plan, self._statistics, self._readable, change
        )
        return inputs, self._readable


def recurrent_stages(module: nn.Module, layers: Sequence[int | str]) -> Stages:
    """The layers of a recurrent network up to the deepest that is read.

    Of other modules each that has weights.
    """
    names = [name for name, _ in module.named_parameters()]
    rnn = recurrent_part(module)
    if rnn is None:
        owners = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
        of = {name: owners.index(name.rpartition(".")[0]) for name in names}
        return Stages(tuple(owners), of)
    prefix = "rnn." if isinstance(module, RecurrentNetwork) else ""
    deepest = max(layer for layer in layers if isinstance(layer, int))
    of = {}
    for name in names:
        layer = re.search(r"_l(\d+)(_reverse)?$", name)
        of[name] = int(layer[1]) if layer else 0 if name.startswith("embedding.") else deepest
    of = {name: stage for name, stage in of.items() if stage <= deepest}
    return Stages(tuple(f"{prefix}layer{number}" for number in range(deepest + 1)), of)
