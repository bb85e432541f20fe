"""Networks compiled by OpenVINO, on a CPU 1.5 to 5 times as fast as an eager loop.

The module that torch runs is traced, hooks and all. A conversion takes seconds and a
compilation a fraction of one, so each is done once per process: a network is converted with
all its usual reads, and a compiled model has those of them that are wanted. What it puts out is
compared with torch before it is used.
"""

import logging
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer.exceptions import ConversionError
from sktransfer.networks.early_exit import ArrayReader
from sktransfer.networks.engines.decisions import NumbersTaken
from sktransfer.networks.engines.torch_eager import Engine, Network
from sktransfer.networks.layers import Read
from sktransfer.networks.modules import copied

T = TypeVar("T")

# How far, relative to the largest feature, a compiled model may be from torch. float32 differs by
# about 1e-6, and by 1e-4 where a deep network amplifies rounding, so that torch itself is that
# far from float64. A wrong conversion is off by another order of magnitude altogether.
_TOLERANCES = {"float32": 1e-3, "bfloat16": 0.25}


class _Model(NamedTuple):
    """An OpenVINO model, and whether tracing it met a decision on sizes, weights or the like.

    A compiled model also has the modules that it was compared with.
    """

    model: Any
    has_branches: bool
    compared: WeakSet[nn.Module]


class _Recent(Generic[T]):
    """The results that were used last, or how they failed."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._results: OrderedDict[tuple[Any, ...], T | str] = OrderedDict()

    def get(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """The result of `make` for this key, or a ConversionError if it fails or failed before."""
        if key not in self._results:
            try:
                self._results[key] = make()
            except Exception as error:  # whatever a network does that a trace cannot express
                # Not the exception itself, which would keep all that it has passed alive.
                self._results[key] = _first_line(error)
            while len(self._results) > self._length:
                self._results.popitem(last=False)
        self._results.move_to_end(key)
        result = self._results[key]
        if isinstance(result, str):
            raise ConversionError(result)
        return result


_LOCK = threading.RLock()
_CONVERTED: _Recent[_Model] = _Recent(4)
_COMPILED: _Recent[_Model] = _Recent(16)


def openvino_engine(network: Network, reads: tuple[Read, ...], precision: str) -> Engine:
    """A network compiled for this CPU, shared by all who ask for the same.

    A ConversionError says that the network cannot be converted, or that its features differ from
    torch's. The engine itself raises it, too, if tracing met a decision that may depend on values
    and the features of the first samples differ.
    """
    compiled = _compiled(network, reads, precision)
    request = compiled.model.create_infer_request()  # a request serves one thread at a time
    first = compiled.has_branches

    def run(*arrays: np.ndarray) -> list[np.ndarray]:
        nonlocal first
        outputs = request.infer(list(arrays), share_inputs=True)
        # The next inference writes into the same memory.
        found = [outputs[i].copy() for i in range(len(reads))]
        if first:
            first = False
            few = tuple(torch.from_numpy(array[:4]) for array in arrays)
            _compare([matrix[:4] for matrix in found], network, reads, few, precision)
        # A converted network may overflow, or divide by zero, where torch does not.
        if not all(np.isfinite(matrix.sum()) for matrix in found):
            all_of_it = tuple(torch.from_numpy(array) for array in arrays)
            _compare(found, network, reads, all_of_it, precision)
        return found

    return run


def _compiled(network: Network, reads: tuple[Read, ...], precision: str) -> _Model:
    n_threads = torch.get_num_threads()  # as many as joblib allows its workers
    key = (network.fingerprint, network.trace.static_shape, reads, precision, n_threads)
    with _LOCK:
        compiled = _COMPILED.get(key, lambda: _compile(network, reads, precision, n_threads))
        if network.module not in compiled.compared:
            for example in network.trace.examples(thorough=compiled.has_branches):
                outputs = compiled.model([tensor.numpy() for tensor in example])
                found = [outputs[i] for i in range(len(reads))]
                _compare(found, network, reads, example, precision)
            compiled.compared.add(network.module)
    return compiled


def _compile(network: Network, reads: tuple[Read, ...], precision: str, n_threads: int) -> _Model:
    """As much of the converted network as the wanted reads need, compiled for this CPU."""
    import openvino

    usual = network.trace.usual_reads()
    outputs = usual if set(reads) <= set(usual) else reads
    key = (network.fingerprint, network.trace.static_shape, outputs)
    converted = _CONVERTED.get(key, lambda: _convert(network, outputs))
    model = converted.model
    results = [model.outputs[outputs.index(read)].get_node() for read in reads]
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": n_threads,
        "ENABLE_CPU_PINNING": False,  # processes that share a machine would pin the same cores
    }
    part = openvino.Model(results, model.get_parameters())
    return _Model(_core().compile_model(part, "CPU", settings), converted.has_branches, WeakSet())


@lru_cache(maxsize=1)
def _core() -> Any:
    import openvino

    return openvino.Core()


def _convert(network: Network, outputs: tuple[Read, ...]) -> _Model:
    import openvino

    # A copy is converted, as the model goes on using the memory of the tensors it is given.
    reader = ArrayReader(copied(network.module), network.trace, outputs)
    # On fewer samples than it is compared on: a trace may depend on their number.
    example = tuple(tensor[:-1] for tensor in network.trace.examples()[0])
    numbers = NumbersTaken()
    with _without_logging(), warnings.catch_warnings(record=True) as caught, torch.inference_mode():
        warnings.simplefilter("always")
        trace: Any = torch.jit.trace
        with numbers:
            traced = trace(reader, example, check_trace=False, strict=False)
        if numbers.found:
            raise ConversionError(
                "its code takes numbers out of tensors that depend on the samples, as to choose a "
                "branch, and a converted network would take the same for all samples"
            )
        model = openvino.convert_model(traced, example_input=example)
    if network.trace.static_shape is not None:
        model.reshape(list(network.trace.static_shape))
    kind: Any = torch.jit.TracerWarning  # type: ignore[attr-defined]
    has_branches = any(issubclass(warning.category, kind) for warning in caught)
    return _Model(model, has_branches, WeakSet())


@contextmanager
def _without_logging() -> Iterator[None]:
    """OpenVINO looks at all attributes of a network, and some of them log when looked at."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)


def _compare(
    found: Sequence[np.ndarray],
    network: Network,
    reads: Sequence[Read],
    example: tuple[Tensor, ...],
    precision: str,
) -> None:
    """Raise ConversionError if torch finds something else."""
    with torch.inference_mode():
        expected = ArrayReader(network.module, network.trace, tuple(reads))(*example)
    for read, matrix, right in zip(reads, found, expected, strict=True):
        if not _is_close(matrix, right.numpy(), _TOLERANCES[precision]):
            raise ConversionError(
                f"the converted network differs from torch in layer {read.layer!r}"
            )


def _is_close(found: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    """Whether two matrices agree relative to the largest value; NaN and infinity agree as such."""
    finite = np.isfinite(expected)
    if found.shape != expected.shape or not np.array_equal(finite, np.isfinite(found)):
        return False
    if not finite.any():
        return True
    right = expected[finite]
    scale = float(np.abs(right).max())
    # Relative, unless all is zero.
    return bool(np.abs(found[finite] - right).max() <= (tolerance * scale or 1e-6))


def _first_line(error: Exception) -> str:
    if isinstance(error, ConversionError):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
