"""A SQLite file that several processes share, and that is made anew when it is damaged.

Rollback-journal mode, a connection per operation: a process may be killed at any
moment, forked or threaded, and leaves neither a half-written row nor a lock behind.
A damaged file is never renamed or emptied under processes that have it open; they
all move on to a file with the next number, and the old one is unlinked.

A file may come from anyone. One whose tables are not exactly ours, or that has views or
triggers, counts as damaged before anything is asked of it.
"""

import os
import re
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from itertools import chain, repeat
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_BUSY_SECONDS = 60.0
_VERSION = 1  # of a file whose tables are made

_SHORT_READ = sqlite3.SQLITE_IOERR | (2 << 8)

_NOT_THE_CONTENT = {
    *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_ABORT, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED),
    *(sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL),
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_SCHEMA),
    *(sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISUSE, sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_AUTH),
    sqlite3.SQLITE_RANGE,
}
"""Errors of the machine, of other processes, or of what was asked; the file may be whole."""

_SQL_BYTES = 20_000
"""Longest statement, of ours or in the schema of a file."""

_STEP = 1_000_000  # instructions of SQLite
_STEPS = (20, 10 / _STEP)
"""Largest number of steps of a statement that reads: at least, and for each byte of the file.
Pages of a crafted file may refer to each other so often that reading all rows never ends."""


class DamagedError(sqlite3.DatabaseError):
    """The content of a file shows that it is damaged, though SQLite reads it."""


class Database:
    """A folder's current SQLite file of one kind.

    The stem of its name holds the version of the schema, so that two versions never meet in one
    file. If it is not `durable`, a commit does not wait for the disk, and a power cut may damage
    the file; the death of a process never does.
    """

    def __init__(
        self, folder: Path, stem: str, schema: str, *, page_size: int = 4096, durable: bool = True
    ) -> None:
        self.folder = folder
        self.stem = stem
        self.schema = schema
        self.page_size = page_size
        self.durable = durable

    @property
    def file(self) -> Path:
        """The file in use, which need not exist yet."""
        return self._numbered(self._number())

    def exists(self) -> bool:
        """Whether anything was ever written."""
        return self.file.exists()

    def read(self, work: Callable[[sqlite3.Connection], T], default: T) -> T:
        """Call `work` with a connection; `default` if nothing was ever written."""
        if not self.exists():
            return default
        return self._run(work, default)

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Call `work` with a connection to a file that has its tables."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self._run(work, None)

    def _run(self, work: Callable[[sqlite3.Connection], T], default: T | None) -> T:
        """Do the work, which must not fail for reasons of its own; again if the file is damaged."""
        for _ in range(3):  # damaged again at once is no accident
            file = self.file
            try:
                with self._connection(file, making=default is None) as connection:
                    if default is not None and _version(connection) != _VERSION:
                        return default
                    self._check_schema(connection)
                    return work(connection)
            except Exception as error:  # damage may raise anything
                problem = error
                # Another process has gone on to the next file, in which nothing is damaged yet.
                if file != self.file:
                    continue
                if not _tells_of_damage(error, file):
                    raise
            self._abandon(file, problem)
        raise DamagedError(_reason(problem)) from problem

    @contextmanager
    def _connection(self, file: Path, *, making: bool) -> Iterator[sqlite3.Connection]:
        if file.exists() and not file.is_file():  # a pipe would block, a device never end
            raise OSError(f"{file} is not a regular file")
        # Reading makes no file: another process may just have abandoned this one.
        name = f"{file.as_uri()}?mode={'rwc' if making else 'rw'}"
        with closing(
            sqlite3.connect(name, timeout=_BUSY_SECONDS, isolation_level=None, uri=True)
        ) as connection:
            connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, _SQL_BYTES)
            # Functions in a foreign schema are not called, and damaged pages are noticed. A file
            # that others cut short is an error; in mapped memory it would end the process.
            for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
                connection.execute(f"PRAGMA {pragma}").close()
            if not making:
                least, per_byte = _STEPS
                n_steps = int(least + per_byte * file.stat().st_size)
                # Not a function of ours, in which an interruption from the keyboard could get lost.
                steps = chain(repeat(0, n_steps), repeat(1))
                connection.set_progress_handler(steps.__next__, _STEP)
            if not self.durable:
                connection.execute("PRAGMA synchronous = OFF")
            if making and _version(connection) != _VERSION:
                # Counts only as long as the file is empty.
                connection.execute(f"PRAGMA page_size = {self.page_size}")
                # One by one, as executescript would end the transaction.
                with transaction(connection):
                    for statement in filter(str.strip, self.schema.split(";")):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {_VERSION}")
            yield connection

    def _check_schema(self, connection: sqlite3.Connection) -> None:
        expected = _objects_made_by(self.schema)
        if _objects_in(connection, limit=len(expected) + 1) != expected:
            raise DamagedError("its tables are not those of a store")

    def _number(self) -> int:
        pattern = re.compile(rf"{self.stem}-(\d+)\.sqlite3")
        names = os.listdir(self.folder) if self.folder.is_dir() else []
        matches = filter(None, map(pattern.fullmatch, names))
        return max((int(match[1]) for match in matches), default=1)

    def _numbered(self, number: int) -> Path:
        return self.folder / f"{self.stem}-{number:04d}.sqlite3"

    def _abandon(self, file: Path, problem: Exception) -> None:
        """Go on with the next file; a process that still has this one open does no harm."""
        number = self._number()
        if file != self._numbered(number):  # another process was first
            return
        following = self._numbered(number + 1)
        try:
            with self._connection(following, making=True):
                pass
        except (OSError, sqlite3.Error) as error:
            raise DamagedError(
                f"{file} is damaged ({_reason(problem)}) and cannot be replaced ({error})"
            ) from problem
        for name in (file, Path(f"{file}-journal")):
            with suppress(OSError):
                os.unlink(name)
        warnings.warn(
            f"{file} is damaged ({_reason(problem)}) and was replaced by the empty "
            f"{following.name}; what it held is computed again",
            stacklevel=4,
        )


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A write transaction, rolled back if the block fails."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _objects_in(connection: sqlite3.Connection, limit: int) -> list[tuple[str, ...]]:
    """Tables, indices, views and triggers: their kind, name, table and statement, sorted."""
    found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
    return sorted(tuple(" ".join(str(x).split()) for x in row) for row in found.fetchmany(limit))


@cache
def _objects_made_by(schema: str) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(schema)
        return _objects_in(connection, limit=100)


def _tells_of_damage(error: Exception, file: Path) -> bool:
    """Whether an error comes from what is in the file."""
    if isinstance(error, DamagedError):
        return True
    if isinstance(error, OSError | MemoryError | sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # not raised by SQLite, or about text that no longer is UTF-8
        return True
    if code == sqlite3.SQLITE_READONLY:  # SQLite says so, too, of a header of a later format
        return os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)
    return code == _SHORT_READ or code & 0xFF not in _NOT_THE_CONTENT


def _reason(problem: Exception) -> str:
    kind = "" if isinstance(problem, sqlite3.Error) else f"{type(problem).__name__}: "
    return f"{kind}{problem}"[:200]
