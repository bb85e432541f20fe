"""Transformers in several threads, and calls that change nothing of what is pickled."""

import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from torch import nn

from sktransfer import (
    FineTune,
    FineTunedClassifier,
    PretrainedCNNFeatures,
    PretrainedTextFeatures,
    RNNSequenceFeatures,
)
from tests.helpers.languages import LABELS, TEXTS, write_language
from tests.helpers.networks import TwoStages, Unconvertible

SERIES = np.random.default_rng(0).normal(size=(8, 20)).cumsum(1)
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 16, 16), dtype=np.uint8)
KINDS = np.array(["a", "b"] * 4)


class PerStep(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(1, 3), nn.Tanh())


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Transformers, and data for them, by a name."""
    folder = write_language(tmp_path_factory.mktemp("language"))
    return {
        "lite": (PretrainedCNNFeatures(image_size=32, layer="blocks.1"), IMAGES, KINDS),
        "images": (PretrainedCNNFeatures(TwoStages, random_state=0), IMAGES, KINDS),
        "series": (RNNSequenceFeatures(views="z"), SERIES, KINDS),
        "own series": (RNNSequenceFeatures(PerStep, random_state=0), SERIES, KINDS),
        "texts": (PretrainedTextFeatures(folder), TEXTS, LABELS),
    }


NAMES = ["lite", "images", "series", "own series", "texts"]


def in_threads(n, work):
    """Call a function with numbers in eight threads that change places as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(work, range(n)))
    finally:
        sys.setswitchinterval(before)


@pytest.mark.parametrize("use", ["torch", "auto", "cache", "tuned"])
@pytest.mark.parametrize("name", NAMES)
def test_the_first_calls_of_an_unpickled_estimator_may_come_together(name, use, cases, tmp_path):
    features, X, y = cases[name]
    options = {"cache": tmp_path} if use == "cache" else {}
    if use == "torch" and hasattr(features, "engine"):
        options["engine"] = "torch"
    features = type(features)(**{**features.get_params(deep=False), **options})
    if use == "tuned":
        fitted = FineTunedClassifier(features, strategy=FineTune(1, epochs=1), random_state=0)
        fitted, method = fitted.fit(X, y), "decision_function"
    else:
        fitted, method = features.fit(X), "transform"
    served = pickle.loads(pickle.dumps(fitted))
    expected = getattr(fitted, method)(X)

    def work(number):
        start = number % 4
        if use == "tuned" and number % 8 == 7:
            assert served.net_ is served.net_
        return start, getattr(served, method)(X[start : start + 4])

    for start, found in in_threads(24, work):
        assert_allclose(found, expected[start : start + 4], rtol=1e-4, atol=1e-4)


def test_readers_of_different_layers_of_one_network_do_not_disturb_each_other():
    fitted = [
        PretrainedCNNFeatures(image_size=32, layer=layer, engine="torch").fit(IMAGES)
        for layer in ("blocks.0", "blocks.1", ("blocks.0", "blocks.2"), "blocks.0")
    ]
    assert all(each.module_ is fitted[0].module_ for each in fitted)
    expected = [each.transform(IMAGES) for each in fitted]
    for number, found in enumerate(in_threads(24, lambda n: fitted[n % 4].transform(IMAGES))):
        assert_allclose(found, expected[number % 4], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_call_changes_neither_the_hash_nor_the_pickle(name, cases):
    features, X, _ = cases[name]
    fitted = features.fit(X)
    before, pickled = joblib.hash(fitted), pickle.dumps(fitted)
    expected = fitted.transform(X)
    assert fitted.n_forward_ > 0
    assert joblib.hash(fitted) == before
    again = pickle.loads(pickled)
    assert joblib.hash(again) == before
    assert again.n_forward_ == 0
    assert_allclose(again.transform(X), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_pipeline_with_memory_finds_what_a_frozen_transformer_has_computed(name, cases, tmp_path):
    features, X, y = cases[name]
    fitted = features.fit(X)
    steps = [("features", FrozenEstimator(fitted)), ("classifier", LogisticRegression())]
    pipeline = Pipeline(steps, memory=str(tmp_path))
    for _ in range(3):
        pipeline.fit(X, y)
        assert fitted.n_forward_ == len(X)


def test_another_engine_that_took_over_is_no_part_of_the_pickle(colour):
    features = PretrainedCNNFeatures(Unconvertible, image_size=8).fit(colour)
    before = joblib.hash(features)
    with pytest.warns(UserWarning, match="OpenVINO cannot run"):
        features.transform(colour)
    assert features.engine_ == "torch"
    assert joblib.hash(features) == before
    features.transform(colour)  # without a warning


def test_errors_are_those_of_the_last_call_in_this_thread(photos, tmp_path):
    photos[0].save(tmp_path / "palace.png")
    good, absent = str(tmp_path / "palace.png"), str(tmp_path / "absent.png")
    features = PretrainedCNNFeatures(image_size=32, layer="blocks.0", on_error="nan").fit([good])
    assert features.errors_ == []
    with pytest.warns(UserWarning, match="1 of 2 images"):
        features.transform([good, absent])
    seen = []

    def other():
        seen.append(len(features.errors_))  # it has made no call yet
        features.transform([good])
        seen.append(len(features.errors_))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [1, 0]
    assert [failure.index for failure in features.errors_] == [1]


def test_counts_of_several_threads_add_up(cases):
    features, X, _ = cases["series"]
    fitted = features.fit(X)
    in_threads(40, lambda number: fitted.transform(X))
    assert fitted.n_forward_ == 40 * len(X)


def test_transformers_is_as_talkative_as_before_when_threads_have_loaded_networks(cases):
    from transformers.utils import logging

    features, X, _ = cases["texts"]
    logging.set_verbosity_info()
    try:
        loaded = in_threads(8, lambda number: PretrainedTextFeatures(features.backbone).fit(X))
        assert logging.get_verbosity() == logging.INFO
    finally:
        logging.set_verbosity_warning()
    assert logging.is_progress_bar_enabled()
    assert len(loaded) == 8


def test_predictions_and_looks_at_the_net_do_not_change_the_hash_of_a_tuned_estimator(cases):
    features, X, y = cases["images"]
    strategy = FineTune(1, epochs=1)
    classifier = FineTunedClassifier(features, strategy=strategy, random_state=0).fit(X, y)
    before = joblib.hash(classifier)
    classifier.predict(X)
    assert joblib.hash(classifier) == before
    again = pickle.loads(pickle.dumps(classifier))
    assert joblib.hash(again) == before
    assert again.net_ is again.net_
    assert joblib.hash(again) == before
    assert not any(part.training for part in again.features_.module_.modules())
