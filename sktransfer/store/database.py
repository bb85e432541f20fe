"""A SQLite file that several processes share, and that is made anew when it is damaged.

Rollback-journal mode, a connection per operation: a process may be killed at any
moment, forked or threaded, and leaves neither a half-written row nor a lock behind.
A damaged file is never renamed or emptied under processes that have it open; they
all move on to a file with the next number, and the old one is unlinked.
"""

import os
import re
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_BUSY_SECONDS = 60.0
_VERSION = 1  # of a file whose tables are made

_SHORT_READ = sqlite3.SQLITE_IOERR | (2 << 8)


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
        return self.folder / f"{self.stem}-{self._number():04d}.sqlite3"

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
        """Do the work, once more if the file is damaged."""
        for _ in range(3):  # damaged again at once is no accident
            file = self.file
            try:
                with self._connection(file, making=default is None) as connection:
                    if default is not None and _version(connection) != _VERSION:
                        return default
                    return work(connection)
            except sqlite3.DatabaseError as error:
                if not _tells_of_damage(error):
                    raise
                problem = error
            self._abandon(file, problem)
        raise problem

    @contextmanager
    def _connection(self, file: Path, *, making: bool) -> Iterator[sqlite3.Connection]:
        # Reading makes no file: another process may just have abandoned this one.
        name = f"{file.as_uri()}?mode={'rwc' if making else 'rw'}"
        with closing(
            sqlite3.connect(name, timeout=_BUSY_SECONDS, isolation_level=None, uri=True)
        ) as connection:
            if not self.durable:
                connection.execute("PRAGMA synchronous = OFF")
            if making and _version(connection) != _VERSION:
                connection.execute(f"PRAGMA page_size = {self.page_size}")
                with transaction(connection):
                    for statement in filter(str.strip, self.schema.split(";")):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {_VERSION}")
            yield connection

    def _number(self) -> int:
        pattern = re.compile(rf"{self.stem}-(\d+)\.sqlite3")
        names = os.listdir(self.folder) if self.folder.is_dir() else []
        matches = filter(None, map(pattern.fullmatch, names))
        return max((int(match[1]) for match in matches), default=1)

    def _abandon(self, file: Path, problem: sqlite3.DatabaseError) -> None:
        """Go on with the next file; a process that still has this one open does no harm."""
        if file != self.file:  # another process was first
            return
        following = file.with_name(f"{self.stem}-{self._number() + 1:04d}.sqlite3")
        with self._connection(following, making=True):
            pass
        for name in (file, Path(f"{file}-journal")):
            with suppress(OSError):
                os.unlink(name)
        warnings.warn(
            f"{file} is damaged ({problem}) and was replaced by the empty {following.name}; what "
            "it held is computed again",
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


def _tells_of_damage(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)
    if isinstance(error, DamagedError):
        return True
    if code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or code == _SHORT_READ:
        return True
    # A lost table, or text that no longer is UTF-8.
    return str(error).startswith(("no such table", "no such column", "Could not decode"))
