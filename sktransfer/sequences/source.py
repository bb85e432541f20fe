"""Sequences laid end to end, and the usable ones of X, read window by window.

A window of sequences of unequal length is one array of steps and an array of lengths, so that
what follows works on all of them at once instead of looping over them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from sktransfer._columns import Names
from sktransfer.sequences.failures import FailedSequence, UnusableError, read_each

LARGEST = 1e37
"""Beyond it float32, in which networks compute, has no numbers."""

_WINDOW_STEPS = 2_000_000
"""Steps that are held, and shown to the network, at once."""


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
    def n_rows(self) -> int:
        """Rows of X, usable or not."""
        return len(self.items) + len(self.failed)

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

    def windows(self, n_views: int) -> Iterator[tuple[int, Sequences]]:
        """All sequences in order, some at a time, each time with the number of the first.

        Parameters
        ----------
        n_views : int
            How often each step is going to be held.
        """
        start = 0
        while start < len(self):
            stop, n_steps = start, 0
            while stop < len(self) and (stop == start or n_steps < _WINDOW_STEPS):
                n_steps += self.length(stop) * self.n_channels * n_views
                stop += 1
            yield start, self.read(range(start, stop))
            start = stop

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


def _all_present(values: np.ndarray) -> bool:
    """Whether all are numbers that float32 can hold."""
    largest = float(np.abs(values).max())
    return np.isfinite(largest) and largest <= LARGEST


def _check_range(series: np.ndarray) -> None:
    bad = np.isinf(series) | (np.abs(series) > LARGEST)
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
