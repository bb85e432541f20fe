"""RNNSequenceFeatures: forms of X, networks, views, poolings, and what is refused."""

import os
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sktransfer import RNNSequenceFeatures
from tests.helpers.fresh import in_another_process

RNG = np.random.RandomState(0)
RAGGED = [RNG.normal(size=(n, 2)).cumsum(0) for n in (40, 3, 1, 128, 17, 40, 2)]
TABLE = RNG.normal(size=(6, 30))


def small(backbone="lstm", **parameters):
    given = {"weights": "random", "hidden_size": 5, "random_state": 0, **parameters}
    return RNNSequenceFeatures(backbone, **given)


@pytest.fixture(scope="module")
def shapes():
    """Noisy sines, squares and saws of random phase: 90 series of 60 steps, and labels."""
    rng = np.random.RandomState(0)
    phase = np.arange(60) / 12 + rng.uniform(size=(90, 1))
    y = np.repeat(["saw", "sine", "square"], 30)
    sine = np.sin(2 * np.pi * phase)
    X = np.where((y == "sine")[:, None], sine, np.sign(sine))
    X = np.where((y == "saw")[:, None], 2 * (phase % 1) - 1, X) + rng.normal(0, 0.5, X.shape)
    order = rng.permutation(90)
    return X[order], y[order]


# --- the same numbers whatever the company ----------------------------------------------------


@pytest.mark.parametrize("backbone", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_features_of_a_batch_are_those_of_each_series_alone(backbone, bidirectional):
    features = small(backbone=backbone, bidirectional=bidirectional, num_layers=2).fit(RAGGED)
    together = features.transform(RAGGED)
    alone = np.concatenate([features.transform([series]) for series in RAGGED])
    assert_allclose(together, alone, atol=1e-5)


def test_default_features_of_a_batch_are_those_of_each_series_alone():
    features = RNNSequenceFeatures().fit(RAGGED)
    alone = np.concatenate([features.transform([series]) for series in RAGGED])
    assert_allclose(features.transform(RAGGED), alone, atol=1e-5)


def test_rows_follow_the_order_of_x():
    features = small().fit(RAGGED)
    order = [3, 0, 6, 2, 5, 1, 4]
    assert_allclose(
        features.transform([RAGGED[i] for i in order]), features.transform(RAGGED)[order], atol=1e-6
    )


@pytest.mark.parametrize("batch_size", [1, 2, 500])
def test_batch_size_changes_nothing(batch_size):
    expected = small().fit_transform(RAGGED)
    assert_allclose(small(batch_size=batch_size).fit_transform(RAGGED), expected, atol=1e-5)


def test_windows_change_nothing(monkeypatch):
    expected = small().fit_transform(RAGGED)
    monkeypatch.setattr("sktransfer.sequences.source._WINDOW_STEPS", 50)
    assert_allclose(small().fit_transform(RAGGED), expected, atol=1e-6)


# --- forms of X -------------------------------------------------------------------------------


def test_a_table_an_array_and_a_list_of_series_give_the_same():
    expected = small().fit_transform(TABLE)
    for X in (TABLE[:, :, None], list(TABLE), pd.DataFrame(TABLE), torch.from_numpy(TABLE)):
        assert_allclose(small().fit_transform(X), expected, atol=1e-6)
    assert expected.dtype == np.float32


def test_channels_first_is_aeons_order():
    X = RNG.normal(size=(4, 3, 20))
    expected = small().fit_transform(X.transpose(0, 2, 1))
    assert_array_equal(small(channels="first").fit_transform(X), expected)


def test_more_channels_than_steps_look_like_aeons_order():
    with pytest.warns(UserWarning, match="20 channels and at most 3 time steps.*channels='first'"):
        small(views="z", pooling="mean").fit(RNG.normal(size=(4, 3, 20)))


def test_a_fitted_transformer_takes_other_lengths_but_no_other_channels():
    features = small().fit(RNG.normal(size=(5, 30, 2)))
    assert features.transform(RAGGED).shape == (7, len(features.get_feature_names_out()))
    with pytest.raises(ValueError, match="X has 3 channels.*fitted on 2"):
        features.transform(RNG.normal(size=(5, 30, 3)))
    table = small().fit(TABLE)
    with pytest.raises(ValueError, match="X has 20 features.*expecting 30"):
        table.transform(TABLE[:, :20])
    assert table.transform(list(TABLE[:, :20])).shape[0] == 6


def test_padding_with_nan_is_the_shorter_series():
    padded = np.full((7, 128, 2), np.nan)
    for row, series in zip(padded, RAGGED, strict=True):
        row[: len(series)] = series
    assert_allclose(small().fit_transform(padded), small().fit_transform(RAGGED), atol=1e-6)


@pytest.mark.parametrize("weights", ["default", "random"])
def test_no_nan_ever_comes_out(weights):
    constant, nothing, one = np.full(20, 7.0), np.full(20, np.nan), np.array([3.0])
    gaps = np.where(np.arange(20) % 3, 1.0, np.nan)
    huge, tiny = np.linspace(-1e36, 1e36, 9), np.linspace(0, 1e-36, 9)
    X = [constant, nothing, one, gaps, huge, tiny, np.zeros(2)]
    features = RNNSequenceFeatures(weights=weights, random_state=0)
    assert np.isfinite(features.fit_transform(X)).all()
    for series in X:
        assert np.isfinite(clone(features).fit_transform([series])).all()


def test_a_missing_series_moves_no_scale():
    far = TABLE + 1000
    with_gap = [*far, np.full(30, np.nan)]
    given = {"views": "g+dg", "pooling": "mean"}
    expected = small(**given).fit_transform(list(far))
    assert_allclose(small(**given).fit(with_gap).transform(list(far)), expected, atol=1e-6)


def test_masked_values_are_missing():
    masked = np.ma.MaskedArray(TABLE, mask=TABLE > 1)
    expected = small().fit_transform(masked.filled(np.nan))
    assert_allclose(small().fit_transform(masked), expected)
    assert_allclose(small().fit_transform(list(masked)), expected)


def test_missing_steps_are_a_feature_of_their_own():
    X = TABLE.copy()
    X[2, 3:9] = np.nan
    features = small().fit(X)
    column = features.get_feature_names_out().tolist().index("c0_missing")
    assert_allclose(features.transform(X)[:, column], [0, 0, 0.2, 0, 0, 0])
    with pytest.raises(ValueError, match=r"X\[2\] contains NaN at time step 3"):
        small(missing="error").fit(list(X))


# --- rows without a usable series -------------------------------------------------------------

GAPPY = [None, RAGGED[0], np.nan, RAGGED[4], [], RAGGED[5], np.ones((5, 3)), [[0, np.inf]] * 3]
USABLE = [1, 3, 5]


def test_a_missing_series_is_an_error_by_default():
    with pytest.raises(ValueError, match=r"X\[0\] is missing.*set on_error='nan'"):
        small().fit(GAPPY)
    with pytest.raises(ValueError, match=r"X\[1\] is missing"):
        small().fit(RAGGED).transform([RAGGED[0], None])


@pytest.mark.parametrize("parameters", [{}, {"output_dim": 4}, {"layer": "auto", "num_layers": 2}])
def test_rows_without_a_usable_series_are_nan_and_move_nothing(parameters):
    y = np.arange(len(GAPPY)) % 3
    good = [GAPPY[row] for row in USABLE]
    tolerant = small(on_error="nan", **parameters)
    with pytest.warns(UserWarning, match=r"5 of 8 rows of X.*`errors_`.*X\[0\]: it is missing"):
        found = tolerant.fit_transform(GAPPY, y)
    expected = small(**parameters).fit_transform(good, y[USABLE])
    assert found.dtype == np.float32
    assert np.isnan(np.delete(found, USABLE, axis=0)).all()
    assert_allclose(found[USABLE], expected, atol=1e-6)
    assert [failure.index for failure in tolerant.errors_] == [0, 2, 4, 6, 7]
    assert tolerant.errors_[3].message.startswith("it has 3 channels and others have 2")
    assert tolerant.n_forward_ == 3
    assert_allclose(tolerant.transform(good), expected, atol=1e-6)
    assert tolerant.errors_ == []


def test_failures_of_fit_are_listed_and_x_without_a_series_is_refused():
    assert [failure.index for failure in small(on_error="nan").fit(GAPPY).errors_] == [
        0,
        2,
        4,
        6,
        7,
    ]
    with pytest.raises(
        ValueError, match=r"no row of X is a usable sequence; X\[0\]: it is missing"
    ):
        small(on_error="nan").fit([None, []])


@pytest.mark.parametrize(
    "fitted_on", [RAGGED, TABLE, ["one", "two"]], ids=["series", "table", "text"]
)
def test_x_of_missing_rows_alone_is_all_nan(fitted_on):
    features = small(on_error="nan", pooling="mean", output_dim=3).fit(fitted_on)
    with pytest.warns(UserWarning, match="2 of 2 rows"):
        found = features.transform([None, np.nan])
    assert found.shape == (2, 3)
    assert np.isnan(found).all()


@pytest.mark.parametrize("missing", ["interpolate", "error"])
def test_rows_of_a_table_fail_one_by_one(missing):
    X = TABLE.copy()
    X[1, 3], X[4, 5] = np.inf, np.nan
    features = small(on_error="nan", missing=missing).fit(TABLE)
    with pytest.warns(UserWarning, match="rows of NaN"):
        found = features.transform(X)
    failed = [1] if missing == "interpolate" else [1, 4]
    assert np.flatnonzero(np.isnan(found).all(axis=1)).tolist() == failed
    good = np.setdiff1d(np.arange(6), failed)
    assert_allclose(found[good], features.transform(X[good]), atol=1e-6)


def test_tokens_and_texts_have_features_of_their_own():
    tokens = [[1, 2, 3], [3, 2], [0]]
    features = small(vocabulary_size=4).fit(tokens)
    names = features.get_feature_names_out()
    assert names[0] == "raw_last_0"
    assert features.transform(tokens).shape == (3, len(names)) == (3, 5 * 9)
    texts = small(pooling="mean").fit(["one", "two", "three"])
    assert texts.transform(["one"]).shape == (1, 5)
    with pytest.raises(ValueError, match="X holds time series.*fitted on tokens below 256"):
        texts.transform(TABLE)
    with pytest.raises(TypeError, match=r"pass \[text\]"):
        texts.transform("one")


def test_default_weights_mean_random_ones_for_tokens():
    X = [[1, 2, 3], [3, 2]]
    by_default = RNNSequenceFeatures(vocabulary_size=4, random_state=0).fit_transform(X)
    at_random = RNNSequenceFeatures(vocabulary_size=4, random_state=0, weights="random")
    assert_array_equal(by_default, at_random.fit_transform(X))


# --- networks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("how", ["instance", "factory"])
def test_a_bare_rnn_and_its_last_step(batch_first, how):
    torch.manual_seed(0)
    rnn = nn.RNN(10, 20, batch_first=batch_first)
    X = RNG.normal(size=(6, 15, 10)).astype(np.float32)
    backbone = rnn if how == "instance" else lambda: rnn
    found = RNNSequenceFeatures(backbone).fit_transform(X)
    steps = torch.from_numpy(X if batch_first else X.transpose(1, 0, 2))
    states = rnn(steps)[0].detach().numpy()
    assert_allclose(found, states[:, -1] if batch_first else states[-1], atol=1e-6)


def h_n_of(rnn, series):
    """The final states of both directions of the last layer, from torch, without padding."""
    time_axis = 1 if rnn.batch_first else 0
    steps = torch.from_numpy(np.asarray(series, dtype=np.float32)).unsqueeze(1 - time_axis)
    with torch.no_grad():
        state = rnn(steps)[1]
    state = state[0] if isinstance(state, tuple) else state
    return state[-2:, 0].ravel().numpy()


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("batch_first", [False, True])
def test_last_of_a_bidirectional_network_is_what_torch_calls_its_final_state(
    kind, num_layers, batch_first
):
    rnn = kind(2, 4, num_layers, bidirectional=True, batch_first=batch_first)
    found = RNNSequenceFeatures(rnn).fit_transform(RAGGED)  # pooling="auto" is "last"
    assert_allclose(found, [h_n_of(rnn, series) for series in RAGGED], atol=1e-6)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_last_of_a_projected_network_in_bfloat16_is_its_final_state():
    rnn = nn.LSTM(2, 6, bidirectional=True, proj_size=3)
    found = RNNSequenceFeatures(rnn, precision="bfloat16").fit_transform(RAGGED)
    assert_allclose(found, [h_n_of(rnn, series) for series in RAGGED], atol=0.02)


def test_last_of_each_view_and_layer_of_a_named_network_is_a_final_state():
    parameters = {"bidirectional": True, "num_layers": 2, "layer": (0, 1), "views": "raw+d"}
    features = small("gru", pooling="mean+last", append_stats=False, **parameters).fit(TABLE)
    names = features.get_feature_names_out()
    found = pd.DataFrame(features.transform(TABLE), columns=names)
    whole = features.module_.rnn
    lower = nn.GRU(1, 5, bidirectional=True)
    lower.load_state_dict({k: v for k, v in whole.state_dict().items() if "_l0" in k})
    for layer, rnn in enumerate((lower, whole)):
        columns = [name for name in names if name.startswith(f"raw_c0_{layer}_last")]
        expected = [h_n_of(rnn, series[:, None]) for series in TABLE]
        assert_allclose(found[columns], expected, atol=1e-6)
    differences = small("gru", pooling="last", append_stats=False, **parameters | {"views": "d"})
    columns = [name for name in names if name.startswith("d_") and "_last" in name]
    assert_allclose(found[columns], differences.fit_transform(TABLE), atol=1e-6)


@pytest.mark.parametrize("form", ["states alone", "h_n, too"])
def test_last_of_ones_own_bidirectional_module_is_its_final_state(form):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(2, 4, 2, batch_first=True, bidirectional=True)

        def forward(self, x):
            states, hidden = self.rnn(x)
            return states if form == "states alone" else (states, hidden)

    features = RNNSequenceFeatures(Own, layer=(-1, "rnn"), random_state=0).fit(RAGGED)
    found = features.transform(RAGGED)
    expected = [h_n_of(features.module_.rnn, series) for series in RAGGED]
    assert_allclose(found, np.tile(expected, 2), atol=1e-6)


def test_a_network_of_ones_own_in_any_form():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(2, 6, batch_first=True)
            self.head = nn.Linear(6, 3)

        def forward(self, x):
            return self.head(self.rnn(x)[0])

    features = RNNSequenceFeatures(Own, random_state=0, pooling="mean+last", layer=(-1, "rnn"))
    found = features.fit_transform(RAGGED)
    assert found.shape == (7, 2 * 3 + 2 * 6)
    assert features.get_feature_names_out()[[0, -1]].tolist() == ["raw_-1_mean_0", "raw_rnn_last_5"]
    module = features.module_
    for row, series in zip(found, RAGGED, strict=True):
        steps = torch.from_numpy(series).float()[None]
        states = module.rnn(steps)[0]
        expected = [module.head(states)[0].mean(0), module.head(states)[0, -1]]
        expected += [states[0].mean(0), states[0, -1]]
        assert_allclose(row, torch.cat(expected).detach().numpy(), atol=1e-5)


def test_a_network_that_wants_time_first_is_refused_and_told_why():
    class Wrong(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(2, 6)

        def forward(self, x):
            return self.rnn(x)[0]

    with pytest.raises(ValueError, match="batch_first=True"):
        RNNSequenceFeatures(Wrong).fit(RAGGED)


def test_a_network_for_other_channels_is_refused():
    with pytest.raises(ValueError, match="reads 10 channels, and X has 2"):
        RNNSequenceFeatures(nn.RNN(10, 20)).fit(RAGGED)

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(3, 6, batch_first=True)

        def forward(self, x):
            return self.rnn(x)[0]

    with pytest.raises(
        ValueError, match="cannot run on 1 sequences of 128 steps.*Expected 3, got 2"
    ):
        RNNSequenceFeatures(Own).fit(RAGGED)


def test_layers_of_a_stacked_network_can_be_chosen_and_joined():
    stacked = {"num_layers": 3, "pooling": "mean", "append_stats": False}
    both = small(layer=(0, -1), **stacked).fit(RAGGED)
    parts = [small(layer=layer, **stacked).fit_transform(RAGGED) for layer in (0, 2)]
    names = both.get_feature_names_out()
    assert names[0] == "z_c0_0_mean_0"
    found = pd.DataFrame(both.transform(RAGGED), columns=names)
    assert_array_equal(found[[n for n in names if "_0_mean" in n]], parts[0])
    assert_array_equal(found[[n for n in names if "_2_mean" in n]], parts[1])


def test_seeds_decide_random_weights_and_nothing_else_moves():
    state = torch.get_rng_state()
    a, b, c = (small(random_state=seed).fit_transform(TABLE) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert_array_equal(a, b)
    assert not np.allclose(a, c)


def test_bfloat16_features_are_close_to_float32():
    exact = RNNSequenceFeatures(pooling="mean").fit_transform(TABLE)
    rough = RNNSequenceFeatures(pooling="mean", precision="bfloat16").fit_transform(TABLE)
    assert rough.dtype == np.float32
    assert_allclose(rough, exact, atol=0.05)


def test_a_subclass_or_a_hooked_network_runs_as_itself():
    class Louder(nn.GRU):
        def forward(self, x):
            return 100 * super().forward(x)[0]

    X = RNG.normal(size=(4, 9, 2))
    network = Louder(2, 5, batch_first=True)
    expected = network(torch.from_numpy(X).float())[:, -1].detach()
    assert_allclose(RNNSequenceFeatures(network).fit_transform(X), expected, atol=1e-4)
    hooked = nn.GRU(2, 5, batch_first=True)
    hooked.register_forward_hook(lambda module, inputs, output: output[0] * 0)
    assert not RNNSequenceFeatures(hooked).fit_transform(X).any()


def test_a_network_whose_time_is_the_last_axis_is_refused():
    class Convolution(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Conv1d(2, 5, 3)

        def forward(self, x):
            return self.inner(x.transpose(1, 2)).transpose(1, 2)

    X = RNG.normal(size=(4, 9, 2))
    assert RNNSequenceFeatures(Convolution).fit_transform(X).shape == (4, 5)
    with pytest.raises(ValueError, match="its time axis is the last"):
        RNNSequenceFeatures(Convolution, layer="inner").fit(X)


def test_mixing_rows_is_found_out_even_on_constant_series():
    class Mixing(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 3)

        def forward(self, x):
            return self.linear(x - x.mean(0))

    with pytest.raises(ValueError, match="other features in company"):
        RNNSequenceFeatures(Mixing).fit(np.zeros((4, 9, 2)))


def test_a_bare_network_reads_no_tokens():
    with pytest.raises(ValueError, match="bare LSTM, which reads numbers.*nn.Embedding"):
        RNNSequenceFeatures(nn.LSTM(1, 4), vocabulary_size=3).fit([[1, 2]])


def test_what_a_network_makes_infinite_is_an_error_that_names_the_row():
    class Exploding(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(1, 2)

        def forward(self, x):
            return self.linear(x) * 1e30

    features = RNNSequenceFeatures(Exploding).fit(np.ones((2, 5)))
    with pytest.raises(ValueError, match=r"NaN or infinity for X\[1\]"):
        features.transform([np.zeros(5), np.full(5, 1e30)])


def test_a_network_left_in_training_mode_is_put_back():
    class Dropping(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.dropout = nn.Linear(1, 9), nn.Dropout()

        def forward(self, x):
            return self.dropout(self.linear(x))

    features = RNNSequenceFeatures(Dropping, random_state=0).fit(TABLE)
    expected = features.transform(TABLE)
    features.module_.train()
    assert_array_equal(features.transform(TABLE), expected)


def test_ties_with_thresholds_are_not_decided_by_rounding():
    periodic = np.tile(np.sin(2 * np.pi * np.arange(16) / 16), (8, 10))
    series = [row[: 160 - 3 * n] for n, row in enumerate(periodic)]
    for backbone in ("gru", "lstm"):
        features = RNNSequenceFeatures(backbone, pooling="ppv").fit(series)
        alone = np.concatenate([features.transform([one]) for one in series])
        assert_allclose(features.transform(series), alone, atol=1e-5)


def test_names_stay_those_of_the_fit():
    features = small(n_thresholds=2).fit(TABLE).set_params(n_thresholds=7)
    assert features.transform(TABLE).shape[1] == len(features.get_feature_names_out())


# --- views, poolings, names -------------------------------------------------------------------


def test_names_say_view_channel_pooling_and_unit():
    features = small(views="g+d", pooling=("max", "ppv"), n_thresholds=2).fit(RAGGED)
    names = features.get_feature_names_out().tolist()
    assert names[:5] == [f"g_c0_max_{unit}" for unit in range(5)]
    assert names[5:15] == [f"g_c0_ppv{t}_{unit}" for t in range(2) for unit in range(5)]
    assert names[15] == "g_c1_max_0"
    assert names[30] == "d_c0_max_0"
    assert names[-7:] == [
        *("c0_mean", "c1_mean", "c0_logstd", "c1_logstd", "c0_missing", "c1_missing", "loglength")
    ]
    assert features.transform(RAGGED).shape == (7, len(names))


def test_each_view_and_pooling_is_its_part_of_the_whole():
    whole = small().fit(RAGGED)
    found = pd.DataFrame(whole.transform(RAGGED), columns=whole.get_feature_names_out())
    for view in ("z", "g", "d", "dg"):
        for pooling in ("last", "mean", "max", "min", "std", "ppv"):
            part = small(views=view, pooling=pooling, append_stats=False).fit(RAGGED)
            names = part.get_feature_names_out()
            assert_allclose(part.transform(RAGGED), found[names], atol=1e-6)


def test_a_coarse_view_is_the_view_of_averaged_series():
    series = [RNG.normal(size=n) for n in (40, 9, 1, 130)]
    averaged = [np.array([s[i : i + 4].mean() for i in range(0, len(s), 4)]) for s in series]
    given = {"pooling": "mean+ppv", "append_stats": False}
    coarse = small(views="z4+dg4", **given).fit(series)
    assert_allclose(
        coarse.transform(series), small(views="z+dg", **given).fit_transform(averaged), atol=1e-6
    )
    assert coarse.get_feature_names_out()[0] == "z4_c0_mean_0"
    assert small().fit(RNG.normal(size=(3, 128))).views_[3:5] == ("dg", "z4")


def test_output_dim_is_a_projection_that_keeps_distances():
    features = RNNSequenceFeatures(output_dim=1000, random_state=0, append_stats=False)
    projected = features.fit_transform(TABLE)
    assert projected.shape == (6, 1000) == (6, len(features.get_feature_names_out()))
    whole = RNNSequenceFeatures(append_stats=False).fit_transform(TABLE)
    ratio = np.linalg.norm(projected[0] - projected[1]) / np.linalg.norm(whole[0] - whole[1])
    assert 0.85 < ratio < 1.15


def test_max_length_reads_the_beginning_only():
    short = small(max_length=10).fit(TABLE)
    assert_allclose(short.transform(TABLE), small().fit_transform(list(TABLE[:, :10])), atol=1e-6)


# --- parameters -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"backbone": "resnet50"}, ValueError, "backbone must be one of .*'lstm'.*'resnet50'"),
        ({"backbone": 3}, TypeError, "backbone must be one of .*got 3"),
        ({"backbone": "rnn", "weights": "default", "hidden_size": None}, ValueError, "no default"),
        ({"weights": "default"}, ValueError, "hidden_size=64, not 5; set it so, or set weights"),
        ({"weights": "nowhere.pt"}, FileNotFoundError, "nowhere.pt"),
        ({"weights": 3}, TypeError, "weights must be 'default', 'random' or the path"),
        ({"hidden_size": 0}, ValueError, "hidden_size == 0, must be >= 1"),
        ({"num_layers": 1.5}, TypeError, "num_layers must be an instance of int"),
        ({"bidirectional": "yes"}, ValueError, "bidirectional must be True or False"),
        ({"layer": 1}, ValueError, "layer must be an integer from -1 to 0.*got 1"),
        ({"layer": "rnn"}, ValueError, "layer must be an integer"),
        ({"layer": (0, -1)}, ValueError, "layer must name each layer once"),
        ({"views": "q"}, ValueError, "views must be 'auto', one of .*got 'q'"),
        ({"views": ()}, ValueError, "views must be 'auto'"),
        ({"views": "z0"}, ValueError, "views must be 'auto'.*as in 'z4'"),
        ({"views": ("z", 4)}, ValueError, "views must be 'auto'"),
        ({"views": "g+g"}, ValueError, "views names the same twice"),
        ({"pooling": "sum"}, ValueError, "pooling must be 'auto', one of .*'ppv'.*got 'sum'"),
        ({"pooling": "attention"}, ValueError, "pretraining='contrastive'"),
        ({"n_thresholds": 0}, ValueError, "n_thresholds == 0"),
        ({"append_stats": 2}, ValueError, "append_stats must be True or False"),
        ({"channels": None}, ValueError, "channels must be one of"),
        ({"missing": "drop"}, ValueError, "missing must be one of .*'interpolate'.*'drop'"),
        ({"max_length": 0}, ValueError, "max_length == 0"),
        ({"output_dim": -1}, ValueError, "output_dim == -1"),
        ({"on_error": "skip"}, ValueError, "on_error must be one of"),
        ({"pretraining": "magic"}, ValueError, "pretraining must be None, one of .*'magic'"),
        ({"strategy": "full"}, ValueError, "strategy must be 'frozen'"),
        ({"cache": 3}, ValueError, "cache must be None"),
        ({"batch_size": 0}, ValueError, "batch_size == 0"),
        ({"device": "quantum"}, ValueError, "device='quantum' cannot be used"),
        ({"precision": "float16"}, ValueError, "precision must be one of"),
        ({"weights_prefix": 3}, ValueError, "weights_prefix must be None or a str"),
        ({"vocabulary_size": 0}, ValueError, "vocabulary_size == 0"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(parameters, error, message):
    with pytest.raises(error, match=message):
        small(**parameters).fit(TABLE)


def test_parameters_of_the_named_backbones_are_refused_for_ones_own():
    with pytest.raises(ValueError, match="hidden_size is for backbones.*got hidden_size=5"):
        RNNSequenceFeatures(partial(nn.GRU, 1, 4), hidden_size=5).fit(TABLE)
    with pytest.raises(ValueError, match="weights='random' needs a backbone that can be built"):
        RNNSequenceFeatures(nn.GRU(1, 4), weights="random").fit(TABLE)


def test_a_failed_fit_leaves_the_fitted_transformer_as_it_was():
    features = small().fit(TABLE)
    expected = features.transform(TABLE)
    features.set_params(views="q")
    with pytest.raises(ValueError, match="views"):
        features.fit(RAGGED)
    features.set_params(views="auto")
    assert features.n_features_in_ == 30
    assert_array_equal(features.transform(TABLE), expected)


# --- beside scikit-learn ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "rest",
    [
        (StandardScaler(), PCA(20), LinearDiscriminantAnalysis()),
        (StandardScaler(), RidgeClassifierCV()),
    ],
    ids=["PCA and LDA", "ridge"],
)
def test_default_features_tell_shapes_apart_in_a_pipeline(shapes, rest):
    X, y = shapes
    pipeline = make_pipeline(RNNSequenceFeatures(), *rest).fit(X[:45], y[:45])
    assert pipeline.score(X[45:], y[45:]) > 0.9
    raw = make_pipeline(StandardScaler(), RidgeClassifierCV()).fit(X[:45], y[:45])
    assert pipeline.score(X[45:], y[45:]) > raw.score(X[45:], y[45:])


@pytest.mark.slow
def test_a_grid_reaches_views_pooling_and_hidden_size(shapes):
    X, y = shapes
    pipeline = make_pipeline(small(), StandardScaler(), RidgeClassifierCV())
    grid = {
        "rnnsequencefeatures__views": ["z", ("g", "d")],
        "rnnsequencefeatures__pooling": ["mean", "mean+ppv"],
        "rnnsequencefeatures__hidden_size": [3, 8],
    }
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert len(set(scores)) > 2
    assert search.best_params_["rnnsequencefeatures__hidden_size"] == 8


def beside_minirocket(X, y):
    os.environ["NUMBA_DISABLE_JIT"] = "1"  # for so few series, to compile takes longer
    from aeon.transformations.collection.convolution_based import MiniRocket
    from sklearn.preprocessing import FunctionTransformer

    # aeon takes (n, channels, time).
    rocket = make_pipeline(FunctionTransformer(lambda X: X[:, None, :]), MiniRocket(n_kernels=84))
    union = FeatureUnion([("ours", RNNSequenceFeatures()), ("rocket", rocket)])
    both = make_pipeline(union, StandardScaler(), RidgeClassifierCV()).fit(X[:45], y[:45])
    ours, rockets = (features.transform(X) for _, features in union.transformer_list)
    return both.score(X[45:], y[45:]), union.transform(X), ours, rockets


@pytest.mark.slow
def test_minirocket_of_aeon_stands_beside_in_a_feature_union(shapes):
    score, both, ours, rockets = in_another_process(beside_minirocket, *shapes)
    assert score > 0.9
    assert rockets.shape[1] == 84
    assert_array_equal(both, np.hstack([ours, rockets]))


@pytest.mark.parametrize("on_error", ["raise", "nan"])
def test_a_table_of_other_columns_is_an_error_whatever_becomes_of_bad_rows(on_error):
    cells = [np.arange(5.0), np.ones(5), np.zeros(5)]
    table = pd.DataFrame({"a": cells, "b": cells})
    features = small(views="g", on_error=on_error).fit(table)
    for other in (table[["a"]], table.rename(columns={"b": "c"}), table.assign(c=table["a"])):
        with pytest.raises(ValueError, match=r"X has the columns .*, expected \('a', 'b'\)"):
            features.transform(other)
    assert_array_equal(features.transform(table[["b", "a"]]), features.transform(table))
    alone = small(views="g", on_error=on_error).fit(table[["a"]])
    with pytest.raises(ValueError, match=r"X has the columns \('b'\), expected \('a'\)"):
        alone.transform(table[["b"]])
    with pytest.raises(ValueError, match="X has 3 channels, and 2 are expected"):
        small(views="g", on_error="nan").fit(np.ones((3, 5, 2))).transform(np.ones((2, 5, 3)))


def test_infinity_in_a_table_is_named_by_row_and_step():
    X = np.ones((3, 6))
    X[1, 4] = np.inf
    with pytest.raises(ValueError, match=r"X\[1\] contains infinity at time step 4"):
        small().fit(X)


class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(1, 4, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        return self.norm(self.rnn(x)[0])


def test_the_last_step_of_mixed_directions_is_warned_of_with_the_cure():
    X = np.random.RandomState(0).normal(size=(4, 7))
    with pytest.warns(UserWarning, match="mixes both directions of 'rnn'.*layer='rnn'"):
        RNNSequenceFeatures(Normalised, random_state=0).fit(X)
    for how in ({"pooling": "mean"}, {"layer": "rnn"}):
        RNNSequenceFeatures(Normalised, random_state=0, **how).fit(X)
