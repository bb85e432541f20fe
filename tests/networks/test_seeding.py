"""Drawing from a seed without moving torch's generator."""

import pytest
import torch

from sktransfer.networks.seeding import seeded


def test_a_seed_decides_what_is_drawn_whatever_was_drawn_before():
    drawn = []
    for seed in (0, 0, 1):
        torch.rand(3)
        with seeded(seed):
            drawn.append(torch.rand(5))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_the_generator_goes_on_where_it_was_also_after_an_error():
    torch.manual_seed(3)
    expected = torch.rand(5)
    torch.manual_seed(3)
    with pytest.raises(TypeError), seeded(0):
        torch.rand("two")
    assert torch.equal(torch.rand(5), expected)


def test_a_seed_within_a_seed_leaves_the_outer_one_alone():
    with seeded(0):
        expected = torch.rand(5)
    with seeded(0):
        with seeded(1):
            torch.rand(2)
        assert torch.equal(torch.rand(5), expected)
