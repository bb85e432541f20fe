"""RNNSequenceFeatures with a feature store: what is found again, and what must not be."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from sktransfer import FeatureStore, Pretraining, RNNSequenceFeatures
from sktransfer.sequences import stored_features

RNG = np.random.RandomState(0)
X = [RNG.normal(size=(n, 2)).cumsum(0) for n in RNG.randint(1, 40, 30)]
OTHERS = [RNG.normal(size=(20, 2)) for _ in range(5)]


def cached(store, **parameters):
    given = {"weights": "random", "hidden_size": 5, "random_state": 0, **parameters}
    return RNNSequenceFeatures(cache=store, **given)


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path)


def test_stored_features_are_those_computed_without_a_store(store):
    expected = cached(None, layer=(0, 1), num_layers=2).fit_transform(X)
    features = cached(store, layer=(0, 1), num_layers=2)
    assert_allclose(features.fit_transform(X), expected, atol=1e-6)
    assert features.n_forward_ == 30
    assert_allclose(features.transform(X), expected, atol=1e-6)
    assert features.n_forward_ == 30


def test_a_path_will_do_and_another_estimator_finds_it_all(tmp_path):
    first = cached(tmp_path).fit_transform(X)
    again = cached(str(tmp_path))
    assert_array_equal(again.fit_transform(X), first)
    assert again.n_forward_ == 0


def test_only_what_is_new_goes_through_the_network(store):
    features = cached(store).fit(X)
    features.transform(X[:20])
    mixed = features.transform([*OTHERS, *X])
    assert features.n_forward_ == 20 + 15
    assert_allclose(mixed, cached(None).fit(X).transform([*OTHERS, *X]), atol=1e-6)


def test_other_poolings_and_fewer_views_are_found(store):
    cached(store, views="z+d", pooling="mean").fit_transform(X)
    for views, pooling in (("z", "max+std"), ("d", "last"), (("d", "z"), ("min", "mean"))):
        features = cached(store, views=views, pooling=pooling)
        expected = cached(None, views=views, pooling=pooling).fit_transform(X)
        assert_allclose(features.fit_transform(X), expected, atol=1e-6)
        assert features.n_forward_ == 0


@pytest.mark.parametrize(
    "parameters",
    [
        {"random_state": 1},
        {"backbone": "gru"},
        {"bidirectional": True},
        {"num_layers": 2, "layer": 0},
        {"views": "g"},
        {"views": "dg"},
        {"pooling": "ppv"},
        {"pooling": "ppv", "n_thresholds": 5},
        {"precision": "bfloat16"},
        {"pretraining": Pretraining("forecast", epochs=1)},
        {"backbone": nn.GRU(1, 5), "hidden_size": None, "weights": "default", "pooling": "mean"},
    ],
    ids=str,
)
def test_what_changes_the_numbers_is_not_taken_for_the_same(store, parameters):
    cached(store, views="z", pooling="mean").fit_transform(X)
    one = cached(store, **{"views": "z", "pooling": "mean", **parameters})
    expected = cached(None, **{"views": "z", "pooling": "mean", **parameters}).fit_transform(X)
    assert_allclose(one.fit_transform(X), expected, atol=1e-6)
    assert one.n_forward_ == 30


@pytest.mark.parametrize("view", ["g", "dg"])
def test_features_on_the_scale_of_other_training_data_are_other_features(store, view):
    wide = [series * 10 for series in X]
    cached(store, views=view, pooling="mean").fit(X).transform(OTHERS)
    features = cached(store, views=view, pooling="mean").fit(wide)
    expected = cached(None, views=view, pooling="mean").fit(wide).transform(OTHERS)
    assert_allclose(features.transform(OTHERS), expected, atol=1e-6)
    assert features.n_forward_ == 5


@pytest.mark.slow
def test_a_search_over_heads_costs_one_pass_per_fold(store):
    y = np.arange(30) % 2
    pipeline = make_pipeline(cached(store), RidgeClassifier())
    search = GridSearchCV(pipeline, {"ridgeclassifier__alpha": [0.1, 1, 10, 100]}, cv=3)
    search.fit(X, y)
    # Four views of the thirty series in three folds and once more for the best: thresholds are
    # learned from each.
    assert sum(space["n_forward"] for space in store.info()["namespaces"]) == 4 * 30 * 4


def test_data_of_other_channels_share_a_store_in_peace(store):
    for X_one in (RNG.normal(size=(4, 20, 3)), RNG.normal(size=(4, 20))):
        expected = cached(None, views="z", pooling="mean").fit_transform(X_one)
        for _ in range(2):
            found = cached(store, views="z", pooling="mean").fit_transform(X_one)
            assert_allclose(found, expected, atol=1e-6)


def test_tokens_go_through_the_store(store):
    tokens = [[1, 2, 3], [3, 2], [0]]
    expected = cached(None, vocabulary_size=4).fit_transform(tokens)
    features = cached(store, vocabulary_size=4)
    assert_allclose(features.fit_transform(tokens), expected, atol=1e-6)
    assert_allclose(features.transform(tokens), expected, atol=1e-6)
    assert features.n_forward_ == 3


def test_attention_is_stored_beside_the_others(store, tmp_path):
    trained = cached(None, pretraining=Pretraining("contrastive", epochs=1)).fit(X)
    trained.save_weights(tmp_path / "weights.safetensors")
    given = {"weights": tmp_path / "weights.safetensors", "pooling": "attention+mean"}
    features = cached(store, **given)
    expected = cached(None, **given).fit_transform(X)
    for _ in range(2):
        assert_allclose(features.fit(X).transform(X), expected, atol=1e-6)
    assert features.n_forward_ == 0


@pytest.mark.slow
def test_two_workers_share_one_pass(store):
    pipeline = make_pipeline(cached(store, views="z+d", pooling="mean"), RidgeClassifier())
    grid = {"rnnsequencefeatures__pooling": ["mean", "max", "last", "std"]}
    GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(X, np.arange(30) % 2)
    assert sum(space["n_forward"] for space in store.info()["namespaces"]) == 2 * 30


def test_threads_at_the_same_sequences_compute_each_once(store, monkeypatch):
    monkeypatch.setattr(stored_features, "_BATCH_ROWS", 4)
    how = {"views": "z+d", "pooling": "mean", "batch_size": 2}
    expected = cached(None, **how).fit_transform(X)
    workers = [cached(store, **how).fit(X) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda worker: worker.transform(X), workers))
    for features in found:
        assert_allclose(features, expected, atol=1e-6)
    assert sum(space["n_forward"] for space in store.info()["namespaces"]) == 2 * 30


def test_equal_sequences_are_computed_once(store):
    features = cached(store).fit(X)
    found = features.transform([X[0], X[1], X[0]])
    assert_array_equal(found[0], found[2])
    assert features.n_forward_ == 2


def test_a_store_that_cannot_be_written_costs_one_warning_for_all_views(tmp_path, monkeypatch):
    monkeypatch.setattr("sktransfer.sequences.source._WINDOW_STEPS", 100)
    (tmp_path / "file").write_text("no folder")
    features = cached(tmp_path / "file").fit(X)
    assert len(features.views_) > 1
    with pytest.warns(
        UserWarning, match="cannot be (read|written).*the features are right"
    ) as some:
        found = features.transform(X)
    assert len(some) == 1
    assert features.n_forward_ == 30
    assert_allclose(found, cached(None).fit_transform(X), atol=1e-6)


@pytest.mark.filterwarnings("ignore:.* rows of X are no usable sequences")
def test_rows_without_a_series_are_neither_stored_nor_mistaken_for_one(store):
    gappy = [None, X[0], [], X[1]]
    first = cached(store, on_error="nan")
    found = first.fit_transform(gappy)
    assert first.n_forward_ == 2
    assert np.isnan(found[[0, 2]]).all()
    again = cached(store, on_error="nan").fit(gappy)
    assert_array_equal(again.transform([X[1], None, X[0]]), found[[3, 0, 1]])
    assert again.n_forward_ == 0


def test_final_states_of_both_directions_are_found_again_as_they_are(store):
    parameters = {"bidirectional": True, "pooling": "last", "append_stats": False}
    expected = cached(None, **parameters).fit_transform(X)
    assert_allclose(cached(store, **parameters).fit_transform(X), expected, atol=1e-6)
    again = cached(store, **parameters)
    assert_allclose(again.fit_transform(X), expected, atol=1e-6)
    assert again.n_forward_ == 0


@pytest.mark.parametrize("backbone", ["lstm", nn.LSTM(2, 5, batch_first=True)])
def test_a_pickle_has_the_hash_of_the_weights_that_it_holds(backbone, store):
    features = RNNSequenceFeatures(backbone, views="z", cache=store).fit(X)
    again = pickle.loads(pickle.dumps(features))
    stored = features.transform(X)
    assert_array_equal(again.transform(X), stored)
    assert again.n_forward_ == 0
    next(features.module_.parameters()).mul_(2)
    again = pickle.loads(pickle.dumps(features))
    assert_array_equal(again.transform(X), features.transform(X))
    assert not np.allclose(again.transform(X), stored)
    assert (again.n_forward_, features.n_forward_) == (30, 30)  # they share what is stored


def test_a_network_that_was_changed_before_its_first_pass_gives_its_new_features(store):
    features, changed = cached(store).fit(X), cached(store).fit(X)
    next(changed.module_.parameters()).mul_(2)
    assert not np.allclose(changed.transform(X), features.transform(X))


def test_the_fingerprint_is_of_the_weights_whatever_file_they_came_from(tmp_path):
    features = cached(None).fit(X)
    state = {f"encoder.{name}": t for name, t in features.module_.rnn.state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / "foreign.safetensors")
    copied = cached(None, weights=tmp_path / "foreign.safetensors").fit(X)
    first, second = (each.fitted_.network for each in (features, copied))
    assert features.weights_sha256_ != copied.weights_sha256_  # of the files
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint_with("0") != first.fingerprint_with("1")
    with torch.no_grad():
        next(second.module.parameters()).add_(1)
    assert first.fingerprint != second.fingerprint
