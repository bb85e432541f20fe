"""Saving and loading of estimators as JSON and safetensors, without executable code.

Loading a pickle runs whatever code its author put into it. Files of this format can only name
classes of this package that hold data, and fill them with numbers, text and arrays.
"""

import dataclasses
import glob
import hashlib
import importlib
import inspect
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import sklearn
import torch
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.random_projection import GaussianRandomProjection

from sktransfer import __version__
from sktransfer._files import read_together, replacing_folder
from sktransfer.exceptions import WeightsMismatchError
from sktransfer.store import FeatureStore

_FORMAT = 1
"""Version of the format, to be raised when older versions would misread new files."""

_STRUCTURE = "estimator.json"
_TENSORS = "tensors.safetensors"

_SKLEARN_CLASSES: dict[str, type] = {
    "sklearn.frozen:FrozenEstimator": FrozenEstimator,
    "sklearn.random_projection:GaussianRandomProjection": GaussianRandomProjection,
}
"""Classes of other packages that a file may name."""

# No part may begin with two underscores: importing sktransfer.__main__ would run a command.
_CLASS_NAME = re.compile(
    r"(?P<module>sktransfer(\._?[a-z][a-z0-9_]*)+):(?P<name>_?[A-Za-z][A-Za-z0-9_]*)"
)

_NUMBER = re.compile(r"[<>|](b1|[iu][1248]|f[248])")
_TEXT = re.compile(r"[<>]U\d{1,9}")


def save(estimator: BaseEstimator, path: str | os.PathLike[str]) -> None:
    """Write an estimator of this package, fitted or not, as a directory without code.

    ``estimator.json`` holds its structure, ``tensors.safetensors`` its arrays and weights. The
    files hold what a pickle would; a named backbone with its default weights is a reference.

    Parameters
    ----------
    estimator : estimator
        An estimator of this package. For pipelines and scikit-learn's own estimators use skops or
        pickle.
    path : str or Path
        Directory to create. An estimator that was saved there before is replaced in one step: at
        every moment, also of a crash, `load` finds the old one or the new one.

    Raises
    ------
    TypeError
        Something in it cannot be written without code, such as a custom network; the message says
        where it is.
    FileExistsError
        `path` holds something else.
    RuntimeError
        Another process or thread is saving to `path`.

    See Also
    --------
    load : Read an estimator that was saved.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from sktransfer import RNNSequenceFeatures
    >>> from sktransfer.persistence import load, save
    >>> X = np.random.default_rng(0).normal(size=(5, 20))
    >>> features = RNNSequenceFeatures(views="z", pooling="mean+ppv").fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(features, f"{folder}/features")
    ...     again = load(f"{folder}/features")
    >>> bool((again.transform(X) == features.transform(X)).all())
    True
    """
    cls = type(estimator)
    if not isinstance(estimator, BaseEstimator) or _name_of(cls) is None:
        raise TypeError(
            f"estimator must be one of sktransfer's own, got {_description(estimator)}; use pickle "
            "or joblib for others, and for pipelines"
        )
    encoder = _Encoder()
    encoded = encoder.encode(estimator, cls.__name__)
    tensors = safetensors.numpy.save(encoder.tensors)
    structure = {
        "format": _FORMAT,
        "sktransfer": __version__,
        "scikit-learn": sklearn.__version__,
        "torch": torch.__version__,
        "tensors_sha256": hashlib.sha256(tensors).hexdigest(),
        "estimator": encoded,
    }
    text = json.dumps(structure, indent=1, allow_nan=False)
    _write(_real(path), {_STRUCTURE: text.encode(), _TENSORS: tensors})


def load(path: str | os.PathLike[str]) -> Any:
    """Read an estimator that `save` wrote. No code in the files is run, whoever wrote them.

    Parameters
    ----------
    path : str or Path
        Directory.

    Returns
    -------
    estimator
        As it was saved. Networks that were fitted on a GPU are loaded to the CPU if there is none.

    Raises
    ------
    FileNotFoundError
        `path` does not exist.
    ValueError
        The directory was not written by `save`, or by a newer version, or is damaged.
    WeightsNotFoundError, WeightsMismatchError
        The default weights of a named backbone are not available, or have changed.

    Warns
    -----
    InconsistentVersionWarning
        It holds an estimator of scikit-learn that another version of scikit-learn fitted.

    Notes
    -----
    A file from an untrusted source still decides what is loaded and where is written: a named
    backbone may be downloaded from its hub, and `transform` writes to the folder in `cache`.

    Examples
    --------
    >>> import tempfile
    >>> from sktransfer import FineTune
    >>> from sktransfer.persistence import load, save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(FineTune(unfreeze=2, epochs=5), f"{folder}/strategy")
    ...     load(f"{folder}/strategy")
    FineTune(epochs=5, unfreeze=2)
    """
    folder = _real(path)
    try:
        contents = read_together(folder, (_STRUCTURE, _TENSORS))
    except FileNotFoundError:
        if not folder.exists():
            left = [str(each) for each in _leftovers(folder) if each.suffix == ".old"]
            cure = f"; a crash has left what was in it as {left[0]}: rename that" if left else ""
            raise FileNotFoundError(f"there is no directory {folder}{cure}") from None
        raise ValueError(
            f"{folder} was not written by sktransfer.persistence.save: it is not a directory with "
            f"{_STRUCTURE} and {_TENSORS}"
        ) from None
    try:
        return _read(*contents)
    except (OSError, ImportError, Warning, WeightsMismatchError):  # their messages are complete
        raise
    except Exception as error:  # a damaged or hostile file may raise anything
        reason = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
        raise ValueError(f"{folder} cannot be loaded: {reason}") from error


def _read(text: bytes, tensors: bytes) -> Any:
    structure = json.loads(text)
    if not isinstance(structure, dict) or type(structure.get("format")) is not int:
        raise ValueError(f"{_STRUCTURE} was not written by sktransfer.persistence.save")
    if structure["format"] > _FORMAT:
        raise ValueError(
            f"it was written in format {structure['format']} by sktransfer "
            f"{structure.get('sktransfer')}, and this version reads formats up to {_FORMAT}; "
            "update sktransfer"
        )
    if hashlib.sha256(tensors).hexdigest() != structure["tensors_sha256"]:
        raise ValueError(f"{_TENSORS} is damaged, or belongs to another {_STRUCTURE}")
    estimator = _Decoder(safetensors.numpy.load(tensors)).decode(structure["estimator"])
    if not isinstance(estimator, BaseEstimator):
        raise ValueError(f"{_STRUCTURE} holds a {type(estimator).__name__}, not an estimator")
    return estimator


# --- values ---------------------------------------------------------------------------------


class _Encoder:
    """Encodes values as JSON: JSON's own types as they are, all others as {"type": ...}."""

    def __init__(self) -> None:
        self.tensors: dict[str, np.ndarray] = {}
        # By exact type: an instance of a subclass would be loaded as one of its base class.
        self.encoders: dict[type, Callable[[Any, str], Any]] = {
            list: self._list,
            tuple: self._items,
            set: self._items,
            frozenset: self._items,
            slice: self._items,
            dict: self._dict,
            float: lambda value, path: {"type": "float", "value": str(value)},
            type(Path()): lambda value, path: {"type": "path", "value": str(value)},
            bytes: self._bytes,
            np.ndarray: self._array,
            np.memmap: self._array,  # joblib passes large arrays to its workers as these
            np.random.RandomState: self._random_state,
        }

    def encode(self, value: Any, path: str) -> Any:
        """`value` as JSON; `path` is where it was found, for messages and names of tensors."""
        kind = type(value)
        if value is None or kind in (bool, int, str) or (kind is float and math.isfinite(value)):
            return value
        if isinstance(value, np.generic):
            return {"type": "scalar", "array": self._array(np.asarray(value), path)}
        encoder: Callable[[Any, str], Any] = self.encoders.get(kind, self._object)
        return encoder(value, path)

    def _list(self, items: Iterable[Any], path: str) -> list[Any]:
        return [self.encode(item, f"{path}[{i}]") for i, item in enumerate(items)]

    def _items(self, value: Any, path: str) -> dict[str, Any]:
        if isinstance(value, slice):
            items = [value.start, value.stop, value.step]
        else:
            items = [*value] if isinstance(value, tuple) else sorted(value, key=repr)
        return {"type": type(value).__name__, "items": self._list(items, path)}

    def _dict(self, value: dict[Any, Any], path: str) -> dict[str, Any]:
        keys = self._list(value, f"{path}.keys()")
        values = [self.encode(item, f"{path}[{key!r}]") for key, item in value.items()]
        return {"type": "dict", "items": [[*pair] for pair in zip(keys, values, strict=True)]}

    def _bytes(self, value: bytes, path: str) -> dict[str, Any]:
        self.tensors[path] = np.frombuffer(value, dtype=np.uint8)
        return {"type": "bytes", "tensor": path}

    def _array(self, array: np.ndarray, path: str) -> dict[str, Any]:
        node = {"type": "array", "dtype": array.dtype.str.replace("|O", "O")}
        if array.dtype.kind in "OU":
            items = self._list(array.ravel().tolist(), path)
            return {**node, "shape": [*array.shape], "items": items}
        if not _NUMBER.fullmatch(node["dtype"]):
            raise _refusal(path, f"of dtype {array.dtype}, which the format does not support")
        self.tensors[path] = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
        # Matrix products in another memory order can differ in their last bits.
        return {**node, "tensor": path, "order": "F" if array.flags.fnc else "C"}

    def _random_state(self, value: np.random.RandomState, path: str) -> dict[str, Any]:
        state: Any = value.get_state(legacy=False)
        if state["bit_generator"] != "MT19937":
            raise _refusal(path, f"a RandomState of {state['bit_generator']}, not of MT19937")
        return {"type": "random_state", "state": self.encode(state, path)}

    def _object(self, value: Any, path: str) -> dict[str, Any]:
        name = _name_of(type(value))
        if name is None:
            raise _refusal(path, f"{_description(value)}, which a file without code cannot hold")
        state = {k: self.encode(v, f"{path}.{k}") for k, v in _state_of(value).items()}
        return {"type": "object", "class": name, "state": state}


class _Decoder:
    """Decodes the values of `_Encoder`; malformed ones raise any error, which `load` translates."""

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        self.tensors = tensors
        self.decoders: dict[str, Callable[[dict[str, Any]], Any]] = {
            "tuple": lambda node: tuple(self._items(node)),
            "set": lambda node: set(self._items(node)),
            "frozenset": lambda node: frozenset(self._items(node)),
            "slice": lambda node: slice(*self._items(node)),
            "dict": lambda node: dict(self._items(node)),
            "float": lambda node: float(node["value"]),
            "bytes": lambda node: self._tensor(node).tobytes(),
            "path": lambda node: Path(node["value"]),
            "array": self._array,
            "scalar": lambda node: self.decode(node["array"])[()],
            "random_state": self._random_state,
            "object": self._object,
        }

    def decode(self, node: Any) -> Any:
        """The value that was encoded."""
        if isinstance(node, list):
            return [self.decode(item) for item in node]
        if not isinstance(node, dict):
            return node
        if node.get("type") not in self.decoders:
            raise ValueError(f"{_STRUCTURE} holds an object of unknown type {node.get('type')!r}")
        return self.decoders[node["type"]](node)

    def _items(self, node: dict[str, Any]) -> list[Any]:
        if not isinstance(node["items"], list):
            raise ValueError(f"the items of a {node['type']} are not a list in {_STRUCTURE}")
        return [self.decode(item) for item in node["items"]]

    def _tensor(self, node: dict[str, Any]) -> np.ndarray:
        if node["tensor"] not in self.tensors:
            raise ValueError(f"{_TENSORS} lacks {node['tensor']!r}")
        return self.tensors[node["tensor"]]

    def _array(self, node: dict[str, Any]) -> np.ndarray:
        if _NUMBER.fullmatch(node["dtype"]):
            # A copy, as arrays that safetensors reads are not writeable.
            return self._tensor(node).astype(node["dtype"], order=node["order"])
        items = self._items(node)
        if _TEXT.fullmatch(node["dtype"]) and all(isinstance(item, str) for item in items):
            return np.array(items, dtype=node["dtype"]).reshape(node["shape"])
        if node["dtype"] != "O":
            raise ValueError(f"{_STRUCTURE} holds an array of unknown dtype {node['dtype']!r}")
        array = np.empty(len(items), dtype=object)
        for i, item in enumerate(items):
            array[i] = item
        return array.reshape(node["shape"])

    def _random_state(self, node: dict[str, Any]) -> np.random.RandomState:
        state = self.decode(node["state"])
        # NumPy does not check the position, and would read memory out of bounds.
        if state["state"]["pos"] not in range(625) or state["state"]["key"].shape != (624,):
            raise ValueError(f"{_STRUCTURE} holds an invalid state of a RandomState")
        generator = np.random.RandomState(0)
        generator.set_state(state)
        return generator

    def _object(self, node: dict[str, Any]) -> Any:
        cls = _class_named(node["class"])
        return _restored(cls, {name: self.decode(item) for name, item in node["state"].items()})


def _description(value: Any) -> str:
    if inspect.isroutine(value):
        return "a function"
    cls = value if isinstance(value, type) else type(value)
    return f"{'the class' if cls is value else 'a'} {cls.__module__}.{cls.__qualname__}"


def _refusal(path: str, what: str) -> TypeError:
    by_name = ", or give the backbone by name" if path.endswith(".backbone") else ""
    return TypeError(f"{path} is {what}; use pickle or joblib{by_name}")


# --- objects --------------------------------------------------------------------------------


def _name_of(cls: type) -> str | None:
    """The name by which `_class_named` finds a class, or None if a file may not name it."""
    for name, known in _SKLEARN_CLASSES.items():
        if cls is known:
            return name
    name = f"{cls.__module__}:{cls.__qualname__}"
    try:
        return name if _class_named(name) is cls else None
    except ValueError:
        return None


def _class_named(name: str) -> Any:
    """A class that holds data. This is the gate that keeps files from reaching anything else."""
    if name in _SKLEARN_CLASSES:
        return _SKLEARN_CLASSES[name]
    match = _CLASS_NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} names no class of sktransfer")
    try:
        module = importlib.import_module(match["module"])
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("sktransfer"):
            raise  # of an optional dependency, which the message names
        raise ValueError(f"this version of sktransfer has no {match['module']}") from error
    cls = vars(module).get(match["name"])
    # A module also holds what it imports, such as os or torch: accept a class only where it is
    # defined.
    if not isinstance(cls, type) or cls.__module__ != match["module"] or not _holds_data(cls):
        raise ValueError(f"{name!r} names no class that holds data in this version of sktransfer")
    return cls


def _holds_data(cls: type) -> bool:
    known = issubclass(cls, BaseEstimator) or cls is FeatureStore
    return known or dataclasses.is_dataclass(cls) or _is_named_tuple(cls)


def _is_named_tuple(cls: type) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields")


def _field_names(cls: Any) -> tuple[str, ...]:
    if cls is FeatureStore:
        return ("path", "memory_bytes")
    return cls._fields if _is_named_tuple(cls) else tuple(f.name for f in dataclasses.fields(cls))


def _state_of(value: Any) -> dict[str, Any]:
    if isinstance(value, BaseEstimator):
        return value.__getstate__()
    return {name: getattr(value, name) for name in _field_names(type(value))}


def _restored(cls: Any, state: dict[str, Any]) -> Any:
    """An object with a state; its `__init__`, which may have side effects, is not called."""
    is_estimator = issubclass(cls, BaseEstimator)
    expected = cls._get_param_names() if is_estimator else _field_names(cls)
    # A file of an older version lacks what has been added since.
    state = {name: v for name, v in _defaults_of(cls).items() if name in expected} | state
    missing = sorted({*expected} - state.keys())
    unknown = [] if is_estimator else sorted(state.keys() - {*expected})
    if missing or unknown:
        raise ValueError(f"a {cls.__name__} lacks the fields {missing} or has unknown {unknown}")
    if cls is FeatureStore:
        return FeatureStore(**state)
    if _is_named_tuple(cls):
        return cls._make(state[name] for name in expected)
    restored = cls.__new__(cls)
    if is_estimator:
        restored.__setstate__(state)
    else:
        for name in expected:
            object.__setattr__(restored, name, state[name])  # works for frozen dataclasses, too
    return restored


def _defaults_of(cls: Any) -> dict[str, Any]:
    """Values of the fields or parameters that have one."""
    parameters = inspect.signature(cls).parameters.items()
    defaults = {name: p.default for name, p in parameters if p.default is not p.empty}
    for field in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
        if field.default_factory is not dataclasses.MISSING:  # which makes a new one each time
            defaults[field.name] = field.default_factory()
    return defaults


# --- files ----------------------------------------------------------------------------------


def _real(path: str | os.PathLike[str]) -> Path:
    """A path with links resolved, so that `save` replaces the directory and not the link."""
    return Path(os.path.realpath(Path(path).expanduser()))


def _check_replaceable(path: Path) -> None:
    held = {item.name for item in path.iterdir()} if path.is_dir() else set()
    if _STRUCTURE not in held:
        raise FileExistsError(
            f"{path} exists and was not written by sktransfer.persistence.save; give another path"
        )
    if others := sorted(held - {_STRUCTURE, _TENSORS}):
        raise FileExistsError(
            f"{path} would be replaced, but also holds {', '.join(others)}; give another path"
        )


def _write(path: Path, files: dict[str, bytes]) -> None:
    """Create a directory of files, or replace one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(path) as folder:
        if path.exists():
            _check_replaceable(path)
        for name, data in files.items():
            (folder / name).write_bytes(data)
    for leftover in _leftovers(path):
        shutil.rmtree(leftover, ignore_errors=True)


def _leftovers(path: Path) -> list[Path]:
    """What crashes have left of folders that earlier versions were replacing.

    Their names are random: `replacing_folder`, which removes its own, does not know them.
    """
    found = path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 32}.*")
    return [each for each in found if each.suffix in (".new", ".old") and _is_saved(each)]


def _is_saved(folder: Path) -> bool:
    """Whether a folder holds nothing that `save` does not write."""
    names = {item.name for item in folder.iterdir()} if folder.is_dir() else {""}
    return names <= {_STRUCTURE, _TENSORS}
