"""The report on weights and on passes through the network."""

import html

import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import TunedThresholdClassifierCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

from sktransfer import FeatureStore
from tests.helpers.reports import both, quiet, small_network, small_pipeline

pytestmark = pytest.mark.slow


def test_weights_are_named_with_licence_and_hash(report, search):
    page = report.to_html()
    network = search.best_estimator_[0]
    assert network.weights_sha256_ in page
    assert "Apache-2.0" in page
    assert report.summary()["networks"] == [
        {"backbone": "efficientnet_lite0", "licence": "Apache-2.0"}
    ]


def test_each_row_goes_through_the_network_once_and_the_estimator_stays_as_it_was(report, search):
    assert "160 passes of a row through a frozen network were made, for 160 rows" in " ".join(
        report.to_html().split()
    )
    assert search.best_estimator_[0].cache is None
    assert search.best_estimator_[0].on_error == "raise"


def test_a_store_of_ones_own_is_used(digits, tmp_path):
    X, y = digits[0][:40], digits[1][:40] > 4
    quiet(small_pipeline(cache=tmp_path / "store"), X, y, cv=2).to_html()
    groups = FeatureStore(tmp_path / "store").info()["namespaces"]
    assert [group["n_forward"] for group in groups] == [40]


def whole(model):
    return lambda X, y: model().fit(X, y)


HOLDERS = {
    "Frozen": lambda X, y: make_pipeline(
        FrozenEstimator(small_network().fit(X)), LogisticRegression()
    ).fit(X, y),
    "Calibrated": whole(lambda: CalibratedClassifierCV(small_pipeline(), cv=2)),
    "Voting": whole(lambda: VotingClassifier([("one", small_pipeline())])),
    "Stacking": whole(lambda: StackingClassifier([("one", small_pipeline())], cv=2)),
    "OneVsRest": whole(lambda: OneVsRestClassifier(small_pipeline())),
    "TunedThreshold": whole(lambda: TunedThresholdClassifierCV(small_pipeline(), cv=2)),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_network_inside_a_meta_estimator_is_reported(holder, digits):
    X, y = both(digits)
    X = list(X)  # which are no table unless a network is known to read them
    made = quiet(HOLDERS[holder](X, y), X, y, sections=["data", "layers", "embedding", "weights"])
    page = html.unescape(made.to_html())
    assert made.summary()["sections_failed"] == []
    assert made.summary()["networks"]
    assert page.count("a network of your own") == 1
    for false in ("There is no pretrained", "no network", "is no search", "behind other steps"):
        assert false not in page
