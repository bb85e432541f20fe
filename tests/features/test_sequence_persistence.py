"""RNNSequenceFeatures cloned, pickled, and its weights saved and loaded."""

import pickle

import joblib
import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from torch import nn

from sktransfer import Pretraining, RNNSequenceFeatures
from sktransfer.exceptions import WeightsMismatchError
from tests.helpers.fresh import in_another_process

RNG = np.random.RandomState(0)
X = [RNG.normal(size=(n, 2)).cumsum(0) for n in (20, 3, 1, 50)]

ESTIMATORS = {
    "default": RNNSequenceFeatures(),
    "random": RNNSequenceFeatures("gru", weights="random", hidden_size=4, random_state=0),
    "own": RNNSequenceFeatures(nn.RNN(2, 4), pooling="mean+ppv"),
    "projected": RNNSequenceFeatures(output_dim=7, random_state=0),
    "pretrained": RNNSequenceFeatures(
        pretraining=Pretraining(epochs=1), pooling="attention", random_state=0
    ),
}


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_pickle_gives_the_same_features_and_names(kind, tmp_path):
    features = clone(ESTIMATORS[kind]).fit(X)
    joblib.dump(features, tmp_path / "features")
    for again in (pickle.loads(pickle.dumps(features)), joblib.load(tmp_path / "features")):
        assert_array_equal(again.transform(X), features.transform(X))
        assert_array_equal(again.get_feature_names_out(), features.get_feature_names_out())


def features_of_a_file(path):
    return joblib.load(path).transform(X)


@pytest.mark.slow
def test_a_pickle_works_in_another_process(tmp_path):
    features = RNNSequenceFeatures().fit(X)
    joblib.dump(features, tmp_path / "features")
    found = in_another_process(features_of_a_file, tmp_path / "features")
    assert_allclose(found, features.transform(X), atol=1e-5)


def test_an_unfitted_estimator_and_its_clone_have_the_same_parameters():
    estimator = RNNSequenceFeatures(
        "gru", views=("g", "d"), pooling="mean", pretraining=Pretraining("masked", epochs=3)
    )
    copied = clone(estimator)
    assert repr(copied) == repr(estimator) == repr(pickle.loads(pickle.dumps(estimator)))
    copied.set_params(pretraining__epochs=5)
    assert (copied.pretraining.epochs, estimator.pretraining.epochs) == (5, 3)


@pytest.mark.parametrize("kind", ["default", "random", "own", "pretrained"])
def test_saved_weights_give_the_same_features_elsewhere(kind, tmp_path):
    features = clone(ESTIMATORS[kind]).fit(X)
    path = tmp_path / "weights.safetensors"
    features.save_weights(path)
    elsewhere = clone(features).set_params(weights=path, pretraining=None, hidden_size=None)
    assert_allclose(elsewhere.fit_transform(X), features.transform(X), atol=1e-6)


def test_loaded_weights_that_contradict_the_parameters_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    RNNSequenceFeatures("gru", weights="random", hidden_size=4).fit(X).save_weights(path)
    with pytest.raises(ValueError, match="backbone='gru', not 'lstm'"):
        RNNSequenceFeatures("lstm", weights=path).fit(X)
    with pytest.raises(ValueError, match="num_layers=1, not 2"):
        RNNSequenceFeatures("gru", weights=path, num_layers=2).fit(X)
    with pytest.raises(ValueError, match="are for time series, and X holds tokens below"):
        RNNSequenceFeatures("gru", weights=path, vocabulary_size=4).fit([[1, 2]])
    with pytest.raises(WeightsMismatchError, match="weight_ih_l0"):
        RNNSequenceFeatures(nn.GRU(2, 4), weights=path, weights_prefix="rnn.").fit(X)


def test_a_foreign_networks_weights_give_its_states(tmp_path):
    torch.manual_seed(0)
    model = nn.ModuleDict({"embed": nn.Linear(2, 3), "rnn": nn.LSTM(2, 6, 2, bidirectional=True)})
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(model.state_dict(), path)
    features = RNNSequenceFeatures(
        "lstm", weights=path, views="raw", pooling="mean", append_stats=False
    )
    found = features.fit_transform(X)
    for row, series in zip(found, X, strict=True):
        states = model["rnn"](torch.from_numpy(series).float()[:, None])[0]
        assert_allclose(row, states[:, 0].mean(0).detach(), atol=1e-5)


def test_a_pickle_of_projected_features_does_not_grow_with_the_channels():
    sizes = []
    for n_channels in (1, 40):
        series = RNG.normal(size=(3, 50, n_channels))
        features = RNNSequenceFeatures(
            weights="random", hidden_size=4, pooling="mean", output_dim=20, random_state=0
        ).fit(series)
        sizes.append(len(pickle.dumps(features)))
    # Scales and thresholds of each channel, but not the columns of the projection, of 16 features
    # per channel in float32.
    assert sizes[1] - sizes[0] < 30_000 < 20 * 39 * 16 * 4
