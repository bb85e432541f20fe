"""Views of a series: the forms in which a univariate network reads it.

A network that has learned shapes needs its input on a known scale. Each view scales a series in
another way, and the views together carry more information than any of them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from sktransfer.sequences.source import Sequences

KINDS = ("z", "g", "d", "dg", "raw")

COARSE = (4, 16, 64)
"""Steps that are averaged to one in the coarse views of long series."""

_ENOUGH_STEPS = 32
"""Steps that a coarse view must have to tell anything about a shape."""

_CLIP = 10.0
"""Standard deviations at which values on the scale of the training data are cut off."""

_ROUNDING = 64 * np.finfo(np.float64).eps
"""A standard deviation below this share of the largest value is rounding error."""

_FAR = 1e6
"""Standard deviations of the training data that a mean may be away."""

_SMALLEST_STD = 1e-3
"""In the logarithm of a series' standard deviation relative to that of the data."""


@dataclass(frozen=True)
class Scale:
    """Location and scale of the training data, per channel.

    Parameters
    ----------
    mean, std : ndarray of shape (channels,)
        Mean and standard deviation of all steps of all series.
    difference_std : ndarray of shape (channels,)
        Standard deviation of the differences between neighbouring steps.
    """

    mean: np.ndarray
    std: np.ndarray
    difference_std: np.ndarray

    @classmethod
    def of(cls, sequences: Sequences) -> Self:
        """Learn it, but for series that are missing. A channel that never changes has scale 1."""
        present = np.flatnonzero((sequences.missing < 1).all(axis=1))
        if 0 < len(present) < len(sequences):
            sequences = sequences.take(present)
        values, differences = sequences.values, _differences(sequences).values
        largest = np.abs(values).max(axis=0)
        return cls(
            values.mean(axis=0), _spread_of(values, largest), _spread_of(differences, largest)
        )


class View(NamedTuple):
    """A kind of view, and the number of steps that are averaged to one before."""

    kind: str
    factor: int = 1

    def __str__(self) -> str:
        return self.kind + (str(self.factor) if self.factor > 1 else "")

    @classmethod
    def named(cls, name: str) -> "View | None":
        """The view of a name such as "z" or "dg16"; None if there is none."""
        match = re.fullmatch(rf"({'|'.join(KINDS)})([1-9]\d*)?", name)
        return cls(match[1], int(match[2] or 1)) if match else None


def usual_views(lengths: Sequence[int] | np.ndarray) -> tuple[View, ...]:
    """All but "raw", and for series that are long enough the same of coarser steps.

    A recurrent network remembers some dozens of steps; what a series does over hundreds it sees
    when each of its steps stands for several.
    """
    typical = float(np.median(lengths))
    factors = [1, *(factor for factor in COARSE if typical >= factor * _ENOUGH_STEPS)]
    return tuple(View(kind, factor) for factor in factors for kind in KINDS if kind != "raw")


def learn_scales(sequences: Sequences, views: Sequence[View]) -> dict[int, Scale]:
    """The scale of the training data at 1 step and at each coarseness of the views.

    Tokens have none; theirs is 0 and 1.
    """
    if sequences.is_tokens:
        return {1: Scale(np.zeros(1), np.ones(1), np.ones(1))}
    factors = {1, *(view.factor for view in views)}
    return {factor: Scale.of(_averaged(sequences, factor)) for factor in sorted(factors)}


def show(sequences: Sequences, view: View, scales: dict[int, Scale]) -> Sequences:
    """One view of some series.

    Parameters
    ----------
    sequences : Sequences
    view : View
        "z": each series and channel normalised to mean 0 and standard deviation 1. "g": on
        the scale of the training data, cut off at 10 standard deviations. "d": differences
        between neighbouring steps, normalised as in "z"; "dg": on the scale of the training
        data's differences. "raw": the values.
    scales : dict of int to Scale
        Scales of the training data, by coarseness.
    """
    kind, factor = view
    sequences, scale = _averaged(sequences, factor), scales[factor]
    if kind == "raw":
        return sequences
    if kind in ("z", "d"):
        # Against the values, since differences of a ramp are equal but for rounding.
        largest = np.maximum.reduceat(np.abs(sequences.values), sequences.starts, axis=0)
        return _normalised(sequences if kind == "z" else _differences(sequences), largest)
    if kind == "g":
        values = (sequences.values - scale.mean) / scale.std
    else:
        sequences = _differences(sequences)
        values = sequences.values / scale.difference_std
    values = np.clip(values, -_CLIP, _CLIP)
    if (sequences.missing == 1).any():
        values = values * _spread(sequences.missing < 1, sequences)
    return _with_values(sequences, values)


def statistics(sequences: Sequences, scale: Scale) -> np.ndarray:
    """Level, scale and length of each series, which the normalised views lose.

    Returns
    -------
    ndarray of shape (n, 3 * channels + 1), float64
        Mean and log standard deviation of each channel, on the scale of the training data;
        share of interpolated steps of each channel; logarithm of the length.
    """
    mean = _means(sequences)
    level = (mean - scale.mean) / scale.std
    std = np.sqrt(
        _means(_with_values(sequences, (sequences.values - _spread(mean, sequences)) ** 2))
    )
    return np.concatenate(
        [
            np.where(sequences.missing < 1, np.clip(level, -_FAR, _FAR), 0.0),
            np.log(std / scale.std + _SMALLEST_STD),
            sequences.missing,
            np.log(sequences.lengths)[:, None],
        ],
        axis=1,
    )


def statistics_names(n_channels: int) -> list[str]:
    """Names of the columns of `statistics`."""
    return [
        *(f"c{c}_{what}" for what in ("mean", "logstd", "missing") for c in range(n_channels)),
        "loglength",
    ]


def _spread_of(values: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Standard deviation of all rows; 1 for what does not vary."""
    std = values.std(axis=0)
    return np.where(std > _ROUNDING * largest, std, 1.0)


def _averaged(sequences: Sequences, factor: int) -> Sequences:
    """Each `factor` steps averaged to one, and what is left at the end to one more."""
    if factor == 1:
        return sequences
    within = np.arange(len(sequences.values)) - _spread(sequences.starts, sequences)
    starts = np.flatnonzero(within % factor == 0)
    sizes = np.diff(starts, append=len(within))
    values = np.add.reduceat(sequences.values, starts, axis=0) / sizes[:, None]
    return Sequences(values, -(-sequences.lengths // factor), sequences.missing)


def _differences(sequences: Sequences) -> Sequences:
    """Differences between neighbouring steps; a single 0 for a series of one step."""
    values = np.diff(sequences.values, axis=0, append=sequences.values[-1:])
    ends = sequences.starts + sequences.lengths - 1
    values[ends] = 0.0  # where the next series begins
    keep = np.ones(len(values), dtype=bool)
    keep[ends[sequences.lengths > 1]] = False
    lengths = np.maximum(sequences.lengths - 1, 1)
    return Sequences(values[keep], lengths, sequences.missing)


def _normalised(sequences: Sequences, largest: np.ndarray) -> Sequences:
    """Mean 0 and standard deviation 1 per series and channel; 0 where nothing changes."""
    # In units of the largest value, whose square neither overflows nor vanishes.
    values = sequences.values / _spread(np.where(largest > 0, largest, 1.0), sequences)
    values = values - _spread(_means(_with_values(sequences, values)), sequences)
    std = np.sqrt(_means(_with_values(sequences, values**2)))
    varies = std > _ROUNDING
    factor = np.where(varies, 1.0 / np.where(varies, std, 1.0), 0.0)
    return _with_values(sequences, values * _spread(factor, sequences))


def _means(sequences: Sequences) -> np.ndarray:
    sums = np.add.reduceat(sequences.values, sequences.starts, axis=0)
    return sums / sequences.lengths[:, None]


def _spread(of_series: np.ndarray, sequences: Sequences) -> np.ndarray:
    """A number per series, repeated for each of its steps."""
    return np.repeat(of_series, sequences.lengths, axis=0)


def _with_values(sequences: Sequences, values: np.ndarray) -> Sequences:
    return Sequences(values, sequences.lengths, sequences.missing)
