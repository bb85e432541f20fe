"""Tokens of texts: what is cut, split and padded, and which rows are whose."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from tokenizers import Tokenizer, models

from sktransfer.sequences.batching import batches_by_length
from sktransfer.texts.tokens import limited, tokenise
from tests.helpers.languages import WORDS, write_tokenizer

CLS, SEP, THE, TEAM, WON, MATCH = map(
    WORDS.index, ("[CLS]", "[SEP]", "the", "team", "won", "match")
)
TEXTS = ["the team", "the team won the match", ""]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def rows_of(tokens):
    """All rows as lists."""
    ends = tokens.starts + tokens.lengths
    return [tokens.ids[a:b].tolist() for a, b in zip(tokens.starts, ends, strict=True)]


def test_a_limit_counts_special_tokens_and_leaves_the_tokenizer_as_it_was(tokenizer):
    own = limited(tokenizer, 4)
    assert own.encode(TEXTS[1]).ids == [CLS, THE, TEAM, SEP]
    assert len(tokenizer.encode(TEXTS[1]).ids) == 7
    assert len(limited(tokenizer, None).encode(TEXTS[1]).ids) == 7


def test_texts_beyond_the_limit_are_cut_and_counted_whole(tokenizer):
    tokens = tokenise(limited(tokenizer, 5), TEXTS, False, 0)
    assert rows_of(tokens) == [[CLS, THE, TEAM, SEP], [CLS, THE, TEAM, WON, SEP], [CLS, SEP]]
    assert tokens.counts.tolist() == [1, 1, 1]
    assert tokens.totals.tolist() == [4, 7, 2]


def test_a_text_that_is_split_has_rows_with_special_tokens_of_their_own(tokenizer):
    tokens = tokenise(limited(tokenizer, 5), TEXTS, True, 0)
    first, *pieces, last = rows_of(tokens)
    assert pieces == [[CLS, THE, TEAM, WON, SEP], [CLS, THE, MATCH, SEP]]
    assert (first, last) == ([CLS, THE, TEAM, SEP], [CLS, SEP])
    assert tokens.counts.tolist() == [1, 2, 1]
    assert tokens.totals.tolist() == [4, 7, 2]
    assert tokens.rows_of(np.array([2, 1])).tolist() == [3, 1, 2]


def test_rows_are_padded_at_the_end_to_the_longest_among_them(tokenizer):
    tokens = tokenise(limited(tokenizer, None), TEXTS, False, 9)
    ids, mask = tokens.padded(np.array([2, 0]))
    assert_array_equal(ids, [[CLS, SEP, 9, 9], [CLS, THE, TEAM, SEP]])
    assert_array_equal(mask, [[1, 1, 0, 0], [1, 1, 1, 1]])
    assert ids.dtype == mask.dtype == np.int64


def test_a_text_without_any_token_is_one_of_padding():
    plain = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokens = tokenise(limited(plain, 5), ["", "a"], True, 7)
    assert rows_of(tokens) == [[7], [0]]
    assert tokens.totals.tolist() == [1, 1]


def test_without_padding_a_text_without_any_token_is_refused():
    plain = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    with pytest.raises(ValueError, match="the text '' has no tokens, and the tokenizer no special"):
        tokenise(limited(plain, 5), ["a", ""], True, None)
    assert tokenise(limited(plain, 5), ["a"], True, None).padded(np.array([0]))[0].tolist() == [[0]]


@pytest.mark.parametrize(("side", "left"), [("right", [THE, TEAM]), ("left", [THE, MATCH])])
def test_tokens_are_cut_off_on_either_side(side, left, tokenizer):
    tokens = tokenise(limited(tokenizer, 4, side), TEXTS[1:2], False, 0)
    assert rows_of(tokens) == [[CLS, *left, SEP]]
    assert tokens.totals.tolist() == [7]


def test_batches_hold_each_row_once_in_order_of_length(tokenizer):
    texts = ["a " * n for n in np.random.RandomState(0).randint(1, 90, 200)]
    tokens = tokenise(limited(tokenizer, 40), texts, True, 0)
    rows = np.concatenate([*batches_by_length(tokens.lengths, 4)])
    assert_array_equal(np.sort(rows), np.arange(tokens.counts.sum()))
    assert (np.diff(tokens.lengths[rows]) >= 0).all()
