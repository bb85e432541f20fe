"""Batches of training rows, in place of torch's ``Dataset`` and ``DataLoader``.

skorch accepts any class in place of ``DataLoader``. This one draws from its own random generator,
while ``DataLoader`` uses torch's global one, and takes whole batches out of arrays.
"""

import itertools
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from skorch.dataset import Dataset
from torch import Tensor

from sktransfer.finetuning.outputs import Outputs
from sktransfer.finetuning.targets import Targets


class Inputs(Protocol):
    """All rows of X in the form that a body takes, such as pixels or activations.

    Attributes
    ----------
    mixable : bool
        Whether rows have one shape, so that mixup can blend them; else it blends their features.
    """

    mixable: bool

    def batch(self, rows: np.ndarray, *, training: bool) -> Any:
        """Some rows as a tensor, or tuple of tensors, with one entry per row on the first axis."""


class ArrayInputs:
    """Rows of an array, such as activations or features.

    Parameters
    ----------
    values : ndarray of shape (n, ...)
        May be a memory map.
    shape : tuple of int
        Shape of one row for the network.
    """

    mixable = True

    def __init__(self, values: np.ndarray, shape: tuple[int, ...]) -> None:
        self.values = values
        self.shape = shape

    def batch(self, rows: np.ndarray, *, training: bool) -> Tensor:
        """Rows as a float32 tensor, feature maps in channels-last format for fast convolutions."""
        taken = torch.from_numpy(np.ascontiguousarray(self.values[rows], dtype=np.float32))
        taken = taken.reshape(len(rows), *self.shape)
        if len(self.shape) == 3:
            taken = taken.contiguous(memory_format=torch.channels_last)
        return taken


class TrainingRows(Dataset):
    """Some rows of X with their targets: to train on, or without a seed to validate on.

    skorch's scoring callbacks read `X` and `y`, of which `X` may be predicted by the net.
    """

    def __init__(
        self,
        inputs: Inputs,
        targets: Targets,
        rows: np.ndarray,
        seed: int | None = None,
        sampler: str | None = None,
        mixup: float = 0.0,
    ) -> None:
        self.inputs = inputs
        self.targets = targets
        self.rows = rows
        self.sampler = sampler
        self.mixup = mixup
        self.rng = None if seed is None else np.random.default_rng(seed)
        self.epoch_begin: dict[str, Any] | None = None
        self._resumption: tuple[int, dict[str, Any]] | None = None

    @property
    def X(self) -> "TrainingRows":
        """The labelled rows, in order and without mixup."""
        labelled = self.targets.labelled[self.rows]
        return TrainingRows(self.inputs, self.targets, self.rows[labelled])

    @property
    def y(self) -> np.ndarray:
        """Targets of the labelled rows, in the form of the user."""
        rows = self.X.rows
        target = {
            name: torch.from_numpy(getattr(self.targets, name)[rows])
            for name in ("values", "labelled")
        }
        return Outputs.of(self.targets).decode(target)

    def in_order(self) -> "TrainingRows":
        """The same rows, in order and without mixup."""
        return TrainingRows(self.inputs, self.targets, self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> tuple[Any, dict[str, Tensor]]:
        return self.take(np.atleast_1d(self.rows[index]), training=False)

    def take(self, rows: np.ndarray, *, training: bool) -> tuple[Any, dict[str, Tensor]]:
        """Inputs and targets of some rows of X."""
        targets = {
            "values": torch.from_numpy(self.targets.values[rows]),
            "weights": torch.from_numpy(self.targets.weights[rows]),
            "labelled": torch.from_numpy(self.targets.labelled[rows]),
        }
        return self.inputs.batch(rows, training=training), targets

    def begin_epoch(self) -> None:
        """Note the state of the generator, from which `resume_epoch` draws the same epoch."""
        if self.rng is not None:
            self.epoch_begin = dict(self.rng.bit_generator.state)

    def resume_epoch(self, begin: dict[str, Any], n_done: int, now: dict[str, Any]) -> None:
        """Let the next epoch be one that was broken off, without the batches that are done.

        Parameters
        ----------
        begin, now : dict
            States of the generator, before the epoch and after its last batch.
        n_done : int
        """
        assert self.rng is not None
        self.rng.bit_generator.state = begin
        self._resumption = n_done, now

    def batches_done(self) -> int:
        """Number of batches that the epoch, whose order has just been drawn, had before."""
        n_done = 0
        if self._resumption is not None and self.rng is not None:
            n_done, self.rng.bit_generator.state = self._resumption
            self._resumption = None
        return n_done


class Batches:
    """Batches of rows, in place of a ``DataLoader``."""

    def __init__(self, dataset: TrainingRows, batch_size: int) -> None:
        self.dataset = dataset
        self.batch_size = batch_size

    def __len__(self) -> int:
        n = len(self.dataset)
        # Variances and distances within a batch need at least two rows.
        most = n // 2 if self.batch_size > 1 else n
        return max(1, min(round(n / self.batch_size), most))

    def __iter__(self) -> Iterator[tuple[Any, dict[str, Tensor]]]:
        rng = self.dataset.rng
        if rng is None:
            for start in range(0, len(self.dataset), self.batch_size):
                rows = self.dataset.rows[start : start + self.batch_size]
                yield self.dataset.take(rows, training=False)
            return
        self.dataset.begin_epoch()
        order = self._order(rng)
        for rows in np.array_split(order, len(self))[self.dataset.batches_done() :]:
            batch = self.dataset.take(rows, training=True)
            mixup, mixable = self.dataset.mixup, self.dataset.inputs.mixable
            yield _mixup(batch, mixup, rng, mixable) if mixup else batch

    def _order(self, rng: np.random.Generator) -> np.ndarray:
        rows = self.dataset.rows
        labelled = self.dataset.targets.labelled[rows]
        source = self._resampled(rows[labelled], rng)
        others = rng.permutation(rows[~labelled])
        # Both domains are spread evenly over the epoch, so that every batch has rows of both.
        position = np.concatenate(
            [_spread_evenly(len(source), rng), _spread_evenly(len(others), rng)]
        )
        return np.concatenate([source, others])[np.argsort(position, kind="stable")]

    def _resampled(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.dataset.sampler is None:
            return rng.permutation(rows)
        codes = self.dataset.targets.codes[rows]
        share = 1 / np.bincount(codes)[codes]
        return rng.choice(rows, len(rows), p=share / share.sum())


def pieces_of_step(
    batch: tuple[Any, dict[str, Tensor]], batch_size: int, most: int
) -> list[tuple[Any, dict[str, Tensor]]]:
    """The rows of a step in at most so many pieces, whose targets tell the size of the whole.

    As in an epoch, none has a single row unless `batch_size` is 1.
    """
    inputs, targets = batch
    n = len(targets["labelled"])
    n_pieces = min(most, -(-n // batch_size), n if batch_size == 1 else max(1, n // 2))
    if n_pieces == 1:
        return [batch]
    whole = {"n_rows": torch.tensor(n), "n_labelled": targets["labelled"].sum()}
    bounds = np.linspace(0, n, n_pieces + 1).round().astype(int).tolist()
    return [
        (
            inputs[begin:end]
            if isinstance(inputs, Tensor)
            else tuple(each[begin:end] for each in inputs),
            {name: each[begin:end] for name, each in targets.items()} | whole,
        )
        for begin, end in itertools.pairwise(bounds)
    ]


def _mixup(
    batch: tuple[Any, dict[str, Tensor]], mixup: float, rng: np.random.Generator, mixable: bool
) -> tuple[Any, dict[str, Tensor]]:
    """Blend each row of a batch with a partner, and add the partners' targets.

    Rows of unequal length have no blend. For them the objective gets the partners, and blends the
    scores: with a linear head that is to blend the features, as in H. Guo, Y. Mao and R. Zhang,
    "Augmenting data with mixup for sentence classification", 2019, section 3 (senMixup).
    """
    inputs, targets = batch
    share = float(rng.beta(mixup, mixup))
    # Labelled rows are blended among themselves, as the others have no label to blend.
    order = np.arange(len(targets["values"]))
    for group in (targets["labelled"], ~targets["labelled"]):
        members = np.flatnonzero(group.numpy())
        order[members] = rng.permutation(members)
    partners = torch.from_numpy(order)

    # The objective blends the losses instead of the labels, so that each keeps its row's weight.
    others = {f"other_{name}": targets[name][partners] for name in ("values", "weights")}
    others["share"] = torch.full((len(order),), share)
    if not mixable:
        return inputs, {**targets, **others, "partners": partners}
    return torch.lerp(inputs[partners], inputs, share), {**targets, **others}


def _spread_evenly(n: int, rng: np.random.Generator) -> np.ndarray:
    """Random numbers in [0, 1), one in each of n equal intervals."""
    return (np.arange(n) + rng.random(n)) / max(1, n)
