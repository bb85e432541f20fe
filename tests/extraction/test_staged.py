"""Layers by name, early exit, and what one pass reveals of a network."""

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer import load_backbone
from sktransfer.extraction.staged import StagedNetwork, trace_network
from tests.networks import ChannelsLast, InPlace, Repeated, SmallCNN


def staged(module, layers, pooling="avg", size=(8, 8)):
    module.eval()
    return StagedNetwork(module, trace_network(module, size, 3), layers, pooling)


@pytest.fixture
def x():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


STAGES = {
    "resnet18": ["layer1", "layer2", "layer3", "layer4"],
    "vgg11": [f"features.{i}" for i in (1, 4, 9, 14, 19, 20)],
    "efficientnet_lite0": [f"blocks.{i}" for i in range(7)],
    "mobilenet_v3_small": [f"features.{i}" for i in range(13)],
    "convnext_tiny": [f"features.{i}" for i in range(8)],
    "swin_t": [f"features.{i}" for i in range(8)],
    "vit_b_32": [f"encoder.layers.encoder_layer_{i}" for i in range(12)],
    "regnet_y_400mf": [f"trunk_output.block{i}" for i in (1, 2, 3, 4)],
    "maxvit_t": ["stem", "blocks.0", "blocks.1", "blocks.2", "blocks.3"],
    "timm/nfnet_l0": [f"stages.{i}" for i in range(4)],
    "timm/vit_tiny_patch16_224": [f"blocks.{i}" for i in range(12)],
}


@pytest.mark.parametrize("name", STAGES)
def test_stages_are_the_main_blocks(name):
    backbone = load_backbone(name, "random")
    assert list(backbone.trace(backbone.info.preprocessing.size).stages) == STAGES[name]


def test_widths_come_from_the_pass_and_not_from_attributes():
    backbone = load_backbone("timm/mobilenetv3_large_100", "random")
    assert backbone.module.num_features == 960  # what the attribute says
    trace = backbone.trace((224, 224))
    assert trace.activations["penultimate"].shape == (1280,)


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
    found = staged(module, ("conv", "penultimate"), "avg")(x)
    conv = module.conv(x)
    assert (conv < 0).any()
    expected = torch.cat([conv.mean((2, 3)), torch.relu(conv).mean((2, 3))], 1)
    assert torch.allclose(found, expected, atol=1e-6)


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


def test_layers_without_one_row_per_image_cannot_be_asked_for():
    class TokensFirst(nn.Module):
        """A transformer in torch's default order: tokens, then batch."""

        def __init__(self):
            super().__init__()
            self.patch = nn.Conv2d(3, 8, 2, 2)
            layer = nn.TransformerEncoderLayer(8, 2, 16)
            self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
            self.position = nn.Embedding(16, 8)
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            tokens = self.patch(x).flatten(2).permute(2, 0, 1)
            tokens = tokens + self.position(torch.arange(16))[:, None]
            return self.head(self.encoder(tokens).mean(0))

    trace = trace_network(TokensFirst().eval(), (8, 8), 3)
    assert set(trace.activations) == {"patch", "head", "penultimate", "output"}
    swin = load_backbone("timm/swin_tiny_patch4_window7_224", "random").trace((224, 224))
    assert "layers.0.blocks.0.attn" not in swin.activations  # one row per window
    assert "layers.0.blocks.0" in swin.activations


def test_a_layer_whose_batch_depends_on_the_data_is_an_error_and_no_number(x):
    class Fickle(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.norm = nn.Identity()

        def forward(self, x):
            return self.norm(self.conv(x)[:3]).mean((2, 3))

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


def test_registers_are_no_class_token():
    backbone = load_backbone("timm/vit_medium_patch16_reg4_gap_256", "random")
    last = backbone.trace((256, 256)).activations["blocks.11"]
    assert (last.prefix_tokens, last.class_token) == (4, False)


def test_penultimate_of_a_distilled_network_is_its_class_token():
    backbone = load_backbone("timm/deit_tiny_distilled_patch16_224", "random", random_state=0)
    trace = backbone.trace((224, 224))
    assert trace.taps["penultimate"].module == "head"


def test_layers_that_put_out_tuples_cannot_be_asked_for():
    class Attentive(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(3, 1, batch_first=True)
            self.head = nn.Linear(3, 2)

        def forward(self, x):
            tokens = x.flatten(2).transpose(1, 2)
            return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))

    trace = trace_network(Attentive().eval(), (8, 8), 3)
    assert "attention" not in trace.activations
    assert trace.activations["penultimate"].shape == (3,)


def test_hooks_are_gone_after_the_pass_and_after_an_error(x):
    module = SmallCNN()
    network = staged(module, ("conv",))
    network(x)
    with pytest.raises(RuntimeError):
        network(torch.zeros(2, 5, 8, 8))
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in module.modules())


def test_a_network_that_fails_on_the_size_is_explained():
    with pytest.raises(ValueError, match=r"cannot process images of 2 x 2 pixels.*image_size"):
        trace_network(load_backbone("alexnet", "random").module, (2, 2), 3)


def test_every_layer_listed_can_be_extracted():
    backbone = load_backbone("resnet18", "random", random_state=0)
    trace = backbone.trace((32, 32))
    network = StagedNetwork(backbone.module, trace, tuple(trace.activations), "avg")
    with torch.inference_mode():
        found = network(torch.zeros(2, 3, 32, 32))
    assert found.shape == (2, sum(a.width("avg") for a in trace.activations.values()))
    assert np.isfinite(found.numpy()).all()
