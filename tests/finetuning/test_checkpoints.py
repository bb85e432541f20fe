"""Trainings that are broken off at any moment, and go on from their checkpoints."""

import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import cross_val_predict
from skorch.callbacks import Callback

from sktransfer import (
    FineTune,
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedCNNFeatures,
    PretrainedTextFeatures,
    RNNSequenceFeatures,
)
from sktransfer.finetuning import checkpoints
from tests.helpers.fresh import start_process
from tests.helpers.languages import LABELS, TEXTS, write_language
from tests.helpers.networks import TwoStages

pytestmark = pytest.mark.slow

N_EPOCHS = 4


class Stop(Callback):
    """Presses Ctrl-C at a moment that is counted in calls of one method."""

    def __init__(self, method="on_epoch_begin", number=0):
        self.method = method
        self.number = number

    def initialize(self):
        self.calls = 0
        return self

    def _count(self, method):
        if method == self.method:
            self.calls += 1
            if self.calls > self.number:
                raise KeyboardInterrupt

    def on_epoch_begin(self, net, **kwargs):
        self._count("on_epoch_begin")

    def on_batch_begin(self, net, training=False, **kwargs):
        if training:
            self._count("on_batch_begin")


def images_of(**parameters):
    how = {"image_size": 16, "random_state": 0, "engine": "torch", **parameters}
    return PretrainedCNNFeatures(TwoStages, **how)


def made(folder, features=None, estimator=FineTunedClassifier, seed=0, **settings):
    how = {"unfreeze": "all", "epochs": N_EPOCHS, "batch_size": 16, "guard": False}
    features = images_of() if features is None else features
    return estimator(
        features, strategy=FineTune(**{**how, "checkpoint": folder, **settings}), random_state=seed
    )


def weights_of(estimator):
    state = {**estimator.features_.module_.state_dict(), "coef": torch.tensor(estimator.coef_)}
    return {name: tensor.numpy().copy() for name, tensor in state.items()}


def without_times(history):
    return [{k: v for k, v in epoch.items() if k != "dur"} for epoch in history]


def assert_same(resumed, whole):
    """Weights, head and history are equal to the last bit."""
    found = weights_of(resumed)
    for name, expected in weights_of(whole).items():
        assert_array_equal(found[name], expected, err_msg=name)
    assert without_times(resumed.history_) == without_times(whole.history_)


def broken_off(estimator, X, y, *stop, **metadata):
    """Fit it as it is, but with Ctrl-C at a moment."""
    own = estimator.strategy.callbacks
    estimator.strategy.set_params(callbacks=[Stop(*stop)])
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, y, **metadata)
    estimator.strategy.set_params(callbacks=own)
    return estimator


@pytest.fixture(scope="module")
def some(digits):
    return digits[0][:80], digits[1][:80]


@pytest.fixture(scope="module")
def whole(some):
    """A training without a checkpoint."""
    return made(None).fit(*some)


@pytest.mark.parametrize("n_epochs", range(N_EPOCHS))
def test_an_interrupt_after_any_epoch_costs_nothing_but_that_epoch(n_epochs, some, whole, tmp_path):
    estimator = broken_off(made(tmp_path), *some, "on_epoch_begin", n_epochs)
    assert len(estimator.history_) == n_epochs
    assert len(list(tmp_path.iterdir())) == (n_epochs > 0)
    assert_same(made(tmp_path).fit(*some), whole)
    # The training has come to its end.
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n_steps", [1, 4, 5, 6, 13])
def test_a_long_epoch_goes_on_after_the_batch_that_was_written_last(
    n_steps, some, whole, tmp_path, monkeypatch
):
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    broken_off(made(tmp_path), *some, "on_batch_begin", n_steps)
    counted = made(tmp_path, callbacks=[Stop("never")])
    resumed = counted.fit(*some)
    assert_same(resumed, whole)
    history = resumed.net_.history
    assert [epoch["train_batch_count"] for epoch in history] == [5] * N_EPOCHS
    # The epoch that was broken off was not run again from its beginning.
    n_batches = sum(len(epoch["batches"]) for epoch in history)
    assert n_batches == 5 * N_EPOCHS - n_steps // 5 * 5


def noisy(image):
    """Draws from the generators of NumPy and Python."""
    noise = np.random.normal(scale=0.1, size=image.shape)
    return np.clip(random.random() * image + noise, 0, 1).astype(image.dtype)


SETTINGS = {
    "gradual": {"gradual": 2, "batch_norm": "update", "layer_decay": 0.5},
    "stopping": {"early_stopping": True, "validation_fraction": 0.3, "patience": 2, "epochs": 9},
    "plateau": {"schedule": "plateau", "optimizer": "sgd", "sampler": "balanced"},
    "mixup": {"mixup": 0.4, "augment": "light", "schedule": "one-cycle"},
    "l2-sp": {"penalty": "l2-sp", "accumulate": 2, "precision": "bfloat16"},
    "delta": {"penalty": "delta", "penalty_weight": 0.1},
    "rkd": {"penalty": "rkd", "recompute_activations": True},
    "head": {"unfreeze": "head", "head_init": "random"},
    "stage": {"unfreeze": 1},
    "ema": {"average": "ema", "early_stopping": True, "validation_fraction": 0.3},
    "swa": {"average": "swa", "interpolate": 0.5},
    "lora": {"tune": "lora", "rank": 2, "average": "ema"},
    "found rate": {"learning_rate": "find"},
    "own changes": {"augment": noisy, "augment_input": "array"},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_every_part_of_a_training_is_resumed(settings, some, tmp_path, monkeypatch):
    whole = made(None, **settings).fit(*some)
    broken_off(made(tmp_path, **settings), *some, "on_epoch_begin", 2)
    assert_same(made(tmp_path, **settings).fit(*some), whole)
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    broken_off(made(tmp_path, **settings), *some, "on_batch_begin", 7)
    assert_same(made(tmp_path, **settings).fit(*some), whole)


def test_the_discriminator_of_domains_is_resumed_with_its_progress(digits, tmp_path):
    X, y = digits[0][:80], digits[1][:80]
    domain = {"sample_domain": np.repeat([1, -1], 40)}
    whole = made(None, alignment="dann").fit(X, y, **domain)
    broken_off(made(tmp_path, alignment="dann"), X, y, "on_epoch_begin", 2, **domain)
    assert_same(made(tmp_path, alignment="dann").fit(X, y, **domain), whole)


def test_texts_and_sequences_are_resumed(tmp_path):
    texts = PretrainedTextFeatures(write_language(tmp_path / "bert"))
    series = RNNSequenceFeatures(weights="random", hidden_size=6, random_state=0)
    rng = np.random.RandomState(0)
    cases = [(texts, TEXTS * 2, LABELS * 2), (series, rng.randn(20, 12), [0, 1] * 10)]
    for features, X, y in cases:
        how = {"features": features, "batch_size": 4}
        whole = made(None, **how).fit(X, y)
        broken_off(made(tmp_path / "runs", **how), X, y, "on_epoch_begin", 2)
        assert len(list((tmp_path / "runs").iterdir())) == 1
        assert_same(made(tmp_path / "runs", **how).fit(X, y), whole)


def test_numbers_and_transformers_are_resumed(some, tmp_path):
    X, y = some[0], some[0].mean((1, 2))
    how = {"estimator": FineTunedRegressor}
    whole = made(None, **how).fit(X, y)
    broken_off(made(tmp_path, **how), X, y, "on_epoch_begin", 2)
    assert_same(made(tmp_path, **how).fit(X, y), whole)

    def transformer(folder, *callbacks):
        strategy = FineTune(epochs=3, guard=False, checkpoint=folder, callbacks=list(callbacks))
        return images_of(strategy=strategy)

    expected = transformer(None).fit(*some).transform(X)
    with pytest.raises(KeyboardInterrupt):
        transformer(tmp_path, Stop("on_epoch_begin", 2)).fit(*some)
    assert_array_equal(transformer(tmp_path).fit(*some).transform(X), expected)


def test_trainings_that_differ_share_a_folder_without_taking_each_others_state(
    some, whole, tmp_path
):
    others = {
        "seed": lambda: made(tmp_path, seed=1),
        "rate": lambda: made(tmp_path, learning_rate=2e-3),
        "augment": lambda: made(tmp_path, augment=_darker),
        "layer": lambda: made(tmp_path, images_of(layer="first"), augment=_darker),
    }
    broken_off(made(tmp_path), *some, "on_epoch_begin", 2)
    for number, other in enumerate(others.values(), start=2):
        broken_off(other(), *some, "on_epoch_begin", 2)
        assert len(list(tmp_path.iterdir())) == number
    # Other rows, other labels, rows of another order.
    X, y = some
    for rows, labels in [(X[1:], y[1:]), (X, (y + 1) % 10), (X[::-1], y[::-1]), (X * 0.9, y)]:
        broken_off(made(tmp_path), rows, labels, "on_epoch_begin", 2)
    assert len(list(tmp_path.iterdir())) == len(others) + 1 + 4
    assert_same(made(tmp_path).fit(*some), whole)
    assert len(list(tmp_path.iterdir())) == len(others) + 4


def _darker(image):
    return image * 0.5


def test_folds_of_a_search_share_a_folder(some, tmp_path):
    expected = cross_val_predict(made(None, epochs=2), *some, cv=2, method="decision_function")
    stopped = made(tmp_path, epochs=2, callbacks=[Stop("on_epoch_begin", 1)])
    with pytest.raises(KeyboardInterrupt):
        cross_val_predict(stopped, *some, cv=2)
    found = cross_val_predict(made(tmp_path, epochs=2), *some, cv=2, method="decision_function")
    assert_array_equal(found, expected)
    assert list(tmp_path.iterdir()) == []


class InTraining(Callback):
    """Counts epochs of all trainings of a fit, and presses Ctrl-C in one of them."""

    n_trainings = n_epochs = 0
    stop_in = None

    def on_train_begin(self, net, **kwargs):
        InTraining.n_trainings += 1

    def on_epoch_begin(self, net, **kwargs):
        InTraining.n_epochs += 1
        if InTraining.n_trainings == InTraining.stop_in and len(net.history) == 2:
            raise KeyboardInterrupt


def test_trainings_of_a_fit_that_have_ended_are_not_run_again(some, tmp_path, monkeypatch):
    X, y = some[0], some[1] % 2
    whole = made(None, guard=True, epochs=3).fit(X, y)
    judged = made(tmp_path, guard=True, epochs=3, callbacks=[InTraining()])
    for name, value in {"n_trainings": 0, "n_epochs": 0, "stop_in": 3}.items():
        monkeypatch.setattr(InTraining, name, value)
    with pytest.raises(KeyboardInterrupt):
        judged.fit(X, y)
    assert len(list(tmp_path.iterdir())) == 3
    for name, value in {"n_trainings": 0, "n_epochs": 0, "stop_in": None}.items():
        monkeypatch.setattr(InTraining, name, value)
    assert_same(judged.fit(X, y), whole)
    # Of the first three, the third had two epochs left.
    assert InTraining.n_epochs == 3 * (InTraining.n_trainings - 3) + 2
    assert list(tmp_path.iterdir()) == []


class Remembers(Callback):
    """A callback of a user's own with a state."""

    def initialize(self):
        self.seen = []
        return self

    def on_epoch_begin(self, net, **kwargs):
        self.seen.append(len(self.seen))

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


def test_callbacks_with_a_state_dict_keep_their_state_and_others_begin_anew(some, tmp_path):
    callbacks = [Remembers(), Stop("on_epoch_begin", 2)]
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, callbacks=callbacks).fit(*some)
    callbacks = [Remembers(), Stop("on_epoch_begin", 9)]
    resumed = made(tmp_path, callbacks=callbacks).fit(*some)
    own = dict(resumed.net_.callbacks_)
    assert own["own_0"].seen == [0, 1, 2, 3]
    assert own["own_1"].calls == 2


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_checkpoint_is_not_used(damage, some, whole, tmp_path):
    broken_off(made(tmp_path), *some, "on_epoch_begin", 2)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    middle = len(content) // 2
    file.write_bytes(
        {
            "truncated": content[:middle],
            "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "empty": b"",
        }[damage]
    )
    with pytest.warns(UserWarning, match=r"is damaged, so the training begins anew"):
        again = made(tmp_path).fit(*some)
    assert_same(again, whole)


def test_a_training_that_another_one_is_at_already_runs_beside_it(some, whole, tmp_path):
    beside = []

    class Nested(Stop):
        def on_epoch_begin(self, net, **kwargs):
            if len(net.history) == 2 and not beside:
                beside.append(None)
                with pytest.warns(UserWarning, match="another process or thread is at the same"):
                    beside.append(made(tmp_path).fit(*some))

    assert_same(made(tmp_path, callbacks=[Nested()]).fit(*some), whole)
    assert_same(beside[1], whole)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_training(
    some, whole, tmp_path, monkeypatch
):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sktransfer.finetuning.progress_files.replacing", full)
    with pytest.warns(UserWarning, match="cannot be written .*No space left") as seen:
        assert_same(made(tmp_path).fit(*some), whole)
    assert len(seen) == 1


def test_the_folder_must_be_one(some, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"checkpoint=.*file' cannot be made"):
        made(str(tmp_path / "file")).fit(*some)
    with pytest.raises(ValueError, match="checkpoint must be None or the path of a folder, got 3"):
        made(3).fit(*some)


def _fit_and_tell(folder, X, y):
    """What the killed processes run."""
    checkpoints.SECONDS = 0.0
    Path(folder, "begun").touch()
    estimator = made(Path(folder, "runs"), augment="light", epochs=8).fit(X, y)
    np.save(Path(folder, "answer.part.npy"), estimator.predict_proba(X))
    Path(folder, "epochs").write_text(str(len(estimator.history_)))
    Path(folder, "answer.part.npy").rename(Path(folder, "answer.npy"))


def test_processes_that_are_killed_at_random_come_to_the_result_of_one(some, tmp_path):
    expected = made(None, augment="light", epochs=8).fit(*some).predict_proba(some[0])
    rng = np.random.RandomState(0)
    n_kills = 0
    while not (tmp_path / "answer.npy").exists():
        (tmp_path / "begun").unlink(missing_ok=True)
        process = start_process(_fit_and_tell, str(tmp_path), *some)
        while process.is_alive() and not (tmp_path / "begun").exists():
            time.sleep(0.01)
        # Later and later, so that any machine comes to the end.
        process.join(rng.uniform(0, 0.1 * (n_kills + 1)))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            n_kills += 1
        process.join()
    assert n_kills > 0
    assert_allclose(np.load(tmp_path / "answer.npy"), expected, atol=1e-6)
    assert (tmp_path / "epochs").read_text() == "8"
    left = [file.name for file in (tmp_path / "runs").iterdir()]
    assert not any(name.endswith(".checkpoint") for name in left)
