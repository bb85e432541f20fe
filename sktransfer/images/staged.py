"""Run any network up to the last layer that is wanted, and pool what the layers put out.

Hooks record the layers and a private exception ends the pass, so that no network
needs to be rewritten.
"""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sktransfer.images.pooling import pool
from sktransfer.images.tracing import PENULTIMATE, Trace
from sktransfer.networks.hooks import Tap, hooked


class Read(NamedTuple):
    """One vector per image: a layer's activation, pooled in one way.

    "avg+max" is no way of its own but two reads, and a layer that puts out a vector is
    read by "flatten".
    """

    layer: str
    pooling: str

    def width(self, trace: Trace) -> int:
        """Length of the vector."""
        return trace.activations[self.layer].width(self.pooling)


def reads_of(trace: Trace, layers: Iterable[str], pooling: str) -> tuple[Read, ...]:
    """The reads that pooling these layers takes, in the order of their columns."""
    poolings = ("avg", "max") if pooling == "avg+max" else (pooling,)
    return tuple(
        Read(layer, each)
        for layer in layers
        for each in (poolings if trace.activations[layer].is_spatial else ("flatten",))
    )


def usual_reads(trace: Trace) -> tuple[Read, ...]:
    """Average and maximum of every stage and of what the classifier sees."""
    layers = [*trace.stages, *([PENULTIMATE] if PENULTIMATE in trace.activations else [])]
    return reads_of(trace, layers, "avg+max")


class StagedNetwork(nn.Module):
    """The pooled activations of some layers of a network, from one shortened pass.

    Parameters
    ----------
    module : nn.Module
        In evaluation mode; it is neither copied nor changed.
    trace : Trace
        Of `module`, at the image size that will be used.
    reads : tuple of Read
        Of layers in ``trace.activations``.
    """

    def __init__(self, module: nn.Module, trace: Trace, reads: tuple[Read, ...]):
        super().__init__()
        self.module = module
        self.trace = trace
        self.reads = reads

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images of shape (batch, channels, height, width) to one matrix per read."""
        wanted: dict[Tap, list[Read]] = {}
        for read in self.reads:
            wanted.setdefault(self.trace.taps[read.layer], []).append(read)
        pending = Counter({tap: self.trace.calls[tap.module] for tap in wanted})
        pooled: dict[Read, Tensor] = {}

        def record(tap: Tap, value: Tensor) -> None:
            pending[tap] -= 1
            if pending[tap] > 0:  # of a module that runs several times the last run counts
                return
            for read in wanted[tap]:
                activation = self.trace.activations[read.layer]
                expected = (x.shape[0], *activation.shape)
                # While a compiler traces, shapes are no numbers; it has seen real ones before.
                tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
                if not tracing and tuple(value.shape) != expected:
                    raise ValueError(
                        f"layer {tap.module!r} put out shape {tuple(value.shape)} for "
                        f"{x.shape[0]} images, expected {expected}; choose a layer with one row "
                        "per image"
                    )
                # Pooled at once: a later layer may overwrite `value` in place.
                pooled[read] = pool(value, activation, read.pooling).float()
            if all(count <= 0 for count in pending.values()):
                raise _Reached

        with hooked(self.module, set(wanted), record), suppress(_Reached):
            self.module(x)
        return tuple(pooled[read] for read in self.reads)


class _Reached(Exception):
    """The last wanted layer has run."""
