"""Tiny networks for text with random weights, in folders as transformers writes them."""

import inspect
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "an", "match", "team", "won", "lost"),
    *("goal", "sauce", "dough", "bread", "cook", "slowly", "fast", "and", "in", "##ly", "##ed"),
    *(chr(letter) for letter in range(ord("a"), ord("z") + 1)),
    *(f"##{chr(letter)}" for letter in range(ord("a"), ord("z") + 1)),
)

TEXTS = [
    "the team won the match",
    "a goal and a goal",
    "cook the sauce slowly",
    "bread and dough",
    "lost",
    "",
    "the dough rests in the bowl and the bread cooks slowly in a hot oven",
    "a fast team",
]

LABELS = ["sport", "sport", "food", "food", "sport", "food", "food", "sport"]


def write_language(
    folder: Path,
    kind: str = "Bert",
    *,
    seed: int = 0,
    max_length: int = 32,
    poolings: tuple[str, ...] | None = None,
    normalize: bool = False,
    **config: Any,
) -> Path:
    """Write a model and its tokenizer, and if `poolings` are given sentence-transformers' files."""
    sizes = {
        "vocab_size": len(WORDS),
        "hidden_size": 12,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 40,
        **config,
    }
    torch.random.manual_seed(seed)
    made = getattr(transformers, f"{kind}Config")(**sizes)
    model = getattr(transformers, f"{kind}Model")(made)
    with torch.no_grad():  # states that differ visibly from token to token and layer to layer
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    save(model, folder)
    write_tokenizer(folder, max_length)
    if poolings is not None:
        write_recipe(folder, poolings, normalize)
    return folder


def save(model: Any, folder: Path) -> None:
    """`save_pretrained` without its progress bar."""
    from transformers.utils import logging

    shown, logging._tqdm_active = logging._tqdm_active, False
    model.save_pretrained(folder)
    logging._tqdm_active = shown


def write_tokenizer(folder: Path, max_length: int = 32) -> None:
    """Word pieces over letters and a few words."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokens = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        **{f"{name}_token": token for name, token in tokens.items()},
    ).save_pretrained(folder)


def write_recipe(folder: Path, poolings: tuple[str, ...], normalize: bool, *more: str) -> None:
    """The files in which sentence-transformers says how a vector is made."""
    kinds = ["Transformer", "Pooling", *more, *(["Normalize"] if normalize else [])]
    steps = [
        {"idx": i, "name": str(i), "path": "" if i == 0 else f"{i}_{kind}",
         "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(steps))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens"}
    settings = {f"pooling_mode_{mode}": name in poolings for name, mode in modes.items()}
    settings |= {f"pooling_mode_{name}": True for name in poolings if name not in modes}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 30}')


def states_by_hand(folder: Path, text: str, max_length: int = 32) -> list[torch.Tensor]:
    """States of all layers for one text alone, (tokens, width) each, by transformers."""
    from transformers.utils import logging

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    shown, logging._tqdm_active = logging._tqdm_active, False
    model = transformers.AutoModel.from_pretrained(folder).eval()
    logging._tqdm_active = shown
    batch = tokenizer([text], truncation=True, max_length=max_length, return_tensors="pt")
    with torch.inference_mode():
        # Before transformers 5 some networks took no mask, and held back the last norm's states.
        mask = {"attention_mask": batch["attention_mask"]}
        if "attention_mask" not in inspect.signature(model.forward).parameters:
            mask = {}
        states = model(input_ids=batch["input_ids"], **mask, output_hidden_states=True)
    found = [state[0] for state in states.hidden_states]
    last = states.last_hidden_state[0]
    return found if torch.equal(found[-1], last) else [*found, last]
