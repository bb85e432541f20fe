"""Learning rates over steps against torch's own schedulers and closed forms."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sktransfer.finetuning.schedules import rate_over_steps


def rates_of(schedule, n_steps, n_warmup=0):
    factor = rate_over_steps(schedule, n_steps, n_warmup)
    return [factor(step) for step in range(n_steps)]


def rates_of_torch(scheduler, n_steps, **parameters):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduled = scheduler(optimizer, **parameters)
    rates = []
    for step in range(n_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < n_steps - 1:
            scheduled.step()
    return rates


@pytest.mark.parametrize("n_steps", [2, 3, 4, 7, 10, 100, 333])
def test_one_cycle_is_that_of_torch(n_steps):
    expected = rates_of_torch(
        torch.optim.lr_scheduler.OneCycleLR, n_steps, max_lr=1.0, total_steps=n_steps
    )
    assert_allclose(rates_of("one-cycle", n_steps), expected, rtol=0, atol=1e-6)


def test_one_cycle_has_its_own_rise():
    assert rates_of("one-cycle", 50, n_warmup=20) == rates_of("one-cycle", 50)


@pytest.mark.parametrize("n_steps", [1, 2, 10, 101])
def test_cosine_without_warm_up_is_that_of_torch(n_steps):
    expected = rates_of_torch(torch.optim.lr_scheduler.CosineAnnealingLR, n_steps, T_max=n_steps)
    assert_allclose(rates_of("cosine", n_steps), expected, rtol=0, atol=1e-6)


def test_cosine_after_a_warm_up_is_that_of_torch_over_the_steps_that_are_left():
    rates = rates_of("cosine", 30, n_warmup=9)
    expected = rates_of_torch(torch.optim.lr_scheduler.CosineAnnealingLR, 21, T_max=21)
    assert_allclose(rates[9:], expected, rtol=0, atol=1e-6)
    assert max(rates) == rates[9] == 1.0


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("n_warmup", [0, 1, 4, 12])
def test_a_warm_up_is_linear_and_never_zero(schedule, n_warmup):
    rates = rates_of(schedule, 20, n_warmup)
    line = np.arange(1, n_warmup + 2) / (n_warmup + 1)
    assert_allclose(rates[: n_warmup + 1], line, atol=1e-12)
    assert min(rates) > 0


@pytest.mark.parametrize("n_warmup", [0, 3])
def test_a_constant_rate_stays_at_its_height_after_the_warm_up(n_warmup):
    assert rates_of("constant", 20, n_warmup)[n_warmup:] == [1.0] * (20 - n_warmup)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_warm_up_as_long_as_the_training_rises_to_its_end(schedule):
    rates = rates_of(schedule, 5, n_warmup=5)
    assert_allclose(rates, np.arange(1, 6) / 6)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
def test_steps_after_the_last_have_a_rate_too(schedule):
    # LambdaLR asks for one more than there are.
    factor = rate_over_steps(schedule, 10, 2)
    beyond = {"constant": 1.0, "cosine": 0.0, "one-cycle": 4e-6}[schedule]
    assert_allclose([factor(10), factor(25)], beyond, atol=1e-12)
