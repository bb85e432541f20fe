"""Networks for text by name: a package's, a folder's or the Hugging Face hub's, with tokenizers.

transformers builds them, from classes of its own only: what a repository ships as code is never
run. Weights are read from safetensors.
"""

import hashlib
import json
import os
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from sktransfer.backbones.language_config import (
    attention_of,
    class_of,
    config_of,
    note_other_entries,
    read_json,
    read_json_list,
)
from sktransfer.backbones.language_files import (
    DEFAULT as DEFAULT,
)
from sktransfer.backbones.language_files import ModelFiles, find_files, weights_sha256_of
from sktransfer.backbones.language_tokenizer import empty_token_of, load_tokenizer
from sktransfer.backbones.loaded_network import LoadedNetwork
from sktransfer.backbones.weights import (
    bytes_to_state,
    check_sha256,
    check_weights,
    fit_weights,
    module_to_bytes,
)
from sktransfer.exceptions import WeightsMismatchError
from sktransfer.networks.modules import frozen
from sktransfer.networks.seeding import seeded
from sktransfer.networks.torch_settings import usual_settings
from sktransfer.texts.tracing import positions_of
from sktransfer.texts.transformers import import_transformers, quiet

_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}
_VOLATILE = ("_name_or_path", "transformers_version")
"""Entries of a configuration that do not change what the network computes."""

_UNLIMITED = 100_000
"""Tokenizers without a limit state an enormous one."""


class Recipe(NamedTuple):
    """The steps by which a model's publisher makes a vector of a text.

    Parameters
    ----------
    max_length : int or None
        Tokens after which texts are cut, special ones included; None for no limit.
    limit : int or None
        Tokens that the network has positions for.
    poolings : tuple of str
        Joined one after the other.
    normalize : bool
    left_out : tuple of str
        Steps of sentence-transformers that are not taken here, such as "Dense".
    pad_id : int or None
        Token that stands for a text without any; None if the tokenizer has none that is no word.
    prompt : str
        What is put before each text.
    prompt_is_pooled : bool
        Whether the tokens of the prompt are pooled with those of the text.
    truncation_side : {"right", "left"}
        Where tokens are cut off.
    """

    max_length: int | None
    limit: int | None
    poolings: tuple[str, ...]
    normalize: bool
    left_out: tuple[str, ...]
    pad_id: int | None
    # With defaults, as what was saved by earlier versions lacks them.
    prompt: str = ""
    prompt_is_pooled: bool = True
    truncation_side: str = "right"


@dataclass(frozen=True)
class Language(LoadedNetwork):
    """A network for text, frozen and in evaluation mode, with its tokenizer.

    Parameters
    ----------
    name : str
        By which it can be loaded again, with the commit for one of the hub's; else its folder.
    module : nn.Module
    weights_sha256 : str
        SHA-256 of ``model.safetensors``; of several files, of their SHA-256 values.
    tokenizer : tokenizers.Tokenizer
    recipe : Recipe
    revision : str or None
        Commit of the hub.
    by_reference : bool
        Whether `name` will do to have it again elsewhere.
    """

    tokenizer: Any
    recipe: Recipe
    revision: str | None
    by_reference: bool

    def fingerprint_with(self, weights_sha256: str) -> str:
        """Hash of these weights, of the structure of the network, and of its tokenizer."""
        config: Any = self.module.config
        settings = {k: v for k, v in config.to_dict().items() if k not in _VOLATILE}
        decided_by = (
            weights_sha256,
            import_transformers().__version__,
            [(name, type(child).__qualname__) for name, child in self.module.named_modules()],
            json.dumps(settings, sort_keys=True, default=repr),
            self.tokenizer.to_str(),
        )
        return hashlib.sha256(repr(decided_by).encode()).hexdigest()


@usual_settings()
def load_language(name: str | os.PathLike[str], *, weights_sha256: str | None = None) -> Language:
    """Load a network for text with its tokenizer and what is known of its use.

    Parameters
    ----------
    name : str or Path
        "all-minilm-l6-v2"; a folder of transformers' format; ``"hf-hub:<organisation>/<name>"``
        or the bare name of a model of the hub, such as "bert-base-uncased", each with
        ``@<revision>`` if it is to be pinned. What lies in the hub's cache is not fetched again.
    weights_sha256 : str or None, default=None
        SHA-256, or its first digits, that the weights must have.

    Raises
    ------
    ImportError
        transformers is not installed.
    ValueError
        The name is malformed, or the model needs code of its own or has no fast tokenizer.
    WeightsNotFoundError
        A file is neither here nor reachable.
    WeightsMismatchError
        The weights are not the ones expected, or do not fit.

    Examples
    --------
    >>> from sktransfer.backbones.language import load_language
    >>> language = load_language("all-minilm-l6-v2")
    >>> language.recipe.max_length, language.recipe.poolings, language.recipe.normalize
    (256, ('mean',), True)
    >>> language.weights_sha256[:8]
    '53aa5117'
    """
    import_transformers()
    found = find_files(name)
    sha256 = weights_sha256_of(found)
    for expected in (found.pinned, weights_sha256):
        if expected is not None:
            check_sha256(sha256, expected, f"the weights of {found.name!r} in {found.folder}")
    with seeded(0), torch.no_grad():
        module = _load_module(found)
    config: Any = module.config
    encoder = _encoder_settings(found.folder)
    tokenizer, stated = load_tokenizer(
        found, config.vocab_size, bool(encoder.get("do_lower_case", False))
    )
    recipe = _recipe_of(found.folder, module, stated, encoder)
    return Language(
        found.name, module, sha256, tokenizer, recipe, found.revision, found.by_reference
    )


def shared_language(
    name: str | os.PathLike[str], weights_sha256: str | None, device: torch.device
) -> Language:
    """A network with its published weights, loaded once per process and device.

    The two used last are kept. Treat the module as read-only; copy it to train it. Folders are
    loaded anew, as their files may have changed.

    Raises
    ------
    WeightsMismatchError
        The SHA-256 is not `weights_sha256`.
    """
    if isinstance(name, str) and not Path(name).expanduser().is_dir():
        with _LOADING:
            language = _published(name, device)
        if weights_sha256 is not None:
            check_sha256(language.weights_sha256, weights_sha256, f"the weights of {name!r}")
        return language
    language = load_language(name, weights_sha256=weights_sha256)
    language.module.to(device)
    return language


_LOADING = threading.Lock()  # so that threads share one network


@lru_cache(maxsize=2)
def _published(name: str, device: torch.device) -> Language:
    language = load_language(name)
    language.module.to(device)
    return language


def language_to_dict(language: Language, module: nn.Module) -> dict[str, Any]:
    """All that `language_from_dict` needs, as plain values; weights as safetensors bytes."""
    config: Any = module.config
    return {
        "name": language.name,
        "config": json.dumps(config.to_dict(), sort_keys=True),
        "weights": module_to_bytes(module),
        "without_pooler": getattr(module, "pooler", 0) is None,
        "tokenizer": language.tokenizer.to_str(),
        "recipe": language.recipe,
        "weights_sha256": language.weights_sha256,
        "revision": language.revision,
    }


@usual_settings()
def language_from_dict(saved: dict[str, Any]) -> Language:
    """The network that `language_to_dict` wrote down, without its files."""
    import_transformers()
    from tokenizers import Tokenizer

    settings, source = json.loads(saved["config"]), f"backbone={saved['name']!r}"
    config = config_of(settings, source)
    kind = class_of(config, source)
    with quiet(), seeded(0), torch.no_grad():
        module = kind._from_config(
            config, dtype=torch.float32, attn_implementation=attention_of(kind)
        )
    if saved["without_pooler"]:
        module.pooler = None
    fit_weights(module, bytes_to_state(saved["weights"]), saved["name"])
    return Language(
        saved["name"],
        _frozen(module, settings),
        saved["weights_sha256"],
        Tokenizer.from_str(saved["tokenizer"]),
        saved["recipe"],
        saved["revision"],
        by_reference=False,
    )


# --- transformers ---------------------------------------------------------------------------


def _load_module(found: ModelFiles) -> nn.Module:
    settings, source = read_json(found.folder / "config.json"), f"backbone={found.name!r}"
    config = config_of(settings, source)
    kind = class_of(config, source)
    with quiet():
        try:
            module, notes = kind.from_pretrained(
                found.folder,
                config=config,
                attn_implementation=attention_of(kind),
                dtype=torch.float32,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
        except Exception as error:  # of sizes that do not go together, or of damaged weights
            raise WeightsMismatchError(
                f"the weights in {found.folder} cannot be loaded: {str(error).splitlines()[0]}"
            ) from error
    missing = sorted(notes["missing_keys"])
    if any(key.startswith("pooler.") for key in missing):  # which encoders need not have
        module.pooler = None
        missing = [key for key in missing if not key.startswith("pooler.")]
    if missing or notes["mismatched_keys"]:
        raise WeightsMismatchError(
            f"the weights in {found.folder} do not fit their config.json: {len(missing)} missing "
            f"{missing[:3]}, of another shape {sorted(map(str, notes['mismatched_keys']))[:3]}"
        )
    check_weights(module, f"{found.name!r} in {found.folder}")
    return _frozen(module, settings)


def _frozen(module: nn.Module, settings: dict[str, Any]) -> nn.Module:
    config: Any = module.config
    note_other_entries(config, settings)
    config._name_or_path = ""  # a network is the same wherever its files lie
    return frozen(module).float()


def _recipe_of(folder: Path, module: nn.Module, stated: Any, encoder: dict[str, Any]) -> Recipe:
    """The recipe in the files of sentence-transformers, or else mean pooling.

    Parameters
    ----------
    folder : Path
    module : nn.Module
    stated : transformers.PreTrainedTokenizerFast
    encoder : dict
        The result of `_encoder_settings`.
    """
    positions = positions_of(module)
    limits = (positions, getattr(stated, "model_max_length", None), encoder.get("max_seq_length"))
    known = [int(limit) for limit in limits if limit and 0 < limit < _UNLIMITED]
    path = folder / "modules.json"
    steps = read_json_list(path) if path.is_file() else []
    kinds = [str(step["type"]).rpartition(".")[2] for step in steps]
    pooling: dict[str, Any] = {}
    for step, kind in zip(steps, kinds, strict=True):
        if kind == "Pooling":
            pooling = _settings_in(folder / step["path"] / "config.json")
    asked = _settings_in(folder / "config_sentence_transformers.json")
    return Recipe(
        min(known) if known else None,
        positions,
        _poolings_of(pooling),
        "Normalize" in kinds,
        tuple(k for k in kinds if k not in ("Transformer", "Pooling", "Normalize")),
        pad_id=empty_token_of(stated),
        prompt=(asked.get("prompts") or {}).get(asked.get("default_prompt_name")) or "",
        prompt_is_pooled=bool(pooling.get("include_prompt", True)),
        truncation_side=stated.truncation_side,
    )


def _poolings_of(settings: dict[str, Any]) -> tuple[str, ...]:
    """Poolings of sentence-transformers, in its order; others by its own names."""
    stated = settings.get("pooling_mode")
    if stated is not None:
        return (stated,) if isinstance(stated, str) else tuple(stated)
    asked = [name for name, on in settings.items() if name.startswith("pooling_mode_") and on]
    known = [pooling for name, pooling in _POOLINGS.items() if name in asked]
    others = [name for name in asked if name not in _POOLINGS]
    return (*known, *(name.removeprefix("pooling_mode_") for name in others)) or ("mean",)


def _encoder_settings(folder: Path) -> dict[str, Any]:
    """How sentence-transformers runs the network; the name of the file may hold the network's."""
    return next(map(_settings_in, sorted(folder.glob("sentence_*_config.json"))), {})


def _settings_in(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
