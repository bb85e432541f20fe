"""The report on searches, layers and tuning, against the same by hand."""

import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import FineTune, FineTunedClassifier
from tests.helpers.reports import Tables, quiet, small_network, small_pipeline

pytestmark = pytest.mark.slow


def test_candidates_of_the_search_come_with_their_scores(tables, search):
    header, best, other = tables.table("Mean and deviation over splits")
    assert header[1:3] == ["score", "pretrainedcnnfeatures__layer"]
    assert best[2] == repr(search.best_params_["pretrainedcnnfeatures__layer"])
    scores = sorted(search.cv_results_["mean_test_score"], reverse=True)
    assert [float(row[1].split()[0]) for row in (best, other)] == pytest.approx(scores, abs=5e-4)


def test_the_best_layer_by_probe_is_that_of_cross_validation_by_hand(digits):
    X, y = digits[0][:80], digits[1][:80]
    folds = [*KFold(4).split(X)]
    tables = Tables(quiet(small_pipeline(), X, y, cv=folds, sections=["layers"]).to_html())
    rows = tables.table("Layers, shallow to deep")[1:]
    for layer, score, _ in rows:
        head = make_pipeline(
            small_network(layer=layer), StandardScaler(), LogisticRegression(max_iter=2000)
        )
        expected = cross_val_predict(head, X, y, cv=folds)
        assert float(score.split()[0]) == pytest.approx((expected == y).mean(), abs=6e-4)
    assert len(rows) > 1


def test_whole_numbers_of_a_regression_are_probed_as_numbers(digits):
    model = make_pipeline(small_network(), StandardScaler(), Ridge())
    made = quiet(model, digits[0][:60], digits[1][:60], cv=2, sections=["layers"])
    assert Tables(made.to_html()).table("Layers, shallow")[0][1] == "r2"


def test_fine_tuned_estimators_show_how_the_training_went(digits):
    X, y = digits[0][:60], digits[1][:60] > 4
    strategy = FineTune(1, epochs=2)
    model = FineTunedClassifier(small_network(), strategy=strategy, random_state=0)
    made = quiet(model, X, y, cv=KFold(2), sections=["scores", "tuning", "embedding", "limits"])
    expected = cross_val_predict(model, X, y, cv=KFold(2))
    assert made.summary()["scores"]["accuracy"]["value"] == (expected == y).mean()
    page = made.to_html()
    assert 'id="tuning"' in page
    assert "tuned on these very rows" in page
    assert "How much of the result is owed to tuning" in page
    assert made.summary()["sections_failed"] == []
