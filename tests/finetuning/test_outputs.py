"""What the outputs of a network mean, against the estimators and closed forms."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, softmax

from sktransfer.finetuning.outputs import Outputs
from sktransfer.finetuning.targets import encode_targets

RNG = np.random.RandomState(0)


def coded(y, **parameters):
    """Targets, and the tensors of a batch of all of them."""
    targets = encode_targets(y, n_rows=len(y), **parameters)
    batch = {name: torch.from_numpy(getattr(targets, name)) for name in ("values", "labelled")}
    return Outputs.of(targets), batch


@pytest.mark.parametrize(
    "y",
    [
        np.array(["b", "a", "c", "a"]),
        np.array([3, 1, 3, 1]),
        np.array([[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 0, 0]]),
    ],
)
def test_classes_and_labels_are_decoded_as_they_were(y):
    outputs, batch = coded(y)
    assert_array_equal(outputs.decode(batch), y)


@pytest.mark.parametrize("shape", [(9,), (9, 2)])
def test_numbers_come_back_in_the_units_of_y(shape):
    y = 50 + 7 * RNG.normal(size=shape)
    outputs, batch = coded(y, task="regression")
    assert_allclose(outputs.decode(batch), y, rtol=1e-6)
    scores = batch["values"].numpy().astype(float)
    assert_allclose(outputs.predict(scores), y, rtol=1e-6)


def test_rows_without_a_label_are_left_out():
    outputs, batch = coded(np.array([0, 1, 0, 1]), sample_domain=[1, 1, -1, 1])
    assert_array_equal(outputs.decode(batch), [0, 1, 1])


@pytest.mark.parametrize(("share", "expected"), [(0.7, ["a", "b"]), (0.3, ["b", "a"])])
def test_a_blended_row_has_the_class_of_its_larger_part(share, expected):
    outputs, batch = coded(np.array(["a", "b"]))
    blended = {"other_values": batch["values"].flip(0), "share": torch.full((2,), share)}
    assert_array_equal(outputs.decode({**batch, **blended}), expected)


def test_numbers_of_a_blended_row_are_blended():
    outputs, batch = coded(np.array([1.5, 3.5]), task="regression")
    blended = {"other_values": batch["values"].flip(0), "share": torch.full((2,), 0.75)}
    assert_allclose(outputs.decode({**batch, **blended}), [2.0, 3.0], rtol=1e-6)


def test_probabilities_and_decisions_are_those_of_scikit_learns_conventions():
    scores = RNG.normal(size=(5, 2))
    two = Outputs("classification", np.array(["a", "b"]), None, True)
    assert_allclose(two.predict_proba(scores), softmax(scores, axis=1))
    assert_allclose(two.decision_function(scores), scores[:, 1] - scores[:, 0])
    assert_array_equal(two.predict(scores), np.where(two.decision_function(scores) > 0, "b", "a"))
    labels = Outputs("multilabel", np.arange(2), None, False)
    assert_allclose(labels.predict_proba(scores), expit(scores))
    assert_array_equal(labels.predict(scores), (labels.predict_proba(scores) > 0.5).astype(int))
    assert_array_equal(labels.decision_function(scores), scores)
