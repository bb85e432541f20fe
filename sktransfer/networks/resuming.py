"""Resume a network from one of its layers; what lies before it is skipped, not rewritten.

While a network resumes, modules that return before the layer return blank tensors, and the layer
itself returns the activations that were computed earlier. Whether no later module reads a blank
tensor is tested, not assumed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.networks.early_exit import LayerReader, read_activation
from sktransfer.networks.layers import Output, Read, Trace

_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Resumption:
    """The layer that a network resumes from, and the modules that are skipped.

    Parameters
    ----------
    layer : str
    skipped : tuple of str
    trace : Trace
    """

    layer: str
    skipped: tuple[str, ...]
    trace: Trace

    @contextmanager
    def __call__(
        self, module: nn.Module, values: Tensor, blank: float | None = None
    ) -> Iterator[None]:
        """During the block the layer returns `values`, and earlier modules compute nothing.

        Parameters
        ----------
        module : nn.Module
        values : Tensor of shape (batch, ...)
        blank : float or None, default=None
            Value in the outputs of skipped modules; None for uninitialised memory.
        """
        outputs = self.trace.execution.outputs
        resumed = self.trace.taps[self.layer].module

        def blanks(output: Output) -> Callable[..., Any]:
            shape = self.trace.blank_shape(output, values)

            def forward(*_: Any, **__: Any) -> Any:
                with torch.no_grad():
                    filled = values.new_empty(shape)
                    return _as_put_out(filled if blank is None else filled.fill_(blank), output)

            return forward

        # An attribute of the instance comes before the method of its class.
        replaced = [module.get_submodule(name) for name in (*self.skipped, resumed)]
        try:
            for name in self.skipped:
                output = outputs[name]
                assert output is not None
                module.get_submodule(name).__dict__["forward"] = blanks(output)
            module.get_submodule(resumed).__dict__["forward"] = lambda *_, **__: _as_put_out(
                values, outputs[resumed]
            )
            yield
        finally:
            for child in replaced:
                child.__dict__.pop("forward", None)


def find_resumption(
    module: nn.Module, trace: Trace, reads: Sequence[Read], layers: Sequence[str]
) -> Resumption | None:
    """The deepest of some layers from which a network can be resumed.

    Parameters
    ----------
    module : nn.Module
        In evaluation mode.
    trace : Trace
    reads : sequence of Read
        Layers that are read; none may come before the layer.
    layers : sequence of str
        Candidates, shallow to deep.
    """
    for layer in reversed(layers):
        resumption = _skipping(layer, trace)
        if _agrees(module, tuple(reads), resumption):
            return resumption
    return None


def _as_put_out(values: Tensor, output: Output | None) -> Any:
    return (values,) if output is not None and output.in_tuple else values


def _skipping(layer: str, trace: Trace) -> Resumption:
    """Skip the largest modules that have returned for the last time before the layer does."""
    execution, tap = trace.execution, trace.taps[layer]
    skipped: list[str] = []
    # From the outside in: what lies inside a skipped module does not run anyway.
    for name in sorted(execution.times, key=lambda name: name.count(".")):
        inside = any(f"{name}.".startswith(f"{other}.") for other in (tap.module, *skipped))
        before = execution.times[name][-1] < execution.time(tap)
        if not inside and before and execution.outputs[name] is not None:
            skipped.append(name)
    return Resumption(layer, tuple(skipped), trace)


def _agrees(module: nn.Module, reads: tuple[Read, ...], resumption: Resumption) -> bool:
    """Whether noise gives the same in one pass and in two."""
    trace = resumption.trace
    reader = LayerReader(module, trace, reads)
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    noise = trace.from_arrays(*(array.to(device) for array in trace.examples()[0]))
    try:
        with torch.inference_mode():
            expected = reader(*noise)
            values = read_activation(module, trace, resumption.layer, *noise).clone()
            with resumption(module, values, blank=torch.nan):
                found = reader(*trace.without_content(*noise))
    except Exception:  # a foreign network may raise anything; it then runs as a whole
        return False
    return all(
        bool(torch.allclose(a, b, rtol=_TOLERANCE, atol=_TOLERANCE * float(b.abs().max())))
        for a, b in zip(found, expected, strict=True)
    )
