"""timm and the Hugging Face hub, from files laid into a local hub cache."""

import json

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from numpy.testing import assert_allclose
from safetensors.torch import save_file

from sktransfer import PretrainedCNNFeatures, describe_backbone, load_backbone
from sktransfer.exceptions import WeightsNotFoundError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def publish(cache, repository, **files):
    """Lay files into the cache as a download of commit COMMIT, branch main, would."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    for name, write in files.items():
        write(snapshot / name.replace("__", "."))


def resnet(**kwargs):
    torch.manual_seed(0)
    return timm.create_model("resnet10t", **kwargs).eval()


def test_timm_weights_come_from_the_hub_cache(cache):
    source = resnet()
    repository = timm.get_pretrained_cfg("resnet10t").hf_hub_id
    publish(cache, repository, model__safetensors=lambda p: save_file(source.state_dict(), p))
    backbone = load_backbone("timm/resnet10t")
    loaded = backbone.module.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in source.state_dict().items())
    assert backbone.info.source == f"https://huggingface.co/{repository}"
    assert backbone.info.license == "apache-2.0"


@pytest.mark.slow
def test_a_repository_of_the_hub_is_built_from_its_config(cache, photos):
    source = resnet(num_classes=7)
    config = {
        "architecture": "resnet10t",
        "num_classes": 7,
        "pretrained_cfg": {
            "input_size": [3, 96, 96],
            "interpolation": "bilinear",
            "crop_pct": 0.9,
            "mean": [0.1, 0.2, 0.3],
            "std": [0.4, 0.5, 0.6],
            "num_classes": 7,
            "first_conv": "conv1.0",
            "classifier": "fc",
            "license": "mit",
        },
    }
    publish(
        cache,
        "someone/small-net",
        model__safetensors=lambda p: save_file(source.state_dict(), p),
        config__json=lambda p: p.write_text(json.dumps(config)),
    )
    for revision in ("main", COMMIT):
        name = f"hf-hub:someone/small-net@{revision}"
        info = describe_backbone(name)
        assert info.license == "mit"
        assert info.preprocessing.size == (96, 96)
        assert info.preprocessing.mean == (0.1, 0.2, 0.3)
        features = PretrainedCNNFeatures(name, layer="output")
        transform = timm.data.create_transform(
            **timm.data.resolve_data_config(config["pretrained_cfg"])
        )
        with torch.inference_mode():
            expected = source(torch.stack([transform(photo) for photo in photos])).numpy()
        assert_allclose(features.fit_transform(photos), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("timm/resnet10t", "timm/resnet10t.c3_in1k@main/model.safetensors"),
        ("hf-hub:someone/absent@v1", "someone/absent@v1/config.json"),
    ],
)
def test_without_network_the_error_names_file_place_and_parameter(name, file, cache):
    with pytest.raises(WeightsNotFoundError) as caught:
        load_backbone(name)
    message = str(caught.value)
    assert file in message
    assert str(cache) in message
    assert "weights='/path/to/" in message


def test_timm_weights_load_from_a_file_with_other_classes(tmp_path):
    source = resnet(num_classes=3)
    torch.save(source.state_dict(), tmp_path / "net.pth")
    module = load_backbone("timm/resnet10t", tmp_path / "net.pth").module
    assert torch.equal(module.fc.weight, source.fc.weight)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "flatten"])
def test_tokens_of_a_vision_transformer_are_pooled_as_by_hand(pooling, photos, tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224").eval()
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
    with torch.inference_mode():
        tokens = model.get_intermediate_layers(
            torch.stack([transform(p) for p in photos]), n=[5], return_prefix_tokens=True
        )[0]
    patches, prefix = tokens
    expected = {
        "cls": prefix[:, 0],
        "mean": patches.mean(1),
        "max": patches.amax(1),
        "flatten": torch.cat([prefix, patches], 1).flatten(1),
    }[pooling].numpy()
    found = PretrainedCNNFeatures(
        "timm/vit_tiny_patch16_224", weights=tmp_path / "vit.safetensors", layer=5, pooling=pooling
    ).fit_transform(photos)
    assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
