"""Go on from the middle of a network: what lies before a layer is skipped, not rewritten.

While a network resumes, modules that have finished before the layer put out blanks, and the
layer itself puts out what was computed earlier. Whether nothing behind it looks at a blank is
tried out, not assumed.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.images.staged import Read, StagedNetwork
from sktransfer.images.tracing import Trace
from sktransfer.networks.hooks import Tap, hooked

_TOLERANCE = 1e-4
_PROBES = 2


@dataclass(frozen=True)
class Passage:
    """When the modules of a network are done, in one pass.

    Parameters
    ----------
    first, done : dict of str to int
        Time at which each module has run for the first and for the last time.
    shapes : dict of str to tuple of int or None
        What it puts out per image; None for anything but one tensor of one shape.
    """

    first: Mapping[str, int]
    done: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...] | None]


def follow(module: nn.Module, trace: Trace) -> Passage:
    """Watch one pass of blank images."""
    first: dict[str, int] = {}
    done: dict[str, int] = {}
    times = itertools.count()
    shapes: dict[str, tuple[int, ...] | None] = {}

    def record(tap: Tap, value: Any) -> None:
        name = tap.module
        shape = None
        if isinstance(value, Tensor) and value.ndim > 0 and len(value) == _PROBES:
            shape = tuple(value.shape[1:])
        again = name in done
        shapes[name] = None if again and shapes[name] != shape else shape
        done[name] = next(times)
        first.setdefault(name, done[name])

    taps = {Tap(name) for name, _ in module.named_modules()}
    with torch.inference_mode(), hooked(module, taps, record):
        module(_blank(module, trace, _PROBES))
    return Passage(first, done, shapes)


def resumable(
    module: nn.Module, trace: Trace, reads: Sequence[Read], layers: Sequence[str]
) -> "Resumption | None":
    """The way to go on from the deepest of `layers` from which that is possible.

    Parameters
    ----------
    module : nn.Module
        In evaluation mode.
    trace : Trace
    reads : sequence of Read
        What is read of it; none may lie before the layer.
    layers : sequence of str
        Candidates, shallow to deep.
    """
    passage = follow(module, trace)
    for layer in reversed(layers):
        resumption = _skipping(layer, passage)
        if _agrees(module, trace, tuple(reads), resumption):
            return resumption
    return None


@dataclass(frozen=True)
class Resumption:
    """From where a network goes on, and what is skipped.

    Parameters
    ----------
    layer : str
    skipped : dict of str to tuple of int
        Shape that each skipped module puts out per image.
    """

    layer: str
    skipped: Mapping[str, tuple[int, ...]]

    @contextmanager
    def __call__(
        self, module: nn.Module, values: Tensor, blank: float | None = None
    ) -> Iterator[None]:
        """During the block the layer puts out `values`, and what is before it computes nothing.

        Parameters
        ----------
        module : nn.Module
        values : Tensor of shape (batch, ...)
        blank : float or None, default=None
            What skipped modules put out; None for whatever lies in memory.
        """

        def blanks(shape: tuple[int, ...]) -> Callable[..., Tensor]:
            def forward(*_: Any, **__: Any) -> Tensor:
                with torch.no_grad():
                    if blank is None:
                        return values.new_empty((len(values), *shape))
                    return values.new_full((len(values), *shape), blank)

            return forward

        # An attribute of the instance comes before the method of its class.
        replaced = [module.get_submodule(name) for name in (*self.skipped, self.layer)]
        try:
            for name, shape in self.skipped.items():
                _replace(module.get_submodule(name), blanks(shape))
            _replace(module.get_submodule(self.layer), lambda *_, **__: values)
            yield
        finally:
            for child in replaced:
                child.__dict__.pop("forward", None)


def _replace(child: nn.Module, forward: Callable[..., Tensor]) -> None:
    child.__dict__["forward"] = forward


def _skipping(layer: str, passage: Passage) -> Resumption:
    """Skip the largest modules that have finished before the layer."""
    skipped: dict[str, tuple[int, ...]] = {}
    for name in sorted(passage.done, key=lambda name: name.count(".")):
        shape = passage.shapes[name]
        inside = any(_is_inside(name, other) for other in (layer, *skipped))
        if not inside and shape is not None and passage.done[name] < passage.done[layer]:
            skipped[name] = shape
    return Resumption(layer, skipped)


def _is_inside(name: str, other: str) -> bool:
    return name == other or name.startswith(other + ".")


def _agrees(
    module: nn.Module, trace: Trace, reads: tuple[Read, ...], resumption: Resumption
) -> bool:
    """Whether noise comes out the same in one pass and in two."""
    staged = StagedNetwork(module, trace, reads)
    blank = _blank(module, trace, _PROBES)
    noise = torch.rand(blank.shape, generator=torch.Generator().manual_seed(0)).to(blank.device)
    before = (Read(resumption.layer, "flatten"),)
    try:
        with torch.inference_mode():
            wanted = staged(noise)
            values = StagedNetwork(module, trace, before)(noise)[0]
            values = values.unflatten(1, trace.activations[resumption.layer].shape)
            with resumption(module, values, blank=torch.nan):
                found = staged(torch.full_like(blank, torch.nan))
    except Exception:  # a foreign network may raise anything; it then runs as a whole
        return False
    return all(
        bool(torch.allclose(a, b, rtol=_TOLERANCE, atol=_TOLERANCE * float(b.abs().max())))
        for a, b in zip(found, wanted, strict=True)
    )


def _blank(module: nn.Module, trace: Trace, n: int) -> Tensor:
    parameter = next(iter(module.parameters()), torch.zeros(()))
    return torch.zeros(n, trace.in_channels, *trace.size, device=parameter.device)
