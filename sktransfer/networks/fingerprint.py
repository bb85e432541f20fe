"""A hash of all that decides what a network computes: weights, structure and code."""

import torch
from torch import nn

from sktransfer.networks.description import Description


def network_fingerprint(module: nn.Module, weights_sha256: str) -> str:
    """SHA-256 of a network: weights, structure, attributes, hooks and code.

    Covers what no state dict holds: buffers that are not persistent, attributes of any
    module, and the byte code of its class. A function outside the class that `forward`
    calls is known by name only. What cannot be looked into makes the fingerprint unique:
    a feature that is computed again does no harm, one of another network would.

    Parameters
    ----------
    module : nn.Module
    weights_sha256 : str
        Of its parameters.
    """
    return Description(module).digest(weights_sha256)


def module_state(module: nn.Module) -> list[tuple[int, int]]:
    """Identities and versions of parameters and buffers, which change when they are written to."""
    tensors: list[torch.Tensor | None] = []
    below: list[nn.Module | None] = [module]
    while below:  # several times faster than parameters() and buffers()
        child = below.pop()
        if child is not None:
            tensors += child._parameters.values()
            if child._buffers:
                tensors += child._buffers.values()
            if child._modules:
                below += child._modules.values()
    return [(id(t), _version(t)) for t in tensors if t is not None]


def _version(tensor: torch.Tensor) -> int:
    try:
        return tensor._version
    except RuntimeError:  # made in inference mode, which keeps no count
        return -1
