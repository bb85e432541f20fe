"""Losses that align the features of two domains: CORAL, MMD and a domain discriminator."""

import math
from typing import Any

import torch
from torch import Tensor, nn

_BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


def coral_loss(source: Tensor, target: Tensor) -> Tensor:
    """Squared distance of covariances; 0 if a domain has fewer than two rows.

    Equation 1 of B. Sun and K. Saenko, "Deep CORAL", ECCV 2016 workshops.
    """
    if min(len(source), len(target)) < 2:
        return (source.sum() + target.sum()) * 0.0  # a zero with a graph, for `backward`
    gap = _covariance(source) - _covariance(target)
    return gap.square().sum() / (4 * source.shape[1] ** 2)


def mmd_loss(source: Tensor, target: Tensor) -> Tensor:
    """Squared maximum mean discrepancy under five Gaussian kernels; 0 if a domain has no row.

    As in M. Long et al., "Learning transferable features with deep adaptation networks", ICML
    2015. The bandwidths are a quarter to four times the mean squared distance of the rows; the
    estimate is the biased one, which is never negative.
    """
    n, m = len(source), len(target)
    if min(n, m) < 1:
        return (source.sum() + target.sum()) * 0.0
    rows = torch.cat([source, target])
    squares = (rows[:, None] - rows[None]).square().sum(2)
    # Detached, as otherwise features could reduce the loss by changing the bandwidth.
    mean = squares.detach().sum() / max(1, (n + m) * (n + m - 1))
    scale = torch.where(mean > 0, mean, 1.0)
    kernel = torch.stack([torch.exp(-squares / (b * scale)) for b in _BANDWIDTHS]).mean(0)
    signs = torch.cat([source.new_full((n,), 1 / n), source.new_full((m,), -1 / m)])
    return signs @ kernel @ signs


class DomainDiscriminator(nn.Module):
    """A domain classifier that passes reversed gradients to the features.

    Equations 17 to 18 of Y. Ganin et al., "Domain-adversarial training of neural networks", JMLR
    17, 2016.
    """

    def __init__(self, n_features: int, hidden_size: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 1)
        )

    def forward(self, features: Tensor, is_target: Tensor, strength: float) -> Tensor:
        """Binary cross entropy of the domain of each row, as a mean."""
        scores = self.layers(_Reversed.apply(features, strength))[:, 0]
        return nn.functional.binary_cross_entropy_with_logits(scores, is_target.to(scores.dtype))


def reversal_strength(progress: float) -> float:
    """Weight of the reversed gradient: 0 at first, nearly 1 at the end (Ganin, section 5.2.2)."""
    return 2 / (1 + math.exp(-10 * progress)) - 1


class _Reversed(torch.autograd.Function):
    """The identity, with a backward pass that reverses and scales the gradient."""

    @staticmethod
    def forward(context: Any, values: Tensor, strength: float) -> Tensor:
        context.strength = strength
        return values.clone()  # a new tensor, as autograd treats a returned input as a view

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -context.strength * gradient, None


def _covariance(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(0)
    return centred.T @ centred / (len(rows) - 1)
