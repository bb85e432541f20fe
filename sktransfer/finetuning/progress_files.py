"""Files that hold how far a training has come, as JSON and safetensors without code."""

import hashlib
import json
import os
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from sktransfer._files import locked, replacing
from sktransfer._validation import callers_level

_DIGEST_BYTES = 32
_STATE = "state"


class ProgressFile:
    """The file of one training.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._failed = False

    def write(self, state: dict[str, Any]) -> None:
        """Replace the file in one step; a training goes on where that fails, with a warning.

        Parameters
        ----------
        state : dict
            Of tensors, arrays, numbers, strings, None, and lists, tuples and dicts of these.

        Raises
        ------
        TypeError
            It holds anything else.
        """
        tensors: dict[str, Tensor] = {}
        described = json.dumps(_encode(state, tensors))
        data = safetensors.torch.save(tensors, {_STATE: described})
        try:
            with replacing(self.path) as (file,), file.open("wb") as stream:
                stream.write(hashlib.sha256(data).digest())
                stream.write(data)
        except OSError as error:
            if not self._failed:
                warnings.warn(
                    f"checkpoint: {self.path} cannot be written ({error}); the training goes on, "
                    "and after a kill it would begin at the last state that was written, if any",
                    stacklevel=callers_level(),
                )
            self._failed = True

    def read(self) -> dict[str, Any] | None:
        """What was written last; None if there is nothing, or with a warning if it is damaged."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != digest:
            warnings.warn(
                f"checkpoint: {self.path} is damaged, so the training begins anew",
                stacklevel=callers_level(),
            )
            return None
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        state: dict[str, Any] = _decode(
            json.loads(header["__metadata__"][_STATE]), safetensors.torch.load(data)
        )
        return state

    def remove(self) -> None:
        """Remove it."""
        self.path.unlink(missing_ok=True)


class OpenFiles:
    """The files of the trainings of a fit, which no other process writes within the context.

    Those of trainings that have ended stay until all of them have, so that none is run again.

    Parameters
    ----------
    folder : str, Path or None
        None if there are to be no files.
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self._folder = folder
        self._files: list[ProgressFile] = []
        self._locks = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._locks.close()

    def open(self, name: str) -> ProgressFile | None:
        """The file of a training; None, with a warning, while another one is at that.

        Raises
        ------
        OSError
            The folder cannot be made.
        """
        assert self._folder is not None
        place = Path(self._folder).expanduser()
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise type(error)(
                error.errno, f"checkpoint={str(self._folder)!r} cannot be made ({error.strerror})"
            ) from error
        try:
            self._locks.enter_context(locked(place / f"{name}.training"))
        except RuntimeError:
            warnings.warn(
                f"checkpoint={str(self._folder)!r}: another process or thread is at the same "
                "training, so this one runs from its beginning and writes no checkpoint",
                stacklevel=callers_level(),
            )
            return None
        self._files.append(ProgressFile(place / f"{name}.checkpoint"))
        return self._files[-1]

    def remove(self) -> None:
        """Remove the files."""
        for file in self._files:
            file.remove()


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """A value as JSON can hold it; containers are lists that begin with their type."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor | np.ndarray):
        name = str(len(tensors))
        tensor = torch.as_tensor(value).detach().cpu()
        # A copy: safetensors refuses tensors that share memory.
        tensors[name] = tensor.clone(memory_format=torch.contiguous_format)
        return ["tensor" if isinstance(value, Tensor) else "array", name]
    if isinstance(value, dict):  # by pairs, as keys may be numbers
        return ["dict", *([_encode(k, tensors), _encode(v, tensors)] for k, v in value.items())]
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, *(_encode(each, tensors) for each in value)]
    raise TypeError(
        f"checkpoint= holds numbers, text and tensors, and the state of the training has a "
        f"{type(value).__name__}, which an optimizer or callback of your own may have put there"
    )


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, list):
        return value
    kind, *parts = value
    if kind == "tensor":
        return tensors[parts[0]]
    if kind == "array":
        return tensors[parts[0]].numpy()
    if kind == "dict":
        return {_decode(k, tensors): _decode(v, tensors) for k, v in parts}
    found = [_decode(each, tensors) for each in parts]
    return tuple(found) if kind == "tuple" else found
