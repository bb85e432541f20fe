"""Copies of callbacks, and loggers of skorch."""

import threading

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, MlflowLogger, TensorBoard

from sktransfer import FineTune, FineTunedClassifier, PretrainedCNNFeatures
from sktransfer.finetuning.callbacks import copied, copied_callbacks
from tests.helpers.networks import TwoStages


class Writer:
    """Takes what TensorBoard's ``SummaryWriter`` takes, and like it cannot be copied."""

    def __init__(self):
        self.lock = threading.Lock()
        self.scalars = []
        self.closed = 0

    def add_scalar(self, tag, scalar_value, global_step):
        with self.lock:
            self.scalars.append((tag, scalar_value, global_step))

    def close(self):
        self.closed += 1


class Client:
    """Takes what the client of MLflow takes."""

    def __init__(self):
        self.lock = threading.Lock()
        self.metrics = {}
        self.artifacts = []

    def log_metric(self, run_id, key, value, step):
        self.metrics[run_id, key, step] = value

    def log_artifact(self, run_id, path):
        assert path.stat().st_size
        self.artifacts.append(path.name)

    def set_terminated(self, run_id):
        self.terminated = run_id


class Run:
    class info:
        run_id = "first"


class Listed(Callback):
    def __init__(self, items=None):
        self.items = items


def classifier_with(callbacks, **settings):
    features = PretrainedCNNFeatures(TwoStages, image_size=16, random_state=0, engine="torch")
    how = {
        "early_stopping": True,
        "validation_fraction": 0.3,
        "epochs": 2,
        "guard": False,
        **settings,
    }
    strategy = FineTune("head", callbacks=callbacks, **how)
    return FineTunedClassifier(features, strategy=strategy, random_state=0)


def test_a_copy_has_parameters_of_its_own_and_shares_what_cannot_be_copied():
    items = [1, 2]
    callback = Listed(items)
    callback.seen_ = True
    other = copied(callback)
    assert other.items == items
    assert other.items is not items
    assert not hasattr(other, "seen_")
    writer = Writer()
    logger = TensorBoard(writer, keys_ignored=["dur"])
    assert copied(logger).writer is writer
    assert copied(logger) is not logger
    assert copied(logger).keys_ignored == ["dur"]


def test_lists_and_pairs_keep_their_form():
    callbacks = [("a", Listed()), Listed()]
    (name, first), second = copied_callbacks(callbacks)
    assert name == "a"
    assert first is not callbacks[0][1]
    assert second is not callbacks[1]
    assert copied_callbacks(None) is None


def test_a_strategy_can_be_cloned_whatever_its_callbacks_hold():
    strategy = FineTune(2, epochs=7, callbacks=[TensorBoard(Writer())])
    other = clone(strategy)
    assert other.callbacks[0] is not strategy.callbacks[0]
    assert other.callbacks[0].writer is strategy.callbacks[0].writer
    rest = {name: value for name, value in strategy.get_params().items() if name != "callbacks"}
    assert {name: other.get_params()[name] for name in rest} == rest
    assert strategy.callbacks is not None


def test_tensorboard_is_told_the_history(digits):
    X, y = digits[0][:80], digits[1][:80]
    writer = Writer()
    classifier = classifier_with([TensorBoard(writer)], scoring="accuracy").fit(X, y)
    assert writer.closed == 1
    told = {(tag, step): value for tag, value, step in writer.scalars}
    for epoch in classifier.history_:
        for name, tag in (
            ("train_loss", "Loss/train_loss"),
            ("valid_loss", "Loss/valid_loss"),
            ("valid_accuracy", "Loss/valid_accuracy"),
        ):
            assert told[tag, epoch["epoch"]] == epoch[name]


def test_mlflow_is_told_the_history_and_gets_the_weights(digits):
    client = Client()
    classifier = classifier_with([MlflowLogger(Run(), client)], scoring="accuracy")
    classifier.fit(digits[0][:80], digits[1][:80])
    for epoch in classifier.history_:
        for name in ("train_loss", "valid_loss", "valid_accuracy"):
            assert client.metrics["first", name, epoch["epoch"]] == epoch[name]
    expected = {"params.pth", "optimizer.pth", "criterion.pth", "history.json"}
    assert set(client.artifacts) == expected
    assert client.terminated == "first"


@pytest.mark.slow
def test_a_search_logs_all_its_fits(digits):
    writer = Writer()
    search = GridSearchCV(
        classifier_with([TensorBoard(writer)]), {"strategy__learning_rate": [1e-3, 1e-2]}, cv=2
    ).fit(digits[0][:100], digits[1][:100])
    assert writer.closed == 2 * 2 + 1
    assert np.isfinite([value for _, value, _ in writer.scalars]).all()
    assert search.best_estimator_.strategy.callbacks[0].writer is writer
