"""A description of a network that is the same in every process, and changes when it would.

Walks modules, their attributes, hooks and the byte code of their classes.
"""

import enum
import functools
import hashlib
import logging
import pickle
import types
import uuid
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from sktransfer.networks.hooks import is_ours

# What torch notes of a module, and weak references of recurrent networks to their weights.
_TORCH_OWN = {*vars(nn.Module()), "_flat_weight_refs"}
_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
_PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes, range, slice, enum.Enum),
    *(torch.dtype, torch.device, torch.memory_format, np.generic, np.dtype),
)
_NAMED = (
    *(types.BuiltinFunctionType, types.MemberDescriptorType, types.GetSetDescriptorType),
    *(types.MethodDescriptorType, types.WrapperDescriptorType, np.ufunc),
)

_MOST_PARTS = 300_000
"""Objects that refer to each other could be followed for ever: beyond it a network is unique."""


class Description:
    """Collects the parts of one network's description."""

    def __init__(self, module: nn.Module) -> None:
        self._hash = hashlib.sha256()
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []  # so that ids stay taken
        self._open: set[int] = set()
        self._n_parts = 0
        self._module = module

    def digest(self, start: str) -> str:
        """SHA-256 of the description, beginning with `start`."""
        self._hash.update(start.encode())
        # Weights are known already; what lies outside the state dict is not.
        for parameter in self._module.parameters():
            self._note(parameter)
        try:
            self._add(self._module)
        except Exception:  # a foreign object may fail on being looked at
            self._write(uuid.uuid4().hex)
        return self._hash.hexdigest()

    def _write(self, *parts: object) -> None:
        for part in parts:
            text = str(part).encode("utf-8", "backslashreplace")
            self._hash.update(len(text).to_bytes(8, "little") + text)

    def _note(self, value: Any) -> bool:
        """Whether the value was met before; if so, where is written down.

        Only for what copies and pickles keep shared: they may split equal tuples.
        """
        known = self._seen.get(id(value))
        if known is not None:
            self._write("again", known)
            return True
        self._seen[id(value)] = len(self._seen)
        self._kept.append(value)
        return False

    def _add(self, value: Any) -> None:
        self._n_parts += 1
        if self._n_parts > _MOST_PARTS:
            raise RecursionError("the network's attributes refer to each other in too many ways")
        if isinstance(value, _PLAIN):
            self._write(type(value).__name__, repr(value))
        elif isinstance(value, type):
            self._write("class", value.__module__, value.__qualname__)
        elif isinstance(value, _NAMED):
            self._write(type(value).__name__, getattr(value, "__qualname__", repr(value)))
        elif isinstance(value, torch.Tensor | nn.Module | types.FunctionType):
            if not self._note(value):
                self._add_new(value)
        elif id(value) in self._open:
            self._write("inside itself")
        else:
            self._open.add(id(value))
            self._add_new(value)
            self._open.remove(id(value))

    def _add_new(self, value: Any) -> None:
        self._write(type(value).__module__, type(value).__qualname__)
        if isinstance(value, torch.Tensor):
            self._add_tensor(value)
        elif isinstance(value, nn.Module):
            self._add_module(value)
        elif isinstance(value, types.FunctionType):
            self._add_function(value)
        elif isinstance(value, np.ndarray):
            self._write(value.dtype, value.shape)
            self._add(value.tolist() if value.dtype.hasobject else value.tobytes())
        else:
            self._add_all(_parts(value))

    def _add_all(self, values: Iterable[Any]) -> None:
        for value in values:
            self._add(value)
        self._write("end")

    def _add_tensor(self, tensor: torch.Tensor) -> None:
        tensor = tensor.detach()
        self._write(tensor.dtype, tuple(tensor.shape), tensor.layout)
        if tensor.is_meta:
            return
        dense = tensor.to_dense() if tensor.layout != torch.strided else tensor
        # As bytes of any dtype; NumPy lacks some.
        self._write(hashlib.sha256(_bytes(dense)).hexdigest())

    def _add_module(self, module: nn.Module) -> None:
        is_graph = isinstance(module, fx.GraphModule)
        attributes = {k: v for k, v in vars(module).items() if k not in _TORCH_OWN}
        if is_graph:  # the rest, and its class, are made of the graph
            attributes = {"graph": module.graph}
        self._add_all(item for name in sorted(attributes) for item in (name, attributes[name]))
        for hooks in _HOOKS:
            self._add_all(hook for hook in getattr(module, hooks).values() if not is_ours(hook))
        for tensors in (module.named_parameters, module.named_buffers):
            self._add_all(item for pair in tensors(recurse=False) for item in pair)
        self._add_all(item for pair in module.named_children() for item in pair)
        for base in type(module).__mro__:
            if base is nn.Module or is_graph:
                break
            if not self._note(base):
                self._add_class(base)

    def _add_class(self, kind: type) -> None:
        self._write(kind.__module__, kind.__qualname__)
        for name, value in sorted(vars(kind).items()):
            special = name.startswith("__") and name.endswith("__")
            if not name.startswith("_abc_") and (callable(value) or not special):
                self._write(name)
                self._add(value)

    def _add_function(self, function: types.FunctionType) -> None:
        self._add(function.__code__)
        self._add_all((function.__defaults__, function.__kwdefaults__))
        for cell in function.__closure__ or ():
            try:
                self._add(cell.cell_contents)
            except ValueError:  # an empty cell
                self._write("empty")


def _parts(value: Any) -> Iterable[Any]:
    """The parts of a container, or of an object of any other kind."""
    if isinstance(value, dict):
        return [part for pair in value.items() for part in pair]
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, types.CodeType):
        return [value.co_name, value.co_code, value.co_names, value.co_varnames, value.co_consts]
    if isinstance(value, classmethod | staticmethod | types.MethodType):
        return [value.__func__]
    if isinstance(value, property):
        return [value.fget, value.fset]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if hasattr(value, "__wrapped__"):
        return [value.__wrapped__]
    if isinstance(value, types.ModuleType):
        return [value.__name__]
    if isinstance(value, fx.Graph):  # each of its nodes refers to those before and after it
        return [str(value), *(node.target for node in value.nodes if callable(node.target))]
    if isinstance(value, logging.Logger):  # whose levels and handlers are no one's business here
        return [value.name]
    state = {**_slots(value), **getattr(value, "__dict__", {})}
    if state:
        return [part for name in sorted(state) for part in (name, state[name])]
    try:
        return [pickle.dumps(value)]
    except Exception:  # a lock, a weak reference: no two are known to be the same
        return [uuid.uuid4().hex]


def _slots(value: Any) -> dict[str, Any]:
    names: list[str] = []
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        names += [slots] if isinstance(slots, str) else slots
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _bytes(tensor: torch.Tensor) -> bytes:
    flat = tensor.cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
