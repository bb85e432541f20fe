"""PretrainedCNNFeatures with a store: the same features, in one pass."""

import io
import pickle
import signal
import time
import warnings
from functools import partial

import numpy as np
import pytest
from joblib import parallel_config
from numpy.testing import assert_array_equal
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline

from sktransfer import FeatureStore, PretrainedCNNFeatures
from sktransfer.exceptions import ConversionError, ImageReadError
from tests.helpers.fresh import in_another_process, start_process
from tests.helpers.networks import SmallCNN, TwoStages, Unconvertible
from tests.helpers.processes.counted import Counted


@pytest.fixture
def counted(tmp_path):
    """A network that logs how many images it sees, here and in other processes."""
    return partial(Counted, log=str(tmp_path / "log"))


def lite(cache, **params):
    return PretrainedCNNFeatures(image_size=32, cache=cache, **params)


def small(cache, **params):
    how = {"image_size": 16, "layer": "conv", "random_state": 0, **params}
    return PretrainedCNNFeatures(SmallCNN, cache=cache, **how)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("pooling", ["max", "mean+max", "gem"])
def test_features_are_those_computed_without_a_store(engine, pooling, digits, tmp_path):
    images = digits[0][:30]
    params = {"image_size": 16, "random_state": 0, "engine": engine, "pooling": pooling}
    params["layer"] = ("first", "penultimate", "second.1")  # the last one is within a stage
    plain = PretrainedCNNFeatures(TwoStages, **params).fit(images)
    expected = plain.transform(images)
    stored = PretrainedCNNFeatures(TwoStages, cache=tmp_path, **params).fit(images)
    for _ in range(2):
        found = stored.transform(images)
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert (stored.n_forward_, plain.n_forward_) == (30, 30)
    assert_array_equal(stored.get_feature_names_out(), plain.get_feature_names_out())


@pytest.mark.slow
def test_a_search_sends_each_image_through_the_network_exactly_once(digits, tmp_path, counted):
    images, labels = digits[0][:120], digits[1][:120]
    log = tmp_path / "log"
    pipeline = make_pipeline(
        PretrainedCNNFeatures(counted, cache=tmp_path / "store", random_state=0, engine="torch"),
        GaussianNB(),
    )
    grid = {
        "pretrainedcnnfeatures__layer": ["first", "second", "penultimate"],
        "pretrainedcnnfeatures__pooling": ["mean", "max"],
        "gaussiannb": [GaussianNB(), LogisticRegression()],
    }
    search = GridSearchCV(pipeline, grid, cv=5).fit(images, labels)
    assert Counted.images_seen(log) == 120
    assert search.best_estimator_[0].n_forward_ == 0
    cold = GridSearchCV(pipeline.set_params(pretrainedcnnfeatures__cache=None), grid, cv=5)
    expected = cold.fit(images, labels).cv_results_["mean_test_score"]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], expected)


@pytest.mark.slow
def test_two_processes_share_one_pass_and_a_third_needs_none(digits, tmp_path, counted):
    images, labels = digits[0][:200], digits[1][:200]
    log = tmp_path / "log"
    features = PretrainedCNNFeatures(
        counted, cache=tmp_path / "store", random_state=0, engine="torch", batch_size=8
    )
    grid = {"pretrainedcnnfeatures__layer": ["first", "second"]}
    search = GridSearchCV(make_pipeline(features, GaussianNB()), grid, cv=5, n_jobs=2)
    with parallel_config("loky"):
        search.fit(images, labels)
    assert 200 <= Counted.images_seen(log) <= 204
    log.unlink()
    features.set_params(layer="second", pooling="max")
    assert in_another_process(passes_in_all, features, images) == 0
    assert Counted.images_seen(log) == 0


def passes_in_all(features, images):
    features.fit(images).transform(images)
    return features.n_forward_


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_samples_of_a_worker_killed_in_mid_claim_are_taken_over(
    digits, tmp_path, counted, monkeypatch
):
    images = digits[0][:40]
    log = tmp_path / "log"
    monkeypatch.setenv("COUNTED_SECONDS", "60")  # it hangs in its first pass
    estimator = PretrainedCNNFeatures(
        counted, cache=tmp_path / "store", random_state=0, engine="torch", batch_size=20
    )
    worker = start_process(passes_in_all, estimator, images)
    deadline = time.time() + 60
    while not log.exists() and time.time() < deadline:
        time.sleep(0.02)
    worker.kill()
    worker.join()
    assert list((tmp_path / "store" / "claims").glob("owner-*.lock"))
    log.unlink()
    monkeypatch.delenv("COUNTED_SECONDS")
    found = estimator.fit(images).transform(images)
    assert Counted.images_seen(log) == 40
    assert_array_equal(found, estimator.set_params(cache=None).transform(images))


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": 40},
        {"mean": 0.1},
        {"resize": "squash"},
        {"value_range": (0, 2)},
        {"precision": "bfloat16"},
        {"engine": "torch"},
        {"fast_decode": True},
        {"backbone": TwoStages, "layer": "first"},
        {"random_state": 1},
    ],
)
def test_whatever_decides_the_features_decides_where_they_are_found(change, digits, tmp_path):
    images = digits[0][:5]
    small(tmp_path).fit_transform(images)
    changed = small(tmp_path).set_params(**change).fit(images)
    found = changed.transform(images)
    assert changed.n_forward_ == 5
    np.testing.assert_allclose(
        found, changed.set_params(cache=None).transform(images), atol=1e-5 * np.abs(found).max()
    )


@pytest.mark.slow
def test_random_weights_are_not_taken_for_the_default_ones(digits, tmp_path):
    images = digits[0][:5]
    how = {"layer": "blocks.1", "engine": "torch"}
    first = lite(tmp_path, **how).fit_transform(images)
    other = lite(tmp_path, **how, weights="random", random_state=0).fit(images)
    assert np.abs(other.transform(images) - first).max() > 0.1
    assert other.n_forward_ == 5


@pytest.mark.parametrize("change", [{"batch_size": 2}, {"layer": 3, "pooling": "max"}])
def test_what_does_not_decide_them_does_not_matter(change, digits, tmp_path):
    images = digits[0][:5]
    how = {"layer": "blocks.1", "engine": "torch"}
    lite(tmp_path, **how).fit_transform(images)
    changed = clone(lite(FeatureStore(tmp_path), **how)).set_params(**change)
    changed.fit(images).transform(images[::-1])
    assert changed.n_forward_ == 0


def test_files_pictures_and_rows_are_all_found_again(colour, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(len(colour))]
    for path, image in zip(paths, colour, strict=True):
        Image.fromarray(image).save(path)
    pictures = [Image.fromarray(image) for image in colour]
    how = {"random_state": 0, "cache": tmp_path / "store", "engine": "torch"}
    for X in (paths, pictures, colour, [*colour]):
        estimator = PretrainedCNNFeatures(SmallCNN, **how)
        first = estimator.fit(X).transform(X)
        assert_array_equal(first, estimator.transform(X))
        assert estimator.n_forward_ in (0, 6)  # a list of the same arrays was seen before
    rows = PretrainedCNNFeatures(SmallCNN, image_shape=(10, 12, 3), **how)
    flat = colour.reshape(6, -1)
    assert_array_equal(rows.fit(flat).transform(flat), rows.transform(flat))
    assert rows.n_forward_ in (0, 6)


def test_broken_files_are_reported_every_time_and_cost_nothing_else(colour, tmp_path):
    Image.fromarray(colour[0]).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    X = [tmp_path / "good.png", tmp_path / "bad.png", tmp_path / "absent.png"]
    estimator = PretrainedCNNFeatures(
        SmallCNN, random_state=0, cache=tmp_path / "store", on_error="nan"
    ).fit(X)
    for _ in range(2):
        with pytest.warns(UserWarning, match="2 of 3 images could not be read"):
            found = estimator.transform(X)
        assert np.isnan(found).all(1).tolist() == [False, True, True]
        assert [failure.path for failure in estimator.errors_] == [str(X[1]), str(X[2])]
    assert estimator.n_forward_ == 1
    with pytest.raises(ImageReadError, match=r"X\[1\].*bad\.png"):
        estimator.set_params(on_error="raise").transform(X)


def test_a_pickled_estimator_uses_its_store(digits, tmp_path):
    images = digits[0][:5]
    estimator = lite(tmp_path, layer="blocks.1", engine="torch")
    expected = estimator.fit_transform(images)
    revived = pickle.loads(pickle.dumps(estimator))
    assert_array_equal(revived.transform(images), expected)
    assert (revived.n_forward_, estimator.n_forward_) == (0, 5)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_network_that_was_changed_after_fit_gives_its_new_features(engine, colour, tmp_path):
    for cache in (None, tmp_path):
        estimator = PretrainedCNNFeatures(
            SmallCNN, layer="conv", random_state=0, cache=cache, engine=engine
        )
        before = estimator.fit(colour).transform(colour)
        estimator.module_.conv.weight.mul_(2)
        estimator.module_.conv.bias.mul_(2)
        np.testing.assert_allclose(estimator.transform(colour), 2 * before, rtol=1e-4, atol=1e-6)
        again = PretrainedCNNFeatures(
            SmallCNN, layer="conv", random_state=0, cache=cache, engine=engine
        )
        np.testing.assert_allclose(again.fit(colour).transform(colour), before, atol=1e-6)


@pytest.mark.parametrize("make", [partial(small, engine="torch"), partial(lite, weights="random")])
def test_a_pickle_of_a_network_that_was_changed_gives_its_new_features(make, colour, tmp_path):
    estimator = make(tmp_path, random_state=0)
    stored = estimator.fit_transform(colour)
    next(estimator.module_.parameters()).mul_(2)
    revived = pickle.loads(pickle.dumps(estimator))
    expected = estimator.transform(colour)
    assert not np.allclose(expected, stored)
    np.testing.assert_allclose(revived.transform(colour), expected, rtol=1e-5, atol=1e-6)
    assert revived.n_forward_ == 0  # the store has those of the changed network
    assert revived.weights_sha256_ != estimator.weights_sha256_


def test_what_openvino_cannot_run_torch_does_with_a_warning(colour, tmp_path):
    expected = PretrainedCNNFeatures(Unconvertible, engine="torch", random_state=0).fit_transform(
        colour
    )
    for cache in (None, tmp_path):
        estimator = PretrainedCNNFeatures(Unconvertible, random_state=0, cache=cache).fit(colour)
        assert estimator.engine_ == "openvino"
        with pytest.warns(UserWarning, match="OpenVINO cannot run Unconvertible, so torch does"):
            found = estimator.transform(colour)
        assert_array_equal(found, expected)
        assert estimator.engine_ == "torch"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            estimator.transform(colour)
    warm = PretrainedCNNFeatures(Unconvertible, random_state=0, cache=tmp_path, engine="torch")
    assert warm.fit(colour).transform(colour).shape == expected.shape
    assert warm.n_forward_ == 0  # the fallback stored under what really computed it
    asked = PretrainedCNNFeatures(Unconvertible, random_state=0, engine="openvino").fit(colour)
    with pytest.raises(ConversionError, match=r"set engine='auto' or 'torch'"):
        asked.transform(colour)


def test_an_estimator_from_a_machine_with_openvino_works_without(colour, monkeypatch):
    estimator = PretrainedCNNFeatures(SmallCNN, random_state=0)
    expected = estimator.fit_transform(colour)
    data = pickle.dumps(estimator)
    monkeypatch.setattr("sktransfer.networks.engines.find_spec", lambda name: None)
    revived = pickle.loads(data)
    assert revived.engine_ == "torch"
    np.testing.assert_allclose(revived.transform(colour), expected, atol=1e-5)


@pytest.mark.slow
def test_fast_decode_reads_large_photographs_smaller_and_nearly_the_same(photos, tmp_path):
    big = photos[1].resize((2560, 1708))
    path, turned = tmp_path / "big.jpg", tmp_path / "turned.jpg"
    big.save(path, quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6
    big.transpose(Image.Transpose.ROTATE_90).save(turned, quality=95, exif=exif)
    slow, fast = (
        PretrainedCNNFeatures(fast_decode=fast, engine="torch").fit_transform([path, turned])
        for fast in (False, True)
    )
    cosine = (slow * fast).sum(1) / np.linalg.norm(slow, axis=1) / np.linalg.norm(fast, axis=1)
    assert (cosine > 0.99).all()
    assert not np.array_equal(slow, fast)
    np.testing.assert_allclose(fast[0], fast[1], atol=0.1 * fast.max())


def test_the_number_of_forwarded_images_starts_anew_with_fit(colour):
    estimator = PretrainedCNNFeatures(SmallCNN, random_state=0, engine="torch")
    estimator.fit(colour).transform(colour)
    estimator.transform(colour[:2])
    assert estimator.n_forward_ == 8
    assert estimator.fit(colour).n_forward_ == 0


def test_bytes_open_files_and_addresses_are_found_where_the_file_was_stored(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3), dtype=np.uint8)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, each in zip(paths, pixels, strict=True):
        Image.fromarray(each).save(path)
    extractor = PretrainedCNNFeatures(
        image_size=32, layer="blocks.0", engine="torch", cache=tmp_path / "store"
    )
    expected = extractor.fit_transform(paths)
    before = extractor.n_forward_
    data = [path.read_bytes() for path in paths]
    for X in (
        data,
        [io.BytesIO(each) for each in data],
        [{"bytes": each, "path": None} for each in data],
        [path.as_uri() for path in paths],
        [paths[0], data[1], paths[2].as_uri()],
    ):
        assert np.array_equal(extractor.transform(X), expected)
    assert extractor.n_forward_ == before


def test_a_masked_row_of_pixels_is_missing_and_not_what_lies_under_the_mask():
    rows = np.ma.array(np.random.default_rng(0).random((3, 64)))
    extractor = PretrainedCNNFeatures(
        image_size=32, image_shape=(8, 8), layer="blocks.0", engine="torch", on_error="nan"
    ).fit(rows)
    rows[1, 5] = np.ma.masked
    with pytest.warns(UserWarning, match="1 of 3 images could not be read"):
        features = extractor.transform(rows)
    assert np.isnan(features).any(axis=1).tolist() == [False, True, False]
    with pytest.raises(ValueError, match="contains NaN"):
        extractor.set_params(on_error="raise").transform(rows)
