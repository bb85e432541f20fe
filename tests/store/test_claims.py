"""Claims share the work, and die with their owner."""

import os
import subprocess
import sys
import threading
import time

from sktransfer.store import claims as claims_module
from sktransfer.store.claims import Claims

KEYS = [bytes([i]) for i in range(10)]

OWNER = """
import sys, time
from sktransfer.store.claims import Claims
claims = Claims(__import__("pathlib").Path(sys.argv[1]))
print(len(claims.take("scope", [bytes([i]) for i in range(10)], 4)), flush=True)
time.sleep(600)
"""


def test_two_owners_never_hold_the_same_key(tmp_path):
    with Claims(tmp_path) as first, Claims(tmp_path) as second:
        assert first.take("scope", KEYS, 4) == KEYS[:4]
        assert second.take("scope", KEYS, 4) == KEYS[4:8]
        assert first.take("scope", KEYS[4:], 4) == KEYS[8:]
        assert second.take("scope", KEYS[:4], 4) == []
        assert second.take("another scope", KEYS, 4) == KEYS[:4]


def test_released_and_abandoned_keys_are_free_again(tmp_path):
    with Claims(tmp_path) as second:
        with Claims(tmp_path) as first:
            first.take("scope", KEYS, 10)
            first.release("scope", KEYS[:2])
            assert second.take("scope", KEYS, 10) == KEYS[:2]
        assert second.take("scope", KEYS[2:], 10) == KEYS[2:]


def test_only_the_owner_can_release(tmp_path):
    with Claims(tmp_path) as first, Claims(tmp_path) as second, Claims(tmp_path) as third:
        first.take("scope", KEYS, 10)
        second.take("scope", KEYS, 10)
        second.release("scope", KEYS)
        assert third.take("scope", KEYS, 10) == []


def test_a_killed_owners_claims_are_free_at_once(tmp_path):
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout.readline() == "4\n"
    with Claims(tmp_path) as other:
        assert other.take("scope", KEYS[:5], 10) == KEYS[4:5]  # it lives
        owner.kill()
        owner.wait()
        owner.stdout.close()
        assert other.take("scope", KEYS[:4], 10) == KEYS[:4]
    assert not list(tmp_path.glob("owner-*.lock"))


def test_a_stopped_owners_claims_lapse(tmp_path, monkeypatch):
    with Claims(tmp_path) as first, Claims(tmp_path) as second:
        first.take("scope", KEYS, 10)
        monkeypatch.setattr(claims_module, "_LEASE_SECONDS", 0.05)
        time.sleep(0.1)
        assert second.take("scope", KEYS, 10) == KEYS


def test_old_lock_files_without_owner_are_removed(tmp_path):
    orphan = tmp_path / "owner-0123.lock"
    orphan.touch()
    fresh = tmp_path / "owner-4567.lock"
    fresh.touch()
    os.utime(orphan, (0, 0))
    with Claims(tmp_path) as claims:
        claims.take("scope", KEYS, 1)
        assert not orphan.exists()
        assert fresh.exists()  # its owner may be about to lock it


def test_where_nothing_can_be_written_all_may_be_computed(tmp_path):
    (tmp_path / "file").touch()
    with Claims(tmp_path / "file" / "folder") as claims:
        assert claims.take("scope", KEYS, 3) == KEYS[:3]


def test_threads_share_the_work_without_overlap(tmp_path):
    taken = []

    def work():
        with Claims(tmp_path) as claims:
            barrier.wait()
            for _ in range(10):
                taken.extend(claims.take("scope", [i.to_bytes(2, "big") for i in range(100)], 3))
            barrier.wait()

    barrier = threading.Barrier(4)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 100
