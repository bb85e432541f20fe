"""Checks of domains and of labelled rows."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.pipeline import Pipeline, make_pipeline

from sktransfer import FineTune, FineTunedClassifier, PretrainedCNNFeatures, RNNSequenceFeatures
from sktransfer._validation import checked_domain, labelled_mask, source_mask


@pytest.mark.parametrize(
    "domain",
    [
        [2, -1, 1],
        np.array([2.0, -0.5, 1.0]),
        np.array([[2], [-1], [1]]),
        pd.Series([2, -1, 1], index=[7, 8, 9]),
        pd.Series([2, -1, 1], dtype="Int64"),
        np.array([2, -1, 1], dtype=object),
    ],
)
def test_numbers_of_any_type_tell_source_rows(domain):
    assert_array_equal(source_mask(domain, 3), [True, False, True])


@pytest.mark.parametrize(
    ("domain", "got"),
    [
        (1, "got 1$"),
        ("source", "got 'source'$"),
        ([1, -1], "got 2 of them"),
        ([1, -1, 0], "got 0 in row 2"),
        ([1.0, -0.0, -1.0], "got -0 in row 1"),
        ([1, np.nan, -1], "got nan in row 1"),
        ([True, False, False], r"got \[True, False, False\] of dtype bool"),
        (["s", "t", "t"], r"got \['s', 't', 't'\] of dtype <U1"),
        ([1, None, -1], r"got \[1, None, -1\] of dtype object"),
        (np.array([1, True, -1], dtype=object), r"got \[1, True, -1\] of dtype object"),
        (pd.Series([1, None, -1], dtype="Int64"), "got nan in row 1"),
    ],
)
def test_what_tells_no_domains_is_refused_with_what_was_got(domain, got):
    with pytest.raises(ValueError, match=f"sample_domain must hold 3 numbers, positive .*{got}"):
        checked_domain(domain, 3)


def test_labelled_rows_are_those_of_the_source_and_those_that_are_said_to_be():
    is_source = np.array([True, False, False])
    for said in ([False, False, True], pd.Series([False, False, True], dtype="boolean")):
        assert_array_equal(labelled_mask(is_source, said), [True, False, True])
    assert_array_equal(labelled_mask(is_source, None), is_source)
    for wrong in ([0, 0, 1], [True, False], ["no", "no", "yes"]):
        with pytest.raises(ValueError, match="target_labeled must hold 3 booleans"):
            labelled_mask(is_source, wrong)


@pytest.mark.parametrize("value", ["frozen", None, "x" * 900])
def test_a_parameter_of_no_estimator_is_refused_with_what_to_set_before(value):
    features = PretrainedCNNFeatures().set_params(strategy=value)
    message = (
        r"strategy=.* has no parameter 'epochs'; set strategy=FineTune\(\) before strategy__ep"
    )
    for estimator in (
        features,
        make_pipeline(features),
        FineTunedClassifier("any", strategy=value),
    ):
        prefix = "pretrainedcnnfeatures__" if isinstance(estimator, Pipeline) else ""
        with pytest.raises(ValueError, match=message) as caught:
            estimator.set_params(**{f"{prefix}strategy__epochs": 3})
        assert len(str(caught.value)) < 300
    features.set_params(strategy__epochs=3, strategy=FineTune())
    assert features.set_params(strategy__unfreeze=2).strategy.get_params()["epochs"] == 3
    series = RNNSequenceFeatures()
    with pytest.raises(ValueError, match=r"pretraining=.*set pretraining=Pretraining\(\) before"):
        series.set_params(pretraining__epochs=3)
    with pytest.raises(ValueError, match="Invalid parameter 'nothing'"):
        features.set_params(nothing__epochs=3)
