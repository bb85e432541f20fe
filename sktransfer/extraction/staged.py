"""Run any network up to the last layer that is wanted, and pool what the layers put out.

Hooks record the layers and a private exception ends the pass, so that no network
needs to be rewritten.
"""

from collections import Counter
from contextlib import suppress

import torch
from torch import Tensor, nn

from sktransfer.extraction.hooks import Tap, hooked
from sktransfer.extraction.pooling import Activation, pool
from sktransfer.extraction.tracing import Trace


class StagedNetwork(nn.Module):
    """The pooled activations of some layers of a network, from one shortened pass.

    Parameters
    ----------
    module : nn.Module
        In evaluation mode; it is neither copied nor changed.
    trace : Trace
        Of `module`, at the image size that will be used.
    layers : tuple of str
        Names from ``trace.activations``.
    pooling : str
        One of `sktransfer.extraction.pooling.POOLINGS`.
    """

    def __init__(self, module: nn.Module, trace: Trace, layers: tuple[str, ...], pooling: str):
        super().__init__()
        self.module = module
        self.trace = trace
        self.layers = layers
        self.pooling = pooling

    def taken(self) -> list[tuple[str, Activation]]:
        """The layers in use and what they put out."""
        return [(layer, self.trace.activations[layer]) for layer in self.layers]

    def forward(self, x: Tensor) -> Tensor:
        """Map images of shape (batch, channels, height, width) to (batch, n_features)."""
        wanted = {self.trace.taps[layer]: self.trace.activations[layer] for layer in self.layers}
        pending = Counter({tap: self.trace.calls[tap.module] for tap in wanted})
        pooled: dict[Tap, Tensor] = {}

        def record(tap: Tap, value: Tensor) -> None:
            pending[tap] -= 1
            if pending[tap] > 0:  # of a module that runs several times the last run counts
                return
            if tuple(value.shape) != (len(x), *wanted[tap].shape):
                raise ValueError(
                    f"layer {tap.module!r} put out shape {tuple(value.shape)} for {len(x)} "
                    f"images, expected {(len(x), *wanted[tap].shape)}; choose a layer with one "
                    "row per image"
                )
            # Pooled at once: a later layer may overwrite `value` in place.
            pooled[tap] = pool(value, wanted[tap], self.pooling).float()
            if all(count <= 0 for count in pending.values()):
                raise _Reached

        with hooked(self.module, set(wanted), record), suppress(_Reached):
            self.module(x)
        return torch.cat([pooled[self.trace.taps[layer]] for layer in self.layers], 1)


class _Reached(Exception):
    """The last wanted layer has run."""
