"""The net that runs the epochs: steps of several batches, and precision."""

import gc
from collections import Counter

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import nn

from sktransfer import (
    FineTune,
    FineTunedClassifier,
    PretrainedCNNFeatures,
    PretrainedTextFeatures,
    RNNSequenceFeatures,
)
from sktransfer.finetuning.batches import TrainingRows, pieces_of_step
from tests.helpers.languages import LABELS, TEXTS, write_language
from tests.helpers.networks import TwoStages


def images_of(network=TwoStages, **parameters):
    how = {"image_size": 16, "random_state": 0, "engine": "torch", **parameters}
    return PretrainedCNNFeatures(network, **how)


def fitted(X, y, features=None, metadata=None, **settings):
    how = {
        "unfreeze": "all",
        "epochs": 2,
        "learning_rate": 3e-3,
        "guard": False,
        "batch_norm": "frozen",
    }
    classifier = FineTunedClassifier(
        images_of() if features is None else features,
        strategy=FineTune(**{**how, **settings}),
        random_state=0,
    )
    return classifier.fit(X, y, **(metadata or {}))


class Plain(nn.Module):
    """`TwoStages` without dropout, whose draws depend on the size of a batch."""

    def __init__(self):
        super().__init__()
        whole = TwoStages()
        self.first, self.second, self.head = whole.first, whole.second[:3], whole.head

    def forward(self, x):
        return self.head(self.second(self.first(x)).flatten(1))


@pytest.mark.parametrize("n", [2, 3, 7, 64, 65, 129])
@pytest.mark.parametrize("most", [1, 2, 16])
def test_pieces_hold_every_row_once_and_none_a_single_one(n, most):
    targets = {"labelled": torch.arange(n) % 3 > 0, "values": torch.arange(n)}
    pieces = pieces_of_step((torch.arange(n), targets), most, 200)
    sizes = [len(inputs) for inputs, _ in pieces]
    assert_array_equal(torch.cat([inputs for inputs, _ in pieces]), np.arange(n))
    assert_array_equal(torch.cat([target["values"] for _, target in pieces]), np.arange(n))
    assert max(sizes) <= max(most, 3 if most == 2 else 1)
    assert min(sizes) >= min(most, 2)
    assert len(pieces_of_step((torch.arange(n), targets), most, 1)) == 1
    if len(pieces) > 1:
        assert {int(target["n_rows"]) for _, target in pieces} == {n}
        assert {int(target["n_labelled"]) for _, target in pieces} == {(np.arange(n) % 3 > 0).sum()}


CASES = {
    "weights": ({"class_weight": "balanced"}, {"sample_weight": np.linspace(0, 2, 50)}),
    "blended": ({"mixup": 0.3, "penalty": "l2-sp", "gradient_clip": 0.1}, {}),
    "maps": ({"penalty": "delta", "penalty_weight": 0.1, "optimizer": "sgd"}, {}),
    "domains": ({"alignment": "dann"}, {"sample_domain": np.where(np.arange(50) % 3, 1, -1)}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_step_of_several_batches_is_that_of_the_large_batch(name, digits):
    settings, metadata = CASES[name]
    X, y = digits[0][:50], digits[1][:50] % 3
    whole, pieces = (
        fitted(X, y, images_of(Plain), metadata, **settings, batch_size=size, accumulate=n)
        for size, n in ((24, 1), (8, 3))
    )
    expected = whole.net_.module_.state_dict()
    for name, weight in pieces.net_.module_.state_dict().items():
        assert_allclose(weight, expected[name], atol=1e-4, err_msg=name)
    assert_allclose(pieces.predict_proba(X), whole.predict_proba(X), atol=1e-4)
    # Steps are counted, not batches: the schedule is the same, and so are the records.
    for one, other in zip(pieces.history_, whole.history_, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
    assert [e["train_batch_count"] for e in pieces.net_.history] == [2, 2]
    before = pieces.net_.history[-1]["train_batch_count"]
    if not metadata:
        assert len(pieces.partial_fit(X, y).history_) == 3
        assert pieces.net_.history[-1]["train_batch_count"] == before


def test_no_more_rows_than_a_batch_are_in_the_network_at_once(digits, monkeypatch):
    seen = []
    forward = nn.Conv2d.forward

    def noting(self, x):
        seen.append(len(x)) if self.training else None
        return forward(self, x)

    monkeypatch.setattr(nn.Conv2d, "forward", noting)
    fitted(digits[0][:40], digits[1][:40], batch_size=10, accumulate=4)
    assert set(seen) == {10}


@pytest.mark.slow
def test_steps_of_several_batches_of_texts_and_series(tmp_path):
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    texts = PretrainedTextFeatures(write_language(tmp_path / "bert", **no_dropout))
    series = RNNSequenceFeatures(weights="random", hidden_size=6, random_state=0)
    X = np.random.RandomState(0).randn(24, 12)
    for features, some, y in ((texts, TEXTS * 2, LABELS * 2), (series, X, [0, 1] * 12)):
        whole, pieces = (
            fitted(some, y, features, batch_size=size, accumulate=n).predict_proba(some)
            for size, n in ((8, 1), (2, 4))
        )
        assert_allclose(pieces, whole, atol=1e-4)


def test_the_body_is_trained_in_bfloat16_and_everything_else_in_float32(digits, monkeypatch):
    seen = {True: set(), False: set()}
    forward = nn.Conv2d.forward

    def noting(self, x):
        out = forward(self, x)
        seen[self.training].add(out.dtype)
        return out

    monkeypatch.setattr(nn.Conv2d, "forward", noting)
    X, y = digits[0][:40], digits[1][:40]
    classifier = fitted(X, y, precision="bfloat16")
    assert seen == {True: {torch.bfloat16}, False: {torch.float32}}
    network = classifier.net_.module_
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}
    monkeypatch.undo()
    single = fitted(X, y)
    assert 0 < np.abs(classifier.predict_proba(X) - single.predict_proba(X)).max() < 0.1


def test_a_step_in_bfloat16_has_the_gradients_of_torchs_autocast(digits):
    network = fitted(digits[0][:40], digits[1][:40], images_of(Plain), precision="bfloat16").net_
    network = network.module_
    network.unfreeze_again()
    network.train()
    x = torch.randn(6, 1, 16, 16, generator=torch.manual_seed(0))
    network(x).scores.square().sum().backward()
    found = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    network._precision = "float32"
    with torch.autocast("cpu", torch.bfloat16):
        features = network.body(x)
    network.head(network.head.standardise(features.float())).square().sum().backward()
    assert found
    for name, parameter in network.named_parameters():
        if name in found:
            most = float(parameter.grad.abs().max())
            assert_allclose(found[name], parameter.grad, atol=0.01 * most, err_msg=name)


@pytest.mark.parametrize("backbone", ["gru", "lstm"])
def test_recurrent_networks_are_trained_in_bfloat16_too(backbone):
    X = np.random.RandomState(0).randn(24, 12)
    features = RNNSequenceFeatures(backbone, weights="random", hidden_size=6, random_state=0)
    single, half = (
        fitted(X, [0, 1] * 12, features, precision=precision).predict_proba(X)
        for precision in ("float32", "bfloat16")
    )
    assert_allclose(half, single, atol=0.1)


@pytest.mark.parametrize(
    "wrong", [{"precision": "float16"}, {"accumulate": 0}, {"recompute_activations": 1}]
)
def test_wrong_values_are_named(wrong, digits):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        fitted(digits[0][:40], digits[1][:40], **wrong)


def test_fits_leave_no_network_optimizer_or_tensor_behind(digits):
    def alive():
        gc.collect()
        kinds = (nn.Module, torch.Tensor, torch.optim.Optimizer, NeuralNet, Callback, TrainingRows)
        return Counter(type(each) for each in gc.get_objects() if issubclass(type(each), kinds))

    def fit():
        for unfreeze in ("head", 1, "all"):
            settings = {"penalty": "rkd", "early_stopping": True} if unfreeze == "all" else {}
            fitted(digits[0][:60], digits[1][:60] % 2, unfreeze=unfreeze, epochs=1, **settings)

    fit()
    before = alive()
    for _ in range(3):
        fit()
    assert alive() == before
