"""Drive images through a network in batches: decode ahead, keep rows in order, lose no run.

Decoding runs in threads (Pillow and NumPy release the interpreter lock) and at
most `_AHEAD` batches before the network, so memory is bounded by the batch
whatever the number of images.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import joblib
import numpy as np
from tqdm.auto import tqdm

from sktransfer.exceptions import ImageReadError
from sktransfer.images.engines import Engine
from sktransfer.images.sources import name_of, take

_AHEAD = 2
_MAX_THREADS = 8


class FailedImage(NamedTuple):
    """An image that could not be read: its row in X, its path if it has one, and why."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of it
    path: str | None
    message: str


class Batch(NamedTuple):
    """What became of some items: the features of the good ones, and why the others failed."""

    good: list[int]
    matrices: list[np.ndarray]
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
        See `sktransfer.images.engines`; its matrices together have `n_features`
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
        Where to write them, such as a memory map.

    Returns
    -------
    features : ndarray of shape (len(items), n_features), float32
    failed : list of FailedImage
    """
    features = blank_rows(len(items), n_features, out)
    failed: list[FailedImage] = []
    starts = range(0, len(items), batch_size)
    batches = (range(start, min(start + batch_size, len(items))) for start in starts)
    with progress_bar(len(items), progress) as bar:
        for batch in stream(engine, items, read, batches):
            batch.check(on_error)
            failed += batch.failed
            if batch.good:
                features[batch.good] = np.concatenate(batch.matrices, axis=1)
            bar.update(len(batch.good) + len(batch.failed))
    return features, failed


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
        Of each array.
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
    starts = range(0, len(items), batch_size)
    batches = (range(start, min(start + batch_size, len(items))) for start in starts)
    for indices, results in _reading(items, read, batches):
        for index, result in zip(indices, results, strict=True):
            if isinstance(result, ImageReadError):
                failed.append(FailedImage(index, name_of(items, index), str(result)))
                if on_error == "raise":
                    raise image_error(failed[-1]) from result
                continue
            if images is None:
                images = make((len(items), *shape), result.dtype)
                images[:] = 0
            elif images.dtype != result.dtype and images.dtype == np.uint8:
                as_floats = make(images.shape, np.float32)
                np.divide(images, np.float32(255), out=as_floats)
                images = as_floats
            scale = 255 if result.dtype == np.uint8 != images.dtype else 1
            images[index] = result if scale == 1 else result / np.float32(scale)
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
    for indices, results in _reading(items, read, batches):
        done = Batch([], [], [], [])
        pixels = []
        for index, result in zip(indices, results, strict=True):
            if isinstance(result, ImageReadError):
                done.failed.append(FailedImage(index, name_of(items, index), str(result)))
                done.reasons.append(result)
            else:
                done.good.append(index)
                pixels.append(result)
        if pixels:
            done.matrices.extend(engine(np.stack(pixels)))
        yield done


def progress_bar(total: int, label: str | None) -> "tqdm[Any]":
    """A bar that counts images; without label, one that shows nothing."""
    return tqdm(total=total, desc=label, unit="img", disable=label is None)


def image_error(failure: FailedImage) -> ImageReadError:
    """The exception for one failed image, naming its row and file."""
    where = f"X[{failure.index}]" + (f" ({failure.path})" if failure.path else "")
    return ImageReadError(
        f"{where} is not usable: {failure.message}. To keep going with NaN rows, set on_error='nan'"
    )


def read_item(
    items: Sequence[Any], index: int, read: Callable[[Any], np.ndarray]
) -> np.ndarray | ImageReadError:
    """Read one item, returning rather than raising what is wrong with it."""
    return _guarded(read, fetch(items, index))


def _reading(
    items: Sequence[Any], read: Callable[[Any], np.ndarray], batches: Iterable[Sequence[int]]
) -> Iterator[tuple[Sequence[int], list[np.ndarray | ImageReadError]]]:
    """Yield (indices, results) while the next batches are being read."""
    n_threads = min(_MAX_THREADS, joblib.cpu_count())
    queue: deque[tuple[Sequence[int], list[Future[list[np.ndarray | ImageReadError]]]]] = deque()

    def results() -> tuple[Sequence[int], list[np.ndarray | ImageReadError]]:
        indices, tasks = queue.popleft()
        return indices, [result for task in tasks for result in task.result()]

    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="sktransfer-read")
    try:
        for indices in batches:
            # Items are fetched here, in one thread: see `take`.
            fetched = [fetch(items, index) for index in indices]
            # A few images per task: tiny ones cost less than handing over a task does.
            share = max(1, -(-len(fetched) // (2 * n_threads)))
            shares = [fetched[i : i + share] for i in range(0, len(fetched), share)]
            queue.append((indices, [pool.submit(_read_all, read, part) for part in shares]))
            if len(queue) > _AHEAD:
                yield results()
        while queue:
            yield results()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def fetch(items: Sequence[Any], index: int) -> Any:
    """Take one item; what goes wrong is returned, to be told when the item is read."""
    try:
        return take(items, index)
    except Exception as error:
        return _as_read_error(error)


def _read_all(
    read: Callable[[Any], np.ndarray], items: list[Any]
) -> list[np.ndarray | ImageReadError]:
    return [_guarded(read, item) for item in items]


def _guarded(read: Callable[[Any], np.ndarray], item: Any) -> np.ndarray | ImageReadError:
    if isinstance(item, ImageReadError):
        return item
    try:
        return read(item)
    except Exception as error:  # decoders of broken files raise whatever they like
        return _as_read_error(error)


def _as_read_error(error: Exception) -> ImageReadError:
    if isinstance(error, ImageReadError):
        return error
    wrapped = ImageReadError(f"reading it failed with {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
