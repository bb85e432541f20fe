"""Rows to train on, and the order in which they come.

skorch lets any class stand for ``DataLoader``. This one draws from a generator of its own, where
``DataLoader`` draws from torch's global one, and takes whole batches out of arrays.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sktransfer.finetuning.targets import Targets


class Inputs(Protocol):
    """What a body runs on: all rows of X, each as the part of the network that is run needs it.

    Attributes
    ----------
    mixable : bool
        Whether rows can be blended.
    """

    mixable: bool

    def __len__(self) -> int: ...

    def batch(self, rows: np.ndarray, *, training: bool) -> Any:
        """A tensor, or tuple of tensors, whose first axis is that of `rows`."""


class ArrayInputs:
    """Rows that lie in an array, such as activations or features.

    Parameters
    ----------
    values : ndarray of shape (n, ...)
        May be a memory map.
    shape : tuple of int
        Of one row.
    """

    mixable = True

    def __init__(self, values: np.ndarray, shape: tuple[int, ...]) -> None:
        self.values = values
        self.shape = shape

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, rows: np.ndarray, *, training: bool) -> Tensor:
        """Rows as a float32 tensor; maps in the memory format that convolutions run fastest in."""
        taken = torch.from_numpy(np.ascontiguousarray(self.values[rows], dtype=np.float32))
        taken = taken.reshape(len(rows), *self.shape)
        if len(self.shape) == 3:
            taken = taken.contiguous(memory_format=torch.channels_last)
        return taken


class Rows(Dataset[Any]):
    """Some rows with their targets.

    Parameters
    ----------
    inputs : Inputs
    targets : Targets
    rows : ndarray of int
        Those that belong to it.
    seed : int or None, default=None
        Of the order in which they come; None gives them as they are, as validation wants them.
    sampler : "balanced" or None, default=None
    mixup : float, default=0.0
        As in `sktransfer.FineTune`.
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
        self.draw = None if seed is None else np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> tuple[Any, dict[str, Tensor]]:
        return self.take(np.atleast_1d(self.rows[index]), training=False)

    def take(self, rows: np.ndarray, *, training: bool) -> tuple[Any, dict[str, Tensor]]:
        """Inputs and targets of rows of X."""
        of_rows = {
            "values": torch.from_numpy(self.targets.values[rows]),
            "weights": torch.from_numpy(self.targets.weights[rows]),
            "labelled": torch.from_numpy(self.targets.labelled[rows]),
        }
        return self.inputs.batch(rows, training=training), of_rows


class Batches:
    """Batches of rows, in place of a ``DataLoader``.

    Parameters
    ----------
    dataset : Rows
    batch_size : int
    """

    def __init__(self, dataset: Rows, batch_size: int) -> None:
        self.dataset = dataset
        self.batch_size = batch_size

    def __len__(self) -> int:
        n = len(self.dataset)
        # A batch of one row would say nothing of variances and distances.
        most = n // 2 if self.batch_size > 1 else n
        return max(1, min(round(n / self.batch_size), most))

    def __iter__(self) -> Iterator[tuple[Any, dict[str, Tensor]]]:
        draw = self.dataset.draw
        if draw is None:
            for start in range(0, len(self.dataset), self.batch_size):
                rows = self.dataset.rows[start : start + self.batch_size]
                yield self.dataset.take(rows, training=False)
            return
        for rows in np.array_split(self._order(draw), len(self)):
            batch = self.dataset.take(rows, training=True)
            yield _mixed(batch, self.dataset.mixup, draw) if self.dataset.mixup else batch

    def _order(self, draw: np.random.Generator) -> np.ndarray:
        rows = self.dataset.rows
        labelled = self.dataset.targets.labelled[rows]
        source = self._resampled(rows[labelled], draw)
        others = draw.permutation(rows[~labelled])
        # Every batch gets its share of both domains.
        place = np.concatenate([_evenly(len(source), draw), _evenly(len(others), draw)])
        return np.concatenate([source, others])[np.argsort(place, kind="stable")]

    def _resampled(self, rows: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        if self.dataset.sampler is None:
            return draw.permutation(rows)
        codes = self.dataset.targets.codes[rows]
        share = 1 / np.bincount(codes)[codes]
        return draw.choice(rows, len(rows), p=share / share.sum())


def _mixed(
    batch: tuple[Any, dict[str, Tensor]], mixup: float, draw: np.random.Generator
) -> tuple[Any, dict[str, Tensor]]:
    """Blend the rows of a batch with one another, and name the others' targets."""
    inputs, targets = batch
    share = float(draw.beta(mixup, mixup))
    # Labelled rows among themselves: the others have no label to blend.
    other = np.arange(len(targets["values"]))
    for group in (targets["labelled"], ~targets["labelled"]):
        members = np.flatnonzero(group.numpy())
        other[members] = draw.permutation(members)
    with_these = torch.from_numpy(other)

    # Losses are blended, not labels: each keeps the weight of its row.
    others = {f"other_{name}": targets[name][with_these] for name in ("values", "weights")}
    blended = torch.lerp(inputs[with_these], inputs, share)
    return blended, {**targets, **others, "share": torch.full((len(other),), share)}


def _evenly(n: int, draw: np.random.Generator) -> np.ndarray:
    return (np.arange(n) + draw.random(n)) / max(1, n)
