"""RNNSequenceFeatures against scikit-learn's own rules."""

import pytest
from sklearn.utils import estimator_checks as checks

from sktransfer import RNNSequenceFeatures
from tests.features.test_image_sklearn import LEFT_OUT

# `sample_weight` is for fine-tuning; the scales and thresholds of a frozen network have none.
EXCUSED = {"check_sample_weight_equivalence_on_dense_data": "weights are for fine-tuning"}


def small() -> RNNSequenceFeatures:
    return RNNSequenceFeatures(weights="random", hidden_size=4, random_state=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    "estimator",
    [small(), RNNSequenceFeatures(views="g", missing="error")],
    ids=["random weights", "default weights, nothing missing"],
)
def test_check_estimator_passes_and_skips_nothing(estimator):
    results = checks.check_estimator(
        estimator, on_skip=None, on_fail=None, expected_failed_checks=EXCUSED
    )
    other = [(r["check_name"], r["status"], r["exception"]) for r in results]
    assert [e for e in other if e[1] != "passed" and e[0] not in EXCUSED] == []
    assert len(results) >= 40


@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
@pytest.mark.parametrize("name", LEFT_OUT)
def test_check_that_check_estimator_leaves_out_passes(name):
    getattr(checks, name)("RNNSequenceFeatures", small())
