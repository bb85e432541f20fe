"""How far apart the features of two domains are, as a loss to be made small."""

import math
from typing import Any

import torch
from torch import Tensor, nn

_BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


def coral_loss(source: Tensor, target: Tensor) -> Tensor:
    """Squared distance of covariances (equation 1 of Sun and Saenko [1]_).

    Parameters
    ----------
    source, target : Tensor of shape (n, n_features)
        With fewer than two rows on a side the loss is 0.

    References
    ----------
    .. [1] B. Sun and K. Saenko, "Deep CORAL: correlation alignment for deep domain adaptation",
       ECCV 2016 workshops.
    """
    if min(len(source), len(target)) < 2:
        return (source.sum() + target.sum()) * 0.0
    gap = _covariance(source) - _covariance(target)
    return gap.square().sum() / (4 * source.shape[1] ** 2)


def mmd_loss(source: Tensor, target: Tensor) -> Tensor:
    """Squared maximum mean discrepancy under five Gaussian kernels, as in Long et al. [1]_.

    Their bandwidths are a quarter to four times the mean squared distance of the rows, the
    estimate is the biased one, which is never negative.

    Parameters
    ----------
    source, target : Tensor of shape (n, n_features)
        With no row on a side the loss is 0.

    References
    ----------
    .. [1] M. Long, Y. Cao, J. Wang and M. I. Jordan, "Learning transferable features with deep
       adaptation networks", ICML 2015.
    """
    n, m = len(source), len(target)
    if min(n, m) < 1:
        return (source.sum() + target.sum()) * 0.0
    rows = torch.cat([source, target])
    squares = (rows[:, None] - rows[None]).square().sum(2)
    mean = squares.detach().sum() / max(1, (n + m) * (n + m - 1))
    scale = torch.where(mean > 0, mean, 1.0)
    kernel = torch.stack([torch.exp(-squares / (b * scale)) for b in _BANDWIDTHS]).mean(0)
    signs = torch.cat([source.new_full((n,), 1 / n), source.new_full((m,), -1 / m)])
    return signs @ kernel @ signs


class DomainDiscriminator(nn.Module):
    """Tells domains apart by features, whose gradient it gets back reversed [1]_.

    Parameters
    ----------
    n_features : int
    hidden_size : int, default=128

    References
    ----------
    .. [1] Y. Ganin et al., "Domain-adversarial training of neural networks", JMLR 17, 2016,
       equations 17 to 18.
    """

    def __init__(self, n_features: int, hidden_size: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 1)
        )

    def forward(self, features: Tensor, is_target: Tensor, strength: float) -> Tensor:
        """Binary cross entropy of telling (n,) rows apart."""
        scores = self.layers(_Reversed.apply(features, strength))[:, 0]
        return nn.functional.binary_cross_entropy_with_logits(scores, is_target.to(scores.dtype))


def reversal_strength(progress: float) -> float:
    """From 0 at the beginning of a training to nearly 1 at its end (section 5.2.2 of Ganin)."""
    return 2 / (1 + math.exp(-10 * progress)) - 1


class _Reversed(torch.autograd.Function):
    """The identity, whose gradient is reversed."""

    @staticmethod
    def forward(context: Any, values: Tensor, strength: float) -> Tensor:
        context.strength = strength
        return values.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -context.strength * gradient, None


def _covariance(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(0)
    return centred.T @ centred / (len(rows) - 1)
