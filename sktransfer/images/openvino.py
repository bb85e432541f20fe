"""Networks compiled by OpenVINO, on a CPU 1.5 to 5 times as fast as an eager loop.

The wrapper that torch runs is traced, hooks and all. A conversion takes seconds and a
compilation a fraction of one, so each is done once per process: a network is converted with
all its usual reads, of which a compiled net takes those that are wanted.
"""

import copy
import threading
import warnings
from collections import OrderedDict
from typing import Any, NamedTuple
from weakref import WeakSet

import numpy as np
import torch
from torch import nn

from sktransfer.exceptions import ConversionError
from sktransfer.images.engines import Engine, Network, in_passes
from sktransfer.images.staged import Read, StagedNetwork, usual_reads
from sktransfer.images.tracing import Trace
from sktransfer.networks.compiling import check_alike, compile_part, remembered, shorten
from sktransfer.networks.hooks import drop_hooks

_N_CONVERTED = 4
_N_COMPILED = 16

_LOCK = threading.RLock()
_CONVERTED: OrderedDict[tuple[Any, ...], "_Converted | str"] = OrderedDict()
_COMPILED: OrderedDict[tuple[Any, ...], "_Compiled | str"] = OrderedDict()


class _Converted(NamedTuple):
    """An OpenVINO model, what it puts out, and whether tracing it gave rise to doubts."""

    model: Any
    outputs: tuple[Read, ...]
    doubtful: bool


class _Compiled(NamedTuple):
    """A compiled net and the modules that it was compared with."""

    net: Any
    doubtful: bool
    compared: WeakSet[nn.Module]


def openvino_engine(network: Network, reads: tuple[Read, ...], precision: str) -> Engine:
    """A network compiled for this CPU, shared by all who ask for the same.

    Parameters
    ----------
    network : Network
    reads : tuple of Read
    precision : {"float32", "bfloat16"}
        Arithmetic inside the network; the features are float32 either way.

    Raises
    ------
    ConversionError
        The network cannot be converted, or its features differ from torch's. The engine
        itself raises it, too, if tracing met a decision that may depend on the pixels and
        the first images it is given come out different.
    """
    compiled = _compiled(network, reads, precision)
    request = compiled.net.create_infer_request()  # a request serves one thread at a time
    unsure = compiled.doubtful

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        nonlocal unsure
        outputs = request.infer([pixels], share_inputs=True)
        found = [outputs[i].copy() for i in range(len(reads))]
        if unsure:
            unsure = False
            few = torch.from_numpy(pixels[:4])
            _compare([matrix[:4] for matrix in found], network, reads, few, precision)
        return found

    return in_passes(run, network.trace.size)


def _compiled(network: Network, reads: tuple[Read, ...], precision: str) -> _Compiled:
    n_threads = torch.get_num_threads()  # what joblib allows its workers
    name = (network.fingerprint, network.trace.size, reads, precision, n_threads)
    with _LOCK:
        if name not in _COMPILED:
            try:
                converted = _converted(network, reads)
                net = compile_part(converted.model, converted.outputs, reads, precision, n_threads)
                _COMPILED[name] = _Compiled(net, converted.doubtful, WeakSet())
            except Exception as error:
                _COMPILED[name] = str(error)  # an exception would keep what it passed alive
            shorten(_COMPILED, _N_COMPILED)
        _COMPILED.move_to_end(name)
        compiled = _COMPILED[name]
        if isinstance(compiled, str):
            raise ConversionError(compiled)
        if network.module not in compiled.compared:
            for probe in _probes(network.trace, 3 if compiled.doubtful else 1):
                found = compiled.net(probe.numpy())
                matrices = [found[i] for i in range(len(reads))]
                _compare(matrices, network, reads, probe, precision)
            compiled.compared.add(network.module)
    return compiled


class _FromNHWC(nn.Module):
    """A network as the decoder lays images out, so that none is transposed in memory."""

    def __init__(self, staged: StagedNetwork) -> None:
        super().__init__()
        self.staged = staged

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.staged(x.permute(0, 3, 1, 2))


def _converted(network: Network, reads: tuple[Read, ...]) -> _Converted:
    """An OpenVINO model that has these reads among its outputs."""
    usual = usual_reads(network.trace)
    outputs = usual if set(reads) <= set(usual) else reads
    name = (network.fingerprint, network.trace.size, outputs)
    return remembered(_CONVERTED, name, _N_CONVERTED, lambda: _convert(network, outputs))


def _convert(network: Network, outputs: tuple[Read, ...]) -> _Converted:
    import openvino

    # Of a copy, as the model goes on using the memory of the tensors it is given.
    copied = copy.deepcopy(network.module)
    drop_hooks(copied)
    module = _FromNHWC(StagedNetwork(copied, network.trace, outputs))
    (example,) = _probes(network.trace, 1)
    example = example[:2]
    with warnings.catch_warnings(record=True) as caught, torch.inference_mode():
        warnings.simplefilter("always")
        trace: Any = torch.jit.trace
        traced = trace(module, example, check_trace=False, strict=False)
        model = openvino.convert_model(traced, example_input=example)
    model.reshape([-1, *example.shape[1:]])
    kind: Any = torch.jit.TracerWarning  # type: ignore[attr-defined]
    doubtful = any(issubclass(warning.category, kind) for warning in caught)
    return _Converted(model, outputs, doubtful)


def _compare(
    found: list[np.ndarray],
    network: Network,
    reads: tuple[Read, ...],
    pixels: torch.Tensor,
    precision: str,
) -> None:
    """Raise ConversionError if torch finds something else."""
    with torch.inference_mode():
        expected = StagedNetwork(network.module, network.trace, reads)(pixels.permute(0, 3, 1, 2))
    check_alike(found, expected, reads, precision)


def _probes(trace: Trace, n: int) -> list[torch.Tensor]:
    """Batches of noise of another size than the traced one, and of different ranges."""
    generator = torch.Generator().manual_seed(0)
    shape = (3, *trace.size, trace.in_channels)
    noise = torch.randn(shape, generator=generator)
    return [noise, noise.abs() / 4, noise[:1] * 60 - 100][:n]
