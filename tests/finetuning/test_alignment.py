"""Gaps between domains against plain NumPy and scikit-learn."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.metrics import pairwise_distances
from sklearn.metrics.pairwise import rbf_kernel
from torch import nn

from sktransfer.finetuning.alignment import (
    DomainDiscriminator,
    coral_loss,
    mmd_loss,
    reversal_strength,
)

RNG = np.random.RandomState(0)
SOURCE = RNG.normal(size=(15, 4))
TARGET = RNG.normal(1, 2, size=(22, 4))


def tensor(values, *, trained=False):
    return torch.tensor(np.asarray(values), dtype=torch.float64, requires_grad=trained)


def test_coral_is_the_squared_distance_of_covariances():
    gap = np.cov(SOURCE.T) - np.cov(TARGET.T)
    expected = np.linalg.norm(gap, "fro") ** 2 / (4 * 4**2)
    assert_allclose(coral_loss(tensor(SOURCE), tensor(TARGET)), expected)
    assert_allclose(coral_loss(tensor(TARGET), tensor(SOURCE)), expected)


def test_coral_is_zero_for_equal_covariances():
    flipped = RNG.permutation(7 - SOURCE)
    assert coral_loss(tensor(SOURCE), tensor(flipped)) < 1e-24


def plain_mmd(source, target):
    rows = np.concatenate([source, target])
    squares = pairwise_distances(rows, metric="sqeuclidean")
    mean = squares.sum() / (len(rows) * (len(rows) - 1))
    total = 0.0
    for factor in (1 / 4, 1 / 2, 1, 2, 4):
        gamma = 1 / (factor * mean)
        total += rbf_kernel(source, gamma=gamma).mean() + rbf_kernel(target, gamma=gamma).mean()
        total -= 2 * rbf_kernel(source, target, gamma=gamma).mean()
    return total / 5


@pytest.mark.parametrize("n", [(15, 22), (1, 1), (3, 20)])
def test_mmd_is_the_mean_of_five_gaussian_kernels(n):
    source, target = SOURCE[: n[0]], TARGET[: n[1]]
    expected = plain_mmd(source, target)
    assert_allclose(mmd_loss(tensor(source), tensor(target)), expected, rtol=1e-9)
    assert_allclose(mmd_loss(tensor(target), tensor(source)), expected, rtol=1e-9)
    scaled = mmd_loss(tensor(100 * source), tensor(100 * target))
    assert_allclose(scaled, expected, rtol=1e-9)  # its kernels are as wide as the rows lie


def test_mmd_is_never_negative_and_grows_with_the_gap():
    for _ in range(20):
        one, other = RNG.normal(size=(2, 6, 3))
        assert mmd_loss(tensor(one), tensor(other)) >= 0
    losses = [float(mmd_loss(tensor(SOURCE), tensor(SOURCE + gap))) for gap in (0.1, 0.5, 2, 10)]
    assert losses == sorted(losses)
    assert losses[0] > 0


def test_mmd_of_the_same_rows_is_zero():
    assert abs(mmd_loss(tensor(SOURCE), tensor(RNG.permutation(SOURCE)))) < 1e-15
    twice = np.concatenate([SOURCE, SOURCE])
    assert abs(mmd_loss(tensor(SOURCE), tensor(twice))) < 1e-15


@pytest.mark.parametrize("gap", [coral_loss, mmd_loss])
def test_gradients_bring_domains_together(gap):
    target = tensor(TARGET, trained=True)
    before = gap(tensor(SOURCE), target)
    before.backward()
    assert target.grad.isfinite().all()
    after = gap(tensor(SOURCE), target.detach() - 0.1 * target.grad / target.grad.norm())
    assert after < before


@pytest.mark.parametrize("gap", [coral_loss, mmd_loss])
def test_rows_that_are_all_equal_have_a_finite_gradient(gap):
    source, target = (tensor(np.ones((n, 3)), trained=True) for n in (4, 6))
    value = gap(source, target)
    value.backward()
    assert value.abs() < 1e-15
    assert source.grad.isfinite().all()
    assert target.grad.isfinite().all()


@pytest.mark.parametrize(
    ("gap", "n"),
    [(coral_loss, (0, 5)), (coral_loss, (5, 1)), (mmd_loss, (0, 5)), (mmd_loss, (5, 0))],
)
def test_a_side_of_too_few_rows_has_no_gap(gap, n):
    source, target = (tensor(RNG.normal(size=(rows, 3)), trained=True) for rows in n)
    value = gap(source, target)
    value.backward()
    assert value == 0
    assert_allclose(target.grad, np.zeros((n[1], 3)))


class WithoutReversal(nn.Module):
    """The same discriminator, taught to help."""

    def __init__(self, discriminator):
        super().__init__()
        self.layers = discriminator.layers

    def forward(self, features, is_target):
        scores = self.layers(features)[:, 0]
        return nn.functional.binary_cross_entropy_with_logits(scores, is_target.float())


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_features_get_the_reversed_gradient_and_the_discriminator_its_own(strength):
    torch.manual_seed(0)
    discriminator = DomainDiscriminator(4, hidden_size=8)
    rows = np.concatenate([SOURCE, TARGET]).astype(np.float32)
    is_target = torch.arange(len(rows)) >= len(SOURCE)
    results = []
    for module, arguments in (
        (discriminator, (is_target, strength)),
        (WithoutReversal(discriminator), (is_target,)),
    ):
        features = torch.tensor(rows, requires_grad=True)
        module.zero_grad()
        loss = module(features, *arguments)
        loss.backward()
        own = [parameter.grad.clone() for parameter in discriminator.parameters()]
        results.append((loss.item(), features.grad, own))
    (loss, gradient, own), (plain_loss, plain_gradient, plain_own) = results
    assert loss == plain_loss
    assert plain_gradient.abs().max() > 1e-4
    assert_allclose(gradient, -strength * plain_gradient, rtol=1e-6, atol=1e-9)
    for one, other in zip(own, plain_own, strict=True):
        assert torch.equal(one, other)
        assert one.abs().max() > 0


def test_a_discriminator_learns_to_tell_domains_apart():
    torch.manual_seed(0)
    discriminator = DomainDiscriminator(4)
    rows = torch.tensor(np.concatenate([SOURCE, TARGET + 3]), dtype=torch.float32)
    is_target = torch.arange(len(rows)) >= len(SOURCE)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = discriminator(rows, is_target, 1.0)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.5
    assert losses[-1] < 0.1


def test_the_reversal_grows_from_nothing_to_nearly_one():
    assert reversal_strength(0) == 0
    assert_allclose(reversal_strength(0.5), np.tanh(2.5))
    assert_allclose(reversal_strength(1), np.tanh(5))
    strengths = [reversal_strength(progress) for progress in np.linspace(0, 1, 11)]
    assert strengths == sorted(strengths)
    assert strengths[-1] < 1
