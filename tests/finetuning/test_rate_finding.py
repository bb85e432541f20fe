"""Learning rates from a range test, against closed forms and against the rate given explicitly."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from skorch.callbacks import Callback
from torch import nn

from sktransfer import (
    FineTune,
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedCNNFeatures,
    RNNSequenceFeatures,
)
from sktransfer.finetuning.rate_finding import N_STEPS, choose_rate, smooth
from sktransfer.finetuning.strategy import check_strategy
from tests.helpers.networks import TwoStages


def images_of(network=TwoStages):
    return PretrainedCNNFeatures(network, image_size=16, random_state=0, engine="torch")


def fitted(
    X, y, unfreeze="all", *, features=None, domain=None, cls=FineTunedClassifier, **settings
):
    how = {"epochs": 2, "guard": False, "batch_size": 32, "learning_rate": "find", **settings}
    features = images_of() if features is None else features
    return cls(features, strategy=FineTune(unfreeze, **how), random_state=0).fit(
        X, y, sample_domain=domain
    )


def state_of(estimator):
    state = {
        **estimator.features_.module_.state_dict(),
        **estimator.net_.criterion_.state_dict(prefix="criterion."),
        "coef": torch.from_numpy(estimator.coef_),
        "intercept": torch.from_numpy(estimator.intercept_),
    }
    for number, group in enumerate(estimator.net_.optimizer_.state_dict()["state"].values()):
        for name, value in group.items():
            state[f"optimizer.{number}.{name}"] = torch.as_tensor(value)
    return state


class Dropping(nn.Module):
    """A network with batch norm, dropout, and a buffer that no state dict holds."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2), nn.ReLU(), nn.Dropout(0.3))
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x):
        if self.training:
            self.calls += 1
        return self.second(self.norm(self.first(x)).relu() * (1 + 0.01 * self.calls)).mean((2, 3))


SETTINGS = {
    "head": {"unfreeze": "head"},
    "one stage": {"unfreeze": 1},
    "all": {},
    "batch norm learns": {"batch_norm": "update"},
    "random changes": {"augment": "light", "mixup": 0.3, "sampler": "balanced"},
    "sgd": {"optimizer": "sgd", "layer_decay": 0.5},
    "gradual": {"gradual": 1},
    "l2-sp": {"penalty": "l2-sp"},
    "delta": {"penalty": "delta"},
    "stopping": {"early_stopping": True, "validation_fraction": 0.3, "scoring": "accuracy"},
    "plateau": {"schedule": "plateau", "gradient_clip": None},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_training_equals_that_with_the_found_rate_given(settings, digits):
    X, y = digits[0][:80], digits[1][:80]
    found = fitted(X, y, **settings)
    given = fitted(X, y, **{**settings, "learning_rate": found.learning_rate_})
    first, second = state_of(found), state_of(given)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    for a, b in zip(found.history_, given.history_, strict=True):
        assert {**a, "dur": 0} == {**b, "dur": 0}
    assert 1e-6 < found.learning_rate_ < 10


@pytest.mark.parametrize("settings", [{}, {"batch_norm": "update"}])
def test_dropout_and_buffers_are_set_back(settings, digits):
    X, y = digits[0][:60], digits[1][:60]
    torch.manual_seed(0)
    module = Dropping()
    fits = []
    for rate in ("find", None):
        rate = rate or fits[0].learning_rate_
        features = PretrainedCNNFeatures(module, image_size=16, engine="torch")
        fits.append(fitted(X, y, features=features, learning_rate=rate, **settings))
    first, second = map(state_of, fits)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(*(each.features_.module_.calls for each in fits))
    assert module.calls == 0


@pytest.mark.slow
def test_a_discriminator_of_domains_is_set_back(digits):
    X, y = digits[0][:80], digits[1][:80]
    how = {"alignment": "dann", "domain": np.repeat([1, -1], 40)}
    found = fitted(X, y, **how)
    given = fitted(X, y, **how, learning_rate=found.learning_rate_)
    first, second = state_of(found), state_of(given)
    assert any(name.startswith("criterion.discriminator") for name in first)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_sequences_and_numbers_have_their_rates_found_too():
    rng = np.random.default_rng(0)
    frequency = rng.uniform(1, 5, 30)
    X = np.sin(frequency[:, None] * np.linspace(0, 6, 30))
    features = RNNSequenceFeatures(views="z")
    how = {"features": features, "cls": FineTunedRegressor, "batch_size": 15, "head_init": "random"}
    found = fitted(X, frequency, 1, **how)
    given = fitted(X, frequency, 1, **how, learning_rate=found.learning_rate_)
    assert_array_equal(found.predict(X), given.predict(X))


def test_callbacks_do_not_see_the_test_and_generators_are_left_alone(digits):
    class Counts(Callback):
        def on_train_begin(self, net, **kwargs):
            self.steps_ = 0

        def on_batch_end(self, net, training=False, **kwargs):
            self.steps_ += training

    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    classifier = fitted(digits[0][:64], digits[1][:64], callbacks=[("counts", Counts())])
    assert dict(classifier.net_.callbacks_)["counts"].steps_ == 2 * 2
    assert len(classifier.history_) == 2
    assert_array_equal(torch.get_rng_state(), states[0])
    assert_array_equal(np.random.get_state()[1], states[1])


def test_the_curve_has_the_rates_in_equal_ratios_and_at_most_so_many_steps(digits):
    classifier = fitted(digits[0][:80], digits[1][:80])
    curve = classifier.rate_curve_
    assert set(curve) == {"rate", "loss", "smoothed_loss"}
    assert len({len(values) for values in curve.values()}) == 1
    assert 10 < len(curve["rate"]) <= N_STEPS
    assert_allclose(curve["rate"][1:] / curve["rate"][:-1], 10 ** (7 / (N_STEPS - 1)))
    assert_allclose(curve["smoothed_loss"], smooth(curve["loss"]))
    assert classifier.learning_rate_ in curve["rate"]
    assert choose_rate(curve) == classifier.learning_rate_


def test_the_first_loss_of_the_test_is_that_of_the_network_as_it_was(digits):
    X, y = digits[0][:32], digits[1][:32]
    # One batch of all rows, whose order changes nothing, and a head alone, which has no dropout.
    test = fitted(X, y, "head", epochs=1).rate_curve_["loss"][0]
    plain = fitted(X, y, "head", epochs=1, learning_rate=0.1)
    assert_allclose(test, plain.history_[0]["train_loss"], 1e-5)


def test_smoothing_is_a_weighted_mean_of_the_past():
    losses = np.random.RandomState(0).uniform(size=7)
    for number, found in enumerate(smooth(losses)):
        weights = 0.9 ** np.arange(number, -1, -1)
        assert_allclose(found, np.average(losses[: number + 1], weights=weights))


def test_two_fifths_of_the_fall_of_a_sigmoid_are_a_little_before_its_steepest_point():
    rate = np.geomspace(1e-6, 10, 1000)
    smoothed = 0.2 + 1 / (1 + (rate / 3e-3) ** 2)
    slope = np.gradient(smoothed, np.log(rate))
    steepest = rate[slope.argmin()]
    smoothed[-50:] += np.linspace(0, 10, 50)  # and then it explodes
    found = choose_rate({"rate": rate, "smoothed_loss": smoothed})
    assert_allclose(found, 3e-3 * np.sqrt(0.4 / 0.6), rtol=0.02)
    assert 0.7 * steepest < found < steepest


@pytest.mark.parametrize("curve", [np.ones(50), np.linspace(1, 5, 50), [1.0, np.nan], [np.nan]])
def test_a_loss_that_never_falls_is_refused(curve):
    curve = {"rate": np.geomspace(1e-6, 1, len(curve)), "smoothed_loss": np.array(curve)}
    with pytest.raises(ValueError, match="found no rate at which the loss falls; give a number"):
        choose_rate(curve)


def test_rate_and_curve_survive_pickle_and_a_file_and_partial_fit_goes_on_with_the_rate(
    digits, tmp_path
):
    X, y = digits[0][:64], digits[1][:64]
    classifier = fitted(
        X,
        y,
        "head",
        features=PretrainedCNNFeatures(layer="blocks.1", image_size=32, engine="torch"),
    )
    rate = classifier.learning_rate_
    classifier.save(tmp_path / "saved")
    restored = [
        pickle.loads(pickle.dumps(classifier)),
        FineTunedClassifier.load(tmp_path / "saved"),
    ]
    for again in restored:
        assert again.learning_rate_ == again.features_.learning_rate_ == rate
        for name, values in classifier.rate_curve_.items():
            assert_array_equal(again.rate_curve_[name], values)
    for again in (classifier, *restored):
        again.partial_fit(X, y)
        assert again.learning_rate_ == rate
        assert again.strategy.learning_rate == "find"
        assert {group["lr"] for group in again.net_.optimizer_.param_groups} == {rate}


def test_a_first_partial_fit_finds_a_rate_and_the_next_keeps_it(digits):
    X, y = digits[0][:64], digits[1][:64]
    strategy = FineTune("head", learning_rate="find", batch_size=32)
    classifier = FineTunedClassifier(images_of(), strategy=strategy, random_state=0)
    rate = classifier.partial_fit(X, y).learning_rate_
    assert classifier.partial_fit(X[:32], y[:32]).learning_rate_ == rate


def test_transformers_have_it_too_and_an_explicit_rate_has_no_curve(digits):
    X, y = digits[0][:64], digits[1][:64]
    features = clone(images_of()).set_params(
        strategy=FineTune("head", learning_rate="find", epochs=1, guard=False)
    )
    found = features.fit(X, y).learning_rate_
    assert len(features.rate_curve_["rate"])
    features.set_params(strategy__learning_rate=0.02).fit(X, y)
    assert features.learning_rate_ == 0.02 != found
    assert not hasattr(features, "rate_curve_")
    frozen = FineTunedClassifier(images_of(), strategy="frozen").fit(X, y)
    assert not hasattr(frozen, "rate_curve_")
    assert not hasattr(frozen, "learning_rate_")


def test_ctrl_c_during_the_test_leaves_the_estimator_unfitted(digits, monkeypatch):
    def interrupt(losses):
        raise KeyboardInterrupt

    monkeypatch.setattr("sktransfer.finetuning.rate_finding.smooth", interrupt)
    classifier = FineTunedClassifier(images_of(), strategy=FineTune(1, learning_rate="find"))
    with pytest.raises(KeyboardInterrupt, match="range test"):
        classifier.fit(digits[0][:64], digits[1][:64])
    assert not hasattr(classifier, "features_")


@pytest.mark.parametrize("rate", ["fastest", 0, -1.0, np.nan])
def test_other_rates_are_refused(rate):
    with pytest.raises((ValueError, TypeError), match="learning_rate must be|learning_rate =="):
        check_strategy(FineTune(learning_rate=rate))
