"""Drive images through a network in batches: decode ahead, keep rows in order, lose no run.

Decoding runs in threads (Pillow and NumPy release the interpreter lock) and at
most `_AHEAD` batches before the network, so memory is bounded by the batch
whatever the number of images.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import joblib
import numpy as np
from tqdm.auto import tqdm

from sktransfer.exceptions import ImageReadError
from sktransfer.images.faults import ends_the_run
from sktransfer.images.sources import name_of, take
from sktransfer.networks.engines import Engine

T = TypeVar("T")

_AHEAD = 2
_MAX_THREADS = 8

_PIXELS_PER_PASS = 4 * 224 * 224
"""Pixels that a CPU takes at once. Larger passes leave its caches and go up to three times
slower, smaller ones do not fill its cores; see benchmarks/throughput.py."""


class FailedImage(NamedTuple):
    """An image that could not be read: its row in X, its path if it has one, and why."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of it
    path: str | None
    message: str


class Batch(NamedTuple):
    """The items of a batch that could be read, and the failures with their exceptions."""

    good: list[int]
    arrays: list[np.ndarray]  # of each good item, or of all of them as the network returns them
    failed: list[FailedImage]
    reasons: list[ImageReadError]

    def check(self, on_error: str) -> None:
        """Raise for the first failed image unless failures are welcome as NaN."""
        if self.failed and on_error == "raise":
            raise image_error(self.failed[0]) from self.reasons[0]


def extract(
    engine: Engine,
    items: Sequence[Any],
    read: Callable[[Any], np.ndarray],
    *,
    n_features: int,
    batch_size: int,
    on_error: str = "raise",
    progress: str | None = None,
    out: np.ndarray | None = None,
) -> tuple[np.ndarray, list[FailedImage]]:
    """Features of every item, in order.

    Parameters
    ----------
    engine : callable
        See `sktransfer.networks.engines`; its matrices together have `n_features`
        columns.
    items : sequence
        See `sktransfer.images.sources.as_image_items`.
    read : callable
        Turns an item into a float32 array of shape (height, width, channels), the
        same for all, or raises `ImageReadError`. Called from several threads.
    n_features, batch_size : int
    on_error : {"raise", "nan"}
        Whether an unreadable image ends the run or becomes a row of NaN.
    progress : str or None
        Label of the progress bar; None for no bar.
    out : ndarray of shape (len(items), n_features), float32, optional
        Array for the features, such as a memory map.

    Returns
    -------
    features : ndarray of shape (len(items), n_features), float32
    failed : list of FailedImage
    """
    features = blank_rows(len(items), n_features, out)
    failed: list[FailedImage] = []
    batches = _consecutive(len(items), batch_size)
    with progress_bar(len(items), progress) as bar:
        for batch in stream(engine, items, read, batches):
            batch.check(on_error)
            failed += batch.failed
            if batch.good:
                features[batch.good] = np.concatenate(batch.arrays, axis=1)
            bar.update(len(batch.good) + len(batch.failed))
    return features, failed


def in_passes(engine: Engine, size: tuple[int, int]) -> Engine:
    """Feed an engine as many images at once as suit a CPU's caches."""
    n_images = max(1, _PIXELS_PER_PASS // (size[0] * size[1]))

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        parts = [engine(pixels[i : i + n_images]) for i in range(0, len(pixels), n_images)]
        return [np.concatenate(matrices) for matrices in zip(*parts, strict=True)]

    return run


def blank_rows(n: int, n_features: int, out: np.ndarray | None) -> np.ndarray:
    """A matrix of NaN, float32, or `out` filled so."""
    if out is None:
        return np.full((n, n_features), np.nan, dtype=np.float32)
    out[:] = np.nan
    return out


def read_all(
    items: Sequence[Any],
    read: Callable[[Any], np.ndarray],
    *,
    shape: tuple[int, ...],
    make: Callable[[tuple[int, ...], Any], np.ndarray],
    batch_size: int,
    on_error: str,
) -> tuple[np.ndarray, list[FailedImage]]:
    """All items as they are read, without a network.

    Parameters
    ----------
    items, batch_size, on_error
        As for `extract`.
    read : callable
        Turns an item into an array of uint8, or of float32 within [0, 1].
    shape : tuple of int
        Shape of each array.
    make : callable
        Makes the array to hold them, from its shape and dtype.

    Returns
    -------
    images : ndarray of shape (len(items), ...)
        uint8 if all are. What could not be read is zero.
    failed : list of FailedImage
    """
    images: np.ndarray | None = None
    failed: list[FailedImage] = []
    for batch in _read_ahead(items, read, _consecutive(len(items), batch_size)):
        batch.check(on_error)
        failed += batch.failed
        for index, pixels in zip(batch.good, batch.arrays, strict=True):
            if images is None:
                images = make((len(items), *shape), pixels.dtype)
                images[:] = 0
            elif images.dtype != pixels.dtype and images.dtype == np.uint8:
                as_floats = make(images.shape, np.float32)
                np.divide(images, np.float32(255), out=as_floats)
                images = as_floats
            from_bytes = pixels.dtype == np.uint8 != images.dtype
            images[index] = pixels / np.float32(255) if from_bytes else pixels
    if images is None:  # none could be read
        images = np.zeros((len(items), *shape), dtype=np.uint8)
    return images, failed


def stream(
    engine: Engine,
    items: Sequence[Any],
    read: Callable[[Any], np.ndarray],
    batches: Iterable[Sequence[int]],
) -> Iterator[Batch]:
    """Run batches of items, given by their indices, while the next ones are being read.

    `batches` is asked for its next batch no earlier than needed to keep the readers busy.
    """
    for batch in _read_ahead(items, read, batches):
        yield batch._replace(arrays=engine(np.stack(batch.arrays))) if batch.good else batch


def progress_bar(total: int, label: str | None) -> "tqdm[Any]":
    """A bar that counts images; without label, one that shows nothing."""
    return tqdm(total=total, desc=label, unit="img", disable=label is None)


def image_error(failure: FailedImage) -> ImageReadError:
    """The exception for one failed image, naming its row and file."""
    where = f"X[{failure.index}]" + (f" ({failure.path})" if failure.path else "")
    return ImageReadError(
        f"{where} is not usable: {failure.message}. To keep going with NaN rows, set on_error='nan'"
    )


def first_readable(items: Sequence[Any], read: Callable[[Any], T], on_error: str) -> T:
    """The result of `read` for the first image, or with on_error="nan" for the first good one.

    Raises
    ------
    ImageReadError
        The first image cannot be read, or none can.
    """
    failures = []
    for index in range(len(items)):
        result = read_item(items, index, read)
        if not isinstance(result, ImageReadError):
            return result
        failures.append(FailedImage(index, name_of(items, index), str(result)))
        if on_error == "raise":
            raise image_error(failures[0]) from result
    raise ImageReadError(
        f"none of the {len(items)} images can be read; the first, "
        f"{failures[0].path or 'X[0]'}: {failures[0].message}"
    )


def read_item(items: Sequence[Any], index: int, read: Callable[[Any], T]) -> T | ImageReadError:
    """Read one item, returning rather than raising what is wrong with it."""
    return guarded(read, fetch(items, index))


def _consecutive(n: int, batch_size: int) -> Iterator[range]:
    return (range(n)[start : start + batch_size] for start in range(0, n, batch_size))


def _read_ahead(
    items: Sequence[Any], read: Callable[[Any], np.ndarray], batches: Iterable[Sequence[int]]
) -> Iterator[Batch]:
    """Yield batches while the next ones are being read."""
    n_threads = min(_MAX_THREADS, joblib.cpu_count())
    queue: deque[tuple[Sequence[int], list[Future[list[np.ndarray | ImageReadError]]]]] = deque()

    def read_share(share: list[Any]) -> list[np.ndarray | ImageReadError]:
        return [guarded(read, item) for item in share]

    def first_in_queue() -> Batch:
        indices, tasks = queue.popleft()
        batch = Batch([], [], [], [])
        results = (result for task in tasks for result in task.result())
        for index, result in zip(indices, results, strict=True):
            if isinstance(result, ImageReadError):
                batch.failed.append(FailedImage(index, name_of(items, index), str(result)))
                batch.reasons.append(result)
            else:
                batch.good.append(index)
                batch.arrays.append(result)
        return batch

    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="sktransfer-read")
    try:
        for indices in batches:
            # Items are fetched here, in one thread: see `take`.
            fetched = [fetch(items, index) for index in indices]
            # A few images per task: tiny ones cost less than handing over a task does.
            size = max(1, -(-len(fetched) // (2 * n_threads)))
            shares = [fetched[i : i + size] for i in range(0, len(fetched), size)]
            queue.append((indices, [pool.submit(read_share, share) for share in shares]))
            if len(queue) > _AHEAD:
                yield first_in_queue()
        while queue:
            yield first_in_queue()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def fetch(items: Sequence[Any], index: int) -> Any:
    """Take one item; an error is returned, to be reported when the item is read."""
    try:
        return take(items, index)
    except Exception as error:
        return _as_read_error(error)


def guarded(read: Callable[[Any], T], item: Any) -> T | ImageReadError:
    """Read one item; an error that is the item's fault is returned."""
    if isinstance(item, ImageReadError):
        return item
    try:
        return read(item)
    except Exception as error:  # decoders of broken files raise whatever they like
        return _as_read_error(error)


def _as_read_error(error: Exception) -> ImageReadError:
    if isinstance(error, ImageReadError):
        return error
    if ends_the_run(error):
        raise error
    wrapped = ImageReadError(f"reading it failed with {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
