"""X, in any of its accepted forms, as a source of sequences."""

import numbers
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from sktransfer._columns import (
    Column,
    Names,
    cells_of,
    check_container,
    check_single,
    column_names,
    columns_of,
    columns_of_cells,
    first_cell,
    matched,
    numbers_of,
    only_column,
    plain_cell,
    raw_cells,
)
from sktransfer.sequences.channels import Channels, in_order, joined, names_of
from sktransfer.sequences.failures import UnusableError, check_present, read_each
from sktransfer.sequences.source import Source

_FORMS = (
    "an array of shape (n, time) or (n, time, channels), or a list of arrays of shape (time,) "
    "or (time, channels)"
)


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
    if columns is not None:
        return _series_in(columns)
    return numbers_of(X) if is_table(X) else _listed(X)


def named_series(X: Any, expected: Names | None = None) -> tuple[Any, Names | None]:
    """The series in a table as a list, and the names of its columns; X and None if it has none.

    Parameters
    ----------
    X : Any
    expected : tuple or None, default=None
        Names that the columns are to have, in any order.

    Raises
    ------
    ValueError
        They have other names, which is a fault of the table and of no row; or the index of X says
        that its rows may be no series.
    """
    X = as_array(X)
    check_index(X)
    columns = columns_of_cells(X)
    if columns is None:
        return X, None
    names = None if column_names(X) is None else tuple(column.name for column in columns)
    if names is not None and expected is not None:
        try:
            matched(names, expected)
        except ValueError as error:
            raise ValueError("X " + ". ".join(error.args)) from error
    return _series_in(columns), names


def _series_in(columns: list[Column]) -> list[Any]:
    """The series in the rows of a table, whose columns are their channels."""
    if len(columns) == 1:
        return raw_cells(columns[0].cells)
    cells = [cells_of(column.cells) for column in columns]
    if any(isinstance(cell, str) for cell in cells[0][:1]):
        check_single(columns, "texts")
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
        if n_channels not in (None, given.shape[2]):  # which is no fault of a row
            raise ValueError(
                f"X has {given.shape[2]} channels, and {n_channels} are expected; see channels="
                f"{channels!r}"
            )
    elif channels == "last" or any(isinstance(item, Channels) for item in given[:1]):
        names = names_of(given, names)
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
        if np.ma.is_masked(item):
            raise UnusableError(
                "has masked tokens", "Fill them, as with filled(0), or leave it out"
            )
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


def _series(item: Any, channels: str, names: Names | None) -> np.ndarray:
    check_present(item)
    if names is not None:
        item = in_order(item, names)
    if isinstance(item, Channels):
        return joined([Column(name, as_array(cell)) for name, cell in item.row])
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
