"""Measure the speed of the feature store, and its size relative to the vectors.

Written in batches: vectors of 1,280 floats, and whole rows as one pass through
efficientnet_lite0 stores them (15 reads, average and maximum of a stage in one vector).
Read in random order, all keys in one call: in a fresh process with the file out of the
operating system's cache, in a fresh process with the file in it, and from memory. Beside it,
for the vectors of 1,280: a .npy file per sample, which does not wait for the disk and so may lose
data, and a SQLite table written in the simplest way, one commit per row, and read one
key at a time.
"""

import argparse
import json
import os
import sqlite3
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from _common import in_fresh_process, parser, timed, write_result

from sktransfer import FeatureStore

WIDTH = 1280
STAGES = (16, 24, 40, 80, 112, 192, 320)  # channels of efficientnet_lite0's stages
SINGLE = {"penultimate/flatten": WIDTH}
ROW = {f"blocks.{i}/avg+max": 2 * channels for i, channels in enumerate(STAGES)} | SINGLE
NAMESPACE = "n" * 64


def key_of(number: int) -> bytes:
    """A key as long as a real one, and as random."""
    return np.random.default_rng(number).bytes(32)


def vectors_of(rows: int, widths: dict[str, int]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.random((rows, width), dtype=np.float32) for name, width in widths.items()}


def slices(rows: int, batch: int) -> Iterator[slice]:
    return (slice(start, start + batch) for start in range(0, rows, batch))


def on_disk(folder: Path) -> int:
    """Bytes that a folder's files take, in whole blocks of the file system."""
    return sum(p.stat().st_blocks * 512 for p in folder.rglob("*") if p.is_file())


def evict(folder: Path) -> None:
    """Ask the operating system to forget the files' content, as after a restart."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


# --- the ways to keep vectors: each writes, and tells how to read -------------------------


def write_store(
    folder: Path, keys: list[bytes], vectors: dict[str, np.ndarray], batch: int
) -> None:
    store = FeatureStore(folder)
    for part in slices(len(keys), batch):
        store.put(NAMESPACE, keys[part], {name: v[part] for name, v in vectors.items()})


def read_store(store: FeatureStore, keys: list[bytes]) -> None:
    _, found = store.get(NAMESPACE, "penultimate/flatten", keys, WIDTH)
    assert found.all()


def write_files(
    folder: Path, keys: list[bytes], vectors: dict[str, np.ndarray], batch: int
) -> None:
    folder.mkdir()
    for key, vector in zip(keys, vectors["penultimate/flatten"], strict=True):
        np.save(folder / f"{key.hex()}.npy", vector)


def read_files(folder: Path, keys: list[bytes]) -> None:
    np.stack([np.load(folder / f"{key.hex()}.npy") for key in keys])


def write_table(
    folder: Path, keys: list[bytes], vectors: dict[str, np.ndarray], batch: int
) -> None:
    folder.mkdir()
    with closing(sqlite3.connect(folder / "table.sqlite3")) as connection:
        connection.execute("CREATE TABLE vectors (key BLOB PRIMARY KEY, vector BLOB)")
        for key, vector in zip(keys, vectors["penultimate/flatten"], strict=True):
            connection.execute("INSERT INTO vectors VALUES (?, ?)", (key, vector.tobytes()))
            connection.commit()


def read_table(folder: Path, keys: list[bytes]) -> None:
    with closing(sqlite3.connect(folder / "table.sqlite3")) as connection:
        question = "SELECT vector FROM vectors WHERE key = ?"
        rows = [connection.execute(question, (key,)).fetchone()[0] for key in keys]
    np.stack([np.frombuffer(row, np.float32) for row in rows])


WRITERS: dict[str, tuple[Callable[..., None], dict[str, int], int]] = {
    "store, vectors, batches of 64": (write_store, SINGLE, 64),
    "store, vectors, batches of 512": (write_store, SINGLE, 512),
    "store, whole rows, batches of 64": (write_store, ROW, 64),
    "store, whole rows, batches of 512": (write_store, ROW, 512),
    "a .npy file per sample": (write_files, SINGLE, 1),
    "SQLite, a commit per row": (write_table, SINGLE, 1),
}
COMMITS_PER_ROW = "SQLite, a commit per row"


def read_here(kind: str, folder: Path, count: int, rows: int) -> dict[str, float]:
    """In this fresh process: seconds of a first reading and, of a store, of a second one."""
    rng = np.random.default_rng(1)
    keys = [key_of(number) for number in rng.permutation(rows)[:count].tolist()]
    if kind == "store":
        store = FeatureStore(folder)
        return {
            "first": timed(lambda: read_store(store, keys))[0],
            "memory": timed(lambda: read_store(store, keys))[0],
        }
    return {
        "first": timed(lambda: {"files": read_files, "table": read_table}[kind](folder, keys))[0]
    }


def main() -> None:
    options_of = parser(__doc__, rounds=3)
    options_of.add_argument("--rows", type=int, default=20_000)
    options_of.add_argument("--reads", type=int, default=10_000)
    options_of.add_argument("--commits", type=int, default=1_000, help="rows of the plain table")
    options_of.add_argument("--read", nargs=4, help=argparse.SUPPRESS)
    options = options_of.parse_args()
    if options.read:
        kind, folder, count, rows = options.read
        print(json.dumps(read_here(kind, Path(folder), int(count), int(rows))))
        return
    if options.quick:
        options.rounds, options.rows, options.reads, options.commits = 1, 1_000, 500, 50
    with tempfile.TemporaryDirectory() as name:
        result = measure(options, Path(name))
    if not options.quick:
        write_result("store_io", result)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    keys = [key_of(number) for number in range(options.rows)]
    vectors = vectors_of(options.rows, ROW)
    rows = {name: options.rows for name in WRITERS} | {COMMITS_PER_ROW: options.commits}
    written: dict[str, list[float]] = {name: [] for name in WRITERS}
    size: dict[str, float] = {}
    read: dict[str, list[float]] = {}
    for number in range(options.rounds):
        places = {name: folder / f"{i}-{number}" for i, name in enumerate(WRITERS)}
        for name, (write, widths, batch) in WRITERS.items():
            n = rows[name]
            given = {block: vectors[block][:n] for block in widths}
            seconds, _ = timed(
                lambda w=write, p=places[name], n=n, g=given, b=batch: w(p, keys[:n], g, b)
            )
            written[name].append(seconds)
            size[name] = on_disk(places[name]) / (n * 4 * sum(widths.values()))
        for name, kind in (
            ("store, vectors, batches of 64", "store"),
            ("store, whole rows, batches of 64", "store"),
            ("a .npy file per sample", "files"),
            (COMMITS_PER_ROW, "table"),
        ):
            count = min(options.reads, rows[name])
            question = ("--read", kind, places[name], count, rows[name])
            for state in ("file read from disk", "file in the system's cache"):
                if state == "file read from disk":
                    evict(places[name])
                told = in_fresh_process(__file__, *question)
                read.setdefault(f"{name}: {state}", []).append(count / told["first"])
            if "memory" in told:
                read.setdefault(f"{name}: from memory", []).append(count / told["memory"])
    print(f"{'written':<36} {'rows/s':>9} {'MB/s':>7} {'on disk / vectors':>18}")
    rates: dict[str, Any] = {}
    for name, (_, widths, _) in WRITERS.items():
        rate = rows[name] / statistics.median(written[name])
        megabytes = rate * 4 * sum(widths.values()) / 1e6
        rates[name] = {"rows_per_second": rate, "MB_per_second": megabytes, "overhead": size[name]}
        print(f"{name:<36} {rate:>9.0f} {megabytes:>7.1f} {size[name]:>18.3f}")
    print(f"\n{'vectors of 1,280 read in random order':<64} {'rows/s':>9} {'MB/s':>7}")
    reading = {name: statistics.median(values) for name, values in read.items()}
    for name, rate in reading.items():
        print(f"{name:<64} {rate:>9.0f} {rate * 4 * WIDTH / 1e6:>7.1f}")
    return {
        "rounds": options.rounds,
        "rows": rows,
        "reads": options.reads,
        "written": rates,
        "seconds": written,
        "read_rows_per_second": reading,
    }


if __name__ == "__main__":
    main()
