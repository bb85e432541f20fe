"""Resizing, cropping and normalising, against torchvision's and timm's own transforms."""

import dataclasses

import numpy as np
import pytest
import timm
import torch
from numpy.testing import assert_allclose
from PIL import Image
from torchvision import models
from torchvision.transforms import v2

from sktransfer import describe_backbone
from sktransfer.exceptions import ImageReadError
from sktransfer.images.preprocessing import Preprocessing, prepare, resized_size

SIZES = [(480, 640), (640, 427), (224, 224), (37, 300), (256, 255), (5, 3)]


def picture(height, width):
    return np.random.RandomState(height + width).randint(0, 256, (height, width, 3)).astype("uint8")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b1", "swin_v2_t", "vit_b_16"])
def test_equals_torchvisions_transforms(name, size):
    image = Image.fromarray(picture(*size))
    expected = models.get_model_weights(name).DEFAULT.transforms()(image)
    how = describe_backbone(name).preprocessing
    found = prepare(image, how, max_pixels=10**8)
    assert found.shape == (*how.size, 3)
    assert_allclose(found, expected.permute(1, 2, 0).numpy(), atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["tf_efficientnet_lite1", "resnet18", "convnext_tiny"])
def test_equals_timms_transforms(name, size):
    image = Image.fromarray(picture(*size))
    config = timm.data.resolve_data_config(
        {}, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict()
    )
    expected = timm.data.create_transform(**config)(image)
    name = {"tf_efficientnet_lite1": "efficientnet_lite1"}.get(name, f"timm/{name}")
    found = prepare(image, describe_backbone(name).preprocessing, max_pixels=10**8)
    assert_allclose(found, expected.permute(1, 2, 0).numpy(), atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_squash_equals_a_plain_resize(size):
    image = picture(*size)
    how = Preprocessing(size=(32, 48), resize="squash", interpolation="bicubic")
    expected = np.asarray(Image.fromarray(image).resize((48, 32), Image.Resampling.BICUBIC)) / 255
    assert_allclose(prepare(image, how, max_pixels=10**8), expected, atol=1e-6)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "nearest"])
@pytest.mark.parametrize("size", SIZES)
def test_floats_take_the_way_of_eight_bit_images(size, interpolation):
    """One path of resampling: only the rounding to 256 levels differs."""
    how = Preprocessing(size=(20, 30), crop_pct=0.8, interpolation=interpolation)
    image = picture(*size) // 3 + 80  # far from black and white, where 8 bits clip
    eight_bit = prepare(image, how, max_pixels=10**8)
    floats = prepare((image / 255).astype(np.float32), how, max_pixels=10**8)
    assert_allclose(floats, eight_bit, atol=2.5 / 255)  # rounded once per axis


def test_shrinking_filters_out_what_the_small_image_cannot_show():
    stripes = np.zeros((64, 64, 1), dtype=np.float32)
    stripes[:, ::2] = 1
    how = Preprocessing(size=(8, 8), in_channels=1)
    assert_allclose(prepare(stripes, how, max_pixels=10**6), 0.5, atol=0.05)


def test_a_non_square_target_is_covered_and_cropped():
    how = Preprocessing(size=(10, 30))
    assert resized_size((100, 100), how) == (30, 30)
    assert resized_size((100, 600), how) == (10, 60)
    assert prepare(picture(100, 100), how, max_pixels=10**6).shape == (10, 30, 3)


@pytest.mark.slow
def test_the_torchvision_resize_rule_holds_for_all_shapes():
    rng = np.random.RandomState(0)
    for _ in range(200):
        height, width, target = (int(v) for v in rng.randint(1, 700, 3))
        expected = v2.functional.resize(torch.zeros(1, height, width), [target]).shape[1:]
        assert resized_size((height, width), Preprocessing(size=(target, target))) == expected


def test_an_extreme_aspect_ratio_cannot_blow_up_memory():
    image = np.zeros((1, 50_000, 1), dtype=np.uint8)
    how = Preprocessing(size=(224, 224))
    with pytest.raises(ImageReadError, match="resize='squash'"):
        prepare(image, how, max_pixels=10**6)
    squashed = dataclasses.replace(how, resize="squash")
    assert prepare(image, squashed, max_pixels=10**6).shape == (224, 224, 3)


def test_an_array_with_alpha_is_laid_over_white_like_a_file():
    rgba = np.random.RandomState(0).randint(0, 256, (9, 9, 4)).astype(np.uint8)
    top = Image.fromarray(rgba)
    file_way = Image.alpha_composite(Image.new("RGBA", top.size, "white"), top).convert("RGB")
    how = Preprocessing(size=(9, 9))
    expected = prepare(file_way, how, max_pixels=100)
    assert_allclose(prepare(rgba, how, max_pixels=100), expected, atol=1.01 / 255)
    unit = (rgba / 255).astype(np.float32)
    assert_allclose(prepare(unit, how, max_pixels=100), expected, atol=1.01 / 255)


def test_the_original_is_not_changed():
    for image in (picture(9, 9), (picture(9, 9) / 255).astype(np.float32)):
        before = image.copy()
        prepare(image, Preprocessing(size=(9, 9), mean=(0.5,), std=(0.5,)), max_pixels=100)
        assert np.array_equal(image, before)
