"""What is found out about networks of your own, and what timm's configurations say."""

import numpy as np
import pytest
import timm
import torch
from numpy.testing import assert_allclose
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torch import nn

from sktransfer import PretrainedCNNFeatures, describe_backbone
from sktransfer.backbones.custom import from_timm_config, infer_preprocessing
from sktransfer.images.preprocessing import prepare


@pytest.mark.slow
def test_every_pretrained_configuration_of_timm_equals_timms_own_transform():
    """All combinations of size, crop and filter; of the colours only where they fill borders."""
    combinations = {}
    for name in timm.list_pretrained():
        config = timm.get_pretrained_cfg(name).to_dict()
        found = resolve_data_config({}, pretrained_cfg=config)
        ours = from_timm_config(config)
        assert (ours.in_channels, *ours.size) == tuple(found["input_size"]), name
        assert (ours.mean, ours.std) == (tuple(found["mean"]), tuple(found["std"])), name
        keys = ["input_size", "crop_pct", "crop_mode", "interpolation"]
        keys += ["mean"] if found["crop_mode"] == "border" else []
        # Larger networks of the same rule differ in nothing but their size.
        combinations.setdefault(str([found[key] for key in keys]), (name, found, ours))
    assert {found["crop_mode"] for _, found, _ in combinations.values()} > {"squash", "border"}
    rng = np.random.default_rng(0)
    for name, found, ours in combinations.values():
        height, width = (int(side) for side in rng.integers(20, 90, 2))
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        theirs = create_transform(**found)(image).permute(1, 2, 0).numpy()
        message = f"{name} {found['crop_mode']} {height} x {width}"
        assert_allclose(prepare(image, ours, max_pixels=10**8), theirs, atol=1e-5, err_msg=message)


def test_non_square_sizes_equal_timms_transform_for_every_mode():
    rng = np.random.default_rng(1)
    for mode in ("center", "squash", "border"):
        for _ in range(40):
            height, width, *size = (int(side) for side in rng.integers(4, 90, 4))
            config = {"input_size": (3, *size), "crop_pct": 0.9, "crop_mode": mode}
            image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
            transform = create_transform(**resolve_data_config({}, pretrained_cfg=config))
            theirs = transform(image).permute(1, 2, 0).numpy()
            ours = prepare(image, from_timm_config(config), max_pixels=10**8)
            assert_allclose(ours, theirs, atol=1e-5, err_msg=f"{mode} {config} {height} x {width}")


def test_the_mode_of_a_backbone_is_the_default_and_can_be_replaced():
    name = "timm/convnext_small.fb_in22k_ft_in1k_384"
    assert describe_backbone(name).preprocessing.resize == "squash"
    assert describe_backbone("timm/dm_nfnet_f0.dm_in1k").preprocessing.resize == "squash+crop"
    picture = np.random.default_rng(0).integers(0, 256, (1, 20, 60, 3), dtype=np.uint8)
    for resize in (None, "crop", "squash", "squash+crop", "border"):
        estimator = PretrainedCNNFeatures(resize=resize, image_size=32, layer="blocks.0").fit(
            picture
        )
        assert estimator.fitted_.preprocessing.resize == (resize or "crop")
        assert estimator.pixels_of(picture).shape == (1, 32, 32, 3)


class HeadFirst(nn.Module):
    """Declares its head before its stem, as some repositories do."""

    def __init__(self, channels=3):
        super().__init__()
        self.head = nn.Conv2d(8, 5, 1)
        self.stem = nn.Conv2d(channels, 8, 3)
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        return self.head(self.stem(images)).mean((2, 3))


class Normalising(HeadFirst):
    """Does to its images what only three channels allow, before the stem."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5))

    def forward(self, images):
        return super().forward((images - self.mean).contiguous())


class Padding(HeadFirst):
    """Its first convolution takes a channel that is not in the image."""

    def __init__(self):
        super().__init__(channels=4)

    def forward(self, images):
        return super().forward(torch.cat([images, images[:, :1]], 1))


def test_the_convolution_that_is_called_first_decides_the_channels():
    for channels in (1, 2, 3, 4, 6):
        assert infer_preprocessing(HeadFirst(channels)).in_channels == channels
    assert infer_preprocessing(Normalising()).in_channels == 3
    assert infer_preprocessing(Padding()).in_channels == 3
    assert (
        infer_preprocessing(nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 2, 1))).in_channels == 4
    )
    assert infer_preprocessing(nn.Sequential(nn.Flatten(), nn.Linear(12, 2))).in_channels == 3


def test_looking_for_the_channels_leaves_a_network_as_it_is():
    network = HeadFirst().train()
    infer_preprocessing(network)
    assert network.calls == 0
    assert network.training
    assert not network.stem._forward_pre_hooks


def test_files_of_other_channels_are_rows_of_nan_or_reach_the_network(tmp_path):
    def network():
        return nn.Sequential(
            nn.Conv2d(4, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
        )

    rgba = np.random.default_rng(0).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    paths = [str(tmp_path / f"{mode}.png") for mode in ("L", "RGB", "RGBA")]
    for path, mode in zip(paths, ("L", "RGB", "RGBA"), strict=True):
        Image.fromarray(rgba).convert(mode).save(path)
    extractor = PretrainedCNNFeatures(network, image_size=16, engine="torch", on_error="nan")
    extractor.fit(paths)
    by_torch = extractor.module_
    with pytest.warns(UserWarning, match="2 of 3 images could not be read"):
        features = extractor.transform(paths)
    assert [failed.index for failed in extractor.errors_] == [0, 1]
    for failed, found in zip(extractor.errors_, ("1 channel", "3 channels"), strict=True):
        assert f"it has {found} and the backbone takes 4" in failed.message
    pixels = torch.from_numpy(rgba).permute(2, 0, 1)[None].float() / 255
    expected = by_torch[:3](pixels).numpy()
    assert_allclose(features[2:], expected, atol=1e-6)
    assert_allclose(extractor.transform([rgba]), expected, atol=1e-6)
    assert_allclose(extractor.transform([Image.fromarray(rgba)]), expected, atol=1e-6)
