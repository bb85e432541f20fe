"""Penalties against plain NumPy loops over the published formulas."""

from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.special import softmax
from torch import nn

from sktransfer.finetuning.penalties import (
    channel_attention,
    delta_penalty,
    loss_increase,
    relational_penalty,
    spectral_shrinkage,
)

RNG = np.random.RandomState(0)


def tensor(values, *, trained=False):
    return torch.tensor(np.asarray(values), dtype=torch.float64, requires_grad=trained)


def huber(a, b):
    gap = abs(a - b)
    return gap**2 / 2 if gap <= 1 else gap - 0.5


def distances_of(rows):
    found = [np.linalg.norm(rows[i] - rows[j]) for i, j in combinations(range(len(rows)), 2)]
    return np.array(found) / np.mean(found)


def cosine(rows, i, j, k):
    """Of the angle at row j between rows i and k."""
    one, other = rows[i] - rows[j], rows[k] - rows[j]
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def distance_loss(rows, source):
    return np.mean([huber(a, b) for a, b in zip(*map(distances_of, (rows, source)), strict=True)])


def angle_loss(rows, source):
    n = len(rows)
    triplets = permutations(range(n), 3)
    total = sum(huber(cosine(rows, *of), cosine(source, *of)) for of in triplets)
    return total / n**3  # triplets of fewer than three rows are the same on both sides


def rows_of(n, widths=(4, 6)):
    # The first row is far out, so that some differences are beyond the bend of Huber's loss.
    one, other = (RNG.normal(size=(n, width)) for width in widths)
    one[0] *= 30
    return one, other


@pytest.mark.parametrize("n", [2, 3, 12])
def test_the_distance_penalty_is_that_of_plain_loops(n):
    rows, source = rows_of(n)
    found = relational_penalty(tensor(rows), tensor(source), angle_weight=0)
    assert_allclose(found, distance_loss(rows, source), rtol=1e-9, atol=1e-12)


def test_huber_is_needed_beyond_its_bend():
    rows, source = rows_of(12)
    gaps = np.abs(distances_of(rows) - distances_of(source))
    assert gaps.max() > 1 > gaps.min()


@pytest.mark.parametrize("n", [3, 4, 12])
def test_the_angle_penalty_is_that_of_plain_loops(n):
    rows, source = rows_of(n)
    found = relational_penalty(tensor(rows), tensor(source), distance_weight=0)
    assert_allclose(found, 2 * angle_loss(rows, source), rtol=1e-9)


def test_both_parts_are_weighted_one_to_two():
    rows, source = rows_of(7)
    expected = distance_loss(rows, source) + 2 * angle_loss(rows, source)
    assert_allclose(relational_penalty(tensor(rows), tensor(source)), expected, rtol=1e-9)
    found = relational_penalty(tensor(rows), tensor(source), distance_weight=3.0, angle_weight=0.5)
    expected = 3 * distance_loss(rows, source) + 0.5 * angle_loss(rows, source)
    assert_allclose(found, expected, rtol=1e-9)


def test_angles_are_those_of_the_first_rows_of_a_large_batch():
    rows, source = rows_of(60)
    found = relational_penalty(tensor(rows), tensor(source), distance_weight=0)
    of_first = relational_penalty(tensor(rows[:48]), tensor(source[:48]), distance_weight=0)
    assert found == of_first
    found = relational_penalty(tensor(rows), tensor(source), angle_weight=0)
    assert_allclose(found, distance_loss(rows, source), rtol=1e-9)


def test_rotating_scaling_and_shifting_features_costs_nothing():
    source = RNG.normal(size=(20, 5))
    rotation = np.linalg.qr(RNG.normal(size=(5, 5)))[0]
    moved = tensor(3.7 * source @ rotation + RNG.normal(size=5))
    assert relational_penalty(moved, tensor(source)) < 1e-20
    stretched = tensor(source * [1, 1, 1, 1, 2])
    assert relational_penalty(stretched, tensor(source)) > 1e-3


def test_the_gradient_of_the_relations_is_that_of_finite_differences():
    rows, source = rows_of(6)
    assert torch.autograd.gradcheck(
        lambda features: relational_penalty(features, tensor(source)), tensor(rows, trained=True)
    )


@pytest.mark.parametrize("duplicates", [2, 8])
def test_equal_rows_have_a_finite_gradient(duplicates):
    rows, source = rows_of(8)
    rows[:duplicates] = rows[0]
    source[-duplicates:] = source[-1]
    features = tensor(rows, trained=True)
    value = relational_penalty(features, tensor(source))
    value.backward()
    assert value.isfinite()
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_rows_have_no_relations_but_a_gradient(n):
    features = tensor(RNG.normal(size=(n, 3)), trained=True)
    value = relational_penalty(features, tensor(RNG.normal(size=(n, 3))))
    value.backward()
    assert value == 0
    assert_allclose(features.grad, np.zeros((n, 3)))


@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (6, 6), (1, 4)])
@pytest.mark.parametrize("k", [1, 3])
def test_shrinkage_is_the_square_of_the_smallest_singular_values(shape, k):
    rows = RNG.normal(size=shape)
    expected = (np.linalg.svd(rows, compute_uv=False)[-k:] ** 2).sum()
    assert_allclose(spectral_shrinkage(tensor(rows), n_smallest=k), expected, rtol=1e-9)
    single = spectral_shrinkage(tensor(rows).float(), n_smallest=k)
    assert single.dtype == torch.float32
    assert_allclose(single, expected, rtol=1e-4)


@pytest.mark.parametrize("shape", [(7, 4), (4, 7)])
@pytest.mark.parametrize("k", [1, 2])
def test_the_gradient_of_shrinkage_is_that_of_finite_differences(shape, k):
    rows = RNG.normal(size=shape)
    features = tensor(rows, trained=True)
    spectral_shrinkage(features, n_smallest=k).backward()

    def value(at):
        return (np.linalg.svd(at, compute_uv=False)[-k:] ** 2).sum()

    expected = np.empty(shape)
    for place in np.ndindex(shape):
        step = np.zeros(shape)
        step[place] = 1e-5
        expected[place] = (value(rows + step) - value(rows - step)) / 2e-5
    assert_allclose(features.grad, expected, atol=1e-7)


@pytest.mark.parametrize("rank", [0, 1, 3])
@pytest.mark.parametrize("shape", [(9, 5), (5, 9)])
def test_shrinkage_is_zero_with_a_finite_gradient_where_rank_is_lacking(rank, shape):
    rows = RNG.normal(size=(shape[0], rank)) @ RNG.normal(size=(rank, shape[1]))
    features = tensor(rows, trained=True)
    value = spectral_shrinkage(features)
    value.backward()
    assert 0 <= value < 1e-12
    assert features.grad.abs().max() < 1e-5


def test_shrinkage_of_equal_singular_values_has_a_finite_gradient():
    features = tensor(2 * np.eye(4), trained=True)
    value = spectral_shrinkage(features)
    value.backward()
    assert_allclose(value.detach(), 4)
    assert features.grad.isfinite().all()
    assert_allclose(features.grad.norm(), 4)  # 2 u v' sigma of one pair


def test_delta_is_the_weighted_squared_distance_of_maps_as_a_mean_over_images():
    maps, source = RNG.normal(size=(2, 3, 4, 7))
    weights = RNG.uniform(size=4)
    expected = np.mean(
        [
            sum(weights[c] * np.linalg.norm(maps[i, c] - source[i, c]) ** 2 for c in range(4))
            for i in range(3)
        ]
    )
    assert_allclose(delta_penalty(*map(tensor, (maps, source, weights))), expected)
    assert delta_penalty(tensor(maps), tensor(maps), tensor(weights)) == 0


@pytest.mark.parametrize("shape", [(5, 4, 3), (5, 4, 3, 2), (5, 4)])
def test_the_increase_is_exact_for_a_loss_that_is_linear_in_the_maps(shape):
    values = RNG.normal(size=shape)
    slope = RNG.normal(size=shape)
    maps = tensor(values, trained=True)
    (maps * tensor(slope)).sum().backward()
    expected = []
    for channel in range(4):
        without = values.copy()
        without[:, channel] = 0
        expected.append((without * slope).sum() - (values * slope).sum())
    assert_allclose(loss_increase(maps.detach(), maps.grad), expected, rtol=1e-9)


def test_a_channel_that_the_loss_leans_on_has_the_largest_increase():
    torch.manual_seed(0)
    maps = torch.rand(40, 3, 5, requires_grad=True)
    labels = (maps[:, 1].mean(1) > 0.5).long()
    scores = 20 * torch.stack([0.5 - maps[:, 1].mean(1), maps[:, 1].mean(1) - 0.5], 1)
    nn.functional.cross_entropy(scores, labels, reduction="sum").backward()
    increase = loss_increase(maps.detach(), maps.grad)
    assert_allclose(increase[[0, 2]], 0)
    assert increase[1] != 0


def test_attention_is_the_softmax_of_the_increases():
    increase = RNG.normal(size=9) * 5
    found = channel_attention(tensor(increase))
    assert_allclose(found, softmax(increase))
    assert_allclose(found.sum(), 1)
    assert channel_attention(tensor([0, 1000.0]))[1] == 1
