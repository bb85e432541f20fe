"""Rows that are left out of training, and the guard that compares on them."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, softmax
from skorch.callbacks import Callback

from sktransfer import FineTune, FineTunedClassifier, FineTunedRegressor, PretrainedCNNFeatures
from sktransfer.finetuning.held_out import (
    HeldOutScores,
    folds_to_judge,
    judge,
    row_losses,
    split_to_stop,
    temperature_of,
)
from sktransfer.finetuning.resolving import batch_norm_mode
from sktransfer.finetuning.targets import encode_targets
from tests.helpers.networks import TwoStages


def targets_of(y, task=None):
    return encode_targets(np.asarray(y), n_rows=len(y), task=task)


def features():
    return PretrainedCNNFeatures(TwoStages, image_size=16, random_state=0, engine="torch")


def fitted(X, y, make=FineTunedClassifier, **settings):
    strategy = FineTune("all", **{"epochs": 3, "batch_size": 32, **settings})
    return make(features(), strategy=strategy, random_state=0).fit(X, y)


WRECKING = {"learning_rate": 0.3, "gradient_clip": None, "warmup_epochs": 0}
"""A rate at which training loses what the network knew."""


@pytest.fixture(scope="module")
def some(digits):
    return digits[0][:160], digits[1][:160]


class CountsTrainings(Callback):
    """Counts how many trainings have begun, in all its clones."""

    begun = 0

    def on_train_begin(self, net, **kwargs):
        type(self).begun += 1


# --- which rows -------------------------------------------------------------------------------


def test_folds_hold_out_each_labelled_row_once_and_nearly_the_same_number_of_each_class():
    targets = targets_of(np.arange(90) % 3)
    folds = folds_to_judge(np.arange(90), targets, FineTune(), seed=0)
    assert_array_equal(np.sort(np.concatenate([fold.held_out for fold in folds])), np.arange(90))
    for fold in folds:
        assert not np.intersect1d(fold.train, fold.held_out).size
        assert_array_equal(np.bincount(targets.codes[fold.held_out]), [10, 10, 10])


def test_a_class_of_a_single_row_is_held_out_of_no_fold():
    y = np.r_[np.arange(90) % 3, 3]
    folds = folds_to_judge(np.arange(91), targets_of(y), FineTune(), seed=0)
    assert 90 not in np.concatenate([fold.held_out for fold in folds])


@pytest.mark.parametrize(("n_rows", "expected"), [(59, 0), (60, 3), (2000, 3), (2001, 0)])
def test_there_are_folds_for_few_rows_but_not_for_too_few(n_rows, expected):
    targets = targets_of(np.arange(n_rows) % 2)
    assert len(folds_to_judge(np.arange(n_rows), targets, FineTune(), seed=0)) == expected
    if n_rows > 2000:
        guard = FineTune(guard=True)
        assert len(folds_to_judge(np.arange(n_rows), targets, guard, seed=0)) == 3


def test_an_explicit_guard_names_what_it_lacks():
    strategy = FineTune(guard=True)
    with pytest.raises(ValueError, match="guard=True needs at least 3 rows with a label, got 2"):
        folds_to_judge(np.arange(2), targets_of([0.5, 1.5]), strategy, seed=0)
    with pytest.raises(ValueError, match="every class has a single one; set guard=False"):
        folds_to_judge(np.arange(3), targets_of([0, 1, 2]), strategy, seed=0)


def test_rows_to_stop_by_are_a_stratified_tenth():
    targets = targets_of(np.arange(400) % 4)
    split = split_to_stop(np.arange(400), targets, FineTune(), np.random.RandomState(0))
    assert split.stops
    assert_array_equal(np.bincount(targets.codes[split.held_out]), [10, 10, 10, 10])
    assert_array_equal(np.union1d(split.train, split.held_out), np.arange(400))


# --- what they tell ---------------------------------------------------------------------------


def test_the_temperature_of_overconfident_scores_is_how_much_too_large_they_are():
    rng = np.random.default_rng(0)
    true = rng.normal(scale=2, size=(20_000, 3))
    y = (softmax(true, axis=1).cumsum(1) < rng.random((20_000, 1))).sum(1)
    targets, rows = targets_of(y), np.arange(20_000)
    found = temperature_of(4 * true, targets, rows, np.ones(20_000))
    assert_allclose(found, 4, rtol=0.03)
    labels = (rng.random(true.shape) < expit(true)).astype(int)
    found = temperature_of(true / 2, targets_of(labels, "classification"), rows, np.ones(20_000))
    assert_allclose(found, 0.5, rtol=0.03)


def test_a_temperature_of_few_rows_that_are_all_right_stays_finite():
    y = np.arange(6) % 2
    found = temperature_of(9.0 * np.eye(2)[y], targets_of(y), np.arange(6), np.ones(6))
    assert 0.2 < found < 1


def test_losses_of_rows_are_those_of_scikit_learn():
    from sklearn.metrics import log_loss, mean_squared_error

    rng = np.random.default_rng(0)
    scores = rng.normal(size=(50, 3))
    y = np.arange(50) % 3
    losses = row_losses(scores, targets_of(y), np.arange(50))
    assert_allclose(losses.mean(), log_loss(y, softmax(scores, axis=1)))
    labels = rng.integers(0, 2, (50, 3))
    losses = row_losses(scores, targets_of(labels, "classification"), np.arange(50))
    each = [log_loss(labels[:, k], expit(scores[:, k])) for k in range(3)]
    assert_allclose(losses.mean(), np.mean(each))
    numbers = targets_of(rng.normal(size=50))
    losses = row_losses(scores[:, :1], numbers, np.arange(50))
    assert_allclose(losses.mean(), mean_squared_error(numbers.values[:, 0], scores[:, 0]))


def test_networks_are_compared_each_at_its_own_temperature():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    right = np.eye(2)[np.where(rng.random(400) < 0.8, y, 1 - y)]
    worse = np.eye(2)[np.where(rng.random(400) < 0.7, y, 1 - y)]
    # Far too sure of itself, but right more often.
    scores = HeldOutScores(np.arange(400), 50 * right, worse)
    verdict = judge([scores], targets_of(y), FineTune())
    assert not verdict.keeps_frozen
    # 80 % of the rows are right: log odds of 1.39, where the scores say 50.
    assert_allclose(verdict.temperature, 50 / np.log(4), rtol=0.15)
    assert judge(
        [scores._replace(tuned=worse, frozen=right)], targets_of(y), FineTune()
    ).keeps_frozen


# --- the guard --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classes", "several labels", "numbers"])
def test_a_training_that_does_harm_gives_back_the_frozen_network(some, task):
    X, y = some
    make = FineTunedRegressor if task == "numbers" else FineTunedClassifier
    if task == "numbers":
        y = X.mean((1, 2))
    elif task == "several labels":
        y = np.stack([y > 4, y % 2], axis=1).astype(int)
    with pytest.warns(UserWarning, match="fine-tuning made the network worse") as caught:
        kept = fitted(X, y, make, **WRECKING)
    assert caught[0].filename == __file__
    frozen = make(features(), strategy="frozen", random_state=0).fit(X, y)
    assert_array_equal(kept.features_.transform(X), frozen.features_.transform(X))
    assert_allclose(kept.predict(X), frozen.predict(X), atol=1e-3)
    assert kept.trained_parameters_ == ()
    assert kept.n_trained_parameters_ == kept.coef_.size + kept.intercept_.size
    last = kept.history_[-1]
    assert last["frozen_loss"] < last["tuned_loss"]
    if task == "classes":
        temperature = last["temperature"]
        assert_allclose(
            kept.decision_function(X) * temperature, frozen.decision_function(X), atol=0.01
        )
        again = pickle.loads(pickle.dumps(kept))
        assert_array_equal(again.predict_proba(X), kept.predict_proba(X))
        assert again.partial_fit(X, y).score(X, y) > 0.5


@pytest.mark.slow
def test_the_guard_changes_a_good_network_by_its_temperature_alone(some):
    X, y = some
    guarded, plain = fitted(X, y), fitted(X, y, guard=False)
    assert_array_equal(guarded.features_.transform(X), plain.features_.transform(X))
    temperature = guarded.history_[-1]["temperature"]
    assert temperature != 1
    assert_allclose(guarded.decision_function(X), plain.decision_function(X) / temperature, 1e-4)
    assert "temperature" not in plain.history_[-1]
    losses = [{k: epoch[k] for k in ("epoch", "train_loss")} for epoch in guarded.history_]
    assert losses == [{k: e[k] for k in ("epoch", "train_loss")} for e in plain.history_]


@pytest.mark.slow
def test_rows_that_training_stops_by_serve_the_guard_without_more_trainings(digits):
    CountsTrainings.begun = 0
    X, y = digits[0][:240], digits[1][:240]
    stopping = fitted(X, y, early_stopping=True, callbacks=[CountsTrainings()])
    assert CountsTrainings.begun == 1
    assert stopping.history_[-1]["tuned_loss"] < stopping.history_[-1]["frozen_loss"]
    folds = fitted(X, y, early_stopping=False, callbacks=[CountsTrainings()])
    assert CountsTrainings.begun == 1 + 4
    assert folds.history_[-1]["temperature"] != stopping.history_[-1]["temperature"]


@pytest.mark.slow
def test_a_transformer_is_guarded_as_well(some):
    X, y = some
    frozen = features().fit(X)
    strategy = FineTune("all", epochs=3, **WRECKING)
    with pytest.warns(UserWarning, match="fine-tuning made the network worse"):
        kept = features().set_params(strategy=strategy).fit(X, y)
    assert_array_equal(kept.transform(X), frozen.transform(X))


# --- batch norm and length -------------------------------------------------------------------


@pytest.mark.slow
def test_without_a_number_of_epochs_there_are_ten_or_enough_for_the_steps(some):
    X, y = some
    assert len(fitted(X, y, epochs=None, min_steps=1, guard=False).history_) == 10
    # Five steps of 32 rows.
    assert len(fitted(X, y, epochs=None, min_steps=61, guard=False).history_) == 13
    assert len(fitted(X, y, epochs=2, min_steps=1000, guard=False).history_) == 2


@pytest.mark.parametrize(
    ("n_rows", "n_positions", "expected"),
    [
        (10_000, 1, "frozen"),  # 64 values in a batch
        (400, 9, "update"),
        (100, 9, "frozen"),
        (1000, 4, "update"),
        (200, 4, "frozen"),
        (2000, 3, "frozen"),
    ],
)
def test_batch_norm_learns_from_large_batches_and_maps(n_rows, n_positions, expected):
    assert batch_norm_mode(FineTune(), n_rows, n_positions) == expected
    assert batch_norm_mode(FineTune(penalty="rkd"), n_rows, n_positions) == "frozen"
    assert batch_norm_mode(FineTune(alignment="mmd"), n_rows, n_positions) == "frozen"
    assert batch_norm_mode(FineTune(epochs=1), n_rows, n_positions) == (
        "update" if n_rows == 10_000 and n_positions > 1 else "frozen"
    )
    assert batch_norm_mode(FineTune(batch_norm="update"), n_rows, n_positions) == "update"
    assert batch_norm_mode(FineTune(batch_norm="frozen"), n_rows, n_positions) == "frozen"


@pytest.mark.slow
def test_statistics_move_where_batch_norm_learns(digits):
    X, y = digits[0][:240], digits[1][:240]
    plain = PretrainedCNNFeatures(layer="blocks.1", image_size=32, engine="torch")
    means = {}
    for batch_norm in ("auto", "frozen", "update"):  # 64 positions of 240 images are enough
        strategy = FineTune(1, epochs=25, batch_norm=batch_norm, guard=False, early_stopping=False)
        tuned = FineTunedClassifier(plain, strategy=strategy, random_state=0).fit(X, y)
        means[batch_norm] = tuned.features_.module_.get_submodule("blocks.1.0.bn1").running_mean
    source = plain.fit(X).module_.get_submodule("blocks.1.0.bn1").running_mean
    assert_array_equal(means["auto"], means["update"])
    assert_array_equal(means["frozen"], source)
    assert not np.array_equal(means["update"], source)
