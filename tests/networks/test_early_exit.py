"""Layers by name, read in time and pooled, from a pass that ends early."""

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer import load_backbone
from sktransfer.images.tracing import trace_network
from sktransfer.networks.early_exit import LayerReader
from tests.helpers.networks import ChannelsLast, InPlace, Repeated, SmallCNN


class Joined(LayerReader):
    """All that is read of an image in one row."""

    def forward(self, x):
        return torch.cat(super().forward(x), 1)


def joined(module, trace, layers, pooling):
    return Joined(module, trace, trace.reads(layers, pooling.split("+")))


def staged(module, layers, pooling="mean", size=(8, 8)):
    module.eval()
    return joined(module, trace_network(module, size, 3), layers, pooling)


@pytest.fixture
def x():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_small_cnn_of_ones_own(x):
    module = SmallCNN()
    network = staged(module, ("conv", "penultimate", "output"))
    with torch.inference_mode():
        found = network(x)
        conv = module.conv(x)
        pooled = module.pool(torch.relu(conv)).flatten(1)
        expected = torch.cat([conv.mean((2, 3)), pooled, module(x)], 1)
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_layer_that_is_overwritten_in_place_is_read_before_that(x):
    module = InPlace()
    found = staged(module, ("conv", "penultimate"), "mean")(x)
    conv = module.conv(x)
    assert (conv < 0).any()
    expected = torch.cat([conv.mean((2, 3)), torch.relu(conv).mean((2, 3))], 1)
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_module_that_runs_at_two_shapes_is_read_at_its_last_run(x):
    class Shared(nn.Module):
        """One activation for two widths, as in torchvision's bottleneck blocks."""

        def __init__(self):
            super().__init__()
            self.narrow, self.wide = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 9, 1)
            self.relu = nn.ReLU(inplace=True)
            self.head = nn.Linear(9, 2)

        def forward(self, x):
            return self.head(self.relu(self.wide(self.relu(self.narrow(x)))).mean((2, 3)))

    module = Shared()
    found = staged(module, ("relu", "penultimate"))(x)
    assert torch.equal(found[:, :9], found[:, 9:])


def test_a_module_that_runs_three_times_is_read_at_its_last_run(x):
    module = Repeated()
    expected = module.conv(module.conv(module.conv(x))).mean((2, 3))
    assert torch.allclose(staged(module, ("conv",))(x), expected, atol=1e-6)


def test_channels_last_maps_are_recognised_even_when_all_sides_agree(x):
    module = ChannelsLast(width=8)  # 8 channels at 8 x 8: the shape alone cannot tell
    network = staged(module, ("conv", "block"))
    assert network.trace.activations["block"].layout == "channels_last"
    assert network.trace.activations["conv"].layout == "channels_first"
    conv = module.conv(x)
    expected = torch.cat(
        [conv.mean((2, 3)), module.block(conv.permute(0, 2, 3, 1)).mean((1, 2))], 1
    )
    assert torch.allclose(network(x), expected, atol=1e-6)


def test_a_network_without_classifier_returns_its_output_as_penultimate(x):
    module = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert torch.equal(staged(module, ("penultimate",))(x), module(x))


def test_a_layer_whose_batch_depends_on_the_data_is_an_error_and_no_number(x):
    class Fickle(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.norm = nn.Identity()

        def forward(self, x):
            return self.norm(self.conv(x)[:5]).mean((2, 3))

    network = staged(Fickle(), ("norm",))
    with pytest.raises(ValueError, match="one row per image"):
        network(torch.cat([x, x, x]))


def test_modules_called_by_keyword_are_seen(x):
    class Keyword(SmallCNN):
        def forward(self, x):
            pooled = self.pool(input=torch.relu(self.conv(input=x))).flatten(1)
            return self.linear(input=pooled)

    module = Keyword()
    plain = SmallCNN()
    plain.load_state_dict(module.state_dict())
    layers = ("conv", "penultimate")
    assert torch.equal(staged(module, layers)(x), staged(plain, layers)(x))


def test_a_flattened_map_is_pooled_over_its_positions(x):
    module = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Flatten(2), nn.AvgPool1d(64), nn.Flatten())
    found = staged(module, ("1",))(x)
    assert torch.allclose(found, module[0](x).mean((2, 3)), atol=1e-6)


def test_hooks_are_gone_after_the_pass_and_after_an_error(x):
    module = SmallCNN()
    network = staged(module, ("conv",))
    network(x)
    with pytest.raises(RuntimeError):
        network(torch.zeros(2, 5, 8, 8))
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in module.modules())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "shufflenet_v2_x0_5"])
def test_every_layer_listed_can_be_extracted(name):
    backbone = load_backbone(name, "random", random_state=0)
    trace = backbone.trace((32, 32))
    network = joined(backbone.module, trace, tuple(trace.activations), "mean")
    with torch.inference_mode():
        found = network(torch.zeros(2, 3, 32, 32))
    assert found.shape == (2, sum(a.width("mean") for a in trace.activations.values()))
    assert np.isfinite(found.numpy()).all()
