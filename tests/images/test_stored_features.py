"""The store between a sequence of items and an engine."""

import warnings

import numpy as np
import pytest

from sktransfer import FeatureStore
from sktransfer.exceptions import ImageReadError
from sktransfer.images import stored_features
from sktransfer.images.stored_features import extract_cached
from sktransfer.images.tracing import trace_network
from sktransfer.networks.layers import Read
from sktransfer.store.session import StoreSession
from tests.helpers.networks import InPlace

TRACE = trace_network(InPlace().eval(), (8, 8), 3)


class Work:
    """Extractions of items that are numbers; an engine that counts and repeats the number."""

    def __init__(self, folder, reads=None, **params):
        self.store = FeatureStore(folder)
        self.reads = reads or TRACE.usual_reads()[:1]
        self.params = {"batch_size": 4, "max_pixels": 100, **params}
        self.forwarded = []
        self.asked = []

    def engine_for(self, reads):
        self.asked.append(reads)

        def engine(pixels):
            numbers = pixels.mean((1, 2, 3))
            self.forwarded += numbers.tolist()
            return [
                np.repeat(numbers[:, None] + 100 * i, TRACE.width(read), axis=1).astype("f4")
                for i, read in enumerate(reads)
            ]

        return engine

    def read(self, item):
        if item[0] < 0:
            raise ImageReadError("negative")
        return np.full((2, 2, 1), item[0], dtype=np.float32)

    def __call__(self, numbers, namespace="n"):
        session = StoreSession(self.store, (namespace,), "a network")
        items = [np.array([number], dtype=np.int64) for number in numbers]
        return extract_cached(
            session, self.engine_for, items, self.read, trace=TRACE, reads=self.reads, **self.params
        )


def forget(work):
    work.store._memory().clear()


def test_each_sample_is_computed_once_whatever_its_place_and_number(tmp_path):
    work = Work(tmp_path)
    first = work([3, 1, 3, 2])
    assert first.features[:, 0].tolist() == [3, 1, 3, 2]
    assert sorted(work.forwarded) == [1, 2, 3]
    assert first.n_forward == 3
    second = work([2, 5, 3, 1, 5])
    assert second.features[:, 0].tolist() == [2, 5, 3, 1, 5]
    assert second.n_forward == 1
    forget(work)
    assert work([1, 2, 3, 5]).n_forward == 0
    assert work([1], namespace="another").n_forward == 1


def test_one_pass_answers_every_usual_layer_and_pooling(tmp_path):
    Work(tmp_path)([1, 2])
    for read in TRACE.usual_reads():
        work = Work(tmp_path, (read,))
        expected = [1.0 + 100 * TRACE.usual_reads().index(read), 2.0]
        assert work([1, 2]).features[0, 0] == expected[0]
        assert not work.asked
    both = Work(tmp_path, TRACE.usual_reads()[::-1])
    row = both([2]).features[0]
    widths = [TRACE.width(read) for read in TRACE.usual_reads()[::-1]]
    assert len(row) == sum(widths)
    assert row[0] == 2 + 100 * (len(widths) - 1)
    assert row[-1] == 2


def test_an_unusual_read_costs_a_pass_of_its_own_without_the_usual_ones(tmp_path):
    special = (Read("conv", "gem"), Read("relu", "max"))
    work = Work(tmp_path, special)
    work([1])
    assert work.asked == [(*TRACE.usual_reads(), special[0])]
    work = Work(tmp_path, (Read("conv", "flatten"),))
    work([1])
    assert work.asked == [(Read("conv", "flatten"),)]
    work = Work(tmp_path, special)
    assert work([1]).n_forward == 0


def test_what_was_computed_before_an_error_is_kept(tmp_path):
    with pytest.raises(ImageReadError, match=r"X\[9\] is not usable: negative"):
        Work(tmp_path)([*range(9), -1, *range(10, 20)])
    work = Work(tmp_path)
    assert work(range(8)).n_forward == 0


def test_windows_and_batches_do_not_show(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_features, "_WINDOW", 7)
    work = Work(tmp_path)
    numbers = np.random.RandomState(0).randint(0, 40, 60)
    assert work(numbers).features[:, 0].tolist() == numbers.tolist()
    assert len(work.forwarded) == len(set(numbers.tolist()))
    numbers[[3, 30, 33]] = -1
    found = Work(tmp_path, on_error="nan")(numbers)
    assert [failure.index for failure in found.failed] == [3, 30, 33]
    assert np.flatnonzero(np.isnan(found.features[:, 0])).tolist() == [3, 30, 33]
    with pytest.raises(ImageReadError, match=r"X\[30\] is not usable"):
        Work(tmp_path)(np.abs(numbers) * np.where(np.arange(60) == 30, -1, 1))


def test_a_store_that_cannot_be_written_warns_once_for_all_windows(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_features, "_WINDOW", 7)
    (tmp_path / "file").touch()
    work = Work(tmp_path / "file" / "store")
    with pytest.warns(UserWarning, match="cannot be written") as caught:
        found = work(range(30))
    assert len(caught) == 1
    assert found.features[:, 0].tolist() == list(range(30))
    assert found.n_forward == 30


def test_a_file_that_changes_meanwhile_is_not_stored_under_its_old_content(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    work = Work(tmp_path / "store")

    def read(item):
        path.write_bytes(b"new content")
        return np.full((2, 2, 1), 9, dtype=np.float32)

    session = StoreSession(work.store, ("n",), "")
    params = {"trace": TRACE, "reads": work.reads, "batch_size": 2, "max_pixels": 100}
    found = extract_cached(session, work.engine_for, [str(path)], read, **params)
    assert found.features[0, 0] == 9
    assert work.store.info()["vectors"] == 0


def test_a_file_that_changes_before_its_turn_is_not_either(tmp_path):
    """The key is made long before the file is read."""
    paths = [tmp_path / f"{i}" for i in range(20)]
    for i, path in enumerate(paths):
        path.write_bytes(bytes([i]))
    work = Work(tmp_path / "store")

    def read(path):
        if path == str(paths[0]):
            paths[19].write_bytes(b"new content")
        return np.full((2, 2, 1), len(paths[int(path.rpartition("/")[2])].read_bytes()), "f4")

    session = StoreSession(work.store, ("n",), "")
    params = {"trace": TRACE, "reads": work.reads, "batch_size": 2, "max_pixels": 100}
    extract_cached(session, work.engine_for, [str(path) for path in paths], read, **params)
    assert work.store.info()["samples"] == 19


def test_copies_of_a_file_that_changes_keep_their_own_features(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_bytes(b"old")
    work = Work(tmp_path / "store")

    def read(item):
        if item == str(paths[0]):
            paths[0].write_bytes(b"new content")
        return np.full((2, 2, 1), len((tmp_path / item).read_bytes()), dtype=np.float32)

    params = {"trace": TRACE, "reads": work.reads, **work.params}
    items = [str(path) for path in paths]
    found = extract_cached(
        StoreSession(work.store, ("n",), ""), work.engine_for, items, read, **params
    )
    assert found.features[:, 0].tolist() == [11, 3, 3]
    assert found.n_forward == 2


def test_a_dataset_is_asked_once_for_each_item(tmp_path):
    class Fickle:
        asked = 0

        def __len__(self):
            return 30

        def __getitem__(self, index):
            self.asked += 1
            return np.array([self.asked], dtype=np.int64)

    work = Work(tmp_path)
    dataset = Fickle()
    session = StoreSession(work.store, ("n",), "")
    params = {"trace": TRACE, "reads": work.reads, **work.params}
    first = extract_cached(session, work.engine_for, dataset, work.read, **params)
    assert dataset.asked == 30
    assert first.features[:, 0].tolist() == list(range(1, 31))
    assert work(range(1, 31)).features[:, 0].tolist() == list(range(1, 31))


def test_copies_of_a_broken_item_are_reported_under_their_own_paths(tmp_path):
    for name in "ab":
        (tmp_path / name).write_bytes(b"broken")

    def read(path):
        raise ImageReadError("broken")

    work = Work(tmp_path / "store", on_error="nan")
    items = [str(tmp_path / name) for name in "ab"]
    params = {"trace": TRACE, "reads": work.reads, **work.params}
    found = extract_cached(
        StoreSession(work.store, ("n",), ""), work.engine_for, items, read, **params
    )
    assert [failure.path for failure in found.failed] == items


def test_warm_runs_are_silent_and_make_no_engine(tmp_path):
    Work(tmp_path)(range(5))
    work = Work(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        work(range(5))
    assert not work.asked
