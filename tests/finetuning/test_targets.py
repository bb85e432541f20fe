"""Labels encoded and numbers standardised, and what cannot be learned from refused."""

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.preprocessing import LabelBinarizer, StandardScaler
from sklearn.utils.class_weight import compute_class_weight

from sktransfer.finetuning.targets import encode_targets

RNG = np.random.RandomState(0)
LABELS = [0, 0, 0, 1, 1, 2]


def encode(y, **parameters):
    return encode_targets(y, n_rows=len(y), **parameters)


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (["cat", "ant", "cat", "bee"], ["ant", "bee", "cat"]),
        (np.array(["b", "a", "b"], dtype=object), ["a", "b"]),
        ([-1, 1, 1, -1], [-1, 1]),
        ([7, 3, 3], [3, 7]),
        ([3.0, 7.0, 3.0], [3, 7]),
        ([True, False, True], [False, True]),
        (pd.Series(["x", "y", "x"], dtype="category"), ["x", "y"]),
        (np.array([2, 0, 1, 2], dtype=np.uint8), [0, 1, 2]),
    ],
)
def test_labels_of_any_kind_are_one_hot_over_their_sorted_classes(y, classes):
    targets = encode(y)
    assert targets.task == "classification"
    assert targets.flat
    assert targets.location is None
    assert_array_equal(targets.classes, classes)
    assert targets.values.dtype == np.float32
    expected = np.equal.outer(np.asarray(y), np.asarray(classes))
    assert_array_equal(targets.values, expected)
    assert_array_equal(targets.classes[targets.codes], np.asarray(y))
    assert targets.labelled.all()
    assert_array_equal(targets.weights, np.ones(len(y)))


def test_three_classes_are_encoded_as_scikit_learn_does():
    y = RNG.choice(["u", "v", "w"], 30)
    assert_array_equal(encode(y).values, LabelBinarizer().fit_transform(y))


def test_a_single_column_is_taken_with_a_warning_as_scikit_learn_does():
    with pytest.warns(UserWarning, match="column-vector"):
        targets = encode(np.array([[1], [2], [1]]))
    assert_array_equal(targets.classes, [1, 2])


def test_a_single_class_is_an_error_that_names_it():
    with pytest.raises(ValueError, match=r"at least 2 classes in y, got 1 class \(\['a'\]\)"):
        encode(["a", "a", "a"])


def test_a_single_class_of_some_weight_is_an_error_too():
    with pytest.raises(ValueError, match=r"got 1 class \(\[5\]\)"):
        encode([5, 5, 6], sample_weight=[1, 1, 0])


@pytest.mark.parametrize("task", [None, "classification", "regression"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_in_y_are_errors_for_any_task(task, bad):
    with pytest.raises(ValueError, match="Input y contains"):
        encode(np.array([0.0, 1.0, bad, 1.0]), task=task)


@pytest.mark.parametrize("task", [None, "classification"])
@pytest.mark.parametrize("bad", [None, np.nan])
def test_a_missing_label_among_strings_is_an_error(task, bad):
    with pytest.raises(ValueError, match="Input y contains NaN or None"):
        encode(np.array(["a", bad, "b", "a"], dtype=object), task=task)


def test_no_y_at_all_is_an_error_that_tells_what_to_do():
    with pytest.raises(ValueError, match="target y is None.*strategy='frozen'"):
        encode_targets(None, n_rows=3)


def test_other_rows_than_x_are_an_error_that_tells_both():
    with pytest.raises(ValueError, match="y has 3 rows and X has 4"):
        encode_targets([0, 1, 0], n_rows=4)


def test_a_cube_is_refused():
    with pytest.raises(ValueError, match=r"one or two dimensions, got shape \(2, 2, 2\)"):
        encode(np.zeros((2, 2, 2)))


def test_continuous_numbers_are_refused_by_a_classifier():
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        encode([0.5, 1.5, 2.5], task="classification")


def test_several_columns_of_classes_are_refused():
    with pytest.raises(ValueError, match="several columns of classes"):
        encode(np.array([[0, 2], [1, 1], [2, 0]]))


@pytest.mark.parametrize("task", [None, "regression"])
def test_numbers_are_standardised_and_their_location_is_kept(task):
    y = RNG.normal(5, 3, 40)
    targets = encode(y, task=task)
    assert targets.task == "regression"
    assert targets.classes is None
    assert targets.flat
    assert targets.values.shape == (40, 1)
    assert_allclose(targets.values, StandardScaler().fit_transform(y[:, None]), atol=1e-6)
    mean, scale = targets.location
    assert_allclose(targets.values * scale + mean, y[:, None], rtol=1e-5)


def test_whole_numbers_are_regressed_on_when_that_is_the_task():
    targets = encode([1, 2, 3, 4], task="regression")
    assert_allclose(targets.values[:, 0], (np.arange(4) - 1.5) / np.std(np.arange(4)), rtol=1e-6)


def test_several_columns_of_numbers_are_standardised_with_the_weights_of_the_rows():
    y = RNG.normal([0, 50], [1, 9], (30, 2))
    weights = RNG.uniform(0.1, 4, 30)
    targets = encode(y, sample_weight=weights)
    assert not targets.flat
    expected = StandardScaler().fit(y, sample_weight=weights)
    assert_allclose(targets.location[0], expected.mean_)
    assert_allclose(targets.location[1], expected.scale_)
    assert_allclose(np.average(targets.values, axis=0, weights=weights), 0, atol=1e-6)
    assert_allclose(np.average(targets.values**2, axis=0, weights=weights), 1, rtol=1e-5)
    assert_allclose(targets.weights, weights / weights.mean(), rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0, 1e12])
def test_a_constant_number_is_standardised_to_zero_without_dividing_by_it(value):
    targets = encode(np.full(7, value), task="regression")
    assert_allclose(targets.values, 0, atol=1e-3)
    assert_array_equal(targets.location[1], [1.0])


def test_a_later_call_keeps_the_location_of_the_first():
    targets = encode([10.0, 12.5], task="regression", location=(np.array([10.0]), np.array([5.0])))
    assert_allclose(targets.values[:, 0], [0, 0.5])
    assert_array_equal(targets.location[0], [10.0])


@pytest.mark.parametrize("task", [None, "classification", "multilabel"])
def test_an_indicator_matrix_is_multilabel_and_stays_as_it_is(task):
    y = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 0]])
    targets = encode(y, task=task)
    assert targets.task == "multilabel"
    assert not targets.flat
    assert_array_equal(targets.values, y)
    assert_array_equal(targets.classes, [0, 1, 2])


@pytest.mark.parametrize("labels", [LABELS, ["a", "b", "b", "b", "b", "c"]])
def test_balanced_class_weights_are_those_of_scikit_learn(labels):
    targets = encode(labels, class_weight="balanced")
    by_class = compute_class_weight("balanced", classes=np.unique(labels), y=labels)
    expected = by_class[np.searchsorted(np.unique(labels), labels)]
    assert_allclose(targets.weights, expected / expected.mean(), rtol=1e-6)
    totals = np.bincount(targets.codes, targets.weights)
    assert_allclose(totals, totals[0], rtol=1e-6)


def test_balanced_class_weights_do_not_mind_classes_without_rows():
    targets = encode(LABELS, classes=[-1, 0, 1, 2, 3], class_weight="balanced")
    assert_allclose(targets.weights, encode(LABELS, class_weight="balanced").weights)


def test_class_weights_by_label_multiply_those_of_the_rows():
    given = [1, 2, 1, 2, 1, 1]
    targets = encode(LABELS, class_weight={0: 1, 1: 5, 2: 3}, sample_weight=given)
    expected = np.array([1, 2, 1, 10, 5, 3])
    assert_allclose(targets.weights, expected / expected.mean(), rtol=1e-6)


def test_class_weights_that_leave_no_row_any_weight_are_an_error():
    with pytest.raises(ValueError, match="weight"):
        encode(LABELS, class_weight={0: 0, 1: 0, 2: 0})


@pytest.mark.parametrize("class_weight", ["heavy", 3, True])
def test_class_weights_of_another_kind_are_refused(class_weight):
    with pytest.raises(ValueError, match="class_weight must be None, 'balanced' or a dict"):
        encode(LABELS, class_weight=class_weight)


@pytest.mark.parametrize("y", [[0.5, 1.5, 2.5], np.array([[0, 1], [1, 1], [1, 0]])])
def test_class_weights_without_classes_are_refused(y):
    with pytest.raises(ValueError, match="class_weight is for classification"):
        encode(y, class_weight="balanced")


def test_weights_above_zero_have_mean_one_whatever_their_scale():
    targets = encode(LABELS, sample_weight=np.arange(6) * 1e-8)
    assert_allclose(targets.weights, np.arange(6) / 3, rtol=1e-6)
    assert targets.weights.dtype == np.float32
    assert_array_equal(encode(LABELS, sample_weight=7).weights, np.ones(6))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(5), r"sample_weight.shape == \(5,\), expected \(6,\)"),
        (np.ones((6, 2)), r"sample_weight.shape == \(6, 2\), expected \(6,\)"),
        ([1, 1, -0.5, 1, 1, 1], "Negative values in data passed to sample_weight: -0.5"),
        (np.zeros(6), "sample_weight is zero for every row"),
        ([1, 1, np.nan, 1, 1, 1], "sample_weight contains NaN"),
        ([1, 1, np.inf, 1, 1, 1], "sample_weight contains infinity"),
    ],
)
def test_weights_that_are_none_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        encode(LABELS, sample_weight=weights)


def test_the_labels_of_target_rows_are_not_looked_at():
    y = np.array([4.0, 2.0, np.nan, np.inf, 4.0])
    domain, weights = [1, 3, -1, -2, 0.5], [1, 2, 9, 9, 3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        targets = encode(y, sample_domain=domain, sample_weight=weights)
    assert_array_equal(targets.labelled, [True, True, False, False, True])
    assert_array_equal(targets.classes, [2, 4])
    assert_array_equal(targets.values, [[0, 1], [1, 0], [0, 0], [0, 0], [0, 1]])
    assert_allclose(targets.weights, [0.5, 1, 0, 0, 1.5])


def test_numbers_are_standardised_by_source_rows_alone():
    targets = encode(
        np.array([1.0, 3.0, 1e9, np.nan]), task="regression", sample_domain=[1, 1, -1, -1]
    )
    assert_array_equal(targets.values[:, 0], [-1, 1, 0, 0])
    assert_array_equal(targets.location, [[2], [1]])


def test_classes_are_balanced_over_source_rows_alone():
    targets = encode(
        [0, 0, 1, 1, 1, 1], sample_domain=[1, 1, 1, -1, -1, -1], class_weight="balanced"
    )
    assert_allclose(targets.weights, [0.75, 0.75, 1.5, 0, 0, 0], rtol=1e-6)


@pytest.mark.parametrize(
    "domain",
    [
        [1, 1, 0, -1, -1, -1],
        [1, -1],
        ["s", "s", "s", "t", "t", "t"],
        [True, True, True, False, False, False],
        [1, 1, np.nan, 1, -1, -1],
    ],
)
def test_domains_that_are_no_signs_of_all_rows_are_refused(domain):
    with pytest.raises(ValueError, match="sample_domain must hold 6 numbers"):
        encode(LABELS, sample_domain=domain)


def test_no_source_row_is_an_error():
    with pytest.raises(ValueError, match="sample_domain has no source row"):
        encode(LABELS, sample_domain=[-1] * 6)


def test_source_rows_without_any_weight_are_an_error():
    with pytest.raises(ValueError, match="sample_weight leaves no labelled row"):
        encode(LABELS, sample_domain=[1, 1, -1, -1, -1, -1], sample_weight=[0, 0, 1, 1, 1, 1])


def test_given_classes_have_columns_even_if_no_row_is_of_them():
    targets = encode(["b", "d", "b"], classes=["d", "c", "b", "a", "b"])
    assert_array_equal(targets.classes, ["a", "b", "c", "d"])
    assert_array_equal(targets.codes, [1, 3, 1])
    assert_array_equal(targets.values.sum(0), [0, 2, 0, 1])


def test_given_classes_allow_rows_of_one_class_alone():
    assert_array_equal(encode([1, 1], classes=[0, 1]).values, [[0, 1], [0, 1]])


def test_labels_that_are_not_among_the_given_classes_are_an_error_that_names_them():
    with pytest.raises(ValueError, match=r"y holds classes \[5, 9\] that are not in \[0, 1\]"):
        encode([0, 9, 1, 5], classes=[0, 1])
