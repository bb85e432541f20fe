"""Features through a store: look up what is there, compute the rest once, for all who want it.

One pass through the network answers more than what was asked: it stores average and
maximum of every stage, so that the next layer or pooling of a search is found.
"""

import sqlite3
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import joblib
import numpy as np

from sktransfer.images.engines import Engine
from sktransfer.images.keys import Sample, file_state, sample_of, samples_of_rows
from sktransfer.images.runner import FailedImage, blank_rows, fetch, progress_bar, stream
from sktransfer.images.sources import name_of
from sktransfer.images.staged import Read, usual_reads
from sktransfer.images.tracing import Trace
from sktransfer.store import FeatureStore
from sktransfer.store.claims import Claims

_WINDOW = 4096
"""Images looked up at once: files are hashed shortly before they are decoded, while the
operating system still holds them."""

_DATASET_WINDOW = 256
"""The same for datasets, whose items are fetched once and held meanwhile."""

_COMMIT_SECONDS = 1.0
"""Time between writes, and about the work that one worker claims at once."""

_POLL_SECONDS = (0.05, 0.5)
"""First and longest wait for samples that others are computing."""

_LARGE = 16_384
"""Bytes from which hashing an array costs more than handing it to a thread."""


class Drawer(NamedTuple):
    """Where in a store a network's vectors lie.

    Parameters
    ----------
    store : FeatureStore
    namespace : str
        Hash of all that decides the vectors but the sample.
    description : str
        For people.
    """

    store: FeatureStore
    namespace: str
    description: str


def warn_not_kept(store: FeatureStore, what: str, error: Exception) -> None:
    """Say that features are right but not stored; `what` could not be done with the store."""
    warnings.warn(
        f"{store!r} cannot be {what} ({error}); the features are right, but they are not kept. "
        "Check the folder's permissions, free space and other users",
        stacklevel=3,
    )


class Extracted(NamedTuple):
    """Features of all items, the failures, and how many images went through the network."""

    features: np.ndarray
    failed: list[FailedImage]
    n_forward: int


def extract_cached(
    drawer: Drawer,
    engine_for: Callable[[tuple[Read, ...]], Engine],
    items: Sequence[Any],
    read: Callable[[Any], np.ndarray],
    *,
    trace: Trace,
    reads: tuple[Read, ...],
    batch_size: int,
    max_pixels: int,
    on_error: str = "raise",
    progress: str | None = None,
    out: np.ndarray | None = None,
) -> Extracted:
    """Features of every item, in order, from the store as far as they are there.

    Parameters
    ----------
    drawer : Drawer
    engine_for : callable
        Makes the engine for some reads; called only if something is missing.
    items, read, batch_size, on_error, progress, out
        As for `sktransfer.images.runner.extract`.
    trace : Trace
    reads : tuple of Read
        What is wanted of every item.
    max_pixels : int
        Larger Pillow images are not decoded.
    """
    run = _Run(drawer, engine_for, items, read, trace, reads, batch_size, max_pixels, on_error, out)
    window = _WINDOW if isinstance(items, list | np.ndarray) else _DATASET_WINDOW
    with progress_bar(len(items), progress) as bar:
        for start in range(0, len(items), window):
            run.window(range(start, min(start + window, len(items))), bar.update)
    run.failed.sort()
    return Extracted(run.features, run.failed, run.n_forward)


class _Block(NamedTuple):
    """What is stored as one vector: an average and its maximum, or a single read."""

    reads: tuple[Read, ...]

    @property
    def name(self) -> str:
        return f"{self.reads[0].layer}/{'+'.join(read.pooling for read in self.reads)}"


def _block_of(read: Read) -> _Block:
    if read.pooling in ("avg", "max"):
        return _Block((Read(read.layer, "avg"), Read(read.layer, "max")))
    return _Block((read,))


class _Run:
    """The state of one `extract_cached`."""

    def __init__(
        self,
        drawer: Drawer,
        engine_for: Callable[[tuple[Read, ...]], Engine],
        items: Sequence[Any],
        read: Callable[[Any], np.ndarray],
        trace: Trace,
        reads: tuple[Read, ...],
        batch_size: int,
        max_pixels: int,
        on_error: str,
        out: np.ndarray | None,
    ) -> None:
        self.store, self.namespace, self.description = drawer
        self.engine_for = engine_for
        self.all_items = items
        self.items: Any = items
        self.read = read
        self.trace = trace
        self.reads = reads
        self.batch_size = batch_size
        self.max_pixels = max_pixels
        self.on_error = on_error
        self.blocks = tuple(dict.fromkeys(map(_block_of, reads)))
        self.usual = tuple(dict.fromkeys(map(_block_of, usual_reads(trace))))
        n_features = sum(read.width(trace) for read in reads)
        self.features = blank_rows(len(items), n_features, out)
        self.failed: list[FailedImage] = []
        self.n_forward = 0
        self.usable = True
        self.samples: dict[int, Sample | None] = {}
        self.own_keys = uuid.uuid4().bytes

    # --- lookup ---------------------------------------------------------------------------

    def window(self, indices: range, advance: Callable[[int], Any]) -> None:
        """Fill the rows of some items."""
        if not isinstance(self.all_items, list | np.ndarray):
            # A dataset may give another answer the second time, and work hard for each.
            self.items = {index: fetch(self.all_items, index) for index in indices}
        samples = _samples_of(self.items, indices, self.max_pixels)
        vectors, found = self.find([None if sample is None else sample.key for sample in samples])
        here = np.flatnonzero(found)
        self._fill(indices.start + here, here, vectors)
        advance(len(here))
        if found.all():  # the way of nearly all transforms of a search
            return
        self.samples = dict(zip(indices, samples, strict=True))
        missing: dict[bytes, list[int]] = {}
        for index, sample, done in zip(indices, samples, found, strict=True):
            if not done:
                # An item without a key is broken, or of a kind that reading will refuse.
                # Nobody else has it.
                own = self.own_keys + index.to_bytes(8, "big")
                missing.setdefault(own if sample is None else sample.key, []).append(index)
        self._compute(missing, advance)

    def _look_up(self, missing: dict[bytes, list[int]], advance: Callable[[int], Any]) -> None:
        """Fill rows that others have stored meanwhile, and take them off `missing`."""
        keys = list(missing)
        vectors, found = self.find(keys)
        here = np.flatnonzero(found)
        positions = [missing.pop(keys[row]) for row in here]
        self._fill_all(positions, {block: matrix[here] for block, matrix in vectors.items()})
        advance(sum(map(len, positions)))

    def find(self, keys: Sequence[bytes | None]) -> tuple[dict[_Block, np.ndarray], np.ndarray]:
        """What is wanted of the samples, and for which of them all of it is stored."""
        found = np.ones(len(keys), dtype=bool)
        vectors: dict[_Block, np.ndarray] = {}
        for block in self.blocks:
            vectors[block], stored = self._get(block, keys)
            found &= stored
        return vectors, found

    def _get(self, block: _Block, keys: Sequence[bytes | None]) -> tuple[np.ndarray, np.ndarray]:
        width = sum(read.width(self.trace) for read in block.reads)
        if self.usable:
            try:
                return self.store.get(self.namespace, block.name, keys, width)
            except (OSError, sqlite3.Error) as error:
                self.give_up("read", error)
        nothing = np.full((len(keys), width), np.nan, dtype=np.float32)
        return nothing, np.zeros(len(keys), dtype=bool)

    def give_up(self, what: str, error: Exception) -> None:
        """Go on without the store: a search should not end because a disk is full."""
        self.usable = False
        warn_not_kept(self.store, what, error)

    def _fill_all(self, positions: list[list[int]], vectors: dict[_Block, np.ndarray]) -> None:
        """Write what is wanted of each sample into all its rows."""
        rows = np.array([row for rows in positions for row in rows], dtype=np.intp)
        of = np.repeat(np.arange(len(positions)), [len(rows) for rows in positions])
        self._fill(rows, of, vectors)

    def _fill(self, rows: np.ndarray, of: np.ndarray, vectors: dict[_Block, np.ndarray]) -> None:
        column = 0
        for read in self.reads:
            block = _block_of(read)
            before = block.reads[: block.reads.index(read)]
            start = sum(other.width(self.trace) for other in before)
            width = read.width(self.trace)
            wanted = vectors[block][:, start : start + width]
            self.features[rows, column : column + width] = wanted[of]
            column += width

    # --- computation ----------------------------------------------------------------------

    def _compute(self, missing: dict[bytes, list[int]], advance: Callable[[int], Any]) -> None:
        """Compute what is missing, sharing the work with whoever else is at it."""
        blocks = self._blocks_to_compute(list(missing))
        engine = self.engine_for(tuple(read for block in blocks for read in block.reads))
        scope = f"{self.namespace}:{'|'.join(block.name for block in blocks)}"
        wait = _POLL_SECONDS[0]
        with self.store.claims() as claims:
            while missing:
                lot = _Lot(self, claims, scope, blocks, missing, advance)
                lot.run(engine)
                if not missing:
                    break
                # The others hold the rest, or did when they were claimed.
                self._look_up(missing, advance)
                if lot.any_claimed:
                    wait = _POLL_SECONDS[0]
                else:
                    time.sleep(wait)
                    wait = min(2 * wait, _POLL_SECONDS[1])

    def _blocks_to_compute(self, keys: list[bytes]) -> tuple[_Block, ...]:
        """The usual blocks and those asked for; the latter alone once the usual are there."""
        special = tuple(block for block in self.blocks if block not in self.usual)
        if special and self.usual and self._get(self.usual[-1], keys)[1].all():
            return self.blocks
        return self.usual + special


class _Lot:
    """Batches of claimed samples on their way through the network and into the store."""

    def __init__(
        self,
        run: _Run,
        claims: Claims,
        scope: str,
        blocks: tuple[_Block, ...],
        missing: dict[bytes, list[int]],
        advance: Callable[[int], Any],
    ) -> None:
        self.parent = run
        self.claims = claims
        self.scope = scope
        self.blocks = blocks
        self.missing = missing
        self.advance = advance
        self.any_claimed = False
        self.claimed: dict[int, bytes] = {}  # the key of the sample at an index
        self.pending: list[tuple[list[int], list[np.ndarray]]] = []
        self.started = self.committed = time.perf_counter()
        self.n_done = 0

    def run(self, engine: Engine) -> None:
        run = self.parent
        try:
            for batch in stream(engine, run.items, run.read, self._batches()):
                run.n_forward += len(batch.good)
                self.n_done += len(batch.good) + len(batch.failed)
                self.pending.append((batch.good, batch.matrices))
                self._settle_failures(batch.failed)
                batch.check(run.on_error)
                if time.perf_counter() - self.committed > _COMMIT_SECONDS:
                    self._commit()
        finally:  # what was computed is kept even if the run ends here
            self._commit()
            self.claims.release(self.scope, list(self.claimed.values()))

    def _batches(self) -> Iterator[list[int]]:
        """Claim samples as they are needed; ends when nobody has left any."""
        run = self.parent
        tried: set[bytes] = set()
        while True:
            rate = self.n_done / (time.perf_counter() - self.started)
            limit = max(run.batch_size, int(rate * _COMMIT_SECONDS))
            left = [key for key in self.missing if key not in tried]
            keys = self.claims.take(self.scope, left, limit) if run.usable else left[:limit]
            if not keys:
                return
            self.any_claimed = True
            tried.update(keys)
            # Someone may have stored them between our lookup and our claim.
            _, stored = run.find(keys)
            there = [key for key, done in zip(keys, stored, strict=True) if done]
            if there:
                self.claims.release(self.scope, there)
            indices = []
            for key, done in zip(keys, stored, strict=True):
                if not done:
                    index = self.missing[key][0]
                    self.claimed[index] = key
                    indices.append(index)
            for start in range(0, len(indices), run.batch_size):
                yield indices[start : start + run.batch_size]

    def _settle_failures(self, failed: Sequence[FailedImage]) -> None:
        """Note a failure for every copy of the sample; failures are never stored."""
        keys = [self.claimed.pop(failure.index) for failure in failed]
        if keys:
            self.claims.release(self.scope, keys)
        for failure, key in zip(failed, keys, strict=True):
            positions = self.missing.pop(key)
            self.parent.failed += [
                failure._replace(index=index, path=name_of(self.parent.all_items, index))
                for index in positions
            ]
            self.advance(len(positions))

    def _commit(self) -> None:
        """Store what was computed since the last time, and fill its rows."""
        self.committed = time.perf_counter()
        batches = [(good, matrices) for good, matrices in self.pending if good]
        self.pending = []
        if not batches:
            return
        run = self.parent
        indices = [index for good, _ in batches for index in good]
        columns = iter(
            np.concatenate(parts) for parts in zip(*(m for _, m in batches), strict=True)
        )
        vectors = {
            block: np.concatenate([next(columns) for _ in block.reads], axis=1)
            for block in self.blocks
        }
        keys = [self.claimed.pop(index) for index in indices]
        same = [self._is_unchanged(index) for index in indices]
        self._store(
            [key for key, keep in zip(keys, same, strict=True) if keep],
            {block.name: matrix[same] for block, matrix in vectors.items()},
        )
        self.claims.release(self.scope, keys)
        positions = []
        for key, index, keep in zip(keys, indices, same, strict=True):
            places = self.missing.pop(key)
            if not keep and len(places) > 1:  # its copies still hold what they held
                self.missing[key] = [place for place in places if place != index]
                places = [index]
            positions.append(places)
        run._fill_all(positions, vectors)
        self.advance(sum(map(len, positions)))

    def _is_unchanged(self, index: int) -> bool:
        """Whether an item still holds what its key was made from."""
        sample = self.parent.samples[index]
        if sample is None:
            return False
        return sample.state is None or sample.state == file_state(self.parent.items[index])

    def _store(self, keys: list[bytes], blocks: dict[str, np.ndarray]) -> None:
        run = self.parent
        if not run.usable or not keys:
            return
        try:
            run.store.put(
                run.namespace,
                keys,
                blocks,
                description=run.description,
                n_forward=len(keys),
            )
        except (OSError, sqlite3.Error) as error:
            run.give_up("written", error)


def _samples_of(items: Any, indices: range, max_pixels: int) -> list[Sample | None]:
    """Hash items: in threads if they are large."""
    if isinstance(items, np.ndarray) and items.dtype.kind in "buif" and items[0].nbytes < _LARGE:
        return list(samples_of_rows(items[indices.start : indices.stop]))

    def sample(index: int) -> Sample | None:
        return sample_of(fetch(items, index), max_pixels)

    if getattr(items[indices[0]], "nbytes", _LARGE) < _LARGE:
        return list(map(sample, indices))
    with ThreadPoolExecutor(joblib.cpu_count()) as pool:
        return list(pool.map(sample, indices))
