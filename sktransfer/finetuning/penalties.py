"""Penalties that keep a tuned network close to its source network, in weights or features."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from skorch.callbacks import Callback
from torch import Tensor

_ANGLE_ROWS = 48
"""Most rows of a batch between which angles are computed: their number grows with the cube."""


class PullToSource(Callback):
    """L2-SP: after each step, pull weights towards their values in the source network.

    The pull is the proximal step of weight / 2 * ||w - w0||^2 at the learning rate of the step,
    which is stable for any weight: an infinite one stays at the source, zero does nothing, and for
    plain gradient descent the fixed point is the optimum of loss plus penalty.
    """

    def __init__(self, source: Mapping[str, Tensor], weight: float) -> None:
        self.source = source
        self.weight = weight

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        """Pull the weights."""
        if not training:
            return
        rates = {
            id(parameter): group["lr"]
            for group in net.optimizer_.param_groups
            for parameter in group["params"]
        }
        with torch.no_grad():
            for name, parameter in net.module_.trained_parameters().items():
                if parameter.grad is None:  # not yet unfrozen
                    continue
                pull = rates[id(parameter)] * self.weight
                # The proximal step is (w + pull * w0) / (1 + pull), whose limit is w0.
                share = 1.0 if math.isinf(self.weight) else pull / (1 + pull)
                parameter.lerp_(self.source[name], share)


def relational_penalty(
    features: Tensor, source: Tensor, *, distance_weight: float = 1.0, angle_weight: float = 2.0
) -> Tensor:
    """Difference of the distances and angles between rows from those in the source network.

    Distances are relative to their mean, angles are between the lines from a row to two others,
    and differences are measured by the Huber loss: equations 5 to 10 of W. Park et al.,
    "Relational knowledge distillation", CVPR 2019, with weights in their ratio. Angles are those
    between the first 48 rows.
    """
    total = features.sum() * 0.0
    if len(features) >= 2:
        gap = torch.nn.functional.smooth_l1_loss(_distances(features), _distances(source))
        total = total + distance_weight * gap
    if len(features) >= 3:
        some, same = features[:_ANGLE_ROWS], source[:_ANGLE_ROWS]
        gap = torch.nn.functional.smooth_l1_loss(_cosines(some), _cosines(same))
        total = total + angle_weight * gap
    return total


def spectral_shrinkage(features: Tensor, *, n_smallest: int = 1) -> Tensor:
    """Sum of the squares of the smallest singular values of a batch's features.

    Small ones are spectral components that do not transfer: equation 4 of X. Chen et al.,
    "Catastrophic forgetting meets negative transfer", NeurIPS 2019.
    """
    # Eigenvalues of the smaller Gram matrix are the squares. Their gradient is finite where that
    # of singular values is not, at zero.
    wide = features.double()
    gram = wide @ wide.T if len(wide) <= wide.shape[1] else wide.T @ wide
    values, vectors = torch.linalg.eigh(gram.detach())
    # The gradient of a sum of eigenvalues needs the span of their vectors only, so that equal
    # ones do no harm: the sum is the trace of the Gram matrix on that span.
    span = vectors[:, : min(n_smallest, len(values))]
    return (span * (gram @ span)).sum().clamp(min=0).to(features.dtype)


def delta_penalty(maps: Tensor, source: Tensor, weights: Tensor) -> Tensor:
    """Weighted squared distance of feature maps from those of the source network.

    Equation 4 of X. Li et al., "DELTA", ICLR 2019, as a mean over the batch. Maps have shape
    (n, channels, positions), and each channel has a weight.
    """
    return ((maps - source).square().sum(2) * weights).sum(1).mean()


def loss_increase(maps: Tensor, gradient: Tensor) -> Tensor:
    """First-order estimate of the loss increase without each channel, (channels,).

    DELTA runs the network once per channel; a Taylor expansion at the channel's values needs one
    backward pass for all of them, which gives the gradient of the loss with respect to the maps.
    """
    return -(maps * gradient).transpose(0, 1).flatten(1).sum(1)


def channel_attention(increase: Tensor) -> Tensor:
    """Weights of channels: the softmax of the loss increases (equation 5 of DELTA)."""
    return increase.softmax(0)


def _distances(rows: Tensor) -> Tensor:
    """Distances between all pairs of different rows, relative to their mean."""
    first, second = torch.triu_indices(len(rows), len(rows), 1, device=rows.device)
    squares = (rows[first] - rows[second]).square().sum(1)
    # The square root has an infinite gradient at zero, where two rows are equal. `where` must
    # replace the zeros before the root: masking its result would still give a gradient of NaN.
    apart = squares > 0
    distances = torch.where(apart, squares, 1.0).sqrt() * apart
    mean = distances.sum() / apart.sum().clamp(min=1)
    return distances / torch.where(mean > 0, mean, 1.0)


def _cosines(rows: Tensor) -> Tensor:
    """Cosines of the angle at each row between any two others; 0 where rows are equal."""
    joins = rows[None] - rows[:, None]
    squares = joins.square().sum(2, keepdim=True)
    apart = squares > 0
    units = joins * apart / torch.where(apart, squares, 1.0).sqrt()
    return units @ units.transpose(1, 2)
