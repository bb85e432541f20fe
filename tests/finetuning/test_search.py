"""Searching over strategies, and the table of what was found."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV
from sklearn.pipeline import make_pipeline

from sktransfer import (
    FeatureStore,
    FineTune,
    FineTunedClassifier,
    PretrainedCNNFeatures,
    count_trained_parameters,
    strategy_table,
)

pytestmark = pytest.mark.slow

STRATEGIES = [
    "frozen",
    FineTune("head", epochs=2, guard=False),
    FineTune(1, epochs=2, guard=False),
    FineTune("all", epochs=1, guard=False),
    FineTune("all", penalty="l2-sp", epochs=1, guard=False),
]


def classifier(**parameters):
    features = PretrainedCNNFeatures(engine="torch", layer="blocks.2", image_size=32, **parameters)
    return FineTunedClassifier(features, random_state=0)


@pytest.fixture(scope="module")
def some(digits):
    return digits[0][:60], digits[1][:60]


@pytest.fixture(scope="module")
def searched(some):
    return GridSearchCV(
        classifier(),
        {"strategy": STRATEGIES, "features__layer": ["blocks.1", "blocks.2"]},
        scoring={"accuracy": "accuracy", "trained": count_trained_parameters},
        refit="accuracy",
        cv=2,
        error_score="raise",
    ).fit(*some)


def test_one_search_spans_strategies_and_layers_and_its_table_tells_all(searched):
    head, *lines = strategy_table(searched).splitlines()
    assert head.split() == ["accuracy", "trained", "fit", "s", "score", "s", "parameters"]
    assert len(lines) == 10
    scores = [float(line.split()[0]) for line in lines]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(searched.best_score_, abs=1e-4)
    assert repr(searched.best_params_["features__layer"]) in lines[0]
    assert len({line.index("features__layer") for line in lines}) == 1


def test_trained_parameters_are_counted_by_hand(searched):
    found = searched.cv_results_
    counts = {
        (p["features__layer"], repr(p["strategy"])): int(n)
        for p, n in zip(found["params"], found["mean_test_trained"], strict=True)
    }
    module = searched.best_estimator_.features_.module_

    def size(*names):
        return sum(p.numel() for n in names for p in module.get_submodule(n).parameters())

    head = 10 * 40 + 10
    assert counts["blocks.2", repr("frozen")] == counts["blocks.2", repr(STRATEGIES[1])] == head
    assert counts["blocks.2", repr(STRATEGIES[2])] == head + size("blocks.2")
    every = size("conv_stem", "bn1", "blocks.0", "blocks.1", "blocks.2")
    assert counts["blocks.2", repr(STRATEGIES[3])] == head + every
    assert counts["blocks.1", repr(STRATEGIES[2])] == 10 * 24 + 10 + size("blocks.1")


def test_count_of_a_pipeline_is_that_of_its_steps(some):
    features = PretrainedCNNFeatures(
        engine="torch",
        layer="blocks.1",
        image_size=32,
        strategy=FineTune("head", epochs=1, guard=False),
    )
    pipeline = make_pipeline(features, LogisticRegression(max_iter=5000)).fit(*some)
    assert count_trained_parameters(pipeline) == 250
    with pytest.raises(ValueError, match="count_trained_parameters needs a fitted"):
        count_trained_parameters(make_pipeline(LogisticRegression()))


def test_halving_over_epochs_gives_the_best_ever_more_of_them(some):
    search = HalvingGridSearchCV(
        classifier().set_params(strategy=FineTune()),
        {"strategy__unfreeze": ["head", 1], "strategy__learning_rate": [1e-3, 1e-4]},
        resource="strategy__epochs",
        min_resources=1,
        max_resources=4,
        factor=2,
        cv=2,
        random_state=0,
        error_score="raise",
    ).fit(*some)
    assert search.n_resources_ == [1, 2, 4]
    assert len(search.best_estimator_.history_) == 4
    head, *lines = strategy_table(search).splitlines()
    assert "strategy__epochs" in head
    assert ["strategy__epochs=4" in line for line in lines].index(False) == 1


def test_folds_and_strategies_share_the_activations_in_a_store(some, tmp_path):
    X, y = some
    store = FeatureStore(tmp_path)
    first = (
        classifier(cache=store).set_params(strategy=FineTune(1, epochs=1, guard=False)).fit(X, y)
    )
    assert first.features_.n_forward_ == len(X)
    for strategy, rows in [
        (FineTune(1, epochs=1, learning_rate=1e-4, guard=False), slice(0, 40)),
        (FineTune(1, epochs=1, penalty="l2-sp", guard=False), slice(20, 60)),
    ]:
        again = classifier(cache=store).set_params(strategy=strategy).fit(X[rows], y[rows])
        assert again.features_.n_forward_ == 0
    stored = (
        classifier(cache=store).set_params(strategy=FineTune(1, epochs=1, guard=False)).fit(X, y)
    )
    plain = classifier().set_params(strategy=FineTune(1, epochs=1, guard=False)).fit(X, y)
    assert_array_equal(stored.predict(X), plain.predict(X))


def test_a_search_in_several_processes_finds_the_same(some, searched, tmp_path):
    grid = {"strategy": STRATEGIES[:3], "features__layer": ["blocks.2"]}
    found = GridSearchCV(
        classifier(cache=tmp_path), grid, cv=2, n_jobs=2, error_score="raise"
    ).fit(*some)  # fmt: skip
    alone = {
        repr(p["strategy"]): score
        for p, score in zip(
            searched.cv_results_["params"], searched.cv_results_["mean_test_accuracy"], strict=True
        )
        if p["features__layer"] == "blocks.2"
    }
    scores = [alone[repr(p["strategy"])] for p in found.cv_results_["params"]]
    np.testing.assert_allclose(found.cv_results_["mean_test_score"], scores, atol=0.03)


def test_a_table_of_what_was_not_fitted_is_an_error():
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        strategy_table(GridSearchCV(classifier(), {}))
