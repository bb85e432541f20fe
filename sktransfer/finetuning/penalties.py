"""What keeps the features of a network that is being tuned close to those of its source."""

import torch
from torch import Tensor

_ANGLE_ROWS = 48
"""Rows of a batch that angles are taken of: their number grows with the cube."""


def relational_penalty(
    features: Tensor, source: Tensor, *, distance_weight: float = 1.0, angle_weight: float = 2.0
) -> Tensor:
    """How far distances and angles between rows are from those in the source network.

    Distances are relative to their mean, angles are between the two lines that join a row to two
    others, and differences are measured by Huber's loss: equations 5 to 10 of Park et al. [1]_,
    whose weights have this ratio.

    Parameters
    ----------
    features : Tensor of shape (n, n_features)
    source : Tensor of shape (n, n_source_features)
        Of the same rows. With fewer than two rows there are no distances, with fewer than three
        no angles; angles are those of the first 48 rows.
    distance_weight, angle_weight : float

    References
    ----------
    .. [1] W. Park, D. Kim, Y. Lu and M. Cho, "Relational knowledge distillation", CVPR 2019.
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

    Small ones are spectral components that do not transfer (equation 4 of Chen et al. [1]_).

    Parameters
    ----------
    features : Tensor of shape (n, n_features)
    n_smallest : int, default=1

    References
    ----------
    .. [1] X. Chen, S. Wang, B. Fu, M. Long and J. Wang, "Catastrophic forgetting meets negative
       transfer: batch spectral shrinkage for safe transfer learning", NeurIPS 2019.
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

    Equation 4 of Li et al. [1]_, as a mean over the batch.

    Parameters
    ----------
    maps, source : Tensor of shape (n, channels, positions)
    weights : Tensor of shape (channels,)

    References
    ----------
    .. [1] X. Li et al., "DELTA: deep learning transfer using feature map with attention for
       convolutional networks", ICLR 2019.
    """
    return ((maps - source).square().sum(2) * weights).sum(1).mean()


def loss_increase(maps: Tensor, gradient: Tensor) -> Tensor:
    """How much the loss would grow without each channel, to first order.

    DELTA runs the network once per channel; a Taylor expansion about the channel's values takes
    one backward pass for all.

    Parameters
    ----------
    maps, gradient : Tensor of shape (n, channels, ...)
        Activations, and the gradient of a loss with respect to them.

    Returns
    -------
    Tensor of shape (channels,)
    """
    return -(maps * gradient).transpose(0, 1).flatten(1).sum(1)


def channel_attention(increase: Tensor) -> Tensor:
    """Weights of channels: the softmax of the loss increases (equation 5 of DELTA).

    Parameters
    ----------
    increase : Tensor of shape (channels,)
    """
    return increase.softmax(0)


def _distances(rows: Tensor) -> Tensor:
    """Distances between all pairs of different rows, relative to their mean."""
    first, second = torch.triu_indices(len(rows), len(rows), 1, device=rows.device)
    squares = (rows[first] - rows[second]).square().sum(1)
    # The root has no gradient at zero, where two rows are equal.
    apart = squares > 0
    distances = torch.where(apart, squares, 1.0).sqrt() * apart
    mean = distances.sum() / apart.sum().clamp(min=1)
    return distances / torch.where(mean > 0, mean, 1.0)


def _cosines(rows: Tensor) -> Tensor:
    """Cosines of the angle at each row between each two others; 0 where rows are equal."""
    joins = rows[None] - rows[:, None]
    squares = joins.square().sum(2, keepdim=True)
    apart = squares > 0
    units = joins * apart / torch.where(apart, squares, 1.0).sqrt()
    return units @ units.transpose(1, 2)
