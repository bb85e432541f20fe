"""Going on from the middle of a network gives what the whole network gives, or is refused."""

import pytest
import torch
from torch import nn

from sktransfer import load_backbone
from sktransfer.images.tracing import trace_network
from sktransfer.networks.early_exit import LayerReader
from sktransfer.networks.layers import Read
from sktransfer.networks.resuming import Resumption, find_resumption
from tests.helpers.networks import ChannelsLast, InPlace, Repeated, SmallCNN


class Deep(nn.Module):
    """Stem, three stages of which the second has a skip of its own, and a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.first = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU())
        self.second = Residual(6)
        self.third = nn.Sequential(nn.Conv2d(6, 8, 1), nn.ReLU(inplace=True))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = self.third(self.second(self.first(self.stem(x))))
        return self.head(x.mean((2, 3)))


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return x + torch.relu(self.conv(x))


class Skipping(nn.Module):
    """The stem goes to the second layer, and around it."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.stem = nn.Conv2d(3, 4, 1)
        self.middle = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        early = self.stem(x)
        middle = torch.relu(self.middle(early))
        if self.how == "sum":
            middle = middle + 1e-2 * early
        elif self.how == "pixels":
            middle = middle + x.mean(1, keepdim=True)
        elif self.how == "gate":
            middle = middle * torch.sigmoid(early)
        elif self.how == "maximum":
            middle = torch.maximum(middle, early)
        return self.head(self.last(middle).mean((2, 3)))


def traced(module, size=(8, 8)):
    module.eval()
    return module, trace_network(module, size, 3)


def images(n=3, size=(8, 8)):
    return torch.randn(n, 3, *size, generator=torch.Generator().manual_seed(1))


def both(module, trace, reads, resumption, x):
    """What is read of whole passes, and of those that begin at the layer."""
    staged = LayerReader(module, trace, reads)
    shape = trace.activations[resumption.layer].shape
    before = LayerReader(module, trace, (Read(resumption.layer, "flatten"),))
    with torch.inference_mode():
        whole = torch.cat(staged(x), 1)
        values = before(x)[0].unflatten(1, shape)
        with resumption(module, values):
            resumed = torch.cat(staged(torch.full_like(x, 1e3)), 1)
        again = torch.cat(staged(x), 1)
    assert torch.equal(again, whole)  # nothing is left behind in the network
    return whole, resumed


@pytest.mark.parametrize("layer", ["stem", "first.0", "first", "second.conv", "second", "third"])
@pytest.mark.parametrize("pooling", ["mean", "max", "mean+max"])
def test_a_small_network_goes_on_from_any_of_its_layers(layer, pooling):
    module, trace = traced(Deep())
    reads = trace.reads(("third", "penultimate"), pooling.split("+"))
    resumption = find_resumption(module, trace, reads, [layer])
    if layer == "second.conv":  # inside a block, whose input is added behind it
        assert resumption is None
        return
    assert resumption.layer == layer
    whole, resumed = both(module, trace, reads, resumption, images())
    assert whole.std() > 0
    torch.testing.assert_close(resumed, whole, rtol=1e-5, atol=1e-6)


def test_the_deepest_layer_from_which_it_is_possible_is_taken():
    module, trace = traced(Deep())
    reads = trace.reads(("penultimate",), ("mean",))
    layers = ["stem", "first", "second", "third"]
    assert find_resumption(module, trace, reads, layers).layer == "third"
    assert find_resumption(module, trace, reads, layers[:2]).layer == "first"
    assert find_resumption(module, trace, reads, ["stem", "second.conv"]).layer == "stem"
    assert find_resumption(module, trace, reads, []) is None


def test_what_lies_before_the_layer_computes_nothing():
    module, trace = traced(Deep())
    reads = trace.reads(("penultimate",), ("mean",))
    resumption = find_resumption(module, trace, reads, ["second"])
    assert set(resumption.skipped) == {"stem", "first"}  # whole modules, not their parts
    values = torch.randn(2, *trace.activations["second"].shape)
    ran = []
    for name, child in module.named_modules():
        child.register_forward_hook(lambda *_, name=name: ran.append(name))
    with torch.inference_mode(), resumption(module, values):
        module(torch.zeros(2, 3, 8, 8))
    assert not {"first.0", "first.1", "second.conv"} & set(ran)
    assert {"third.0", "head"} <= set(ran)
    module, trace = traced(Skipping("none"))
    reads = trace.reads(("penultimate",), ("mean",))
    assert set(find_resumption(module, trace, reads, ["last"]).skipped) == {"stem", "middle"}


def test_gradients_of_what_comes_after_are_those_of_the_whole_network():
    module, trace = traced(Deep())
    reads = trace.reads(("penultimate",), ("mean",))
    resumption = find_resumption(module, trace, reads, ["second"])
    staged, x = LayerReader(module, trace, reads), images()
    staged(x)[0].square().sum().backward()
    expected = module.third[0].weight.grad.clone()
    module.zero_grad()
    values = module.second(module.first(module.stem(x))).detach()
    with resumption(module, values):
        staged(torch.empty_like(x))[0].square().sum().backward()
    torch.testing.assert_close(module.third[0].weight.grad, expected)
    assert module.stem.weight.grad is None


@pytest.mark.parametrize("how", ["sum", "pixels", "gate", "maximum"])
def test_a_connection_around_the_layer_is_refused(how):
    module, trace = traced(Skipping(how))
    reads = trace.reads(("penultimate",), ("mean",))
    assert find_resumption(module, trace, reads, ["middle"]) is None
    from_last = find_resumption(module, trace, reads, ["last"])
    whole, resumed = both(module, trace, reads, from_last, images())
    torch.testing.assert_close(resumed, whole)


@pytest.mark.parametrize("start", ["stem", "pixels"])
def test_a_connection_whose_weight_is_still_zero_is_refused(start):
    class Gated(Skipping):
        def __init__(self):
            super().__init__("none")
            self.scale = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            early = self.stem(x)
            around = early if start == "stem" else x.mean(1, keepdim=True)
            middle = torch.relu(self.middle(early)) + self.scale * around
            return self.head(self.last(middle).mean((2, 3)))

    # Training would move the weight, and then what was skipped matters.
    module, trace = traced(Gated())
    assert (
        find_resumption(module, trace, trace.reads(("penultimate",), ("mean",)), ["middle"]) is None
    )


def test_without_the_connection_the_same_layer_is_fine():
    module, trace = traced(Skipping("none"))
    reads = trace.reads(("penultimate",), ("mean",))
    resumption = find_resumption(module, trace, reads, ["middle"])
    torch.testing.assert_close(*both(module, trace, reads, resumption, images()))


def test_a_read_from_before_the_layer_is_refused():
    module, trace = traced(Deep())
    reads = trace.reads(("stem", "third"), ("mean",))
    assert find_resumption(module, trace, reads, ["second"]) is None


def test_a_module_that_runs_again_behind_the_layer_is_not_skipped():
    module, trace = traced(Repeated())
    reads = trace.reads(("penultimate",), ("mean",))
    # Every run of it would put out the last one's values, which is what the head reads.
    torch.testing.assert_close(
        *both(module, trace, reads, find_resumption(module, trace, reads, ["conv"]), images())
    )

    class Twice(Deep):
        def forward(self, x):
            x = self.second(self.first(self.stem(x)))
            return self.head(self.third(self.second(x) + x).mean((2, 3)))

    module, trace = traced(Twice())
    reads = trace.reads(("penultimate",), ("mean",))
    assert find_resumption(module, trace, reads, ["second"]) is None
    assert "second" not in find_resumption(module, trace, reads, ["first"]).skipped


@pytest.mark.parametrize(
    ("network", "layer"), [(SmallCNN, "conv"), (ChannelsLast, "block"), (InPlace, "conv")]
)
def test_other_small_networks_go_on_too(network, layer):
    module, trace = traced(network())
    reads = trace.reads(("penultimate",), ("mean",))
    resumption = find_resumption(module, trace, reads, [layer])
    whole, resumed = both(module, trace, reads, resumption, images(4))
    torch.testing.assert_close(resumed, whole)


def test_an_error_in_the_block_leaves_the_network_whole():
    module, trace = traced(Deep())
    expected = module(images())
    resumption = find_resumption(
        module, trace, trace.reads(("penultimate",), ("mean",)), ["second"]
    )
    values = torch.zeros(1, *trace.activations["second"].shape)
    with pytest.raises(KeyError), resumption(module, values):
        raise KeyError
    assert torch.equal(module(images()), expected)
    assert all("forward" not in child.__dict__ for child in module.modules())


def test_modules_are_followed_in_the_order_in_which_they_are_done():
    _, trace = traced(Deep())
    execution = trace.execution
    order = sorted(execution.times, key=lambda name: execution.times[name][-1])
    at = [order.index(name) for name in ("stem", "first.0", "first", "second", "third", "head", "")]
    assert at == sorted(at)
    assert execution.outputs["stem"].shape == (4, 8, 8)
    assert execution.outputs["first"].shape == (6, 3, 3)
    assert execution.outputs["head"].shape == (2,)


def test_what_skipped_modules_put_out_is_not_looked_at():
    module, trace = traced(Deep())
    reads = trace.reads(("penultimate",), ("mean",))
    resumption = find_resumption(module, trace, reads, ["first"])
    assert isinstance(resumption, Resumption)
    values = torch.rand(2, *trace.activations["first"].shape)
    found = []
    with torch.inference_mode():
        for blank in (0.0, torch.nan, 1e30):
            with resumption(module, values, blank=blank):
                found.append(LayerReader(module, trace, reads)(images(2))[0])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert found[0].isfinite().all()


@pytest.fixture(scope="module")
def default():
    module = load_backbone("efficientnet_lite0").module.eval()
    return module, trace_network(module, (64, 64), 3)


@pytest.mark.parametrize("stage", [0, 3, 5, -1])
def test_the_default_backbone_goes_on_from_its_stages(default, stage):
    module, trace = default
    layer = trace.stages[stage]
    reads = trace.reads((trace.stages[-1], "penultimate"), ("mean", "max"))
    resumption = find_resumption(module, trace, reads, [layer])
    assert resumption is not None
    whole, resumed = both(module, trace, reads, resumption, images(2, (64, 64)))
    assert whole.std() > 0.01
    torch.testing.assert_close(resumed, whole, rtol=1e-4, atol=1e-5)


def test_the_default_backbone_cannot_go_on_from_within_a_block(default):
    module, trace = default
    reads = trace.reads(("penultimate",), ("mean",))
    assert "blocks.4.1.conv_dw" in trace.activations  # its block adds its input to its output
    assert find_resumption(module, trace, reads, ["blocks.4.1.conv_dw"]) is None
