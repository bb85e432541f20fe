"""What is read of a foreign configuration, and what it cannot ask for."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from sktransfer import PretrainedTextFeatures
from sktransfer.backbones.language import load_language
from sktransfer.backbones.language_config import (
    attention_of,
    class_of,
    config_of,
    note_other_entries,
    read_json,
)
from sktransfer.persistence import load, save
from tests.helpers.languages import TEXTS, write_language, write_recipe

KERNEL = "somebody/kernel@main:attention"
"""What transformers would fetch from the hub and run."""

BERT = {"model_type": "bert", "vocab_size": 50, "hidden_size": 12, "num_attention_heads": 2}


@pytest.fixture
def folder(tmp_path):
    return write_language(tmp_path / "bert")


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "entry",
    [
        {"_attn_implementation": KERNEL},
        {"attn_implementation": KERNEL},
        {"attn_implementation": {"": KERNEL}},
        {"_attn_implementation_internal": KERNEL},
        {"_experts_implementation": KERNEL, "experts_implementation": KERNEL},
        {"_attn_implementation": "flash_attention_2"},
    ],
    ids=str,
)
def test_a_configuration_cannot_choose_a_kernel(entry, folder, tmp_path):
    plain = PretrainedTextFeatures(folder, engine="torch").fit(TEXTS)
    expected = plain.transform(TEXTS)
    save(plain, tmp_path / "saved")
    structure = tmp_path / "saved" / "estimator.json"
    text = structure.read_text()
    own = json.dumps(json.dumps({"model_type": "bert"}))[2:-2]  # as it stands in a text of JSON
    assert own in text
    structure.write_text(text.replace(own, f"{json.dumps(json.dumps(entry))[2:-2]}, {own}"))
    edit(folder / "config.json", **entry)
    for features in (PretrainedTextFeatures(folder, engine="torch"), load(tmp_path / "saved")):
        found = features.fit(TEXTS) if not hasattr(features, "module_") else features
        assert found.module_.config._attn_implementation == "sdpa"
        assert found.fitted_.language.fingerprint == plain.fitted_.language.fingerprint
        assert (found.transform(TEXTS) == expected).all()


def test_a_configuration_cannot_name_another_file_of_weights(folder):
    tensors = load_file(folder / "model.safetensors")
    other = {name: tensor + 1 for name, tensor in tensors.items()}
    save_file(other, folder / "other.safetensors", {"format": "pt"})
    edit(folder / "config.json", transformers_weights="other.safetensors")
    module = load_language(folder).module
    assert all(torch.equal(tensors[name], tensor) for name, tensor in module.named_parameters())


def test_what_asks_is_left_out_at_any_depth():
    nested = {"_attn_implementation": "eager", "attn_implementation": "eager", "size": 2}
    settings = {**BERT, "own": [1, nested], "problem_type": None, "own_file": {"a/b": nested}}
    config = config_of(settings, "x")
    note_other_entries(config, settings)
    assert config.own == [1, {"size": 2}]
    assert config.own_file == {"a/b": {"size": 2}}


def test_entries_that_describe_a_network_are_kept_and_others_noted_when_it_is_built():
    settings = {**BERT, "own_number": 3, "own_word": "absolute", "own_file": "net.py", "_own": 1}
    config = config_of(settings, "x")
    assert (config.hidden_size, config.own_number, config.own_word) == (12, 3, "absolute")
    assert not hasattr(config, "own_file")
    note_other_entries(config, settings)
    assert config.own_file == "net.py"
    assert not hasattr(config, "_own")


# transformers 4.57 uses it in DeBERTa, and torch 2.10 warns of it.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("kind", ["Bert", "DebertaV2", "Roberta", "OPT"])
def test_attention_is_computed_as_transformers_would(kind):
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=50, hidden_size=12, num_attention_heads=2, num_hidden_layers=1, ffn_dim=12
    )
    cls = class_of(config, "x")
    assert cls(config).config._attn_implementation == attention_of(cls)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "x is of type None, which transformers .* does not know"),
        ({"model_type": ["bert"]}, r"is of type \['bert'\]"),
        (
            {**BERT, "quantization_config": {"quant_method": "gptq"}},
            r"x has quantized weights \(quantization_config\)",
        ),
        ({**BERT, "attribute_map": 3}, "x has a config.json that describes no network"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        config_of(settings, "x")


def test_a_network_that_takes_no_tokens_is_refused():
    config = config_of({"model_type": "vit"}, "backbone='vit'")
    with pytest.raises(ValueError, match="backbone='vit' is of type 'vit', .* no network .* texts"):
        class_of(config, "backbone='vit'")


@pytest.mark.parametrize(
    "file",
    [
        "config.json",
        "tokenizer_config.json",
        "modules.json",
        "1_Pooling/config.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
    ],
)
def test_a_broken_file_is_named(file, folder):
    write_recipe(folder, ("mean",), False)
    for content, reason in (("{", "is no valid JSON"), ("3", "must hold a (dict|list) in JSON")):
        (folder / file).write_text(content)
        with pytest.raises(ValueError, match=f"{file} {reason}"):
            PretrainedTextFeatures(folder).fit(TEXTS)


def test_bytes_that_are_no_text_are_no_json(tmp_path):
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="config.json is no valid JSON .UnicodeDecodeError"):
        read_json(tmp_path / "config.json")


def test_an_adapter_of_another_model_is_refused(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/net"}')
    with pytest.raises(
        ValueError, match=r"adapter_config.json, which names another model .* merge"
    ):
        load_language(folder)
