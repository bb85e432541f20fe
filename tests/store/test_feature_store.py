"""What was stored comes back, bit by bit, or not at all."""

import copy
import os
import pickle
import sqlite3
import subprocess
import sys
import time
import warnings
from contextlib import closing, contextmanager
from itertools import pairwise

import numpy as np
import pytest
from sklearn.base import clone

from sktransfer import FeatureStore, PretrainedCNNFeatures
from sktransfer.store import rows

KEYS = [bytes([i]) * 32 for i in range(20)]


def vectors(n=20, width=5, seed=0):
    return np.random.RandomState(seed).randn(n, width).astype(np.float32)


@pytest.fixture
def store(tmp_path):
    """Twenty vectors of five numbers in block "b" of namespace "n"."""
    store = FeatureStore(tmp_path / "store")
    store.put("n", KEYS, {"b": vectors()}, description="a network", n_forward=20)
    return store


def forget(store):
    """Read from disk, as another process would."""
    store._memory().clear()


@contextmanager
def sqlite(store):
    """The store's file, closed afterwards: Windows deletes no file that is open."""
    with closing(sqlite3.connect(store._database.file)) as connection, connection:
        yield connection


def test_vectors_come_back_exactly_in_the_order_asked_for(store):
    for _ in range(2):  # from the file, then from memory
        found, here = store.get("n", "b", [KEYS[7], b"unknown", KEYS[3], None, KEYS[7]], 5)
        assert here.tolist() == [True, False, True, False, True]
        assert np.array_equal(found[here], vectors()[[7, 3, 7]])
        assert np.isnan(found[~here]).all()


def test_special_values_survive(tmp_path):
    store = FeatureStore(tmp_path)
    special = np.array([[np.nan, np.inf, -np.inf, -0.0, 1e-45]], dtype=np.float32)
    store.put("n", KEYS[:1], {"b": special})
    assert store.get("n", "b", KEYS[:1], 5)[0].tobytes() == special.tobytes()


def test_other_namespaces_blocks_and_widths_are_missing(store):
    forget(store)
    assert not store.get("m", "b", KEYS, 5)[1].any()
    assert not store.get("n", "c", KEYS, 5)[1].any()
    assert not store.get("n", "b", KEYS, 6)[1].any()


def test_a_second_put_replaces_and_adds(store):
    store.put("n", KEYS[:2], {"b": vectors(2, seed=1), "c": vectors(2, 3)}, n_forward=2)
    forget(store)
    assert np.array_equal(store.get("n", "b", KEYS[:3], 5)[0][:2], vectors(2, seed=1))
    assert store.get("n", "c", KEYS[:3], 3)[1].tolist() == [True, True, False]
    info = store.info()
    assert info["namespaces"][0]["n_forward"] == 22
    assert info["namespaces"][0]["description"] == "a network"
    assert (info["samples"], info["vectors"]) == (20, 22)
    assert info["namespaces"][0]["vector_bytes"] == 20 * 5 * 4 + 2 * 3 * 4
    assert info["bytes"] == store._database.file.stat().st_size


def test_asking_makes_no_folder(tmp_path):
    store = FeatureStore(tmp_path / "absent")
    assert not store.get("n", "b", KEYS, 5)[1].any()
    assert store.info()["vectors"] == store.verify()[0] == store.prune(max_bytes=0) == 0
    assert not (tmp_path / "absent").exists()


def test_it_uses_a_rollback_journal_and_large_pages(store):
    with sqlite(store) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert connection.execute("PRAGMA page_size").fetchone() == (65_536,)


def test_a_flipped_bit_in_a_vector_is_found_and_mended(store):
    file = store._database.file
    data = bytearray(file.read_bytes())
    where = data.index(vectors()[4].tobytes())
    data[where + 6] ^= 1
    file.write_bytes(data)
    forget(store)
    found, here = store.get("n", "b", KEYS, 5)
    assert here.tolist() == [i != 4 for i in range(20)]
    assert np.array_equal(found[here], np.delete(vectors(), 4, axis=0))
    assert store.verify() == (20, 1)
    assert store.verify() == (19, 0)
    store.put("n", KEYS[4:5], {"b": vectors()[4:5]})
    assert store.get("n", "b", KEYS, 5)[1].all()


def test_a_vector_under_another_samples_key_is_found(store):
    with sqlite(store) as connection:
        connection.execute("UPDATE vectors SET sample = 999 WHERE sample = 1")
        connection.execute("UPDATE vectors SET sample = 1 WHERE sample = 2")
    forget(store)
    found, here = store.get("n", "b", KEYS, 5)
    assert np.array_equal(found[here], vectors()[here])
    assert 17 <= here.sum() < 20
    assert store.verify()[1] == 2


@pytest.mark.parametrize("damage", ["truncated", "header", "garbage", "schema", "zeros"])
def test_a_damaged_file_is_replaced_with_a_warning(store, damage):
    file = store._database.file
    data = bytearray(file.read_bytes())
    if damage == "schema":
        with sqlite(store) as connection:
            connection.execute("DROP TABLE vectors")
    else:
        if damage == "header":
            data[:16] = b"\0" * 16
        file.write_bytes(
            {
                "truncated": data[: len(data) // 2],
                "header": data,
                "garbage": b"not a database" * 10_000,
                "zeros": data[:4096] + b"\0" * (len(data) - 4096),
            }[damage]
        )
    forget(store)
    with pytest.warns(UserWarning, match=r"is damaged .* computed again"):
        assert not store.get("n", "b", KEYS, 5)[1].any()
    assert not file.exists()
    store.put("n", KEYS, {"b": vectors()})
    assert np.array_equal(store.get("n", "b", KEYS, 5)[0], vectors())


def test_a_wrong_argument_or_a_stray_file_costs_nothing(store):
    (store._folder / "features-v1-0001 (copy).sqlite3").touch()
    (store._folder / "features-v1-backup.sqlite3").touch()
    forget(store)
    with pytest.raises(sqlite3.Error):
        store.get("n", "b", [(1, 2)], 5)
    assert store.get("n", "b", KEYS, 5)[1].all()


def test_a_block_too_large_for_memory_is_kept_in_part(tmp_path):
    store = FeatureStore(tmp_path, memory_bytes=5000)
    store.put("n", KEYS, {"b": vectors(20, 50)})
    for start in range(0, 20, 5):
        assert store.get("n", "b", KEYS[start : start + 5], 50)[1].all()
    assert 0 < len(store._memory()._tables["n", "b"].rows) < 20


def damaged(data, random):
    """A store's file with some of its bytes changed: of its header, schema, pages, or the end."""
    data = bytearray(data)
    page = random.randint(len(data) // 65_536) * 65_536
    kind = random.randint(5)
    if kind == 0:
        return data[: random.choice([random.randint(300), page, random.randint(len(data))])]
    where = {
        1: [random.randint(112)],  # the file's header
        2: [65_536 - random.randint(1, 1500)],  # the schema
        3: [page + random.randint(120)],  # a page's header and the places of its cells
        4: [*random.randint(len(data), size=30), page + 65_536 - random.randint(1, 900)],
    }
    for position in where[kind]:
        data[position] ^= random.randint(1, 256)
    return data


@pytest.mark.slow
def test_damage_anywhere_ends_nothing_and_gives_right_vectors_or_none(store):
    file = store._database.file
    original = file.read_bytes()
    random = np.random.RandomState(0)
    n_replaced = 0
    for case in range(120):
        for path in store._folder.glob("features-*"):
            path.unlink()
        file.write_bytes(damaged(original, random))
        forget(store)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")  # some damage is found, some lies in unused space
            if case % 3 == 0:
                store.info()
            found, here = store.get("n", "b", KEYS, 5)
            assert np.array_equal(found[here], vectors()[here])
            if case % 3 == 1:
                store.verify()
            store.put("n", KEYS, {"b": vectors()})
            forget(store)
            found, here = store.get("n", "b", KEYS, 5)
            assert here.all()  # it has healed
            assert np.array_equal(found, vectors())
        assert len(caught) <= 1
        assert all("is damaged" in str(warning.message) for warning in caught)
        n_replaced += len(caught)
    assert 20 < n_replaced < 120


NUMBERS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT"
CRAFTED = {
    "a view of endless rows": "DROP TABLE vectors; CREATE VIEW vectors"
    f"(block, sample, vector, checksum, stored) AS {NUMBERS} 1, x, x, x, x FROM n",
    "a view of endless samples": f"DROP TABLE samples; "
    f"CREATE VIEW samples(id, key) AS {NUMBERS} x, x FROM n",
    "a view of huge vectors": "ALTER TABLE vectors RENAME TO v; CREATE VIEW vectors AS "
    "SELECT block, sample, zeroblob(999999999) AS vector, checksum, stored FROM v",
    "an endless trigger": "CREATE TRIGGER t AFTER UPDATE ON namespaces BEGIN "
    f"DELETE FROM samples WHERE id IN ({NUMBERS} x FROM n WHERE x < 0); END",
    "ids of text": "DROP TABLE samples; CREATE TABLE samples (id TEXT, key BLOB UNIQUE); "
    "INSERT INTO samples SELECT 'one', vector FROM vectors",
    "no ids": "DROP TABLE samples; CREATE TABLE samples (id, key BLOB NOT NULL UNIQUE)",
    "another table": "CREATE TABLE other (x)",
    "another column": "ALTER TABLE namespaces ADD COLUMN x AS (zeroblob(999999999))",
    "an index": "CREATE INDEX i ON vectors (length(vector))",
    "a column of another name": "ALTER TABLE vectors RENAME COLUMN checksum TO checksam",
}


@pytest.mark.parametrize("statements", CRAFTED.values(), ids=CRAFTED)
@pytest.mark.parametrize("use", ["get", "put", "info", "verify", "prune"])
def test_a_crafted_store_is_replaced_before_anything_is_asked_of_it(use, statements, store):
    with closing(sqlite3.connect(store._database.file)) as connection:
        connection.executescript(statements)
    forget(store)
    arguments = {
        "get": ("n", "b", KEYS, 5),
        "put": ("n", KEYS, {"b": vectors()}),
    }
    options = {"older_than": 1e6} if use == "prune" else {}
    with pytest.warns(UserWarning, match="is damaged .its tables are not those of a store"):
        getattr(store, use)(*arguments.get(use, ()), **options)
    store.put("n", KEYS, {"b": vectors()})
    assert store.verify() == (20, 0)


def test_rows_that_refer_to_no_number_are_found_by_verify_and_removed(store):
    with sqlite(store) as connection:
        for block, sample in (("block", "'x' || sample"), ("x'00'", "sample"), ("1.5", "sample")):
            connection.execute(
                f"INSERT INTO vectors SELECT {block}, {sample}, vector, checksum, stored "
                "FROM vectors WHERE typeof(block) = 'integer' AND typeof(sample) = 'integer'"
            )
    forget(store)
    assert np.array_equal(store.get("n", "b", KEYS, 5)[0], vectors())
    assert store.verify() == (80, 60)
    assert store.verify() == (20, 0)


def test_columns_without_a_checksum_may_hold_anything(store):
    with sqlite(store) as connection:
        connection.execute(
            "UPDATE namespaces SET description = CAST(x'ff41' AS TEXT), n_forward = 'many'"
        )
        connection.execute("UPDATE vectors SET stored = 'long ago'")
    (group,) = store.info()["namespaces"]
    assert (group["description"], group["n_forward"]) == ("\ufffdA", 0)
    assert (group["vectors"], group["last_stored"]) == (20, None)
    assert store.prune(older_than=0) == 0


def test_pages_that_refer_to_each_other_without_end_are_not_followed(store):
    """Each of seven pages refers five thousand times to the next: 10^25 rows in one megabyte."""
    file, size = store._database.file, 65_536
    with sqlite(store) as connection:
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'vectors'"
        ).fetchone()
    data = bytearray(file.read_bytes())
    n_pages, n_cells = len(data) // size, 5000
    chain = [root, *range(n_pages + 1, n_pages + 8)]
    for page, child in pairwise(chain):
        cell = child.to_bytes(4, "big") + b"\x03\x03\x09\x08"  # of two numbers, 1 and 0
        start = size - n_cells * len(cell)
        starts = b"".join((start + i * len(cell)).to_bytes(2, "big") for i in range(n_cells))
        header = b"\x02\0\0" + n_cells.to_bytes(2, "big") + start.to_bytes(2, "big") + b"\0"
        content = header + child.to_bytes(4, "big") + starts
        data[(page - 1) * size : page * size] = content.ljust(start, b"\0") + cell * n_cells
    leaf = b"\x0a\0\0" + (1).to_bytes(2, "big") + (size - 4).to_bytes(2, "big") + b"\0"
    leaf += (size - 4).to_bytes(2, "big")
    data += leaf.ljust(size - 4, b"\0") + b"\x03\x03\x09\x08"
    data[28:32] = (len(data) // size).to_bytes(4, "big")
    file.write_bytes(data)
    forget(store)
    with pytest.warns(UserWarning, match="is damaged .interrupted"):
        assert store.info()["vectors"] == 0


def test_a_header_of_a_later_format_is_damage_and_not_a_missing_permission(store):
    file = store._database.file
    data = bytearray(file.read_bytes())
    data[18] = 9
    file.write_bytes(data)
    with pytest.warns(UserWarning, match="is damaged .attempt to write a readonly"):
        store.put("n", KEYS, {"b": vectors()})
    assert store.get("n", "b", KEYS, 5)[1].all()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_the_place_of_the_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "features-v1-0001.sqlite3")
    with pytest.raises(OSError, match="is not a regular file"):
        FeatureStore(tmp_path).get("n", "b", KEYS, 5)


def test_a_key_of_another_type_costs_nothing(store):
    with pytest.raises(TypeError, match="keys must be bytes, got None"):
        store.put("n", [*KEYS[:19], None], {"b": vectors()})
    with pytest.raises(ValueError, match="could not convert"):
        store.put("n", KEYS[:1], {"b": np.array([["x"]])})
    assert store.verify() == (20, 0)


def test_a_full_memory_is_not_taken_for_damage(store, monkeypatch):
    def fails(*arguments):
        raise MemoryError

    monkeypatch.setattr(rows, "read", fails)
    forget(store)
    with pytest.raises(MemoryError):
        store.get("n", "b", KEYS, 5)
    monkeypatch.undo()
    assert store.get("n", "b", KEYS, 5)[1].all()


def test_prune_by_age_removes_the_old_only(store):
    with sqlite(store) as connection:
        connection.execute("UPDATE vectors SET stored = stored - 1000 WHERE sample <= 5")
    assert store.prune(older_than=500) == 5
    assert store.get("n", "b", KEYS, 5)[1].tolist() == [False] * 5 + [True] * 15
    assert store.info()["samples"] == 15


@pytest.mark.slow
def test_prune_by_size_keeps_the_newest_and_shrinks_the_file(tmp_path):
    store = FeatureStore(tmp_path)
    keys = [i.to_bytes(32, "big") for i in range(2000)]
    store.put("n", keys[:1000], {"b": vectors(1000, 1280)})
    with sqlite(store) as connection:
        connection.execute("UPDATE vectors SET stored = stored - 10")
    store.put("n", keys[1000:], {"b": vectors(1000, 1280)})
    before = store.info()["bytes"]
    assert store.prune(max_bytes=before // 4) > 1000
    assert store.info()["bytes"] <= before // 4
    here = store.get("n", "b", keys, 1280)[1]
    assert not here[:1000].any()
    assert here.sum() > 0.8 * 2000 / 4
    assert store.prune(max_bytes=0) == here.sum()
    assert store.info()["vectors"] == 0


def test_prune_needs_a_limit(store):
    with pytest.raises(ValueError, match="max_bytes or older_than"):
        store.prune()
    with pytest.raises(ValueError, match="max_bytes must be at least 0, got -1"):
        store.prune(max_bytes=-1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"path": 5}, TypeError, "path must be the path of a folder, got 5"),
        ({"path": ""}, ValueError, "path must not be empty"),
        ({"path": "x", "memory_bytes": -1}, ValueError, "memory_bytes must be at least 0, got -1"),
    ],
)
def test_a_bad_argument_is_refused_by_name(arguments, error, message):
    with pytest.raises(error, match=message):
        FeatureStore(**arguments)


def test_a_block_needs_one_row_per_key(store):
    with pytest.raises(ValueError, match=r"blocks\['c'\] must have shape \(2, width\)"):
        store.put("n", KEYS[:2], {"c": vectors(3)})


def test_any_name_of_a_folder_will_do(tmp_path):
    name = "ü%20#x" if os.name == "nt" else "ü%20#?x"  # which Windows forbids
    store = FeatureStore(tmp_path / "a b" / name)
    store.put("n", KEYS, {"b": vectors()})
    forget(store)
    assert store.get("n", "b", KEYS, 5)[1].all()


def test_what_a_process_keeps_in_memory_is_bounded(tmp_path):
    store = FeatureStore(tmp_path, memory_bytes=30_000)
    keys = [i.to_bytes(32, "big") for i in range(10)]
    for block in "abcdef":
        store.put("n", keys, {block: vectors(10, 200)})
        assert np.array_equal(store.get("n", block, keys, 200)[0], vectors(10, 200))
    kept = store._memory()._tables
    assert 0 < sum(table.vectors.nbytes for table in kept.values()) <= 30_000
    assert list(kept)[-1] == ("n", "f")


def test_hits_in_memory_ask_the_file_nothing(store, monkeypatch):
    store.get("n", "b", KEYS, 5)
    monkeypatch.setattr(sqlite3, "connect", None)
    assert np.array_equal(store.get("n", "b", KEYS[::-1], 5)[0], vectors()[::-1])


def test_clones_copies_and_pickles_are_the_same_store(store):
    for other in (copy.deepcopy(store), pickle.loads(pickle.dumps(store))):
        assert other == store
        assert hash(other) == hash(store)
        assert other.get("n", "b", KEYS, 5)[1].all()
    estimator = clone(PretrainedCNNFeatures(cache=store))
    assert estimator.cache == store
    assert repr(store) == f"FeatureStore({str(store.path)!r})"


def test_the_home_folder_is_understood(monkeypatch, tmp_path):
    for name in ("HOME", "USERPROFILE"):  # Windows has the other
        monkeypatch.setenv(name, str(tmp_path))
    FeatureStore("~/features").put("n", KEYS, {"b": vectors()})
    assert list((tmp_path / "features").glob("features-v1-*.sqlite3"))


WRITER = """
import sys, numpy as np
from sktransfer import FeatureStore
folder, seed = sys.argv[1], int(sys.argv[2])
store = FeatureStore(folder)
random = np.random.RandomState(seed)
print("ready", flush=True)
while True:
    numbers = random.randint(0, 3000, 40)
    keys = [int(i).to_bytes(32, "big") for i in numbers]
    rows = np.stack([np.random.RandomState(i).randn(300) for i in numbers]).astype("f4")
    store.put("n", keys, {"b": rows, "c": rows[:, :7] + 1})
    rows, here = store.get("n", "b", keys, 300)
    assert here.all()
"""


@pytest.mark.slow
def test_writers_killed_at_any_moment_leave_no_wrong_vector_and_no_lock(tmp_path):
    """A few rounds; benchmarks/store_kill.py runs hundreds."""
    random = np.random.RandomState(0)
    keys = [i.to_bytes(32, "big") for i in range(3000)]
    expected = np.stack([np.random.RandomState(i).randn(300) for i in range(3000)]).astype("f4")
    store = FeatureStore(tmp_path)
    stored = 0
    for round_ in range(4):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(tmp_path), str(3 * round_ + i)],
                stdout=subprocess.PIPE,
            )
            for i in range(3)
        ]
        for writer in writers:
            writer.stdout.readline()
        for writer in writers:
            time.sleep(random.uniform(0, 0.2))
            writer.kill()
            writer.wait()
            writer.stdout.close()
        started = time.perf_counter()
        forget(store)
        for block, right in (("b", expected), ("c", expected[:, :7] + 1)):
            found, here = store.get("n", block, keys, right.shape[1])
            assert np.array_equal(found[here], right[here])
            assert here.sum() >= stored if block == "b" else here.sum() == stored
            stored = int(here.sum())
        store.put("n", keys[:1], {"b": expected[:1], "c": expected[:1, :7] + 1})
        assert time.perf_counter() - started < 30  # no lock is left behind
        assert store.verify()[1] == 0
    assert stored > 40
