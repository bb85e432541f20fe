"""What "penultimate" is, by what the last layers do."""

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer import PretrainedCNNFeatures
from sktransfer.images.tracing import trace_network
from sktransfer.networks.early_exit import LayerReader
from sktransfer.networks.hooks import Tap

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)


class Headed(nn.Module):
    """A convolution, pooled to eight features, and a head for these."""

    def __init__(self, head):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.last = head

    def features(self, x):
        return self.conv(x).relu().mean((2, 3))

    def forward(self, x):
        return self.last(self.features(x))


class Margin(nn.Module):
    """Cosines with the centres of classes, as ArcFace and CosFace have them."""

    def __init__(self):
        super().__init__()
        self.centres = nn.Parameter(torch.randn(4, 8))

    def forward(self, x, labels=None):
        return nn.functional.linear(
            nn.functional.normalize(x), nn.functional.normalize(self.centres)
        )


class Transposed(nn.Module):
    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(8, 4))

    def forward(self, x):
        return torch.log_softmax(x @ self.matrix, 1)


def dynamically_quantised():
    quantise = torch.ao.quantization.quantize_dynamic
    return quantise(Headed(nn.Linear(8, 4)).eval(), {nn.Linear}, dtype=torch.qint8)


VECTORS = {
    "linear": lambda: Headed(nn.Linear(8, 4)),
    "linear and normalisation": lambda: Headed(nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4))),
    "linear and activation": lambda: Headed(nn.Sequential(nn.Linear(8, 4), nn.PReLU(4))),
    "margin": lambda: Headed(Margin()),
    "margin, normalised": lambda: Headed(nn.Sequential(Margin(), nn.BatchNorm1d(4))),
    "transposed": lambda: Headed(Transposed()),
    "quantised": dynamically_quantised,
}


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize("head", VECTORS)
def test_penultimate_is_what_a_head_of_any_class_is_given(head):
    module = VECTORS[head]().eval()
    trace = trace_network(module, (16, 16), 3)
    x = torch.rand(2, 3, 16, 16)
    with torch.inference_mode():
        (found,) = LayerReader(module, trace, trace.reads(("penultimate",), ("mean",)))(x)
        assert torch.equal(found, module.features(x))


def trunk(*layers):
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), *layers)


POOL = (nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize(
    ("layers", "width"),
    [
        ([nn.Conv2d(8, 4, 1), *POOL], 8),
        ([nn.Conv2d(8, 4, 1), *POOL, nn.Softmax(1)], 8),
        ([nn.Conv2d(8, 4, 1), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.LogSoftmax(1)], 8),
        ([nn.AdaptiveAvgPool2d(2), nn.Conv2d(8, 4, 2), nn.Flatten()], 8),
        # No classifiers: an activation function or batch norm follows, or positions are mixed.
        ([nn.Conv2d(8, 4, 1), nn.ReLU(), *POOL], 4),
        ([nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4), *POOL], 4),
        ([nn.Conv2d(8, 4, 3), *POOL], 4),
        ([*POOL], 8),
    ],
)
def test_a_last_convolution_is_a_classifier_if_nothing_but_pooling_follows(layers, width):
    torch.manual_seed(0)
    trace = trace_network(trunk(*layers).eval(), (16, 16), 3)
    assert trace.activations["penultimate"].width("mean") == width


class Functional(Headed):
    """Uses the weights of a layer that does not run."""

    def __init__(self):
        super().__init__(nn.Linear(8, 4))

    def forward(self, x):
        return nn.functional.linear(self.features(x), self.last.weight)


def exported():
    example = (torch.rand(2, 3, 16, 16),)
    n = torch.export.Dim("n")
    return torch.export.export(
        Headed(nn.Linear(8, 4)).eval(), example, dynamic_shapes=({0: n},)
    ).module()


class SeveralOutputs(Headed):
    """Its last linear layer is a part of the last block, as of a vision transformer."""

    def forward(self, x):
        tokens = self.conv(x).flatten(2).transpose(1, 2)
        return {"tokens": tokens + self.last(tokens), "more": tokens}


@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")
@pytest.mark.parametrize(
    ("make", "why", "instead"),
    [
        (Functional, "'last' has as many outputs as the network and does not run", "conv"),
        (exported, "layers do not run as modules", "output"),
        (lambda: SeveralOutputs(nn.Linear(8, 8)), "the last layer .* is no classifier", "conv"),
    ],
)
def test_where_penultimate_cannot_be_told_the_error_says_why_and_names_layers(make, why, instead):
    transformer = PretrainedCNNFeatures(make, image_size=16, engine="torch", random_state=0)
    with pytest.raises(ValueError, match=f"penultimate.*{why}.*'{instead}'") as caught:
        transformer.fit(IMAGES)
    assert len(str(caught.value)) < 500
    transformer.set_params(layer=instead).fit(IMAGES)
    with pytest.raises(ValueError, match=r"fitted with layer='\w+' lists all"):
        transformer.set_params(layer="nowhere").fit(IMAGES)


def test_features_of_heads_found_since_are_stored_apart_from_the_outputs_of_before():
    keys = [
        PretrainedCNNFeatures(make, image_size=16).fit(IMAGES)
        for make in (VECTORS["linear"], VECTORS["margin"])
    ]
    usual, since = (each._store_key(each.fitted_)[0][0] for each in keys)
    assert (usual, since) == (1, 2)


def test_a_classifier_that_is_a_parameter_of_the_network_leaves_doubt():
    class Prototypes(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
            self.prototypes = nn.Parameter(torch.randn(5, 8))

        def forward(self, x):
            return nn.functional.normalize(self.body(x).mean((2, 3))) @ self.prototypes.T

    trace = trace_network(Prototypes().eval(), (16, 16), 3)
    assert "penultimate" not in trace.taps
    assert "'prototypes' has as many rows or columns" in trace.doubt


def test_the_last_convolution_of_a_network_that_labels_positions_is_its_classifier():
    class Segmenting(nn.Module):
        def __init__(self):
            super().__init__()
            self.down = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
            self.up = nn.Sequential(nn.Conv2d(8, 6, 3, padding=1), nn.ReLU())
            self.out = nn.Conv2d(6, 2, 1)

        def forward(self, x):
            x = nn.functional.interpolate(self.down(x), scale_factor=2)
            return self.out(self.up(x))

    trace = trace_network(Segmenting().eval(), (16, 16), 3)
    assert trace.taps["penultimate"] == Tap("out", "input", 0)
    assert trace.stages[-1] == "up"
