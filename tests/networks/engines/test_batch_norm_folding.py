"""Folding batch norm changes the work, not the features."""

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from sktransfer import load_backbone
from sktransfer.images.tracing import trace_network
from sktransfer.networks.early_exit import LayerReader
from sktransfer.networks.engines.batch_norm_folding import without_batch_norm
from sktransfer.networks.hooks import Tap, hooked


def moved(module):
    """Batch norms as training leaves them."""
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            layer.running_mean.normal_(generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
            if layer.weight is not None:
                layer.weight.data.uniform_(0.5, 2, generator=generator)
                layer.bias.data.normal_(generator=generator)
    return module.eval().requires_grad_(False)


def norms(module):
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def assert_same_features(module, folded, trace, x):
    reads = trace.usual_reads()
    with torch.inference_mode():
        before = LayerReader(module, trace, reads)(x)
        after = LayerReader(folded, trace, reads)(x)
    for a, b in zip(after, before, strict=True):
        assert (a - b).abs().max() <= 5e-5 * b.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "mobilenet_v3_small"])
def test_batch_norms_after_convolutions_are_gone_and_features_stay(name):
    backbone = load_backbone(name, "random", random_state=0)
    module = moved(backbone.module)
    trace = backbone.trace((64, 64))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    folded = without_batch_norm(module, trace, trace.stages)
    assert norms(module)
    assert not norms(folded)
    x = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert_same_features(module, folded, trace, x)
    assert all(torch.equal(before[name], t) for name, t in module.state_dict().items())
    assert without_batch_norm(module, trace, trace.stages) is folded


def test_a_convolution_that_is_read_itself_keeps_its_output():
    backbone = load_backbone("resnet18", "random", random_state=0)
    moved(backbone.module)
    trace = backbone.trace((32, 32))
    assert without_batch_norm(backbone.module, trace, ["conv1"]) is backbone.module
    assert without_batch_norm(backbone.module, trace, ["bn1"]) is not backbone.module


class Net(nn.Module):
    def __init__(self, norm=nn.BatchNorm2d, **options):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = norm(4, **options)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


class UsedTwice(Net):
    def forward(self, x):
        found = self.conv(x)
        return self.head((self.norm(found) + found).mean((2, 3)))


class Shared(Net):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.norm(self.conv(self.conv(x))).mean((2, 3)))


class TwoNorms(Net):
    def __init__(self):
        super().__init__()
        self.second = nn.BatchNorm2d(4)

    def forward(self, x):
        found = self.conv(x)
        return self.head((self.norm(found) * self.second(found)).mean((2, 3)))


class Functional(Net):
    """Looks at the batch norm's own parameters."""

    def forward(self, x):
        return self.head((self.norm(self.conv(x)) + self.norm.weight[:, None, None]).mean((2, 3)))


class Wrapped(Net):
    """The convolution's container puts out what the convolution does."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 4, 3))
        self.drop = nn.Dropout()

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.drop(self.conv(x)))).mean((2, 3)))


@pytest.mark.parametrize("layer", ["conv", "conv.0", "drop", "norm", "penultimate", "output"])
def test_every_layer_keeps_its_features(layer):
    module = moved(Wrapped())
    trace = trace_network(module, (8, 8), 3)
    folded = without_batch_norm(module, trace, [layer])
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    reads = trace.reads([layer], ("mean", "max"))
    with torch.inference_mode():
        before = LayerReader(module, trace, reads)(x)
        after = LayerReader(folded, trace, reads)(x)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(after, before, strict=True))
    assert (folded is module) == (layer in ("conv", "conv.0", "drop"))


def test_a_network_that_was_trained_since_is_folded_anew():
    module = moved(Net())
    trace = trace_network(module, (8, 8), 3)
    without_batch_norm(module, trace, ["penultimate"])
    module.norm.running_mean.add_(1)
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    folded = without_batch_norm(module, trace, ["penultimate"])
    with torch.inference_mode():
        assert torch.allclose(module(x), folded(x), atol=1e-5)


def test_a_copy_carries_no_hook_of_a_pass_in_another_thread():
    module = moved(Net())
    trace = trace_network(module, (8, 8), 3)
    with hooked(module, {Tap("norm")}, lambda tap, value: None):
        folded = without_batch_norm(module, trace, ["penultimate"])
    assert not any(m._forward_hooks for m in folded.modules())


@pytest.mark.parametrize(
    ("module", "n_left"),
    [
        (Net(), 0),
        (Net(affine=False), 0),
        (Net(BatchNormAct2d), 0),
        (UsedTwice(), 1),
        (Shared(), 1),
        (TwoNorms(), 2),
        (Functional(), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_only_what_is_safe_is_folded(module, n_left):
    moved(module)
    trace = trace_network(module, (8, 8), 3)
    folded = without_batch_norm(module, trace, [*trace.stages, "penultimate", "output"])
    assert len(norms(folded)) == n_left
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    assert_same_features(module, folded, trace, x)
    with torch.inference_mode():
        assert torch.allclose(module(x), folded(x), atol=1e-5)
