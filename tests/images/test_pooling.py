"""Pooling against NumPy."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sktransfer.images.pooling import POOLINGS, Activation, pool

VALUES = np.random.RandomState(0).randn(2, 5, 3, 4).astype(np.float32)  # (n, C, H, W)


def by_hand(positions, pooling):
    """Pool an array of shape (n, positions, channels)."""
    gem = np.maximum(positions, 1e-6).astype(np.float64) ** 3
    return {
        "mean": positions.mean(1),
        "max": positions.max(1),
        "gem": np.cbrt(gem.mean(1)),
    }[pooling]


@pytest.mark.parametrize("pooling", ["mean", "max", "gem"])
def test_maps_and_tokens_pool_over_their_positions(pooling):
    positions = VALUES.reshape(2, 5, 12).transpose(0, 2, 1)
    expected = by_hand(positions, pooling)
    tokens = np.concatenate([np.full((2, 1, 5), 99, np.float32), positions], axis=1)
    cases = [
        (VALUES, Activation((5, 3, 4), "channels_first")),
        (VALUES.transpose(0, 2, 3, 1), Activation((3, 4, 5), "channels_last")),
        (positions, Activation((12, 5), "tokens")),
        (tokens, Activation((13, 5), "tokens", prefix_tokens=1)),
    ]
    for values, activation in cases:
        found = pool(torch.from_numpy(values.copy()), activation, pooling).numpy()
        assert found.shape == (2, activation.width(pooling))
        assert_allclose(found, expected, rtol=1e-5)


def test_cls_takes_the_first_token_and_flatten_all_values():
    values = torch.arange(24.0).reshape(2, 4, 3)
    activation = Activation((4, 3), "tokens", prefix_tokens=1)
    assert torch.equal(pool(values, activation, "cls"), values[:, 0])
    assert torch.equal(pool(values, activation, "flatten"), values.reshape(2, 12))
    assert activation.width("flatten") == 12


@pytest.mark.parametrize("pooling", POOLINGS)
def test_vectors_are_taken_as_they_are_and_copied(pooling):
    values = torch.randn(3, 7)
    found = pool(values, Activation((7,), "vector"), pooling)
    assert torch.equal(found, values)
    values.zero_()
    assert found.abs().sum() > 0  # a later layer may overwrite the activation
