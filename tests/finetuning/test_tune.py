"""Fine-tuning of biases, normalisation layers and low-rank updates, from end to end."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from skorch.callbacks import Callback
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from sktransfer import (
    FineTune,
    FineTunedClassifier,
    PretrainedCNNFeatures,
    PretrainedTextFeatures,
    RNNSequenceFeatures,
    count_trained_parameters,
)
from tests.helpers.networks import TwoStages

pytestmark = pytest.mark.slow

TEXTS = ["a cat", "a dog sleeps", "the stock fell", "shares rise again"] * 4
TOPICS = [0, 0, 1, 1] * 4
RNG = np.random.RandomState(0)
SERIES = [
    np.sin(np.linspace(0, 6, 30) * (1 + k % 2)) + 0.1 * RNG.normal(size=30) for k in range(16)
]


def vit():
    torch.manual_seed(0)
    return VisionTransformer(
        img_size=16, patch_size=8, in_chans=1, embed_dim=12, depth=2, num_heads=3, num_classes=0
    )


def lite0():
    return PretrainedCNNFeatures(layer="blocks.2", image_size=32, engine="torch")


def small():
    return PretrainedCNNFeatures(TwoStages, image_size=16, engine="torch", random_state=0)


def transformer():
    return PretrainedCNNFeatures(vit(), image_size=16, engine="torch")


def texts():
    return PretrainedTextFeatures(engine="torch")


def series():
    return RNNSequenceFeatures("lstm", weights="random", hidden_size=6, random_state=0)


MADE = {"lite0": lite0, "vit": transformer, "texts": texts, "series": series}


@pytest.fixture(scope="module")
def data(digits):
    images = (digits[0][:40], digits[1][:40] % 2)
    return {
        "lite0": images,
        "small": images,
        "vit": images,
        "texts": (TEXTS, TOPICS),
        "series": (SERIES, np.arange(16) % 2),
    }


def tuned(features, X, y, unfreeze="all", **settings):
    how = {"epochs": 2, "batch_size": 8, "guard": False, **settings}
    classifier = FineTunedClassifier(features, strategy=FineTune(unfreeze, **how), random_state=0)
    return classifier.fit(X, y)


def weights_of(module):
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def moved(before, after):
    assert list(before) == list(after)
    return {name for name in before if not torch.equal(before[name], after[name])}


def rank_of(change):
    return int(torch.linalg.matrix_rank(change.flatten(1).double(), rtol=1e-4))


@pytest.mark.parametrize("tune", ["bias", "norm", "lora"])
@pytest.mark.parametrize("kind", MADE)
def test_only_what_is_tuned_moves_and_the_network_keeps_its_form(kind, tune, data):
    if (kind, tune) == ("series", "norm"):
        with pytest.raises(ValueError, match="normalisation layer"):
            tuned(MADE[kind](), *data[kind], tune=tune)
        return
    features = MADE[kind]()
    source = features.fit(data[kind][0]).module_
    before = weights_of(source)
    kinds = [type(part) for part in source.modules()]
    classifier = tuned(features, *data[kind], 1, tune=tune, rank=2)
    module = classifier.features_.module_
    after = weights_of(module)
    trained = classifier.trained_parameters_
    assert moved(before, after) == set(trained)
    assert [type(part) for part in module.modules()] == kinds
    assert not any(nn.utils.parametrize.is_parametrized(part) for part in module.modules())
    assert not any(parameter.requires_grad for parameter in module.parameters())
    n_of_head = classifier.coef_.size + classifier.intercept_.size
    if tune == "lora":
        n_of_body = 0
        for name in trained:
            matrix = (after[name] - before[name]).flatten(1)
            inner = min(2, *matrix.shape)
            assert rank_of(matrix) <= inner
            n_of_body += inner * sum(matrix.shape)
    else:
        n_of_body = sum(after[name].numel() for name in trained)
        assert all(after[name].ndim == 1 for name in trained)
    assert classifier.n_trained_parameters_ == n_of_head + n_of_body
    assert count_trained_parameters(classifier) == n_of_head + n_of_body


@pytest.mark.parametrize("kind", MADE)
def test_a_pickle_and_a_saved_folder_predict_the_same_after_low_rank_training(kind, data, tmp_path):
    X, y = data[kind]
    features = small() if kind == "lite0" else MADE[kind]()
    classifier = tuned(features, X, y, tune="lora")
    expected = classifier.predict_proba(X)
    copies = [pickle.loads(pickle.dumps(classifier))]
    if kind in ("texts", "series"):  # networks of one's own are pickled only
        classifier.save(tmp_path / "saved")
        copies.append(FineTunedClassifier.load(tmp_path / "saved"))
    for each in copies:
        assert_array_equal(each.predict_proba(X), expected)
        assert each.n_trained_parameters_ == classifier.n_trained_parameters_
        each.partial_fit(X, y)
        change = np.abs(each.predict_proba(X) - expected).max()
        assert 0 < change < 0.5


def test_openvino_computes_what_torch_does_after_low_rank_training(data):
    X, y = data["lite0"]
    classifier = tuned(lite0(), X, y, tune="lora")
    expected = classifier.features_.transform(X)
    converted = pickle.loads(pickle.dumps(classifier.features_)).set_params(engine="openvino")
    assert_allclose(converted.transform(X), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("tune", ["bias", "norm", "lora"])
def test_a_cached_trunk_changes_nothing(tune, data):
    X, y = data["lite0"]
    cached, plain = (
        tuned(lite0(), X, y, 1, tune=tune, cache_trunk=cached).predict_proba(X)
        for cached in (True, False)
    )
    assert_allclose(cached, plain, atol=1e-3)


def test_gradual_unfreezing_leaves_out_the_updates_of_stages_that_are_not_due(data):
    before = weights_of(small().fit(data["small"][0]).module_)
    for gradual, stages in ((1, {"first", "second"}), (2, {"second"})):
        classifier = tuned(small(), *data["small"], tune="lora", gradual=gradual, epochs=3)
        after = weights_of(classifier.features_.module_)
        assert {name.split(".")[0] for name in moved(before, after)} == stages
        assert {name.split(".")[0] for name in classifier.trained_parameters_} == stages


class Press(Callback):
    """Presses Ctrl-C when a batch of the third epoch begins, or ends."""

    def __init__(self, event):
        self.event = event

    def on_grad_computed(self, net, named_parameters, **kwargs):
        self.press(net, "on_grad_computed")

    def on_batch_end(self, net, training=False, **kwargs):
        self.press(net, "on_batch_end")

    def press(self, net, event):
        if event == self.event and len(net.history) == 3:
            raise KeyboardInterrupt


@pytest.mark.parametrize("event", ["on_grad_computed", "on_batch_end"])
def test_an_interrupt_leaves_merged_weights(event, data):
    X, y = data["small"]
    strategy = FineTune("all", tune="lora", rank=1, epochs=5, callbacks=[Press(event)])
    classifier = FineTunedClassifier(small(), strategy=strategy, random_state=0)
    before = weights_of(small().fit(X).module_)
    with pytest.raises(KeyboardInterrupt, match="can be used"):
        classifier.fit(X, y)
    module = classifier.features_.module_
    after = weights_of(module)
    assert moved(before, after) == set(classifier.trained_parameters_)
    assert all(rank_of(after[name] - before[name]) == 1 for name in classifier.trained_parameters_)
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert len(classifier.history_) == 2


def test_the_best_epoch_is_the_one_that_is_merged(digits):
    X, y = digits[0][:300], digits[1][:300]
    classifier = tuned(
        small(), X, y, tune="lora", early_stopping=True, epochs=40, patience=2, learning_rate=0.05
    )
    losses = [epoch["valid_loss"] for epoch in classifier.history_]
    assert len(losses) == np.argmin(losses) + 1 + 2 < 40
    rows = classifier.net_.get_params()["train_split"].keywords["valid_ds"].rows
    probability = classifier.predict_proba(X[rows])
    codes = np.searchsorted(classifier.classes_, y[rows])
    loss = -np.log(probability[np.arange(len(codes)), codes]).mean()
    assert loss == pytest.approx(min(losses), rel=1e-3)


def test_partial_fit_trains_new_factors_on_the_merged_weights(data):
    X, y = data["small"]
    before = weights_of(small().fit(X).module_)
    classifier = tuned(small(), X, y, tune="lora", rank=1)
    fitted = weights_of(classifier.features_.module_)
    classifier.partial_fit(X, y)
    after = weights_of(classifier.features_.module_)
    for name in classifier.trained_parameters_:
        assert rank_of(fitted[name] - before[name]) == 1
        assert rank_of(after[name] - fitted[name]) == 1
        assert rank_of(after[name] - before[name]) == 2
    # All rates are those of `fit`, the factors' included.
    groups = classifier.net_.optimizer_.param_groups
    assert sorted({group["factor"] for group in groups}) == [1.0, 10.0]


def test_a_partial_fit_that_fails_leaves_merged_weights_as_they_were(data):
    X, y = data["small"]
    classifier = tuned(small(), X, y, tune="lora")
    expected = classifier.predict_proba(X)
    broken = np.array(X)
    classifier.strategy.set_params(learning_rate=1e30)
    with pytest.raises(ValueError, match="diverged"):
        classifier.partial_fit(broken, y)
    assert_array_equal(classifier.predict_proba(X), expected)
    classifier.strategy.set_params(learning_rate=1e-3)
    assert np.isfinite(classifier.partial_fit(X, y).predict_proba(X)).all()


@pytest.mark.parametrize("tune", ["bias", "norm", "lora"])
def test_batch_norm_of_unfrozen_stages_may_learn_statistics(tune, data):
    before = weights_of(small().fit(data["small"][0]).module_)
    for batch_norm in ("frozen", "update"):
        classifier = tuned(small(), *data["small"], 1, tune=tune, batch_norm=batch_norm)
        learned = moved(before, weights_of(classifier.features_.module_))
        statistics = {name for name in learned if "running" in name}
        assert bool(statistics) == (batch_norm == "update")
        assert {name.split(".")[0] for name in learned} == {"second"}


def test_the_trainings_of_a_guard_leave_no_updates_behind(digits):
    X, y = digits[0][:80], digits[1][:80] % 2
    before = weights_of(small().fit(X).module_)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fine-tuning made the network worse")
        classifier = tuned(small(), X, y, tune="lora", rank=1, guard=True, epochs=4)
    after = weights_of(classifier.features_.module_)
    trained = classifier.trained_parameters_
    assert moved(before, after) == set(trained)
    assert all(rank_of(after[name] - before[name]) == 1 for name in trained)


@pytest.mark.parametrize("penalty", ["delta", "bss", "rkd"])
def test_penalties_of_features_go_with_low_rank_updates(penalty, data):
    classifier = tuned(small(), *data["small"], tune="lora", penalty=penalty)
    assert np.isfinite(classifier.history_[-1]["train_loss"])


def test_l2_sp_pulls_biases_to_the_source_and_is_refused_for_factors(data):
    before = weights_of(small().fit(data["small"][0]).module_)
    kept = tuned(small(), *data["small"], tune="bias", penalty="l2-sp", penalty_weight=float("inf"))
    assert not moved(before, weights_of(kept.features_.module_))
    with pytest.raises(ValueError, match=r"penalty='l2-sp' pulls weights.*set penalty=None"):
        tuned(small(), *data["small"], tune="lora", penalty="l2-sp")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tune": "adapter"}, r"tune must be one of .*got 'adapter'"),
        ({"tune": True}, "tune must be one of"),
        ({"rank": 0}, "rank == 0, must be >= 1"),
        ({"rank": 2.0}, "rank must be an instance of int"),
    ],
)
def test_wrong_values_are_errors(settings, message, data):
    with pytest.raises((ValueError, TypeError), match=message):
        tuned(small(), *data["small"], **settings)


def test_partial_fit_goes_on_with_the_tune_and_rank_that_it_began_with(data):
    X, y = data["small"]
    classifier = tuned(small(), X, y, tune="lora")
    for change in ({"tune": "bias"}, {"rank": 4}):
        other = pickle.loads(pickle.dumps(classifier))
        other.strategy.set_params(**change)
        with pytest.raises(ValueError, match=next(iter(change))):
            other.partial_fit(X, y)


def test_the_head_alone_is_the_same_for_every_tune(data):
    X, y = data["small"]
    expected = tuned(small(), X, y, "head").predict_proba(X)
    for tune in ("bias", "norm", "lora"):
        classifier = tuned(small(), X, y, "head", tune=tune)
        assert_array_equal(classifier.predict_proba(X), expected)
        assert classifier.trained_parameters_ == ()
        assert np.isfinite(classifier.partial_fit(X, y).predict_proba(X)).all()
