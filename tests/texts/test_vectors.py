"""Vectors of texts from those of their rows, with a network that can be computed by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from tokenizers import Tokenizer

from sktransfer.texts.tokens import limited
from sktransfer.texts.vectors import TextPlan, assembled, chunks_by_length, joined, vectors_of
from tests.helpers.languages import write_tokenizer

READS = [SimpleNamespace(layer="only", pooling=pooling) for pooling in ("mean", "max", "cls")]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def engine(ids, mask):
    """Mean, maximum and first of the numbers of the tokens."""
    values = ids.astype(np.float32)
    mean = (values * mask).sum(1) / mask.sum(1)
    return [column[:, None] for column in (mean, (values * mask).max(1), values[:, 0])]


def plan_of(tokenizer, max_length, split=False):
    return TextPlan(limited(tokenizer, max_length), 0, split, batch_size=2, on_cpu=True)


def test_vectors_come_in_the_order_of_the_texts_with_their_numbers_of_tokens(tokenizer):
    lengths = np.random.RandomState(0).permutation(30)
    texts = [f"{'match ' * n}team" for n in lengths]
    done = []
    found, n_tokens = vectors_of(engine, READS, plan_of(tokenizer, None), texts, done.append)
    each = [tokenizer.encode(text).ids for text in texts]
    assert_allclose(found[0][:, 0], [np.mean(ids) for ids in each], rtol=1e-6)
    assert_array_equal(found[1][:, 0], [max(ids) for ids in each])
    assert_array_equal(n_tokens, lengths + 3)
    assert sum(done) == 30


def test_a_text_that_is_split_has_the_vector_of_all_its_tokens(tokenizer):
    texts = ["the team", "the team won the match", "a match"]
    done = []
    plan = plan_of(tokenizer, 5, split=True)
    (mean, most, first), n_tokens = vectors_of(engine, READS, plan, texts, done.append)
    pieces = [tokenizer.encode(part).ids for part in ("the team won", "the match")]
    assert mean[1, 0] == pytest.approx(np.mean(pieces[0] + pieces[1]))
    assert most[1, 0] == max(pieces[0] + pieces[1])
    assert first[1, 0] == pieces[0][0]
    assert_array_equal(n_tokens, [4, 7, 4])
    assert sum(done) == 3


def test_a_text_that_is_cut_has_the_vector_of_what_is_left(tokenizer):
    plan = plan_of(tokenizer, 4)
    found, n_tokens = vectors_of(engine, READS, plan, ["the team won", "the team"])
    assert_array_equal(found[0][0], found[0][1])
    assert_array_equal(n_tokens, [5, 4])


def test_chunks_hold_each_text_once_the_longest_first():
    texts = ["a" * n for n in (3, 1, 9, 4, 1)]
    assert [chunk.tolist() for chunk in chunks_by_length(texts, 2)] == [[2, 3], [0, 1], [4]]


ROWS = torch.tensor([[1.0, 5.0], [2.0, 4.0], [6.0, 0.0]])
COUNTS, N_TOKENS = torch.tensor([1, 2]), torch.tensor([4, 3, 1])


@pytest.mark.parametrize(
    ("pooling", "expected"), [("mean", [3.0, 3.0]), ("max", [6.0, 4.0]), ("cls", [4.0, 2.0])]
)
def test_rows_of_a_text_are_joined_as_their_pooling_asks(pooling, expected):
    found = joined(ROWS, pooling, COUNTS, N_TOKENS)
    assert found.tolist() == [[1.0, 5.0], expected]


def test_rows_of_texts_that_are_whole_stay_as_they_are():
    assert joined(ROWS, "mean", torch.ones(3, dtype=torch.int64), N_TOKENS) is ROWS


@pytest.mark.parametrize(
    ("combine", "expected"),
    [("concat", [3, 0, 0, 4, 1, 2, 5, 6]), ("sum", [4, 2, 5, 10]), ("mean", [2, 1, 2.5, 5])],
)
def test_layers_are_put_side_by_side_or_combined_pooling_by_pooling(combine, expected):
    names = [(layer, pooling) for layer in ("first", "second") for pooling in ("mean", "max")]
    reads = [SimpleNamespace(layer=layer, pooling=pooling) for layer, pooling in names]
    parts = [torch.tensor([row]) for row in ([3.0, 0.0], [0.0, 4.0], [1.0, 2.0], [5.0, 6.0])]
    found = assembled(parts, reads, combine, False)
    assert found.tolist() == [expected]
    scaled = assembled(parts, reads, combine, True)
    assert_allclose(scaled, found / np.linalg.norm(expected), rtol=1e-6)
