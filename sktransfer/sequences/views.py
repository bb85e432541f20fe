"""Views of a series: what a univariate network is shown of it.

A network that has learned shapes wants its input on a known scale. Each view answers in its
own way which scale that is, and the views together say more than any of them.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from sktransfer.sequences.reading import Sequences

VIEWS = ("z", "g", "d", "dg", "raw")

_CLIP = 10.0
"""Standard deviations at which values on the scale of the training data are cut off."""

_ROUNDING = 64 * np.finfo(np.float64).eps
"""A standard deviation below this share of the largest value is rounding error."""

_SMALLEST_STD = 1e-3
"""In the logarithm of a series' standard deviation relative to that of the data."""


@dataclass(frozen=True)
class Scale:
    """Location and scale of the training data, per channel.

    Parameters
    ----------
    mean, std : ndarray of shape (channels,)
        Of all steps of all series.
    difference_std : ndarray of shape (channels,)
        Of the differences between neighbouring steps.
    """

    mean: np.ndarray
    std: np.ndarray
    difference_std: np.ndarray

    @classmethod
    def of(cls, windows: list[Sequences]) -> Self:
        """Learn it. A channel that never changes has scale 1."""
        values = [window.values for window in windows]
        differences = [_differences(window).values for window in windows]
        mean, std = _moments(values)
        return cls(mean, std, _moments(differences)[1])


def show(sequences: Sequences, view: str, scale: Scale) -> Sequences:
    """One view of some series.

    Parameters
    ----------
    sequences : Sequences
    view : {"z", "g", "d", "dg", "raw"}
        "z": each series and channel normalised to mean 0 and standard deviation 1. "g": on
        the scale of the training data, cut off at 10 standard deviations. "d": differences
        between neighbouring steps, normalised as in "z"; "dg": on the scale of the training
        data's differences. "raw": the values.
    scale : Scale
        Of the training data.
    """
    if view == "raw":
        return sequences
    if view == "g":
        values = (sequences.values - scale.mean) / scale.std
        return _with_values(sequences, np.clip(values, -_CLIP, _CLIP))
    if view == "z":
        return _normalised(sequences)
    differences = _differences(sequences)
    if view == "d":
        return _normalised(differences)
    values = differences.values / scale.difference_std
    return _with_values(differences, np.clip(values, -_CLIP, _CLIP))


def statistics(sequences: Sequences, scale: Scale) -> np.ndarray:
    """What the normalised views lose.

    Returns
    -------
    ndarray of shape (n, 3 * channels + 1), float64
        Mean and log standard deviation of each channel, on the scale of the training data;
        share of interpolated steps of each channel; logarithm of the length.
    """
    mean = _means(sequences)
    std = np.sqrt(
        _means(_with_values(sequences, (sequences.values - _spread(mean, sequences)) ** 2))
    )
    return np.concatenate(
        [
            (mean - scale.mean) / scale.std,
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


def _moments(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the rows of all parts, in two passes."""
    n = sum(map(len, parts))
    mean = sum(part.sum(axis=0) for part in parts) / n
    variance = sum(((part - mean) ** 2).sum(axis=0) for part in parts) / n
    std = np.sqrt(variance)
    largest = np.max([np.abs(part).max(axis=0) for part in parts], axis=0)
    return mean, np.where(std > _ROUNDING * largest, std, 1.0)


def _differences(sequences: Sequences) -> Sequences:
    """Differences between neighbouring steps; a single 0 for a series of one step."""
    values = np.diff(sequences.values, axis=0, append=sequences.values[-1:])
    ends = sequences.starts + sequences.lengths - 1
    values[ends] = 0.0  # where the next series begins
    keep = np.ones(len(values), dtype=bool)
    keep[ends[sequences.lengths > 1]] = False
    lengths = np.maximum(sequences.lengths - 1, 1)
    return Sequences(values[keep], lengths, sequences.missing)


def _normalised(sequences: Sequences) -> Sequences:
    """Mean 0 and standard deviation 1 per series and channel; 0 where nothing changes."""
    values = sequences.values
    largest = np.maximum.reduceat(np.abs(values), sequences.starts, axis=0)
    values = values - _spread(_means(sequences), sequences)
    std = np.sqrt(_means(_with_values(sequences, values**2)))
    varies = std > _ROUNDING * largest
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
