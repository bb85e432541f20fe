"""What is made of the tokenizer of a language model."""

import json
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer, normalizers

from sktransfer.backbones.language import load_language
from sktransfer.backbones.language_tokenizer import empty_token_of
from tests.helpers.languages import write_language, write_recipe


@pytest.fixture
def folder(tmp_path):
    where = write_language(tmp_path / "bert")
    write_recipe(where, ("mean",), False)
    return where


def normalise(folder, normalizer):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.normalizer = normalizer
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("own", [None, normalizers.NFC()], ids=str)
@pytest.mark.parametrize("file", ["sentence_bert_config.json", "sentence_xlm-roberta_config.json"])
def test_texts_are_written_in_lower_case_where_the_publisher_does(own, file, folder):
    normalise(folder, own)
    plain = load_language(folder)
    (folder / "sentence_bert_config.json").unlink()
    (folder / file).write_text(json.dumps({"max_seq_length": 9, "do_lower_case": True}))
    lower = load_language(folder)
    found = lower.tokenizer.encode("The MATCH").ids
    assert found == plain.tokenizer.encode("the match").ids
    assert found != plain.tokenizer.encode("The MATCH").ids
    assert lower.fingerprint != plain.fingerprint
    assert lower.recipe.max_length == 9


def test_a_tokenizer_that_writes_in_lower_case_stays_as_it_is(folder):
    plain = load_language(folder)
    (folder / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    assert load_language(folder).fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ({"pad": 7, "eos": 8, "unk": 9}, 7),
        ({"eos": 8, "bos": 6, "unk": 9}, 8),
        ({"bos": 0}, 0),
        ({"unk": 9}, 9),
        ({}, None),
    ],
)
def test_a_text_without_tokens_is_read_as_one_that_is_no_word(tokens, expected):
    names = ("pad", "eos", "bos", "sep", "cls", "unk")
    stated = {f"{name}_token_id": tokens.get(name) for name in names}
    assert empty_token_of(SimpleNamespace(**stated)) == expected
