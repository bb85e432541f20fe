"""The report on weights and on passes through the network."""

import pytest

from sktransfer import FeatureStore
from tests.helpers.reports import quiet, small_pipeline

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
