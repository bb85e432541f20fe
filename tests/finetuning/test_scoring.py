"""Scores of held-out rows in the history, against scikit-learn and the fitted estimator."""

import copy
import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import accuracy_score, get_scorer, log_loss, make_scorer
from skorch.callbacks import BatchScoring, Callback, EpochScoring

from sktransfer import (
    FineTune,
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedCNNFeatures,
    RNNSequenceFeatures,
)
from sktransfer.finetuning.scoring import scorers_of
from sktransfer.finetuning.strategy import check_strategy
from tests.helpers.networks import TwoStages


class Epochs(Callback):
    """Keeps the network after each epoch, and which rows were held out."""

    def on_train_begin(self, net, **kwargs):
        self.states_ = []

    def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        self.states_.append(copy.deepcopy(net.module_.state_dict()))
        self.train_, self.valid_ = dataset_train.rows, getattr(dataset_valid, "rows", None)


def fitted(X, y, cls=FineTunedClassifier, *, callbacks=(), unfreeze="all", domain=None, **settings):
    features = PretrainedCNNFeatures(TwoStages, image_size=16, random_state=0, engine="torch")
    how = {
        "epochs": 3,
        "batch_size": 32,
        "early_stopping": True,
        "guard": False,
        "validation_fraction": 0.3,
        "callbacks": [("epochs", Epochs()), *callbacks],
        **settings,
    }
    strategy = FineTune(unfreeze, **how)
    return cls(features, strategy=strategy, random_state=0).fit(X, y, sample_domain=domain)


def after_each_epoch(estimator):
    """The estimator as it was after each epoch, and its held-out rows and training rows."""
    epochs = dict(estimator.net_.callbacks_)["epochs"]
    for state in epochs.states_:
        estimator.net_.module_.load_state_dict(state)
        estimator._set_head(estimator.net_.module_.head)
        yield estimator, epochs.valid_, epochs.train_


def several_labels(digits):
    return np.stack([digits % 2 == 0, digits > 4, digits % 3 == 0], 1).astype(int)


TARGETS = {
    "names": (FineTunedClassifier, lambda digits: np.array([*"qwertzuiop"])[digits]),
    "two classes": (FineTunedClassifier, lambda digits: np.where(digits > 4, "high", "low")),
    "several labels": (FineTunedClassifier, several_labels),
    "a number": (FineTunedRegressor, lambda digits: 100 + 10.0 * digits),
    "two numbers": (FineTunedRegressor, lambda digits: np.stack([5.0 * digits, -1.0 * digits], 1)),
}
METRICS = {
    "names": ["accuracy", "neg_log_loss", "roc_auc_ovr", "f1_macro"],
    "two classes": ["accuracy", "neg_log_loss", "roc_auc", "balanced_accuracy"],
    "several labels": ["accuracy", "f1_macro", "roc_auc"],
    "a number": ["r2", "neg_mean_absolute_error", "neg_root_mean_squared_error"],
    "two numbers": ["r2", "neg_mean_absolute_error"],
}


@pytest.mark.parametrize(
    ("kind", "unfreeze"), [*((kind, "all") for kind in TARGETS), ("names", 1), ("names", "head")]
)
def test_scores_of_each_epoch_are_those_of_the_estimator_at_that_epoch(kind, unfreeze, digits):
    cls, make = TARGETS[kind]
    X, y = digits[0][:100], make(digits[1][:100])
    names = METRICS[kind]
    theirs = [
        EpochScoring(name, lower_is_better=False, name=f"{name}{cached}", use_caching=cached)
        for name in names
        for cached in (True, False)
    ]
    on_train = EpochScoring(
        names[0], lower_is_better=False, on_train=True, use_caching=False, name="on_train"
    )
    estimator = fitted(X, y, cls, unfreeze=unfreeze, scoring=names, callbacks=[*theirs, on_train])
    history = estimator.history_
    assert len(history) == 3
    for epoch, (at_epoch, valid, train) in zip(history, after_each_epoch(estimator), strict=True):
        for name in names:
            expected = get_scorer(name)(at_epoch, X[valid], y[valid])
            assert_allclose(epoch[f"valid_{name}"], expected, rtol=1e-5)
            assert_allclose(epoch[f"{name}True"], expected, rtol=1e-5)
            assert_allclose(epoch[f"{name}False"], expected, rtol=1e-5)
        expected = get_scorer(names[0])(at_epoch, X[train], y[train])
        assert_allclose(epoch["on_train"], expected, rtol=1e-5)


def test_the_best_epoch_is_remembered_by_skorch_whatever_is_better(digits):
    X, y = digits[0][:100], digits[1][:100]
    up = EpochScoring("neg_log_loss", lower_is_better=False, name="up")
    loss = make_scorer(log_loss, response_method="predict_proba", greater_is_better=True)
    down = EpochScoring(loss, lower_is_better=True, name="down")
    classifier = fitted(X, y, callbacks=[up, down])
    history = classifier.net_.history
    assert_allclose(history[:, "up"], np.negative(history[:, "down"]))
    so_far = np.minimum.accumulate(history[:, "down"])
    expected = [True, *(so_far[1:] < so_far[:-1])]
    assert history[:, "up_best"] == history[:, "down_best"] == expected
    # Truth values are skorch's own affair.
    assert not any("best" in name for epoch in classifier.history_ for name in epoch)


def test_scores_of_batches_and_of_the_training_itself_come_out_too(digits):
    X, y = digits[0][:100], digits[1][:100]
    seen = []

    def hits(net, X, y):
        seen.append(y)
        return accuracy_score(y, net.predict(X))

    callbacks = [
        BatchScoring("accuracy", lower_is_better=False, name="by_batch"),
        BatchScoring("accuracy", lower_is_better=False, name="by_batch_run", use_caching=False),
        EpochScoring(hits, lower_is_better=False, on_train=True),
        EpochScoring(None, lower_is_better=False, name="score"),
    ]
    last = fitted(X, y, callbacks=callbacks, scoring="accuracy").history_[-1]
    assert_allclose(last["by_batch"], last["valid_accuracy"])
    assert_allclose(last["by_batch_run"], last["valid_accuracy"])
    assert_allclose(last["score"], last["valid_accuracy"])
    assert 0 <= last["hits"] <= 1
    assert all(len(rows) == 70 for rows in seen)


def test_scoring_on_training_rows_reads_blended_batches_and_leaves_out_unlabelled_rows(digits):
    X, y = digits[0][:100], digits[1][:100]
    accuracy = EpochScoring("accuracy", lower_is_better=False, on_train=True)
    plain = {"callbacks": [accuracy], "early_stopping": False}
    assert 0.2 < fitted(X, y, mixup=0.2, **plain).history_[-1]["accuracy"] <= 1
    domain = np.repeat([1, -1], 50)
    aligned = fitted(X, y, alignment="mmd", domain=domain, **plain)
    assert_allclose(aligned.history_[-1]["accuracy"] * 50 % 1, 0, atol=1e-9)


def test_scoring_changes_nothing_that_is_learned(digits):
    X, y = digits[0][:100], digits[1][:100]
    kinds = {"scoring": ["accuracy", "neg_log_loss"], "callbacks": [EpochScoring("accuracy")]}
    scored, plain = fitted(X, y, **kinds), fitted(X, y)
    assert_array_equal(scored.predict_proba(X), plain.predict_proba(X))


def test_sequences_are_scored_too():
    rng = np.random.default_rng(0)
    frequency = rng.uniform(1, 5, 40)
    X = np.sin(frequency[:, None] * np.linspace(0, 6, 30))
    y = frequency > 3
    classifier = FineTunedClassifier(
        RNNSequenceFeatures(views="z"),
        strategy=FineTune(
            1,
            epochs=2,
            early_stopping=True,
            guard=False,
            validation_fraction=0.25,
            scoring="accuracy",
            callbacks=[("epochs", Epochs()), EpochScoring("roc_auc", lower_is_better=False)],
        ),
        random_state=0,
    ).fit(X, y)
    for epoch, (at, valid, _) in zip(
        classifier.history_, after_each_epoch(classifier), strict=True
    ):
        assert_allclose(epoch["valid_accuracy"], at.score(X[valid], y[valid]))
        assert_allclose(epoch["roc_auc"], get_scorer("roc_auc")(at, X[valid], y[valid]))


@pytest.mark.parametrize(
    ("scoring", "names"),
    [
        ("accuracy", {"valid_accuracy"}),
        (["accuracy", "f1_macro"], {"valid_accuracy", "valid_f1_macro"}),
        ({"mine": "accuracy"}, {"valid_mine"}),
        (lambda net, X, y: net.score(X, y), {"valid_score"}),
        (
            lambda net, X, y: {"a": net.score(X, y), "b": log_loss(y, net.predict_proba(X))},
            {"valid_a", "valid_b"},
        ),
    ],
)
def test_names_in_the_history_follow_the_kind_of_scoring(scoring, names, digits):
    history = fitted(digits[0][:100], digits[1][:100], scoring=scoring, epochs=1).history_
    assert set(history[0]) == {"epoch", "dur", "train_loss", "valid_loss", *names}


def test_scores_survive_pickle_and_a_file_and_partial_fit_goes_on_without(digits, tmp_path):
    X, y = digits[0][:80], digits[1][:80]
    classifier = FineTunedClassifier(
        PretrainedCNNFeatures(layer="blocks.1", image_size=32, engine="torch"),
        strategy=FineTune(
            "head",
            epochs=1,
            early_stopping=True,
            guard=False,
            validation_fraction=0.3,
            scoring="accuracy",
        ),
        random_state=0,
    ).fit(X, y)
    assert "valid_accuracy" in classifier.history_[0]
    classifier.save(tmp_path / "saved")
    for again in (
        pickle.loads(pickle.dumps(classifier)),
        FineTunedClassifier.load(tmp_path / "saved"),
    ):
        assert again.history_ == classifier.history_
        again.partial_fit(X, y)
        assert "valid_accuracy" not in again.history_[-1]
        features = torch.from_numpy(again.features_.transform(X))
        again.net_.module_.body.begin = "features"
        assert_array_equal(again.net_.predict(features), again.predict(X))
        assert again.net_.score(features, y) == again.score(X, y)


def test_a_first_partial_fit_needs_no_held_out_rows(digits):
    X, y = digits[0][:60], digits[1][:60]
    features = PretrainedCNNFeatures(TwoStages, image_size=16, random_state=0, engine="torch")
    strategy = FineTune("head", scoring="accuracy")
    classifier = FineTunedClassifier(features, strategy=strategy, random_state=0)
    assert len(classifier.partial_fit(X, y).history_) == 1


def test_without_held_out_rows_it_says_how_to_have_some(digits):
    for held_out in (False, "auto"):
        with pytest.raises(ValueError, match="holds out none of these 60; set early_stopping"):
            fitted(digits[0][:60], digits[1][:60], scoring="accuracy", early_stopping=held_out)


@pytest.mark.parametrize(
    ("scoring", "message"),
    [
        ("acuracy", "scoring names a scorer that scikit-learn does not know"),
        (3, "scoring must be the name of a scorer"),
        ({"loss": "accuracy"}, "scoring must have names other than loss"),
        ({1: "accuracy"}, "scoring must have names other than"),
        ({"a": 3}, r"scoring\['a'\] must be a name or a callable"),
        ([accuracy_score], "scoring as a list must hold names of scorers; give callables names"),
    ],
)
def test_what_is_no_scorer_is_refused(scoring, message):
    with pytest.raises(ValueError, match=message):
        check_strategy(FineTune(scoring=scoring))


def test_no_scoring_is_no_scorer():
    assert scorers_of(None) == {}
