"""Random changes of time series, for training and for several views in a prediction.

Series change before their views are made: differences, normalised values and statistics of a
changed series fit together, as those of a new series do.
"""

import copy
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sktransfer.finetuning.strategy import FineTune
from sktransfer.networks.seeding import everything_seeded
from sktransfer.sequences.source import LARGEST, Sequences

Change = Callable[[np.ndarray], np.ndarray]
"""A function of one series (length, channels), float64, to another one of as many channels."""


@dataclass(frozen=True)
class RandomSeries:
    """A random window, stretched to the length of the series, rescaled and with noise.

    Steps are interpolated linearly, so that the length, which is a feature, stays as it is.

    Parameters
    ----------
    window : float
        Least share of the steps in the window (window slicing [1]_).
    scaling : float
        Standard deviation of the factor, of mean 1, of each channel's distances from its mean
        (scaling [2]_).
    jitter : float
        Standard deviation of the noise, relative to that of the channel (jittering [2]_).
    warp : float, default=0
        Share of the steps that pass at twice or half the speed (window warping [1]_).

    References
    ----------
    .. [1] A. Le Guennec, S. Malinowski and R. Tavenard, "Data augmentation for time series
       classification using convolutional neural networks", ECML/PKDD workshop on advanced
       analytics and learning on temporal data, 2016, section 4.
    .. [2] T. T. Um et al., "Data augmentation of wearable sensor data for Parkinson's disease
       monitoring using convolutional neural networks", ICMI 2017, section 3.2.
    """

    window: float
    scaling: float
    jitter: float
    warp: float = 0.0

    def __call__(self, series: np.ndarray) -> np.ndarray:
        """Another series of the same shape, drawn by torch's generator."""
        # Which is the one that is seeded and restored while a network is trained.
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        positions = self._positions(len(series), rng)
        steps = np.arange(len(series))
        changed = np.stack([np.interp(positions, steps, channel) for channel in series.T], axis=1)
        mean, std = series.mean(axis=0), series.std(axis=0)
        factor = 1 + self.scaling * rng.standard_normal(len(mean))
        noise = self.jitter * rng.standard_normal(series.shape)
        return mean + factor * (changed - mean) + noise * std

    def _positions(self, length: int, rng: np.random.Generator) -> np.ndarray:
        """Steps of the series, not whole ones, at which those of the other are read."""
        speed = np.ones(length - 1)
        if self.warp and length > 1:
            n_warped = max(1, round(self.warp * len(speed)))
            first = rng.integers(len(speed) - n_warped + 1)
            speed[first : first + n_warped] = rng.choice([0.5, 2.0])
        passed = np.concatenate([[0.0], np.cumsum(speed)])
        share = rng.uniform(self.window, 1)
        start = rng.uniform(0, 1 - share)
        return (length - 1) * (start + share * passed / max(passed[-1], 1.0))


STRENGTHS = {
    "light": RandomSeries(window=0.9, scaling=0.1, jitter=0.03),
    "strong": RandomSeries(window=0.7, scaling=0.2, jitter=0.1, warp=0.1),
}


def series_change(strategy: FineTune) -> Change | None:
    """The change that a strategy asks for.

    Of a callable a copy, as it may keep a state.

    Raises
    ------
    ValueError
        `augment_input` asks for images.
    """
    if strategy.augment is None or isinstance(strategy.augment, str):
        return None if strategy.augment is None else STRENGTHS[strategy.augment]
    if strategy.augment_input not in ("auto", "array"):
        raise ValueError(
            f"augment_input={strategy.augment_input!r} is for images, and X holds series, of which "
            "augment gets arrays (length, channels); set it to 'array'"
        )
    return copy.deepcopy(strategy.augment)


def check_changeable(is_tokens: bool) -> None:
    """Refuse to change tokens.

    Raises
    ------
    ValueError
        They are tokens, or the bytes of texts.
    """
    if is_tokens:
        raise ValueError(
            "augment changes images and series of numbers, and X holds tokens or texts; set "
            "augment=None, and test_time_augmentation=None"
        )


def changed(sequences: Sequences, change: Change, seed: int | None = None) -> Sequences:
    """Each of some series after a change.

    Parameters
    ----------
    sequences : Sequences
    change : callable
    seed : int or None, default=None
        Seeds each series by this and by its content, whatever series are before it; None draws
        from generators as they are.

    Raises
    ------
    ValueError
        The change returns something else than a series of as many channels.
    """
    check_changeable(sequences.is_tokens)
    parts = []
    for index in range(len(sequences)):
        # A channel that is missing throughout is zeros, and stays so.
        present = sequences.missing[index] < 1
        series = sequences.one(index)
        if seed is None:
            part = _checked(change(series.copy()), series)
        else:
            with everything_seeded((seed + zlib.crc32(series.tobytes())) % 2**31):
                part = _checked(change(series.copy()), series)
        parts.append(part * present)
    lengths = np.array([len(part) for part in parts], dtype=np.int64)
    return Sequences(np.concatenate(parts), lengths, sequences.missing)


def _checked(result: Any, series: np.ndarray) -> np.ndarray:
    """What a change has returned as a series."""
    n_channels = series.shape[1]
    rule = (
        f"augment gets an array (length, channels) of shape {series.shape} and must return one of "
        f"{n_channels} channel{'s' if n_channels > 1 else ''} and any length but 0"
    )
    if not isinstance(result, np.ndarray) or result.dtype.kind not in "biuf":
        got = result.dtype if isinstance(result, np.ndarray) else type(result).__name__
        raise ValueError(f"{rule}, of real numbers, got {got}")
    if result.ndim == 1 and n_channels == 1:
        result = result[:, None]
    if result.ndim != 2 or result.shape[1] != n_channels or len(result) == 0:
        raise ValueError(f"{rule}, got shape {result.shape}")
    result = result.astype(np.float64)
    if not np.abs(result).max() <= LARGEST:
        raise ValueError(f"{rule}, without NaN or infinity, got {result[~np.isfinite(result)][:1]}")
    return result
