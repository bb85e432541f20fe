"""Rows of X in any of its forms: their kind, their content, and which of them can be read."""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
from PIL import Image
from scipy import sparse
from sklearn.utils import _safe_indexing

from sktransfer._columns import cells_of, is_missing, only_column
from sktransfer.exceptions import ImageReadError
from sktransfer.features import (
    PretrainedCNNFeatures,
    PretrainedTextFeatures,
    RNNSequenceFeatures,
)
from sktransfer.images.pixels import ReadingOptions
from sktransfer.images.reading import read_image
from sktransfer.images.runner import FailedImage
from sktransfer.images.sources import as_image_items, name_of, rows_to_images, take
from sktransfer.inspection._subset import Subset
from sktransfer.sequences.reading import (
    is_text,
    sequence_items,
    series_source,
    token_source,
)

_AHEAD = 256
_MAX_THREADS = 8


@dataclass(frozen=True)
class Content:
    """Properties of a row that was read.

    Rows of the same content have the same digest. The size is height and width of an image, steps
    and channels of a series, characters and words of a text, or the number of columns of a table.
    """

    digest: bytes
    size: tuple[int, ...]
    missing: float = 0.0  # share of the values that are NaN


@dataclass(frozen=True)
class Samples:
    """X, and a reader of its rows, which raises ValueError for an item that is not readable."""

    X: Any
    kind: str  # "images", "texts", "series", "tokens" or "table"
    items: Any  # one per row; nothing is decoded yet
    read: Callable[[Any], Any]  # from an item to pixels, values, or a text

    def __len__(self) -> int:
        return len(self.items)

    def take(self, rows: np.ndarray) -> Any:
        """Some rows, in the form that X has."""
        X = self.X
        if hasattr(X, "detach"):
            return X[rows]
        if isinstance(X, list | tuple):
            return [X[row] for row in rows]
        if hasattr(X, "shape") or hasattr(X, "iloc"):
            return _safe_indexing(X, rows)
        return Subset(X, rows)

    def name(self, row: int) -> str | None:
        """The path of a row, if it has one."""
        return name_of(self.items, row) if self.kind == "images" else None

    def value(self, row: int) -> Any:
        """A row as it was read."""
        return self.read(take(self.items, row))


@dataclass(frozen=True)
class ReadableRows:
    """The rows of X that could be read, numbered among themselves."""

    samples: Samples  # all of X
    positions: np.ndarray  # of the readable rows in X
    contents: list[Content]  # of the readable rows
    failed: list[FailedImage]  # the other rows

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, rows: np.ndarray) -> Any:
        """Some of the readable rows, in the form that X has."""
        return self.samples.take(self.positions[rows])


def samples_of(X: Any, extractors: Sequence[Any]) -> Samples:
    """Tell of which kind X is, by the first network that reads it; with none it is a table."""
    first = extractors[0] if extractors else None
    if isinstance(first, PretrainedCNNFeatures):
        return _images(X, first)
    if isinstance(first, PretrainedTextFeatures):
        return Samples(X, "texts", cells_of(only_column(X, "texts")), _text)
    if isinstance(first, RNNSequenceFeatures):
        return _sequences(X, first)
    if is_text(X):
        return Samples(X, "texts", cells_of(only_column(X, "texts")), _text)
    items = X.tocsr() if sparse.issparse(X) else np.asarray(X)
    if items.ndim < 2:
        raise ValueError(
            "X must be a table of shape (n, n_features), images, series or texts, got shape "
            f"{items.shape}"
        )
    return Samples(X, "table", _Each(items), _flat)


def readable_rows(samples: Samples) -> ReadableRows:
    """Read every row once, and list those that cannot be read."""
    contents: list[Content | None] = []
    failed: list[FailedImage] = []
    for row, (content, message) in enumerate(_contents(samples)):
        contents.append(content)
        if content is None:
            failed.append(FailedImage(row, samples.name(row), message))
    if samples.kind == "series" and (odd := _odd_channels(contents)):
        for row, message in odd.items():
            contents[row] = None
            failed.append(FailedImage(row, None, message))
    positions = np.array(
        [i for i, content in enumerate(contents) if content is not None], dtype=int
    )
    readable = [content for content in contents if content is not None]
    return ReadableRows(samples, positions, readable, sorted(failed))


def _contents(samples: Samples) -> Iterator[tuple[Content | None, str]]:
    def content_or_error(item: Any) -> tuple[Content | None, str]:
        try:
            return _content(samples.kind, samples.read(item)), ""
        except (ImageReadError, ValueError, TypeError) as error:
            return None, str(error)

    # Items are fetched by one thread, as datasets need not be thread-safe, and read by several.
    items = (take(samples.items, row) for row in range(len(samples)))
    with ThreadPoolExecutor(min(_MAX_THREADS, joblib.cpu_count())) as pool:
        while window := [*itertools.islice(items, _AHEAD)]:
            yield from pool.map(content_or_error, window)


def _content(kind: str, value: Any) -> Content:
    if kind == "texts":
        digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()
        return Content(digest, (len(value), len(value.split())))
    array = np.ascontiguousarray(value)
    if array.dtype == object:  # a table of mixed columns
        rows = repr(array.tolist()).encode("utf-8", "backslashreplace")
        missing = float(np.mean([is_missing(each) for each in array.tolist()]))
        return Content(hashlib.sha256(rows).digest(), (array.size,), missing)
    head = f"{array.shape} {array.dtype}".encode()
    digest = hashlib.sha256(head + array.tobytes()).digest()
    missing = float(np.isnan(array).mean()) if array.dtype.kind == "f" and array.size else 0.0
    size = array.shape[:2] if kind in ("images", "series", "tokens") else (array.size,)
    return Content(digest, size, missing)


def _odd_channels(contents: list[Content | None]) -> dict[int, str]:
    """Series whose channels are not as many as those of the most."""
    channels = [0 if content is None else content.size[1] for content in contents]
    usual = int(np.bincount([c for c in channels if c]).argmax()) if any(channels) else 0
    return {
        row: f"it has {c} channels, and most rows have {usual}"
        for row, c in enumerate(channels)
        if c not in (0, usual)
    }


def _images(X: Any, features: PretrainedCNNFeatures) -> Samples:
    options = ReadingOptions(features.max_pixels, features.value_range, features.channels)

    def read(item: Any) -> Image.Image | np.ndarray:
        return read_image(item, options)

    if features.image_shape is not None:
        items: Any = rows_to_images(np.asarray(X), features.image_shape)
    else:
        items = as_image_items(X, channels=features.channels, in_channels=3)
    return Samples(X, "images", items, read)


def _sequences(X: Any, features: RNNSequenceFeatures) -> Samples:
    size = features.vocabulary_size
    if size is None and is_text(X):
        return Samples(X, "texts", cells_of(only_column(X, "texts")), _text_with_content)

    def read(item: Any) -> np.ndarray:
        if size is not None:
            source = token_source([item], size, features.max_length, "nan")
        else:
            source = series_source(
                [item],
                channels=features.channels,
                missing=features.missing,
                max_length=features.max_length,
                on_error="nan",
            )
        if source.failed:
            raise ValueError(source.failed[0].message)
        return source.read([0]).values

    return Samples(X, "series" if size is None else "tokens", _Each(sequence_items(X)), read)


class _Each(Sequence[Any]):
    """Rows of an array, none of which is taken for a pair of sample and label."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return self._rows.shape[0] if hasattr(self._rows, "shape") else len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        row = self._rows[index]
        return np.asarray(row) if isinstance(row, tuple) else row


def _text(item: Any) -> str:
    if not isinstance(item, str):
        raise ValueError(f"it must be a str, got {item!r:.60}")
    return item


def _text_with_content(item: Any) -> str:
    if not _text(item):
        raise ValueError("it is an empty text")
    return item


def _flat(item: Any) -> np.ndarray:
    return np.asarray(item.todense() if sparse.issparse(item) else item).ravel()
