"""Self-supervised pretraining: it learns, it is repeatable, and it says what it cannot do."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

from sktransfer import Pretraining, RNNSequenceFeatures
from sktransfer.sequences.pretraining.objectives import Autoencode, Contrastive
from sktransfer.sequences.pretraining.strategy import OBJECTIVES

pytestmark = pytest.mark.slow

RNG = np.random.RandomState(0)
X = np.sin(np.arange(24) * RNG.uniform(0.2, 1, (60, 1)) + RNG.uniform(0, 6, (60, 1)))
TOKENS = [(np.arange(n) + start) % 5 for n, start in zip(range(8, 28), range(20), strict=True)]


def pretrained(objective, **parameters):
    epochs = parameters.pop("epochs", 20)
    given = {"weights": "random", "hidden_size": 8, "random_state": 0, **parameters}
    strategy = Pretraining(objective, epochs=epochs, learning_rate=0.01, batch_size=10)
    return RNNSequenceFeatures(pretraining=strategy, **given)


@pytest.mark.parametrize(
    ("backbone", "objective"),
    [
        *(("lstm", objective) for objective in OBJECTIVES),
        ("gru", "forecast"),
        ("rnn", "contrastive"),
    ],
)
def test_the_loss_falls_and_the_weights_change(backbone, objective):
    features = pretrained(objective, backbone=backbone).fit(X)
    losses = features.pretraining_loss_
    assert len(losses) == 20
    assert losses[-1] < 0.95 * losses[0]
    plain = pretrained(objective, backbone=backbone).set_params(pretraining=None).fit(X)
    assert not np.allclose(features.transform(X), plain.transform(X))
    assert not any(p.requires_grad for p in features.module_.parameters())
    assert not features.module_.training


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_tokens_and_texts_can_be_pretrained_on(objective):
    losses = pretrained(objective, vocabulary_size=5).fit(TOKENS).pretraining_loss_
    assert losses[-1] < losses[0]
    texts = ["abc" * n for n in range(2, 20)]
    assert len(pretrained(objective, epochs=1).fit(texts).pretraining_loss_) == 1


def test_a_language_model_of_a_cycle_becomes_certain():
    # The next token follows from the last: cross-entropy can fall to zero from log(5).
    losses = pretrained("forecast", vocabulary_size=5, epochs=60).fit(TOKENS).pretraining_loss_
    assert losses[0] < 1.1 * np.log(5)
    assert losses[-1] < 0.2 * np.log(5)


def test_forecasting_a_sine_beats_repeating_its_last_value():
    features = pretrained("forecast", views="raw", epochs=20).fit(X)
    assert features.pretraining_loss_[-1] < np.mean(np.diff(X) ** 2)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ragged_channels_and_missing_steps_are_fine(objective):
    series = [RNG.normal(size=(n, 3)) for n in (30, 2, 1, 4, 9, 50)]
    series[0][3:6] = np.nan
    assert np.isfinite(pretrained(objective, epochs=1).fit(series).pretraining_loss_).all()


def test_the_same_seed_gives_the_same_network_and_moves_no_generator():
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    one, same, other = (
        pretrained("contrastive", epochs=2, random_state=seed).fit_transform(X)
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert_array_equal(np.random.get_state()[1], numpy_state)
    assert_array_equal(one, same)
    assert not np.allclose(one, other)


def test_labels_are_not_looked_at():
    y = np.arange(60) % 2
    with_y = pretrained("contrastive", epochs=1).fit(X, y).transform(X)
    assert_array_equal(with_y, pretrained("contrastive", epochs=1).fit(X, 1 - y).transform(X))


def test_contrastive_pretraining_learns_attention():
    features = pretrained("contrastive", pooling="attention+mean").fit(X)
    found = features.transform(X)
    names = features.get_feature_names_out()
    attention = found[:, [n.startswith("z_c0_attention") for n in names]]
    mean = found[:, [n.startswith("z_c0_mean") for n in names]]
    assert attention.shape == mean.shape
    assert not np.allclose(attention, mean)


def test_a_stacked_bidirectional_network_can_be_pretrained_but_not_to_forecast():
    both = {"bidirectional": True, "num_layers": 2, "epochs": 1}
    assert len(pretrained("masked", **both).fit(X).pretraining_loss_) == 1
    with pytest.raises(ValueError, match="'forecast' needs bidirectional=False"):
        pretrained("forecast", **both).fit(X)


def test_a_network_of_ones_own_that_sees_the_future_cannot_forecast():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(1, 4, bidirectional=True, batch_first=True)

        def forward(self, x):
            return self.rnn(x)[0]

    with pytest.raises(ValueError, match="states of this one depend on later steps"):
        RNNSequenceFeatures(Both, pretraining="forecast").fit(X)


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_network_of_ones_own_can_be_pretrained(batch_first):
    own = nn.GRU(2, 6, batch_first=batch_first, dropout=0.0)
    before = own.weight_hh_l0.clone()
    series = RNG.normal(size=(20, 15, 2))
    features = RNNSequenceFeatures(own, pretraining=Pretraining("forecast", epochs=2))
    losses = features.fit(series).pretraining_loss_
    assert losses[1] < losses[0]
    assert torch.equal(own.weight_hh_l0, before)  # a copy was trained

    class Vector(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(2, 6, batch_first=True)

        def forward(self, x):
            return self.rnn(x)[1][0]

    with pytest.raises(ValueError, match=r"a state per step.*returned shape"):
        features.set_params(backbone=Vector).fit(series)


def test_pretraining_on_many_series_helps_with_few_labels():
    """Order 5 against order 5 reversed: no statistic of the values tells them apart."""
    rng = np.random.RandomState(0)
    ramp = (np.arange(60) / 12 + rng.uniform(size=(300, 1))) % 1
    y = np.arange(300) % 2
    series = np.where(y[:, None] == 1, ramp, 1 - ramp) + rng.normal(0, 0.3, (300, 60))
    scores = []
    for strategy in (None, Pretraining("contrastive", epochs=20, learning_rate=0.01)):
        features = RNNSequenceFeatures(
            "rnn", weights="random", hidden_size=8, views="z", pooling="mean", append_stats=False,
            pretraining=strategy, random_state=0,
        ).fit(series)  # fmt: skip
        head = make_pipeline(LogisticRegression()).fit(features.transform(series[:10]), y[:10])
        scores.append(head.score(features.transform(series[100:]), y[100:]))
    assert scores[1] > scores[0]


def test_the_contrastive_loss_of_equal_crops_is_that_of_guessing():
    # All embeddings alike: each of the 2n - 1 others is as likely to be the partner.
    objective = Contrastive(3, 0.5, None)
    with torch.no_grad():
        loss = objective(lambda steps: torch.ones(len(steps), 4, 3), torch.randn(20, 4, 1))
    assert float(loss) == pytest.approx(np.log(7), abs=1e-4)


def test_autoencoding_begins_from_the_final_states_of_both_directions():
    rnn = nn.GRU(1, 3, bidirectional=True)
    backward = torch.tensor([False] * 3 + [True] * 3)
    steps = torch.randn(9, 4, 1)
    seen = []
    objective = Autoencode(6, 1, backward)
    objective.decode.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        objective(lambda steps: rnn(steps)[0], steps)
        final = torch.cat([*rnn(steps)[1]], dim=1)
    torch.testing.assert_close(seen[0][..., :6], final.expand(9, -1, -1))


def test_both_directions_of_a_network_learn_to_autoencode():
    rnn = nn.GRU(1, 3, bidirectional=True)
    # At the last step the backward direction has seen one step, and its recurrence nothing.
    pretraining = Pretraining("autoencode", epochs=1, weight_decay=0.0)
    trained = RNNSequenceFeatures(rnn, pretraining=pretraining).fit(X).module_
    for name in ("weight_hh_l0", "weight_hh_l0_reverse"):
        assert not torch.equal(getattr(trained, name), getattr(rnn, name))


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (Pretraining("contrastive", epochs=0), "epochs == 0"),
        (Pretraining("contrastive", batch_size=1), "batch_size == 1"),
        (Pretraining("contrastive", learning_rate=0.0), "learning_rate == 0"),
        (Pretraining("contrastive", learning_rate=np.inf), "learning_rate must be finite"),
        (Pretraining("contrastive", temperature=-1.0), "temperature == -1"),
        (Pretraining("contrastive", weight_decay=-1.0), "weight_decay == -1"),
        (Pretraining("magic"), "'contrastive', 'forecast', 'masked', 'autoencode'"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(strategy, message):
    with pytest.raises(ValueError, match=message):
        RNNSequenceFeatures(pretraining=strategy).fit(X)


def test_too_little_to_learn_from_is_an_error():
    with pytest.raises(ValueError, match="at least 2 sequences of at least 3 steps, got 1"):
        pretrained("forecast").fit([np.ones(2), np.ones(2), np.arange(5.0)])


def test_divergence_is_an_error_that_names_the_learning_rate():
    class Exploding(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([1e30]))

        def forward(self, x):
            return x * self.weight

    features = RNNSequenceFeatures(Exploding, pretraining=Pretraining("forecast", epochs=1))
    with pytest.raises(ValueError, match="pretraining diverged.*learning_rate"):
        features.fit(X + 1)
