"""X, in any of its accepted forms, as sequences laid end to end.

A window of sequences of unequal length is one array of steps and an array of lengths, so that
what follows works on all of them at once instead of looping over them.
"""

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

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
    """All of X, checked as a whole and read window by window.

    Parameters
    ----------
    items : ndarray of shape (n, time, channels) or list of ndarray of shape (time, channels)
    n_channels : int
    max_length : int or None
        Steps after which sequences are cut off.
    missing : {"interpolate", "error"}, default="interpolate"
        Treatment of NaN in series.
    is_tokens : bool, default=False
        Whether the items hold whole numbers that are not to be computed with.
    """

    items: Any
    n_channels: int
    max_length: int | None
    missing: str = "interpolate"
    is_tokens: bool = False

    def __len__(self) -> int:
        return len(self.items)

    def length(self, index: int) -> int:
        """Steps of a sequence, padding of NaN included."""
        n_steps = len(self.items[index])
        return n_steps if self.max_length is None else min(n_steps, self.max_length)

    def read(self, indices: Sequence[int] | np.ndarray) -> Sequences:
        """The sequences at some rows of X, in that order, cut, interpolated and checked."""
        parts = [self.items[index][: self.max_length] for index in indices]
        lengths = np.array([len(part) for part in parts], dtype=np.int64)
        if self.is_tokens:
            values = np.concatenate(parts).astype(np.int64)
            return Sequences(values, lengths, np.zeros((len(parts), 1)))
        parts = [np.asarray(part, dtype=np.float64) for part in parts]
        values = np.concatenate(parts)
        # One pass tells whether there is anything to look for.
        if np.isfinite(largest := float(np.abs(values).max())) and largest <= _LARGEST:
            return Sequences(values, lengths, np.zeros((len(parts), self.n_channels)))
        for index, part in zip(indices, parts, strict=True):
            _check_range(part, index)
        filled = [
            _without_missing(part, index, self.missing)
            for index, part in zip(indices, parts, strict=True)
        ]
        return Sequences(
            np.concatenate([part for part, _ in filled]),
            np.array([len(part) for part, _ in filled], dtype=np.int64),
            np.stack([share for _, share in filled]),
        )


def series_source(X: Any, *, channels: str, missing: str, max_length: int | None) -> Source:
    """Time series from arrays or a list of arrays.

    Raises
    ------
    TypeError
        X is of another kind.
    ValueError
        X is empty, a series is, or their channels differ.
    """
    if isinstance(X, Mapping):
        raise TypeError(f"X must be {_FORMS}; got a {type(X).__name__}")
    X = as_array(X)
    items: Any
    if isinstance(X, np.ndarray) and X.dtype != object:
        items = _array(X, channels)
    else:
        items = [_series(item, index, channels) for index, item in enumerate(_listed(X))]
    _check_not_empty(items)
    n_channels = items[0].shape[1]
    if n_channels == 0:
        raise ValueError("X has 0 channels (its arrays have a last axis of length 0)")
    for index, item in enumerate(items):
        if item.shape[1] != n_channels:
            raise ValueError(
                f"X[{index}] has {item.shape[1]} channels and X[0] has {n_channels}; all series "
                "need the same, as (channels, time) with channels='first', else (time, channels)"
            )
        if len(item) == 0:
            raise ValueError(f"X[{index}] is empty (0 time steps); leave it out, with its label")
    return Source(items, n_channels, max_length, missing)


def token_source(X: Any, vocabulary_size: int, max_length: int | None) -> Source:
    """Sequences of whole numbers below `vocabulary_size`.

    Raises
    ------
    TypeError, ValueError
        X is of another kind, or a token is out of range.
    """
    X = as_array(X)
    if hasattr(X, "iloc") and _column(X) is X and getattr(X, "ndim", 1) == 2:
        X = X.to_numpy()
    items = []
    for index, item in enumerate(_listed(X)):
        tokens = np.asarray(item)
        if tokens.ndim != 1 or (tokens.dtype.kind not in "iu" and tokens.size):
            raise ValueError(
                f"X[{index}] must be a 1-D array of integer tokens, got shape {tokens.shape} of "
                f"{tokens.dtype}; without vocabulary_size, X holds time series"
            )
        if len(tokens) == 0:
            raise ValueError(f"X[{index}] is empty (0 tokens); leave it out, with its label")
        outside = (tokens < 0) | (tokens >= vocabulary_size)
        if outside.any():
            raise ValueError(
                f"X[{index}] holds the token {tokens[outside.argmax()]}; tokens must be at least 0 "
                f"and below vocabulary_size={vocabulary_size}"
            )
        items.append(tokens.astype(np.int64)[:, None])
    _check_not_empty(items)
    return Source(items, 1, max_length, is_tokens=True)


def text_source(X: Any, max_length: int | None) -> Source:
    """Texts as their UTF-8 bytes."""
    items = []
    for index, item in enumerate(_listed(X)):
        if not isinstance(item, str):
            raise TypeError(f"X[{index}] must be a str as X[0] is, got {type(item).__name__}")
        if not item:
            raise ValueError(f"X[{index}] is an empty text; leave it out, with its label")
        try:
            items.append(np.frombuffer(item.encode(), dtype=np.uint8)[:, None])
        except UnicodeEncodeError as error:
            raise ValueError(f"X[{index}] cannot be written as UTF-8 ({error})") from error
    _check_not_empty(items)
    return Source(items, 1, max_length, is_tokens=True)


def is_text(X: Any) -> bool:
    """Whether X holds texts, by its first item.

    Raises
    ------
    TypeError
        X is a single text.
    """
    if isinstance(X, str | bytes):
        raise TypeError(f"X must be a sequence of texts, got the single text {X!r}; pass [text]")
    if is_table(X):
        return False
    X = _column(X)
    try:
        return len(X) > 0 and isinstance(next(iter(X)), str)
    except TypeError:
        return False


def is_table(X: Any) -> bool:
    """Whether X has rows of numbers, as a 2-D array or a DataFrame."""
    if isinstance(X, list | tuple | torch.Tensor):
        return False
    ndim = getattr(X, "ndim", None)
    if ndim is None and (hasattr(X, "__array__") or hasattr(X, "__dataframe__")):
        ndim = np.asarray(X).ndim
    return ndim == 2 and _column(X) is X


def _column(X: Any) -> Any:
    """The column of a DataFrame that has just one, of arrays or texts; anything else as it is."""
    if getattr(X, "ndim", 1) == 2 and hasattr(X, "iloc") and X.shape[1] == 1:
        column = X.iloc[:, 0]
        if len(column) and isinstance(column.iloc[0], str | np.ndarray | list | tuple):
            return column
    return X


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


def _series(item: Any, index: int, channels: str) -> np.ndarray:
    try:
        series = np.asarray(as_array(item))
        if series.dtype == object:
            series = series.astype(np.float64)  # None becomes NaN
    except (TypeError, ValueError) as error:
        raise ValueError(f"X[{index}] must hold real numbers in one array ({error})") from error
    if series.dtype.kind not in "biuf":
        raise ValueError(f"X[{index}] must hold real numbers, got an array of dtype {series.dtype}")
    if series.ndim not in (1, 2):
        raise ValueError(
            f"X must be {_FORMS}; X[{index}] has shape {series.shape}, expected 1 or 2 dimensions"
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
        return list(_column(X))
    except TypeError as error:
        raise TypeError(f"X must be {_FORMS}; got {type(X).__name__}") from error


def _check_not_empty(items: Sequence[Any]) -> None:
    if len(items) == 0:
        raise ValueError(
            "Found array with 0 sample(s) while a minimum of 1 is required: X is empty"
        )


def _check_range(series: np.ndarray, index: int) -> None:
    bad = np.isinf(series) | (np.abs(series) > _LARGEST)
    if bad.any():
        step, channel = np.argwhere(bad)[0]
        value = series[step, channel]
        what = "infinity" if np.isinf(value) else f"{value:.3g}, which float32 cannot hold"
        raise ValueError(
            f"Input X contains {what}: X[{index}], time step {step}, channel {channel}. Replace "
            "it by NaN to have it interpolated"
        )


def _without_missing(series: np.ndarray, index: int, missing: str) -> tuple[np.ndarray, np.ndarray]:
    """A series without its padding, gaps interpolated per channel, and the share of gaps."""
    gaps = np.isnan(series)
    present = ~gaps.all(axis=1)
    if present.any():  # steps at the end that no channel has are padding
        end = len(series) - int(present[::-1].argmax())
        series, gaps = series[:end], gaps[:end]
    if gaps.any():
        if missing == "error":
            step, channel = np.argwhere(gaps)[0]
            raise ValueError(
                f"Input X contains NaN: X[{index}], time step {step}, channel {channel}. Fill it, "
                "or set missing='interpolate'"
            )
        series = series.copy()
        steps = np.arange(len(series))
        for channel in np.flatnonzero(gaps.any(axis=0)):
            gap = gaps[:, channel]
            known = series[~gap, channel]
            series[gap, channel] = np.interp(steps[gap], steps[~gap], known) if len(known) else 0.0
    return series, gaps.mean(axis=0)
