"""Claims on samples, so that workers share their computation and compute none twice.

A claim is a row that names its owner, and every owner holds an operating-system
lock on a separate file. The kernel drops that lock when the owner dies, however
it dies; the next worker that needs the samples finds the lock free and takes them over.
"""

import re
import sqlite3
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from sktransfer.store.database import Database, transaction
from sktransfer.store.rows import chunks

_SCHEMA = """
CREATE TABLE IF NOT EXISTS claims (
    scope TEXT NOT NULL, key BLOB NOT NULL, owner TEXT NOT NULL, since REAL NOT NULL,
    PRIMARY KEY (scope, key)
) WITHOUT ROWID
"""

_LEASE_SECONDS = 600.0
"""Age at which a claim lapses even if its owner lives: it may be stopped or hanging."""

_OWNER = re.compile("[0-9a-f]+")  # a claim in a damaged file may name any path

_ORPHAN_SECONDS = 60.0
"""Age at which a lock file without an owner is removed; a new one may not be locked yet."""


class Claims:
    """One owner's claims in a folder; a context that gives them all up at its end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._database = Database(folder, "claims-v1", _SCHEMA, durable=False)
        self._owner = uuid.uuid4().hex
        self._lock: FileLock | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lock is None:
            return
        with suppress(OSError, sqlite3.Error):  # what is left is void without the lock
            self._database.write(lambda connection: self._forget(connection, {self._owner}))
        self._lock.release()
        _remove(Path(self._lock.lock_file))
        self._lock = None

    def take(self, scope: str, keys: Iterable[bytes], limit: int) -> list[bytes]:
        """Claim up to `limit` of the keys, in their order, that nobody alive has claimed.

        Where the folder cannot be written, claims cannot be made: the first `limit`
        keys are returned.
        """
        wanted = list(keys)
        if not wanted:
            return []
        try:
            self._appear()
            return self._database.write(lambda c: self._take(c, scope, wanted, limit))
        except (OSError, sqlite3.Error):
            return wanted[:limit]

    def release(self, scope: str, keys: Sequence[bytes]) -> None:
        """Give up claims, once their samples are stored or will not be."""

        def work(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                connection.executemany(
                    "DELETE FROM claims WHERE scope = ? AND key = ? AND owner = ?",
                    [(scope, key, self._owner) for key in keys],
                )

        if self._lock is not None:
            with suppress(OSError, sqlite3.Error):
                self._database.write(work)

    def _appear(self) -> None:
        """Hold a lock before any claim names its holder."""
        if self._lock is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._lock_file(self._owner), thread_local=False)
            lock.acquire(blocking=False)
            self._lock = lock
            for path in self._folder.glob("owner-*.lock"):
                with suppress(OSError):
                    if time.time() - path.stat().st_mtime > _ORPHAN_SECONDS:
                        self._lives(path.stem.removeprefix("owner-"))  # which removes the dead

    def _take(
        self, connection: sqlite3.Connection, scope: str, keys: list[bytes], limit: int
    ) -> list[bytes]:
        taken: list[bytes] = []
        alive = {self._owner: True}
        with transaction(connection):
            now = time.time()
            for chunk in chunks(keys):
                marks = ",".join("?" * len(chunk))
                rows = connection.execute(
                    f"SELECT key, owner, since FROM claims WHERE scope = ? AND key IN ({marks})",
                    [scope, *chunk],
                ).fetchall()
                held = set()
                for key, owner, since in rows:
                    if owner not in alive:
                        alive[owner] = self._lives(owner)
                    # A clock that was set back must not make a claim last until it catches up.
                    if alive[owner] and abs(now - since) < _LEASE_SECONDS:
                        held.add(key)
                free = [key for key in chunk if key not in held][: limit - len(taken)]
                taken += free
                if len(taken) >= limit:
                    break
            connection.executemany(
                "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?)",
                [(scope, key, self._owner, now) for key in taken],
            )
        dead = {owner for owner, lives in alive.items() if not lives}
        if dead:
            self._forget(connection, dead)
        return taken

    def _lives(self, owner: str) -> bool:
        """Whether the owner's lock is held; a dead owner's file is removed."""
        path = Path(self._lock_file(owner))
        if not _OWNER.fullmatch(owner) or not path.exists():
            return False
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return True
        lock.release()
        _remove(path)
        return False

    def _forget(self, connection: sqlite3.Connection, owners: set[str]) -> None:
        with transaction(connection):
            connection.executemany(
                "DELETE FROM claims WHERE owner = ?", [(owner,) for owner in owners]
            )

    def _lock_file(self, owner: str) -> str:
        return str(self._folder / f"owner-{owner}.lock")


def _remove(path: Path) -> None:
    """Delete a lock's file, unless another process looks at it: Windows deletes no open file."""
    with suppress(OSError):
        path.unlink()
