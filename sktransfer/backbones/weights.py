"""Weights files: read safely, named by their SHA-256, fitted to a network or refused.

Nothing here ever executes code from a file: ``.safetensors`` holds tensors only,
and everything else goes through ``torch.load(weights_only=True)``.
"""

import hashlib
import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from sktransfer.exceptions import WeightsMismatchError, WeightsNotFoundError

_NESTED = ("state_dict", "model", "model_state_dict")
_SHOWN = 5


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(found: str, expected: str, what: str) -> None:
    """Compare a SHA-256 with the expected one, or with its first digits.

    Raises
    ------
    WeightsMismatchError
        They differ.
    """
    if not found.startswith(expected.lower()):
        raise WeightsMismatchError(
            f"{what} has SHA-256 {found}, expected {expected}: it is damaged or another version; "
            "delete the file so that it is fetched again, or pass the weights_sha256 of the file "
            "you mean"
        )


def read_weights(
    path: str | os.PathLike[str], *expected: str | None
) -> tuple[dict[str, Tensor], str]:
    """Tensors by name from a ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file, and its SHA-256.

    A state dict wrapped in a training checkpoint (under "state_dict", "model" or
    "model_state_dict") is unwrapped, and the "module." of data-parallel training
    is dropped.

    Parameters
    ----------
    path : str or Path
    *expected : str or None
        SHA-256 values, or their beginnings, the file must have; checked before it
        is read.

    Raises
    ------
    WeightsNotFoundError
        There is no such file.
    WeightsMismatchError
        The file is not the expected one, is damaged, or holds anything but tensors.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise WeightsNotFoundError(
            f"there is no weights file {path}; pass weights='default', 'random', or the path of "
            "an existing .safetensors or .pth file"
        )
    sha256 = file_sha256(path)
    for wanted in expected:
        if wanted is not None:
            check_sha256(sha256, wanted, str(path))
    return _tensors_in(path), sha256


def _tensors_in(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise WeightsMismatchError(
            f"{path} is not a file of plain tensors ({error}); save the network's state_dict() "
            "with safetensors.torch.save_file or torch.save"
        ) from error
    if isinstance(content, Mapping):
        for key in _NESTED:
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsMismatchError(
            f"{path} holds {type(content).__name__}, not a dict of tensors; save the network's "
            "state_dict()"
        )
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def fit_weights(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load `state` into `module`, all of it or not at all.

    Raises
    ------
    WeightsMismatchError
        Names or shapes differ; the message lists them.
    """
    own = module.state_dict()
    differences = {
        "missing": sorted(own.keys() - state.keys()),
        "unknown": sorted(state.keys() - own.keys()),
        "of another shape": [
            f"{name} {tuple(state[name].shape)} for {tuple(own[name].shape)}"
            for name in sorted(own.keys() & state.keys())
            if state[name].shape != own[name].shape
        ],
    }
    if any(differences.values()):
        listed = "; ".join(
            f"{len(names)} {kind}: {', '.join(names[:_SHOWN])}{', ...' * (len(names) > _SHOWN)}"
            for kind, names in differences.items()
            if names
        )
        raise WeightsMismatchError(f"the weights do not fit {what}: {listed}")
    module.load_state_dict(state)


def module_to_bytes(module: nn.Module) -> bytes:
    """A network's state as safetensors, on the CPU, tied tensors written out."""
    state = {name: t.detach().cpu().contiguous().clone() for name, t in module.state_dict().items()}
    return safetensors.torch.save(state)


def bytes_to_module(module: nn.Module, data: bytes) -> None:
    """Undo `module_to_bytes` for a network of the same architecture."""
    fit_weights(module, safetensors.torch.load(data), type(module).__name__)
