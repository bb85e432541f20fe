"""Vectors of texts through a store.

Mean, class token and maximum of every stage are stored, whatever a transformer reads, so that
the next layer or pooling of a search is found.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sktransfer.networks.blocks import ReadBlocks
from sktransfer.networks.engines import Engine
from sktransfer.networks.layers import Read
from sktransfer.store.read_through import Computation, Computed, read_through
from sktransfer.store.session import Block, StoreSession
from sktransfer.texts.tracing import POOLINGS, TextTrace
from sktransfer.texts.vectors import TextPlan, vectors_of

_BATCH = 256
"""Texts that are claimed and computed together."""

_TOKENS = Block("tokens", 1)
"""The length of a text, which says whether it was cut."""


class Found(NamedTuple):
    """One matrix per read, tokens of each text, and how many texts went through the network."""

    matrices: list[np.ndarray]
    n_tokens: np.ndarray
    n_forward: int


def vectors_through(
    session: StoreSession,
    engine_for: Callable[[tuple[Read, ...]], Engine],
    trace: TextTrace,
    reads: tuple[Read, ...],
    plan: TextPlan,
    texts: Sequence[str],
    progress: Callable[[int], object] = lambda n: None,
) -> Found:
    """`vectors_of` some texts; those that are stored are not computed.

    Parameters
    ----------
    session : StoreSession
    engine_for : callable
        Makes the engine for some reads; called only if something is missing.
    trace : TextTrace
    reads, plan, texts, progress
        As for `vectors_of`.
    """
    found = _Texts(engine_for, trace, reads, plan, texts)
    without_tokens = plan.pad_id if not plan.tokenizer.num_special_tokens_to_add(False) else None
    keys = [key_of(text, without_tokens) for text in texts]
    longest_first = np.argsort([-len(text) for text in texts], kind="stable")
    n_forward = read_through(
        session, keys, found, batch_size=_BATCH, advance=progress, order=longest_first
    )
    return Found(found.matrices, found.n_tokens, n_forward)


def key_of(text: str, pad_id: int | None = None) -> bytes:
    """Hash of a text, under which it is stored; of one without tokens, of the one it is read as."""
    if pad_id is not None and not text.strip():
        return hashlib.sha256(b"blank" + f"{pad_id} {text}".encode()).digest()
    return hashlib.sha256(b"text" + text.encode()).digest()


@dataclass
class _Texts(Computation):
    engine_for: Callable[[tuple[Read, ...]], Engine]
    trace: TextTrace
    reads: tuple[Read, ...]
    plan: TextPlan
    texts: Sequence[str]

    def __post_init__(self) -> None:
        self.blocks = ReadBlocks(self.trace, self.reads, self._together)
        self.wanted = (_TOKENS, *self.blocks.wanted)
        self.usual = (_TOKENS, *self.blocks.usual)
        n = len(self.texts)
        widths = [self.trace.widths[read.layer] for read in self.reads]
        self.matrices = [np.empty((n, width), dtype=np.float32) for width in widths]
        self.n_tokens = np.zeros(n, dtype=np.int64)

    def run(self, blocks: tuple[Block, ...], batches: Iterator[list[int]]) -> Iterator[Computed]:
        """Compute all poolings of each layer, and count tokens."""
        of_reads = [block for block in blocks if block != _TOKENS]
        reads = self.blocks.reads_in(of_reads)
        engine = self.engine_for(reads)
        for batch in batches:
            texts = [self.texts[i] for i in batch]
            matrices, n_tokens = vectors_of(engine, reads, self.plan, texts)
            vectors = self.blocks.joined(of_reads, matrices)
            vectors[_TOKENS.name] = n_tokens[:, None].astype(np.float32)
            yield Computed(batch, vectors, {})

    def fill(self, rows: np.ndarray, vectors: Mapping[str, np.ndarray]) -> None:
        """Write the pooling that each read asks for."""
        self.blocks.fill(self.matrices, rows, vectors)
        self.n_tokens[rows] = vectors[_TOKENS.name][:, 0].astype(np.int64)

    def _together(self, read: Read) -> tuple[Read, ...]:
        """All poolings of a layer are stored together, whatever is asked for."""
        return self.trace.reads((read.layer,), POOLINGS)
