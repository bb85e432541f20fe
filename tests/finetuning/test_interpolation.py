"""Weights between a source network and a tuned one."""

import copy
import pickle
from typing import ClassVar

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback

from sktransfer import (
    FineTune,
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedCNNFeatures,
    PretrainedTextFeatures,
    RNNSequenceFeatures,
    interpolate_weights,
    interpolation_scores,
)
from sktransfer.finetuning.averaging import ALPHAS
from sktransfer.persistence import load, save
from tests.helpers.languages import LABELS, TEXTS, write_language
from tests.helpers.networks import TwoStages

HOW = {"unfreeze": "all", "epochs": 2, "batch_size": 32, "learning_rate": 0.01, "guard": False}


class Starts(Callback):
    """Keeps the network at the beginning of each training."""

    networks: ClassVar[list] = []

    def on_train_begin(self, net, **kwargs):
        type(self).networks.append(copy.deepcopy(net.module_))


@pytest.fixture(scope="module")
def some(digits):
    return digits[0][:120], digits[1][:120]


def images_of(**parameters):
    return PretrainedCNNFeatures(
        TwoStages, image_size=16, random_state=0, engine="torch", **parameters
    )


def classifier(**settings):
    return FineTunedClassifier(
        images_of(), strategy=FineTune(**{**HOW, **settings}), random_state=0
    )


@pytest.fixture(scope="module")
def both(some):
    """A tuned network that keeps its source, and the network at its beginning."""
    Starts.networks.clear()
    fitted = classifier(interpolate=1.0, batch_norm="update", callbacks=[Starts()]).fit(*some)
    return fitted, Starts.networks[0]


def scores_by_hand(body_state, head, features, X):
    """Scores of a network with the given weights, computed without its estimator."""
    module = copy.deepcopy(features.module_)
    module.load_state_dict(body_state)
    by_hand = images_of().fit(X)
    by_hand.fitted_ = by_hand._with_module(by_hand.fitted_, module)
    standardised = (by_hand.transform(X).astype(np.float64) - head["mean"]) / head["scale"]
    return standardised @ head["weight"].T + head["bias"]


def test_one_is_the_tuned_network_and_zero_the_source_with_its_first_head(both, some):
    fitted, start = both
    X = some[0]
    plain = classifier(batch_norm="update").fit(*some)
    assert fitted.interpolate_ == 1
    assert_array_equal(fitted.predict_proba(X), plain.predict_proba(X))
    source = interpolate_weights(fitted, 0)
    assert_array_equal(source.features_.transform(X), images_of().fit_transform(X))
    state = source.features_.module_.state_dict()
    for name, tensor in images_of().fit(X).module_.state_dict().items():
        assert_array_equal(state[name], tensor)
    assert_array_equal(source._head["weight"], start.head.weight.detach())
    assert_array_equal(source._head["bias"], start.head.bias.detach())
    # There and back again.
    assert_array_equal(interpolate_weights(source, 1).predict_proba(X), plain.predict_proba(X))


@pytest.mark.parametrize("alpha", [0.3, 0.5])
def test_between_body_and_head_are_the_weighted_mean(alpha, both, some):
    fitted, start = both
    X = some[0]
    tuned, source = fitted.features_.module_.state_dict(), start.body.module.state_dict()
    mean = {
        name: (1 - alpha) * source[name] + alpha * tensor if tensor.is_floating_point() else tensor
        for name, tensor in tuned.items()
    }
    first = {name: tensor.numpy() for name, tensor in start.head.state_dict().items()}
    head = {name: (1 - alpha) * first[name] + alpha * fitted._head[name] for name in first}
    between = interpolate_weights(fitted, alpha)
    expected = scores_by_hand(mean, head, fitted.features_, X)
    assert_allclose(between.decision_function(X), expected, atol=1e-4)
    assert_allclose(between.predict_proba(X), softmax(expected, axis=1), atol=1e-4)
    # The same comes out of a fit with that value, and of the net.
    again = classifier(interpolate=alpha, batch_norm="update").fit(*some)
    assert_array_equal(again.predict_proba(X), between.predict_proba(X))
    assert again.interpolate_ == between.interpolate_ == alpha
    assert between.strategy.interpolate == between.features_.strategy.interpolate == alpha
    assert fitted.strategy.interpolate == 1
    assert fitted.interpolate_ == 1
    assert_allclose(between.net_.module_.head.weight.numpy(), head["weight"], atol=1e-6)


def test_auto_takes_the_point_of_least_loss_on_rows_held_out(some):
    X, y = some
    fitted = classifier(interpolate="auto", early_stopping=True, validation_fraction=0.2).fit(X, y)
    rows = fitted.net_.train_split.keywords["valid_ds"].rows
    losses = {
        alpha: log_loss(
            y[rows],
            interpolate_weights(fitted, alpha).predict_proba(X[rows]),
            labels=fitted.classes_,
        )
        for alpha in ALPHAS
    }
    assert len(rows) == 24
    assert fitted.interpolate_ == min(losses, key=losses.get)
    assert 0 < fitted.interpolate_ < 1


def test_auto_is_half_way_without_rows_held_out(some):
    fitted = classifier(interpolate="auto", early_stopping=False).fit(*some)
    assert fitted.interpolate_ == 0.5


@pytest.mark.filterwarnings("ignore:fine-tuning made the network worse")
def test_auto_takes_the_point_of_least_loss_that_the_guard_sees(some):
    how = {"guard": True, "early_stopping": False, "unfreeze": "head"}
    auto = classifier(interpolate="auto", **how).fit(*some)
    losses = {
        alpha: classifier(interpolate=alpha, **how).fit(*some).history_[-1]["tuned_loss"]
        for alpha in (0.0, 0.5, 1.0, auto.interpolate_)
    }
    assert_allclose(auto.history_[-1]["tuned_loss"], losses[auto.interpolate_], rtol=1e-6)
    assert losses[auto.interpolate_] <= min(losses.values()) + 1e-9


def test_a_temperature_divides_the_scores_of_both_ends(some):
    X = some[0]
    how = {"guard": True, "early_stopping": False, "epochs": 8}
    plain, kept = (classifier(interpolate=alpha, **how).fit(*some) for alpha in (None, 1.0))
    bare = classifier(interpolate=1.0, epochs=8).fit(*some)
    assert_array_equal(kept.predict_proba(X), plain.predict_proba(X))
    temperature = kept.history_[-1]["temperature"]
    assert temperature != 1
    for alpha in (0, 0.5, 1):
        divided, whole = interpolate_weights(kept, alpha), interpolate_weights(bare, alpha)
        assert_allclose(
            divided.decision_function(X) * temperature, whole.decision_function(X), atol=1e-3
        )


def test_what_was_given_back_as_frozen_has_nothing_between(some):
    X, y = some
    harmful = classifier(interpolate=0.5, guard=True, early_stopping=False, learning_rate=3.0)
    with pytest.warns(UserWarning, match="made the network worse"):
        harmful.fit(X, y)
    assert harmful.interpolate_ == 1
    assert_array_equal(interpolate_weights(harmful, 0.3).predict_proba(X), harmful.predict_proba(X))


def test_a_regressor_goes_from_the_ridge_of_the_source_to_the_tuned_one(some):
    X, y = some[0], some[1] * 3.0 + 100
    fitted, plain = (
        FineTunedRegressor(
            images_of(), strategy=FineTune(interpolate=alpha, **HOW), random_state=0
        ).fit(X, y)
        for alpha in (0.0, None)
    )
    assert_array_equal(fitted.features_.transform(X), images_of().fit_transform(X))
    assert_array_equal(interpolate_weights(fitted, 1).predict(X), plain.predict(X))


def test_sequences_and_texts_are_interpolated_as_well(tmp_path):
    series = np.random.RandomState(0).normal(size=(40, 25)).cumsum(axis=1)
    texts = str(write_language(tmp_path / "bert"))
    for features, X, y in (
        (RNNSequenceFeatures(views="z", random_state=0), series, series[:, -1] > 0),
        (PretrainedTextFeatures(texts, engine="torch"), TEXTS, LABELS),
    ):
        strategy = FineTune("all", epochs=2, interpolate=1.0, batch_size=4, guard=False)
        fitted, plain = (
            FineTunedClassifier(
                features, strategy=clone(strategy).set_params(interpolate=alpha), random_state=0
            ).fit(X, y)
            for alpha in (0.25, None)
        )
        source = interpolate_weights(fitted, 0)
        assert_array_equal(source.features_.transform(X), clone(features).fit(X).transform(X))
        tuned = interpolate_weights(fitted, 1)
        assert_array_equal(tuned.predict_proba(X), plain.predict_proba(X))
        save(fitted, tmp_path / type(features).__name__)
        again = load(tmp_path / type(features).__name__)
        assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
        assert_array_equal(interpolate_weights(again, 1).predict_proba(X), plain.predict_proba(X))


def test_a_transformer_is_interpolated_like_the_network_of_a_classifier(both, some):
    features = images_of(strategy=FineTune(interpolate=1.0, batch_norm="update", **HOW))
    features.set_params(strategy__random_state=0).fit(*some)
    between = interpolate_weights(features, 0.5)
    assert (between.interpolate_, features.interpolate_) == (0.5, 1.0)
    fit_there = clone(features).set_params(strategy__interpolate=0.5).fit(*some)
    assert_array_equal(between.transform(some[0]), fit_there.transform(some[0]))
    assert between.weights_sha256_ == fit_there.weights_sha256_ != features.weights_sha256_


def test_files_hold_both_ends(both, some, tmp_path):
    X = some[0]
    between = interpolate_weights(both[0], 0.5)
    again = pickle.loads(pickle.dumps(between))
    assert again.interpolate_ == 0.5
    assert_array_equal(again.predict_proba(X), between.predict_proba(X))
    for alpha in (0, 1):
        assert_array_equal(
            interpolate_weights(again, alpha).predict_proba(X),
            interpolate_weights(both[0], alpha).predict_proba(X),
        )
    named = FineTunedClassifier(
        PretrainedCNNFeatures(layer="blocks.1", image_size=32),
        strategy=FineTune(1, epochs=1, interpolate=0.5, guard=False),
        random_state=0,
    ).fit(X, some[1])
    named.save(tmp_path / "saved")
    loaded = FineTunedClassifier.load(tmp_path / "saved")
    assert_array_equal(loaded.predict_proba(X), named.predict_proba(X))
    assert_array_equal(
        interpolate_weights(loaded, 1).predict_proba(X),
        interpolate_weights(named, 1).predict_proba(X),
    )


@pytest.mark.parametrize("average", [None, "ema"])
def test_going_on_trains_the_tuned_end_and_interpolates_again(average, some):
    X, y = some
    between = classifier(interpolate=0.5, average=average).fit(X, y)
    tuned = classifier(interpolate=1.0, average=average).fit(X, y)
    source = interpolate_weights(between, 0).predict_proba(X)
    for _ in range(2):
        between.partial_fit(X, y)
        tuned.partial_fit(X, y)
    assert_array_equal(interpolate_weights(between, 1).predict_proba(X), tuned.predict_proba(X))
    assert_array_equal(interpolate_weights(tuned, 0.5).predict_proba(X), between.predict_proba(X))
    assert_array_equal(interpolate_weights(tuned, 0).predict_proba(X), source)
    # The same after unpickling, where the optimizer is a new one.
    pickled = [pickle.loads(pickle.dumps(fitted)) for fitted in (between, tuned)]
    for fitted in pickled:
        fitted.partial_fit(X, y)
    assert_array_equal(
        interpolate_weights(pickled[1], 0.5).predict_proba(X), pickled[0].predict_proba(X)
    )


def test_going_on_that_fails_leaves_the_point_between(some, monkeypatch):
    X, y = some
    between = classifier(interpolate=0.5).fit(X, y)
    before = between.predict_proba(X)
    monkeypatch.setattr(
        "sktransfer.finetuning.continuing.ends_between", lambda *args: 1 / 0, raising=True
    )
    with pytest.raises(ZeroDivisionError):
        between.partial_fit(X, y)
    assert_array_equal(between.predict_proba(X), before)
    assert between.interpolate_ == 0.5


def test_a_warm_start_takes_the_point_between(some):
    X, y = some
    between = classifier(interpolate=0.5).fit(X, y)
    Starts.networks.clear()
    again = classifier(callbacks=[Starts()])
    again.set_params(start_from=between).fit(X, y)
    state = between.features_.module_.state_dict()
    for name, tensor in Starts.networks[0].body.module.state_dict().items():
        assert_array_equal(tensor, state[name])


def test_several_points_are_judged_by_one_training_a_fold(some):
    X, y = some
    Starts.networks.clear()
    estimator = classifier(interpolate=1.0, callbacks=[Starts()])
    scoring = interpolation_scores((0, 0.5, 1), "neg_log_loss")
    found = cross_validate(estimator, X, y, cv=2, scoring=scoring)
    assert len(Starts.networks) == 2
    # The same scores as those of a search, which trains for every point.
    grid = {"strategy__interpolate": [0.0, 0.5, 1.0]}
    search = GridSearchCV(estimator, grid, cv=2, scoring="neg_log_loss", refit=False).fit(X, y)
    for number, alpha in enumerate(("0", "0.5", "1")):
        for fold in range(2):
            expected = search.cv_results_[f"split{fold}_test_score"][number]
            assert_allclose(found[f"test_alpha={alpha}"][fold], expected, rtol=1e-6)
    pickle.loads(pickle.dumps(scoring))


@pytest.mark.parametrize("interpolate", ["half", True, 1.5, -0.1, np.nan, [0.5]])
def test_another_value_is_an_error(interpolate, some):
    with pytest.raises(ValueError, match=r"interpolate must be .* None or 'auto' got"):
        classifier(interpolate=interpolate).fit(*some)


def test_what_holds_no_ends_is_an_error(both, some):
    for other in (
        FineTunedClassifier(images_of(), strategy="frozen").fit(*some),
        classifier(),
        make_pipeline(FunctionTransformer(), both[0]),
    ):
        with pytest.raises(ValueError, match=r"set interpolate=1.0 and fit it"):
            interpolate_weights(other, 0.5)
    with pytest.raises(ValueError, match=r"alpha must be a number from 0"):
        interpolate_weights(both[0], 2)
    assert not hasattr(classifier().fit(*some), "interpolate_")


def test_going_on_with_another_point_is_an_error(some):
    fitted = classifier(interpolate=0.5).fit(*some)
    fitted.strategy.interpolate = 1.0
    with pytest.raises(ValueError, match=r"interpolate was 0.5 and is 1.0 now"):
        fitted.partial_fit(*some)
