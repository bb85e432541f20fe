"""Pooling over padded rows against NumPy on each row alone."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from sktransfer.sequences.pooling import POOLINGS, pool, quantile_thresholds
from sktransfer.sequences.soft_pooling import soft_pool

RNG = np.random.RandomState(0)


def case(lengths, n_units=5):
    states = RNG.normal(size=(max(lengths), len(lengths), n_units)).astype(np.float32)
    return torch.from_numpy(states), torch.tensor(lengths)


def expected(states, thresholds, scores):
    mean, weights = states.mean(0), softmax(scores)[:, None]
    above = [(states > threshold).mean(0) for threshold in thresholds]
    values = {"last": states[-1], "mean": mean, "max": states.max(0), "min": states.min(0)}
    values |= {"std": states.std(0), "attention": (states * weights).sum(0)}
    return values, np.concatenate(above)


@pytest.mark.parametrize("pool_by", [pool, soft_pool])
def test_last_of_a_unit_that_reads_from_the_end_is_its_first_state(pool_by):
    states, lengths = case([9, 1, 4])
    backward = torch.tensor([False, True, False, True, True])
    last, mean = pool_by(states, lengths, ["last", "mean"], backward=backward)
    for row, length in enumerate(lengths):
        of_row = states[:length, row]
        expected = torch.where(backward, of_row[0], of_row[-1])
        torch.testing.assert_close(last[row], expected, rtol=0, atol=0)
        torch.testing.assert_close(mean[row], of_row.mean(0))


@pytest.mark.parametrize("lengths", [[9, 9, 9], [1, 4, 9], [700, 3, 256, 255], [1]])
def test_padding_is_never_seen(lengths):
    states, of_rows = case(lengths)
    thresholds = RNG.normal(size=(3, len(lengths), 5)).astype(np.float32)
    scores = RNG.normal(size=states.shape[:2]).astype(np.float32)
    given = {"thresholds": torch.from_numpy(thresholds), "scores": torch.from_numpy(scores)}
    names = [name for name in POOLINGS if name != "ppv"]
    pooled = dict(zip(names, pool(states, of_rows, names, **given), strict=True))
    shares = torch.cat(pool(states, of_rows, ["ppv"], **given), dim=1)
    for row, length in enumerate(lengths):
        own = states[:length, row].numpy().astype(np.float64)
        values, above = expected(own, thresholds[:, row], scores[:length, row])
        for name in names:
            np.testing.assert_allclose(pooled[name][row], values[name], atol=1e-6, err_msg=name)
        np.testing.assert_allclose(shares[row], above, atol=1e-7)


def test_each_pooling_alone_is_the_pooling_among_all():
    states, lengths = case([3, 8, 5])
    given = {"thresholds": torch.zeros(2, 3, 5), "scores": torch.zeros(8, 3)}
    together = torch.cat(pool(states, lengths, POOLINGS, **given), dim=1)
    alone = [torch.cat(pool(states, lengths, [name], **given), dim=1) for name in POOLINGS]
    torch.testing.assert_close(together, torch.cat(alone, dim=1), rtol=0, atol=0)


def test_the_standard_deviation_of_a_constant_is_zero():
    states = torch.full((1000, 1, 1), 0.123456)
    (std,) = pool(states, torch.tensor([1000]), ["std"])
    assert float(std) < 1e-6


def test_thresholds_are_quantiles_of_all_levels():
    states = torch.from_numpy(RNG.uniform(size=(20_001, 64)).astype(np.float32))
    thresholds = quantile_thresholds(states, 4)
    assert thresholds.shape == (4, 64)
    # States are uniform, so that a quantile is its own level: a golden-ratio sequence.
    levels = np.arange(1, 257) * (np.sqrt(5) - 1) / 2 % 1
    np.testing.assert_allclose(thresholds.numpy().ravel(), levels, atol=0.03)
    counts = np.histogram(thresholds.numpy(), bins=8, range=(0, 1))[0]
    assert counts.min() >= 28
