"""Hidden states over time to one vector, for rows of unequal length.

States are time-major, (time, rows, units), as recurrent networks compute them.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

POOLINGS = ("last", "mean", "max", "min", "std", "ppv", "attention")

_LARGEST_PART = 255
_CACHED_NUMBERS = 262144
"""Numbers, 1 MB, that a core's cache about holds."""

_NEARBY = 32
"""A threshold may be off its quantile by one part in so many."""
_TIE = 1e-4
"""Distance from states that do not vary, far above rounding."""

_GOLDEN = (math.sqrt(5) - 1) / 2


def pool(
    states: Tensor,
    lengths: Tensor,
    poolings: Sequence[str],
    *,
    thresholds: Tensor | None = None,
    scores: Tensor | None = None,
    backward: Tensor | None = None,
) -> list[Tensor]:
    """Pool the states of each row over its steps, without padding.

    Parameters
    ----------
    states : Tensor of shape (time, rows, units), float32
    lengths : Tensor of shape (rows,), int64
        Steps of each row; later ones are padding.
    poolings : sequence of str
        "last": the final state, see `final_states`. "mean", "max", "min", "std" (of the
        population): per unit. "ppv": per unit and threshold, the share of steps above it [1]_.
        "attention": the mean weighted by the softmax of `scores`.
    thresholds : Tensor of shape (n_thresholds, rows, units), optional
        Thresholds for "ppv".
    scores : Tensor of shape (time, rows), optional
        Attention scores for "attention".
    backward : Tensor of shape (units,), bool, optional
        Units that read from the end, for "last".

    Returns
    -------
    list of Tensor of shape (rows, units); for "ppv" (rows, n_thresholds * units)

    References
    ----------
    .. [1] A. Dempster, F. Petitjean and G. I. Webb, "ROCKET: exceptionally fast and accurate time
       series classification using random convolutional kernels", Data Mining and Knowledge
       Discovery 34, 2020: proportion of positive values.
    """
    asked = set(poolings)
    steps = lengths.to(states.dtype)[:, None]
    parts = _parts(states, lengths)
    sums = _Sums(states, thresholds if "ppv" in asked else None)
    for part, outside in parts:
        sums.add(part, outside, asked)
    pooled = []
    for pooling in poolings:
        if pooling == "last":
            pooled.append(final_states(states, lengths, backward))
        elif pooling == "mean":
            pooled.append(sums.total / steps)
        elif pooling == "max":
            pooled.append(sums.high)
        elif pooling == "min":
            pooled.append(sums.low)
        elif pooling == "std":
            pooled.append((_squares(parts, sums.total / steps) / steps).sqrt())
        elif pooling == "ppv":
            pooled += [count / steps for count in sums.counts]
        else:
            assert scores is not None
            inside = torch.arange(len(states), device=states.device)[:, None] < lengths
            weights = scores.masked_fill(~inside, -torch.inf).softmax(0)
            pooled.append(
                (states.masked_fill(~inside[:, :, None], 0.0) * weights[..., None]).sum(0)
            )
    return pooled


def final_states(states: Tensor, lengths: Tensor, backward: Tensor | None) -> Tensor:
    """The state of each unit that has seen the whole row, (rows, units).

    That is the state at the last step, but for units that read from the end, which have seen but
    one step there, the state at the first.
    """
    last = states[lengths - 1, torch.arange(states.shape[1], device=states.device)]
    return last if backward is None else torch.where(backward, states[0], last)


_Part = tuple[Tensor, Tensor | None]
"""Some steps of all rows, and where they are padding; None if nowhere."""


def _parts(states: Tensor, lengths: Tensor) -> list[_Part]:
    """Cut states into pieces that stay in a CPU's cache while all is read off them.

    Rows of one batch have about the same length, so that only the last pieces hold padding.
    """
    size = max(8, min(_LARGEST_PART, _CACHED_NUMBERS // max(1, states[0].numel())))
    shortest = int(lengths.min())
    cuts = [*range(0, shortest, size), *range(shortest, len(states), size), len(states)]
    parts: list[_Part] = []
    for start, stop in pairwise(cuts):
        outside = None
        if stop > shortest:
            outside = torch.arange(start, stop, device=states.device)[:, None] >= lengths
            outside = outside[:, :, None]
        parts.append((states[start:stop], outside))
    return parts


class _Sums:
    """Sums, extremes and counts of each row and unit, from a single pass over the steps."""

    def __init__(self, states: Tensor, thresholds: Tensor | None) -> None:
        self.total = torch.zeros_like(states[0])
        self.high = torch.full_like(states[0], -torch.inf)
        self.low = torch.full_like(states[0], torch.inf)
        self.thresholds = [] if thresholds is None else list(thresholds)
        self.counts = [torch.zeros_like(states[0]) for _ in self.thresholds]

    def add(self, part: Tensor, outside: Tensor | None, asked: set[str]) -> None:
        """Go over some more steps."""
        if asked & {"mean", "std"}:
            self.total += (part if outside is None else part.masked_fill(outside, 0.0)).sum(0)
        if asked & {"min"}:
            high = part if outside is None else part.masked_fill(outside, torch.inf)
            self.low = torch.minimum(self.low, high.amin(0))
        if asked & {"max", "ppv"}:
            low = part if outside is None else part.masked_fill(outside, -torch.inf)
            if "max" in asked:
                self.high = torch.maximum(self.high, low.amax(0))
            for threshold, count in zip(self.thresholds, self.counts, strict=True):
                count += _count_above(low, threshold)


def _count_above(part: Tensor, threshold: Tensor) -> Tensor:
    """Number of steps, at most 255, above a threshold."""
    # Sums of bytes run several times faster than sums of booleans, and on a CPU NumPy's twice as
    # fast as torch's.
    if part.device.type == "cpu":
        above = np.greater(part.numpy(), threshold.numpy()).view(np.uint8)
        return torch.from_numpy(np.add.reduce(above, axis=0, dtype=np.uint8))
    return (part > threshold).view(torch.uint8).sum(0, dtype=torch.uint8)


def _squares(parts: list[_Part], mean: Tensor) -> Tensor:
    """Sum of squared distances from the mean, in a second pass so that nothing cancels out."""
    total = torch.zeros_like(mean)
    for part, outside in parts:
        centred = part - mean
        if outside is not None:
            centred = centred.masked_fill(outside, 0.0)
        total += centred.square_().sum(0)  # in place: another piece of memory costs more
    return total


def quantile_thresholds(states: Tensor, n_thresholds: int) -> Tensor:
    """Thresholds for "ppv", (n_thresholds, units): quantiles of each unit's states, (n, units).

    The quantiles follow the golden ratio's low-discrepancy sequence over thresholds and units,
    so that all levels occur, as the biases of MiniRocket do (A. Dempster, D. F. Schmidt and G. I.
    Webb, KDD 2021).
    """
    n_steps, n_units = states.shape
    levels = (np.arange(1, n_thresholds * n_units + 1) * _GOLDEN) % 1.0
    ranks = (levels.reshape(n_thresholds, n_units) * (n_steps - 1)).astype(np.int64)
    ordered = states.sort(0).values
    # A state that is a threshold itself would be above or below it by rounding alone, and
    # periodic series have many equal states: cut in the widest gap among the ranks nearby.
    n_near = max(1, n_steps // _NEARBY)
    reach = torch.arange(n_near, device=states.device) - n_near // 2
    thresholds = []
    for rank in torch.from_numpy(ranks).to(states.device):
        below = (rank + reach[:, None]).clamp(0, max(0, n_steps - 2))
        low, high = ordered.gather(0, below), ordered.gather(0, (below + 1).clamp(max=n_steps - 1))
        widest = (high - low).argmax(0, keepdim=True)
        low, high = low.gather(0, widest)[0], high.gather(0, widest)[0]
        thresholds.append(torch.where(high - low > _TIE, (low + high) / 2, high + _TIE))
    return torch.stack(thresholds)
