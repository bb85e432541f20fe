"""The way through the store, with numbers for samples and their powers for vectors."""

import sqlite3
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest

from sktransfer import FeatureStore
from sktransfer.store import read_through as module
from sktransfer.store.claims import Claims
from sktransfer.store.read_through import Computation, Computed, read_through
from sktransfer.store.session import Block, StoreSession

FIRST, SECOND, THIRD = (Block(f"power/{power}", 2 + power) for power in (1, 2, 3))
POWERS = {FIRST: 1, SECOND: 2, THIRD: 3}


class Powers(Computation):
    """Powers of some numbers; the usual ones are the first and second. Negative numbers fail."""

    usual = (FIRST, SECOND)

    def __init__(self, numbers, wanted=(FIRST,), on_error="note", seconds=0.0, changing=()):
        self.numbers = [int(number) for number in numbers]
        self.wanted = wanted
        self.on_error, self.seconds, self.changing = on_error, seconds, changing
        self.vectors = np.full((len(self.numbers), sum(b.width for b in wanted)), np.nan, "f4")
        self.passes, self.computed, self.failed = [], [], []
        self.n_advanced = 0

    @property
    def found(self):
        return self.vectors[:, 0].tolist()

    def run(self, blocks, batches):
        self.passes.append(blocks)
        for batch in batches:
            if self.seconds:
                time.sleep(self.seconds)
            good = [i for i in batch if self.numbers[i] >= 0]
            numbers = np.array([self.numbers[i] for i in good], dtype="f4")
            self.compute(numbers.astype(int).tolist())
            vectors = {
                block.name: np.repeat(numbers[:, None] ** POWERS[block], block.width, axis=1)
                for block in blocks
            }
            yield Computed(good, vectors, {i: ValueError(f"row {i}") for i in set(batch) - {*good}})

    def compute(self, numbers):
        self.computed += numbers

    def fill(self, rows, vectors):
        self.vectors[rows] = np.concatenate([vectors[b.name] for b in self.wanted], axis=1)

    def is_unchanged(self, index):
        return index not in self.changing

    def fail(self, rows, error):
        if self.on_error == "raise":
            super().fail(rows, error)
        self.failed += rows

    def advance(self, n):
        self.n_advanced += n


def key(number):
    return None if number == 0 else b"number %d" % number


def session_of(store, namespace="n"):
    return StoreSession(store, (namespace,), "powers")


def go(session, computation, batch_size=4):
    """The number of computed samples."""
    keys = [key(number) for number in computation.numbers]
    n = read_through(session, keys, computation, batch_size=batch_size, advance=computation.advance)
    assert computation.n_advanced == len(keys)
    assert n == len(computation.computed)
    return n


def through(store, numbers, namespace="n", **how):
    computation = Powers(numbers, **how)
    go(session_of(store, namespace), computation)
    return computation


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store")


def scope_of(session, blocks=Powers.usual):
    return f"{session.namespace}:{'|'.join(block.name for block in blocks)}"


# --- what is computed -------------------------------------------------------------------------


def test_what_is_missing_is_computed_in_the_order_given(store):
    through(store, [4])
    computation = Powers([1, 4, 3, 2, 3])
    n = read_through(
        session_of(store),
        [key(number) for number in computation.numbers],
        computation,
        batch_size=2,
        advance=computation.advance,
        order=np.array([2, 4, 1, 3, 0]),
    )
    assert (n, computation.computed) == (3, [3, 2, 1])
    assert computation.found == [1, 4, 3, 2, 3]


def test_each_sample_is_computed_once_whatever_its_place_and_number(store):
    first = through(store, [3, 1, 3, 2])
    assert first.found == [3, 1, 3, 2]
    assert sorted(first.computed) == [1, 2, 3]
    second = through(store, [2, 5, 3, 1, 5])
    assert second.found == [2, 5, 3, 1, 5]
    assert second.computed == [5]
    store._memory().clear()
    assert not through(store, [1, 2, 3, 5]).passes
    assert through(store, [1], namespace="another").computed == [1]


def test_any_number_of_samples_in_batches_of_any_size(store):
    numbers = np.random.RandomState(0).randint(1, 200, 300)
    computation = Powers(numbers)
    go(session_of(store), computation, batch_size=7)
    assert computation.found == numbers.tolist()
    assert len(computation.computed) == len(set(numbers))


def test_one_pass_answers_every_usual_question(store):
    through(store, [2, 3])
    later = through(store, [3, 2], wanted=(SECOND, FIRST))
    assert not later.passes
    assert later.vectors.tolist() == [[9] * 4 + [3] * 3, [4] * 4 + [2] * 3]


def test_an_unusual_question_costs_a_pass_of_its_own_without_the_usual_blocks(store):
    assert through(store, [2], wanted=(THIRD, SECOND)).passes == [(FIRST, SECOND, THIRD)]
    through(store, [3])
    assert through(store, [3], wanted=(THIRD,)).passes == [(THIRD,)]
    assert not through(store, [2, 3], wanted=(THIRD, FIRST)).passes


def test_rows_without_a_key_are_computed_each_by_itself_and_never_stored(store):
    for _ in range(2):
        computation = through(store, [0, 1, 0])
        assert computation.found == [0, 1, 0]
        assert computation.computed.count(0) == 2
    assert store.info()["samples"] == 1


def test_a_damaged_row_is_computed_again(store):
    through(store, range(1, 10))
    file = store._database.file
    data = bytearray(file.read_bytes())
    data[data.index(np.full(3, 7, "f4").tobytes())] ^= 1
    file.write_bytes(data)
    store._memory().clear()
    again = through(store, range(1, 10))
    assert again.found == list(range(1, 10))
    assert again.computed == [7]
    assert store.verify()[1] == 0


# --- failures, changes and interrupts ---------------------------------------------------------


def test_a_failure_concerns_all_copies_and_is_not_stored(store):
    for _ in range(2):
        computation = through(store, [1, -1, 2, -1, -2])
        assert np.isnan(computation.found).tolist() == [False, True, False, True, True]
        assert sorted(computation.failed) == [1, 3, 4]
    assert store.info()["samples"] == 2


def test_what_was_computed_before_an_error_is_kept(store):
    with pytest.raises(ValueError, match="row 9"):
        through(store, [*range(1, 10), -1, *range(11, 20)], on_error="raise")
    assert not through(store, range(1, 10)).computed
    assert not list((store._folder / "claims").glob("owner-*"))


def test_an_interrupted_run_goes_on_where_it_stopped(store, monkeypatch):
    monkeypatch.setattr(module, "_COMMIT_SECONDS", 0.0)

    class Interrupted(Powers):
        def compute(self, numbers):
            if len(self.computed) >= 12:
                raise KeyboardInterrupt
            super().compute(numbers)

    with pytest.raises(KeyboardInterrupt):
        go(session_of(store), Interrupted(range(1, 31)))
    assert not list((store._folder / "claims").glob("owner-*"))
    assert len(through(store, range(1, 31)).computed) == 30 - 12


def test_a_row_that_changes_meanwhile_is_not_stored_and_its_copies_are_computed(store):
    computation = Powers([5, 6, 5, 5], changing={0})
    go(session_of(store), computation)
    assert sorted(computation.computed) == [5, 5, 6]
    assert not through(store, [5, 6]).computed  # the copy was stored
    through(store, [7], changing={0})
    assert store.info()["samples"] == 2


# --- workers that share -----------------------------------------------------------------------


@pytest.mark.slow
def test_workers_at_the_same_samples_compute_each_once(store):
    # Slow enough that none can claim all of them before the others have begun.
    workers = [Powers(np.roll(np.arange(1, 301), 100 * i), seconds=0.01) for i in (0, 1, 0)]
    barrier = threading.Barrier(3)

    def run(worker):
        barrier.wait()
        go(session_of(store), worker)

    threads = [threading.Thread(target=run, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(worker.found == worker.numbers for worker in workers)
    assert sorted(n for worker in workers for n in worker.computed) == list(range(1, 301))
    assert all(worker.computed for worker in workers)  # they shared the work


def test_what_others_hold_is_asked_for_ever_less_often(store, monkeypatch):
    session = session_of(store)
    vectors = {block.name: np.full((1, block.width), 8.0, "f4") for block in Powers.usual}
    naps = []

    def sleep(seconds):  # meanwhile the other computes two samples and leaves the third
        naps.append(seconds)
        if len(naps) in (3, 4):
            session_of(store).put([keys[len(naps) - 3]], vectors)
        if len(naps) == 6:
            others.release(scope_of(session), keys)

    keys = [key(number) for number in (1, 2, 3)]
    computation = Powers([1, 2, 3, 4])
    with store.claims() as others:
        assert others.take(scope_of(session), keys, 3) == keys
        monkeypatch.setattr(time, "sleep", sleep)
        go(session, computation)
    assert naps == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]
    assert computation.found == [8, 8, 3, 4]
    assert computation.computed == [4, 3]


OWNER = """
import sys, time
from sktransfer import FeatureStore
claims = FeatureStore(sys.argv[1]).claims()
print(len(claims.take(sys.argv[2], [b"number %d" % i for i in range(1, 10)], 9)), flush=True)
time.sleep(600)
"""


def test_what_a_killed_worker_held_is_taken_over(store, monkeypatch):
    session = session_of(store)
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(store.path), scope_of(session)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout.readline() == "9\n"
    naps = []

    def sleep(seconds):
        naps.append(seconds)
        owner.kill()
        owner.wait()

    monkeypatch.setattr(time, "sleep", sleep)
    computation = Powers(range(1, 10))
    go(session, computation)
    owner.stdout.close()
    assert naps == [0.05]  # it was waited for as long as it lived
    assert sorted(computation.computed) == list(range(1, 10))


def test_what_is_stored_between_lookup_and_claim_is_not_computed(store, monkeypatch):
    def claims():  # asked for once the lookup is over
        monkeypatch.undo()
        through(store, range(1, 6))
        return store.claims()

    session = session_of(store)
    monkeypatch.setattr(session, "claims", claims)
    computation = Powers(range(1, 9))
    go(session, computation)
    assert computation.computed == [6, 7, 8]
    assert computation.found == list(range(1, 9))


def test_claims_grow_with_the_speed_of_the_work(store, monkeypatch):
    limits = []
    take = Claims.take

    def recorded(self, scope, keys, limit):
        limits.append(limit)
        return take(self, scope, keys, limit)

    monkeypatch.setattr(Claims, "take", recorded)
    go(session_of(store), Powers(range(1, 301)), batch_size=1)
    assert limits[0] == 1
    assert len(limits) < 100


# --- stores that fail -------------------------------------------------------------------------


def go_twice_with_one_warning(store, match):
    session = session_of(store)
    first, second = Powers(range(1, 11), wanted=(FIRST, SECOND)), Powers(range(1, 11))
    with pytest.warns(UserWarning, match=match) as caught:
        go(session, first)
    assert len(caught) == 1
    assert not session.works
    go(session, second)  # a second warning would be an error
    assert first.found == second.found == list(range(1, 11))
    assert len(second.computed) == 10


def test_a_folder_that_cannot_be_made_costs_one_warning_not_the_run(tmp_path):
    (tmp_path / "file").touch()
    store = FeatureStore(tmp_path / "file" / "store")
    go_twice_with_one_warning(store, "cannot be written.*the features are right")


def test_a_full_disk_costs_one_warning_and_what_others_hold_is_not_waited_for(store, monkeypatch):
    def put(*args, **kwargs):
        raise sqlite3.OperationalError("database or disk is full")

    through(store, [99])
    monkeypatch.setattr(FeatureStore, "put", put)
    session = session_of(store)
    with store.claims() as others:
        others.take(scope_of(session), [key(number) for number in (11, 12)], 9)
        computation = Powers(range(1, 13))
        with pytest.warns(UserWarning, match="cannot be written .*disk is full") as caught:
            go(session, computation)
    assert len(caught) == 1
    assert sorted(computation.computed) == list(range(1, 13))
    go_twice_with_one_warning(store, "cannot be written .*disk is full")


def test_a_store_that_cannot_be_read_costs_one_warning_not_the_run(tmp_path):
    (tmp_path / "features-v1-0001.sqlite3").mkdir()
    (tmp_path / "features-v1-0001 (copy).sqlite3").touch()
    go_twice_with_one_warning(FeatureStore(tmp_path), "cannot be read")


def test_runs_that_find_all_are_silent(store):
    through(store, range(1, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not through(store, range(1, 6)).passes
