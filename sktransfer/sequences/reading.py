"""X, in any of its accepted forms, as sequences laid end to end.

A window of sequences of unequal length is one array of steps and an array of lengths, so that
what follows works on all of them at once instead of looping over them.
"""

import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from sktransfer._columns import (
    Column,
    Names,
    cells_of,
    check_container,
    column_names,
    columns_of,
    columns_of_cells,
    first_cell,
    has_labels,
    is_missing,
    matched,
    numbers_of,
    only_column,
    plain_cell,
    raw_cells,
)
from sktransfer.sequences.failures import FailedSequence, UnusableError, check_present, read_each

_LARGEST = 1e37
"""Beyond it float32, in which networks compute, has no numbers."""

_FORMS = (
    "an array of shape (n, time) or (n, time, channels), or a list of arrays of shape (time,) "
    "or (time, channels)"
)


@dataclass(frozen=True)
class Sequences:
    """Some sequences, end to end.

    Parameters
    ----------
    values : ndarray of shape (total number of steps, channels)
        float64 without NaN, or int64 for tokens.
    lengths : ndarray of shape (n,)
        Steps of each sequence, at least 1.
    missing : ndarray of shape (n, channels)
        Share of the steps that were missing and are interpolated.
    """

    values: np.ndarray
    lengths: np.ndarray
    missing: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def is_tokens(self) -> bool:
        """Whether they are whole numbers that are not to be computed with."""
        return self.values.dtype.kind == "i"

    @cached_property
    def starts(self) -> np.ndarray:
        """Position of the first step of each sequence in `values`."""
        return np.cumsum(self.lengths) - self.lengths

    def take(self, rows: np.ndarray) -> "Sequences":
        """Some of the sequences, in the order of `rows`."""
        values = np.concatenate([self.one(row) for row in rows])
        return Sequences(values, self.lengths[rows], self.missing[rows])

    def one(self, index: int) -> np.ndarray:
        """The values of a single sequence."""
        start = self.starts[index]
        return self.values[start : start + self.lengths[index]]


@dataclass(frozen=True)
class Source:
    """All usable sequences of X, checked as a whole and read window by window.

    Parameters
    ----------
    items : ndarray of shape (n, time, channels) or list of ndarray of shape (time, channels)
    rows : sequence of int
        Row of X of each.
    failed : list of FailedSequence
        Rows of X that are not usable.
    n_channels : int
    max_length : int or None
        Steps after which sequences are cut off.
    missing : {"interpolate", "error"}, default="interpolate"
        Treatment of NaN in series.
    is_tokens : bool, default=False
        Whether the items hold whole numbers that are not to be computed with.
    names : tuple or None, default=None
        Labels of the channels, if the series are frames.
    """

    items: Any
    rows: Sequence[int]
    failed: list[FailedSequence]
    n_channels: int
    max_length: int | None
    missing: str = "interpolate"
    is_tokens: bool = False
    names: Names | None = None

    def __len__(self) -> int:
        return len(self.items)

    @property
    def usable(self) -> np.ndarray:
        """Mask of the rows of X that are usable."""
        usable = np.ones(len(self.items) + len(self.failed), dtype=bool)
        usable[[failure.index for failure in self.failed]] = False
        return usable

    def length(self, index: int) -> int:
        """Steps of a sequence, padding of NaN included."""
        n_steps = len(self.items[index])
        return n_steps if self.max_length is None else min(n_steps, self.max_length)

    def read(self, indices: Sequence[int] | np.ndarray) -> Sequences:
        """Some of the sequences, in that order, cut, interpolated and checked."""
        parts = [self.items[index][: self.max_length] for index in indices]
        lengths = np.array([len(part) for part in parts], dtype=np.int64)
        if self.is_tokens:
            values = np.concatenate(parts).astype(np.int64)
            return Sequences(values, lengths, np.zeros((len(parts), 1)))
        parts = [np.asarray(part, dtype=np.float64) for part in parts]
        values = np.concatenate(parts)
        # One pass tells whether there is anything to look for.
        if _all_present(values):
            return Sequences(values, lengths, np.zeros((len(parts), self.n_channels)))
        rows = [self.rows[index] for index in indices]
        filled, _, _ = read_each(parts, self._filled, "raise", rows)
        return Sequences(
            np.concatenate([part for part, _ in filled]),
            np.array([len(part) for part, _ in filled], dtype=np.int64),
            np.stack([share for _, share in filled]),
        )

    def _filled(self, series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A series without gaps, and their share per channel."""
        if not _all_present(series):
            _check_range(series)
        return _without_missing(series, self.missing)

    def checked(self) -> "Source":
        """The same source with all values looked at: it has failed where `read` would raise."""

        def look(item: np.ndarray) -> None:
            self._filled(np.asarray(item[: self.max_length], dtype=np.float64))

        _, rows, failed = read_each(self.items, look, "nan", self.rows)
        if not failed:
            return self
        wrong = {failure.index for failure in failed}
        items = [item for item, row in zip(self.items, self.rows, strict=True) if row not in wrong]
        return replace(self, items=items, rows=rows, failed=sorted([*self.failed, *failed]))


@dataclass(frozen=True)
class Channels:
    """A row of a table of several columns, in each of which it has a series of one channel."""

    row: list[Column]


def sequence_items(X: Any) -> Any:
    """X as an array of numbers, or as a list that has an item for each sequence.

    Raises
    ------
    TypeError, ValueError
        X has no rows in order, or is a table of several columns of texts.
    """
    X = as_array(X)
    check_container(X, "series")
    if isinstance(X, np.ndarray) and X.dtype.kind not in "OSUT":
        return X
    columns = columns_of_cells(X)
    if columns is None:
        return numbers_of(X) if is_table(X) else _listed(X)
    if len(columns) == 1:
        return raw_cells(columns[0].cells)
    cells = [cells_of(column.cells) for column in columns]
    if any(isinstance(cell, str) for cell in cells[0][:1]):
        only_column(X, "texts")
    names = [column.name for column in columns]
    return [Channels(list(map(Column, names, row))) for row in zip(*cells, strict=True)]


def series_source(
    X: Any,
    *,
    channels: str,
    missing: str,
    max_length: int | None,
    names: Names | None = None,
    on_error: str = "raise",
    n_channels: int | None = None,
) -> Source:
    """Time series from arrays, a list of arrays or frames, or columns of series.

    Parameters
    ----------
    X : Any
    channels : {"last", "first"}
        Position of the channel axis.
    missing : {"interpolate", "error"}
    max_length : int or None
    names : tuple or None, default=None
        Labels of the channels, in the order that columns are to have; None for that of the first
        frame.
    on_error : {"raise", "nan"}, default="raise"
        With "nan", series that are not usable are left out, as those are that have not
        `n_channels`, if given.
    n_channels : int or None, default=None

    Raises
    ------
    TypeError
        X is of another kind.
    ValueError
        X is empty; or with ``on_error="raise"`` a series is, or their channels or the names of
        these differ.
    """
    given = sequence_items(X)
    whole = isinstance(given, np.ndarray)
    if whole:
        given, names = _array(given, channels), None
    elif channels == "last" or any(isinstance(item, Channels) for item in given[:1]):
        names = _names_of(given, names)
    else:
        names = None
    _check_not_empty(given)

    def read(item: Any) -> np.ndarray:
        nonlocal n_channels
        series = item if whole else _series(item, channels, names)
        if len(series) == 0:
            raise UnusableError("is empty (0 time steps)")
        n_channels = n_channels or series.shape[1]
        if n_channels == 0:
            raise ValueError("X has 0 channels (its arrays have a last axis of length 0)")
        if series.shape[1] != n_channels:
            raise UnusableError(
                f"has {series.shape[1]} channels and others have {n_channels}",
                "All series need the same, as (channels, time) with channels='first', else "
                "(time, channels)",
            )
        return series

    items, rows, failed = read_each(given, read, on_error)
    usable: Any = given if whole and not failed else items
    source = Source(usable, rows, failed, n_channels or 1, max_length, missing, names=names)
    return source.checked() if on_error == "nan" else source


def token_source(
    X: Any, vocabulary_size: int, max_length: int | None, on_error: str = "raise"
) -> Source:
    """Sequences of whole numbers below `vocabulary_size`.

    Raises
    ------
    TypeError, ValueError
        X is of another kind; or with ``on_error="raise"`` a token is out of range.
    """
    X = as_array(X)
    check_container(X, "sequences of tokens")
    if column_names(X) is not None:
        X = numbers_of(X) if is_table(X) else only_column(X, "tokens")

    def read(item: Any) -> np.ndarray:
        check_present(item)
        tokens = np.asarray(plain_cell(item))
        if tokens.ndim != 1 or (tokens.dtype.kind not in "iu" and tokens.size):
            raise UnusableError(
                f"must be a 1-D array of integer tokens, got shape {tokens.shape} of "
                f"{tokens.dtype}",
                "Without vocabulary_size, X holds time series",
            )
        if len(tokens) == 0:
            raise UnusableError("is empty (0 tokens)")
        outside = (tokens < 0) | (tokens >= vocabulary_size)
        if outside.any():
            raise UnusableError(
                f"holds the token {tokens[outside.argmax()]}",
                f"Tokens must be at least 0 and below vocabulary_size={vocabulary_size}",
            )
        return tokens.astype(np.int64)[:, None]

    return _token_source(_listed(X), read, max_length, on_error)


def text_source(X: Any, max_length: int | None, on_error: str = "raise") -> Source:
    """Texts as their UTF-8 bytes."""

    def read(item: Any) -> np.ndarray:
        check_present(item)
        if not isinstance(item, str):
            raise UnusableError(
                f"must be a str as others are, got {type(item).__name__}", kind=TypeError
            )
        if not item:
            raise UnusableError("is an empty text")
        try:
            return np.frombuffer(item.encode(), dtype=np.uint8)[:, None]
        except UnicodeEncodeError as error:
            raise UnusableError(f"cannot be written as UTF-8 ({error.reason})") from error

    return _token_source(cells_of(only_column(X, "texts")), read, max_length, on_error)


def _token_source(
    given: list[Any], read: Callable[[Any], np.ndarray], max_length: int | None, on_error: str
) -> Source:
    _check_not_empty(given)
    return Source(*read_each(given, read, on_error), 1, max_length, is_tokens=True)


def is_text(X: Any) -> bool:
    """Whether X holds texts, by its first row that is not missing.

    Raises
    ------
    TypeError
        X is a single text, or has no rows in order.
    """
    if isinstance(X, str | bytes):
        raise TypeError(
            f"X must be a sequence of texts, got the single text {X!r:.60}; pass [text]"
        )
    check_container(X, "series or texts")
    X = _one_column(X)
    is_sequence = hasattr(X, "__iter__") or hasattr(X, "__getitem__")
    return is_sequence and getattr(X, "ndim", 1) > 0 and isinstance(first_cell(X), str)


def is_all_missing(X: Any) -> bool:
    """Whether no row of a column or of a list holds anything."""
    return first_cell(_one_column(X)) is None


def _one_column(X: Any) -> Any:
    """The cells of a table of one column, none of a table of several; else X."""
    columns = columns_of(X)
    if columns is None:
        return X
    return columns[0].cells if len(columns) == 1 else ()


def is_table(X: Any) -> bool:
    """Whether X has rows of numbers, as a 2-D array, a frame or an Arrow table."""
    if isinstance(X, list | tuple | torch.Tensor):
        return False
    if column_names(X) is not None:
        return columns_of_cells(X) is None
    ndim = getattr(X, "ndim", None)
    if ndim is None and hasattr(X, "__array__") and not hasattr(X, "to_pylist"):
        ndim = np.asarray(X).ndim
    return ndim == 2 and columns_of_cells(X) is None


def check_index(X: Any) -> None:
    """Refuse a pandas object whose rows may be the steps of fewer series.

    Raises
    ------
    ValueError
        Its index has several levels.
    """
    n_levels = getattr(getattr(X, "index", None), "nlevels", 1)
    if n_levels < 2:
        return
    if columns_of_cells(X) or (X.ndim == 1 and hasattr(first_cell(X), "__len__")):
        return  # each row holds a whole series
    outer = 0 if n_levels == 2 else list(range(n_levels - 1))
    raise ValueError(
        f"X has {len(X)} rows under an index of {n_levels} levels. If they are the time steps of "
        f"several series, pass [one.droplevel({outer}) for _, one in X.groupby(level={outer}, "
        "sort=False)], with one label for each; if each row is a series, pass "
        "X.reset_index(drop=True)"
    )


def _array(X: np.ndarray, channels: str) -> np.ndarray:
    if X.ndim not in (2, 3):
        raise ValueError(
            f"X must be {_FORMS}, got an array of shape {X.shape}. Reshape your data: a single "
            "series of shape (time,) as X.reshape(1, -1)"
        )
    if X.dtype.kind not in "biuf":
        raise ValueError(f"X must hold real numbers, got an array of dtype {X.dtype}")
    if X.ndim == 2:
        return X[:, :, None]
    return X.transpose(0, 2, 1) if channels == "first" else X


def _names_of(items: list[Any], names: Names | None) -> Names | None:
    """Labels of the channels: `names`, or those of the first series that has any; None if none has.

    Without names of columns there are none.
    """
    found = (_labels_of(item) for item in items)
    first = next((labels for labels in found if labels is not None), None)
    return first if names is None or first is None else names


def _labels_of(item: Any) -> Names | None:
    if isinstance(item, np.ndarray):
        return None
    is_row = isinstance(item, Channels)
    labels = tuple(column.name for column in item.row) if is_row else column_names(item)
    return labels if labels is not None and has_labels(labels) else None


def _in_order(item: Any, names: Names) -> Any:
    """A series whose channels stand in the order of `names`."""
    labels = _labels_of(item)
    if labels is None:
        raise UnusableError(
            "has columns without names, and others have names",
            "Give all series the same names, or pass all as arrays, as in frame.to_numpy()",
        )
    try:
        order = matched(labels, names)
    except ValueError as error:
        raise UnusableError(*error.args) from error
    if order is None:
        return item
    if isinstance(item, Channels):
        return Channels([item.row[number] for number in order])
    return numbers_of(item)[:, order]


def _joined(columns: list[Column]) -> np.ndarray:
    """The cells of a row side by side, (time, channels)."""
    series = []
    for name, cell in columns:
        values = numbers_of(as_array(cell))
        if values.ndim != 1 or values.dtype.kind not in "biuf":
            got = "nothing" if is_missing(cell) else f"{cell!r:.60}"
            raise UnusableError(
                f"must hold a series of real numbers in the column {name!r:.30}, as in the other "
                f"columns, which are its channels; got {got}"
            )
        series.append(values)
    if len({len(values) for values in series}) > 1:
        steps = ", ".join(
            f"{len(values)} in {column.name!r:.30}"
            for column, values in zip(columns[:4], series, strict=False)
        )
        raise UnusableError(
            f"has unequal numbers of time steps in its columns ({steps}), which are the channels "
            "of one series",
            "Cut or fill them, or give each column a transformer of its own in a ColumnTransformer",
        )
    return np.stack(series, axis=1)


def _series(item: Any, channels: str, names: Names | None) -> np.ndarray:
    check_present(item)
    if names is not None:
        item = _in_order(item, names)
    if isinstance(item, Channels):
        return _joined(item.row)
    try:
        series = numbers_of(as_array(plain_cell(item)))
        if series.dtype == object:
            series = series.astype(np.float64)  # None becomes NaN
    except (TypeError, ValueError) as error:
        raise UnusableError(f"must hold real numbers in one array ({error!s:.200})") from error
    if series.dtype.kind not in "biuf":
        raise UnusableError(f"must hold real numbers, got an array of dtype {series.dtype}")
    if series.ndim not in (1, 2):
        raise UnusableError(
            f"has shape {series.shape}, expected 1 or 2 dimensions", f"X must be {_FORMS}"
        )
    if series.ndim == 1:
        return series[:, None]
    return series.T if channels == "first" else series


def as_array(X: Any) -> Any:
    """A tensor as an array, masked values as NaN, nested lists of numbers as the table they are.

    Anything else stays as it is: lists of arrays, and lists of unequal length, are series that may
    have any length.
    """
    if isinstance(X, np.ma.MaskedArray):
        return np.ma.filled(X.astype(np.float64), np.nan)
    if _is_nested_table(X):
        return np.asarray(X)
    if not isinstance(X, torch.Tensor):
        return X
    X = X.detach().cpu()
    return (X.float() if X.dtype == torch.bfloat16 else X).numpy()


def _is_nested_table(X: Any) -> bool:
    if not isinstance(X, list | tuple) or not X or not isinstance(X[0], list | tuple):
        return False
    if not all(isinstance(row, list | tuple) and len(row) == len(X[0]) for row in X):
        return False
    return all(isinstance(value, numbers.Real) for row in X for value in row)


def _listed(X: Any) -> list[Any]:
    try:
        return raw_cells(X)
    except TypeError as error:
        raise TypeError(f"X must be {_FORMS}; got {type(X).__name__}") from error


def _check_not_empty(items: Sequence[Any] | np.ndarray) -> None:
    if len(items) == 0:
        raise ValueError(
            "Found array with 0 sample(s) while a minimum of 1 is required: X is empty"
        )


def _all_present(values: np.ndarray) -> bool:
    """Whether all are numbers that float32 can hold."""
    largest = float(np.abs(values).max())
    return np.isfinite(largest) and largest <= _LARGEST


def _check_range(series: np.ndarray) -> None:
    bad = np.isinf(series) | (np.abs(series) > _LARGEST)
    if bad.any():
        step, channel = np.argwhere(bad)[0]
        value = series[step, channel]
        what = "infinity" if np.isinf(value) else f"{value:.3g}, which float32 cannot hold"
        raise UnusableError(
            f"contains {what} at time step {step}, channel {channel}",
            "Replace it by NaN to have it interpolated",
        )


def _without_missing(series: np.ndarray, missing: str) -> tuple[np.ndarray, np.ndarray]:
    """A series without its padding, gaps interpolated per channel, and the share of gaps."""
    gaps = np.isnan(series)
    present = ~gaps.all(axis=1)
    if present.any():  # steps at the end that no channel has are padding
        end = len(series) - int(present[::-1].argmax())
        series, gaps = series[:end], gaps[:end]
    if gaps.any():
        if missing == "error":
            step, channel = np.argwhere(gaps)[0]
            raise UnusableError(
                f"contains NaN at time step {step}, channel {channel}",
                "Fill it, or set missing='interpolate'",
            )
        series = series.copy()
        steps = np.arange(len(series))
        for channel in np.flatnonzero(gaps.any(axis=0)):
            gap = gaps[:, channel]
            known = series[~gap, channel]
            series[gap, channel] = np.interp(steps[gap], steps[~gap], known) if len(known) else 0.0
    return series, gaps.mean(axis=0)
