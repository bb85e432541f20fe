"""Feature maps against the layer's own output."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sktransfer import FineTunedClassifier, PretrainedCNNFeatures
from sktransfer.exceptions import ImageReadError
from sktransfer.inspection import FeatureMapDisplay
from tests.helpers.networks import SmallCNN

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def features(digits):
    return PretrainedCNNFeatures(engine="torch", image_size=32).fit(digits[0])


def test_maps_are_the_most_varied_channels_of_the_layer(features, digits):
    image = digits[0][0]
    display = FeatureMapDisplay.from_estimator(features, image, layer="blocks.1", n_channels=5)
    pixels = torch.from_numpy(features._reader(features.fitted_.preprocessing).input(image))
    module = features.module_
    with torch.no_grad():
        x = module.bn1(module.conv_stem(pixels.permute(2, 0, 1)[None]))
        maps = module.blocks[1](module.blocks[0](x))[0].numpy()
    order = np.argsort(-maps.std(axis=(1, 2)))[:5]
    np.testing.assert_array_equal(display.channels, order)
    np.testing.assert_allclose(display.maps, maps[order], rtol=1e-4, atol=1e-5)
    assert display.layer == "blocks.1"
    assert display.image.shape == (32, 32, 3)


@pytest.mark.slow
def test_without_a_layer_it_is_the_deepest_one_read_that_is_a_map_or_the_last_stage(digits):
    images = digits[0]
    read = PretrainedCNNFeatures(engine="torch", layer=("blocks.2", "blocks.1"), image_size=32).fit(
        images
    )
    assert FeatureMapDisplay.from_estimator(read, images[0]).layer == "blocks.2"
    vector = PretrainedCNNFeatures(engine="torch", image_size=64).fit(images)
    assert FeatureMapDisplay.from_estimator(vector, images[0]).layer == "blocks.6"
    small = PretrainedCNNFeatures(engine="torch", image_size=32).fit(images)  # of 1 x 1 at last
    assert FeatureMapDisplay.from_estimator(small, images[0]).layer == "blocks.4"


@pytest.mark.slow
def test_pipelines_and_fine_tuned_estimators_are_taken(digits):
    images, labels = digits[0][:40], digits[1][:40] > 4
    network = PretrainedCNNFeatures(
        SmallCNN, engine="torch", image_size=16, layer="conv", random_state=0
    )
    pipeline = make_pipeline(network, LogisticRegression()).fit(images, labels)
    display = FeatureMapDisplay.from_estimator(pipeline, images[0])
    assert display.maps.shape == (6, 16, 16)  # of sixteen asked for, all there are
    tuned = FineTunedClassifier(network, strategy="frozen", random_state=0).fit(images, labels)
    again = FeatureMapDisplay.from_estimator(tuned, images[0])
    np.testing.assert_allclose(again.maps, display.maps, rtol=1e-5)


def test_rows_of_pixels_are_images(digits):
    rows = pd.DataFrame(digits[0].reshape(-1, 64)).rename(columns=str)
    features = PretrainedCNNFeatures(engine="torch", image_shape=(8, 8), image_size=32).fit(rows)
    framed = FeatureMapDisplay.from_estimator(features, rows[:1], layer="blocks.0")
    plain = PretrainedCNNFeatures(engine="torch", image_shape=(8, 8), image_size=32).fit(
        rows.to_numpy()
    )
    row = FeatureMapDisplay.from_estimator(plain, rows.to_numpy()[0], layer="blocks.0")
    np.testing.assert_array_equal(framed.maps, row.maps)


def test_vectors_are_refused_and_layers_named_that_would_do(features, digits):
    for layer in ("penultimate", "output"):
        with pytest.raises(ValueError, match="no map of several positions; .*'blocks.1'"):
            FeatureMapDisplay.from_estimator(features, digits[0][0], layer=layer)
    with pytest.raises(ValueError, match=r"shape \(320, 1, 1\)"):
        FeatureMapDisplay.from_estimator(features, digits[0][0], layer="blocks.6")
    with pytest.raises(ValueError, match="n_channels == 0, must be >= 1"):
        FeatureMapDisplay.from_estimator(features, digits[0][0], n_channels=0)
    with pytest.raises(TypeError, match="transformer must be a fitted PretrainedCNNFeatures"):
        FeatureMapDisplay.from_estimator(LogisticRegression(), digits[0][0])


def test_an_image_that_cannot_be_read_is_an_error_whatever_on_error_says(digits, tmp_path):
    features = PretrainedCNNFeatures(engine="torch", image_size=32, on_error="nan").fit(digits[0])
    with pytest.raises(ImageReadError, match=r"missing\.png"):
        FeatureMapDisplay.from_estimator(features, tmp_path / "missing.png")
    assert features.errors_ == []


def test_the_image_comes_first_and_each_map_bears_its_number(digits):
    maps = np.random.default_rng(0).normal(size=(5, 4, 4))
    image = digits[0][0][:, :, None]
    display = FeatureMapDisplay(image, maps, layer="conv", channels=[7, 1, 0, 3, 2]).plot()
    assert [ax.get_title() for ax in display.ax_] == [
        "image",
        "ch 7",
        "ch 1",
        "ch 0",
        "ch 3",
        "ch 2",
    ]
    np.testing.assert_array_equal(display.maps_[0].get_array(), maps[0])
    assert display.figure_.get_suptitle() == "layer conv"
    _, (ax, _) = plt.subplots(1, 2)
    assert display.plot(ax, cmap="magma").figure_ is ax.figure
    assert ax.get_title() == display.title_.get_text() == "layer conv"
    assert display.maps_[0].get_cmap().name == "magma"
    with pytest.raises(ValueError, match=r"got \(8, 8, 1\), \(5, 4, 4\) and 2"):
        FeatureMapDisplay(image, maps, layer="conv", channels=[7, 1]).plot()


def test_several_images_are_refused_and_one_of_each_form_is_taken(features, digits):
    images = digits[0]
    colour = np.repeat(images[:2, :, :, None], 3, axis=3)
    for several in (images[:1], images[:2], colour, list(images[:2])):
        with pytest.raises(
            ValueError, match=r"image must be one image, .*got images.*; pass X\[0\]"
        ):
            FeatureMapDisplay.from_estimator(features, several)
    for one in (
        images[0],
        images[0].tolist(),
        colour[0],
        Image.fromarray(np.uint8(colour[0] * 255)),
    ):
        FeatureMapDisplay.from_estimator(features, one, n_channels=1)
