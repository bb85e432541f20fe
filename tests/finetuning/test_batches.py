"""Rows and the order in which they come."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sktransfer.finetuning.batches import ArrayInputs, Batches, TrainingRows
from sktransfer.finetuning.targets import encode_targets


def rows_of(n, batch_size, y=None, domain=None, rows=None, task=None, **parameters):
    """Batches whose inputs are the numbers of their rows, from 1 on."""
    y = np.arange(n) % 2 if y is None else y
    targets = encode_targets(y, n_rows=n, sample_domain=domain, task=task)
    inputs = ArrayInputs(np.arange(1.0, n + 1)[:, None], (1,))
    rows = np.arange(n) if rows is None else rows
    return Batches(TrainingRows(inputs, targets, rows, **parameters), batch_size)


def epoch(batches):
    """Numbers of the rows of each batch."""
    return [inputs[:, 0].round().int().numpy() - 1 for inputs, _ in batches]


@pytest.mark.parametrize("n", [2, 7, 33, 64, 65, 100])
@pytest.mark.parametrize("batch_size", [4, 32])
def test_every_row_comes_once_in_each_epoch_in_another_order(n, batch_size):
    batches = rows_of(n, batch_size, seed=0)
    first, second = (np.concatenate(epoch(batches)) for _ in range(2))
    assert_array_equal(np.sort(first), np.arange(n))
    assert_array_equal(np.sort(second), np.arange(n))
    assert n < 5 or (first != second).any()


def test_only_the_rows_that_belong_to_it_come():
    some = np.array([3, 4, 9, 1, 17])
    batches = rows_of(20, 2, rows=some, seed=0)
    assert_array_equal(np.sort(np.concatenate(epoch(batches))), np.sort(some))


@pytest.mark.parametrize("batch_size", [2, 3, 5, 16])
def test_batches_are_nearly_equal_and_none_is_of_a_single_row(batch_size):
    for n in range(2, 60):
        batches = rows_of(n, batch_size, seed=0)
        sizes = [len(batch) for batch in epoch(batches)]
        assert len(sizes) == len(batches)
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) >= 2, (n, sizes)
        assert max(sizes) < 2 * batch_size


def test_batches_of_one_row_can_be_asked_for():
    assert [len(batch) for batch in epoch(rows_of(4, 1, seed=0))] == [1, 1, 1, 1]


def test_the_order_depends_on_the_seed_alone():
    def order(seed):
        return np.concatenate(epoch(rows_of(50, 8, seed=seed)))

    expected = order(0)
    torch.manual_seed(5)
    np.random.seed(5)
    assert_array_equal(order(0), expected)
    assert (order(1) != expected).any()


@pytest.mark.parametrize("options", [{}, {"mixup": 0.4}, {"sampler": "balanced"}])
def test_global_generators_are_left_alone(options):
    state, numpy_state = torch.get_rng_state(), np.random.get_state()
    epoch(rows_of(50, 8, seed=0, **options))
    assert torch.equal(torch.get_rng_state(), state)
    assert_array_equal(np.random.get_state()[1], numpy_state[1])
    assert np.random.get_state()[2:] == numpy_state[2:]


def test_rows_without_a_seed_come_as_they_are():
    some = np.array([4, 2, 9, 0, 7])
    batches = epoch(rows_of(10, 2, rows=some))
    assert [batch.tolist() for batch in batches] == [[4, 2], [9, 0], [7]]


def test_inputs_and_targets_of_a_batch_belong_to_the_same_rows():
    y = np.random.RandomState(0).randint(0, 5, 40)
    for inputs, targets in rows_of(40, 8, y=y, seed=0):
        of_batch = inputs[:, 0].int().numpy() - 1
        assert_array_equal(targets["values"].argmax(1), y[of_batch])


def test_a_dataset_gives_rows_by_index_as_skorch_wants_them():
    dataset = rows_of(10, 2, rows=np.array([5, 8, 2])).dataset
    assert len(dataset) == 3
    inputs, targets = dataset[1]
    assert inputs.tolist() == [[9.0]]
    assert targets["values"].tolist() == [[1.0, 0.0]]


def test_maps_are_given_as_channels_last_with_unchanged_values():
    values = np.random.RandomState(0).normal(size=(6, 24))
    batch = ArrayInputs(values, (2, 3, 4)).batch(np.array([4, 1]), training=True)
    assert batch.dtype == torch.float32
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert_allclose(batch, values[[4, 1]].reshape(2, 2, 3, 4), rtol=1e-6)


def test_a_balanced_sampler_draws_all_classes_equally_often():
    y = np.repeat([0, 1, 2], [300, 30, 6])
    batches = rows_of(len(y), 32, y=y, seed=0, sampler="balanced")
    drawn = np.concatenate([np.concatenate(epoch(batches)) for _ in range(10)])
    assert len(drawn) == 10 * len(y)
    # The standard deviation of each share is 0.008.
    assert_allclose(np.bincount(y[drawn]) / len(drawn), 1 / 3, atol=0.035)
    within = np.bincount(drawn[y[drawn] == 2])[-6:]
    assert_allclose(within / within.sum(), 1 / 6, atol=0.06)


def test_a_balanced_sampler_leaves_the_target_domain_as_it_is():
    y = np.repeat([0, 1, 0], [20, 4, 16])
    domain = np.repeat([1, -1], [24, 16])
    drawn = np.concatenate(epoch(rows_of(40, 8, y=y, domain=domain, seed=0, sampler="balanced")))
    assert_array_equal(np.sort(drawn[drawn >= 24]), np.arange(24, 40))
    assert (drawn < 24).sum() == 24


def test_mixup_blends_inputs_and_labels_by_one_share_per_batch():
    # Inputs and standardised targets are the same line, so that a blend stays on it.
    y = np.arange(1.0, 41)
    batches = rows_of(40, 8, y=y, task="regression", seed=0, mixup=1.0)
    mean, scale = batches.dataset.targets.location
    blended = 0
    for inputs, targets in batches:
        values = torch.lerp(targets["other_values"], targets["values"], targets["share"][:, None])
        assert len(targets["share"].unique()) == 1
        assert_allclose(values.numpy() * scale + mean, inputs, rtol=1e-5)
        blended += int((inputs != inputs.round()).sum())
    assert blended > 20


def test_mixup_blends_each_row_of_a_batch_with_another_of_it():
    plain = rows_of(12, 12, seed=0).dataset
    (batch,) = [inputs[:, 0].numpy() for inputs, _ in rows_of(12, 12, seed=0, mixup=1.0)]
    (order,) = epoch(rows_of(12, 12, seed=0))  # what is drawn later leaves the order alone
    draw = np.random.default_rng(0)
    plain.rng = draw
    next(iter(Batches(plain, 12)))
    share = draw.beta(1.0, 1.0)
    partners = (batch - share * (order + 1)) / (1 - share)
    assert_allclose(np.sort(partners), np.arange(1, 13), atol=1e-3)


def test_mixup_keeps_the_weight_of_each_row_beside_its_label():
    n = 30
    weights = np.arange(1.0, n + 1)
    targets = encode_targets(np.arange(n) % 2, n_rows=n, sample_weight=weights)
    inputs = ArrayInputs(weights[:, None] / weights.mean(), (1,))
    for batch, of_rows in Batches(
        TrainingRows(inputs, targets, np.arange(n), seed=0, mixup=1.0), 10
    ):
        blend = torch.lerp(of_rows["other_weights"], of_rows["weights"], of_rows["share"])
        assert_allclose(blend, batch[:, 0], rtol=1e-5)


def test_mixup_never_blends_labelled_with_unlabelled_rows():
    n = 60
    domain = np.where(np.arange(n) % 3 == 0, -1, 1)
    targets = encode_targets(np.arange(n) % 2, n_rows=n, sample_domain=domain)
    inputs = ArrayInputs((domain > 0).astype(float)[:, None], (1,))
    dataset = TrainingRows(inputs, targets, np.arange(n), seed=0, mixup=1.0)
    mixed = 0
    for _ in range(5):
        for batch, of_rows in Batches(dataset, 12):
            labelled = of_rows["labelled"]
            assert_allclose(batch[:, 0], labelled.float(), atol=1e-6)
            assert_allclose(of_rows["weights"] > 0, labelled)
            for values in (of_rows["values"], of_rows["other_values"]):
                assert_allclose(values.sum(1), labelled.float(), atol=1e-6)
            mixed += int((of_rows["values"] != of_rows["other_values"]).sum())
    assert mixed > 20


def test_no_mixup_leaves_rows_as_they_are():
    for inputs, targets in rows_of(20, 5, seed=0):
        assert_array_equal(inputs, inputs.round())
        assert set(targets["values"].unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(("n_source", "n_target"), [(40, 40), (60, 20), (16, 64)])
def test_both_domains_are_spread_evenly_over_the_batches(n_source, n_target):
    domain = np.repeat([1, -1], [n_source, n_target])
    batches = rows_of(80, 8, domain=domain, seed=0)
    for _ in range(3):
        shares = [int((batch < n_source).sum()) for batch in epoch(batches)]
        assert sum(shares) == n_source
        assert max(abs(share - n_source / 10) for share in shares) <= 2
