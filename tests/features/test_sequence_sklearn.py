"""RNNSequenceFeatures against scikit-learn's own rules."""

import pytest
from sklearn.utils import estimator_checks as checks

from sktransfer import RNNSequenceFeatures
from tests.features.test_image_sklearn import LEFT_OUT


def small() -> RNNSequenceFeatures:
    return RNNSequenceFeatures(weights="random", hidden_size=4, random_state=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    "estimator",
    [small(), RNNSequenceFeatures(views="g", missing="error")],
    ids=["random weights", "default weights, nothing missing"],
)
def test_check_estimator_passes_and_skips_nothing(estimator):
    results = checks.check_estimator(estimator, on_skip=None, on_fail=None)
    other = [(r["check_name"], r["status"], r["exception"]) for r in results]
    assert [entry for entry in other if entry[1] != "passed"] == []
    assert len(results) >= 40


@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
@pytest.mark.parametrize("name", LEFT_OUT)
def test_check_that_check_estimator_leaves_out_passes(name):
    getattr(checks, name)("RNNSequenceFeatures", small())
