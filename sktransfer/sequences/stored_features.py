"""Vectors of sequences through a store.

The stored vectors of a sequence and a view do not depend on the poolings of a transformer: all
poolings that need no fitting are one vector, found again by any search over poolings; shares
above thresholds, which are learned from the training data, are another.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from sktransfer.sequences.encoding import Encoder
from sktransfer.sequences.source import Sequences
from sktransfer.sequences.vectors import SequencePlan, vectors_of, width_of
from sktransfer.store.read_through import Computation, Computed, read_through
from sktransfer.store.session import Block, StoreSession

_UNFITTED = ("last", "mean", "max", "min", "std")

_BATCH_ROWS = 1024
"""Rows of the network that are claimed and computed together, sorted by length."""


def vectors_through(
    session: StoreSession,
    encoder: Encoder,
    sequences: Sequences,
    plan: SequencePlan,
    poolings: Sequence[str],
    thresholds: Sequence[Tensor],
    out: np.ndarray,
    progress: Callable[[int], object],
) -> int:
    """`vectors_of` some sequences; those that are stored are not computed.

    Returns
    -------
    int
        Sequences that went through the network.
    """
    longest_first = np.argsort(-sequences.lengths, kind="stable")
    keys = [_key(sequences, index) for index in range(len(sequences))]
    per_view = plan.n_groups // len(plan.views)
    batch_size = max(1, max(_BATCH_ROWS, plan.batch_size) // per_view)

    def rows_done(n_sequences: int) -> None:
        progress(n_sequences * per_view)

    computed: set[int] = set()  # a sequence counts once, whatever the views
    for number, view in enumerate(plan.views):
        groups = slice(number * per_view, (number + 1) * per_view)
        of_view = [t[groups] for t in thresholds]
        one = replace(plan, views=(view,))
        states = _View(encoder, sequences, one, poolings, of_view, out[:, groups])
        read_through(
            session, keys, states, batch_size=batch_size, advance=rows_done, order=longest_first
        )
        computed |= states.computed
    return len(computed)


@dataclass
class _View(Computation):
    """One view of some sequences."""

    encoder: Encoder
    sequences: Sequences
    plan: SequencePlan
    poolings: Sequence[str]
    thresholds: Sequence[Tensor]
    out: np.ndarray

    def __post_init__(self) -> None:
        (view,) = self.plan.views
        scale = self.plan.scales[view.factor]
        fitted = _digest(scale.mean, scale.std) if view.kind == "g" else ""
        if view.kind == "dg":
            fitted = _digest(scale.difference_std)
        above = _digest(*(t.cpu().numpy() for t in self.thresholds))
        self.poolings_in: dict[Block, tuple[str, ...]] = {}
        special = (("attention", ("attention",)), (f"ppv{above}", ("ppv",)))
        for name, stored in (("states", _UNFITTED), *special):
            width = self.plan.n_groups * width_of(stored, self.thresholds)
            self.poolings_in[Block(f"{view} {fitted}/{name}", width)] = stored
        self.usual = tuple(self.poolings_in)[:1]
        self.wanted = tuple(
            block for block, stored in self.poolings_in.items() if set(stored) & set(self.poolings)
        )
        self.computed: set[int] = set()

    def run(self, blocks: tuple[Block, ...], batches: Iterator[list[int]]) -> Iterator[Computed]:
        """Run the network on each batch, and pool its states in all ways at once."""
        every = [pooling for block in blocks for pooling in self.poolings_in[block]]
        columns = _columns_of_parts(every, self.thresholds)
        for batch in batches:
            shape = (len(batch), self.plan.n_groups, width_of(every, self.thresholds))
            states = np.empty(shape, dtype=np.float32)
            some = self.sequences.take(np.array(batch))
            vectors_of(self.encoder, some, self.plan, every, self.thresholds, states)
            vectors = {}
            for block in blocks:
                inside = _columns_of_parts(self.poolings_in[block], self.thresholds)
                parts = [states[:, :, columns[part]] for part in inside]
                vectors[block.name] = np.concatenate(parts, axis=2).reshape(len(batch), -1)
            self.computed.update(batch)
            yield Computed(batch, vectors, {})

    def fill(self, rows: np.ndarray, vectors: Mapping[str, np.ndarray]) -> None:
        """Write the features by layer and pooling, in the order asked for."""
        asked = _columns_of_parts(self.poolings, self.thresholds)
        for block in self.wanted:
            states = vectors[block.name].reshape(len(rows), self.plan.n_groups, -1)
            stored = _columns_of_parts(self.poolings_in[block], self.thresholds)
            for part in asked.keys() & stored.keys():
                self.out[rows, :, asked[part]] = states[:, :, stored[part]]


def _columns_of_parts(
    poolings: Sequence[str], thresholds: Sequence[Tensor]
) -> dict[tuple[int, str], slice]:
    """Columns of each layer and pooling in the vector of one group."""
    columns = {}
    start = 0
    for layer in range(len(thresholds)):
        for pooling in poolings:
            width = width_of([pooling], thresholds[layer : layer + 1])
            columns[layer, pooling] = slice(start, start + width)
            start += width
    return columns


def _key(sequences: Sequences, index: int) -> bytes:
    """Hash of a sequence: its numbers, as they are after gaps are filled."""
    values = np.ascontiguousarray(sequences.one(index))
    digest = hashlib.sha256(repr((values.dtype.str, values.shape)).encode())
    digest.update(values.tobytes())
    return digest.digest()


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr(array.shape).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:32]
