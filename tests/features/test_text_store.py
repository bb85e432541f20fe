"""PretrainedTextFeatures with a feature store: what is found again, and what must not be."""

import pickle
import time

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sktransfer import FeatureStore, FineTune, PretrainedTextFeatures
from sktransfer.texts import stored_features
from tests.helpers.languages import LABELS, TEXTS, write_language

OTHERS = ["something else", "won and lost", "lost in the match"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_language(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def cached(folder):
    """Estimators with a store."""
    return lambda store, **how: PretrainedTextFeatures(
        **{"backbone": folder, "engine": "torch", "cache": store, **how}
    )


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store")


def test_stored_features_are_those_computed_without_a_store(store, cached):
    how = {"layer": (0, "encoder.layer.1.intermediate", "last", "pooler"), "pooling": "max+mean"}
    expected = cached(None, **how).fit_transform(TEXTS)
    features = cached(store, **how).fit(TEXTS)
    for _ in range(2):
        assert_allclose(features.transform(TEXTS), expected, atol=1e-6)
        assert features.n_forward_ == len(TEXTS)


@pytest.mark.slow
def test_one_pass_answers_every_layer_and_pooling(store, cached):
    cached(store, layer=0).fit_transform(TEXTS)
    for layer in (1, 2, "last", (-1, 0)):
        for pooling in ("mean", "cls", "max", "max+cls"):
            how = {"layer": layer, "pooling": pooling}
            features = cached(store, **how)
            expected = cached(None, **how).fit_transform(TEXTS)
            assert_allclose(features.fit_transform(TEXTS), expected, atol=1e-6)
            assert features.n_forward_ == 0


def test_a_pickle_of_a_network_that_was_changed_gives_its_new_features(store, cached):
    features = cached(store)
    stored = features.fit_transform(TEXTS)
    features.module_.embeddings.LayerNorm.weight.mul_(2)
    again = pickle.loads(pickle.dumps(features))
    expected = features.transform(TEXTS)
    assert not np.allclose(expected, stored)
    assert_allclose(again.transform(TEXTS), expected, atol=1e-6)


def test_a_layer_inside_a_block_is_computed_once_beside_the_stages(store, cached):
    cached(store).fit_transform(TEXTS)
    how = {"layer": "encoder.layer.0.attention.self"}
    for expected_passes in (len(TEXTS), 0):
        features = cached(store, **how)
        assert_allclose(
            features.fit_transform(TEXTS), cached(None, **how).fit_transform(TEXTS), atol=1e-6
        )
        assert features.n_forward_ == expected_passes


def test_only_what_is_new_goes_through_the_network(store, cached):
    features = cached(store).fit(TEXTS)
    features.transform(TEXTS[:5])
    mixed = features.transform([*OTHERS, *TEXTS, *OTHERS])
    assert features.n_forward_ == 5 + 3 + 3
    assert_allclose(mixed, cached(None).fit(TEXTS).transform([*OTHERS, *TEXTS, *OTHERS]), atol=1e-6)


def test_the_same_network_in_another_folder_is_the_same(store, cached, tmp_path):
    first = cached(store).fit_transform(TEXTS)
    other = write_language(tmp_path / "copy")
    features = cached(str(store.path), backbone=other)
    assert_array_equal(features.fit_transform(TEXTS), first)
    assert features.n_forward_ == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [
        {"max_length": 5, "long_texts": "cut"},
        {"max_length": 5, "long_texts": "split"},
        {"precision": "bfloat16"},
        {"engine": "openvino"},
    ],
    ids=str,
)
def test_what_changes_the_numbers_is_not_taken_for_the_same(store, cached, parameters):
    cached(store).fit_transform(TEXTS)
    features = cached(store, **parameters)
    expected = cached(None, **parameters).fit_transform(TEXTS)
    assert_allclose(features.fit_transform(TEXTS), expected, atol=1e-2 * np.abs(expected).max())
    assert features.n_forward_ == len(TEXTS)


def test_other_weights_or_another_tokenizer_are_another_network(store, cached, tmp_path):
    cached(store).fit_transform(TEXTS)
    other = write_language(tmp_path / "other", seed=1)
    features = cached(store, backbone=other)
    assert_allclose(
        features.fit_transform(TEXTS), cached(None, backbone=other).fit_transform(TEXTS), atol=1e-6
    )
    assert features.n_forward_ == len(TEXTS)
    same = write_language(tmp_path / "same")
    path = same / "tokenizer.json"
    path.write_text(path.read_text().replace('"lowercase": true', '"lowercase": false'))
    features = cached(store, backbone=same).fit(TEXTS)
    features.transform(TEXTS)
    assert features.n_forward_ == len(TEXTS)


def test_a_network_that_was_changed_by_hand_is_another(store, cached):
    features = cached(store).fit(TEXTS)
    before = features.transform(TEXTS)
    with torch.no_grad():
        features.module_.embeddings.LayerNorm.weight.mul_(2)
    after = features.transform(TEXTS)
    assert features.n_forward_ == 2 * len(TEXTS)
    assert np.abs(after - before).max() > 0.01


def test_truncation_is_reported_from_the_store_too(store, cached):
    for passes in (3, 0):
        features = cached(store, max_length=6).fit(TEXTS)
        with pytest.warns(UserWarning, match="1 of 3 texts have more than 6 tokens: X\\[1\\]"):
            features.transform(["a", TEXTS[6], "b"])
        assert (features.n_truncated_, features.n_forward_) == (1, passes)


@pytest.mark.slow
def test_a_search_passes_each_text_once(store, cached):
    pipeline = make_pipeline(cached(store), LogisticRegression())
    grid = {
        "pretrainedtextfeatures__layer": [0, 1, 2, "last"],
        "pretrainedtextfeatures__pooling": ["mean", "max", "cls"],
    }
    GridSearchCV(pipeline, grid, cv=2).fit(TEXTS * 2, LABELS * 2)
    assert [space["n_forward"] for space in store.info()["namespaces"]] == [len(TEXTS)]


@pytest.mark.slow
def test_two_workers_share_the_work(store, cached):
    pipeline = make_pipeline(cached(store), LogisticRegression())
    grid = {"pretrainedtextfeatures__layer": [0, 1, 2, "last"]}
    GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(TEXTS * 2, LABELS * 2)
    assert [space["n_forward"] for space in store.info()["namespaces"]] == [len(TEXTS)]


def test_what_another_has_claimed_is_waited_for_and_taken_over(store, cached, monkeypatch):
    """A worker that died leaves claims; its lock is free, and so are they."""
    monkeypatch.setattr(stored_features, "_BATCH", 2)
    features = cached(store).fit(TEXTS)
    assert_allclose(features.transform(TEXTS), cached(None).fit(TEXTS).transform(TEXTS), atol=1e-6)
    assert features.n_forward_ == len(TEXTS)
    keys = [stored_features.key_of(text) for text in OTHERS]
    blocks = ["tokens", *(f"{stage}/mean+cls+max" for stage in features.stages_)]
    scope = f"{features._session(features.fitted_).namespace}:{'|'.join(blocks)}"
    with store.claims() as claims:
        assert claims.take(scope, keys, 9) == keys
        naps = []
        # The other's work is done while we sleep.
        monkeypatch.setattr(time, "sleep", lambda s: (naps.append(s), claims.release(scope, keys)))
        features.transform(OTHERS)
    assert naps == [0.05]
    assert features.n_forward_ == len(TEXTS) + len(OTHERS)


def test_a_tuned_network_leaves_the_store_alone(store, cached):
    strategy = FineTune(1, epochs=1, random_state=0)
    features = cached(store, strategy=strategy).fit(TEXTS, LABELS)
    frozen = store.info()["samples"]
    features.transform(OTHERS)
    assert store.info()["samples"] == frozen


def test_a_store_that_cannot_be_written_costs_a_warning_only(tmp_path, cached):
    (tmp_path / "file").write_text("no folder")
    features = cached(tmp_path / "file").fit(TEXTS)
    with pytest.warns(UserWarning, match="cannot be (read|written).*the features are right"):
        found = features.transform(TEXTS)
    assert_allclose(found, cached(None).fit_transform(TEXTS), atol=1e-6)


def test_only_a_text_without_tokens_is_known_by_the_token_it_is_read_as():
    assert stored_features.key_of("a", 5) == stored_features.key_of("a")
    keys = {stored_features.key_of(text, pad) for text in ("", " ") for pad in (None, 5, 6)}
    assert len(keys) == 6
