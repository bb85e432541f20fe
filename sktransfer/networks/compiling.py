"""What images and texts share of OpenVINO: compiling a part of a model, and judging its output."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from torch import Tensor

from sktransfer.exceptions import ConversionError

# How far, relative to the largest feature, a compiled net may be from torch. float32 differs by
# about 1e-6, and by 1e-4 where a deep network amplifies rounding, so that torch itself is that
# far from float64. What a wrong conversion gives is another order of magnitude altogether.
_TOLERANCES = {"float32": 1e-3, "bfloat16": 0.25}


def compile_part(
    model: Any, outputs: Sequence[Any], reads: Sequence[Any], precision: str, n_threads: int
) -> Any:
    """Compile, for this CPU, as much of a model as some of its outputs need.

    Parameters
    ----------
    model : openvino.Model
    outputs : sequence of Read
        What the model puts out, in order.
    reads : sequence of Read
        What is wanted of it.
    precision : {"float32", "bfloat16"}
    n_threads : int

    Returns
    -------
    openvino.CompiledModel
    """
    import openvino

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


def check_alike(
    found: Sequence[np.ndarray], expected: Sequence[Tensor], reads: Sequence[Any], precision: str
) -> None:
    """Compare what a compiled net puts out with what torch does.

    Parameters
    ----------
    found : sequence of ndarray
    expected : sequence of Tensor
    reads : sequence of Read
    precision : {"float32", "bfloat16"}

    Raises
    ------
    ConversionError
        They differ by more than rounding.
    """
    for read, matrix, right in zip(reads, found, expected, strict=True):
        scale = float(right.abs().max()) if right.numel() else 0.0
        tolerance = _TOLERANCES[precision] * scale or 1e-6  # relative, unless all is zero
        if matrix.shape != right.shape or not np.abs(matrix - right.numpy()).max() <= tolerance:
            raise ConversionError(
                f"the converted network differs from torch in layer {read.layer!r}"
            )


def shorten(shared: OrderedDict[tuple[Any, ...], Any], length: int) -> None:
    """Forget what was used longest ago."""
    while len(shared) > length:
        shared.popitem(last=False)


def remembered(
    shared: OrderedDict[tuple[Any, ...], Any],
    name: tuple[Any, ...],
    length: int,
    convert: Callable[[], Any],
) -> Any:
    """A conversion, or how it failed, from what is kept of the last ones.

    Parameters
    ----------
    shared : OrderedDict
    name : tuple
    length : int
        How many are kept.
    convert : callable
        Called unless the name is there.

    Raises
    ------
    ConversionError
        It fails, or failed before.
    """
    if name not in shared:
        try:
            shared[name] = convert()
        except Exception as error:  # whatever a network does that a trace cannot express
            lines = str(error).strip().splitlines()
            shared[name] = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
        shorten(shared, length)
    shared.move_to_end(name)
    converted = shared[name]
    if isinstance(converted, str):
        raise ConversionError(converted)
    return converted
