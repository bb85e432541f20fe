"""PretrainedCNNFeatures against scikit-learn's own rules."""

import pytest
from sklearn.utils import estimator_checks as checks

from sktransfer import PretrainedCNNFeatures
from tests.helpers.networks import SmallCNN

# `check_estimator` runs these only for scikit-learn's own estimators.
LEFT_OUT = [
    "check_get_feature_names_out_error",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
    "check_dataframe_column_names_consistency",
]


def rows_of_pixels(kind=PretrainedCNNFeatures, **how) -> PretrainedCNNFeatures:
    """With `image_shape` the estimator takes 2-D arrays, so that all checks apply."""
    return kind(SmallCNN, image_shape=(1, -1), value_range=(-1e4, 1e4), random_state=0, **how)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_check_estimator_passes_and_skips_nothing():
    results = checks.check_estimator(rows_of_pixels(), on_skip=None, on_fail=None)
    other = [(r["check_name"], r["status"], r["exception"]) for r in results]
    assert [entry for entry in other if entry[1] != "passed"] == []
    assert len(results) >= 40  # an estimator without 2-D input would be asked almost nothing


@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
@pytest.mark.parametrize("name", LEFT_OUT)
def test_check_that_check_estimator_leaves_out_passes(name):
    getattr(checks, name)("PretrainedCNNFeatures", rows_of_pixels(engine="torch"))


class Broken(PretrainedCNNFeatures):
    def transform(self, X):
        return super().transform(X)[::-1]


@pytest.mark.slow
def test_a_broken_estimator_fails_the_same_checks():
    with pytest.raises(AssertionError):
        checks.check_estimator(rows_of_pixels(Broken, engine="torch"), on_skip=None)
