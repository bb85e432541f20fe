"""Averages of weights over the steps of a training."""

import copy
from typing import ClassVar

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from skorch.callbacks import Callback
from torch.optim.swa_utils import AveragedModel, get_swa_avg_fn

from sktransfer import (
    FineTune,
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedCNNFeatures,
    PretrainedTextFeatures,
    RNNSequenceFeatures,
)
from tests.helpers.languages import LABELS, TEXTS, write_language
from tests.helpers.networks import TwoStages

N_STEPS = 12  # 3 epochs of 4


class Recorder(Callback):
    """Keeps the network as it is after each step, and where training begins and ends."""

    networks: ClassVar[list] = []
    starts: ClassVar[list] = []

    def on_train_begin(self, net, **kwargs):
        type(self).starts.append(copy.deepcopy(net.module_))

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            type(self).networks.append(copy.deepcopy(net.module_))


class Break(Callback):
    """Ctrl-C in the given step."""

    def __init__(self, step):
        self.step = step

    def on_batch_begin(self, net, training=False, **kwargs):
        self.step -= 1
        if self.step < 0:
            raise KeyboardInterrupt


@pytest.fixture
def recorded():
    Recorder.networks.clear()
    Recorder.starts.clear()
    return Recorder


@pytest.fixture(scope="module")
def some(digits):
    return digits[0][:128], digits[1][:128]


def tuned(X, y, average, *, callbacks=(), partial=False, **settings):
    how = {"unfreeze": "all", "epochs": 3, "batch_size": 32, "learning_rate": 0.01, "guard": False}
    how |= settings
    classifier = FineTunedClassifier(
        PretrainedCNNFeatures(TwoStages, image_size=16, random_state=0, engine="torch"),
        strategy=FineTune(average=average, callbacks=[Recorder(), *callbacks], **how),
        random_state=0,
    )
    return (classifier.partial_fit if partial else classifier.fit)(X, y)


def tensors_of(network):
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def check_equal(network, expected):
    expected = tensors_of(expected)
    for name, tensor in tensors_of(network).items():
        if tensor.dtype.kind == "f":  # counters are not averaged here
            assert_allclose(tensor, expected[name], atol=1e-5, err_msg=name)


def bias_corrected(decay):
    """Adam's exponential average, as a function for `AveragedModel`."""

    def average(mean, new, n_averaged):
        return mean + (1 - decay) / (1 - decay ** (int(n_averaged) + 1)) * (new - mean)

    return average


@pytest.mark.parametrize("batch_norm", ["frozen", "update"])
def test_swa_is_torchs_average_of_the_last_quarter_of_the_steps(batch_norm, some, recorded):
    fitted = tuned(*some, "swa", batch_norm=batch_norm)
    last = recorded.networks[-N_STEPS // 4 :]
    model = AveragedModel(last[0], avg_fn=get_swa_avg_fn(), use_buffers=True)
    for network in last:
        model.update_parameters(network)
    assert len(recorded.networks) == N_STEPS
    check_equal(fitted.net_.module_, model.module)
    state = fitted.features_.module_.state_dict()
    for name, tensor in fitted.net_.module_.body.module.state_dict().items():
        assert_array_equal(state[name], tensor)


@pytest.mark.parametrize("settings", [{}, {"batch_norm": "update"}, {"gradual": 1}], ids=str)
def test_ema_is_torchs_average_with_a_corrected_beginning(settings, some, recorded):
    fitted = tuned(*some, "ema", **settings)
    decay = 1 - 1 / (N_STEPS / 5)
    networks = recorded.networks
    model = AveragedModel(networks[0], avg_fn=bias_corrected(decay), use_buffers=True)
    for network in networks:
        model.update_parameters(network)
    check_equal(fitted.net_.module_, model.module)
    # In closed form: weights of the steps that sum to one.
    shares = decay ** np.arange(N_STEPS)[::-1]
    weights = np.stack([network.head.weight.detach().numpy() for network in networks])
    assert_allclose(
        fitted.net_.module_.head.weight.numpy(),
        np.tensordot(shares / shares.sum(), weights, 1),
        atol=1e-5,
    )


@pytest.mark.parametrize("average", ["ema", "swa"])
def test_averaging_does_not_change_the_steps(average, some, recorded):
    tuned(*some, None, early_stopping=True, patience=9)
    plain = [tensors_of(network) for network in recorded.networks]
    recorded.networks.clear()
    tuned(*some, average, early_stopping=True, patience=9)
    assert len(recorded.networks) == len(plain)
    for network, expected in zip(recorded.networks, plain, strict=True):
        for name, tensor in tensors_of(network).items():
            assert_array_equal(tensor, expected[name])


@pytest.mark.parametrize("average", ["ema", "swa"])
def test_early_stopping_judges_and_keeps_the_average(average, some):
    fitted = tuned(*some, average, early_stopping=True, epochs=6, patience=2, learning_rate=0.1)
    net = fitted.net_
    rows = net.train_split.keywords["valid_ds"]
    inputs, target = rows.take(rows.rows, training=False)
    net.criterion_.eval()
    with torch.no_grad():
        loss = float(net.criterion_(net.module_(inputs), target))
    losses = [epoch["valid_loss"] for epoch in fitted.history_]
    assert_allclose(loss, min(losses), rtol=1e-5)
    assert losses[-1] > min(losses)


@pytest.mark.parametrize("average", ["ema", "swa"])
def test_an_interrupt_leaves_the_average_of_the_steps_taken(average, some, recorded):
    classifier = FineTunedClassifier(
        PretrainedCNNFeatures(TwoStages, image_size=16, random_state=0, engine="torch"),
        strategy=FineTune(
            "all",
            epochs=3,
            batch_size=32,
            guard=False,
            average=average,
            callbacks=[Recorder(), Break(11)],
        ),
        random_state=0,
    )
    with pytest.raises(KeyboardInterrupt, match="interrupted in epoch 3"):
        classifier.fit(*some)
    assert len(recorded.networks) == 11
    taken = recorded.networks if average == "ema" else recorded.networks[9:]
    rule = bias_corrected(1 - 5 / N_STEPS) if average == "ema" else None
    model = AveragedModel(taken[0], avg_fn=rule)
    for network in taken:
        model.update_parameters(network)
    check_equal(classifier.net_.module_, model.module)
    assert classifier.predict(some[0]).shape == (128,)


@pytest.mark.parametrize("average", ["ema", "swa"])
def test_going_on_begins_with_the_average_and_averages_again(average, some, recorded):
    fitted = tuned(*some, average)
    average_of_fit = copy.deepcopy(fitted.net_.module_)
    recorded.networks.clear()
    recorded.starts.clear()
    fitted.partial_fit(*some)
    check_equal(recorded.starts[-1], average_of_fit)
    rule = bias_corrected(1 - 1 / max(1, 4 / 5)) if average == "ema" else None
    taken = recorded.networks if average == "ema" else recorded.networks[-1:]
    assert len(recorded.networks) == 4
    model = AveragedModel(taken[0], avg_fn=rule)
    for network in taken:
        model.update_parameters(network)
    check_equal(fitted.net_.module_, model.module)


def test_a_cached_trunk_changes_no_average(digits):
    X, y = digits[0][:100], digits[1][:100]
    fits = [
        FineTunedClassifier(
            PretrainedCNNFeatures(layer="blocks.1", image_size=32, engine="torch"),
            strategy=FineTune(1, epochs=2, average="ema", cache_trunk=cached, guard=False),
            random_state=0,
        ).fit(X, y)
        for cached in (True, False)
    ]
    assert_allclose(fits[0].predict_proba(X), fits[1].predict_proba(X), atol=1e-3)


@pytest.mark.parametrize("average", ["ema", "swa"])
def test_sequences_and_texts_are_averaged_as_well(average, recorded, tmp_path):
    X = np.random.RandomState(0).normal(size=(40, 25)).cumsum(axis=1)
    features = RNNSequenceFeatures(views="z", random_state=0)
    strategy = FineTune(
        "all",
        epochs=4,
        batch_size=10,
        guard=False,
        average=average,
        callbacks=[Recorder()],
        random_state=0,
    )
    regressor = FineTunedRegressor(features, strategy=strategy, random_state=0).fit(X, X[:, -1])
    _check_average_of(regressor, average, recorded.networks)
    recorded.networks.clear()
    texts = PretrainedTextFeatures(str(write_language(tmp_path / "bert")), engine="torch")
    classifier = FineTunedClassifier(
        texts, strategy=strategy.set_params(batch_size=2), random_state=0
    ).fit(TEXTS, LABELS)
    _check_average_of(classifier, average, recorded.networks)


def _check_average_of(fitted, average, networks):
    n_steps = len(networks)
    taken = networks if average == "ema" else networks[-(n_steps // 4) :]
    rule = bias_corrected(1 - 5 / n_steps) if average == "ema" else None
    model = AveragedModel(taken[0], avg_fn=rule)
    for network in taken:
        model.update_parameters(network)
    check_equal(fitted.net_.module_, model.module)


@pytest.mark.parametrize("average", ["EMA", True, 0.9])
def test_another_average_is_an_error(average, some):
    with pytest.raises(ValueError, match=r"average must be one of \(None, 'ema', 'swa'\), got"):
        tuned(*some, average)
