"""The blocks of a feature store in which the reads of a network lie.

All that one pass gives of a layer at no cost is stored as one vector, so that a search over
poolings finds it.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from sktransfer.networks.layers import Read, Trace
from sktransfer.store.session import Block


class ReadBlocks:
    """Blocks of the reads of a caller, and of those that every pass computes.

    Parameters
    ----------
    trace : Trace
    reads : tuple of Read
        What the caller wants.
    together : callable
        From a read to all the reads of its layer that are stored in one vector, itself included.
    names : mapping of str to str
        Names of poolings in the store, where they are others than here.

    Attributes
    ----------
    reads : tuple of Read
    wanted, usual : tuple of Block
        As for `sktransfer.store.read_through.Computation`.
    """

    def __init__(
        self,
        trace: Trace,
        reads: Iterable[Read],
        together: Callable[[Read], tuple[Read, ...]],
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.reads = tuple(reads)
        self._width = trace.width
        self._names = names or {}
        self._reads_in: dict[Block, tuple[Read, ...]] = {}
        self._block_of: dict[Read, Block] = {}
        self.usual = self._blocks(map(together, trace.usual_reads()))
        self.wanted = self._blocks(map(together, self.reads))

    def reads_in(self, blocks: Iterable[Block]) -> tuple[Read, ...]:
        """All reads that these blocks hold, in their order."""
        return tuple(read for block in blocks for read in self._reads_in[block])

    def joined(
        self, blocks: Iterable[Block], matrices: Iterable[np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The vectors of blocks by their names, from one matrix for each of `reads_in`."""
        rest = iter(matrices)
        return {
            block.name: np.concatenate([next(rest) for _ in self._reads_in[block]], axis=1)
            for block in blocks
        }

    def columns_of(self, read: Read, vectors: Mapping[str, np.ndarray]) -> np.ndarray:
        """The part of the vectors that is one read."""
        block = self._block_of[read]
        reads = self._reads_in[block]
        start = sum(map(self._width, reads[: reads.index(read)]))
        return vectors[block.name][:, start : start + self._width(read)]

    def fill(
        self, matrices: Iterable[np.ndarray], rows: np.ndarray, vectors: Mapping[str, np.ndarray]
    ) -> None:
        """Write the vectors into rows of one matrix for each read of the caller."""
        for read, matrix in zip(self.reads, matrices, strict=True):
            matrix[rows] = self.columns_of(read, vectors)

    def _blocks(self, groups: Iterable[tuple[Read, ...]]) -> tuple[Block, ...]:
        blocks = []
        for reads in groups:
            poolings = "+".join(self._names.get(read.pooling, read.pooling) for read in reads)
            block = Block(f"{reads[0].layer}/{poolings}", sum(map(self._width, reads)))
            self._reads_in[block] = reads
            self._block_of.update(dict.fromkeys(reads, block))
            blocks.append(block)
        return tuple(dict.fromkeys(blocks))
