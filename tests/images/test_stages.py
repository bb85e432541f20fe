"""Stages of many families of networks, whatever their blocks put out."""

from functools import partial

import numpy as np
import pytest
import timm
import torch
import torchvision
import transformers
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from sktransfer import FineTune, PretrainedCNNFeatures
from sktransfer.images.tracing import trace_network
from sktransfer.networks.early_exit import read_activation

TRANSFORMER = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
SWIN = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [1, 1, 2, 1],
    "num_heads": [1, 2, 2, 2],
    "window_size": 2,
}
CONVOLUTIONAL = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 2, 1]}


def hugging_face(kind, **settings):
    """A network of transformers, by the beginning of its class and the settings of its size."""
    config = getattr(transformers, kind.removesuffix("Model").split("For")[0] + "Config")
    return getattr(transformers, kind)(config(**settings))


class Wrapped(nn.Module):
    """A body without its classifier, which puts out a vector, and a head."""

    def __init__(self):
        super().__init__()
        self.body = timm.create_model("test_resnet", num_classes=0)
        self.head = nn.Linear(self.body.num_features, 2)

    def forward(self, x):
        return self.head(self.body(x))


class ByParts(Wrapped):
    """Calls a method of the body rather than the body."""

    def forward(self, x):
        return self.head(self.body.forward_features(x).mean((2, 3)))


class Dictionaries(Wrapped):
    """A body in a module that puts out a dict, as the network does."""

    def __init__(self):
        super().__init__()
        self.body = Maps(self.body)

    def forward(self, x):
        return {"scores": self.head(self.body(x)["map"].mean((2, 3)))}


class Maps(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return {"map": self.net.forward_features(x)}


def getter(name, **settings):
    return timm.create_model(name, features_only=True, **settings)


def graph():
    return create_feature_extractor(torchvision.models.resnet18(), ["layer4"])


def numbered(prefix, n):
    return [f"{prefix}{i}" for i in range(n)]


def modules_of(kind):
    """Finds the names of a class's modules, which versions of transformers name differently."""
    return lambda network: [n for n, m in network.named_modules() if type(m).__name__ == kind]


LAYERS = ["conv1", *(f"layer{i}" for i in (1, 2, 3, 4))]  # the stem has three convolutions
FAMILIES = {
    "CLIP": (
        partial(hugging_face, "CLIPVisionModel", **TRANSFORMER),
        modules_of("CLIPEncoderLayer"),
    ),
    "CLIP of two layers": (
        partial(hugging_face, "CLIPVisionModel", **{**TRANSFORMER, "num_hidden_layers": 2}),
        modules_of("CLIPEncoderLayer"),
    ),
    "SigLIP": (
        partial(hugging_face, "SiglipVisionModel", **TRANSFORMER),
        modules_of("SiglipEncoderLayer"),
    ),
    "Dinov2": (
        partial(hugging_face, "Dinov2Model", **TRANSFORMER),
        numbered("encoder.layer.", 3),
    ),
    "ViT": (
        partial(hugging_face, "ViTForImageClassification", **TRANSFORMER),
        modules_of("ViTLayer"),
    ),
    "Swin": (partial(hugging_face, "SwinModel", **SWIN), numbered("encoder.layers.", 4)),
    "Swin with classifier": (
        partial(hugging_face, "SwinForImageClassification", **SWIN),
        numbered("swin.encoder.layers.", 4),
    ),
    "ConvNext": (
        partial(hugging_face, "ConvNextModel", **CONVOLUTIONAL),
        numbered("encoder.stages.", 4),
    ),
    "ResNet of transformers": (
        partial(hugging_face, "ResNetModel", embedding_size=8, **CONVOLUTIONAL),
        numbered("encoder.stages.", 4),
    ),
    "timm's features of a ResNet": (partial(getter, "test_resnet"), LAYERS),
    "timm's features of an EfficientNet": (
        partial(getter, "test_efficientnet"),
        numbered("blocks.", 5),
    ),
    "timm's features of a ViT": (
        partial(getter, "test_vit", img_size=32),
        numbered("model.blocks.", 6),
    ),
    "timm's FastViT": (
        partial(timm.create_model, "fastvit_t8"),
        ["stem", *numbered("stages.", 4), "final_conv"],
    ),
    "DataParallel": (
        lambda: nn.DataParallel(timm.create_model("test_resnet")),
        [f"module.{layer}" for layer in LAYERS],
    ),
    "an own wrapper": (Wrapped, [f"body.{layer}" for layer in LAYERS]),
    "an own wrapper by parts": (ByParts, [f"body.{layer}" for layer in LAYERS]),
    "an own wrapper of dicts": (Dictionaries, [f"body.net.{layer}" for layer in LAYERS]),
    "a graph of torchvision": (
        graph,
        ["relu", *(f"layer{i}.1.relu" for i in (1, 2, 3, 4))],
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_stages_are_the_main_blocks_whatever_these_put_out(family):
    make, stages = FAMILIES[family]
    network = make().eval()
    expected = stages(network) if callable(stages) else stages
    trace = trace_network(network, (32, 32), 3)
    assert list(trace.stages) == expected != []
    assert set(expected) <= set(trace.activations)
    assert all(trace.activations[stage].is_spatial for stage in expected)


def test_a_stage_that_puts_out_a_tuple_is_read_at_its_first_tensor():
    torch.manual_seed(0)
    module = hugging_face("SwinModel", **SWIN).eval()
    trace = trace_network(module, (32, 32), 3)
    pixels = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        expected = module(pixels, output_hidden_states=True).hidden_states
        for stage, states in zip(trace.stages, expected[1:], strict=True):
            assert torch.equal(read_activation(module, trace, stage, pixels), states)


IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(8) % 2


@pytest.mark.parametrize("family", ["Swin with classifier", "an own wrapper of dicts"])
def test_fine_tuning_of_one_stage_trains_the_last_block_alone(family):
    make, stages = FAMILIES[family]
    features = PretrainedCNNFeatures(
        make,
        image_size=32,
        layer=-1,
        random_state=0,
        strategy=FineTune(unfreeze=1, epochs=1, batch_size=4, random_state=0),
    ).fit(IMAGES, LABELS)
    assert features.layer_ == (stages[-1],)
    trained = features.fitted_.trained_parameters
    assert trained
    assert all(name.startswith(stages[-1]) for name in trained)


class NoStages(nn.Module):
    """Its weights are used by functions."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.rand(4, 3, 3, 3))

    def forward(self, x):
        return nn.functional.conv2d(x, self.kernel).mean((2, 3))


def test_a_network_without_stages_says_so_where_stages_matter():
    transformer = partial(PretrainedCNNFeatures, NoStages, image_size=32, engine="torch")
    assert transformer().fit(IMAGES).stages_ == []
    with pytest.raises(ValueError, match=r"layer=-1 is the number of a stage.* no stages"):
        transformer(layer=-1).fit(IMAGES)
    with pytest.raises(ValueError, match="layer='auto' chooses among the stages.* none"):
        transformer(layer="auto").fit(IMAGES, LABELS)
    with pytest.raises(ValueError, match=r"unfreeze=1 counts stages.* none.*'head', 'all'"):
        transformer(strategy=FineTune(unfreeze=1)).fit(IMAGES, LABELS)
