"""Recurrent networks that are tuned on labels."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from sktransfer import FineTune, FineTunedClassifier, FineTunedRegressor, RNNSequenceFeatures
from sktransfer.sequences.recurrent import states_by_layer
from tests.helpers.series import waves


class Strided(nn.Module):
    """A convolution over time, of which fewer steps come out than go in."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 5, 3, stride=2, padding=1)

    def forward(self, x):
        return self.conv(x.transpose(1, 2)).relu().transpose(1, 2)


class Both(nn.Module):
    """A bidirectional network that returns its states and the final ones."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(2, 5, batch_first=True, bidirectional=True)

    def forward(self, x):
        return self.rnn(x)


NETWORKS = {
    "default": {},
    "gru, two layers, both directions": {
        "backbone": "gru", "weights": "random", "num_layers": 2, "bidirectional": True,
        "hidden_size": 6,
    },
    "rnn, projected": {
        "backbone": "rnn", "weights": "random", "hidden_size": 8, "output_dim": 12,
        "views": "z+d4", "pooling": "mean+max+min+std+last",
    },
    "attention": {
        "weights": "random", "hidden_size": 6, "pretraining": "contrastive",
        "pooling": "attention+mean", "views": "z",
    },
    "one of torch's own": {
        "backbone": lambda: nn.LSTM(2, 5, batch_first=True), "views": "g", "pooling": "mean+ppv",
    },
    "torch's own, both directions": {
        "backbone": lambda: nn.GRU(2, 5, 2, batch_first=True, bidirectional=True),
    },
    "one's own, both directions": {"backbone": lambda: Both(), "pooling": "last+mean"},
    "the first of three layers": {
        "weights": "random", "num_layers": 3, "hidden_size": 5, "layer": 0, "views": "z+dg",
        "pooling": "mean+ppv",
    },
    "two of three layers, both directions": {
        "backbone": "gru", "weights": "random", "num_layers": 3, "hidden_size": 5,
        "bidirectional": True, "layer": (0, 1), "pooling": "mean+last", "views": "z",
    },
    "two layers, projected inside": {
        "backbone": lambda: nn.LSTM(2, 7, 3, batch_first=True, proj_size=4, bias=False),
        "layer": (1, 2), "pooling": "max+std",
    },
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_trained_computes_the_features_that_are_read(name):
    how = NETWORKS[name]
    X, _ = waves(12, n_channels=2)
    fitted = RNNSequenceFeatures(random_state=0, **how).fit(X)
    tunable = fitted.__tuning_source__().tunable(X)
    inputs, _ = tunable.inputs(("all",), FineTune("all"))
    with torch.inference_mode():
        found = tunable.body.eval()(inputs.batch(np.arange(12), training=False)).numpy()
    expected = fitted.transform(X)
    assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_modules_of_ones_own_are_tuned_on_rows_of_any_length():
    X, _ = waves(12, lengths=(20, 22))
    fitted = RNNSequenceFeatures(Strided, pooling="mean+max", random_state=0).fit(X)
    tunable = fitted.__tuning_source__().tunable(X)
    inputs, _ = tunable.inputs(("all",), FineTune("all"))
    with torch.inference_mode():
        found = tunable.body(inputs.batch(np.arange(12), training=False)).numpy()
    assert_allclose(found, fitted.transform(X), atol=1e-5)
    tuned = RNNSequenceFeatures(
        Strided, pooling="mean", random_state=0, strategy=FineTune("all", epochs=2)
    ).fit(X, np.arange(12) % 2)
    assert tuned.trained_parameters_ == ("conv.weight", "conv.bias")


@pytest.mark.slow
def test_tuning_beats_the_frozen_features_it_began_with():
    X, y = waves(240)
    features = RNNSequenceFeatures(
        weights="random", hidden_size=16, views="z", pooling="last", append_stats=False,
        random_state=0,
    )  # fmt: skip
    scores = [
        FineTunedClassifier(features, strategy=strategy, random_state=0)
        .fit(X[:160], y[:160])
        .score(X[160:], y[160:])
        for strategy in ("frozen", FineTune("all", epochs=20, learning_rate=3e-3))
    ]
    assert scores[1] > scores[0] + 0.05


def test_only_the_last_layer_moves_if_one_is_asked_for():
    X, y = waves(24)
    how = {"weights": "random", "hidden_size": 4, "num_layers": 2, "random_state": 0}
    before = RNNSequenceFeatures(**how).fit(X).module_.state_dict()
    tuned = RNNSequenceFeatures(**how, strategy=FineTune(1, epochs=2)).fit(X, y)
    moved = [n for n, t in tuned.module_.state_dict().items() if not torch.equal(t, before[n])]
    assert moved
    assert {name.split("_")[-1] for name in moved} == {"l1"}
    assert len(tuned.history_) == 2
    assert tuned.trained_parameters_ == tuple(moved)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradients_of_all_layers_are_those_of_torch_for_the_last(kind, bidirectional):
    rnn = kind(2, 4, 3, bidirectional=bidirectional)
    steps = torch.randn(7, 3, 2, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([7, 4, 1])
    inside = (torch.arange(7)[:, None] < lengths)[:, :, None]
    packed = nn.utils.rnn.pack_padded_sequence(steps, lengths, enforce_sorted=False)
    expected = nn.utils.rnn.pad_packed_sequence(rnn(packed)[0])[0]
    gradients = torch.autograd.grad((expected * inside).square().sum(), rnn.parameters())
    found = states_by_layer(rnn, steps, lengths, 3)
    assert_allclose((found[2] * inside).detach(), (expected * inside).detach(), atol=1e-6)
    again = torch.autograd.grad((found[2] * inside).square().sum(), rnn.parameters())
    for mine, theirs in zip(again, gradients, strict=True):
        assert_allclose(mine, theirs, atol=1e-5)


def test_a_layer_in_the_middle_is_tuned_without_those_behind_it():
    X, y = waves(24)
    how = {"weights": "random", "hidden_size": 4, "num_layers": 3, "random_state": 0, "layer": 1}
    before = RNNSequenceFeatures(**how).fit(X).module_.state_dict()
    tuned = RNNSequenceFeatures(**how, strategy=FineTune("all", epochs=2)).fit(X, y)
    moved = [n for n, t in tuned.module_.state_dict().items() if not torch.equal(t, before[n])]
    assert {name.split("_")[-1] for name in moved} == {"l0", "l1"}
    assert tuned.trained_parameters_ == tuple(moved)
    last = RNNSequenceFeatures(**how, strategy=FineTune(1, epochs=1)).fit(X, y)
    assert {name.split("_")[-1] for name in last.trained_parameters_} == {"l1"}


def test_dropout_between_layers_acts_in_training_only():
    rnn = nn.GRU(2, 8, 2, dropout=0.5)
    steps, lengths = torch.ones(6, 2, 2), torch.tensor([6, 6])
    first, second = (states_by_layer(rnn.train(), steps, lengths, 2) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])
    assert torch.equal(states_by_layer(rnn.eval(), steps, lengths, 2)[1], rnn(steps)[0])


@pytest.mark.filterwarnings("ignore:.* rows of X are no usable sequences")
@pytest.mark.parametrize("strategy", ["frozen", FineTune(1, epochs=2)])
def test_rows_without_a_series_are_left_out_of_learning_and_predicted_as_nan(strategy):
    X, y = waves(24)
    gappy, labels = list(X), list(y)
    for row, label in ((0, 1), (7, 0)):
        gappy.insert(row, None)
        labels.insert(row, label)
    how = {"weights": "random", "hidden_size": 4, "views": "z", "random_state": 0}
    expected = FineTunedClassifier(RNNSequenceFeatures(**how), strategy=strategy, random_state=0)
    expected.fit(X, y)
    tolerant = RNNSequenceFeatures(**how, on_error="nan")
    found = FineTunedClassifier(tolerant, strategy=strategy, random_state=0).fit(gappy, labels)
    probabilities = found.predict_proba(gappy)
    assert np.isnan(probabilities[[0, 7]]).all()
    good = np.setdiff1d(np.arange(26), [0, 7])
    assert_allclose(probabilities[good], expected.predict_proba(X), atol=1e-5)


@pytest.mark.slow
def test_the_seed_decides_and_padding_does_not():
    X, y = waves(30)
    how = {"views": "z", "pooling": "mean+ppv", "random_state": 0}
    strategy = FineTune("all", epochs=2)
    first, again = (
        RNNSequenceFeatures(**how, strategy=strategy).fit(X, y).transform(X) for _ in range(2)
    )
    assert_array_equal(first, again)
    padded = np.full((30, 60, 1), np.nan)
    for row, series in zip(padded, X, strict=True):
        row[: len(series)] = series
    other = RNNSequenceFeatures(**how, strategy=strategy).fit(padded, y).transform(X)
    assert_allclose(other, first, atol=1e-5)


def test_mixup_learns_from_rows_of_unequal_length():
    X, y = waves(24)
    fits = [
        FineTunedClassifier(
            RNNSequenceFeatures(weights="random", hidden_size=4, views="z", random_state=0),
            strategy=FineTune("all", epochs=1, mixup=mixup),
            random_state=0,
        )
        .fit(X, y)
        .predict_proba(X)
        for mixup in (0.0, 0.4, 0.4)
    ]
    assert_array_equal(fits[1], fits[2])
    assert not np.array_equal(fits[0], fits[1])


def test_tokens_are_tuned_with_their_embedding():
    draw = np.random.RandomState(0)
    X = [draw.randint(0, 5, draw.randint(8, 20)) for _ in range(60)]
    y = np.array([(tokens == 3).sum() for tokens in X], dtype=float)
    regressor = FineTunedRegressor(
        RNNSequenceFeatures(vocabulary_size=5, hidden_size=16, pooling="mean+last", random_state=0),
        strategy=FineTune("all", epochs=20, learning_rate=0.01),
        random_state=0,
    ).fit(X, y)
    assert any("embedding" in name for name in regressor.trained_parameters_)
    assert regressor.score(X, y) > 0.7


@pytest.mark.parametrize(
    ("how", "strategy", "message"),
    [
        ({}, {"penalty": "delta"}, "compares feature maps, which only images have"),
        ({"num_layers": 3, "layer": 1}, {"unfreeze": 3}, "must be from 1 to 2, the number of"),
        ({"num_layers": 2}, {"unfreeze": 3}, "unfreeze must be from 1 to 2, the number of stages"),
    ],
)
def test_what_sequences_cannot_do_is_said(how, strategy, message):
    X, y = waves(10)
    features = RNNSequenceFeatures(
        weights="random", hidden_size=4, random_state=0, **how, strategy=FineTune(**strategy)
    )
    with pytest.raises(ValueError, match=message):
        features.fit(X, y)
