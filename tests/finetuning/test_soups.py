"""Means of the weights of a search's candidates."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sktransfer import (
    FineTune,
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedCNNFeatures,
    RNNSequenceFeatures,
    interpolate_weights,
    soup,
)
from tests.helpers.networks import TwoStages

pytestmark = pytest.mark.slow

HOW = {"epochs": 2, "batch_size": 32, "early_stopping": False, "guard": False}
RATES = [0.01, 0.003]


@pytest.fixture(scope="module")
def some(digits):
    return digits[0][:120], digits[1][:120]


def classifier(unfreeze="all", **settings):
    features = PretrainedCNNFeatures(TwoStages, image_size=16, random_state=0, engine="torch")
    return FineTunedClassifier(
        features, strategy=FineTune(unfreeze, **{**HOW, **settings}), random_state=0
    )


def searched(estimator, grid, X, y, **how):
    return GridSearchCV(estimator, grid, cv=2, refit=False, error_score="raise", **how).fit(X, y)


def parts(X, y, seed=0, fraction=0.2):
    seed = int(np.random.RandomState(seed).randint(2**31 - 1))
    return train_test_split(X, y, test_size=fraction, stratify=y, random_state=seed)


def always(estimator, X, y):
    return 1.0


def state_of(estimator):
    return {name: t.numpy() for name, t in estimator.features_.module_.state_dict().items()}


@pytest.fixture(scope="module")
def search(some):
    return searched(classifier(), {"strategy__learning_rate": RATES}, *some)


def test_a_soup_of_one_candidate_is_that_candidate(search, some):
    X, held_out, y, _ = parts(*some)
    mixed = soup(search, *some, n_candidates=1, random_state=0)
    params = mixed.ingredients_[0]["params"]
    alone = classifier().set_params(**params).fit(X, y)
    assert_array_equal(mixed.predict_proba(held_out), alone.predict_proba(held_out))
    assert [each["used"] for each in mixed.ingredients_] == [True]


def test_a_soup_has_the_mean_weights_of_its_ingredients(search, some):
    X, held_out, y, _ = parts(*some)
    # Whatever the score is, it does not fall: all candidates are ingredients.
    mixed = soup(search, *some, scoring=always, random_state=0)
    assert [each["used"] for each in mixed.ingredients_] == [True, True]
    # The probe as the first head is the same for both, as they see the same rows.
    fits = [classifier(learning_rate=rate).fit(X, y) for rate in RATES]
    states = [state_of(fitted) for fitted in fits]
    for name, tensor in state_of(mixed).items():
        if tensor.dtype.kind == "f":
            assert_allclose(tensor, (states[0][name] + states[1][name]) / 2, atol=1e-6)
    mean = np.mean([fitted._head["weight"] for fitted in fits], axis=0)
    assert_allclose(mixed._head["weight"], mean, atol=1e-6)
    # Predictions are those of these weights.
    features = mixed.features_.transform(held_out)
    scores = (features - mixed._head["mean"]) / mixed._head["scale"] @ mean.T + mixed._head["bias"]
    assert_allclose(mixed.decision_function(held_out), scores, atol=1e-3)


def test_a_candidate_that_does_harm_is_left_out(some):
    X, y = some
    found = searched(classifier(), {"strategy__learning_rate": [0.003, 1.0]}, X, y)
    mixed = soup(found, X, y, scoring="neg_log_loss", random_state=0)
    alone = soup(found, X, y, scoring="neg_log_loss", n_candidates=1, random_state=0)
    assert [each["used"] for each in mixed.ingredients_] == [True, False]
    assert mixed.ingredients_[1]["score"] < mixed.ingredients_[0]["score"]
    assert_array_equal(mixed.predict_proba(X), alone.predict_proba(X))


def test_only_networks_of_one_kind_are_mixed(some):
    grid = {
        "strategy": ["frozen", FineTune(1, **HOW), FineTune("all", **HOW)],
        "features__resize": ["squash", "crop"],
    }
    mixed = soup(searched(classifier(), grid, *some), *some, scoring=always, random_state=0)
    used = [each["params"]["features__resize"] for each in mixed.ingredients_ if each["used"]]
    assert len(used) == 2
    assert len(set(used)) == 1
    reasons = [each["why"] for each in mixed.ingredients_ if not each["used"]]
    assert sorted(set(reasons)) == [
        "it has other features than the first ingredient",
        "it tunes no network",
    ]
    # What any of them trained was trained.
    whole = classifier().fit(*some)
    assert mixed.trained_parameters_ == whole.trained_parameters_
    assert mixed.n_trained_parameters_ == whole.n_trained_parameters_


def test_a_soup_is_an_estimator_like_others(search, some, tmp_path):
    X, y = some
    mixed = soup(search, X, y, scoring=always, random_state=0)
    again = pickle.loads(pickle.dumps(mixed))
    assert_array_equal(again.predict_proba(X), mixed.predict_proba(X))
    source = PretrainedCNNFeatures(TwoStages, image_size=16, random_state=0, engine="torch")
    assert_array_equal(
        interpolate_weights(mixed, 0).features_.transform(X), source.fit_transform(X)
    )
    assert_array_equal(interpolate_weights(mixed, 1).predict_proba(X), mixed.predict_proba(X))
    again.partial_fit(X, y)
    assert again.score(X, y) > 0.5
    assert not hasattr(mixed.fit(X, y), "ingredients_")


def test_pipelines_that_end_with_a_network_and_series_are_mixed():
    X = np.random.RandomState(0).normal(size=(40, 25)).cumsum(axis=1)
    y = X[:, -1]
    regressor = FineTunedRegressor(
        RNNSequenceFeatures(views="z"),
        strategy=FineTune("all", epochs=1, guard=False),
        random_state=0,
    )
    pipeline = make_pipeline(FunctionTransformer(np.negative), regressor)
    grid = {"finetunedregressor__strategy__learning_rate": [1e-3, 1e-4]}
    mixed = soup(searched(pipeline, grid, X, y), X, y, scoring=always, random_state=0)
    assert list(mixed.named_steps) == ["functiontransformer", "finetunedregressor"]
    assert len(mixed[-1].ingredients_) == 2
    assert mixed.predict(X).shape == (40,)


def test_what_cannot_be_mixed_is_an_error(search, some):
    frozen = searched(classifier(), {"strategy": ["frozen"]}, *some)
    with pytest.raises(ValueError, match="a candidate that tunes a network"):
        soup(frozen, *some)
    other = searched(
        make_pipeline(FunctionTransformer()), {"functiontransformer": [None]}, *some, scoring=always
    )
    with pytest.raises(ValueError, match="soup needs a search of a FineTunedClassifier"):
        soup(other, *some)
    several = searched(
        classifier("head"), {"strategy__epochs": [1]}, *some, scoring=["accuracy", "neg_log_loss"]
    )
    with pytest.raises(ValueError, match=r"refit=False names none of them; pass scoring="):
        soup(several, *some)
    with pytest.raises(ValueError, match="validation_fraction == 1.5, must be < 1"):
        soup(search, *some, validation_fraction=1.5)
