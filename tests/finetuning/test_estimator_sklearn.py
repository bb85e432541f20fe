"""The fine-tuned estimators, and a transformer that is tuned, against scikit-learn's own rules."""

import pytest
from sklearn.utils import estimator_checks as checks

from sktransfer import (
    FineTune,
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedCNNFeatures,
    RNNSequenceFeatures,
)
from tests.features.test_image_sklearn import LEFT_OUT
from tests.helpers.networks import SmallCNN

pytestmark = pytest.mark.slow

# Rows are drawn in batches: a weight of 2 and a row twice give other batches. scikit-learn's
# own networks and gradient boosting are excused from this check for the same reason.
EXCUSED = {
    "check_sample_weight_equivalence_on_dense_data": "rows are drawn at random in batches",
}


def pixels(**parameters) -> PretrainedCNNFeatures:
    return PretrainedCNNFeatures(
        SmallCNN,
        image_shape=(1, -1),
        value_range=(-1e4, 1e4),
        engine="torch",
        random_state=0,
        **parameters,
    )


def sequences(**parameters) -> RNNSequenceFeatures:
    """Of one view and one pooling: a head on few features is soon fitted."""
    return RNNSequenceFeatures(views="g", pooling="mean", **parameters)


def strategy(**parameters) -> FineTune:
    return FineTune("all", **{"epochs": 3, "guard": False, **parameters})


ESTIMATORS = {
    "classifier of sequences": FineTunedClassifier(
        sequences(), strategy=strategy(epochs=5), random_state=0
    ),
    "classifier, frozen": FineTunedClassifier(sequences(), strategy="frozen", random_state=0),
    "regressor of sequences": FineTunedRegressor(
        RNNSequenceFeatures(), strategy=strategy(epochs=5), random_state=0
    ),
    "tuned image features": pixels(strategy=strategy(epochs=1, head_init="random")),
    "tuned sequence features": sequences(strategy=strategy(epochs=1), random_state=0),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", ESTIMATORS)
def test_check_estimator_passes_and_skips_nothing(name):
    results = checks.check_estimator(
        ESTIMATORS[name], on_skip=None, on_fail=None, expected_failed_checks=EXCUSED
    )
    other = [
        (r["check_name"], r["status"], repr(r["exception"])[-300:])
        for r in results
        if r["status"] != "passed" and r["check_name"] not in EXCUSED
    ]
    assert other == []
    assert len(results) >= 40


@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
@pytest.mark.parametrize("check", LEFT_OUT)
def test_check_that_check_estimator_leaves_out_passes(check):
    getattr(checks, check)("PretrainedCNNFeatures", ESTIMATORS["tuned image features"])
