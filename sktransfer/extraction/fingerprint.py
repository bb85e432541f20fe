"""Hashes that decide whether stored features may be used: of a sample, and of a network.

A sample is known by its content, never by its name or place. A network is known by its
weights, its structure and the code that runs it.
"""

import functools
import hashlib
import os
import time
import types
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from sktransfer.extraction.reading import tensor_to_array

_ORIENTATION = 0x0112  # the EXIF tag

# A file changed twice within its time stamp's resolution would look unchanged.
_SETTLED_SECONDS = 2.0
_N_REMEMBERED_FILES = 1_000_000

FileState = tuple[int, int, int, int]


def sample_key(item: Any) -> bytes | None:
    """SHA-256 of what an item of X holds; None if it is missing or cannot be read.

    Parameters
    ----------
    item : str, os.PathLike, PIL.Image.Image, tensor or array-like
        A file counts by its bytes, an image by its mode, size, pixels, palette,
        transparency and orientation, an array by its dtype, shape and values.
    """
    try:
        if isinstance(item, str | os.PathLike):
            return _file_key(Path(item))
        if isinstance(item, Image.Image):
            return _image_key(item)
        array = tensor_to_array(item) if hasattr(item, "detach") else np.asarray(item)
    except Exception:  # reading it will tell what is wrong
        return None
    if array.dtype.kind not in "buif" or array.ndim == 0:
        return None
    return _sha256(("array", array.dtype.str, array.shape), np.ascontiguousarray(array))


def file_state(item: Any) -> FileState | None:
    """What changes when a file does; None if the item is no file."""
    if not isinstance(item, str | os.PathLike):
        return None
    status = os.stat(item)
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


_FILES: OrderedDict[str, tuple[FileState, bytes]] = OrderedDict()


def _file_key(path: Path) -> bytes:
    """Hash a file, or remember its hash as long as its inode, size and times stay the same."""
    state = file_state(path)
    name = os.path.abspath(path)
    known = _FILES.get(name)
    if known is not None and known[0] == state:
        return known[1]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    key = hashlib.sha256(b"file" + digest.digest()).digest()
    settled = state is not None and time.time() - state[3] / 1e9 > _SETTLED_SECONDS
    if settled and file_state(path) == state:
        _FILES[name] = (state, key)  # type: ignore[assignment]
        if len(_FILES) > _N_REMEMBERED_FILES:
            _FILES.popitem(last=False)
    return key


def _image_key(image: Image.Image) -> bytes:
    pixels = image.tobytes()  # loads the file it was opened from
    palette = image.palette.tobytes() if image.palette is not None else b""
    kind = (
        "image",
        image.mode,
        image.size,
        image.getexif().get(_ORIENTATION),
        image.info.get("transparency"),
        image.palette.mode if image.palette is not None else None,
        hashlib.sha256(palette).hexdigest(),
    )
    return _sha256(kind, pixels)


def _sha256(kind: tuple[Any, ...], data: Any) -> bytes:
    digest = hashlib.sha256(repr(kind).encode())
    digest.update(data)
    return digest.digest()


def network_fingerprint(module: nn.Module, weights_sha256: str) -> str:
    """SHA-256 of a network: weights, structure, plain attributes and code.

    Covers what no state dict holds: buffers that are not persistent, attributes of any
    module, and the byte code of its class. A function outside the class that `forward`
    calls is known by name only.

    Parameters
    ----------
    module : nn.Module
    weights_sha256 : str
        Of its parameters.
    """
    digest = hashlib.sha256(weights_sha256.encode())
    for name, buffer in sorted(module.named_buffers(), key=lambda item: item[0]):
        digest.update(f"\n{name}={_described(buffer)}".encode())
    seen: set[type] = set()
    for name, child in module.named_modules():
        kind = type(child)
        digest.update(f"\n{name}:{kind.__module__}.{kind.__qualname__}".encode())
        for attribute, value in sorted(vars(child).items()):
            # Parameters, buffers, children and hooks are torch's own private dictionaries.
            if not attribute.startswith("_"):
                digest.update(f"\n.{attribute}={_described(value)}".encode())
        for base in kind.__mro__:
            if base is nn.Module:
                break
            if base not in seen:
                seen.add(base)
                digest.update(_described(_members(base)).encode())
    return digest.hexdigest()


def _members(kind: type) -> dict[str, Any]:
    """What a class defines: methods and plain values, without what every class has."""
    return {
        name: value
        for name, value in vars(kind).items()
        if not (name.startswith("__") and name.endswith("__")) or isinstance(value, _FUNCTIONS)
    }


_FUNCTIONS = (types.FunctionType, classmethod, staticmethod, property, functools.partial)
_PLAIN = (type(None), bool, int, float, complex, str, bytes, Enum, torch.dtype, torch.Size)


def _described(value: Any, depth: int = 4) -> str:
    """A text that is the same in every process, and that changes when the value does."""
    if isinstance(value, torch.Tensor):
        # As bytes of any dtype; NumPy lacks some.
        data = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        return f"{value.dtype}{tuple(value.shape)}{hashlib.sha256(data.tobytes()).hexdigest()}"
    if isinstance(value, np.ndarray):
        data = np.ascontiguousarray(value)
        return f"{value.dtype}{value.shape}{hashlib.sha256(data.tobytes()).hexdigest()}"
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if depth == 0:
        return type(value).__qualname__
    below: Callable[[Any], str] = functools.partial(_described, depth=depth - 1)
    if isinstance(value, dict):
        return str(sorted(f"{below(k)}:{below(v)}" for k, v in value.items()))
    if isinstance(value, set | frozenset):
        return str(sorted(map(below, value)))
    if isinstance(value, list | tuple):
        return str(list(map(below, value)))
    code = _code_of(value)
    if code is not None:
        return code
    if isinstance(value, nn.Module):  # described where it stands in the tree
        return type(value).__qualname__
    state = getattr(value, "__dict__", {})
    public = {name: item for name, item in state.items() if not name.startswith("_")}
    return f"{type(value).__qualname__}{below(public)}"


def _code_of(value: Any) -> str | None:
    """Byte code of anything that wraps Python functions; None of what does not."""
    if isinstance(value, classmethod | staticmethod | types.MethodType):
        return _code_of(value.__func__)
    if isinstance(value, property):
        return "".join(filter(None, map(_code_of, (value.fget, value.fset))))
    if isinstance(value, functools.partial):
        return f"{_code_of(value.func)}{_described(value.args)}{_described(value.keywords)}"
    if isinstance(value, types.FunctionType):
        return f"{_code(value.__code__)}{_described(value.__defaults__)}"
    if isinstance(value, types.BuiltinFunctionType):
        return value.__qualname__
    return None


def _code(code: types.CodeType) -> str:
    constants = [
        _code(c) if isinstance(c, types.CodeType) else _described(c) for c in code.co_consts
    ]
    names = (code.co_names, code.co_varnames)
    return f"{code.co_name}{hashlib.sha256(code.co_code).hexdigest()}{names}{constants}"
