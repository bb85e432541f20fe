"""Tokenizers of language models, run by the tokenizers library."""

from typing import Any

from sktransfer.backbones.language_config import read_json
from sktransfer.backbones.language_files import ModelFiles, has_vocabulary
from sktransfer.texts.transformers import import_transformers, quiet


def load_tokenizer(found: ModelFiles, vocabulary_size: int, lower_case: bool) -> tuple[Any, Any]:
    """The tokenizer itself, and transformers' notes on it.

    Parameters
    ----------
    found : ModelFiles
    vocabulary_size : int
        Tokens that the network embeds.
    lower_case : bool
        Whether texts are written in lower case first.

    Raises
    ------
    ValueError
        There is no tokenizer that can be used, or it does not belong to the network.
    """
    transformers = import_transformers()
    path = found.folder / "tokenizer_config.json"
    settings = read_json(path) if path.is_file() else {}
    # One with code of its own is what its tokenizer.json says, or nothing.
    loader = "PreTrainedTokenizerFast" if "auto_map" in settings else "AutoTokenizer"
    # Without any of these transformers makes a tokenizer that knows no words.
    if not has_vocabulary(found.folder):
        raise ValueError(f"{found.folder} has no tokenizer; its folder must hold tokenizer.json")
    try:
        with quiet():
            stated = getattr(transformers, loader).from_pretrained(
                found.folder, local_files_only=True
            )
        if not stated.is_fast:
            raise ValueError(f"{type(stated).__name__} is written in Python")
    except Exception as error:  # a broken file may raise anything
        raise ValueError(
            f"{found.folder} has no tokenizer that the tokenizers library runs "
            f"({str(error).splitlines()[0]}); its folder must hold tokenizer.json"
        ) from error
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(stated.backend_tokenizer.to_str())  # our own, to be set
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if lower_case:
        _write_in_lower_case(tokenizer)
    largest = max(tokenizer.get_vocab(True).values(), default=0)
    if largest >= vocabulary_size:
        raise ValueError(
            f"the tokenizer of backbone={found.name!r} has tokens up to {largest}, and the network "
            f"embeds {vocabulary_size}; they do not belong together"
        )
    if any(tokenizer.encode("a").type_ids):
        raise ValueError(
            f"backbone={found.name!r} tells segments apart even in single texts, which is not "
            "supported; choose another model"
        )
    return tokenizer, stated


def _write_in_lower_case(tokenizer: Any) -> None:
    """Make a tokenizer do so, unless it does."""
    from tokenizers import normalizers

    own = tokenizer.normalizer
    if own is None:
        tokenizer.normalizer = normalizers.Lowercase()
    elif not own.normalize_str("ABC").islower():
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), own])


def empty_token_of(stated: Any) -> int | None:
    """The token to stand for a text without tokens, as tokenizers without special ones have it.

    Padding, or else a token that marks where a text ends or begins. A token that is a word would
    give the empty text the features of that word.
    """
    names = ("pad", "eos", "bos", "sep", "cls", "unk")
    found = (getattr(stated, f"{name}_token_id", None) for name in names)
    return next((token for token in found if token is not None), None)
