"""Pooling of a layer's activation to one vector per image.

The activation's layout decides what pooling means: feature maps and token grids
are pooled over their positions, vectors are returned as they are.
"""

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

POOLINGS = ("mean", "max", "gem", "cls", "flatten")

GEM_POWER = 3.0
"""Exponent of generalised-mean pooling, the value its authors start from."""

Layout = Literal["channels_first", "channels_last", "tokens", "vector"]


@dataclass(frozen=True)
class Activation:
    """The output of a layer for one image.

    Parameters
    ----------
    shape : tuple of int
        Without the batch axis.
    layout : {"channels_first", "channels_last", "tokens", "vector"}
        Meaning of the axes: (C, H, W) or (C, H * W), (H, W, C), (T, C), (C,).
    prefix_tokens : int, default=0
        Leading tokens that stand for no position: class token and registers.
    class_token : bool, default=False
        Whether the first of them is a class token.
    """

    shape: tuple[int, ...]
    layout: Layout
    prefix_tokens: int = 0
    class_token: bool = False

    @property
    def is_spatial(self) -> bool:
        """Whether there are positions to pool over."""
        return self.layout != "vector"

    @property
    def resolution(self) -> tuple[int, ...]:
        """Height and width of a map, number of tokens, or ()."""
        return {
            "channels_first": self.shape[1:],
            "channels_last": self.shape[:2],
            "tokens": self.shape[:1],
            "vector": (),
        }[self.layout]

    def check_class_token(self, layer: str) -> None:
        """Raise ValueError if ``pooling="cls"`` has nothing to take from this layer."""
        if self.is_spatial and not self.class_token:
            raise ValueError(
                "pooling='cls' needs a layer of a vision transformer with a class token; "
                f"layer={layer!r} puts out {self.layout} of shape {self.shape}"
            )

    def width(self, pooling: str) -> int:
        """Length of the pooled vector."""
        if self.layout == "vector" or pooling == "flatten":
            return math.prod(self.shape)
        return self.shape[0] if self.layout == "channels_first" else self.shape[-1]


def pool(values: Tensor, activation: Activation, pooling: str) -> Tensor:
    r"""Pool a batch of activations to shape (batch, ``activation.width(pooling)``).

    The result shares no memory with `values`, which later layers may overwrite.

    Parameters
    ----------
    values : Tensor of shape (batch, *activation.shape)
    activation : Activation
    pooling : {"mean", "max", "gem", "cls", "flatten"}
        "gem" is the generalised mean :math:`(\mathrm{mean}\, x^p)^{1/p}` with p = 3 of
        Radenovic, Tolias and Chum, "Fine-tuning CNN image retrieval with no human
        annotation", 2018, equation 3, over activations clipped at 1e-6. "cls" is the class
        token, of a layer that has one.
    """
    if activation.layout == "vector" or pooling == "flatten":
        return values.flatten(1).clone()
    if pooling == "cls":
        return values[:, 0].clone()
    positions = _positions(values, activation)
    if pooling == "mean":
        return positions.mean(1)
    if pooling == "max":
        return positions.amax(1)
    return positions.clamp(min=1e-6).pow(GEM_POWER).mean(1).pow(1 / GEM_POWER)


def _positions(values: Tensor, activation: Activation) -> Tensor:
    """A view of shape (batch, positions, channels)."""
    if activation.layout == "channels_first":
        return values.flatten(2).transpose(1, 2)
    if activation.layout == "channels_last":
        return values.flatten(1, 2)
    return values[:, activation.prefix_tokens :]
