"""Scores with intervals, against scikit-learn and scipy."""

import numpy as np
import pytest
from sklearn import metrics


def test_of_two_classes_the_area_under_the_curve_is_that_of_scikit_learn():
    from sktransfer.inspection.report.scores import classification_scores

    random = np.random.RandomState(0)
    true = random.randint(2, size=300)
    second = np.round(np.clip(0.5 + 0.2 * true + random.normal(scale=0.3, size=300), 0, 1), 1)
    proba = np.column_stack([1 - second, second])  # with ties
    scores = {
        score.name: score
        for score in classification_scores(true, proba.argmax(axis=1), 2, proba, random)
    }
    assert scores["ROC AUC"].value == pytest.approx(metrics.roc_auc_score(true, second))
    assert scores["log loss"].value == pytest.approx(metrics.log_loss(true, proba))
    low, high = scores["ROC AUC"].interval
    assert 0.02 < high - low < 0.15  # 0.027 is the standard error after Hanley and McNeil


def test_intervals_of_shares_are_wilsons():
    from scipy.stats import binomtest

    from sktransfer.inspection.report.scores import wilson

    for hits, n in ((0, 5), (3, 10), (99, 100), (7, 7)):
        expected = binomtest(hits, n).proportion_ci(method="wilson")
        assert wilson(hits, n) == pytest.approx((expected.low, expected.high))


def test_bootstrap_intervals_are_as_wide_as_the_standard_error_says():
    from sktransfer.inspection.report.scores import regression_scores

    random = np.random.RandomState(0)
    true = random.normal(size=2000)
    guesses = true + random.normal(size=2000)
    score = regression_scores(true, guesses, random)[1]
    error = np.abs(true - guesses).std() / np.sqrt(2000)
    low, high = score.interval
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_where_resampling_gives_one_value_there_is_no_interval():
    from sktransfer.inspection.report import scores as numbers

    random = np.random.RandomState(0)
    true = np.repeat([0, 1], 20)
    sure = np.eye(2)[true] * 0.8 + 0.1
    hopeful = np.column_stack([sure[:, 0] + 0.5, sure[:, 1]])  # ordered without an error
    right = numbers.classification_scores(true, true, 2, sure, random)
    for score in right[1:]:
        assert score.interval is None, score.name
    constant = numbers.classification_scores(true, np.zeros(40, dtype=int), 2, hopeful, random)
    found = {score.name: score.interval for score in constant}
    assert found["balanced accuracy"] is found["ROC AUC"] is None
    assert found["macro F1"] is not None
    for score in numbers.regression_scores(true, true, random):
        assert score.interval is None, score.name
    both = np.column_stack([true, 1 - true])
    assert numbers.multilabel_scores(both, both, random)[1].interval is None


def test_bounds_of_shares_end_at_0_and_1():
    from sktransfer.inspection.report.scores import wilson

    for n in range(1, 300):
        assert wilson(n, n)[1] == 1.0
        assert wilson(0, n)[0] == 0.0
        assert len(repr(wilson(n, n + 1)[1])) < 16
