"""From sequences to one vector each: views, batches, network, pooling, and back in order."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sktransfer.sequences.batching import batches_by_length
from sktransfer.sequences.encoding import Encoder
from sktransfer.sequences.pooling import pool, quantile_thresholds
from sktransfer.sequences.source import Sequences
from sktransfer.sequences.views import Scale, View, show

_REFERENCE_STEPS = 512
"""Steps of a series, evenly spaced, that thresholds are learned from."""


@dataclass(frozen=True)
class SequencePlan:
    """The views and channels of a sequence, and how they are batched.

    Parameters
    ----------
    views : tuple of View
    scales : dict of int to Scale
        Scales of the training data, by coarseness.
    n_channels : int
    joint : bool
        Whether the network takes all channels at once, or one at a time.
    batch_size : int
        See `sktransfer.sequences.batching`.
    """

    views: tuple[View, ...]
    scales: dict[int, Scale]
    n_channels: int
    joint: bool
    batch_size: int

    @property
    def n_groups(self) -> int:
        """Vectors of a sequence: one per view, and one per channel unless these are joint."""
        return len(self.views) * (1 if self.joint else self.n_channels)


@dataclass(frozen=True)
class Rows:
    """Rows of steps for the network; those of sequence i begin at row i * n_groups."""

    steps: Tensor  # (all steps, channels of a row), float32; or (all steps,), int64
    starts: np.ndarray
    lengths: np.ndarray


@torch.inference_mode()
def vectors_of(
    encoder: Encoder,
    sequences: Sequences,
    plan: SequencePlan,
    poolings: Sequence[str],
    thresholds: Sequence[Tensor],
    out: np.ndarray,
    progress: Callable[[int], object] = lambda n: None,
) -> None:
    """Pooled states, written into `out`.

    Parameters
    ----------
    encoder : Encoder
    sequences : Sequences
    plan : SequencePlan
    poolings : sequence of str
    thresholds : sequence of Tensor of shape (n_groups, n_thresholds, units), one per layer
        Thresholds for "ppv".
    out : ndarray of shape (n, n_groups, width), float32
        Columns by layer, pooling and unit.
    progress : callable
        Called with the number of rows that are done.
    """
    rows = rows_of(sequences, plan)
    for batch, lengths, layers in _run(encoder, rows, plan.batch_size):
        groups = torch.from_numpy(batch % plan.n_groups)
        vectors = pool_layers(
            layers, lengths, groups, encoder.module, poolings, thresholds, encoder.backward, pool
        )
        out[batch // plan.n_groups, batch % plan.n_groups] = vectors.cpu().numpy()
        progress(len(batch))


def pool_layers(
    layers: Sequence[Tensor],
    lengths: Tensor,
    groups: Tensor,
    module: Any,
    poolings: Sequence[str],
    thresholds: Sequence[Tensor],
    backward: Sequence[Tensor | None],
    pool: Callable[..., list[Tensor]],
) -> Tensor:
    """One vector per row: the states of each layer, pooled in each way by the given function."""
    pooled = []
    for states, of_groups, from_end in zip(layers, thresholds, backward, strict=True):
        # A module that strides, or puts out a vector, returns another number of steps.
        full = torch.full_like(lengths, len(states))
        inside = lengths if len(states) == lengths.max() else full
        row_thresholds = of_groups[groups].transpose(0, 1) if "ppv" in poolings else None
        scores = module.attention(states)[:, :, 0] if "attention" in poolings else None
        pooled += pool(
            states, inside, poolings, thresholds=row_thresholds, scores=scores, backward=from_end
        )
    return torch.cat(pooled, dim=1)


def width_of(poolings: Sequence[str], thresholds: Sequence[Tensor]) -> int:
    """Length of the vector of one group: of all layers and poolings."""
    n_thresholds = thresholds[0].shape[1]
    per_unit = sum(n_thresholds if pooling == "ppv" else 1 for pooling in poolings)
    return per_unit * sum(of_layer.shape[2] for of_layer in thresholds)


@torch.inference_mode()
def fit_thresholds(
    encoder: Encoder, sequences: Sequences, plan: SequencePlan, n_thresholds: int
) -> list[Tensor]:
    """Thresholds for "ppv" from the states of some training sequences.

    Returns
    -------
    list of Tensor of shape (n_groups, n_thresholds, units), one per layer
    """
    rows = rows_of(sequences, plan)
    states_of: list[list[list[Tensor]]] = []
    for batch, lengths, layers in _run(encoder, rows, plan.batch_size):
        while len(states_of) < len(layers):
            states_of.append([[] for _ in range(plan.n_groups)])
        for number, states in enumerate(layers):
            for column, row in enumerate(batch):
                n_steps = min(int(lengths[column]), len(states))
                some = np.linspace(0, n_steps - 1, min(n_steps, _REFERENCE_STEPS)).astype(np.int64)
                picked = states[torch.from_numpy(some).to(states.device), column]
                states_of[number][row % plan.n_groups].append(picked)
    return [
        torch.stack([quantile_thresholds(torch.cat(group), n_thresholds) for group in groups])
        for groups in states_of
    ]


def _run(
    encoder: Encoder, rows: Rows, batch_size: int
) -> Iterator[tuple[np.ndarray, Tensor, list[Tensor]]]:
    """Yield (rows, their lengths, states per layer) batch by batch, in the caller's grad mode."""
    equal = encoder.equal_lengths
    for batch in batches_by_length(rows.lengths, batch_size, equal=equal):
        lengths = rows.lengths[batch]
        # Padding repeats the last step; no state before it depends on it.
        within = np.minimum(np.arange(lengths.max())[:, None], lengths - 1)
        steps = rows.steps[torch.from_numpy(rows.starts[batch] + within)]
        of_batch = torch.from_numpy(lengths).to(encoder.device)
        yield batch, of_batch, encoder(steps.to(encoder.device), of_batch)


def rows_of(sequences: Sequences, plan: SequencePlan) -> Rows:
    """All views of some sequences, and their channels if these are read one by one, as rows."""
    if sequences.is_tokens:  # they have one view: themselves
        steps = torch.from_numpy(np.ascontiguousarray(sequences.values[:, 0]))
        return Rows(steps, sequences.starts, sequences.lengths)
    parts, starts, lengths = [], [], []
    offset = 0
    for view in plan.views:
        seen = show(sequences, view, plan.scales)
        n_steps = len(seen.values)
        if plan.joint:
            parts.append(seen.values.astype(np.float32))
            columns = 1
        else:
            parts.append(seen.values.T.astype(np.float32).reshape(-1, 1))
            columns = plan.n_channels
        for column in range(columns):
            starts.append(offset + column * n_steps + seen.starts)
            lengths.append(seen.lengths)
        offset += columns * n_steps
    return Rows(
        torch.from_numpy(np.concatenate(parts)),
        np.stack(starts, axis=1).ravel(),
        np.stack(lengths, axis=1).ravel(),
    )
