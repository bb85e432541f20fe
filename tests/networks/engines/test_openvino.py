"""OpenVINO and torch agree, and what OpenVINO cannot run is found out."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer import load_backbone
from sktransfer.exceptions import ConversionError
from sktransfer.images.runner import in_passes
from sktransfer.images.tracing import trace_network
from sktransfer.networks.early_exit import LayerReader
from sktransfer.networks.engines import Network, openvino_engine, resolve_engine, torch_engine
from sktransfer.networks.engines import openvino as openvino_module
from tests.helpers.networks import ChannelsLast, InPlace, Repeated, SmallCNN

CPU = torch.device("cpu")


def network_of(module, size=(8, 8), fingerprint=None):
    module.eval().requires_grad_(False)
    name = fingerprint or f"{type(module).__name__}{id(module)}"
    return Network(module, trace_network(module, size, 3), name)


def named(name, size):
    weights = "default" if name == "efficientnet_lite0" else "random"
    backbone = load_backbone(name, weights, random_state=0)
    return Network(backbone.module, backbone.trace((size, size)), backbone.fingerprint)


def pixels(n, size=8):
    return np.random.RandomState(0).randn(n, size, size, 3).astype(np.float32)


def eager(network, reads, x):
    with torch.inference_mode():
        batch = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
        return [m.numpy() for m in LayerReader(network.module, network.trace, reads)(batch)]


def assert_close(found, expected, tolerance=1e-4):
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == np.float32
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [("efficientnet_lite0", 96), ("resnet18", 64), ("timm/vit_tiny_patch16_224", 224)],
)
def test_both_engines_equal_eager_float32(name, size):
    network = named(name, size)
    reads = network.trace.usual_reads()
    x = pixels(5, size)
    expected = eager(network, reads, x)
    assert_close(torch_engine(network, reads, CPU, "float32")(x), expected)
    assert_close(openvino_engine(network, reads, "float32")(x), expected)


def test_reads_of_any_kind_and_number_and_batches_of_any_length():
    network = network_of(InPlace())
    layers = ("conv", "penultimate")
    for pooling in ("mean+max", "gem", "flatten"):
        reads = network.trace.reads(layers, pooling.split("+"))[::-1]
        for n in (1, 2, 7):
            expected = eager(network, reads, pixels(n))
            assert_close(openvino_engine(network, reads, "float32")(pixels(n)), expected)


@pytest.mark.parametrize("module", [ChannelsLast(), Repeated(), SmallCNN()], ids=lambda m: "")
def test_own_networks_convert(module):
    network = network_of(module)
    reads = network.trace.reads(tuple(network.trace.activations), ("mean",))
    assert_close(
        openvino_engine(network, reads, "float32")(pixels(3)), eager(network, reads, pixels(3))
    )


@pytest.mark.slow
@pytest.mark.parametrize("make", [torch_engine, openvino_engine])
def test_bfloat16_is_near_and_not_the_same(make):
    network = named("efficientnet_lite0", 64)
    reads = network.trace.reads(("blocks.3", "penultimate"), ("mean",))
    x = pixels(8, 64)
    where = (CPU,) if make is torch_engine else ()
    found = make(network, reads, *where, "bfloat16")(x)
    expected = eager(network, reads, x)
    assert_close(found, expected, 0.1)
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():  # else OpenVINO stays in float32
        assert np.abs(found[1] - expected[1]).max() > 1e-5 * np.abs(expected[1]).max()


class BatchInControlFlow(SmallCNN):
    """A trace of two images takes the wrong turn for three."""

    def forward(self, x):
        return super().forward(x if len(x) % 2 else x * 2)


class Numpy(SmallCNN):
    """A trace does not see what NumPy does."""

    def forward(self, x):
        return super().forward(torch.from_numpy(x.numpy() * 2))


class Inverts(SmallCNN):
    """Decides by the pixels, in a way that neither noise nor four dark images show."""

    def forward(self, x):
        return super().forward(1 - x if x.mean() > 0.95 else x)


class Scales(SmallCNN):
    def forward(self, x):
        return super().forward(x) * x.mean().item()


class Counts(SmallCNN):
    """The length of what is selected follows from the pixels."""

    def forward(self, x):
        return super().forward(1 - x if len(x[x > 0.99].nonzero()) > 700 else x)


class ByHand(SmallCNN):
    def forward(self, x):
        return super().forward(1 - x if max(x.flatten().tolist()) > 9 else x)


class Deep(SmallCNN):
    """Decides by what a layer has put out."""

    def forward(self, x):
        y = torch.relu(self.conv(x))
        return self.linear((-y if bool((y.amax((1, 2, 3)) > 9).any()) else y).mean((2, 3)))


@pytest.mark.parametrize("kind", [Inverts, Scales, Counts, ByHand, Deep])
def test_a_network_that_takes_numbers_out_of_pixels_is_not_frozen(kind):
    network = network_of(kind())
    reads = network.trace.reads(("output",), ("mean",))
    with pytest.raises(ConversionError, match="takes numbers out of tensors"):
        openvino_engine(network, reads, "float32")


class BySizes(SmallCNN):
    """Pads to a multiple of 7, as Swin transformers do, and decides by its weights."""

    def __init__(self):
        super().__init__()
        self.register_buffer("sign", torch.tensor(-1.0))
        self.position = nn.Embedding(49, 1)

    def forward(self, x):
        height, width = x.shape[-2:]
        if height % 7 and int(width % 7) > 0:
            x = nn.functional.pad(x, (0, 7 - width % 7, 0, 7 - height % 7))
        if self.sign < 0 and torch.arange(4).max() > 2:
            x = -x
        return super().forward(x + self.position.weight[: x.shape[2]].mean())


def test_decisions_by_sizes_and_weights_are_converted():
    network = network_of(BySizes())
    reads = network.trace.reads(("penultimate",), ("mean",))
    x = pixels(5)
    assert_close(openvino_engine(network, reads, "float32")(x), eager(network, reads, x))


def test_what_was_converted_shares_no_memory_with_the_network():
    network = network_of(SmallCNN())
    reads = network.trace.reads(("penultimate",), ("mean",))
    engine = openvino_engine(network, reads, "float32")
    expected = engine(pixels(2))
    network.module.conv.weight.zero_()
    assert np.array_equal(engine(pixels(2))[0], expected[0])


def test_another_network_of_the_same_fingerprint_is_found_out():
    module = SmallCNN()
    reads = network_of(module).trace.reads(("penultimate",), ("mean",))
    openvino_engine(network_of(module, fingerprint="same"), reads, "float32")
    with pytest.raises(ConversionError):
        openvino_engine(network_of(SmallCNN(), fingerprint="same"), reads, "float32")


def test_tiny_features_are_compared_as_strictly_as_others():
    module = SmallCNN()
    module.conv.weight.data *= 1e-12
    module.conv.bias.data *= 1e-12
    network = network_of(module)
    reads = network.trace.reads(("penultimate",), ("mean",))
    openvino_engine(network, reads, "float32")
    with pytest.raises(ConversionError):
        openvino_module._compare(
            [np.zeros((2, 6), np.float32)],
            network,
            reads,
            (torch.from_numpy(pixels(2)),),
            "float32",
        )


def test_a_remembered_failure_keeps_nothing_alive():
    network = network_of(Special())
    reads = network.trace.reads(("penultimate",), ("mean",))
    depths = set()
    for _ in range(3):
        with pytest.raises(ConversionError) as caught:
            openvino_engine(network, reads, "float32")
        depths.add(len(caught.traceback))
    assert len(depths) <= 2


class Special(SmallCNN):
    """OpenVINO lacks this operation."""

    def forward(self, x):
        return super().forward(torch.special.bessel_j0(x))


@pytest.mark.parametrize("kind", [BatchInControlFlow, Numpy, Special])
def test_a_network_that_does_not_survive_conversion_is_refused(kind):
    network = network_of(kind())
    reads = network.trace.reads(("penultimate",), ("mean",))
    for _ in range(2):
        with pytest.raises(ConversionError):
            openvino_engine(network, reads, "float32")


def test_a_conversion_and_its_failure_happen_once_per_process(monkeypatch):
    conversions = []
    convert = openvino_module._convert
    monkeypatch.setattr(
        openvino_module, "_convert", lambda *args: conversions.append(1) or convert(*args)
    )
    network = network_of(SmallCNN(), fingerprint="counted")
    for pooling in ("mean", "max", "mean+max"):
        for _ in range(2):
            reads = network.trace.reads(network.trace.stages, pooling.split("+"))
            openvino_engine(network, reads, "float32")
    failing = network_of(Special(), fingerprint="counted failure")
    for _ in range(2):
        with pytest.raises(ConversionError):
            openvino_engine(failing, failing.trace.usual_reads(), "float32")
    assert len(conversions) == 2


def test_what_is_kept_compiled_is_bounded(monkeypatch):
    monkeypatch.setattr(openvino_module._COMPILED, "_length", 2)
    monkeypatch.setattr(openvino_module._CONVERTED, "_length", 1)
    for number in range(3):
        network = network_of(SmallCNN(), fingerprint=f"number {number}")
        openvino_engine(network, network.trace.usual_reads(), "float32")
    assert [name[0] for name in openvino_module._COMPILED._results] == ["number 1", "number 2"]
    assert [name[0] for name in openvino_module._CONVERTED._results] == ["number 2"]


@pytest.mark.slow
def test_threads_share_a_compiled_net_without_mixing():
    network = named("efficientnet_lite0", 32)
    reads = network.trace.reads(("blocks.3",), ("mean",))
    inputs = [pixels(6, 32) * scale for scale in (0.5, 1, 2)]
    expected = [eager(network, reads, x) for x in inputs]
    wrong = []

    def work(i):
        engine = openvino_engine(network, reads, "float32")
        for _ in range(10):
            found = engine(inputs[i])
            if np.abs(found[0] - expected[i][0]).max() > 1e-4 * np.abs(expected[i][0]).max():
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_results_are_copies_that_the_next_pass_leaves_alone():
    network = network_of(SmallCNN())
    for engine in (
        openvino_engine(network, network.trace.usual_reads(), "float32"),
        torch_engine(network, network.trace.usual_reads(), CPU, "float32"),
    ):
        first = engine(pixels(2))
        kept = [matrix.copy() for matrix in first]
        engine(pixels(2) * 3)
        assert all(np.array_equal(a, b) for a, b in zip(first, kept, strict=True))


def test_a_pass_takes_few_large_images_and_many_small_ones():
    seen = []

    def engine(x):
        seen.append(len(x))
        return [x.sum((1, 2))]

    x = pixels(10, 4)
    for size, expected in (((224, 224), [4, 4, 2]), ((500, 500), [1] * 10), ((32, 32), [10])):
        seen.clear()
        assert np.array_equal(in_passes(engine, size)(x)[0], x.sum((1, 2)))
        assert seen == expected


def test_auto_takes_openvino_on_a_cpu_only():
    assert resolve_engine("auto", CPU) == "openvino"
    assert resolve_engine("auto", torch.device("cuda")) == "torch"
    assert resolve_engine("torch", CPU) == "torch"
    with pytest.raises(ValueError, match="engine='openvino' runs on the CPU"):
        resolve_engine("openvino", torch.device("cuda"))


def test_without_openvino_auto_is_torch_and_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("sktransfer.networks.engines.find_spec", lambda name: None)
    assert resolve_engine("auto", CPU) == "torch"
    with pytest.raises(ImportError, match=r'pip install "sktransfer\[openvino\]"'):
        resolve_engine("openvino", CPU)


class Constant(nn.Module):
    """Puts out zeros, for which no relative difference exists."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x):
        return self.conv(x)


def test_features_that_are_all_zero_are_no_failure():
    network = network_of(Constant())
    assert not openvino_engine(network, network.trace.usual_reads(), "float32")(pixels(2))[0].any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_feature_that_is_no_number_must_be_none_in_torch_either(value):
    network = network_of(SmallCNN())
    reads = network.trace.reads(("penultimate",), ("mean",))
    (found,) = openvino_engine(network, reads, "float32")(pixels(2))
    example = (torch.from_numpy(pixels(2)),)
    openvino_module._compare([found], network, reads, example, "float32")
    found[1, 0] = value
    with pytest.raises(ConversionError, match="differs from torch in layer 'penultimate'"):
        openvino_module._compare([found], network, reads, example, "float32")
