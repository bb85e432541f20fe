"""Engines run a network: torch on any device, or OpenVINO on a CPU.

An engine is a function from arrays, as they come from reading, to one float32 matrix per read.
"""

from importlib.util import find_spec

import torch

from sktransfer.networks.engines.openvino import openvino_engine
from sktransfer.networks.engines.torch_eager import Engine, Network, torch_engine
from sktransfer.networks.layers import Read

__all__ = [
    "ENGINES",
    "Engine",
    "Network",
    "make_engine",
    "openvino_engine",
    "resolve_engine",
    "torch_engine",
]

ENGINES = ("auto", "torch", "openvino")


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


def make_engine(
    engine: str, network: Network, reads: tuple[Read, ...], device: torch.device, precision: str
) -> Engine:
    """The engine of a resolved name; see `torch_engine` and `openvino_engine`."""
    if engine == "openvino":
        return openvino_engine(network, reads, precision)
    return torch_engine(network, reads, device, precision)
