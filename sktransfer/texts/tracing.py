"""A transformer's layers: found by watching it run, read in one pass, pooled over tokens."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer.networks.hooks import Tap, hooked

POOLINGS = ("mean", "cls", "max")

LAST = "last"
"""What the network puts out."""

Engine = Callable[[np.ndarray, np.ndarray], list[np.ndarray]]
"""From tokens (rows, time) and their mask to one float32 matrix per read."""

_PROBE = (3, 11)
"""Rows and tokens that a network is tried on: numbers that no width is likely to have."""


class Read(NamedTuple):
    """One vector per row: a layer, pooled in one way; "vector" if there is nothing to pool."""

    layer: str
    pooling: str


class Run(NamedTuple):
    """One of the times that a module runs in a pass."""

    module: str
    number: int


@dataclass(frozen=True)
class Trace:
    """What a network is made of.

    Parameters
    ----------
    runs : dict of str to Run
        Where each layer is read, in the order of execution.
    widths : dict of str to int
    vectors : frozenset of str
        Layers that put out a vector per row and not one per token.
    stages : tuple of str
        The embeddings, and what each block puts out, shallow to deep; the last is "last".
    done : dict of Run to int
        When each module has run.
    tuples : frozenset of str
        Modules that put out a tuple.
    """

    runs: Mapping[str, Run]
    widths: Mapping[str, int]
    vectors: frozenset[str]
    stages: tuple[str, ...]
    done: Mapping[Run, int]
    tuples: frozenset[str]

    def reads(self, layers: Sequence[str], poolings: Sequence[str]) -> tuple[Read, ...]:
        """What pooling these layers takes, by layer and then pooling."""
        return tuple(
            Read(layer, pooling)
            for layer in layers
            for pooling in (("vector",) if layer in self.vectors else poolings)
        )


_TRACES: WeakKeyDictionary[nn.Module, Trace] = WeakKeyDictionary()


def trace_of(module: nn.Module) -> Trace:
    """The layers of a network of transformers; remembered as long as it lives."""
    if module not in _TRACES:
        _TRACES[module] = _trace(module)
    return _TRACES[module]


def probe(module: nn.Module, rows: int, length: int) -> tuple[Tensor, Tensor]:
    """Tokens that mean nothing, of rows that grow shorter, and their mask."""
    config: Any = module.config
    device = next(module.parameters()).device
    generator = torch.Generator().manual_seed(0)
    low = min(5, config.vocab_size - 1)  # behind the usual place of padding
    ids = torch.randint(low, config.vocab_size, (rows, length), generator=generator)
    mask = torch.arange(length) < length - torch.arange(rows).clamp(max=length - 1)[:, None]
    return ids.to(device), mask.long().to(device)


def _trace(module: nn.Module) -> Trace:
    seen: list[tuple[Run, Tensor | None]] = []
    numbers: dict[str, int] = {}
    tuples: set[str] = set()

    def record(tap: Tap, value: Any) -> None:
        number = numbers.get(tap.module, 0)
        numbers[tap.module] = number + 1
        if isinstance(value, tuple):
            tuples.add(tap.module)
        seen.append((Run(tap.module, number), _tensor(value)))

    taps = {Tap(name) for name, _ in module.named_modules() if name}
    ids, mask = probe(module, *_PROBE)
    with torch.inference_mode(), hooked(module, taps, record):
        result = module(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    runs: dict[str, Run] = {}
    widths: dict[str, int] = {}
    vectors: set[str] = set()
    for run, value in seen:
        if value is None or value.shape[0] != _PROBE[0] or not value.is_floating_point():
            continue
        if value.ndim == 3 and value.shape[1] == _PROBE[1]:
            vectors.discard(run.module)
        elif value.ndim == 2 and value.shape[1] != _PROBE[1]:
            vectors.add(run.module)
        else:
            continue
        runs.pop(run.module, None)  # of a module that runs several times the last run counts
        runs[run.module] = run
        widths[run.module] = value.shape[-1]
    last = _place(seen, result.last_hidden_state)
    if last is None:
        raise ValueError(
            f"no module of {type(module).__name__} puts out its last hidden state; choose another "
            "model"
        )
    places = [_place(seen, state) for state in getattr(result, "hidden_states", None) or ()]
    stages = []
    for run in dict.fromkeys(place for place in places if place not in (None, last)):
        assert run is not None
        name = run.module if runs.get(run.module) == run else f"{run.module}#{run.number}"
        runs[name], widths[name] = run, widths[run.module]
        stages.append(name)
    runs[LAST], widths[LAST] = last, widths[last.module]
    done = {run: time for time, (run, _) in enumerate(seen)}
    ordered = dict(sorted(runs.items(), key=lambda item: done[item[1]]))
    return Trace(ordered, widths, frozenset(vectors), (*stages, LAST), done, frozenset(tuples))


def _tensor(value: Any) -> Tensor | None:
    """What a module puts out: a tensor, or the first of a tuple."""
    if isinstance(value, tuple) and value:
        value = value[0]
    return value if isinstance(value, Tensor) and value.ndim else None


def _place(seen: list[tuple[Run, Tensor | None]], state: Tensor) -> Run | None:
    """The outermost module that puts this out, and when."""
    found = [
        run
        for run, value in seen
        if value is not None and value.shape == state.shape and torch.equal(value, state)
    ]
    return min(found, key=lambda run: run.module.count("."), default=None)


class TextNetwork(nn.Module):
    """The pooled states of some layers of a network, from one pass that ends at the deepest.

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

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """One matrix per read."""
        layers = {read.layer for read in self.reads}
        states = states_of(self.module, self.trace, layers, input_ids, attention_mask)
        weights = attention_mask[:, :, None].float()
        total = weights.sum(1)
        outside = attention_mask[:, :, None] == 0
        pooled = []
        for layer, pooling in self.reads:
            values = states[layer].float()
            if pooling == "mean":
                values = (values * weights).sum(1) / total
            elif pooling == "cls":
                values = values[:, 0]
            elif pooling == "max":
                values = values.masked_fill(outside, -torch.inf).amax(1)
            pooled.append(values)
        return tuple(pooled)


def states_of(
    module: nn.Module, trace: Trace, layers: set[str], input_ids: Tensor, attention_mask: Tensor
) -> dict[str, Tensor]:
    """What some layers put out."""
    wanted: dict[Run, list[str]] = {}
    for layer in layers:
        wanted.setdefault(trace.runs[layer], []).append(layer)
    numbers: dict[str, int] = {}
    found: dict[str, Tensor] = {}

    def record(tap: Tap, value: Any) -> None:
        number = numbers.get(tap.module, 0)
        numbers[tap.module] = number + 1
        for layer in wanted.get(Run(tap.module, number), ()):
            tensor = _tensor(value)
            assert tensor is not None  # as it was when the network was traced
            found[layer] = tensor
        if len(found) == len(layers):
            raise _Reached

    with hooked(module, {Tap(run.module) for run in wanted}, record), suppress(_Reached):
        module(input_ids=input_ids, attention_mask=attention_mask)
    return found


class _Reached(Exception):
    """The last wanted layer has run."""


def torch_engine(
    module: nn.Module, reads: tuple[Read, ...], device: torch.device, precision: str
) -> Engine:
    """Eager torch in inference mode.

    Parameters
    ----------
    module : nn.Module
        On `device`.
    reads : tuple of Read
    device : torch.device
    precision : {"float32", "bfloat16"}
        Arithmetic inside the network; the features are float32 either way.
    """
    network = TextNetwork(module, trace_of(module), reads)

    def run(ids: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
        autocast: Any = nullcontext()
        if precision == "bfloat16":
            autocast = torch.autocast(device.type, dtype=torch.bfloat16)
        with torch.inference_mode(), autocast:
            tensors = (torch.from_numpy(array).to(device) for array in (ids, mask))
            return [matrix.float().cpu().numpy() for matrix in network(*tensors)]

    return run
