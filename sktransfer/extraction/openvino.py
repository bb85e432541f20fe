"""Networks compiled by OpenVINO, which on a CPU are two to five times faster than eager torch.

The wrapper that torch runs is traced, hooks and all. A conversion takes seconds and a
compilation a fraction of one, so each is done once per process: a network is converted with
all its usual reads, of which a compiled net takes those that are wanted.
"""

import threading
import warnings
from collections import OrderedDict
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from sktransfer.exceptions import ConversionError
from sktransfer.extraction.engines import Engine, Network, in_passes
from sktransfer.extraction.staged import Read, StagedNetwork, usual_reads

_N_CONVERTED = 4
_N_COMPILED = 16

# How far, relative to the largest feature, a compiled net may be from torch. float32 differs
# by about 1e-6, and what a wrong conversion gives is another order of magnitude altogether.
_TOLERANCES = {"float32": 1e-4, "bfloat16": 0.25}

_LOCK = threading.RLock()
_CONVERTED: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
_COMPILED: OrderedDict[tuple[Any, ...], Any] = OrderedDict()


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
        The network cannot be converted, or its features differ from torch's.
    """
    n_threads = torch.get_num_threads()  # what joblib allows its workers
    name = (network.fingerprint, network.trace.size, reads, precision, n_threads)
    with _LOCK:
        compiled = _COMPILED.get(name)
        if compiled is None:
            compiled = _compile(_converted(network, reads), reads, precision, n_threads)
            _check(compiled, network, reads, precision)
            _COMPILED[name] = compiled
            _shorten(_COMPILED, _N_COMPILED)
        _COMPILED.move_to_end(name)
    request = compiled.create_infer_request()  # a request serves one thread at a time

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        outputs = request.infer([pixels], share_inputs=True)
        return [outputs[i].copy() for i in range(len(reads))]

    return in_passes(run, network.trace.size)


class _FromNHWC(nn.Module):
    """A network as the decoder lays images out, so that none is transposed in memory."""

    def __init__(self, staged: StagedNetwork) -> None:
        super().__init__()
        self.staged = staged

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.staged(x.permute(0, 3, 1, 2))


def _converted(network: Network, reads: tuple[Read, ...]) -> tuple[Any, tuple[Read, ...]]:
    """An OpenVINO model that has these reads among its outputs, and all its outputs."""
    usual = usual_reads(network.trace)
    outputs = usual if set(reads) <= set(usual) else reads
    name = (network.fingerprint, network.trace.size, outputs)
    known = _CONVERTED.get(name)
    if known is None:
        try:
            known = _convert(network, outputs)
        except Exception as error:  # whatever a network does that a trace cannot express
            known = ConversionError(f"{type(error).__name__}: {str(error).splitlines()[0]}")
        _CONVERTED[name] = known
        _shorten(_CONVERTED, _N_CONVERTED)
    _CONVERTED.move_to_end(name)
    if isinstance(known, ConversionError):
        raise known
    return known, outputs


def _convert(network: Network, outputs: tuple[Read, ...]) -> Any:
    import openvino

    module = _FromNHWC(StagedNetwork(network.module, network.trace, outputs))
    example = _probe(network, 2)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of tracing, which is what is wanted here
        trace: Any = torch.jit.trace
        traced = trace(module, example, check_trace=False, strict=False)
        model = openvino.convert_model(traced, example_input=example)
    model.reshape([-1, *example.shape[1:]])
    return model


def _compile(
    converted: tuple[Any, tuple[Read, ...]],
    reads: tuple[Read, ...],
    precision: str,
    n_threads: int,
) -> Any:
    import openvino

    model, outputs = converted
    results = [model.outputs[outputs.index(read)].get_node() for read in reads]
    part = openvino.Model(results, model.get_parameters())
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": n_threads,
        "ENABLE_CPU_PINNING": False,  # processes that share a machine would pin the same cores
    }
    return _core().compile_model(part, "CPU", settings)


@lru_cache(maxsize=1)
def _core() -> Any:
    import openvino

    return openvino.Core()


def _check(compiled: Any, network: Network, reads: tuple[Read, ...], precision: str) -> None:
    """Compare with torch on a batch of another size than the traced one."""
    probe = _probe(network, 3)
    with torch.inference_mode():
        expected = StagedNetwork(network.module, network.trace, reads)(probe.permute(0, 3, 1, 2))
    outputs = compiled(probe.numpy())
    for i, (read, matrix) in enumerate(zip(reads, expected, strict=True)):
        found, right = outputs[i], matrix.numpy()
        same = found.shape == right.shape
        scale = float(np.abs(right).max()) if right.size else 0.0
        if not same or not np.abs(found - right).max() <= _TOLERANCES[precision] * scale + 1e-6:
            raise ConversionError(f"the converted network's {read} differs from torch's")


def _probe(network: Network, n: int) -> torch.Tensor:
    """Noise in the shape of n images."""
    shape = (n, *network.trace.size, network.trace.in_channels)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _shorten(shared: OrderedDict[tuple[Any, ...], Any], length: int) -> None:
    while len(shared) > length:
        shared.popitem(last=False)
