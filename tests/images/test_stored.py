"""The store between a sequence of items and an engine."""

import threading
import time
import warnings

import numpy as np
import pytest

from sktransfer import FeatureStore
from sktransfer.exceptions import ImageReadError
from sktransfer.images import stored
from sktransfer.images.staged import Read, usual_reads
from sktransfer.images.stored import Drawer, extract_cached
from sktransfer.images.tracing import trace_network
from tests.helpers.networks import InPlace

TRACE = trace_network(InPlace().eval(), (8, 8), 3)


class Work:
    """Extractions of items that are numbers; an engine that counts and repeats the number."""

    def __init__(self, folder, reads=None, seconds=0.0, **params):
        self.seconds = seconds
        self.store = FeatureStore(folder)
        self.reads = reads or usual_reads(TRACE)[:1]
        self.params = {"batch_size": 4, "max_pixels": 100, **params}
        self.forwarded = []
        self.asked = []

    def engine_for(self, reads):
        self.asked.append(reads)

        def engine(pixels):
            time.sleep(self.seconds)
            numbers = pixels.mean((1, 2, 3))
            self.forwarded += numbers.tolist()
            return [
                np.repeat(numbers[:, None] + 100 * i, read.width(TRACE), axis=1).astype("f4")
                for i, read in enumerate(reads)
            ]

        return engine

    def read(self, item):
        if item[0] < 0:
            raise ImageReadError("negative")
        return np.full((2, 2, 1), item[0], dtype=np.float32)

    def __call__(self, numbers, namespace="n"):
        drawer = Drawer(self.store, namespace, "a network")
        items = [np.array([number], dtype=np.int64) for number in numbers]
        return extract_cached(
            drawer, self.engine_for, items, self.read, trace=TRACE, reads=self.reads, **self.params
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
    for read in usual_reads(TRACE):
        work = Work(tmp_path, (read,))
        expected = [1.0 + 100 * usual_reads(TRACE).index(read), 2.0]
        assert work([1, 2]).features[0, 0] == expected[0]
        assert not work.asked
    both = Work(tmp_path, usual_reads(TRACE)[::-1])
    row = both([2]).features[0]
    widths = [read.width(TRACE) for read in usual_reads(TRACE)[::-1]]
    assert len(row) == sum(widths)
    assert row[0] == 2 + 100 * (len(widths) - 1)
    assert row[-1] == 2


def test_an_unusual_read_costs_a_pass_of_its_own_without_the_usual_ones(tmp_path):
    special = (Read("conv", "gem"), Read("relu", "max"))
    work = Work(tmp_path, special)
    work([1])
    assert work.asked == [(*usual_reads(TRACE), special[0])]
    work = Work(tmp_path, (Read("conv", "flatten"),))
    work([1])
    assert work.asked == [(Read("conv", "flatten"),)]
    work = Work(tmp_path, special)
    assert work([1]).n_forward == 0


def test_failures_are_rows_of_nan_for_every_copy_and_never_stored(tmp_path):
    work = Work(tmp_path, on_error="nan")
    for _ in range(2):
        found = work([1, -1, 2, -1])
        assert np.isnan(found.features[:, 0]).tolist() == [False, True, False, True]
        assert [failure.index for failure in found.failed] == [1, 3]
    assert work.store.info()["samples"] == 2


def test_what_was_computed_before_an_error_is_kept(tmp_path):
    with pytest.raises(ImageReadError, match=r"X\[9\] is not usable: negative"):
        Work(tmp_path)([*range(9), -1, *range(10, 20)])
    work = Work(tmp_path)
    assert work(range(8)).n_forward == 0


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "_COMMIT_SECONDS", 0.0)
    work = Work(tmp_path)
    engine_for = work.engine_for

    def interrupted(reads):
        engine = engine_for(reads)

        def run(pixels):
            if len(work.forwarded) >= 12:
                raise KeyboardInterrupt
            return engine(pixels)

        return run

    work.engine_for = interrupted
    with pytest.raises(KeyboardInterrupt):
        work(range(30))
    again = Work(tmp_path)
    assert again(range(30)).n_forward == 30 - 12
    assert not list((tmp_path / "claims").glob("owner-*"))


def test_windows_and_batches_do_not_show(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "_WINDOW", 7)
    work = Work(tmp_path)
    numbers = np.random.RandomState(0).randint(0, 40, 60)
    assert work(numbers).features[:, 0].tolist() == numbers.tolist()
    assert len(work.forwarded) == len(set(numbers.tolist()))


def test_workers_at_the_same_samples_compute_each_once(tmp_path):
    # Slow enough that none can claim all of them before the others have begun.
    works = [Work(tmp_path, seconds=0.01) for _ in range(3)]
    found = {}
    barrier = threading.Barrier(3)

    def run(i):
        order = np.roll(np.arange(300), 100 * i) if i < 2 else np.arange(300)
        barrier.wait()
        found[i] = works[i](order).features[:, 0].tolist() == order.tolist()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {0: True, 1: True, 2: True}
    assert sorted(n for work in works for n in work.forwarded) == list(range(300))
    assert all(work.forwarded for work in works)  # they shared the work


def test_a_damaged_row_is_computed_again(tmp_path):
    work = Work(tmp_path)
    work(range(10))
    file = work.store._database.file
    data = bytearray(file.read_bytes())
    pattern = np.full(4, 7, "f4").tobytes()
    where = data.index(pattern)
    data[where] ^= 1
    file.write_bytes(data)
    forget(work)
    again = work(range(10))
    assert again.features[:, 0].tolist() == list(range(10))
    assert again.n_forward == 1
    assert work.store.verify()[1] == 0


def test_a_store_that_cannot_be_written_costs_a_warning_not_the_run(tmp_path):
    (tmp_path / "file").touch()
    work = Work(tmp_path / "file" / "store")
    with pytest.warns(UserWarning, match="cannot be written"):
        found = work(range(10))
    assert found.features[:, 0].tolist() == list(range(10))
    assert found.n_forward == 10


def test_a_file_that_changes_meanwhile_is_not_stored_under_its_old_content(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    work = Work(tmp_path / "store")

    def read(item):
        path.write_bytes(b"new content")
        return np.full((2, 2, 1), 9, dtype=np.float32)

    drawer = Drawer(work.store, "n", "")
    params = {"trace": TRACE, "reads": work.reads, "batch_size": 2, "max_pixels": 100}
    found = extract_cached(drawer, work.engine_for, [str(path)], read, **params)
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

    drawer = Drawer(work.store, "n", "")
    params = {"trace": TRACE, "reads": work.reads, "batch_size": 2, "max_pixels": 100}
    extract_cached(drawer, work.engine_for, [str(path) for path in paths], read, **params)
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
    found = extract_cached(Drawer(work.store, "n", ""), work.engine_for, items, read, **params)
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
    drawer = Drawer(work.store, "n", "")
    params = {"trace": TRACE, "reads": work.reads, **work.params}
    first = extract_cached(drawer, work.engine_for, dataset, work.read, **params)
    assert dataset.asked == 30
    assert first.features[:, 0].tolist() == list(range(1, 31))
    assert work(range(1, 31)).features[:, 0].tolist() == list(range(1, 31))


def test_a_store_that_cannot_be_read_costs_a_warning_not_the_run(tmp_path):
    (tmp_path / "features-v1-0001.sqlite3").mkdir()
    (tmp_path / "features-v1-0001 (copy).sqlite3").touch()
    work = Work(tmp_path)
    with pytest.warns(UserWarning, match="cannot be read"):
        found = work(range(10))
    assert found.features[:, 0].tolist() == list(range(10))


def test_copies_of_a_broken_item_are_reported_under_their_own_paths(tmp_path):
    for name in "ab":
        (tmp_path / name).write_bytes(b"broken")

    def read(path):
        raise ImageReadError("broken")

    work = Work(tmp_path / "store", on_error="nan")
    items = [str(tmp_path / name) for name in "ab"]
    params = {"trace": TRACE, "reads": work.reads, **work.params}
    found = extract_cached(Drawer(work.store, "n", ""), work.engine_for, items, read, **params)
    assert [failure.path for failure in found.failed] == items


def test_warm_runs_are_silent_and_make_no_engine(tmp_path):
    Work(tmp_path)(range(5))
    work = Work(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        work(range(5))
    assert not work.asked
