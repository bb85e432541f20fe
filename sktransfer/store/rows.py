"""The tables of a feature store, and the statements that read, write and check their rows."""

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sktransfer.store.database import DamagedError, transaction

# Samples are numbered as they come, so that rows are appended to the end of each block and
# only the small index of keys is written at random.
SCHEMA = """
CREATE TABLE IF NOT EXISTS namespaces (
    id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, description TEXT NOT NULL,
    n_forward INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS blocks (
    id INTEGER PRIMARY KEY, namespace INTEGER NOT NULL, name TEXT NOT NULL,
    UNIQUE (namespace, name)
);
CREATE TABLE IF NOT EXISTS samples (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS vectors (
    block INTEGER NOT NULL, sample INTEGER NOT NULL, vector BLOB NOT NULL,
    checksum BLOB NOT NULL, stored INTEGER NOT NULL, PRIMARY KEY (block, sample)
) WITHOUT ROWID
"""

_CHUNK = 500  # keys per query, below SQLite's limit on variables
_PART = 2000  # rows that are checked at once

Row = tuple[int, int]  # numbers of a block and a sample


def read(
    connection: sqlite3.Connection, namespace: str, block: str, keys: list[bytes], n_bytes: int
) -> Iterator[tuple[bytes, np.ndarray]]:
    """Intact vectors of a block, with their keys."""
    number = _block_number(connection, namespace, block)
    names = {sample: key for key, sample in _sample_numbers(connection, keys).items()}
    for chunk in chunks(sorted(names)):  # in the order in which they lie on disk
        marks = ",".join("?" * len(chunk))
        rows = connection.execute(
            f"SELECT sample, vector, checksum FROM vectors WHERE block = ? AND sample IN ({marks}) "
            "AND typeof(vector) = 'blob' AND length(vector) = ?",
            [number, *chunk, n_bytes],
        )
        for sample, vector, checksum in rows:
            key = names[sample]
            if checksum == _checksum(namespace, block, key, vector):
                yield key, np.frombuffer(vector, dtype="<f4")


def write(
    connection: sqlite3.Connection,
    namespace: str,
    keys: Sequence[bytes],
    blocks: Mapping[str, np.ndarray],
    now: int,
) -> None:
    """Store one vector per key in each block, as part of a transaction.

    Blocks are matrices of little-endian float32, in C order.
    """
    connection.execute(
        "INSERT OR IGNORE INTO namespaces (digest, description, n_forward) VALUES (?, '', 0)",
        (namespace,),
    )
    connection.executemany("INSERT OR IGNORE INTO samples (key) VALUES (?)", [(k,) for k in keys])
    numbers = _sample_numbers(connection, keys)
    for block, vectors in blocks.items():
        connection.execute(
            "INSERT OR IGNORE INTO blocks (namespace, name) "
            "SELECT id, ? FROM namespaces WHERE digest = ?",
            (block, namespace),
        )
        number = _block_number(connection, namespace, block)
        blobs = [vector.tobytes() for vector in vectors]
        connection.executemany(
            "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?)",
            [
                (number, numbers[key], blob, _checksum(namespace, block, key, blob), now)
                for key, blob in zip(keys, blobs, strict=True)
            ],
        )


def check(last: Row, connection: sqlite3.Connection) -> tuple[int, list[Row], Row | None]:
    """Number of rows after `last`, the damaged among them, and the new last."""
    # After a row, not from an offset, to which SQLite would count through all rows before it.
    connection.text_factory = bytes  # damaged text need not be UTF-8
    rows = connection.execute(
        "SELECT v.block, v.sample, n.digest, b.name, s.key, v.vector, v.checksum "
        f"FROM (SELECT * FROM vectors WHERE (block, sample) > (?, ?) AND NOT {_UNNUMBERED} "
        "ORDER BY block, sample LIMIT ?) v LEFT JOIN blocks b ON v.block = b.id "
        "LEFT JOIN namespaces n ON b.namespace = n.id LEFT JOIN samples s ON v.sample = s.id "
        "ORDER BY v.block, v.sample",
        (*last, _PART),
    ).fetchall()
    damaged = [
        (block, sample)
        for block, sample, *parts, checksum in rows
        if not all(isinstance(part, bytes) for part in parts) or checksum != _digest(parts)
    ]
    end = (rows[-1][0], rows[-1][1]) if len(rows) == _PART else None
    if end is not None and end <= last:
        raise DamagedError("its vectors are not in order")
    return len(rows), damaged, end


def remove(damaged: list[Row], connection: sqlite3.Connection) -> int:
    """Delete rows, and tell how many."""
    with transaction(connection):
        connection.executemany("DELETE FROM vectors WHERE block = ? AND sample = ?", damaged)
    return len(damaged)


# Damage, or somebody, can have put anything in the place of a number.
_UNNUMBERED = "(typeof(block) <> 'integer' OR typeof(sample) <> 'integer')"


def count_unnumbered(connection: sqlite3.Connection) -> int:
    """Vectors whose block or sample is not a number, which nothing finds."""
    (n,) = connection.execute(f"SELECT COUNT(*) FROM vectors WHERE {_UNNUMBERED}").fetchone()
    return int(n)


def remove_unnumbered(connection: sqlite3.Connection) -> int:
    """Delete such vectors, and tell how many."""
    with transaction(connection):
        return connection.execute(f"DELETE FROM vectors WHERE {_UNNUMBERED}").rowcount


def _block_number(connection: sqlite3.Connection, namespace: str, block: str) -> int | None:
    row = connection.execute(
        "SELECT b.id FROM blocks b JOIN namespaces n ON b.namespace = n.id "
        "WHERE n.digest = ? AND b.name = ?",
        (namespace, block),
    ).fetchone()
    return None if row is None else row[0]


def _sample_numbers(connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, int]:
    numbers: dict[bytes, int] = {}
    for chunk in chunks(keys):
        marks = ",".join("?" * len(chunk))
        numbers.update(
            connection.execute(f"SELECT key, id FROM samples WHERE key IN ({marks})", chunk)
        )
    if len({*numbers.values()}) < len(numbers):  # each would overwrite the other's vectors
        raise DamagedError("two of its samples have one number")
    return numbers


def chunks(values: Sequence[Any]) -> Iterator[list[Any]]:
    """Parts that are short enough for one query."""
    for start in range(0, len(values), _CHUNK):
        yield list(values[start : start + _CHUNK])


def _checksum(namespace: str, block: str, key: bytes, vector: bytes) -> bytes:
    """Checksum of the whole row, so that a vector under a wrong key is noticed, too."""
    return _digest((namespace.encode(), block.encode(), key, vector))


def _digest(parts: Sequence[bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()
