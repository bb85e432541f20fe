"""Batches by length: every row once, little padding, bounded work."""

import numpy as np
import pytest

from sktransfer.sequences.batching import batches_by_length


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_every_row_is_in_one_batch_in_order_of_length(batch_size):
    lengths = np.random.RandomState(0).randint(1, 500, 400)
    batches = list(batches_by_length(lengths, batch_size))
    rows = np.concatenate(batches)
    np.testing.assert_array_equal(np.sort(rows), np.arange(400))
    assert (np.diff(lengths[rows]) >= 0).all()


def test_a_batch_holds_about_the_same_number_of_steps():
    lengths = np.random.RandomState(0).randint(1, 500, 4000)
    for batch in batches_by_length(lengths, 64):
        assert len(batch) * lengths[batch].max() <= 64 * 128 or len(batch) <= 16


def test_long_sequences_still_fill_the_matrix_product():
    sizes = [len(batch) for batch in batches_by_length(np.full(100, 100_000), 64)]
    assert sizes == [16] * 6 + [4]


def test_sorted_batches_are_nearly_free_of_padding():
    lengths = np.exp(np.random.RandomState(0).uniform(np.log(16), np.log(1024), 3000)).astype(int)
    padded = sum(len(b) * lengths[b].max() for b in batches_by_length(lengths, 64))
    assert padded < 1.1 * lengths.sum()


def test_equal_lengths_only_when_asked():
    lengths = np.array([5, 3, 5, 3, 3, 7])
    batches = batches_by_length(lengths, 64, equal=True)
    assert [batch.tolist() for batch in batches] == [[1, 3, 4], [0, 2], [5]]
