"""Low-rank updates of weights, against factors that autograd knows."""

import copy

import pytest
import torch
from skorch import NeuralNet
from torch import nn
from torch.func import functional_call
from transformers.pytorch_utils import Conv1D

from sktransfer.finetuning.low_rank import LowRankUpdates, WriteUpdates, n_entries
from sktransfer.finetuning.trainable import is_adaptable


class Attending(nn.Module):
    """Reads the weights of its attention without calling the layer that holds them."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[0]


class Recurrent(nn.LSTM):
    """Returns its states alone."""

    def forward(self, x):
        return super().forward(x)[0]


class Tied(nn.Module):
    """Two layers that share their weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


LAYERS = {
    "linear": (lambda: nn.Linear(7, 5), (4, 7), 3 * 12),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, padding=1), (2, 4, 5, 5), 3 * (6 + 36)),
    "channels last": (
        lambda: nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last), (2, 4, 5, 5), 3 * 42,
    ),
    "groups": (lambda: nn.Conv2d(4, 6, 3, groups=2), (2, 4, 5, 5), 3 * (6 + 18)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4), (2, 4, 5, 5), 3 * (4 + 9)),
    "conv1d": (lambda: nn.Conv1d(3, 6, 2), (2, 3, 8), 3 * (6 + 6)),
    "attention": (Attending, (2, 4, 6), 3 * (18 + 6) + 3 * 12),
    "recurrent": (lambda: Recurrent(3, 4, batch_first=True), (2, 5, 3), 3 * 19 + 3 * 20),
    "GPT-2": (lambda: Conv1D(5, 7), (2, 7), 3 * 12),
    "tied": (Tied, (3, 5), 3 * 10),
    "narrow": (lambda: nn.Linear(1, 5), (4, 1), 6),
}  # fmt: skip


def updated(make, *, rank=3):
    """A layer, the names of its matrices, and updates of them that are not zero."""
    torch.manual_seed(0)
    module = make().requires_grad_(False)
    names = [name for name, _ in module.named_parameters() if is_adaptable(module, name)]
    updates = LowRankUpdates(module, names, rank)
    return module, names, updates


def randomise(updates):
    with torch.no_grad():
        for factor in updates.parameters():
            factor.normal_()


def sums(source, names, updates, turned):
    """The updated weights as functions of the factors."""
    weights = {}
    for name in names:
        down, up = updates.factors(name)
        product = (up @ down).T if turned else up @ down
        weights[name] = source[name] + product.reshape(source[name].shape)
    return weights


@pytest.mark.parametrize("layer", LAYERS)
def test_factors_get_the_gradients_that_autograd_gives_them(layer):
    make, shape, _ = LAYERS[layer]
    module, names, updates = updated(make)
    source = copy.deepcopy(module.state_dict())
    randomise(updates)
    updates.write()
    x = torch.randn(shape)
    found = module(x)
    expected = functional_call(
        copy.deepcopy(module), sums(source, names, updates, layer == "GPT-2"), (x,)
    )
    torch.testing.assert_close(found, expected)
    gradient = torch.randn_like(found)
    wanted = torch.autograd.grad(expected, list(updates.parameters()), gradient)
    found.backward(gradient)
    torch.testing.assert_close([factor.grad for factor in updates.parameters()], list(wanted))
    # The gradients of the weights, which are large, are gone.
    assert all(parameter.grad is None for parameter in module.parameters())
    # Those of a second batch are added, as elsewhere.
    module(x).backward(gradient)
    twice = [2 * each for each in wanted]
    torch.testing.assert_close([factor.grad for factor in updates.parameters()], twice)


@pytest.mark.parametrize("layer", LAYERS)
def test_written_weights_are_the_sum_and_nothing_else_changes(layer):
    module, names, updates = updated(LAYERS[layer][0])
    source = copy.deepcopy(module.state_dict())
    kinds = [type(part) for part in module.modules()]
    updates.write()
    assert all(torch.equal(source[name], w) for name, w in module.state_dict().items())
    randomise(updates)
    expected = source | sums(source, names, updates, layer == "GPT-2")
    for _ in range(2):  # and not the sum of what was written before
        updates.write()
    updates.release()
    assert list(module.state_dict()) == list(source)
    assert [type(part) for part in module.modules()] == kinds
    moved = {id(module.get_parameter(name)) for name in names}
    for name, weight in module.state_dict(keep_vars=True).items():
        shared = expected["first.weight"] if name == "second.weight" else expected[name]
        torch.testing.assert_close(weight.detach(), shared.detach(), rtol=1e-6, atol=1e-6)
        assert torch.equal(weight.detach(), source[name]) == (id(weight) not in moved)
        assert weight.stride() == source[name].stride()


@pytest.mark.parametrize("layer", LAYERS)
def test_the_number_of_entries_is_rank_times_outputs_plus_inputs(layer):
    make, _, expected = LAYERS[layer]
    module, names, updates = updated(make)
    assert sum(factor.numel() for factor in updates.parameters()) == expected
    assert n_entries(module, names, 3) == expected


def test_released_weights_have_gradients_again():
    module, _, updates = updated(lambda: nn.Linear(4, 2))
    updates.release()
    module(torch.ones(1, 4)).sum().backward()
    assert torch.equal(module.weight.grad, torch.ones(2, 4))
    assert all(factor.grad is None for factor in updates.parameters())


def test_a_rank_of_the_smaller_side_can_write_any_weight():
    module, _, updates = updated(lambda: nn.Conv2d(4, 6, 3), rank=100)
    source, wanted = module.weight.detach().clone(), torch.randn(6, 4, 3, 3)
    left, scales, right = torch.linalg.svd((wanted - source).flatten(1), full_matrices=False)
    down, up = updates.factors("weight")
    assert down.shape == (6, 36)
    with torch.no_grad():
        down.copy_(right)
        up.copy_(left * scales)
    updates.write()
    torch.testing.assert_close(module.weight.detach(), wanted)


def test_training_at_full_rank_finds_the_update_that_a_lower_rank_cannot():
    change = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    x = torch.eye(3)
    for rank, left in ((3, 0.0), (2, 1.0), (1, 1.0 + 4.0)):
        module, _, updates = updated(lambda: nn.Linear(3, 3, bias=False), rank=rank)
        target = module(x).detach() + change.T
        optimizer = torch.optim.Adam(updates.parameters(), lr=0.05)
        for _ in range(600):
            optimizer.zero_grad()
            loss = (module(x) - target).square().sum()
            loss.backward()
            optimizer.step()
            updates.write()
        # Eckart and Young: the best update leaves the smallest singular values.
        assert float(loss.detach()) == pytest.approx(left, abs=1e-2)


class Holder(nn.Module):
    """A layer and its updates, in the places where a tuned network has them."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.updates = LowRankUpdates(self.layer, ["weight"], 1)

    def forward(self, x):
        return self.layer(x)


def test_weights_are_written_after_every_step_of_skorch():
    torch.manual_seed(0)
    source = None
    seen = []

    class Look(WriteUpdates):
        def on_batch_end(self, net, training=False, **kwargs):
            down, up = net.module_.updates.factors("weight")
            seen.append((net.module_.layer.weight.detach().clone(), (up @ down).detach()))

    net = NeuralNet(
        Holder, nn.MSELoss, lr=0.1, max_epochs=2, batch_size=4, train_split=None, verbose=0,
        callbacks=[("updates", WriteUpdates()), ("look", Look())],
    ).initialize()  # fmt: skip
    source = net.module_.layer.weight.detach().clone()
    x = torch.randn(8, 3)
    net.partial_fit(x, x.sum(1, keepdim=True))
    assert len(seen) == 4
    for weight, update in seen:
        torch.testing.assert_close(weight, source + update)
    assert not torch.equal(seen[-1][0], seen[0][0])
