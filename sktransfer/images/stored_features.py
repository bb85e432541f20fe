"""Features of images through a store.

One pass through the network stores average and maximum of every stage, whatever a transformer
reads, so that the next layer or pooling of a search is found.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sktransfer.images.encoded import encoded_in, is_fetched
from sktransfer.images.keys import file_state, samples_of
from sktransfer.images.runner import (
    FailedImage,
    blank_rows,
    fetch,
    guarded,
    image_error,
    progress_bar,
    stream,
)
from sktransfer.images.sources import name_of
from sktransfer.images.tracing import ImageTrace
from sktransfer.networks.blocks import ReadBlocks
from sktransfer.networks.engines import Engine
from sktransfer.networks.layers import Read
from sktransfer.store.read_through import Computation, Computed, read_through
from sktransfer.store.session import Block, StoreSession

_WINDOW = 4096
"""Images looked up at once: files are hashed shortly before they are decoded, while the
operating system still holds them."""

_HELD_WINDOW = 256
"""The same for datasets and addresses, whose items are fetched once and held meanwhile."""

_DOWNLOADS = 8
"""Files fetched at once."""

_STORED_NAMES = {"mean": "avg"}
"""Poolings that version 1 of the store calls otherwise."""


class Extracted(NamedTuple):
    """Features of all items, the failures, and how many images went through the network."""

    features: np.ndarray
    failed: list[FailedImage]
    n_forward: int


def extract_cached(
    session: StoreSession,
    engine_for: Callable[[tuple[Read, ...]], Engine],
    items: Sequence[Any],
    read: Callable[[Any], np.ndarray],
    *,
    trace: ImageTrace,
    reads: tuple[Read, ...],
    batch_size: int,
    max_pixels: int,
    on_error: str = "raise",
    progress: str | None = None,
    out: np.ndarray | None = None,
) -> Extracted:
    """Features of every item, in order; those that are stored are not computed.

    Parameters
    ----------
    session : StoreSession
    engine_for : callable
        Makes the engine for some reads; called only if something is missing.
    items, read, batch_size, on_error, progress, out
        As for `sktransfer.images.runner.extract`.
    trace : ImageTrace
    reads : tuple of Read
        Layers and poolings of the features.
    max_pixels : int
        Larger Pillow images are not decoded.
    """
    features = blank_rows(len(items), sum(trace.width(read) for read in reads), out)
    failed: list[FailedImage] = []
    n_forward = 0
    size = _HELD_WINDOW if _is_to_be_held(items) else _WINDOW
    with progress_bar(len(items), progress) as bar:
        for start in range(0, len(items), size):
            rows = range(start, min(start + size, len(items)))
            some = features[rows.start : rows.stop]
            images = _Images(
                items, rows, read, engine_for, trace, reads, max_pixels, on_error, some
            )
            n_forward += read_through(
                session, images.keys, images, batch_size=batch_size, advance=bar.update
            )
            failed += images.failed
    return Extracted(features, sorted(failed), n_forward)


@dataclass
class _Images(Computation):
    """The images at some rows of X, numbered from the first of them."""

    all_items: Sequence[Any]
    rows: range
    read: Callable[[Any], np.ndarray]
    engine_for: Callable[[tuple[Read, ...]], Engine]
    trace: ImageTrace
    reads: tuple[Read, ...]
    max_pixels: int
    on_error: str
    features: np.ndarray

    def __post_init__(self) -> None:
        self.items: Any
        if _is_to_be_held(self.all_items):
            self.items = _held(self.all_items, self.rows)
        else:
            self.items = self.all_items[self.rows.start : self.rows.stop]
        self.samples = samples_of(self.items, self.max_pixels)
        self.blocks = ReadBlocks(self.trace, self.reads, _together, _STORED_NAMES)
        self.wanted, self.usual = self.blocks.wanted, self.blocks.usual
        ends = np.cumsum([self.trace.width(read) for read in self.reads])
        self.matrices = np.split(self.features, ends[:-1], axis=1)  # views
        self.failed: list[FailedImage] = []

    @property
    def keys(self) -> list[bytes | None]:
        """None for what is broken, or of a kind that reading will refuse."""
        return [None if sample is None else sample.key for sample in self.samples]

    def run(self, blocks: tuple[Block, ...], batches: Iterator[list[int]]) -> Iterator[Computed]:
        """Read ahead of the network."""
        engine = self.engine_for(self.blocks.reads_in(blocks))
        for batch in stream(engine, self.items, self.read, batches):
            vectors = self.blocks.joined(blocks, batch.arrays) if batch.good else {}
            failed = [failure.index for failure in batch.failed]
            yield Computed(batch.good, vectors, dict(zip(failed, batch.reasons, strict=True)))

    def fill(self, rows: np.ndarray, vectors: Mapping[str, np.ndarray]) -> None:
        """Write the features, one read beside the other."""
        self.blocks.fill(self.matrices, rows, vectors)

    def is_unchanged(self, index: int) -> bool:
        """Whether a file is as it was when it was hashed."""
        sample = self.samples[index]
        if sample is None or sample.path is None:
            return True
        return sample.state == file_state(sample.path)

    def fail(self, rows: list[int], error: Exception) -> None:
        """Raise for the first image, or note them all."""
        failed = [
            FailedImage(row, name_of(self.all_items, row), str(error))
            for row in (self.rows[row] for row in rows)
        ]
        if self.on_error == "raise":
            raise image_error(failed[0]) from error
        self.failed += failed


def _is_to_be_held(items: Sequence[Any] | np.ndarray) -> bool:
    """Whether items may be others when they are asked for again, after their keys were taken."""
    if isinstance(items, np.ndarray):
        return items.dtype == object and any(map(is_fetched, items))
    return not isinstance(items, list) or any(map(is_fetched, items))


def _held(items: Sequence[Any], rows: range) -> list[Any]:
    """The items at some rows, with the content of those behind addresses."""
    found = [fetch(items, row) for row in rows]  # datasets need not be thread-safe

    def content(item: Any) -> Any:
        return guarded(encoded_in, item) if is_fetched(item) else item

    with ThreadPoolExecutor(_DOWNLOADS) as pool:
        return list(pool.map(content, found))


def _together(read: Read) -> tuple[Read, ...]:
    """A mean and its maximum are stored together."""
    poolings = ("mean", "max") if read.pooling in ("mean", "max") else (read.pooling,)
    return tuple(Read(read.layer, pooling) for pooling in poolings)
