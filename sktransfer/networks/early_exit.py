"""Run a network up to the last layer that is wanted, and pool the outputs of its layers.

Hooks record the layers and a private exception ends the pass, so that no network
needs to be rewritten.
"""

from contextlib import suppress
from typing import Any

from torch import Tensor, nn

from sktransfer.networks.hooks import Tap, hooked
from sktransfer.networks.layers import Read, Trace, first_tensor


class LayerReader(nn.Module):
    """The pooled outputs of some layers of a network, from one shortened pass.

    Parameters
    ----------
    module : nn.Module
        In evaluation mode; it is neither copied nor changed.
    trace : Trace
    reads : tuple of Read
    """

    def __init__(self, module: nn.Module, trace: Trace, reads: tuple[Read, ...]) -> None:
        super().__init__()
        self.module = module
        self.trace = trace
        self.reads = reads

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """One matrix per read."""
        wanted: dict[Tap, list[Read]] = {}
        for read in self.reads:
            wanted.setdefault(self.trace.taps[read.layer], []).append(read)
        pooled: dict[Read, Tensor] = {}
        pending = set(wanted)

        def record(tap: Tap, value: Any) -> None:
            # Pooled at once: a later layer may overwrite `value` in place.
            for read in wanted[tap]:
                pooled[read] = self.trace.pool(read, value, *inputs).float()
            pending.discard(tap)
            if not pending:
                raise _LastLayerReached

        with hooked(self.module, set(wanted), record), suppress(_LastLayerReached):
            self.trace.run(self.module, *inputs)
        return tuple(pooled[read] for read in self.reads)


def read_activation(module: nn.Module, trace: Trace, layer: str, *inputs: Tensor) -> Tensor:
    """The output of one layer as it is, from a pass that ends there."""
    found: list[Tensor] = []

    def record(tap: Tap, value: Any) -> None:
        tensor = first_tensor(value)
        assert tensor is not None  # as it was when the network was traced
        found.append(tensor)
        raise _LastLayerReached

    with hooked(module, {trace.taps[layer]}, record), suppress(_LastLayerReached):
        trace.run(module, *inputs)
    return found[0]


class ArrayReader(nn.Module):
    """A `LayerReader` that takes inputs as they come from reading, which is what engines run.

    An image then keeps the memory layout of its decoder, and is transposed nowhere in memory.
    """

    def __init__(self, module: nn.Module, trace: Trace, reads: tuple[Read, ...]) -> None:
        super().__init__()
        self.reader = LayerReader(module, trace, reads)

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """One float32 matrix per read."""
        matrices: tuple[Tensor, ...] = self.reader(*self.reader.trace.from_arrays(*arrays))
        return matrices


class _LastLayerReached(Exception):
    """The last wanted layer has run."""
