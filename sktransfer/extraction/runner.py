"""Drive images through a network in batches: decode ahead, keep rows in order, lose no run.

Decoding runs in threads (Pillow and NumPy release the interpreter lock) and at
most `_AHEAD` batches before the network, so memory is bounded by the batch
whatever the number of images.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, NamedTuple

import joblib
import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from sktransfer.exceptions import ImageReadError
from sktransfer.extraction.sources import name_of, take

_AHEAD = 2
_MAX_THREADS = 8


class FailedImage(NamedTuple):
    """An image that could not be read: its row in X, its path if it has one, and why."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of it
    path: str | None
    message: str


def resolve_device(device: str) -> torch.device:
    """Turn "auto" into the best device there is, and check a named one.

    Raises
    ------
    ValueError
        torch does not know the device, or it is not available here.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.zeros(1, device=resolved).cpu()  # "meta" exists, and computes nothing
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"device={device!r} cannot be used here ({str(error).splitlines()[0]}); pass 'auto', "
            "'cpu', 'cuda', 'cuda:<number>' or 'mps'"
        ) from error
    return resolved


def extract(
    network: nn.Module,
    items: Sequence[Any],
    read: Callable[[Any], np.ndarray],
    *,
    n_features: int,
    batch_size: int,
    device: torch.device,
    precision: str = "float32",
    on_error: str = "raise",
    progress: str | None = None,
) -> tuple[np.ndarray, list[FailedImage]]:
    """Features of every item, in order.

    Parameters
    ----------
    network : nn.Module
        Maps (batch, channels, height, width) to (batch, `n_features`); on `device`.
    items : sequence
        See `sktransfer.extraction.sources.as_image_items`.
    read : callable
        Turns an item into a float32 array of shape (height, width, channels), the
        same for all, or raises `ImageReadError`. Called from several threads.
    n_features, batch_size : int
    device : torch.device
    precision : {"float32", "bfloat16"}
        Arithmetic inside the network; the features are float32 either way.
    on_error : {"raise", "nan"}
        Whether an unreadable image ends the run or becomes a row of NaN.
    progress : str or None
        Label of the progress bar; None for no bar.

    Returns
    -------
    features : ndarray of shape (len(items), n_features), float32
    failed : list of FailedImage
    """
    features = np.full((len(items), n_features), np.nan, dtype=np.float32)
    failed: list[FailedImage] = []
    autocast = (
        torch.autocast(device.type, dtype=torch.bfloat16)
        if precision == "bfloat16"
        else nullcontext()
    )
    bar = tqdm(total=len(items), desc=progress, unit="img", disable=progress is None)
    with bar, torch.inference_mode(), autocast:
        for start, results in _batches(items, read, batch_size):
            good = []
            for offset, result in enumerate(results):
                if isinstance(result, ImageReadError):
                    failure = FailedImage(
                        start + offset, name_of(items, start + offset), str(result)
                    )
                    if on_error == "raise":
                        raise image_error(failure) from result
                    failed.append(failure)
                else:
                    good.append(start + offset)
            if good:
                pixels = np.stack([r for r in results if not isinstance(r, ImageReadError)])
                # (n, H, W, C) seen as (n, C, H, W) is torch's channels_last: nothing is copied,
                # and convolutions on a CPU run two to five times faster.
                batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device)
                features[good] = network(batch).cpu().numpy()
            bar.update(len(results))
    return features, failed


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
    return _guarded(read, _fetch(items, index))


def _batches(
    items: Sequence[Any], read: Callable[[Any], np.ndarray], batch_size: int
) -> Iterator[tuple[int, list[np.ndarray | ImageReadError]]]:
    """Yield (first index, results) while the next batches are being read."""
    n_threads = min(_MAX_THREADS, joblib.cpu_count())
    # A few images per task: tiny ones cost less than handing over a task does.
    share = max(1, -(-batch_size // (2 * n_threads)))
    queue: deque[tuple[int, list[Future[list[np.ndarray | ImageReadError]]]]] = deque()

    def results() -> tuple[int, list[np.ndarray | ImageReadError]]:
        first, tasks = queue.popleft()
        return first, [result for task in tasks for result in task.result()]

    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="sktransfer-read")
    try:
        for start in range(0, len(items), batch_size):
            stop = min(start + batch_size, len(items))
            # Items are fetched here, in one thread: see `take`.
            fetched = [_fetch(items, index) for index in range(start, stop)]
            shares = [fetched[i : i + share] for i in range(0, len(fetched), share)]
            queue.append((start, [pool.submit(_read_all, read, part) for part in shares]))
            if len(queue) > _AHEAD:
                yield results()
        while queue:
            yield results()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _fetch(items: Sequence[Any], index: int) -> Any:
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
