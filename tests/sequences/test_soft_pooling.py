"""Poolings that gradients flow through, against those that they stand for."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sktransfer.sequences.pooling import POOLINGS, pool
from sktransfer.sequences.soft_pooling import soft_pool

RNG = np.random.RandomState(0)
LENGTHS = [[9, 9, 9], [1, 4, 9], [300, 3, 256], [1]]


def case(lengths, n_units=5, n_thresholds=3):
    shape = (max(lengths), len(lengths))
    states = RNG.normal(size=(*shape, n_units))
    thresholds = RNG.normal(size=(n_thresholds, len(lengths), n_units))
    given = {"thresholds": thresholds, "scores": 2 * RNG.normal(size=shape)}
    given = {name: torch.from_numpy(v.astype(np.float32)) for name, v in given.items()}
    return torch.from_numpy(states.astype(np.float32)), torch.tensor(lengths), given


def outside(lengths):
    return torch.arange(int(lengths.max()))[:, None] >= lengths


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_each_pooling_gives_what_the_hard_one_gives(pooling, lengths):
    states, of_rows, given = case(lengths)
    found = soft_pool(states, of_rows, [pooling], **given)
    expected = pool(states, of_rows, [pooling], **given)
    assert len(found) == len(expected) == (3 if pooling == "ppv" else 1)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-6)


@pytest.mark.parametrize("poolings", [POOLINGS, ("max", "ppv", "last"), ("std", "mean")])
def test_all_together_come_in_the_order_that_was_asked_for(poolings):
    states, lengths, given = case([3, 8, 5])
    found = torch.cat(soft_pool(states, lengths, poolings, **given), 1)
    torch.testing.assert_close(
        found, torch.cat(pool(states, lengths, poolings, **given), 1), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("padding", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_padding_is_never_seen(padding):
    states, lengths, given = case([1, 4, 9])
    expected = torch.cat(soft_pool(states, lengths, POOLINGS, **given), 1)
    states[outside(lengths)] = padding
    given["scores"][outside(lengths)] = padding
    assert torch.equal(torch.cat(soft_pool(states, lengths, POOLINGS, **given), 1), expected)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_gradients_are_finite_and_reach_no_padding(pooling):
    states, lengths, given = case([1, 4, 9])
    states.requires_grad_()
    given["scores"].requires_grad_()
    pooled = torch.cat(soft_pool(states, lengths, [pooling], **given), 1)
    weights = torch.from_numpy(RNG.normal(size=pooled.shape).astype(np.float32))
    (pooled * weights).sum().backward()
    assert states.grad.isfinite().all()
    assert (states.grad[outside(lengths)] == 0).all()
    assert states.grad[~outside(lengths)].abs().max() > 1e-4
    if pooling == "attention":
        assert given["scores"].grad.isfinite().all()
        assert (given["scores"].grad[outside(lengths)] == 0).all()
        assert given["scores"].grad.abs().max() > 1e-4


@pytest.mark.parametrize("pooling", [name for name in POOLINGS if name != "ppv"])
def test_gradients_are_those_of_finite_differences(pooling):
    states, lengths, given = case([2, 4, 6], n_units=2)
    given = {name: tensor.double() for name, tensor in given.items()}

    def pooled(values):
        return soft_pool(values, lengths, [pooling], **given)[0]

    assert torch.autograd.gradcheck(pooled, states.double().requires_grad_())


def test_a_share_above_a_threshold_gets_the_slope_of_a_sigmoid():
    states, lengths, given = case([2, 4, 6], n_thresholds=1)
    states.requires_grad_()
    (share,) = soft_pool(states, lengths, ["ppv"], **given)
    share.sum().backward()
    soft = 1 / (1 + np.exp(-(states.detach().double() - given["thresholds"][0]).numpy() / 0.1))
    expected = soft * (1 - soft) / 0.1 / lengths.numpy()[:, None]
    expected[outside(lengths).numpy()] = 0
    assert expected.max() > 0.01
    assert_allclose(states.grad, expected, rtol=1e-4, atol=1e-6)


def test_descending_on_a_share_brings_states_below_the_threshold():
    states = torch.linspace(0.01, 0.3, 8)[:, None, None].clone().requires_grad_()
    thresholds, lengths = torch.zeros(1, 1, 1), torch.tensor([8])
    optimizer = torch.optim.SGD([states], lr=0.1)
    shares = []
    for _ in range(60):
        optimizer.zero_grad()
        (share,) = soft_pool(states, lengths, ["ppv"], thresholds=thresholds)
        share.sum().backward()
        optimizer.step()
        shares.append(float(share.detach()))
    assert shares[0] == 1
    assert shares[-1] == 0


@pytest.mark.parametrize("lengths", [[5], [1], [2, 5]])
def test_the_deviation_of_a_constant_is_zero_with_a_gradient_of_zero(lengths):
    states = torch.full((max(lengths), len(lengths), 2), 0.25, requires_grad=True)
    (std,) = soft_pool(states, torch.tensor(lengths), ["std"])
    std.sum().backward()
    assert (std == 0).all()
    assert (states.grad == 0).all()
