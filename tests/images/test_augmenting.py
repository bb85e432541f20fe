"""Images that are changed at random, by transforms of every kind."""

import pickle
import random

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import ImageOps
from sklearn.base import clone
from torchvision.transforms import v2

from sktransfer import FineTune, FineTunedClassifier, PretrainedCNNFeatures
from sktransfer.images.augmenting import image_change, views_of
from sktransfer.networks.seeding import everything_seeded
from sktransfer.persistence import save
from tests.helpers.networks import TwoStages

IMAGES = np.random.RandomState(0).randint(0, 256, (6, 5, 7, 3)).astype(np.uint8)
FLOATS = (IMAGES / 255).astype(np.float32)


def changed(images, augment, form="auto", seed=0):
    change = image_change(FineTune(augment=augment, augment_input=form), images.shape[1:3])
    with everything_seeded(seed):
        return change(images)


class Pipeline:
    """Called as those of albumentations are, with generators of its own."""

    def __init__(self):
        self.generator = np.random.default_rng()

    def set_random_seed(self, seed):
        self.generator = np.random.default_rng(seed)

    def __call__(self, *, image):
        return {"image": image[:, ::-1] if self.generator.random() < 0.5 else image}


Pipeline.__module__ = "albumentations.core.composition"


class Batchwise(torch.nn.Module):
    """Called as those of kornia are, on a batch of floats."""

    def forward(self, batch):
        assert batch.is_floating_point()
        assert batch.ndim == 4
        return batch.flip(3)


Batchwise.__module__ = "kornia.augmentation"

MIRRORS = {
    "tensor by default": (lambda image: image.flip(2), "auto"),
    "tensor": (lambda image: image.flip(2), "tensor"),
    "torchvision": (v2.RandomHorizontalFlip(1), "auto"),
    "torchvision on PIL": (v2.RandomHorizontalFlip(1), "pil"),
    "array": (lambda image: image[:, ::-1], "array"),
    "PIL": (ImageOps.mirror, "pil"),
    "kornia's kind": (Batchwise(), "auto"),
    "kornia's kind inside": (torch.nn.Sequential(Batchwise()), "auto"),
}


@pytest.mark.parametrize("name", MIRRORS)
@pytest.mark.parametrize("images", [IMAGES, FLOATS, IMAGES[..., :1]], ids=["uint8", "f4", "grey"])
def test_mirror_images_are_the_same_by_whatever_makes_them(name, images):
    augment, form = MIRRORS[name]
    found = changed(images, augment, form)
    expected = images[:, :, ::-1]
    if "kornia" in name and images.dtype == np.uint8:
        assert found.dtype == np.float32
        found = np.rint(found * 255)
    # PIL images hold 8 bits, of which these floats are multiples.
    assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == images.dtype or "kornia" in name


def test_functions_may_work_in_place_without_harm():
    def blacken(image):
        image[:] = 0
        return image

    for form in ("tensor", "array"):
        images = IMAGES.copy()
        assert not changed(images, blacken, form).any()
        assert_array_equal(images, IMAGES)


def test_generators_of_a_pipeline_are_seeded_and_those_of_the_caller_are_left_alone():
    pipeline = Pipeline()
    before = pipeline.generator.bit_generator.state
    first = changed(np.repeat(IMAGES, 5, 0), pipeline, seed=3)
    assert_array_equal(changed(np.repeat(IMAGES, 5, 0), pipeline, seed=3), first)
    assert (changed(np.repeat(IMAGES, 5, 0), pipeline, seed=4) != first).any()
    assert pipeline.generator.bit_generator.state == before


def test_values_a_little_beyond_black_and_white_are_cut_off():
    found = changed(FLOATS, lambda image: image * 1.5 - 0.25, "array")
    assert_allclose(found, np.clip(FLOATS * 1.5 - 0.25, 0, 1), atol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("augment", "form", "images", "message"),
    [
        (lambda image: image[:, :4], "array", IMAGES, r"the shape that it is .* \(5, 4, 3\)"),
        (lambda image: image[..., 0], "array", IMAGES, r"it returned the shape \(5, 7\)"),
        (lambda image: image.convert("L"), "pil", IMAGES, "the shape that it is given"),
        (lambda image: image / 255, "array", IMAGES, "uint8 from 0 to 255, got float64; round"),
        (lambda image: image * 255, "array", FLOATS, "finite values within .*, got [01] to 25"),
        (lambda image: image * np.nan, "array", FLOATS, "got nan to nan"),
        (lambda image: image > 0.5, "array", FLOATS, "must return floats .*, got bool"),
        (np.asarray, "tensor", IMAGES, "must return a Tensor too, got ndarray. What it is given"),
        (np.asarray, "pil", IMAGES, "must return a Image too, got ndarray"),
        (ImageOps.mirror, "auto", IMAGES, r"(?s)given a tensor \(channels, height, width\) of "
         r"shape \(3, 5, 7\), torch.uint8, and failed with .*augment_input: 'tensor' .* 'pil'"),
        (lambda image: image, "pil", IMAGES[..., :2], "needs images of 1, 3 or 4 channels"),
        (Pipeline(), "array", IMAGES, "a transform of albumentations, .*set augment_input='auto'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_change_is_said(augment, form, images, message):
    with pytest.raises(ValueError, match=message):
        changed(images, augment, form)


def test_lack_of_memory_is_no_fault_of_a_transform():
    def greedy(image):
        raise MemoryError

    with pytest.raises(MemoryError):
        changed(IMAGES, greedy)


def noisy(image):
    """A change that draws from all global generators."""
    factor = (random.random() + np.random.uniform() + float(torch.rand(()))) / 3
    return (image * factor).astype(image.dtype)


@pytest.mark.parametrize("form", ["array", "auto"])
def test_two_fits_are_equal_and_no_generator_of_the_caller_moves(form):
    draw = np.random.RandomState(0)
    X, y = draw.randint(0, 256, (20, 16, 16)).astype(np.uint8), np.arange(20) % 2
    augment = noisy if form == "array" else Pipeline()
    strategy = FineTune(1, epochs=1, augment=augment, augment_input=form)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    first, again = (
        FineTunedClassifier(
            PretrainedCNNFeatures(TwoStages, image_size=16, random_state=0),
            strategy=strategy, test_time_augmentation=2, random_state=seed,
        ).fit(X, y)
        for seed in (0, 0)
    )  # fmt: skip
    assert_array_equal(first.predict_proba(X), again.predict_proba(X))
    assert_allclose(first.predict_proba(X[3:5]), first.predict_proba(X)[3:5], atol=1e-5)
    assert random.getstate() == states[0]
    assert_array_equal(np.random.get_state()[1], states[1])
    assert_array_equal(torch.get_rng_state(), states[2])


def test_what_a_file_holds_of_a_function(tmp_path):
    features = PretrainedCNNFeatures(
        image_size=16, strategy=FineTune(augment=noisy, augment_input="array")
    )
    assert pickle.loads(pickle.dumps(features)).strategy.augment is noisy
    with pytest.raises(TypeError, match=r"strategy.augment .* a file without code cannot hold"):
        save(features, tmp_path / "features")
    save(FineTune(augment="light", augment_input="auto"), tmp_path / "strategy")


def test_transforms_with_parameters_of_their_own_are_cloned_as_they_are():
    class Flip(Pipeline):
        def get_params(self):
            raise AssertionError

    strategy = FineTune(augment=Flip(), epochs=3)
    again = clone(strategy)
    assert type(again.augment) is Flip
    assert again.augment is not strategy.augment
    assert again.epochs == 3
    assert strategy.get_params()["augment"] is strategy.augment
    assert clone(FineTune(augment=noisy)).augment is noisy


def test_views_are_the_image_its_mirror_image_or_random_ones():
    plain, mirrored = views_of(IMAGES, "flip", None, 0)
    assert_array_equal(plain, IMAGES)
    assert_array_equal(mirrored, IMAGES[:, :, ::-1])
    strategy = FineTune(augment=noisy, augment_input="array")
    views = [*views_of(IMAGES, 2, image_change(strategy, (5, 7)), 0)]
    assert len(views) == 3
    assert (views[1] != views[2]).any()


def test_transforms_of_kornia_train_a_network():
    augmentation = pytest.importorskip("kornia.augmentation")
    change = torch.nn.Sequential(
        augmentation.RandomHorizontalFlip(p=0.5), augmentation.RandomGaussianNoise(std=0.1, p=1)
    )
    many = np.repeat(FLOATS[:1], 40, 0)
    first = changed(many, change)
    assert_array_equal(changed(many, change), first)
    flipped = np.abs(first - many[:, :, ::-1]).mean((1, 2, 3)) < 0.1
    assert 5 < flipped.sum() < 35
    assert_allclose(changed(IMAGES, augmentation.RandomHorizontalFlip(p=1)) * 255,
                    IMAGES[:, :, ::-1], atol=1e-3)  # fmt: skip


def test_pipelines_of_albumentations_train_a_network():
    albumentations = pytest.importorskip("albumentations")
    pipeline = albumentations.Compose(
        [albumentations.HorizontalFlip(p=0.5), albumentations.RandomBrightnessContrast(p=1)]
    )
    many = np.repeat(IMAGES[:1], 40, 0)
    first = changed(many, pipeline)
    assert_array_equal(changed(many, pipeline), first)
    assert len({image.tobytes() for image in first}) > 20
    assert_array_equal(changed(IMAGES, albumentations.HorizontalFlip(p=1)), IMAGES[:, :, ::-1])
    assert changed(FLOATS, pipeline).dtype == np.float32
