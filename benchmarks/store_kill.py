"""Kill writers of a feature store at random moments, and check the store.

Each round starts three processes that claim samples, store their vectors and read them
back, and kills them with SIGKILL one after another at random moments. Then every vector
found must be right, committed vectors must still be there, the next write must not wait
for a lock, and in every tenth round a byte of the file is flipped, found and repaired.

    python store_kill.py --rounds 200
"""

import argparse
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np
from _common import write_result

from sktransfer import FeatureStore

N, WIDTH = 3000, 300
KEYS = [i.to_bytes(32, "big") for i in range(N)]


def vectors(numbers):
    """The vectors that a writer must store for these samples."""
    return np.stack([np.random.RandomState(i).randn(WIDTH) for i in numbers]).astype("f4")


def write_forever(folder, seed):
    """The writer, until it is killed."""
    store = FeatureStore(folder)
    random = np.random.RandomState(seed)
    print("ready", flush=True)
    with store.claims() as claims:
        while True:
            keys = claims.take("n", [KEYS[i] for i in random.randint(0, N, 60)], 40)
            numbers = [int.from_bytes(key, "big") for key in keys]
            rows = vectors(numbers) if numbers else np.empty((0, WIDTH), "f4")
            store.put("n", keys, {"b": rows, "c": rows[:, :7] + 1}, n_forward=len(keys))
            claims.release("n", keys)
            found, here = store.get("n", "b", keys, WIDTH)
            assert np.array_equal(found[here], rows[here])


def start(folder, seed):
    """A writer that is at work."""
    command = [sys.executable, __file__, "--write", folder, str(seed)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    return writer


def check(store, expected):
    """Number of vectors found, of wrong ones, and which samples are there."""
    store._memory().clear()
    there, wrong = [], 0
    for block, right in (("b", expected), ("c", expected[:, :7] + 1)):
        found, here = store.get("n", block, KEYS, right.shape[1])
        wrong += int((found[here] != right[here]).any(axis=1).sum())
        there.append(here)
    return there, wrong


def flip_a_byte(store, random):
    """Flip a byte of some vector in the file."""
    file = store._database.file
    data = bytearray(file.read_bytes())
    while (where := data.find(vectors([random.randint(N)]).tobytes())) < 0:
        pass
    data[where + random.randint(4 * WIDTH)] ^= 0xFF
    file.write_bytes(data)


def run(rounds):
    """All rounds in one store."""
    random = np.random.RandomState(0)
    expected = vectors(range(N))
    outcome = {"rounds": rounds, "wrong": 0, "lost": 0, "half_rows": 0, "unreadable": 0}
    outcome |= {"flipped": 0, "flips_found": 0, "longest_wait": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(folder)
        before = np.zeros(N, dtype=bool)
        for i in range(rounds):
            writers = [start(folder, 3 * i + j) for j in range(3)]
            for writer in writers:
                time.sleep(random.exponential(0.05))
                writer.kill()
                writer.wait()
                writer.stdout.close()
            started = time.perf_counter()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                (b, c), wrong = check(store, expected)
            outcome["unreadable"] += len(caught)
            outcome["wrong"] += wrong
            outcome["half_rows"] += int((b != c).sum())
            outcome["lost"] += int((before & ~b).sum())
            with store.claims() as claims:
                assert len(claims.take("n", KEYS, N)) == N
            store.put("n", KEYS[:1], {"b": expected[:1], "c": expected[:1, :7] + 1})
            waited = time.perf_counter() - started
            outcome["longest_wait"] = max(outcome["longest_wait"], waited)
            before = b.copy()
            before[0] = True
            if i % 10 == 9:
                flip_a_byte(store, random)
                outcome["flipped"] += 1
                (b, _), wrong = check(store, expected)
                gone = np.flatnonzero(before & ~b)
                outcome["wrong"] += wrong
                outcome["flips_found"] += len(gone) == 1
                store.put("n", [KEYS[g] for g in gone], {"b": expected[gone]})
                outcome["wrong"] += int(not check(store, expected)[0][0][gone].all())
            if before.mean() > 0.8:  # room for the next writers
                store.prune(max_bytes=0)
                before[:] = False
    return outcome


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--write", nargs=2, metavar=("FOLDER", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write_forever(options.write[0], int(options.write[1]))
    outcome = run(options.rounds)
    for name, value in outcome.items():
        print(f"{name:>14} {value:.3g}" if isinstance(value, float) else f"{name:>14} {value}")
    if options.rounds >= 200:
        write_result("store_kill", outcome)


if __name__ == "__main__":
    main()
