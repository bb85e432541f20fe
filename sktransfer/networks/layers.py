"""The layers of a network: where each is read, when it runs, and how its output is pooled."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from sktransfer.networks.hooks import Tap, hooked


class Read(NamedTuple):
    """One vector per sample: the output of a layer, pooled in one way."""

    layer: str
    pooling: str


class Output(NamedTuple):
    """A module's output.

    Parameters
    ----------
    shape : tuple of int
        Shape for one sample, without the batch axis.
    in_tuple : bool
        Whether the tensor is the first member of a tuple.
    """

    shape: tuple[int, ...]
    in_tuple: bool


@dataclass(frozen=True)
class Execution:
    """The order in which the modules of a network return in one pass.

    Parameters
    ----------
    times : dict of str to tuple of int
        Position in that order of each call of each module.
    starts : dict of str to tuple of int
        Position in the same order where each call begins.
    outputs : dict of str to Output or None
        None for a module whose output is no tensor with a row per sample, or has several shapes.
    """

    times: Mapping[str, tuple[int, ...]]
    starts: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, Output | None]

    def time(self, tap: Tap) -> int:
        """When what a tap reads is there: a call of its module has begun, or has returned."""
        times = self.starts if tap.side == "input" else self.times
        return times[tap.module][-1 if tap.call is None else tap.call]


class Trace(Protocol):
    """The layers of a network for one kind of input, as the engines need to know them.

    Attributes
    ----------
    taps : dict of str to Tap
        The input or output of a module that each layer is.
    stages : tuple of str
        Names of the main blocks, shallow to deep.
    execution : Execution
    static_shape : tuple of int or None
        Shape of a batch of inputs as an engine receives it, with -1 for the number of samples;
        None where other axes vary, too.
    """

    @property
    def taps(self) -> Mapping[str, Tap]: ...
    @property
    def stages(self) -> tuple[str, ...]: ...
    @property
    def execution(self) -> Execution: ...
    @property
    def static_shape(self) -> tuple[int, ...] | None: ...

    def run(self, module: nn.Module, *inputs: Tensor) -> Any:
        """Call the network."""

    def from_arrays(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """Turn what an engine receives into the inputs of `run`."""

    def examples(self, thorough: bool = False) -> list[tuple[Tensor, ...]]:
        """Make noise for comparing two ways to run a network, as an engine would receive it."""

    def without_content(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Replace inputs of `run` by ones of the same shape from which nothing can be computed."""

    def blank_shape(self, output: Output, values: Tensor) -> tuple[int, ...]:
        """Shape of a module's output in a pass where a stage puts out `values`."""

    def pool(self, read: Read, value: Any, *inputs: Tensor) -> Tensor:
        """Make one vector per sample of a layer's output, which shares no memory with it."""

    def reads(self, layers: Sequence[str], poolings: Sequence[str]) -> tuple[Read, ...]:
        """List what pooling these layers takes, by layer and then by pooling."""

    def usual_reads(self) -> tuple[Read, ...]:
        """List what is worth computing in any pass, as a search is likely to ask for it."""

    def width(self, read: Read) -> int:
        """Length of the vector of a read."""


def first_tensor(value: Any) -> Tensor | None:
    """The tensor that a module returns, alone or at the beginning of a tuple."""
    if isinstance(value, tuple) and value:
        value = value[0]
    return value if isinstance(value, Tensor) and value.ndim else None


def watch_execution(
    module: nn.Module,
    run: Callable[[], Any],
    n_samples: int,
    record: Callable[[Tap, Any], None],
) -> tuple[Execution, Any]:
    """Run a network once, and note the calls of its modules.

    Parameters
    ----------
    module : nn.Module
    run : callable
        Calls it with `n_samples` samples.
    n_samples : int
        A number that no other axis is likely to have.
    record : callable
        Given every input and output, with the number of the call.

    Returns
    -------
    execution : Execution
    result
        The result of `run`.
    """
    times: dict[str, list[int]] = {}
    starts: dict[str, list[int]] = {}
    outputs: dict[str, Output | None] = {}
    clock = itertools.count()

    def note(tap: Tap, value: Any) -> None:
        name = tap.module
        record(Tap(name, tap.side, len(times.get(name, ()))), value)
        if tap.side == "input":
            starts.setdefault(name, []).append(next(clock))
            return
        tensor = first_tensor(value)
        output = None
        if tensor is not None and len(tensor) == n_samples:
            output = Output(tuple(tensor.shape[1:]), isinstance(value, tuple))
        outputs[name] = output if outputs.get(name, output) == output else None
        times.setdefault(name, []).append(next(clock))

    taps = {Tap(name, side) for name, _ in module.named_modules() for side in ("input", "output")}
    # Exclusive, as transformers exchanges methods of a module while it collects its states.
    with torch.inference_mode(), hooked(module, taps, note, exclusive=True):
        result = run()
    ended, begun = ({name: tuple(of) for name, of in each.items()} for each in (times, starts))
    return Execution(ended, begun, outputs), result
