"""Vectors of samples through a store: look up what is there, compute the rest once, for all.

Images, sequences and texts differ in what is stored of a sample and in how it is computed, which
a `Computation` tells. Looking up, sharing the work with other workers and storing are the same
for all, and done by `read_through`.
"""

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from sktransfer.store.claims import Claims
from sktransfer.store.session import Block, StoreSession

_COMMIT_SECONDS = 1.0
"""Time between writes, and about the work that one worker claims at once."""

_POLL_SECONDS = (0.05, 0.5)
"""First and longest wait for samples that others are computing."""


class Computed(NamedTuple):
    """The vectors of some samples, each given by the index of one of its rows.

    Parameters
    ----------
    done : list of int
    vectors : dict of str to ndarray of shape (len(done), width), float32
        By the name of their block.
    failed : dict of int to Exception
        Why the others could not be computed.
    """

    done: list[int]
    vectors: Mapping[str, np.ndarray]
    failed: Mapping[int, Exception]


class Computation(ABC):
    """Computes and uses the vectors of some samples, the rows of one input.

    Attributes
    ----------
    wanted : tuple of Block
        Blocks of the caller.
    usual : tuple of Block
        Blocks that every pass computes, so that later requests are found in the store. The last
        of them shows whether that pass was made.
    """

    wanted: tuple[Block, ...]
    usual: tuple[Block, ...]

    @abstractmethod
    def run(self, blocks: tuple[Block, ...], batches: Iterator[list[int]]) -> Iterator[Computed]:
        """Compute these blocks for batches of rows.

        A batch is claimed when it is asked for; what is asked for long before it is computed
        keeps others from it.
        """

    @abstractmethod
    def fill(self, rows: np.ndarray, vectors: Mapping[str, np.ndarray]) -> None:
        """Use the wanted vectors of some rows, at least one; those that failed get none."""

    def is_unchanged(self, index: int) -> bool:
        """Whether a row that was computed still holds what its key was made from."""
        return True

    def fail(self, rows: list[int], error: Exception) -> None:
        """Note, or raise, why all rows of a sample failed, of which the first was tried."""
        raise error


def read_through(
    session: StoreSession,
    keys: Sequence[bytes | None],
    computation: Computation,
    *,
    batch_size: int,
    advance: Callable[[int], object],
    order: np.ndarray | None = None,
) -> int:
    """Fill all rows, from the store if they are stored, else by computation.

    Whoever computes the same samples through the same store shares the work. What was computed is
    stored about every second, and also if the run ends by an exception.

    Parameters
    ----------
    session : StoreSession
    keys : sequence of bytes or None
        Key of the sample of each row. Rows of the same key are computed once. None is never
        stored, and shares nothing with other rows.
    computation : Computation
    batch_size : int
        Largest number of samples to compute together.
    advance : callable
        Called with the number of rows that are done.
    order : ndarray of shape (len(keys),), optional
        All rows, in the order in which those that are missing are computed: such as the longest
        first, so that rows of a batch are of similar length. None for that of the keys.

    Returns
    -------
    int
        Samples that were computed.
    """
    vectors, found = session.find(computation.wanted, keys)
    if found.all():  # as in nearly all transforms of a search
        computation.fill(np.arange(len(keys)), vectors)
        advance(len(keys))
        return 0
    if found.any():
        here = np.flatnonzero(found)
        computation.fill(here, {name: matrix[here] for name, matrix in vectors.items()})
        advance(len(here))
    missing = np.flatnonzero(~found) if order is None else order[~found[order]]
    return _Missing(session, keys, missing.tolist(), computation, batch_size, advance).compute()


@dataclass
class _Missing:
    """The samples that are still to be computed, by this worker or by others."""

    session: StoreSession
    keys: Sequence[bytes | None]
    rows: list[int]
    computation: Computation
    batch_size: int
    advance: Callable[[int], object]

    def __post_init__(self) -> None:
        self.without_key: set[bytes] = set()
        self.rows_of: dict[bytes, list[int]] = {}
        for row in self.rows:
            key = self.keys[row]
            if key is None:  # a key that no other row has
                key = uuid.uuid4().bytes
                self.without_key.add(key)
            self.rows_of.setdefault(key, []).append(row)
        self.blocks = self._blocks_to_compute()
        self.scope = f"{self.session.namespace}:{'|'.join(block.name for block in self.blocks)}"
        self.claimed: dict[int, bytes] = {}  # the key of the sample at an index
        self.pending: list[Computed] = []  # computed, but not yet stored
        self.committed = time.perf_counter()
        self.n_computed = self.n_failed = 0

    def _blocks_to_compute(self) -> tuple[Block, ...]:
        """The usual blocks and those asked for; the latter alone once the usual are there."""
        wanted, usual = self.computation.wanted, self.computation.usual
        special = tuple(block for block in wanted if block not in usual)
        if special and usual and self.session.find(usual[-1:], list(self.rows_of))[1].all():
            return wanted
        return usual + special

    def compute(self) -> int:
        """Compute all that no other worker does, and wait for the rest."""
        wait = _POLL_SECONDS[0]
        with self.session.claims() as claims:
            while self.rows_of:
                any_claimed = self._compute_unclaimed(claims)
                # Others hold what is left, or did when it was to be claimed.
                if not self._take_stored(list(self.rows_of)):
                    break
                if any_claimed:
                    wait = _POLL_SECONDS[0]
                else:
                    time.sleep(wait)
                    wait = min(2 * wait, _POLL_SECONDS[1])
        return self.n_computed

    def _compute_unclaimed(self, claims: Claims) -> bool:
        """Compute what nobody else has claimed; whether there was any."""
        batches = self._claimed_batches(claims)
        first = next(batches, None)
        if first is None:  # spares the computation what it needs to begin
            return False
        try:
            for computed in self.computation.run(self.blocks, chain([first], batches)):
                self.pending.append(computed)
                self.n_computed += len(computed.done)
                self.n_failed += len(computed.failed)
                self._report_failures(computed.failed, claims)
                if time.perf_counter() - self.committed > _COMMIT_SECONDS:
                    self._commit(claims)
        finally:  # computed vectors are stored even if the run ends here
            self._commit(claims)
            claims.release(self.scope, list(self.claimed.values()))
            self.claimed.clear()
        return True

    def _claimed_batches(self, claims: Claims) -> Iterator[list[int]]:
        """Claim samples as they are needed; ends when nobody has left any."""
        tried: set[bytes] = set()  # others hold some of them, and are not asked again in this round
        started, n_before = time.perf_counter(), self.n_computed + self.n_failed
        while True:
            seconds = time.perf_counter() - started
            n_done = self.n_computed + self.n_failed - n_before
            # What is computed until the next commit: of more, others would wait for some for long.
            in_time = int(n_done / seconds * _COMMIT_SECONDS) if seconds else 0
            limit = max(self.batch_size, in_time)
            left = [key for key in self.rows_of if key not in tried]
            works = self.session.works
            keys = claims.take(self.scope, left, limit) if works else left[:limit]
            if not keys:
                return
            tried.update(keys)
            # Someone may have stored them between our lookup and our claim.
            absent = self._take_stored(keys)
            if len(absent) < len(keys):
                claims.release(self.scope, [key for key in keys if key not in self.rows_of])
            indices = [self.rows_of[key][0] for key in absent]
            self.claimed.update(zip(indices, absent, strict=True))
            for start in range(0, len(indices), self.batch_size):
                yield indices[start : start + self.batch_size]

    def _take_stored(self, keys: list[bytes]) -> list[bytes]:
        """Fill the rows of the samples that are stored by now; the others' keys come back."""
        vectors, found = self.session.find(self.computation.wanted, keys)
        if found.any():
            rows = [self.rows_of.pop(keys[i]) for i in np.flatnonzero(found)]
            self._fill(rows, {name: matrix[found] for name, matrix in vectors.items()})
        return [keys[i] for i in np.flatnonzero(~found)]

    def _report_failures(self, failed: Mapping[int, Exception], claims: Claims) -> None:
        """Failures are not stored: the file may be whole again tomorrow."""
        if failed:
            claims.release(self.scope, [self.claimed[index] for index in failed])
        for index, error in failed.items():
            rows = self.rows_of.pop(self.claimed.pop(index))
            self.advance(len(rows))
            self.computation.fail(rows, error)

    def _commit(self, claims: Claims) -> None:
        """Store what was computed since the last time, and fill its rows."""
        self.committed = time.perf_counter()
        pending = [computed for computed in self.pending if computed.done]
        self.pending = []
        if not pending:
            return
        indices = [index for computed in pending for index in computed.done]
        vectors = {
            block.name: np.concatenate([computed.vectors[block.name] for computed in pending])
            for block in self.blocks
        }
        keys = [self.claimed.pop(index) for index in indices]
        same = [
            key not in self.without_key and self.computation.is_unchanged(index)
            for key, index in zip(keys, indices, strict=True)
        ]
        self.session.put(
            [key for key, keep in zip(keys, same, strict=True) if keep],
            {name: matrix[same] for name, matrix in vectors.items()},
        )
        claims.release(self.scope, keys)
        filled = []
        for key, index, keep in zip(keys, indices, same, strict=True):
            rows = self.rows_of.pop(key)
            if not keep and len(rows) > 1:  # its copies still hold what they held
                self.rows_of[key] = [row for row in rows if row != index]
                rows = [index]
            filled.append(rows)
        self._fill(filled, vectors)

    def _fill(self, rows_of_each: list[list[int]], vectors: Mapping[str, np.ndarray]) -> None:
        """Give each sample's vectors to all its rows."""
        rows = np.array([row for rows in rows_of_each for row in rows], dtype=np.intp)
        of = np.repeat(np.arange(len(rows_of_each)), [len(rows) for rows in rows_of_each])
        wanted = {block.name: vectors[block.name][of] for block in self.computation.wanted}
        self.computation.fill(rows, wanted)
        self.advance(len(rows))
