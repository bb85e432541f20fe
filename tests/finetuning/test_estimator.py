"""FineTunedClassifier and FineTunedRegressor: what a user of scikit-learn expects of them."""

import copy
import functools
import io
import pickle

import joblib
import numpy as np
import pytest
import sklearn
import skops.io
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator_repr, check_no_attributes_set_in_init
from skorch import NeuralNet
from skorch.callbacks import Callback

from sktransfer import (
    FineTune,
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedCNNFeatures,
    RNNSequenceFeatures,
)
from tests.helpers.fresh import in_another_process
from tests.helpers.networks import SmallCNN, TwoStages, slow_sgd

FEW = FineTune("all", epochs=2, batch_size=32, guard=False)


def images_of(**parameters):
    how = {"image_size": 16, "random_state": 0, "engine": "torch", **parameters}
    return PretrainedCNNFeatures(TwoStages, **how)


def classifier(strategy=FEW, **parameters):
    return FineTunedClassifier(images_of(), strategy=strategy, random_state=0, **parameters)


def regressor(strategy=FEW, **parameters):
    return FineTunedRegressor(images_of(), strategy=strategy, random_state=0, **parameters)


@pytest.fixture(scope="module")
def two(digits):
    """Zeros and ones."""
    rows = np.flatnonzero(digits[1] < 2)[:80]
    return digits[0][rows], digits[1][rows]


@pytest.fixture(scope="module")
def some(digits):
    return digits[0][:160], digits[1][:160]


# --- labels -----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[FEW, "frozen"], ids=str)
def plain(request, two):
    """Fitted to labels 0 and 1."""
    return classifier(request.param).fit(*two)


@pytest.mark.slow
@pytest.mark.parametrize(
    "labels", [["no", "yes"], [-1, 1], [3, 7], [False, True], [0.0, 1.0]], ids=str
)
def test_labels_of_any_kind_come_back_and_change_nothing(labels, plain, two):
    X, y = two
    named = classifier(plain.strategy).fit(X, np.array(labels)[y])
    assert_array_equal(named.classes_, labels)
    assert_array_equal(named.predict(X), np.array(labels)[plain.predict(X)])
    assert_array_equal(named.predict_proba(X), plain.predict_proba(X))
    assert named.decision_function(X).shape == (len(X),)
    assert named.score(X, np.array(labels)[y]) > 0.9


@pytest.mark.slow
def test_a_list_and_a_series_of_labels_are_taken(two):
    pd = pytest.importorskip("pandas")
    X, y = two
    names = np.array(["zero", "one"])[y]
    for given in (names.tolist(), pd.Series(names), pd.Series(names, dtype="category")):
        assert set(classifier().fit(X, given).predict(X)) == {"zero", "one"}


@pytest.mark.parametrize("strategy", [FEW, "frozen"])
def test_a_single_class_is_an_error(strategy, two):
    with pytest.raises(ValueError, match="at least 2 classes"):
        classifier(strategy).fit(two[0], np.zeros(len(two[0])))


@pytest.mark.parametrize("make", [classifier, regressor])
def test_targets_that_are_missing_or_too_few_are_errors(make, two):
    X, y = two
    gap = y.astype(float)
    gap[4] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        make().fit(X, gap)
    with pytest.raises(ValueError, match="y has 79 rows and X has 80"):
        make().fit(X, y[:-1])
    with pytest.raises(ValueError, match="requires y"):
        make().fit(X, None)


@pytest.mark.slow
def test_a_class_that_a_fold_lacks_has_no_column_in_it(digits):
    X, y = digits[0][:100], digits[1][:100].copy()
    y[0] = 77  # a single one, which all folds but one learn without
    with pytest.warns(UserWarning, match="least populated class"):
        scores = cross_val_score(classifier(), X, y, cv=2, error_score="raise")
    assert np.isfinite(scores).all()
    without = classifier().fit(X[50:], y[50:])
    assert 77 not in without.classes_
    assert without.predict_proba(X).shape == (100, 10)


@pytest.mark.slow
def test_several_labels_at_once(digits):
    X, y = digits[0][:200], digits[1][:200]
    labels = np.stack([y % 2, y > 4, y == 0], axis=1).astype(int)
    fitted = classifier(FineTune("all", epochs=6, guard=False)).fit(X, labels)
    probability = fitted.predict_proba(X)
    assert probability.shape == (200, 3)
    assert_array_equal(fitted.predict(X), probability > 0.5)
    assert ((fitted.predict(X) == labels).mean(axis=0) > 0.8).all()
    assert_allclose(fitted.predict_log_proba(X), np.log(probability))


def test_several_numbers_at_once(some):
    X = some[0]
    targets = np.stack([X.mean((1, 2)), 100 * X[:, :4].mean((1, 2))], axis=1)
    fitted = regressor(FineTune("all", epochs=5, guard=False)).fit(X, targets)
    assert fitted.predict(X).shape == (160, 2)
    assert fitted.score(X, targets) > 0.8


# --- what is fitted ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_frozen_classifier_is_logistic_regression_on_the_features(some):
    fitted = classifier("frozen").fit(*some)
    features = images_of().fit_transform(some[0]).astype(np.float64)
    found = fitted.predict_proba(some[0])
    features -= features.mean(0)
    deviations = features.std(0)
    mean = deviations.mean()
    deviations = np.maximum(deviations, 0.1 * mean)  # as hardly varying features tell little
    mean = deviations.mean()
    off = [
        np.abs(
            found - LogisticRegression(C=C, max_iter=1000).fit(table, some[1]).predict_proba(table)
        )
        for table in (features / deviations, features / np.sqrt(deviations * mean))
        for C in np.logspace(-4, 0, 9)
    ]  # which of them is for the tests of the head
    assert min(each.max() for each in off) < 1e-3
    assert_array_equal(fitted.predict(some[0]), found.argmax(axis=1))
    assert (fitted.history_, fitted.trained_parameters_) == ([], ())
    assert fitted.n_trained_parameters_ == fitted.coef_.size + fitted.intercept_.size
    assert not hasattr(fitted, "net_")
    assert not hasattr(fitted, "partial_fit")


def test_a_frozen_regressor_is_ridge_regression_on_the_features(some):
    target = some[0].mean(axis=(1, 2))
    fitted = regressor("frozen").fit(some[0], target)
    features = images_of().fit_transform(some[0]).astype(np.float64)
    deviations = np.maximum(features.std(0), 0.1 * features.std(0).mean())
    tables = [
        (features - features.mean(0)) / (deviations**p * deviations.mean() ** (1 - p))
        for p in (1, 0.5, 0)
    ]
    ridges = [RidgeCV(alphas=np.logspace(-2, 6, 17)).fit(table, target) for table in tables]
    best = int(np.argmax([ridge.best_score_ for ridge in ridges]))
    assert_allclose(fitted.predict(some[0]), ridges[best].predict(tables[best]), atol=1e-3)


def test_predictions_stay_within_half_a_range_of_the_numbers_of_training(some):
    X = some[0].copy()
    targets = np.stack([X.mean((1, 2)), 100 * X[:, :4].mean((1, 2))], axis=1)
    weights = np.r_[np.zeros(10), np.ones(150)]
    targets[:10] += 1e6  # these do not count
    fitted = regressor("frozen").fit(X, targets, sample_weight=weights)
    low, high = targets[10:].min(0), targets[10:].max(0)
    expected = [low - (high - low) / 2, high + (high - low) / 2]
    assert_allclose(fitted.prediction_bounds_, expected, rtol=1e-5)
    within = fitted.predict(X)
    assert_allclose(within, np.clip(within, *fitted.prediction_bounds_))
    fitted.coef_ = 1e6 * fitted.coef_  # around the mean of what is predicted
    fitted.intercept_ = 1e6 * fitted.intercept_ - (1e6 - 1) * within.mean(0)
    for again in (fitted, by_pickle(fitted, None)):
        found = again.predict(X)
        assert_allclose(found.min(0), fitted.prediction_bounds_[0])
        assert_allclose(found.max(0), fitted.prediction_bounds_[1])
    unreadable = FineTunedRegressor(images_of(on_error="nan"), strategy="frozen")
    images = [*X[:40]]
    unreadable.fit(images, targets[10:50, 0])
    with pytest.warns(UserWarning, match="could not be read"):
        assert_array_equal(np.isnan(unreadable.predict([X[0], None, X[1]])), [False, True, False])


def test_bounds_move_apart_with_the_numbers_of_later_rows(some):
    X = some[0][:40]
    y = X.mean((1, 2))
    going = regressor(FineTune("head", batch_size=32)).partial_fit(X, y)
    first = going.prediction_bounds_
    going.partial_fit(X, np.clip(y, *np.quantile(y, [0.4, 0.6])))
    assert_allclose(going.prediction_bounds_, first)
    going.partial_fit(X, np.where(np.arange(40) == 0, 10 * y.max(), y))
    low, high = y.min(), 10 * y.max()
    expected = [[low - (high - low) / 2], [high + (high - low) / 2]]
    assert_allclose(going.prediction_bounds_, expected, rtol=1e-5)


# --- shares of the classes ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def rare(digits):
    """Zeros, ones and a few twos."""
    rows = [np.flatnonzero(digits[1] == label)[:n] for label, n in ((0, 40), (1, 20), (2, 4))]
    return digits[0][np.concatenate(rows)], digits[1][np.concatenate(rows)]


@pytest.mark.parametrize("strategy", ["frozen", FineTune("head", epochs=1, guard=False)], ids=str)
def test_a_prior_changes_probabilities_by_bayes_rule_without_a_new_fit(strategy, rare):
    fitted = classifier(strategy).fit(*rare)
    assert_allclose(fitted.class_prior_, np.array([40, 20, 4]) / 64, rtol=1e-6)
    plain = fitted.predict_proba(rare[0])
    for prior in ("balanced", {2: 0.5, 0: 0.2, 1: 0.3}, [0.2, 0.3, 0.5]):
        fitted.class_prior = prior
        shares = np.ones(3) / 3 if prior == "balanced" else np.array([0.2, 0.3, 0.5])
        expected = plain * shares / fitted.class_prior_
        expected /= expected.sum(axis=1, keepdims=True)
        found = fitted.predict_proba(rare[0])
        assert_allclose(found, expected, rtol=1e-6, atol=1e-12)
        assert_array_equal(fitted.predict(rare[0]), found.argmax(axis=1))
        again = classifier(strategy, class_prior=prior).fit(*rare)
        assert_allclose(again.predict_proba(rare[0]), found, atol=1e-5)
    fitted.class_prior = fitted.class_prior_
    assert_allclose(fitted.predict_proba(rare[0]), plain)


def test_the_prior_of_two_classes_shifts_their_decision_function(two):
    fitted = classifier("frozen").fit(*two)
    before = fitted.decision_function(two[0])
    fitted.class_prior = [0.25, 0.75]
    odds = np.log(3) - np.diff(np.log(fitted.class_prior_))
    assert_allclose(fitted.decision_function(two[0]) - before, np.full(80, odds), rtol=1e-6)


def test_the_prior_of_several_labels_shifts_the_odds_of_each(some):
    labels = np.stack([some[1] < 2, some[1] % 2], axis=1).astype(int)
    fitted = classifier("frozen").fit(some[0], labels)
    before = fitted.decision_function(some[0])
    fitted.class_prior = "balanced"
    share = labels.mean(0)
    found = fitted.decision_function(some[0])
    assert_allclose(found - before, np.tile(-np.log(share / (1 - share)), (160, 1)), rtol=1e-5)


def test_a_prior_that_does_not_fit_the_classes_is_an_error_before_anything_is_learned(rare):
    late = classifier(FineTune("head", epochs=1, guard=False), class_prior={0: 0.5, 1: 0.5})
    with pytest.raises(ValueError, match=r"to each of the classes \[0, 1, 2\], got"):
        late.fit(*rare)
    assert not hasattr(late, "features_")


def test_scores_of_the_adjusted_loss_stand_for_equal_shares(rare):
    strategy = FineTune("head", epochs=30, loss="logit-adjusted", guard=False)
    adjusted = classifier(strategy).fit(*rare)
    before = adjusted.predict_proba(rare[0])
    adjusted.class_prior = "balanced"
    assert_allclose(adjusted.predict_proba(rare[0]), before)
    plain = classifier(clone(strategy).set_params(loss="cross-entropy")).fit(*rare)
    # The rarest class gains, as it does by the correction of a network without the loss.
    assert np.log(before[:, 2]).mean() > np.log(plain.predict_proba(rare[0])[:, 2]).mean() + 0.1


@pytest.mark.slow
def test_the_shares_of_the_adjusted_loss_come_back_from_a_file(rare, tmp_path):
    strategy = FineTune("head", epochs=1, loss="logit-adjusted", guard=False)
    fitted = FineTunedClassifier(SMALL_REAL, strategy=strategy, random_state=0).fit(*rare)
    expected = np.log(fitted.class_prior_)
    for again in (fitted, by_pickle(fitted, tmp_path), by_save(fitted, tmp_path)):
        again.partial_fit(*rare)
        assert_allclose(again.net_.criterion_.task_loss.shift, expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["logit-adjusted", "focal"])
@pytest.mark.parametrize(
    "more", [{"mixup": 0.2}, {"label_smoothing": 0.1}, {"class_weight": "balanced"}], ids=str
)
def test_losses_learn_with_what_else_changes_rows_and_labels(loss, more, rare):
    weights = np.random.RandomState(0).uniform(0.5, 2, len(rare[1]))
    fitted = classifier(FineTune(1, epochs=8, loss=loss, batch_size=16, guard=False, **more))
    assert fitted.fit(*rare, sample_weight=weights).score(*rare) > 0.9


def test_a_network_that_is_given_back_as_frozen_stands_for_the_shares_of_its_loss(rare):
    wild = FineTune("all", epochs=1, learning_rate=10.0, guard=True, loss="logit-adjusted")
    with pytest.warns(UserWarning, match="fine-tuning made the network worse"):
        kept = classifier(wild).fit(*rare)
    frozen = classifier("frozen").fit(*rare)
    inverse = np.sum(kept.coef_ * frozen.coef_) / np.sum(frozen.coef_**2)  # of the temperature
    assert_allclose(kept.coef_, inverse * frozen.coef_, rtol=1e-3, atol=1e-6)
    expected = inverse * frozen.intercept_ - np.log(frozen.class_prior_)
    assert_allclose(kept.intercept_, expected, rtol=1e-3, atol=1e-4)


def test_losses_of_classes_are_refused_for_numbers(some):
    with pytest.raises(ValueError, match="loss='focal' is for classes and labels, and y makes thi"):
        regressor(FineTune("head", loss="focal")).fit(some[0], some[0].mean((1, 2)))


@pytest.mark.slow
def test_scores_are_those_of_the_net_and_of_the_coefficients(some):
    X = some[0]
    fitted = classifier().fit(*some)
    features = fitted.features_.transform(X)
    assert_allclose(fitted.decision_function(X), features @ fitted.coef_.T + fitted.intercept_)
    assert isinstance(fitted.net_, NeuralNet)
    head = fitted.net_.module_.head
    assert_allclose(
        head(head.standardise(_tensor(features))).detach().numpy(),
        fitted.decision_function(X),
        atol=1e-4,
    )
    assert_allclose(fitted.predict_proba(X).sum(axis=1), 1)
    assert_allclose(fitted.predict_log_proba(X), np.log(fitted.predict_proba(X)), atol=1e-9)
    assert [entry["epoch"] for entry in fitted.history_] == [1, 2]
    assert all(entry["dur"] > 0 for entry in fitted.history_)


def _tensor(values):
    import torch

    return torch.from_numpy(values)


@pytest.mark.slow
def test_a_transformer_with_the_same_strategy_reads_the_same_tuned_layer(some):
    X, y = some
    strategy = clone(FEW).set_params(random_state=3)
    transformer = images_of(strategy=strategy).fit(X, y)
    end_to_end = classifier(strategy).fit(X, y)
    assert_array_equal(transformer.transform(X), end_to_end.features_.transform(X))
    frame = images_of(strategy=strategy).set_output(transform="pandas").fit_transform(X, y)
    assert_array_equal(frame.columns, transformer.get_feature_names_out())


def test_the_strategy_has_one_place(some):
    doubled = FineTunedClassifier(images_of(strategy=FEW), strategy=FEW)
    with pytest.raises(ValueError, match="give the strategy to FineTunedClassifier"):
        doubled.fit(*some)
    with pytest.raises(TypeError, match="features must be a transformer that can be tuned"):
        FineTunedClassifier(StandardScaler()).fit(*some)
    with pytest.raises(ValueError, match="strategy must be 'frozen' or a FineTune"):
        classifier("thawed").fit(*some)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"epochs": 0}, "epochs == 0"),
        ({"epochs": 2.5}, "epochs must be an instance of int"),
        ({"learning_rate": 0}, "learning_rate == 0"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"schedule": "linear"}, "schedule must be one of"),
        ({"optimizer": "adam"}, "optimizer must be one of"),
        ({"penalty": "l2"}, "penalty must be one of"),
        ({"penalty": "rkd", "penalty_weight": np.inf}, "penalty_weight may be infinite for"),
        ({"unfreeze": "blocks.*"}, "matches no weight"),
        ({"unfreeze": 7}, "unfreeze must be from 1 to .*got 7"),
        ({"unfreeze": True}, "unfreeze must be"),
        ({"augment": "heavy"}, "augment must be one of"),
        ({"mixup": -1}, "mixup == -1"),
        ({"label_smoothing": 1.0}, "label_smoothing == 1.0"),
        ({"class_weight": "equal"}, "class_weight must be"),
        ({"validation_fraction": 1.0}, "validation_fraction == 1.0"),
        ({"callbacks": "progress"}, "callbacks must be a list"),
        ({"gradual": 0}, "gradual == 0"),
        ({"early_stopping": "yes"}, "early_stopping must be one of"),
        ({"loss": "hinge"}, "loss must be one of .*'cross-entropy', 'logit-adjusted', 'focal'"),
        ({"focal_gamma": -1}, "focal_gamma == -1"),
    ],
    ids=str,
)
def test_a_parameter_out_of_range_is_named_with_its_value(parameters, message, some):
    with pytest.raises((ValueError, TypeError), match=message):
        classifier(FineTune(**{"epochs": 1, **parameters})).fit(*some)


@pytest.mark.parametrize("parameters", [{"sampler": "balanced"}, {"class_weight": "balanced"}])
def test_balancing_numbers_is_an_error(parameters, some):
    with pytest.raises(ValueError, match="is for classification, and y makes this regression"):
        regressor(FineTune(**parameters)).fit(some[0], some[0].mean((1, 2)))


# --- going on ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_partial_fit_goes_on_learning(some):
    X, y = some
    slow = FineTune("all", learning_rate=1e-3, head_init="random")
    going = classifier(slow).partial_fit(X, y, classes=np.arange(11))
    losses = []
    for _ in range(6):
        losses.append(-going.predict_log_proba(X)[np.arange(160), y].mean())
        going.partial_fit(X, y)
    assert (np.diff(losses) < 0).all()
    assert_array_equal(going.classes_, np.arange(11))
    assert len(going.net_.history) == 7
    with pytest.raises(ValueError, match=r"y holds classes \[55\]"):
        going.partial_fit(X[:2], [0, 55])


@pytest.mark.slow
def test_partial_fit_goes_on_after_fit_and_after_unpickling(some):
    X, y = some
    fitted = classifier(FineTune("all", epochs=2, early_stopping=False, guard=False)).fit(X, y)
    for going in (fitted, pickle.loads(pickle.dumps(fitted))):
        before = -going.predict_log_proba(X)[np.arange(160), y].mean()
        for _ in range(3):
            going.partial_fit(X, y)
        assert -going.predict_log_proba(X)[np.arange(160), y].mean() < before


@pytest.mark.slow
def test_partial_fit_of_a_regressor_keeps_the_scale_of_the_first_rows(some):
    X = some[0]
    target = 50 + 10 * X.mean((1, 2))
    going = regressor(FineTune("all", learning_rate=3e-3)).partial_fit(X[:80], target[:80])
    for _ in range(25):
        going.partial_fit(X[80:], target[80:])
    assert going.score(X, target) > 0.5  # on another scale it would be far below zero


@pytest.mark.slow
def test_a_warm_start_begins_with_the_network_and_head_of_another(some):
    X, y = some
    first = classifier(FineTune("all", epochs=15, learning_rate=3e-3, guard=False)).fit(X, y)
    hardly = FineTune("all", epochs=1, learning_rate=1e-9, guard=False)
    for start in (first, FrozenEstimator(first)):
        again = classifier(hardly, start_from=start).fit(X, y)
        assert_allclose(again.predict_proba(X), first.predict_proba(X), atol=1e-4)
    cold = classifier(hardly).fit(X, y)
    assert np.abs(cold.predict_proba(X) - first.predict_proba(X)).max() > 0.05
    # clone() leaves what is in a FrozenEstimator fitted, so that it can be searched with.
    kept = clone(classifier(hardly, start_from=FrozenEstimator(first))).fit(X, y)
    assert_allclose(kept.predict_proba(X), first.predict_proba(X), atol=1e-4)


@pytest.mark.slow
def test_a_warm_start_for_other_classes_takes_the_network_alone(some):
    X, y = some
    first = classifier(FineTune("all", epochs=3, guard=False)).fit(X, y)
    again = classifier("frozen", start_from=first).fit(X, y % 3)
    assert_array_equal(again.features_.transform(X), first.features_.transform(X))
    assert again.predict_proba(X).shape == (160, 3)


def test_a_warm_start_from_something_else_is_an_error(some):
    other = FineTunedClassifier(
        PretrainedCNNFeatures(SmallCNN, image_size=16, random_state=0, engine="torch"),
        strategy="frozen",
    ).fit(*some)
    with pytest.raises(ValueError, match="start_from has another network"):
        classifier(start_from=other).fit(*some)
    for unfit in (classifier(), LogisticRegression()):
        with pytest.raises(ValueError, match="start_from must be a fitted"):
            classifier(start_from=unfit).fit(*some)


# --- test-time augmentation -------------------------------------------------------------------


@pytest.mark.slow
def test_flip_averages_the_scores_of_images_and_mirror_images(some):
    X = some[0]
    fitted = classifier().fit(*some)
    plain, mirrored = fitted.decision_function(X), fitted.decision_function(X[:, :, ::-1])
    fitted.set_params(test_time_augmentation="flip")
    assert_allclose(fitted.decision_function(X), (plain + mirrored) / 2, atol=1e-4)


@pytest.mark.slow
def test_random_views_are_the_same_each_time(some):
    fitted = classifier(test_time_augmentation=3).fit(*some)
    first = fitted.predict_proba(some[0])
    assert_array_equal(fitted.predict_proba(some[0]), first)
    plain = fitted.set_params(test_time_augmentation=None).predict_proba(some[0])
    assert (first != plain).any()


def test_test_time_augmentation_of_the_wrong_kind_is_an_error(some):
    for wrong in (0, True, "twist", 1.5):
        with pytest.raises(ValueError, match="test_time_augmentation must be"):
            classifier(test_time_augmentation=wrong).fit(*some)
    of_sequences = FineTunedClassifier(
        RNNSequenceFeatures(views="z"), strategy="frozen", test_time_augmentation="flip"
    )
    X = np.random.RandomState(0).normal(size=(10, 20))
    with pytest.raises(ValueError, match="changes images, and RNNSequenceFeatures reads others"):
        of_sequences.fit(X, np.arange(10) % 2)


# --- files ------------------------------------------------------------------------------------


def by_pickle(estimator, folder):
    return pickle.loads(pickle.dumps(estimator))


def by_joblib(estimator, folder):
    joblib.dump(estimator, folder / "estimator.joblib")
    return joblib.load(folder / "estimator.joblib")


def by_copy(estimator, folder):
    return copy.deepcopy(estimator)


def by_skops(estimator, folder):
    data = skops.io.dumps(estimator)
    # What has to be trusted is said before anything is loaded; nothing is loaded unasked.
    types = skops.io.get_untrusted_types(data=data)
    with pytest.raises(skops.io.exceptions.UntrustedTypesFoundException):
        skops.io.loads(data)
    return skops.io.loads(data, trusted=types)


def by_save(estimator, folder):
    estimator.save(folder / "saved")
    return type(estimator).load(folder / "saved")


SMALL_REAL = PretrainedCNNFeatures(layer="blocks.1", image_size=32)


@pytest.fixture(
    scope="module",
    params=[FineTune(1, epochs=1, guard=False), FineTune("head", epochs=1, guard=False), "frozen"],
    ids=str,
)
def fitted(request, two):
    how = {"strategy": request.param, "class_prior": [0.3, 0.7], "random_state": 0}
    return FineTunedClassifier(SMALL_REAL, **how).fit(*two)


@pytest.mark.slow
@pytest.mark.parametrize("way", [by_pickle, by_joblib, by_copy, by_skops, by_save])
def test_a_fitted_estimator_comes_back_from_a_file(way, fitted, two, tmp_path):
    X, y = two
    strategy = fitted.strategy
    again = way(fitted, tmp_path)
    # A frozen network runs in OpenVINO, and a tuned one in torch: both as before.
    assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert again.get_params(deep=False).keys() == fitted.get_params(deep=False).keys()
    assert again.history_ == fitted.history_
    if strategy != "frozen":
        assert len(again.net_.history) == len(fitted.net_.history)
        again.partial_fit(X, y)
    assert again.fit(X[:40], y[:40]).score(X, y) > 0.8


@pytest.mark.parametrize("way", [by_pickle, by_save, by_skops])
def test_tuned_sequences_come_back_from_a_file(way, tmp_path):
    X = np.random.RandomState(0).normal(size=(30, 25)).cumsum(axis=1)
    y = X[:, -1] > 0
    fitted = FineTunedRegressor(
        RNNSequenceFeatures(views="z+g", pooling="mean+ppv", output_dim=20),
        strategy=FineTune(1, epochs=1, guard=False),
        random_state=0,
    ).fit(X, y)
    again = way(fitted, tmp_path)
    assert_array_equal(again.predict(X), fitted.predict(X))
    assert_allclose(again.prediction_bounds_, [[-0.5], [1.5]], rtol=1e-6)


@pytest.mark.slow
def test_loading_another_class_is_an_error(two, tmp_path):
    FineTunedClassifier(SMALL_REAL, strategy="frozen").fit(*two).save(tmp_path / "saved")
    with pytest.raises(ValueError, match="holds a FineTunedClassifier, not a FineTunedRegressor"):
        FineTunedRegressor.load(tmp_path / "saved")


@pytest.mark.slow
def test_a_pickle_holds_neither_the_rows_nor_the_net(digits):
    X = np.repeat(digits[0][:200], 3, axis=0)
    few, many = (
        len(pickle.dumps(classifier().fit(X[:n], digits[1].repeat(3)[:n]))) for n in (100, 600)
    )
    assert abs(many - few) < 2000  # no more than names and numbers of digits make
    buffer = io.BytesIO()
    pickle.dump(classifier("frozen").fit(digits[0][:50], digits[1][:50]), buffer)
    assert buffer.tell() < 100_000


# --- in other people's machinery ----------------------------------------------------------------


@pytest.mark.slow
def test_weights_and_domains_are_routed_through_pipelines_and_searches(two):
    X, y = two
    weight = np.where(y == 0, 5.0, 0.1)
    domain = np.where(np.arange(len(y)) % 4, 1, -1)
    plain = classifier().fit(X, y, sample_weight=weight, sample_domain=domain)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = classifier().set_fit_request(sample_weight=True, sample_domain=True)
        pipeline = make_pipeline("passthrough", routed)
        pipeline.fit(X, y, sample_weight=weight, sample_domain=domain)
        assert_array_equal(pipeline.predict_proba(X), plain.predict_proba(X))
        search = GridSearchCV(
            routed.set_score_request(sample_weight=True),
            {"strategy__epochs": [1]},
            cv=2,
            error_score="raise",
        )
        search.fit(X, y, sample_weight=weight, sample_domain=domain)
        transformer = images_of(strategy=FEW).set_fit_request(sample_weight=True)
        head = LogisticRegression().set_fit_request(sample_weight=False)
        make_pipeline(transformer, head).fit(X, y, sample_weight=weight)


def test_estimators_are_plain_parameters_until_they_are_fitted():
    for estimator in (classifier(), regressor()):
        check_no_attributes_set_in_init(type(estimator).__name__, estimator)
        check_estimator_repr(type(estimator).__name__, estimator)
        assert clone(estimator).get_params()["strategy__epochs"] == 2
    assert repr(FineTune(2, penalty="rkd")) == "FineTune(penalty='rkd', unfreeze=2)"


@pytest.mark.slow
def test_one_against_the_rest_works_around_it(digits):
    X, y = digits[0][:60], digits[1][:60] % 3
    assert OneVsRestClassifier(classifier("frozen")).fit(X, y).score(X, y) > 0.8


# --- going on, when it goes wrong ---------------------------------------------------------------


class Fail(Callback):
    """Raises in the second batch of an epoch, if it is told to."""

    armed = False
    error = RuntimeError

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        if type(self).armed and training and len(net.history[-1]["batches"]) == 2:
            raise type(self).error("in the middle")


@pytest.mark.slow
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_partial_fit_that_fails_leaves_the_estimator_sound(error, some, monkeypatch):
    strategy = clone(FEW).set_params(batch_norm="update", callbacks=[Fail()])
    fitted = classifier(strategy).fit(*some)
    before = fitted.decision_function(some[0])
    monkeypatch.setattr(Fail, "armed", True)
    monkeypatch.setattr(Fail, "error", error)
    with pytest.raises(error):
        fitted.partial_fit(*some)
    module = fitted.features_.module_
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert len(fitted.net_.history) == len(fitted.history_) == 2
    after = fitted.decision_function(some[0])
    if error is RuntimeError:  # as if it had not been; Ctrl-C keeps what was learned
        assert_array_equal(after, before)
    assert_allclose(fitted.decision_function(some[0][:3]), after[:3], atol=1e-4)
    monkeypatch.setattr(Fail, "armed", False)
    assert len(fitted.partial_fit(*some).history_) == 3


@pytest.mark.slow
def test_an_interrupt_of_the_first_partial_fit_is_passed_on(some, monkeypatch):
    monkeypatch.setattr(Fail, "armed", True)
    monkeypatch.setattr(Fail, "error", KeyboardInterrupt)
    fitted = classifier(clone(FEW).set_params(callbacks=[Fail()]))
    with pytest.raises(KeyboardInterrupt, match="can be used as it is"):
        fitted.partial_fit(*some)
    assert fitted.predict(some[0]).shape == (160,)


@pytest.mark.slow
@pytest.mark.parametrize("pickled", [False, True])
def test_partial_fit_takes_the_rate_of_now_and_refuses_what_it_cannot_change(pickled, some):
    fitted = classifier(clone(FEW)).fit(*some)
    if pickled:
        fitted = pickle.loads(pickle.dumps(fitted))
    before = fitted.coef_.copy()
    fitted.set_params(strategy__learning_rate=1e-12).partial_fit(*some)
    assert_allclose(fitted.coef_, before, atol=1e-6)
    with pytest.raises(ValueError, match="penalty was None and is 'rkd' now; set it back"):
        fitted.set_params(strategy__penalty="rkd").partial_fit(*some)


def go_on_from_a_pickle(pickled, some):
    fitted = pickle.loads(pickled)
    epochs = len(fitted.partial_fit(*some).history_)
    with pytest.raises(ValueError, match="partial_fit goes on as it began: optimizer was "):
        fitted.set_params(strategy__optimizer=torch.optim.Adam).partial_fit(*some)
    return epochs


@pytest.mark.parametrize(
    "optimizer",
    [slow_sgd, torch.optim.SGD, functools.partial(torch.optim.SGD, momentum=0.5)],
    ids=["function", "class", "partial"],
)
def test_partial_fit_goes_on_in_another_process_with_an_optimizer_of_ones_own(optimizer, some):
    fitted = classifier(clone(FEW).set_params(optimizer=optimizer)).fit(*some)
    epochs = in_another_process(go_on_from_a_pickle, pickle.dumps(fitted), some)
    assert epochs == len(fitted.history_) + 1


def test_partial_fit_notices_a_list_that_was_changed_in_place(some):
    fitted = classifier(clone(FEW).set_params(unfreeze=["first.*"])).fit(*some)
    fitted.strategy.unfreeze.append("second.*")
    with pytest.raises(ValueError, match=r"unfreeze was \['first"):
        fitted.partial_fit(*some)


@pytest.mark.slow
def test_partial_fit_holds_y_to_what_was_fitted(some):
    X, y = some
    indicator = np.stack([y > 4, y % 2], axis=1).astype(int)
    fitted = classifier().fit(X, y)
    with pytest.raises(ValueError, match="y is for multilabel, and this"):
        fitted.partial_fit(X, np.eye(10, dtype=int)[y])
    with pytest.raises(ValueError, match="classes must be those of the first call"):
        fitted.partial_fit(X, y, classes=np.arange(11))
    with pytest.raises(ValueError, match="y is for classification, and this"):
        classifier().fit(X, indicator).partial_fit(X, y)
    numbers = regressor().fit(X, np.c_[y, 2 * y])
    with pytest.raises(ValueError, match="y must have 2 columns, as in the first fit, got 1"):
        numbers.partial_fit(X, y)


@pytest.mark.slow
def test_partial_fit_with_rkd_may_begin_to_augment(some):
    fitted = classifier(clone(FEW).set_params(penalty="rkd", unfreeze=1)).fit(*some)
    fitted.set_params(strategy__augment="light").partial_fit(*some)
    assert np.isfinite(fitted.predict_proba(some[0])).all()


@pytest.mark.slow
def test_partial_fit_on_nothing_but_unreadable_images_is_an_error(some):
    fitted = FineTunedClassifier(images_of(on_error="nan"), strategy=FEW).fit(*some)
    with (
        pytest.warns(UserWarning, match="3 of 3 images"),
        pytest.raises(ValueError, match="there is nothing to learn from"),
    ):
        fitted.partial_fit(["absent.png"] * 3, [0, 1, 2])


def test_a_warm_start_of_a_regressor_minds_the_units(some):
    X = some[0]
    y = 100 * X.mean((1, 2))
    upper = y > np.median(y)
    first = regressor(FineTune("all", epochs=10, guard=False)).fit(X, y)
    hardly = FineTune("all", epochs=1, learning_rate=1e-12, guard=False)
    again = regressor(hardly, start_from=first).fit(X[upper], y[upper])
    bounded = np.clip(first.predict(X), *again.prediction_bounds_[:, 0])
    assert_allclose(again.predict(X), bounded, atol=0.01)


@pytest.mark.slow
def test_a_warm_start_that_reads_another_layer_makes_a_new_head(two):
    first = FineTunedClassifier(SMALL_REAL, strategy=FineTune(1, epochs=1, guard=False)).fit(*two)
    other = clone(SMALL_REAL).set_params(layer="blocks.2")
    again = FineTunedClassifier(
        other, strategy=FineTune(1, epochs=1, guard=False), start_from=first
    )
    assert again.fit(*two).score(*two) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("make", [classifier, regressor])
def test_data_frames_as_output_change_no_prediction(make, some):
    expected = make().fit(*some).predict(some[0])
    with sklearn.config_context(transform_output="pandas"):
        assert_array_equal(make().fit(*some).predict(some[0]), expected)


@pytest.mark.slow
def test_a_view_of_an_image_does_not_depend_on_the_others(some):
    fitted = FineTunedClassifier(images_of(), strategy=FEW, test_time_augmentation=2).fit(*some)
    every = fitted.predict_proba(some[0])
    assert_allclose(fitted.predict_proba(some[0][5:9]), every[5:9], atol=1e-5)


@pytest.mark.slow
def test_a_sparse_indicator_is_several_labels(some):
    labels = np.stack([some[1] > 4, some[1] % 2], axis=1).astype(int)
    dense, sparse = (classifier().fit(some[0], y) for y in (labels, csr_matrix(labels)))
    assert_array_equal(sparse.predict(some[0]), dense.predict(some[0]))


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [([3], "must hold skorch callbacks"), ([("rate", Fail())], "must not be named 'rate'")],
)
def test_callbacks_that_are_none_or_clash_are_errors(callbacks, message, some):
    with pytest.raises(ValueError, match=message):
        classifier(FineTune(callbacks=callbacks)).fit(*some)


@pytest.mark.slow
def test_going_on_trains_no_stage_that_was_never_unfrozen(some):
    strategy = FineTune("all", epochs=3, gradual=2, guard=False)
    fitted = classifier(strategy).fit(*some)  # the first stage would have come after 4 epochs
    before = fitted.features_.module_.first[0].weight.detach().clone()
    fitted.set_params(strategy__augment="light").partial_fit(*some)  # so that all of it runs
    assert bool((fitted.features_.module_.first[0].weight == before).all())
    assert {name.split(".")[0] for name in fitted.trained_parameters_} == {"second"}
