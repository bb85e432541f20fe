"""What one pass reveals of a network."""

import pytest
import timm
import torch
from torch import nn

from sktransfer import load_backbone
from sktransfer.images.tracing import trace_network

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


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_stages_are_the_main_blocks(name):
    backbone = load_backbone(name, "random")
    assert list(backbone.trace(backbone.info.preprocessing.size).stages) == STAGES[name]


@pytest.mark.slow
def test_widths_come_from_the_pass_and_not_from_attributes():
    backbone = load_backbone("timm/mobilenetv3_large_100", "random")
    assert backbone.module.num_features == 960  # what the attribute says
    trace = backbone.trace((224, 224))
    assert trace.activations["penultimate"].shape == (1280,)


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("stride", "size"), [((4, 1), (128, 128)), ((2, 1), (64, 128)), ((4, 2), (64, 32))]
)
def test_a_map_that_looks_like_channels_last_by_chance_is_not_taken_for_one(stride, size):
    channels = 16 if stride == (2, 1) else 32
    module = nn.Sequential(nn.Conv2d(3, channels, 3, stride, 1), nn.ReLU())
    trace = trace_network(module.eval(), size, 3)
    assert trace.activations["0"].layout == "channels_first"
    assert trace.activations["0"].width("mean") == channels


@pytest.mark.slow
def test_fixed_size_channels_last_networks_are_recognised_by_what_timm_says():
    trace = load_backbone("timm/swin_tiny_patch4_window7_224", "random").trace((224, 224))
    assert trace.activations["layers.0"].layout == "channels_last"


def test_tokens_with_the_numbers_of_a_map_stay_tokens():
    class Unfolded(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 64, 3, 2, 1)
            self.block = nn.Sequential(nn.Linear(256, 256), nn.ReLU())
            self.head = nn.Linear(256, 3)

        def forward(self, x):
            patches = nn.functional.unfold(self.stem(x), 2, stride=2).transpose(1, 2)
            return self.head(self.block(patches).mean(1))

    trace = trace_network(Unfolded().eval(), (32, 32), 3)
    assert trace.activations["stem"].shape == (64, 16, 16)
    assert trace.activations["block"].layout == "tokens"


def test_one_dimensional_convolutions_put_channels_first():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(2), nn.Conv1d(4, 6, 1), nn.BatchNorm1d(6))
    trace = trace_network(module.eval(), (8, 8), 3)
    assert [trace.activations[name].width("mean") for name in "123"] == [4, 6, 6]


def test_penultimate_tokens_know_their_class_token():
    def unpooled():
        return timm.create_model("vit_tiny_patch16_224", global_pool="", depth=1, img_size=32)

    trace = load_backbone(unpooled).trace((32, 32))
    assert trace.activations["penultimate"] == trace.activations["norm"]
    assert trace.activations["penultimate"].class_token


def test_an_axis_of_three_is_not_taken_for_the_batch():
    class Swapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.swap = nn.Identity()
            self.head = nn.Linear(3, 2)

        def forward(self, x):
            return self.head(self.swap(x.transpose(0, 1)).mean((2, 3)).T)

    assert "swap" not in trace_network(Swapped().eval(), (8, 8), 3).activations


@pytest.mark.slow
def test_registers_are_no_class_token():
    backbone = load_backbone("timm/vit_medium_patch16_reg4_gap_256", "random")
    last = backbone.trace((256, 256)).activations["blocks.11"]
    assert (last.prefix_tokens, last.class_token) == (4, False)


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_network_that_fails_on_the_size_is_explained():
    with pytest.raises(ValueError, match=r"cannot process images of 2 x 2 pixels.*image_size"):
        trace_network(load_backbone("alexnet", "random").module, (2, 2), 3)
