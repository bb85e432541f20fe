"""What is frozen stays bit by bit as it was, and what is trained moves."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from sktransfer.finetuning.network import Body, LinearHead, TunedNetwork
from sktransfer.finetuning.unfreezing import Stages, resolve_unfreeze

X = torch.randn(16, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def block(n_in, n_out):
    conv = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(n_out, momentum=0.01), nn.ReLU(), nn.Dropout(0.5))


class Blocks(Body):
    """Three stages with batch norm and dropout."""

    def __init__(self, *blocks):
        super().__init__()
        torch.manual_seed(0)
        self.module = nn.Sequential(*(blocks or (block(3, 4), block(4, 6), block(6, 5))))
        of = {name: int(name.split(".")[0]) for name, _ in self.module.named_parameters()}
        self.stages = Stages(("0", "1", "2"), of)

    def forward(self, batch):
        return self.module(batch).mean((2, 3))

    def with_maps(self, batch, *, leaf=False):
        maps = self.module(batch)
        return maps.mean((2, 3)), maps.flatten(2)


def head_of(n_features=5):
    draw = np.random.RandomState(0)
    return LinearHead(
        draw.normal(size=n_features),
        draw.uniform(1, 2, n_features),
        draw.normal(size=(2, n_features)),
        draw.normal(size=2),
    )


def network_of(unfreeze, batch_norm="frozen", compare=None, body=None):
    body = Blocks() if body is None else body
    trained = resolve_unfreeze(unfreeze, body.stages)
    return TunedNetwork(body, head_of(), trained, batch_norm, compare)


def train(network, n_steps=3):
    parameters = [*network.trained_parameters().values(), *network.head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    for _ in range(n_steps):
        # As skorch does: training mode before each step, evaluation mode after.
        network.train()
        optimizer.zero_grad()
        network(X).scores.square().sum().backward()
        optimizer.step()
        network.eval()
        with torch.no_grad():
            network(X)


def moved(network, before):
    """Names of what is not bit by bit as before."""
    state = network.body.module.state_dict()
    return {name for name in state if not torch.equal(state[name], before[name])}


def state_of(network):
    return {name: t.clone() for name, t in network.body.module.state_dict().items()}


def statistics(*stages):
    names = ("running_mean", "running_var", "num_batches_tracked")
    return {f"{stage}.1.{name}" for stage in stages for name in names}


def weights(*stages):
    return {f"{stage}.{name}" for stage in stages for name in ("0.weight", "1.weight", "1.bias")}


@pytest.mark.parametrize("batch_norm", ["frozen", "update"])
@pytest.mark.parametrize(
    ("unfreeze", "stages"), [("head", ()), (1, (2,)), (2, (1, 2)), ("1", (1,)), ("all", (0, 1, 2))]
)
def test_only_what_is_to_be_trained_moves_in_training(unfreeze, stages, batch_norm):
    network = network_of(unfreeze, batch_norm)
    before, head = state_of(network), copy.deepcopy(network.head.state_dict())
    train(network)
    expected = weights(*stages) | (statistics(*stages) if batch_norm == "update" else set())
    assert moved(network, before) == expected
    after = network.head.state_dict()
    assert {name for name in head if not torch.equal(head[name], after[name])} == {
        "weight",
        "bias",
    }


@pytest.mark.parametrize("batch_norm", ["frozen", "update"])
def test_a_frozen_batch_norm_keeps_its_statistics_after_every_train_call(batch_norm):
    network = network_of(1, batch_norm)
    before = state_of(network)
    for call in ("train", "eval", "train", "train", "eval", "eval", "train"):
        getattr(network, call)()
        with torch.no_grad():
            network(X)
        allowed = statistics(2) if batch_norm == "update" else set()
        assert moved(network, before) <= allowed
    assert moved(network, before) == allowed


@pytest.mark.parametrize("unfreeze", ["0.0.weight", "*.0.weight"])
def test_batch_norm_whose_own_weights_are_frozen_keeps_its_statistics(unfreeze):
    network = network_of(unfreeze, "update")
    before = state_of(network)
    train(network)
    assert not moved(network, before) & statistics(0, 1, 2)


def test_a_batch_norm_without_weights_of_its_own_is_frozen_too():
    body = Blocks(
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=False), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5, affine=False), nn.ReLU()),
    )
    network = network_of("all", "frozen", body=body)
    before = state_of(network)
    train(network)
    assert not moved(network, before) & statistics(0, 1, 2)


def test_frozen_statistics_are_the_ones_that_batches_are_normalised_by():
    network = network_of("all", "frozen")
    for dropout in (m for m in network.modules() if isinstance(m, nn.Dropout)):
        dropout.p = 0.0
    with torch.no_grad():
        torch.testing.assert_close(network.train()(X).scores, network.eval()(X).scores)


def test_statistics_that_move_take_a_tenth_of_each_batch():
    network = network_of("all", "update")
    first = network.body.module[0]
    network.train()
    with torch.no_grad():
        network(X)
        maps = first[0](X)
    assert_allclose(first[1].running_mean, 0.1 * maps.mean((0, 2, 3)), atol=1e-6)
    assert_allclose(first[1].running_var, 0.9 + 0.1 * maps.var((0, 2, 3)), rtol=1e-5)


def test_statistics_that_are_plain_averages_stay_so():
    body = Blocks()
    body.module[0][1].momentum = None
    body.module[1][1].momentum = 0.4
    network = network_of("all", "update", body=body)
    momenta = [network.body.module[stage][1].momentum for stage in range(3)]
    assert momenta == [None, 0.4, 0.1]


def drops(network, stage):
    """Whether the dropout of a stage drops."""
    values = torch.ones(4, 50)
    with torch.no_grad():
        return not torch.equal(network.body.module[stage][3](values), values)


@pytest.mark.parametrize("batch_norm", ["frozen", "update"])
def test_frozen_dropout_does_not_drop_and_trained_dropout_does(batch_norm):
    network = network_of(2, batch_norm)
    for _ in range(2):
        network.train()
        assert [drops(network, stage) for stage in range(3)] == [False, True, True]
        network.eval()
        assert [drops(network, stage) for stage in range(3)] == [False, False, False]


def test_a_pass_in_evaluation_is_deterministic_and_one_in_training_is_not():
    network = network_of(1)
    with torch.no_grad():
        network.eval()
        assert torch.equal(network(X).scores, network(X).scores)
        network.train()
        assert not torch.equal(network(X).scores, network(X).scores)


def test_a_head_alone_is_trained_on_features_that_stay_the_same():
    network = network_of("head")
    with torch.no_grad():
        expected = network.eval()(X).features
        assert torch.equal(network.train()(X).features, expected)


def trained_stages(network):
    parameters = network.body.module.named_parameters()
    return {name for name, p in parameters if p.requires_grad}


def test_stages_unfreeze_from_the_deepest_on_and_never_what_is_not_to_be_trained():
    network = network_of(["1", "2.0"], "update")
    network.train()
    later = {"2.0.weight"}
    for first, names in [(3, set()), (2, later), (1, later | weights(1)), (0, later | weights(1))]:
        network.unfreeze_from(first)
        assert trained_stages(network) == names
        assert set(network.trained_parameters()) == later | weights(1)
    assert all(parameter.requires_grad for parameter in network.head.parameters())


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_what_is_not_yet_unfrozen_keeps_its_weights_statistics_and_activations(first):
    network = network_of("all", "update")
    network.train()
    network.unfreeze_from(first)
    assert [drops(network, stage) for stage in range(3)] == [stage >= first for stage in range(3)]
    before = state_of(network)
    train(network)
    assert moved(network, before) == weights(*range(first, 3)) | statistics(*range(first, 3))


def test_unfreezing_in_evaluation_leaves_the_network_in_evaluation():
    network = network_of("all").eval()
    network.unfreeze_from(1)
    assert not any(module.training for module in network.modules())


def test_scores_are_the_linear_head_on_standardised_features():
    network = network_of(1).eval()
    head = network.head
    with torch.no_grad():
        features = network.body(X)
        output = network(X)
    expected = (features - head.mean) / head.scale
    assert_allclose(output.features, expected, rtol=1e-5, atol=1e-6)
    scores = expected.numpy() @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    assert_allclose(output.scores.numpy(), scores, rtol=1e-4, atol=1e-5)


def test_a_head_is_made_again_from_its_state():
    head = head_of()
    again = LinearHead.from_state({name: t.numpy() for name, t in head.state_dict().items()})
    assert all(
        torch.equal(a, b) for a, b in zip(head.parameters(), again.parameters(), strict=True)
    )
    assert torch.equal(head.mean, again.mean)
    assert torch.equal(head.scale, again.scale)


@pytest.mark.parametrize("batch_norm", ["frozen", "update"])
@pytest.mark.parametrize("compare", ["features", "maps"])
def test_the_source_network_stays_as_it_was_and_is_neither_trained_nor_saved(batch_norm, compare):
    network = network_of("all", batch_norm, compare)
    with torch.no_grad():
        features, maps = copy.deepcopy(network.body).eval().with_maps(X)
        expected = network.head.standardise(features)
    names = set(network.state_dict())
    train(network)
    assert names == set(network_of("all").state_dict())
    output = network.train()(X)
    if compare == "features":
        assert torch.equal(output.source, expected)
        assert output.maps is output.source_maps is None
        assert output.features.requires_grad
        assert not output.source.requires_grad
    else:
        assert torch.equal(output.source_maps, maps)
        assert output.source is None
        assert output.maps.requires_grad
        assert not output.source_maps.requires_grad
        assert not torch.allclose(output.maps, output.source_maps)


@pytest.mark.parametrize("compare", [None, "features", "maps"])
def test_evaluation_looks_at_no_source(compare):
    output = network_of("all", "frozen", compare).eval()(X)
    assert output.source is output.maps is output.source_maps is None


def test_a_body_without_maps_says_so():
    with pytest.raises(ValueError, match="feature maps, which only images have"):
        Body().with_maps(X)
