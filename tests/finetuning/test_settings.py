"""Values of parameters are the same if they mean the same."""

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from sktransfer.finetuning.settings import same_setting
from tests.helpers.networks import SmallCNN, slow_sgd


def made(rate):
    def optimizer(parameters, lr):
        return torch.optim.SGD(parameters, lr=rate)

    return optimizer


class Optimizers:
    """A callable, and a method, that hold a number."""

    def __init__(self, momentum):
        self.momentum = momentum

    def __call__(self, parameters, lr):
        return torch.optim.SGD(parameters, lr=lr, momentum=self.momentum)


SAME = [
    slow_sgd,
    torch.optim.SGD,
    partial(torch.optim.SGD, momentum=0.9),
    Optimizers(0.9),
    Optimizers(0.9).__call__,
    Ridge(alpha=np.array([1.0, 2.0])),
    {"names": ["stem.*", "head"]},
    "all",
    None,
]


@pytest.mark.parametrize("value", SAME, ids=lambda value: type(value).__name__)
def test_a_value_and_its_pickled_copy_are_the_same(value):
    assert same_setting(value, pickle.loads(pickle.dumps(value)))


def test_numbers_are_compared_by_value_and_sequences_by_item():
    assert same_setting(0.1, np.float64(0.1))
    assert same_setting(2, np.int64(2))
    assert same_setting(["stem.*"], ("stem.*",))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1, 1.0),  # stages and a share, for unfreeze
        (0.1, 0.2),
        ("all", "head"),
        ("all", None),
        (["a"], ["a", "b"]),
        (slow_sgd, torch.optim.SGD),
        (torch.optim.SGD, torch.optim.Adam),
        (SmallCNN, torch.optim.SGD),
        (partial(torch.optim.SGD, momentum=0.9), partial(torch.optim.SGD, momentum=0.8)),
        (partial(torch.optim.SGD, momentum=0.9), torch.optim.SGD),
        (Optimizers(0.9), Optimizers(0.8)),
        (Optimizers(0.9).__call__, Optimizers(0.8).__call__),
        (lambda x: x, lambda x: x + 1),
        (np.arange(3), np.arange(4)),
        (Ridge(1.0), Ridge(2.0)),
        ({"a": 1}, {"a": 2}),
    ],
)
def test_different_values_are_told_apart(a, b):
    assert not same_setting(a, b)
    assert not same_setting(b, a)
