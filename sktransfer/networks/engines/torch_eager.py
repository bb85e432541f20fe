"""Networks run by torch, on any device."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from sktransfer.networks.early_exit import ArrayReader
from sktransfer.networks.engines.batch_norm_folding import without_batch_norm
from sktransfer.networks.layers import Read, Trace

Engine = Callable[..., list[np.ndarray]]


@dataclass(frozen=True)
class Network:
    """A network for inputs of one kind, and its identity.

    Parameters
    ----------
    module : nn.Module
        Frozen and in evaluation mode.
    trace : Trace
    fingerprint : str
        Hash of its weights, structure and code: networks of one fingerprint are converted once.
    """

    module: nn.Module
    trace: Trace
    fingerprint: str


def torch_engine(
    network: Network, reads: tuple[Read, ...], device: torch.device, precision: str
) -> Engine:
    """Eager torch in inference mode, with batch norm folded; the module is on the device.

    `precision` is that of the arithmetic inside the network; the features are float32 either way.
    """
    layers = [read.layer for read in reads]
    module = without_batch_norm(network.module, network.trace, layers)
    reader = ArrayReader(module, network.trace, reads)

    def run(*arrays: np.ndarray) -> list[np.ndarray]:
        autocast: Any = (
            torch.autocast(device.type, dtype=torch.bfloat16)
            if precision == "bfloat16"
            else nullcontext()
        )
        with torch.inference_mode(), autocast:
            tensors = [torch.from_numpy(array).to(device) for array in arrays]
            return [matrix.cpu().numpy() for matrix in reader(*tensors)]

    return run
