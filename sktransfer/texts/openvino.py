"""Transformers compiled by OpenVINO, as `sktransfer.images.openvino` does it for images.

A network is converted once per process with all its stages, of which a compiled net takes those
that are wanted, and compared with torch on rows of several lengths before it is believed.
"""

import copy
import threading
import warnings
from collections import OrderedDict
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from torch import nn

from sktransfer.exceptions import ConversionError
from sktransfer.networks.compiling import check_alike, compile_part, remembered, shorten
from sktransfer.networks.hooks import drop_hooks
from sktransfer.texts.tracing import POOLINGS, Engine, Read, TextNetwork, probe, trace_of
from sktransfer.texts.transformers import quiet

_N_CONVERTED = 2
_N_COMPILED = 8

_SHAPES = ((1, 3), (3, 17), (2, 40))
"""Rows and tokens on which they are compared: without padding, with it, and longer."""

_LOCK = threading.RLock()
_CONVERTED: OrderedDict[tuple[Any, ...], tuple[Any, tuple[Read, ...]] | str] = OrderedDict()
_COMPILED: OrderedDict[tuple[Any, ...], tuple[Any, WeakSet[nn.Module]] | str] = OrderedDict()


def openvino_engine(
    module: nn.Module, fingerprint: str, reads: tuple[Read, ...], precision: str, limit: int | None
) -> Engine:
    """A network compiled for this CPU, shared by all who ask for the same.

    Parameters
    ----------
    module : nn.Module
    fingerprint : str
        Of its weights and structure.
    reads : tuple of Read
    precision : {"float32", "bfloat16"}
    limit : int or None
        Tokens that it takes at most.

    Raises
    ------
    ConversionError
        The network cannot be converted, or its features differ from torch's.
    """
    n_threads = torch.get_num_threads()  # what joblib allows its workers
    name = (fingerprint, reads, precision, n_threads)
    with _LOCK:
        if name not in _COMPILED:
            try:
                model, outputs = _converted(module, fingerprint, reads)
                net = compile_part(model, outputs, reads, precision, n_threads)
                _COMPILED[name] = (net, WeakSet())
            except Exception as error:
                _COMPILED[name] = str(error)  # an exception would keep what it passed alive
            shorten(_COMPILED, _N_COMPILED)
        _COMPILED.move_to_end(name)
        compiled = _COMPILED[name]
        if isinstance(compiled, str):
            raise ConversionError(compiled)
        net, compared = compiled
        if module not in compared:
            _compare(net, module, reads, precision, limit)
            compared.add(module)
    request = net.create_infer_request()  # a request serves one thread at a time

    def run(ids: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
        outputs = request.infer([ids, mask], share_inputs=True)
        return [outputs[i].copy() for i in range(len(reads))]

    return run


def _converted(
    module: nn.Module, fingerprint: str, reads: tuple[Read, ...]
) -> tuple[Any, tuple[Read, ...]]:
    """An OpenVINO model that has these reads among its outputs."""
    trace = trace_of(module)
    usual = trace.reads(trace.stages, POOLINGS)
    outputs = usual if set(reads) <= set(usual) else reads
    name = (fingerprint, outputs)
    return remembered(_CONVERTED, name, _N_CONVERTED, lambda: (_convert(module, outputs), outputs))


def _convert(module: nn.Module, outputs: tuple[Read, ...]) -> Any:
    import openvino

    # Of a copy, as the model goes on using the memory of the tensors it is given.
    copied = copy.deepcopy(module)
    drop_hooks(copied)
    network = TextNetwork(copied, trace_of(module), outputs)
    example = probe(module, 3, 11)
    # OpenVINO looks at all attributes, and some make transformers talk.
    with quiet(), warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of decisions; the comparison tells whether they matter
        trace: Any = torch.jit.trace
        traced = trace(network, example, check_trace=False, strict=False)
        return openvino.convert_model(traced, example_input=example)


def _compare(
    net: Any, module: nn.Module, reads: tuple[Read, ...], precision: str, limit: int | None
) -> None:
    """Raise ConversionError if torch finds something else."""
    network = TextNetwork(module, trace_of(module), reads)
    for rows, length in _SHAPES:
        ids, mask = probe(module, rows, min(length, limit or length))
        found = net([ids.numpy(), mask.numpy()])
        with torch.inference_mode():
            expected = network(ids, mask)
        check_alike([found[i] for i in range(len(reads))], expected, reads, precision)
