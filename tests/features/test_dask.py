"""Features of dask collections: lazy, in order, and on workers that may die."""

import contextlib
import importlib
import itertools
import os
import signal
import sys
import threading
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import (
    FineTune,
    PretrainedCNNFeatures,
    PretrainedTextFeatures,
    RNNSequenceFeatures,
)
from sktransfer.exceptions import ImageReadError
from tests.helpers.languages import TEXTS, write_language
from tests.helpers.networks import SmallCNN

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
bags = pytest.importorskip("dask.bag")

PROCESSES = str(Path(__file__).parents[1] / "helpers" / "processes")


def small(**params):
    return PretrainedCNNFeatures(SmallCNN, random_state=0, engine="torch", **params)


def assert_close(found, expected):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max(initial=0), rtol=0)


@pytest.fixture
def images(digits):
    return digits[0][:60]


@pytest.fixture
def files(photos, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        photos[number % 2].resize((40 + number, 40)).save(path)
    return list(map(str, paths))


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


# --- lazy, and the same ---------------------------------------------------------------------


def test_nothing_is_computed_before_it_is_asked_for(images):
    seen = []

    def load(block):
        seen.append(len(block))
        return block

    features = small(layer="conv").fit(images)
    source = da.from_array(images, chunks=(25, 8, 8)).map_blocks(load, meta=images[:0])
    lazy = features.transform(source)
    assert seen == []
    assert isinstance(lazy, da.Array)
    assert lazy.shape == (60, len(features.get_feature_names_out()))
    assert lazy.chunks[0] == (25, 25, 10)
    assert lazy.dtype == lazy._meta.dtype == np.float32
    assert isinstance(lazy._meta, np.ndarray)
    found = lazy.compute()
    assert sorted(seen) == [10, 25, 25]
    assert found.dtype == np.float32
    assert_close(found, features.transform(images))
    seen.clear()
    assert_close(lazy[55:].compute(), found[55:])
    assert seen == [10]


def test_images_cut_into_chunks_are_put_together(images):
    features = small().fit(images)
    lazy = features.transform(da.from_array(images, chunks=(20, 5, 3)))
    assert lazy.chunks[0] == (20, 20, 20)
    assert_close(lazy.compute(), features.transform(images))
    colour = np.repeat(images[..., None], 3, axis=3)
    assert_close(
        features.transform(da.from_array(colour, chunks=(7, 8, 8, 1))).compute(),
        features.transform(colour),
    )


def test_rows_of_pixels_are_images_too(images):
    rows = images.reshape(60, -1)
    features = small(image_shape=(8, 8)).fit(rows)
    lazy = features.transform(da.from_array(rows, chunks=(30, 10)))
    assert_close(lazy.compute(), features.transform(rows))


def test_a_bag_of_files_gives_an_array_in_their_order(files):
    features = small(image_size=32).fit(files)
    lazy = features.transform(bags.from_sequence(files, npartitions=4))
    assert lazy.shape[1] == len(features.get_feature_names_out())
    assert np.isnan(lazy.shape[0])
    assert lazy.numblocks == (3, 1)  # two files each
    assert_close(lazy.compute(), features.transform(files))
    assert lazy.compute_chunk_sizes().chunks[0] == (2, 2, 2)


def test_files_of_a_bag_need_not_be_there_before_they_are_read(files, tmp_path):
    features = small(image_size=32).fit(files)
    lazy = features.transform(bags.from_sequence([str(tmp_path / "later.png")]))
    Path(files[3]).rename(tmp_path / "later.png")
    assert lazy.compute().shape == (1, lazy.shape[1])


def test_a_column_of_a_dask_table_gives_an_array(files):
    frames = pytest.importorskip("dask.dataframe")
    table = frames.from_pandas(pd.DataFrame({"file": files, "n": range(6)}), npartitions=3)
    features = small(image_size=32).fit(files)
    expected = features.transform(files)
    for column in (table["file"], table[["file"]]):
        lazy = features.transform(column)
        assert isinstance(lazy, da.Array)
        assert lazy.dtype == np.float32
        assert_close(lazy.compute(), expected)


def test_partitions_left_empty_by_a_filter_do_no_harm(files, images):
    features = small(image_size=32).fit(files)
    kept = bags.from_sequence(files, npartitions=6).filter(lambda path: path == files[4])
    assert_close(features.transform(kept).compute(), features.transform(files[4:5]))
    features.fit(images)
    source = da.from_array(images, chunks=(20, 8, 8))
    assert_close(
        features.transform(source[source.sum(axis=(1, 2)) < 0]).compute(),
        np.empty((0, len(features.get_feature_names_out()))),
    )


def test_threads_of_one_process_share_the_transformer(images):
    features = small().fit(images)
    lazy = features.transform(da.from_array(images, chunks=(3, 8, 8)))
    assert_close(lazy.compute(scheduler="threads", num_workers=4), features.transform(images))


def test_sequences_of_equal_and_of_unequal_length_and_texts():
    rng = np.random.default_rng(0)
    series = rng.normal(size=(12, 20, 2))
    features = RNNSequenceFeatures(weights="random", hidden_size=4, random_state=0).fit(series)
    lazy = features.transform(da.from_array(series, chunks=(5, 20, 1)))
    assert lazy.shape == (12, len(features.get_feature_names_out()))
    assert_close(lazy.compute(), features.transform(series))
    ragged = [rng.normal(size=(length, 2)) for length in range(5, 17)]
    bag = bags.from_sequence(ragged, npartitions=3)
    assert_close(features.transform(bag).compute(), features.transform(ragged))
    texts = ["one", "two words", "three more words"]
    features = RNNSequenceFeatures(weights="random", hidden_size=4, random_state=0).fit(texts)
    bag = bags.from_sequence(texts, npartitions=2)
    assert_close(features.transform(bag).compute(), features.transform(texts))


def test_texts_for_a_language_model(tmp_path):
    features = PretrainedTextFeatures(write_language(tmp_path), engine="torch")
    bag = bags.from_sequence(TEXTS, npartitions=3)
    lazy = features.fit(bag).transform(bag)
    assert lazy.shape[1] == len(features.get_feature_names_out())
    assert features.n_forward_ == 0
    assert_close(lazy.compute(), features.transform(TEXTS))


def test_a_graph_holds_the_transformer_as_it_was(images):
    features = small(layer="conv").fit(images)
    expected = features.transform(images)
    lazy = features.transform(da.from_array(images, chunks=(30, 8, 8)))
    features.set_params(layer="penultimate").fit(images)
    assert_close(lazy.compute(), expected)


def test_the_same_question_has_the_same_name(images):
    source = da.from_array(images, chunks=(30, 8, 8))
    bag = bags.from_sequence(list(images), npartitions=2)
    features = small(layer="conv").fit(images)
    names = [features.transform(X).name for X in (source, bag)]
    features.transform(images)  # counts its passes
    assert [features.transform(X).name for X in (source, bag)] == names
    assert features.n_forward_ == 60
    features.set_params(layer="penultimate").fit(images)
    others = [features.transform(X).name for X in (source, bag)]
    assert not set(others) & set(names)


def test_a_class_that_no_module_holds_travels(images):
    class Local(SmallCNN):
        pass

    features = PretrainedCNNFeatures(Local, random_state=0, engine="torch").fit(images)
    lazy = features.transform(da.from_array(images, chunks=(30, 8, 8)))
    assert_close(lazy.compute(), features.transform(images))


def test_what_cannot_be_read_is_a_row_of_nan_or_an_error(files):
    Path(files[1]).write_bytes(b"no picture")
    bag = bags.from_sequence(files, npartitions=3)
    features = small(image_size=32, on_error="nan").fit(files)
    with pytest.warns(UserWarning, match="1 of 2 images could not be read"):
        found = features.transform(bag).compute()
    assert list(np.flatnonzero(np.isnan(found).any(axis=1))) == [1]
    features.set_params(on_error="raise")
    with pytest.raises(ImageReadError, match=r"1\.png"):
        features.transform(bag).compute()


# --- fit ------------------------------------------------------------------------------------


def test_a_frozen_network_fits_on_the_first_block_that_holds_anything(images, files):
    seen = []

    def load(block):
        seen.append(len(block))
        return block

    source = da.from_array(images, chunks=(20, 8, 8)).map_blocks(load, meta=images[:0])
    features = small()
    lazy = features.fit_transform(source)
    assert seen == [20]
    assert_close(lazy.compute(), features.fit_transform(images))
    kept = bags.from_sequence(files, npartitions=6).filter(lambda path: path != files[0])
    assert small().fit(kept).image_size_ == (40, 41)
    frames = pytest.importorskip("dask.dataframe")
    column = frames.from_pandas(pd.Series(files), npartitions=3)
    assert small().fit(column).image_size_ == (40, 40)


@pytest.mark.parametrize("params", [{"layer": "auto"}, {"strategy": FineTune()}])
def test_a_fit_that_needs_all_rows_says_what_to_do(params, digits):
    source = da.from_array(digits[0][:60], chunks=(20, 8, 8))
    for fit in (small(**params).fit, small(**params).fit_transform):
        with pytest.raises(TypeError, match=r"got a dask Array.*X\[:1000\]\.compute\(\)"):
            fit(source, digits[1][:60])


def test_sequences_do_not_fit_on_a_part(images):
    with pytest.raises(TypeError, match=r"got a dask Bag.*list\(X\.take\(1000\)\)"):
        RNNSequenceFeatures().fit(bags.from_sequence(["a", "b"]))


def test_neither_tables_nor_delayed_objects(images):
    features = small().fit(images)
    source = da.from_array(images, chunks=(20, 8, 8))
    with pytest.raises(TypeError, match=r"got a dask Delayed.*; dask\.bag\.from_delayed"):
        features.transform(dask.delayed(images))
    with pytest.raises(ValueError, match=r"set_output\(transform='pandas'\) cannot hold"):
        features.set_output(transform="pandas").transform(source)


def test_a_head_predicts_block_by_block(digits):
    images, labels = digits[0][:200], digits[1][:200]
    pipeline = make_pipeline(small(), StandardScaler(), LogisticRegression()).fit(images, labels)
    source = da.from_array(images, chunks=(50, 8, 8))
    lazy = (
        pipeline[0]
        .transform(source)
        .map_blocks(pipeline[1:].predict, drop_axis=1, dtype=labels.dtype, meta=labels[:0])
    )
    assert lazy.chunks == ((50,) * 4,)
    assert_array_equal(lazy.compute(), pipeline.predict(images))


# --- on workers -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Two workers of one thread each."""
    distributed = pytest.importorskip("distributed")
    log = tmp_path_factory.mktemp("dask")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PROCESSES)
        patch.setenv("PYTHONPATH", PROCESSES)
        patch.delenv("OMP_NUM_THREADS", raising=False)  # dask's own setting is what counts
        patch.setenv("COUNTED_LOG", str(log / "counted"))
        patch.setenv("UNPICKLED_LOG", str(log / "unpickled"))
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        )
        with cluster, distributed.Client(cluster) as client:
            yield client


@pytest.fixture
def two_workers(client):
    """Both of them, after the death of one, too; and empty logs."""
    client.wait_for_workers(2, timeout=60)
    for name in ("COUNTED_LOG", "UNPICKLED_LOG"):
        Path(os.environ[name]).unlink(missing_ok=True)
    with dask.config.set(scheduler=None):
        yield client


@pytest.fixture
def slow(two_workers):
    """Passes through the counted network take their time, but for a worker that is new."""

    # A function that looks os.environ up: a method of it would travel with a copy of it.
    def take(seconds):
        os.environ["COUNTED_SECONDS"] = seconds

    two_workers.run(take, "0.1")
    yield
    two_workers.run(take, "0")


@contextlib.contextmanager
def killing_one(client, log):
    """Kill a worker once images have gone through the network.

    Gives the number of its process and how many images all had seen by then. One that
    has yet to import torch, if there is one: the other need not wait for it then.
    """
    _, victim = min(client.run(lambda: ("torch" in sys.modules, os.getpid())).values())
    seen = []

    def kill():
        deadline = time.monotonic() + 60
        while not counted().images_seen(log) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(victim, signal.SIGKILL)
        seen.extend([victim, counted().images_seen(log)])

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield seen
    finally:
        thread.join()
    until_replaced(victim, client)


def until_replaced(victim, client):
    """Wait for another worker in the place of a dead one, whom the scheduler may still call."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = client.run(os.getpid, on_error="return").values()
        if len(found) == 2 and all(isinstance(pid, int) and pid != victim for pid in found):
            return
        time.sleep(0.05)
    pytest.fail(f"no worker took the place of process {victim}: {found}")


def counted():
    return importlib.import_module("counted").Counted


@pytest.mark.slow
def test_each_worker_unpickles_the_network_once_and_the_scheduler_never(two_workers, images):
    unpickled = importlib.import_module("unpickled").Unpickled
    features = unpickled(image_size=32, layer="blocks.0", engine="torch").fit(images)
    source = da.from_array(images, chunks=(2, 8, 8))
    for _ in range(2):
        assert_close(features.transform(source).compute(), features.transform(images))
    loads = unpickled.by_process(Path(os.environ["UNPICKLED_LOG"]))
    assert set(loads) <= set(two_workers.run(os.getpid).values())
    assert set(loads.values()) == {1}


@pytest.mark.slow
def test_torch_uses_the_threads_that_dask_leaves_to_a_worker(two_workers):
    def threads():
        import torch

        return torch.get_num_threads()

    assert set(two_workers.run(threads).values()) == {1}


@pytest.fixture
def few(digits):
    """240 images and labels, and three splits of them."""
    images, labels = digits[0][:240], digits[1][:240]
    return images, labels, list(StratifiedKFold(3).split(images, labels))


@pytest.mark.slow
def test_a_search_on_workers_finds_the_same_in_one_pass(two_workers, few, tmp_path):
    images, labels, _ = few
    search, expected, log = searches(tmp_path, few)
    with joblib.parallel_config("dask"):
        search.fit(images, labels)
    assert_array_equal(search.cv_results_["mean_test_score"], expected)
    assert counted().images_seen(log) == 240


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_search_survives_the_death_of_a_worker(two_workers, slow, few, tmp_path):
    images, labels, splits = few
    search, expected, log = searches(tmp_path, few)
    # Without this joblib hands each of them to one worker, with which it may be lost ...
    everywhere = [images, labels, *itertools.chain(*splits)]
    two_workers.amm.stop()  # ... and dask takes all copies but one away again every two seconds.
    with (
        killing_one(two_workers, log) as seen,
        joblib.parallel_config("dask", scatter=everywhere),
    ):
        search.fit(images, labels)
    victim, by_then = seen
    assert 0 < by_then < 240
    assert_array_equal(search.cv_results_["mean_test_score"], expected)
    # What the dead one had not stored is computed twice, and nothing else.
    by_victim = counted().images_seen(log, victim)
    assert 240 <= counted().images_seen(log) <= 240 + by_victim


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_features_survive_the_death_of_a_worker(two_workers, slow, images):
    features = PretrainedCNNFeatures(counted(), random_state=0, engine="torch").fit(images)
    expected = features.transform(images)
    log = Path(os.environ["COUNTED_LOG"])
    log.unlink()
    lazy = features.transform(da.from_array(images, chunks=(3, 8, 8)))
    with killing_one(two_workers, log) as seen:
        assert_close(lazy.compute(), expected)
    assert 0 < seen[1] < 60


def searches(tmp_path, few):
    """A search with a store that is empty, the scores of one without store or dask, and a log."""
    images, labels, splits = few
    grid = {
        "pretrainedcnnfeatures__layer": ["first", "second"],
        "pretrainedcnnfeatures__pooling": ["mean", "max"],
    }

    def search(cache):
        features = PretrainedCNNFeatures(
            counted(), cache=cache, random_state=0, engine="torch", batch_size=8
        )
        return GridSearchCV(make_pipeline(features, GaussianNB()), grid, cv=splits)

    expected = search(None).fit(images, labels).cv_results_["mean_test_score"]
    log = Path(os.environ["COUNTED_LOG"])
    log.unlink()
    return search(tmp_path / "store"), expected, log
