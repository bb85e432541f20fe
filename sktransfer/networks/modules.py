"""Networks as they are used here: frozen, in evaluation mode, and copied while nobody runs them."""

import copy
import itertools
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sktransfer.networks.hooks import drop_hooks, undisturbed

Network = TypeVar("Network", bound=nn.Module)


def frozen(module: Network) -> Network:
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


def copied(module: Network, shared: dict[int, Any] | None = None) -> Network:
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


Packed = nn.Module | tuple[nn.Module, list[bytes]]
"""A network without numbers, and those of its tensors in order; else the network as it is."""


def packed(module: nn.Module) -> Packed:
    """A network of a class of the user's own, for a pickle that can be read on any machine.

    A state dict does not hold all of a network: plain attributes, buffers that are not persistent.
    But a pickled tensor says where it lay in memory, which would change the hash by which caches
    find the network; so the tensors of the modules travel as their bytes.
    """
    tensors = _tensors_of(module)
    if not all(map(_has_only_numbers, tensors)):
        return copied(module).cpu()
    skeleton = copied(module, {id(tensor): _on_no_device(tensor) for tensor in tensors})
    values = [tensor.detach().cpu().contiguous().flatten() for tensor in tensors]
    return skeleton, [flat.view(torch.uint8).numpy().tobytes() for flat in values]


def unpacked(network: Packed) -> nn.Module:
    """The network that `packed` has packed, on the CPU."""
    if isinstance(network, nn.Module):  # also from pickles of earlier versions
        return network
    skeleton, values = network
    filled = zip(_tensors_of(skeleton), values, strict=True)
    return copied(skeleton, {id(tensor): _filled(tensor, data) for tensor, data in filled})


def _tensors_of(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _has_only_numbers(tensor: Tensor) -> bool:
    """Whether type, layout and numbers are all that there is to a tensor."""
    plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided
    return plain and not (tensor.is_meta or tensor.is_quantized)


def _on_no_device(tensor: Tensor) -> Tensor:
    return _like(tensor, torch.empty_like(tensor, device="meta"))


def _filled(tensor: Tensor, data: bytes) -> Tensor:
    values = torch.empty_like(tensor, device="cpu")  # with the same strides
    if data:
        values.copy_(torch.frombuffer(bytearray(data), dtype=tensor.dtype).view(tensor.shape))
    return _like(tensor, values)


def _like(tensor: Tensor, values: Tensor) -> Tensor:
    """Values as a parameter if the tensor is one."""
    values = values.detach()
    is_parameter = isinstance(tensor, nn.Parameter)
    return nn.Parameter(values, requires_grad=tensor.requires_grad) if is_parameter else values
