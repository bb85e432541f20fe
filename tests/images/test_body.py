"""What image features give to fine-tuning: stages, stored activations, views."""

import gc
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from sktransfer import FineTune, FineTunedClassifier, PretrainedCNNFeatures
from sktransfer.finetuning import buffers
from tests.helpers.networks import TwoStages


def stages(backbone, image_size=64, **how):
    X = np.random.RandomState(0).randint(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    fitted = PretrainedCNNFeatures(
        backbone, weights="random", image_size=image_size, random_state=0, **how
    ).fit(X)
    return fitted.__tuning_source__().tunable(X).body.stages, fitted


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "layer"),
    [
        ("vgg11", "penultimate"),
        ("resnet18", "penultimate"),
        ("resnet18", "layer2"),
        ("efficientnet_lite0", "penultimate"),
        ("efficientnet_lite0", ("blocks.1", "blocks.4")),
        ("timm/resnet10t", "penultimate"),
    ],
    ids=str,
)
def test_stages_hold_exactly_the_weights_that_features_depend_on(backbone, layer):
    found, fitted = stages(backbone, layer=layer)
    module = fitted.__tuning_source__().tunable(np.zeros((1, 64, 64, 3), np.uint8)).body
    module.module.requires_grad_(True)
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    module(pixels).sum().backward()
    used = {name for name, p in module.module.named_parameters() if p.grad is not None}
    assert set(found.of) == used
    assert list(found.of.values()) == sorted(found.of.values())  # from shallow to deep


@pytest.mark.parametrize(
    ("image_size", "layer", "expected"),
    [
        (32, "penultimate", 1),
        (64, "penultimate", 4),
        (64, "blocks.3", 16),
        (64, "conv_stem", 32**2),
    ],
)
def test_positions_are_counted_in_the_maps_of_the_deepest_stage(image_size, layer, expected):
    X = np.zeros((1, 64, 64, 3), np.uint8)
    features = PretrainedCNNFeatures(weights="random", image_size=image_size, layer=layer).fit(X)
    assert features.__tuning_source__().body().n_positions == expected


@pytest.mark.slow
def test_a_vision_transformer_is_tuned_by_its_blocks():
    found, _ = stages("timm/vit_tiny_patch16_224", image_size=224, pooling="cls")
    last = {name for name, stage in found.of.items() if stage == len(found.names) - 1}
    assert any(name.startswith("blocks.11.") for name in last)
    assert not any(name.startswith(("blocks.10.", "patch_embed")) for name in last)


@pytest.mark.slow
def test_large_activations_lie_in_a_file_that_goes_with_them(digits, monkeypatch, tmp_path):
    X, y = digits[0][:60], digits[1][:60]
    how = {"image_size": 16, "random_state": 0}
    strategy = FineTune(1, epochs=2)
    plain = PretrainedCNNFeatures(TwoStages, **how, strategy=strategy).fit(X, y).transform(X)
    monkeypatch.setattr(buffers, "_IN_MEMORY", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    array = buffers.allocate((3, 4), np.float32)
    assert isinstance(array, np.memmap)
    assert len(list(Path(tmp_path).iterdir())) == 1
    del array
    stored = PretrainedCNNFeatures(TwoStages, **how, strategy=strategy).fit(X, y)
    assert_array_equal(stored.transform(X), plain)
    gc.collect()
    assert list(Path(tmp_path).iterdir()) == []


class Skipping(nn.Module):
    """Its end adds the pixels themselves, so that no layer in the middle holds all there is."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU())
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        return self.head((self.second(self.first(x)) + x).mean((2, 3)))


def test_a_network_that_cannot_be_resumed_runs_as_a_whole(colour):
    y = np.arange(6) % 2
    fits = [
        FineTunedClassifier(
            PretrainedCNNFeatures(Skipping, image_size=10, random_state=0),
            strategy=FineTune("second", epochs=2, cache_trunk=cached),
            random_state=0,
        ).fit(colour, y)
        for cached in (True, False)
    ]
    assert_allclose(fits[0].predict_proba(colour), fits[1].predict_proba(colour), atol=1e-6)
    assert fits[0].features_.__tuning_source__().tunable(colour).body.begin == "input"


@pytest.mark.slow
def test_a_shared_network_is_never_the_one_that_is_tuned(digits):
    X, y = digits[0][:40], digits[1][:40]
    features = PretrainedCNNFeatures(layer="blocks.1", image_size=32)
    before = features.fit_transform(X)
    tuned = FineTunedClassifier(features, strategy=FineTune("all", epochs=1)).fit(X, y)
    assert tuned.features_.module_ is not features.module_
    assert_array_equal(features.transform(X), before)
    assert_array_equal(
        PretrainedCNNFeatures(layer="blocks.1", image_size=32).fit_transform(X), before
    )


@pytest.mark.slow
def test_files_and_pictures_are_tuned_on_as_arrays_are(photos, tmp_path):
    paths = []
    for number in range(8):
        photo = photos[number % 2].crop((10 * number, 0, 300 + 10 * number, 300))
        paths.append(str(tmp_path / f"{number}.png"))
        photo.save(paths[-1])
    y = ["palace", "flower"] * 4
    features = PretrainedCNNFeatures(layer="blocks.2", image_size=48)
    classifier = FineTunedClassifier(features, strategy=FineTune(1, epochs=3), random_state=0)
    assert classifier.fit(paths, y).score(paths, y) == 1
    assert_array_equal(classifier.predict(photos), ["palace", "flower"])
