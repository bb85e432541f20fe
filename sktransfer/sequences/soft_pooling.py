"""The poolings of states once more, such that gradients flow through them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sktransfer.sequences.pooling import final_states

_SOFTNESS = 0.1
"""Width, in units of a state, of the sigmoid whose slope stands for that of a threshold."""


def soft_pool(
    states: Tensor,
    lengths: Tensor,
    poolings: Sequence[str],
    *,
    thresholds: Tensor | None = None,
    scores: Tensor | None = None,
    backward: Tensor | None = None,
) -> list[Tensor]:
    """`sktransfer.sequences.pooling.pool`, differentiable.

    The share of steps above a threshold, which has no slope, gets that of a sigmoid: a
    straight-through estimate as in Y. Bengio, N. Leonard and A. Courville, "Estimating or
    propagating gradients through stochastic neurons for conditional computation", 2013.
    """
    inside = torch.arange(len(states), device=states.device)[:, None] < lengths
    within = inside[:, :, None]
    steps = lengths.to(states.dtype)[:, None]
    mean = states.masked_fill(~within, 0.0).sum(0) / steps
    pooled = []
    for pooling in poolings:
        if pooling == "last":
            pooled.append(final_states(states, lengths, backward))
        elif pooling == "mean":
            pooled.append(mean)
        elif pooling == "max":
            pooled.append(states.masked_fill(~within, -torch.inf).amax(0))
        elif pooling == "min":
            pooled.append(states.masked_fill(~within, torch.inf).amin(0))
        elif pooling == "std":
            variance = (states - mean).square().masked_fill(~within, 0.0).sum(0) / steps
            varies = variance > 0  # the root has no slope at zero
            pooled.append(torch.where(varies, variance, 1.0).sqrt() * varies)
        elif pooling == "ppv":
            assert thresholds is not None
            pooled += [_share_above(states, t, within, steps) for t in thresholds]
        else:
            assert scores is not None
            weights = scores.masked_fill(~inside, -torch.inf).softmax(0)
            pooled.append((states.masked_fill(~within, 0.0) * weights[..., None]).sum(0))
    return pooled


def _share_above(states: Tensor, threshold: Tensor, within: Tensor, steps: Tensor) -> Tensor:
    soft = torch.sigmoid((states - threshold) / _SOFTNESS)
    hard = (states > threshold).to(states.dtype)
    return (soft + (hard - soft).detach()).masked_fill(~within, 0.0).sum(0) / steps
