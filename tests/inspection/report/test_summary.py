"""The report in short."""

import html

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import PretrainedCNNFeatures
from tests.helpers.reports import in_short, quiet, small_network, small_pipeline

pytestmark = pytest.mark.slow


def test_layers_worse_than_a_constant_are_not_recommended(digits):
    y = np.random.RandomState(0).normal(size=40)
    model = make_pipeline(small_network(), StandardScaler(), Ridge())
    made = quiet(model, digits[0][:40], y, cv=2, sections=["scores", "layers"])
    assert "No layer beats the constant prediction (r2 0.000) in a linear probe" in in_short(made)
    assert "as well" not in in_short(made)
    assert "ridge regression of each layer's features as they are" in html.unescape(made.to_html())


def test_a_model_far_worse_than_the_probe_of_its_layer_is_called_so(digits):
    X, y = digits[0][:120], digits[1][:120] % 2
    wrong = small_pipeline().fit(X[:60], 1 - y[:60])
    made = quiet(wrong, X[60:], y[60:], sections=["scores", "layers"])
    assert "far less than a linear model on that layer" in in_short(made)
    assert "logistic regression of each layer's standardised" in html.unescape(made.to_html())
    sound = quiet(small_pipeline(), X, y, cv=2, sections=["scores", "layers"])
    assert "far less" not in in_short(sound)


def test_classes_that_the_model_has_never_seen_are_told(digits):
    X, y = digits
    seen = np.flatnonzero(y < 8)[:80]
    made = quiet(small_pipeline().fit(X[seen], y[seen]), X[200:300], y[200:300])
    n = int((y[200:300] >= 8).sum())
    text = f"{n} rows are of 2 classes that the model has never seen (8, 9), and cannot be right"
    assert text in in_short(made)
    assert made.summary()["unseen_classes"] == ["8", "9"]
    assert "never seen" not in in_short(quiet(small_pipeline(), X[:60], y[:60], cv=2))


def test_rows_without_a_target_are_told(digits):
    y = digits[1][:40].astype(float)
    y[:3] = np.nan
    model = make_pipeline(small_network(), StandardScaler(), Ridge())
    made = quiet(model, digits[0][:40], y, cv=2)
    assert "3 rows of X have no target and are not scored." in in_short(made)
    assert made.summary()["without_label"] == 3


def test_a_scaler_that_divides_by_next_to_nothing_is_told(digits):
    X, y = digits[0][:140], digits[1][:140].astype(float)
    features = PretrainedCNNFeatures(engine="torch", image_size=32)  # the last layer: mostly zero
    model = make_pipeline(features, StandardScaler(), Ridge()).fit(X[:40], y[:40])
    made = quiet(model, X[40:], y[40:], sections=["scores"])
    assert "Standardscaler divides" in in_short(made)
    assert "by next to nothing" in in_short(made)
    plain = make_pipeline(features, Ridge()).fit(X[:40], y[:40])
    assert "next to nothing" not in in_short(quiet(plain, X[40:], y[40:], sections=["scores"]))
