"""Datasets of torch that give samples with their labels."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image
from sklearn.model_selection import cross_val_score
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder

from sktransfer import (
    FineTune,
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedCNNFeatures,
    PretrainedTextFeatures,
    RNNSequenceFeatures,
)
from sktransfer._pairs import labels_of, samples_of
from tests.helpers.languages import LABELS, TEXTS, write_language
from tests.helpers.networks import TwoStages


class Pairs(Dataset):
    """Pairs that count how often each is read."""

    def __init__(self, samples, labels):
        self.samples, self.all = samples, labels
        self.reads = np.zeros(len(labels), int)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        self.reads[index] += 1
        return self.samples[index], self.all[index]


class WithTargets(Pairs):
    """Pairs whose labels are known without reading."""

    @property
    def targets(self):
        return list(self.all)


class Alone(Pairs):
    """Samples without labels."""

    def __getitem__(self, index):
        return self.samples[index]


IMAGES = np.random.RandomState(0).randint(0, 256, (24, 16, 16)).astype(np.uint8)
CODES = np.arange(24) % 3


def classifier(**how):
    return FineTunedClassifier(
        PretrainedCNNFeatures(TwoStages, image_size=16, random_state=0, **how),
        strategy=FineTune(1, epochs=1),
        random_state=0,
    )


def test_labels_are_taken_without_reading_all_samples():
    dataset = WithTargets(IMAGES, CODES)
    assert_array_equal(labels_of(dataset), CODES)
    assert dataset.reads.sum() <= 4
    some = Subset(ConcatDataset([dataset, dataset]), [30, 2, 47])
    assert_array_equal(labels_of(some), CODES[[6, 2, 23]])
    assert dataset.reads.sum() <= 9
    tensors = TensorDataset(torch.from_numpy(IMAGES), torch.from_numpy(CODES))
    assert_array_equal(labels_of(Subset(tensors, [5, 4])), CODES[[5, 4]])


@pytest.mark.parametrize("wrong", [CODES[::-1], CODES[:5], [[1], [2, 3]] * 12, {}])
def test_targets_that_are_others_than_the_items_have_are_not_believed(wrong):
    dataset = Pairs(IMAGES, CODES)
    dataset.targets = wrong
    assert_array_equal(labels_of(dataset), CODES)


def test_a_target_transform_counts():
    dataset = WithTargets(IMAGES, CODES)
    dataset.target_transform = str
    dataset.__class__ = type(
        "Named", (WithTargets,), {"__getitem__": lambda s, i: (s.samples[i], str(s.all[i]))}
    )
    assert_array_equal(labels_of(dataset), CODES.astype(str))


@pytest.mark.parametrize("labels", [list("abc") * 8, torch.from_numpy(CODES), np.eye(3)[CODES]])
def test_labels_may_be_words_tensors_or_vectors(labels):
    assert_array_equal(labels_of(Pairs(IMAGES, labels)), np.asarray(labels))


def test_what_gives_no_pairs_has_no_labels():
    assert labels_of(Alone(IMAGES, CODES)) is None
    assert labels_of([(IMAGES[0], 1)]) is None
    assert labels_of(TensorDataset(torch.from_numpy(IMAGES))) is None
    assert samples_of(IMAGES) is IMAGES
    assert samples_of(TensorDataset(torch.tensor([3, 4]))) == [3, 4]


@pytest.mark.parametrize("label", [{"box": 1}, None, np.zeros((2, 2))])
def test_a_label_that_is_none_is_refused(label):
    with pytest.raises(ValueError, match=r"X\[2\] must be a pair of .* the label .*Pass y"):
        labels_of(Pairs(IMAGES, [0, 1, label] + [0] * 21))


def test_an_item_that_cannot_be_had_is_named():
    with pytest.raises(ValueError, match=r"X\[4\] gives no label.*KeyError: 4"):
        labels_of(Pairs(dict(enumerate(IMAGES[:4])) | {n: 0 for n in range(5, 24)}, CODES))


@pytest.mark.parametrize("kind", [Pairs, WithTargets])
def test_a_classifier_learns_from_pairs_as_from_images_and_labels(kind):
    expected = classifier().fit(IMAGES, CODES)
    dataset = kind(IMAGES, CODES)
    found = classifier().fit(dataset)
    assert_array_equal(found.predict_proba(dataset), expected.predict_proba(IMAGES))
    other = 2 - CODES
    given = classifier().fit(dataset, other)  # y that is given counts
    assert_array_equal(
        given.predict_proba(dataset), classifier().fit(IMAGES, other).predict_proba(IMAGES)
    )
    again = found.partial_fit(dataset).predict_proba(IMAGES)
    assert_array_equal(again, expected.partial_fit(IMAGES, CODES).predict_proba(IMAGES))


def test_a_transformer_learns_from_pairs_too():
    for how in ({"strategy": FineTune(1, epochs=1)}, {"layer": "auto"}):
        features = PretrainedCNNFeatures(TwoStages, image_size=16, random_state=0, **how)
        expected = features.fit(IMAGES, CODES).transform(IMAGES)
        dataset = Pairs(IMAGES, CODES)
        assert_array_equal(features.fit(dataset).transform(dataset), expected)
        assert_array_equal(features.fit_transform(dataset), expected)


def test_numbers_are_learned_from_pairs():
    regressor = FineTunedRegressor(
        PretrainedCNNFeatures(TwoStages, image_size=16, random_state=0), strategy="frozen"
    )
    y = CODES + 0.5
    expected = regressor.fit(IMAGES, y).predict(IMAGES)
    assert_array_equal(regressor.fit(Pairs(IMAGES, y)).predict(Pairs(IMAGES, y)), expected)


def test_folders_of_images_are_learned_from(tmp_path):
    for number, image in enumerate(IMAGES[:12]):
        folder = tmp_path / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:02}.png")
    dataset = ImageFolder(tmp_path)
    y = np.repeat([0, 1], 6)
    images = np.concatenate([IMAGES[0:12:2], IMAGES[1:12:2]])
    expected = classifier().fit(images, y).predict_proba(images)
    assert_array_equal(classifier().fit(dataset).predict_proba(dataset), expected)


def test_cross_validation_takes_pairs_with_y_beside_them():
    dataset = WithTargets(IMAGES, CODES)
    scores = cross_val_score(classifier(), dataset, dataset.targets, cv=2)
    assert_array_equal(scores, cross_val_score(classifier(), IMAGES, CODES, cv=2))


def test_images_without_labels_still_need_y():
    with pytest.raises(ValueError, match=r"y is None.*torch Dataset .* \(sample, label\)"):
        classifier().fit(Alone(IMAGES, CODES))
    assert classifier().fit(Alone(IMAGES, CODES), CODES).predict(IMAGES).shape == (24,)


def test_series_and_texts_are_learned_from_pairs(tmp_path):
    draw = np.random.RandomState(0)
    series, y = [draw.normal(size=(8 + k, 2)) for k in range(12)], np.arange(12) % 2
    texts = PretrainedTextFeatures(write_language(tmp_path), engine="torch", random_state=0)
    rnn = {"weights": "random", "hidden_size": 4, "random_state": 0}
    words = RNNSequenceFeatures(**rnn)
    tokens = RNNSequenceFeatures(vocabulary_size=5, **rnn)
    for features, X, labels in (
        (words, series, y),
        (texts, TEXTS, LABELS),
        (words, ["one", "two!", "three"] * 4, y),
        (tokens, [draw.randint(0, 5, 7) for _ in y], y),
    ):
        made = FineTunedClassifier(features, strategy="frozen")
        expected = made.fit(X, labels).predict_proba(X)
        dataset = Pairs(X, labels)
        assert_array_equal(made.fit(dataset).predict_proba(dataset), expected)
        assert_array_equal(made.predict_proba(Alone(X, labels)), expected)
