"""Networks as they are used here: frozen, in evaluation mode, and copied while nobody runs them."""

import copy
import itertools
from typing import Any

from torch import nn

from sktransfer.networks.hooks import drop_hooks, undisturbed


def frozen(module: nn.Module) -> nn.Module:
    """A network in evaluation mode, whatever made it: every path to a network ends here.

    Copies and pickles of graphs are in training mode whatever the original was, and a network's own
    `train` may leave parts of it there. It is the network itself that comes back, or a copy if it
    was made in inference mode, where tensors cannot be trained later.
    """
    tensors = itertools.chain(module.parameters(), module.buffers())
    if any(tensor.is_inference() for tensor in tensors):
        module = copy.deepcopy(module)
    evaluate(module)
    module.requires_grad_(False)
    return module


def evaluate(module: nn.Module) -> None:
    """Set evaluation mode in all parts of a network."""
    if any(part.training for part in module.modules()):
        module.eval()  # which may return nothing
        for part in module.modules():
            part.training = False


def copied(module: nn.Module, shared: dict[int, Any] | None = None) -> nn.Module:
    """A copy of a network that others may be running, in evaluation mode and without their hooks.

    Parameters
    ----------
    module : nn.Module
    shared : dict of int to object, optional
        By their id, what the copy is to have in common with the original.
    """
    with undisturbed(module):
        copy_of_module = copy.deepcopy(module, shared)
    drop_hooks(copy_of_module)
    evaluate(copy_of_module)
    return copy_of_module
