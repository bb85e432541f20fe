"""The report on the data itself: broken rows, copies, and two domains."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from sktransfer.adaptation import CORAL, AdaptedClassifier
from sktransfer.metrics import diagnose_shift
from tests.helpers.reports import BROKEN, quiet, small_network, small_pipeline

pytestmark = pytest.mark.slow


def test_broken_files_are_listed_and_left_out(report, tables, folder):
    summary = report.summary()
    assert summary["rows"] == 101
    assert summary["predicted"] == 100
    assert [(each["row"], each["path"]) for each in summary["failed"]] == [(100, folder[0][-1])]
    row, path, reason = tables.table("1 of 161 rows")[1]
    assert row == "X[100]"
    assert path.endswith(BROKEN)
    assert reason.startswith("it is not a readable")


def test_rows_of_the_same_content_are_found_also_with_two_labels(digits):
    X, y = digits[0][:60].copy(), digits[1][:60].copy()
    X[50:55] = X[:5]
    y[50:55] = y[:5]
    y[50] = 9 - y[0]
    made = quiet(small_pipeline(), X, y)
    assert made.summary()["copies"] == 5
    page = made.to_html()
    assert "5 rows are exact copies; copies were kept in one fold." in page
    assert "2 rows are labelled in two ways" in page


def test_domains_are_told_apart_and_handed_to_who_knows_them(digits):
    X, y = digits
    both = np.concatenate([X[:60], 0.5 * X[100:160]])
    labels = np.append(y[:60], y[100:160])
    domain = np.repeat([1, -1], 60)
    adapted = make_pipeline(small_network(), AdaptedClassifier(method=CORAL()))
    made = quiet(adapted, both, labels, sample_domain=domain, sections=["shift", "scores"])
    summary = made.summary()
    assert summary["predicted"] == 60
    features = small_network().fit_transform(both)
    seed = np.random.RandomState(0).randint(2**31 - 1)
    shift = diagnose_shift(features[:60], features[60:], labels[:60], random_state=seed)
    assert summary["shift"] == shift.kind != "none"
    assert summary["sections_failed"] == []
    assert "Rows of the source were always there for training." in made.to_html()

    hidden = np.append(y[:60], np.full(60, -1))  # what stack_domains fills in
    unlabelled = quiet(adapted, both, hidden, sample_domain=domain)
    assert unlabelled.summary()["predicted"] == 60
    assert unlabelled.summary()["classes"] == [*"0123456789"]
    assert "these are scores of the source" in unlabelled.to_html()
