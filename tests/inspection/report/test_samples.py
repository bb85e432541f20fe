"""Reports on series, texts, unions and tables."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import RNNSequenceFeatures
from tests.helpers.reports import SCRIPT, quiet, small_network

pytestmark = pytest.mark.slow


def test_series_are_drawn_and_unreadable_ones_left_out():
    random = np.random.RandomState(0)
    X = [random.normal(size=(30 + i % 5, 2)) for i in range(40)]
    y = np.repeat(["flat", "steep"], 20)
    for series in X[20:]:
        series += np.linspace(0, 2, len(series))[:, None]
    X[3] = X[3].copy()
    X[3][4, 1] = np.inf
    X[5] = X[5][:, :1]
    network = RNNSequenceFeatures("gru", weights="random", hidden_size=8, random_state=0)
    made = quiet(
        make_pipeline(network, StandardScaler(), LogisticRegression()), X, y, cv=2, sections=None
    )
    failed = {each["row"]: each["error"] for each in made.summary()["failed"]}
    assert failed.keys() == {3, 5}
    assert "at time step 4, channel 1" in failed[3]
    assert failed[5] == "it has 1 channels, and most rows have 2"
    assert "<polyline" in made.to_html()
    assert "drawn at random" in made.to_html()
    assert made.summary()["sections_failed"] == []


def test_texts_are_quoted_and_empty_ones_left_out():
    X = [f"the {SCRIPT} number {i}" if i % 2 else f"a letter {i}" for i in range(40)] + [""]
    y = np.append(np.tile([0, 1], 20), 0)
    y[:4] = 1 - y[:4]  # so that there are errors to quote
    network = RNNSequenceFeatures("gru", hidden_size=8, random_state=0)
    made = quiet(
        make_pipeline(network, StandardScaler(), LogisticRegression()),
        pd.Series(X),
        y,
        cv=2,
        target_names=["letters", SCRIPT],
    )
    assert [each["row"] for each in made.summary()["failed"]] == [40]
    page = made.to_html()
    assert SCRIPT not in page
    assert "the &lt;script&gt;alert(1)&lt;/script&gt; number" in page


def test_unions_and_columns_and_tables_are_taken(digits):
    X, y = digits[0][:60], digits[1][:60] > 4
    union = FeatureUnion([("a", small_network(layer=0)), ("b", small_network(layer=1))])
    made = quiet(make_pipeline(union, StandardScaler(), LogisticRegression()), X, y, cv=2)
    assert len(made.summary()["networks"]) == 2
    assert "ROC AUC" in made.summary()["scores"]
    assert made.summary()["sections_failed"] == []

    table = pd.DataFrame({"image": list(X), "weight": np.arange(60.0), "name": ["a"] * 60})
    columns = ColumnTransformer([("cnn", small_network(), "image"), ("as is", "passthrough", [1])])
    mixed = quiet(
        make_pipeline(columns, StandardScaler(), LogisticRegression()),
        table,
        y,
        cv=2,
        sections=["scores", "errors", "layers", "embedding"],
    )
    assert mixed.summary()["sections_failed"] == []
    assert "stands behind other steps" in mixed.to_html()

    plain = quiet(LogisticRegression(), X.reshape(60, 64), y, cv=2)
    assert plain.summary()["networks"] == []
    assert "There is no pretrained network." in plain.to_html()
