"""PretrainedTextFeatures cloned, pickled, saved and loaded."""

import json
import pickle
import re
import shutil

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sktransfer import FineTune, PretrainedTextFeatures
from sktransfer.backbones import language
from sktransfer.exceptions import WeightsMismatchError
from sktransfer.persistence import load, save
from tests.helpers.fresh import in_another_process
from tests.helpers.languages import LABELS, TEXTS, write_language


@pytest.fixture
def folder(tmp_path):
    return write_language(tmp_path / "bert", poolings=("cls",), normalize=True)


def fitted(kind, folder):
    """An estimator of each kind that is written down in its own way."""
    how = {
        "default": {"layer": (1, "last"), "pooling": "mean+max"},
        "folder": {"backbone": folder, "layer": (0, -1), "combine": "sum"},
        "path as text": {"backbone": str(folder), "max_length": 9, "long_texts": "split"},
        "tuned": {"backbone": folder, "strategy": FineTune(1, epochs=1), "random_state": 0},
        "tuned default": {"strategy": FineTune("head", epochs=1), "random_state": 0},
    }[kind]
    return PretrainedTextFeatures(**{"engine": "torch", **how}).fit(TEXTS, LABELS)


KINDS = ["default", "folder", "path as text", "tuned", "tuned default"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_pickle_gives_the_same_features_without_the_folder(kind, folder, tmp_path):
    features = fitted(kind, folder)
    joblib.dump(features, tmp_path / "features")
    data = pickle.dumps(features)
    expected = features.transform(TEXTS)
    shutil.rmtree(folder)
    for again in (pickle.loads(data), joblib.load(tmp_path / "features")):
        assert_array_equal(again.transform(TEXTS), expected)
        assert_array_equal(again.get_feature_names_out(), features.get_feature_names_out())
        assert vars(again).keys() == vars(features).keys()
        assert not again.module_.training
    assert (len(data) < 20_000) == kind.endswith("default")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_estimator_gives_the_same_features_without_code_or_folder(kind, folder, tmp_path):
    features = fitted(kind, folder)
    save(features, tmp_path / "saved")
    expected = features.transform(TEXTS)
    shutil.rmtree(folder)
    again = load(tmp_path / "saved")
    assert_array_equal(again.transform(TEXTS), expected)
    assert vars(again).keys() == vars(features).keys()
    assert repr(again) == repr(features)
    save(again, tmp_path / "twice")
    assert_array_equal(load(tmp_path / "twice").transform(TEXTS), expected)


def test_errors_of_the_last_call_are_no_part_of_what_is_saved(folder, tmp_path):
    features = PretrainedTextFeatures(folder, engine="torch", on_error="nan")
    with pytest.warns(UserWarning, match="1 of 2 rows"):
        features.fit_transform(["a", None])
    assert len(features.errors_) == 1
    save(features, tmp_path / "saved")
    assert load(tmp_path / "saved").errors_ == []


def test_a_network_from_a_pickle_finds_its_vectors_in_the_store(folder, tmp_path):
    features = PretrainedTextFeatures(folder, engine="torch", cache=tmp_path / "store").fit(TEXTS)
    features.transform(TEXTS)
    again = pickle.loads(pickle.dumps(features))
    again.transform(TEXTS)
    assert again.n_forward_ == 0


def features_of_a_file(path):
    return joblib.load(path).transform(TEXTS)


@pytest.mark.slow
def test_a_pickle_works_in_another_process(folder, tmp_path):
    features = fitted("folder", folder)
    joblib.dump(features, tmp_path / "features")
    found = in_another_process(features_of_a_file, tmp_path / "features")
    assert_allclose(found, features.transform(TEXTS), atol=1e-5)


def test_a_reference_to_other_weights_is_refused(folder):
    state = fitted("default", folder).__getstate__()
    state["fitted_"] = state["fitted_"].replace(weights_sha256="0" * 64)
    with pytest.raises(WeightsMismatchError, match="expected 0000"):
        PretrainedTextFeatures.__new__(PretrainedTextFeatures).__setstate__(state)


def test_the_default_network_is_loaded_once_per_process(folder):
    language._published.cache_clear()
    first, second = fitted("default", folder), fitted("default", folder)
    assert first.module_ is second.module_
    assert pickle.loads(pickle.dumps(first)).module_ is first.module_
    assert language._published.cache_info().misses == 1


@pytest.mark.slow
def test_what_is_tuned_is_never_the_shared_network(folder):
    shared = fitted("default", folder)
    before = shared.transform(TEXTS)
    features = PretrainedTextFeatures(
        engine="torch", strategy=FineTune(1, epochs=1), random_state=0
    ).fit(TEXTS, LABELS)
    assert features.module_ is not shared.module_
    assert_array_equal(shared.transform(TEXTS), before)
    assert np.abs(features.transform(TEXTS) - before[:, 768 : 768 + 384]).max() > 1e-6


def test_an_estimator_that_an_earlier_version_saved_is_loaded(folder, tmp_path):
    features = fitted("folder", folder)
    save(features, tmp_path / "saved")
    path = tmp_path / "saved" / "estimator.json"
    structure = json.loads(path.read_text())
    text = json.dumps(structure)
    for name in ("prompt", "prompt_is_pooled", "truncation_side"):  # which came later
        text, n_found = re.subn(f', "{name}": [^,}}]*', "", text)
        assert n_found == 1
    path.write_text(text)
    assert_array_equal(load(tmp_path / "saved").transform(TEXTS), features.transform(TEXTS))
