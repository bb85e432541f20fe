"""Fold batch norm into the convolution before it: the same function in fewer passes over memory.

In evaluation mode batch norm is an affine map per channel, which the convolution's weights
can do on the way (Jacob et al., "Quantization and training of neural networks for efficient
integer-arithmetic-only inference", 2018, section 3.2).
"""

import threading
from collections import Counter
from collections.abc import Collection
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from sktransfer.networks.early_exit import LayerReader
from sktransfer.networks.fingerprint import module_state
from sktransfer.networks.hooks import Tap, hooked
from sktransfer.networks.layers import Trace
from sktransfer.networks.modules import copied, evaluate

_TOLERANCE = 1e-4
"""Largest difference, relative to the largest feature, that folding may make."""


class _Folded(NamedTuple):
    """A folded copy, the layers that it computes differently, and what it was made from."""

    module: nn.Module | None
    different: frozenset[str]
    state: list[tuple[int, int]]


_FOLDED: WeakKeyDictionary[nn.Module, _Folded] = WeakKeyDictionary()
_FOLDING = threading.Lock()


def without_batch_norm(module: nn.Module, trace: Trace, layers: Collection[str]) -> nn.Module:
    """The network with batch norm folded where that changes nothing; else the network itself.

    The copy shares all other tensors with the original, and is made once per network. It is not
    used if one of the layers to read is between a convolution and its batch norm, whose output
    folding changes.
    """
    state = module_state(module)
    with _FOLDING:
        folded = _FOLDED.get(module)
        if folded is None or folded.state != state:
            folded = _FOLDED[module] = _Folded(*_fold(module, trace), state)
    return module if folded.module is None or folded.different & set(layers) else folded.module


def _fold(module: nn.Module, trace: Trace) -> tuple[nn.Module | None, frozenset[str]]:
    if not any(map(_is_norm, module.modules())):
        return None, frozenset()
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    try:
        noise = trace.from_arrays(*(array.to(device) for array in trace.examples()[0]))
        with torch.inference_mode():
            pairs = _pairs(module, trace, noise)
            if not pairs:
                return None, frozenset()
            folded = _fold_pairs(module, pairs)
            # What else a convolution feeds is not seen; the numbers of all layers tell.
            return folded, _different(module, folded, trace, noise)
    except Exception:  # a foreign network may fail on noise, or on being copied
        return None, frozenset()


def _pairs(module: nn.Module, trace: Trace, noise: tuple[Tensor, ...]) -> dict[str, str]:
    """Batch norms, each with the convolution whose output it is given."""
    modules = dict(module.named_modules())
    runs: Counter[str] = Counter()
    outputs: dict[int, tuple[str, Any]] = {}
    pairs: dict[str, str] = {}

    def record(tap: Tap, value: Any) -> None:
        if tap.side == "output":
            runs[tap.module] += 1
            outputs[id(value)] = (tap.module, value)  # held, so that its id stays its own
        elif id(value) in outputs:
            pairs[tap.module] = outputs[id(value)][0]

    taps = {Tap(name) for name, m in modules.items() if isinstance(m, nn.Conv2d)}
    norms = {Tap(name, "input") for name, m in modules.items() if _is_norm(m)}
    with hooked(module, taps | norms, record):
        trace.run(module, *noise)
    fed = Counter(pairs.values())
    return {norm: conv for norm, conv in pairs.items() if runs[conv] == 1 and fed[conv] == 1}


def _is_norm(module: nn.Module) -> bool:
    return type(module) in (nn.BatchNorm2d, BatchNormAct2d) and module.running_mean is not None


def _fold_pairs(module: nn.Module, pairs: dict[str, str]) -> nn.Module:
    shared = {id(t): t for t in [*module.parameters(), *module.buffers()]}
    folded = copied(module, shared)
    for norm_name, conv_name in pairs.items():
        norm: Any = folded.get_submodule(norm_name)
        conv: Any = folded.get_submodule(conv_name)
        weight, bias = fuse_conv_bn_weights(
            conv.weight,
            conv.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        laid_out = weight.contiguous(memory_format=torch.channels_last)
        conv.weight = nn.Parameter(laid_out, requires_grad=False)
        conv.bias = nn.Parameter(bias, requires_grad=False)
        rest: nn.Module = nn.Identity()
        if type(norm) is BatchNormAct2d:  # timm's batch norm holds the activation as well
            rest = nn.Sequential()
            rest.add_module("drop", norm.drop)
            rest.add_module("act", norm.act)
        parent, _, name = norm_name.rpartition(".")
        setattr(folded.get_submodule(parent), name, rest)
    evaluate(folded)
    return folded


def _different(
    module: nn.Module, folded: nn.Module, trace: Trace, noise: tuple[Tensor, ...]
) -> frozenset[str]:
    """Layers whose pooled outputs changed."""
    reads = trace.reads(list(trace.taps), ("mean", "max"))
    before = LayerReader(module, trace, reads)(*noise)
    after = LayerReader(folded, trace, reads)(*noise)
    return frozenset(
        read.layer
        for read, a, b in zip(reads, after, before, strict=True)
        if not (a - b).abs().max() <= _TOLERANCE * b.abs().max()
    )
