"""Safe reading of weights files, checks of their SHA-256, and loading them into networks.

No code from a file is executed: ``.safetensors`` holds tensors only, and everything else is read
by ``torch.load(weights_only=True)``.
"""

import hashlib
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NoReturn

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sktransfer.exceptions import WeightsMismatchError, WeightsNotFoundError

_NESTED = ("state_dict", "model", "model_state_dict")
_SHOWN = 5

WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes of the tensors of networks that were wrapped for training."""


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(found: str, expected: str, what: str) -> None:
    """Compare a SHA-256 with the expected one, or with its first digits.

    Raises
    ------
    ValueError
        `expected` is not a SHA-256 or its beginning.
    WeightsMismatchError
        They differ.
    """
    if not isinstance(expected, str) or not re.fullmatch("[0-9a-fA-F]{8,64}", expected):
        raise ValueError(
            f"weights_sha256 must be a SHA-256, or at least its first 8 digits, got {expected!r}"
        )
    if not found.startswith(expected.lower()):
        raise WeightsMismatchError(
            f"{what} has SHA-256 {found}, expected {expected}: it is damaged or another version; "
            "delete the file so that it is fetched again, or pass the weights_sha256 of the file "
            "you mean"
        )


def read_weights(
    path: str | os.PathLike[str], *expected: str | None
) -> tuple[Mapping[str, Tensor], str]:
    """Tensors by name from a ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file, and its SHA-256.

    A state dict wrapped in a training checkpoint (under "state_dict", "model" or
    "model_state_dict") is unwrapped. The expected SHA-256 values, or their beginnings, are checked
    before it is read.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"weights must be 'default', 'random' or the path of a file, got {path!r}")
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


def _tensors_in(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file may raise anything
        if _holds_program(path):
            raise WeightsMismatchError(
                f"{path} is a compiled program (TorchScript or torch.export), not a file of plain "
                "tensors; where you made it, save the tensors of the network instead: "
                "torch.save(network.state_dict(), 'weights.pth')"
            ) from error
        # torch's own message for pickles recommends the unsafe way to load them.
        reason = (
            "it holds Python objects, and nothing but tensors is ever unpickled"
            if isinstance(error, pickle.UnpicklingError)
            else f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        )
        raise WeightsMismatchError(
            f"{path} is not a file of plain tensors ({reason}); save the network's state_dict() "
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
    return content  # unchanged, as torch keeps the versions of its modules in an attribute


def _holds_program(path: Path) -> bool:
    """Whether a file is an archive that holds code beside tensors."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
    return any("/code/" in f"/{name}" or "/models/" in f"/{name}" for name in names)


def without_wrappers(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Tensors without the "module." of DataParallel and the "_orig_mod." of torch.compile.

    For networks that have no part of such a name.
    """
    wrapped = re.compile(rf"^(?:{'|'.join(map(re.escape, WRAPPERS))})+")
    if not any(map(wrapped.match, state)):
        return state
    return {wrapped.sub("", name): tensor for name, tensor in state.items()}


def named_as(names: Collection[str], state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Tensors under the names of a network, if a prefix is all that tells them from these.

    A file of a wrapped network has a prefix too many, and one of a network that is wrapped here has
    one too few. Where not all tensors then fit, the names are left as they are.
    """
    names = set(names)
    if state.keys() <= names:
        return state
    compiled = {name.replace("_orig_mod.", ""): tensor for name, tensor in state.items()}
    if compiled.keys() <= names:  # where a part is compiled the prefix is inside
        return compiled
    for prefix in _prefixes(state):
        renamed = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        if renamed.keys() <= names:
            return renamed
    for prefix in _prefixes(names):
        renamed = {prefix + name: tensor for name, tensor in state.items()}
        if renamed.keys() <= names:
            return renamed
    return state


def under_prefix(
    state: Mapping[str, Tensor], prefix: str, path: str | os.PathLike[str]
) -> Mapping[str, Tensor]:
    """Tensors whose names begin with a prefix, without it.

    Raises
    ------
    WeightsMismatchError
        There are none.
    """
    for names in (state, without_wrappers(state)):
        found = {n.removeprefix(prefix): t for n, t in names.items() if n.startswith(prefix)}
        if found:
            return found
    raise WeightsMismatchError(
        f"no tensor in {path} has a name that begins with weights_prefix={prefix!r}; the first "
        f"names are {', '.join(list(state)[:_SHOWN])}"
    )


def _prefixes(names: Collection[str]) -> list[str]:
    """What all names begin with, up to a dot, the shortest first."""
    first, *others = names
    candidates = [first[: at + 1] for at, character in enumerate(first) if character == "."]
    return [each for each in candidates if all(name.startswith(each) for name in others)]


def _fitting_prefix(names: Collection[str], state: Mapping[str, Tensor]) -> str | None:
    """Prefix of those tensors of a file that have all the names of a network."""
    needed = {name for name in names if not name.endswith(".num_batches_tracked")}
    some = min(needed, default="")
    for name in state:
        if name != some and name.endswith(f".{some}"):
            prefix = name.removesuffix(some)
            under = {n.removeprefix(prefix) for n in state if n.startswith(prefix)}
            if needed <= under <= set(names):
                return prefix
    return None


def fit_weights(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load a state dict into a network, which must match completely, but for a common prefix.

    torch updates state dicts of older versions, such as those of batch norm without counters.

    Raises
    ------
    WeightsMismatchError
        Names, shapes or kinds of numbers differ; the message lists them.
    """
    current = module.state_dict()
    as_given, state = state, named_as(current, state)
    check_types(current, state, what)
    loadable = OrderedDict(state)
    versions = getattr(state, "_metadata", None) if state is as_given else None
    if versions is None:
        # Some networks refuse state dicts without versions, which safetensors does not store.
        # Batch norm is left out, as it accepts missing counters only without a version.
        batch_norms = {name for name, m in module.named_modules() if isinstance(m, _BatchNorm)}
        known = getattr(current, "_metadata", {})
        versions = {name: v for name, v in known.items() if name not in batch_norms}
    loadable._metadata = versions  # type: ignore[attr-defined]
    try:
        module.load_state_dict(loadable)
    except (RuntimeError, ValueError) as error:
        differences = {
            "missing": sorted(current.keys() - state.keys()),
            "unknown": sorted(state.keys() - current.keys()),
            "of another shape": [
                f"{name} {tuple(state[name].shape)} for {tuple(current[name].shape)}"
                for name in sorted(current.keys() & state.keys())
                if state[name].shape != current[name].shape
            ],
        }
        listed = "; ".join(
            f"{len(names)} {kind}: {', '.join(names[:_SHOWN])}{', ...' * (len(names) > _SHOWN)}"
            for kind, names in differences.items()
            if names
        )
        prefix = _fitting_prefix(current, state)
        advice = f". Those under {prefix!r} fit: set weights_prefix={prefix!r}" if prefix else ""
        raise WeightsMismatchError(
            f"the weights do not fit {what}: {listed or str(error)}{advice}"
        ) from error


def check_weights(module: nn.Module, what: str) -> None:
    """See that the weights of a network are numbers.

    Infinity is left to buffers, in which masks have it.

    Raises
    ------
    WeightsMismatchError
        A tensor holds NaN, or a parameter infinity; the message names it.
    """
    for name, parameter in module.named_parameters():
        if not _is_finite(parameter) and not bool(torch.isfinite(parameter).all()):
            _refuse_numbers(what, name)
    for name, buffer in module.named_buffers():
        if not _is_finite(buffer) and bool(torch.isnan(buffer).any()):
            _refuse_numbers(what, name)


def _is_finite(tensor: Tensor) -> bool:
    """Whether a look at the sum, which is quick, finds a tensor finite."""
    if not tensor.is_floating_point() or tensor.is_meta or tensor.layout != torch.strided:
        return True
    return bool(torch.isfinite(tensor.detach().sum(dtype=torch.float32)))


def _refuse_numbers(what: str, name: str) -> NoReturn:
    raise WeightsMismatchError(
        f"the weights of {what} hold NaN or infinity in {name!r}: their training diverged, or the "
        "file is damaged. Take an earlier checkpoint, or fetch the file again"
    )


def check_types(current: Mapping[str, Tensor], state: Mapping[str, Tensor], what: str) -> None:
    """Refuse tensors that torch would convert to those of the network with another meaning."""
    for name in current.keys() & state.keys():
        wanted, given = current[name].dtype, state[name].dtype
        if wanted.is_floating_point and not given.is_floating_point:
            raise WeightsMismatchError(
                f"the weights do not fit {what}: {name!r} is of type {given}, and the network "
                f"computes with {wanted}. Save the network before it is quantised"
            )


def module_to_bytes(module: nn.Module, metadata: dict[str, str] | None = None) -> bytes:
    """A network's tensors as safetensors, from the CPU, with shared tensors duplicated."""
    # Cloned, as safetensors refuses tensors that share memory.
    state = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in module.state_dict().items()
        if isinstance(tensor, Tensor)
    }
    return safetensors.torch.save(state, metadata)


def bytes_to_state(data: bytes) -> dict[str, Tensor]:
    """The state dict in the result of `module_to_bytes`."""
    return safetensors.torch.load(data)
