"""What runs a network: torch on any device, or OpenVINO on a CPU.

An engine is a function from pixels of shape (n, height, width, channels) to one float32
matrix of n rows per read.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import nn

from sktransfer.images.folding import without_batch_norm
from sktransfer.images.staged import Read, StagedNetwork
from sktransfer.images.tracing import Trace

ENGINES = ("auto", "torch", "openvino")

Engine = Callable[[np.ndarray], list[np.ndarray]]

_PIXELS_PER_PASS = 4 * 224 * 224
"""Pixels that a CPU takes at once. Larger passes leave its caches and go up to three times
slower, smaller ones do not fill its cores; see benchmarks/throughput.py."""


@dataclass(frozen=True)
class Network:
    """A network at one image size, and what identifies it.

    Parameters
    ----------
    module : nn.Module
        Frozen and in evaluation mode.
    trace : Trace
    fingerprint : str
        See `sktransfer.networks.fingerprint.network_fingerprint`.
    """

    module: nn.Module
    trace: Trace
    fingerprint: str


def resolve_engine(engine: str, device: torch.device) -> str:
    """Turn "auto" into "openvino" where it is installed and the device a CPU, else "torch".

    Raises
    ------
    ImportError
        OpenVINO is asked for and not installed.
    ValueError
        OpenVINO is asked for on another device than the CPU.
    """
    installed = find_spec("openvino") is not None
    if engine == "auto":
        return "openvino" if installed and device.type == "cpu" else "torch"
    if engine == "openvino" and not installed:
        raise ImportError(
            "engine='openvino' needs OpenVINO: run `pip install \"sktransfer[openvino]\"`, or set "
            "engine='torch'"
        )
    if engine == "openvino" and device.type != "cpu":
        raise ValueError(
            f"engine='openvino' runs on the CPU, and the device is {str(device)!r}; set "
            "device='cpu' or engine='torch'"
        )
    return engine


def torch_engine(
    network: Network, reads: tuple[Read, ...], device: torch.device, precision: str
) -> Engine:
    """Eager torch in inference mode, channels last, with batch norm folded.

    Parameters
    ----------
    network : Network
        Its module is on `device`.
    reads : tuple of Read
    device : torch.device
    precision : {"float32", "bfloat16"}
        Arithmetic inside the network; the features are float32 either way.
    """
    layers = [read.layer for read in reads]
    module = without_batch_norm(network.module, network.trace, layers)
    staged = StagedNetwork(module, network.trace, reads)

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        autocast: Any = (
            torch.autocast(device.type, dtype=torch.bfloat16)
            if precision == "bfloat16"
            else nullcontext()
        )
        with torch.inference_mode(), autocast:
            # (n, H, W, C) seen as (n, C, H, W) is torch's channels_last: nothing is copied, and
            # convolutions on a CPU run two to five times faster.
            batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device)
            return [matrix.cpu().numpy() for matrix in staged(batch)]

    return in_passes(run, network.trace.size) if device.type == "cpu" else run


def in_passes(run: Engine, size: tuple[int, int]) -> Engine:
    """Feed an engine as many images at once as suit a CPU's caches."""
    n_images = max(1, _PIXELS_PER_PASS // (size[0] * size[1]))

    def run_all(pixels: np.ndarray) -> list[np.ndarray]:
        parts = [run(pixels[i : i + n_images]) for i in range(0, len(pixels), n_images)]
        return [np.concatenate(matrices) for matrices in zip(*parts, strict=True)]

    return run_all
