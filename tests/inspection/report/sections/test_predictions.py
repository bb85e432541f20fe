"""Scores, confusions and errors of a report, against scikit-learn's."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from tests.helpers.reports import NAMES, Tables, quiet, small_network

pytestmark = pytest.mark.slow


def test_scores_are_those_of_scikit_learn(report, predicted):
    true, labels, proba = predicted
    scores = report.summary()["scores"]
    expected = {
        "accuracy": metrics.accuracy_score(true, labels),
        "balanced accuracy": metrics.balanced_accuracy_score(true, labels),
        "macro F1": metrics.f1_score(true, labels, average="macro"),
        "log loss": metrics.log_loss(true, proba),
    }
    assert scores.keys() == expected.keys()
    for name, value in expected.items():
        assert scores[name]["value"] == pytest.approx(value, rel=1e-6), name
        low, high = scores[name]["interval"]
        assert low < value < high, name
    assert 0.2 < scores["accuracy"]["value"] < 1  # else there is nothing to see below


def test_the_matrix_is_that_of_scikit_learn(tables, predicted):
    true, labels, _ = predicted
    rows = tables.table("Rows are true classes")
    assert rows[0] == ["true", *sorted(NAMES)]
    assert [row[0] for row in rows[1:]] == sorted(NAMES)
    counts = np.array([row[1:] for row in rows[1:]], dtype=int)
    expected = metrics.confusion_matrix(true, labels, labels=sorted(NAMES))
    np.testing.assert_array_equal(counts, expected)


def test_confusions_are_ordered_by_their_number(tables, predicted):
    true, labels, _ = predicted
    rows = tables.table("Most frequent confusions")[1:]
    counted = pd.Series(list(zip(true, labels, strict=True)))[true != labels].value_counts()
    numbers = [int(row[2]) for row in rows]
    assert numbers == sorted(numbers, reverse=True)
    for t, p, n, share in rows:
        assert counted[t, p] == int(n)
        assert share == f"{int(n) / (true == t).sum():.1%}"


def test_the_table_of_classes_is_that_of_scikit_learn(tables, predicted):
    true, labels, _ = predicted
    expected = metrics.classification_report(true, labels, output_dict=True, zero_division=0)
    rows = tables.table("By class")[1:]
    assert len(rows) == 10
    recalls = [float(row[2]) for row in rows]
    assert recalls == sorted(recalls)
    for name, n, recall, _, precision, f1 in rows:
        known = expected[name]
        assert int(n) == known["support"]
        assert [float(recall), float(precision), float(f1)] == pytest.approx(
            [known["recall"], known["precision"], known["f1-score"]], abs=5e-4
        )


def test_worst_errors_come_in_the_order_of_their_loss(tables, predicted, folder):
    true, labels, proba = predicted
    own = proba[np.arange(100), np.searchsorted(sorted(NAMES), true)]
    wrong = np.flatnonzero(true != labels)
    order = wrong[np.argsort(own[wrong], kind="stable")][:12]
    shown = [int(re.search(r"(\d+)\.png", name).group(1)) for name in tables.cards]
    assert shown == order.tolist()


def test_scores_by_margin_where_there_are_no_probabilities(digits):
    X, y = digits[0][:100], digits[1][:100]
    model = make_pipeline(small_network(), LinearSVC()).fit(X[:50], y[:50])
    made = quiet(model, X[50:], y[50:], n_errors=50)
    decision = model.decision_function(X[50:])
    true = decision[np.arange(50), y[50:]]
    wrong = np.flatnonzero(model.predict(X[50:]) != y[50:])
    others = decision.copy()
    others[np.arange(50), y[50:]] = -np.inf
    order = wrong[np.argsort(-(others.max(axis=1) - true)[wrong], kind="stable")]
    assert Tables(made.to_html()).cards == [f"X[{row}]" for row in order]
    assert "log loss" not in made.summary()["scores"]


def test_regression_has_its_scores_and_its_errors(digits):
    X, y = digits[0][:80], digits[0][:80].mean(axis=(1, 2)) * 100 + digits[1][:80]
    model = make_pipeline(small_network(), StandardScaler(), Ridge(10.0)).fit(X[:40], y[:40])
    made = quiet(model, X[40:], y[40:])
    guesses = model.predict(X[40:])
    scores = made.summary()["scores"]
    expected = {
        "R2": metrics.r2_score(y[40:], guesses),
        "mean absolute error": metrics.mean_absolute_error(y[40:], guesses),
        "root mean squared error": metrics.root_mean_squared_error(y[40:], guesses),
    }
    assert {name: score["value"] for name, score in scores.items()} == pytest.approx(expected)
    worst = np.argsort(-np.abs(y[40:] - guesses))[:3]
    assert Tables(made.to_html()).cards == [f"X[{row}]" for row in worst]
    assert scores["mean absolute error"]["best_constant"] == pytest.approx(
        np.abs(y[40:] - np.median(y[40:])).mean()
    )


def test_labels_may_be_several_per_row(digits):
    X = digits[0][:200].reshape(200, 64)
    y = np.column_stack([digits[1][:200] % 2, digits[1][:200] > 4]).astype(int)
    made = quiet(KNeighborsClassifier(), X, y, cv=KFold(3))
    guesses = cross_val_predict(KNeighborsClassifier(), X, y, cv=KFold(3))
    scores = made.summary()["scores"]
    assert scores["exact match"]["value"] == metrics.accuracy_score(y, guesses)
    assert scores["macro F1"]["value"] == pytest.approx(
        metrics.f1_score(y, guesses, average="macro")
    )
