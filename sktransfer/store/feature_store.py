"""The feature store: vectors on disk, found by content.

The key of a row is a hash of the sample, its namespace a hash of everything else that
decides the numbers. Vectors are raw little-endian float32 with a checksum; nothing is
pickled, so that a store from elsewhere can spoil results but not run code.
"""

import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sktransfer.store import rows
from sktransfer.store.claims import Claims
from sktransfer.store.database import DamagedError, Database, transaction
from sktransfer.store.memory import MemoryLayer

_PAGE = 65_536  # bytes; a vector of a few thousand floats fits into one page
_ROOM = 0.97  # how far below the asked size to prune, as pages are never quite full


class FeatureStore:
    """Feature vectors on disk, shared by estimators, searches and processes.

    Pass it, or just a path, as ``cache=``. A sample is found by its content - the bytes of
    its array or its file - and only under exactly the network, weights, preprocessing,
    precision and engine that computed it. A row with a wrong checksum counts as missing, and
    a file that SQLite cannot read is replaced with a warning: in both cases the features are
    computed again.

    Parameters
    ----------
    path : str or Path
        Folder of the store; ``~`` is your home. Made when something is first stored. All
        processes of one machine may use it at once; on a network file system, let one.
    memory_bytes : int, default=268435456
        Upper bound in bytes of what a process keeps of this store in memory.

    Raises
    ------
    TypeError, ValueError
        `path` is no path or empty, or `memory_bytes` negative.

    Notes
    -----
    SQLite [1]_ in rollback-journal mode: at any moment a process may be killed, and what was
    committed stays while what was not is as if it had never been.

    References
    ----------
    .. [1] "Atomic commit in SQLite", https://www.sqlite.org/atomiccommit.html

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FeatureStore, PretrainedCNNFeatures
    >>> images = load_digits().images[:50] / 16
    >>> folder = tempfile.TemporaryDirectory()
    >>> store = FeatureStore(folder.name)
    >>> first = PretrainedCNNFeatures(image_size=32, cache=store).fit(images)
    >>> first.transform(images).shape, first.n_forward_
    ((50, 1280), 50)
    >>> other = PretrainedCNNFeatures(image_size=32, cache=store, layer="blocks.3", pooling="max")
    >>> other.fit_transform(images).shape, other.n_forward_
    ((50, 80), 0)
    >>> store.info()["samples"]
    50
    >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str], *, memory_bytes: int = 268_435_456) -> None:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"path must be the path of a folder, got {path!r}")
        if not os.fspath(path):
            raise ValueError("path must not be empty; give the folder of the store")
        if not memory_bytes >= 0:
            raise ValueError(f"memory_bytes must be at least 0, got {memory_bytes!r}")
        self.path = path
        self.memory_bytes = memory_bytes

    def __repr__(self) -> str:
        return f"FeatureStore({os.fspath(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FeatureStore):
            return NotImplemented
        return self._folder == other._folder and self.memory_bytes == other.memory_bytes

    def __hash__(self) -> int:
        return hash(self._folder)

    def exists(self) -> bool:
        """Whether anything was ever stored."""
        return self._database.exists()

    def get(
        self, namespace: str, block: str, keys: Sequence[bytes | None], width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Stored vectors, in the order of `keys`.

        Parameters
        ----------
        namespace : str
            What computed the vectors.
        block : str
            Which of its outputs they are.
        keys : sequence of bytes or None
            Keys of the samples; None is never found.
        width : int
            Length of the vectors. Rows of another length count as missing.

        Returns
        -------
        vectors : ndarray of shape (len(keys), width), float32
            NaN where nothing is stored.
        found : ndarray of shape (len(keys),), bool
        """
        out = np.empty((len(keys), width), dtype=np.float32)
        memory = self._memory()
        found = memory.get(namespace, block, keys, out)
        if found.all():
            return out, found
        out[~found] = np.nan
        asked = {key for key, here in zip(keys, found, strict=True) if not here and key is not None}
        if not asked:
            return out, found
        nothing: dict[bytes, np.ndarray] = {}
        read = self._database.read(
            lambda c: dict(rows.read(c, namespace, block, list(asked), 4 * width)), nothing
        )
        for i, key in enumerate(keys):
            if not found[i] and key in read:
                out[i] = read[key]
                found[i] = True
        if read:
            memory.put(namespace, block, list(read), np.stack(list(read.values())))
        return out, found

    def put(
        self,
        namespace: str,
        keys: Sequence[bytes],
        blocks: Mapping[str, np.ndarray],
        *,
        description: str = "",
        n_forward: int = 0,
    ) -> None:
        """Store vectors in one transaction; what was there is replaced.

        Parameters
        ----------
        namespace : str
        keys : sequence of bytes
            Keys of the samples.
        blocks : dict of str to ndarray of shape (len(keys), width), float32
        description : str, default=""
            For people; kept with a new namespace.
        n_forward : int, default=0
            Images that went through the network for it, added up by `info`.

        Raises
        ------
        ValueError
            A block does not have one row per key.
        TypeError
            A key is not bytes.
        sqlite3.OperationalError
            The store cannot be written: no permission, a full disk, a lock held too long.
        """
        if wrong := [key for key in keys if not isinstance(key, bytes)]:
            raise TypeError(f"keys must be bytes, got {wrong[0]!r}")
        for block, vectors in blocks.items():
            if vectors.ndim != 2 or len(vectors) != len(keys):
                raise ValueError(
                    f"blocks[{block!r}] must have shape ({len(keys)}, width), one row per key, "
                    f"got {vectors.shape}"
                )
        # What is wrong with the arguments must show here: an error below would be taken for damage.
        matrices = {b: np.ascontiguousarray(v, dtype="<f4") for b, v in blocks.items()}
        now = int(time.time())

        def work(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                rows.write(connection, namespace, keys, matrices, now)
                connection.execute(
                    "UPDATE namespaces SET n_forward = n_forward + ?, "
                    "description = COALESCE(NULLIF(?, ''), description) WHERE digest = ?",
                    (n_forward, description, namespace),
                )

        self._database.write(work)

    def claims(self) -> Claims:
        """Claims on samples that are about to be computed, as a context."""
        return Claims(self._folder / "claims")

    def info(self) -> dict[str, Any]:
        """What is in the store.

        Returns
        -------
        dict
            "path"; "bytes" on disk; "samples", the number of distinct ones; "vectors";
            and "namespaces", a list of dicts with "namespace", "description", "n_forward"
            (images that ever went through the network for it), "samples", "vectors",
            "vector_bytes" and "last_stored" (seconds since 1970).
        """
        columns = (
            *("namespace", "description", "n_forward"),
            *("samples", "vectors", "vector_bytes", "last_stored"),
        )

        def work(connection: sqlite3.Connection) -> dict[str, Any]:
            # No checksum covers these columns: a damaged value is shown, of the right type.
            connection.text_factory = lambda text: text.decode(errors="replace")
            found = connection.execute(
                "SELECT CAST(n.digest AS TEXT), CAST(n.description AS TEXT), "
                "CAST(n.n_forward AS INTEGER), COUNT(DISTINCT v.sample), COUNT(v.sample), "
                "COALESCE(SUM(LENGTH(v.vector)), 0), "
                "MAX(CASE WHEN typeof(v.stored) = 'integer' THEN v.stored END) "
                "FROM namespaces n LEFT JOIN blocks b ON b.namespace = n.id "
                "LEFT JOIN vectors v ON v.block = b.id GROUP BY n.id ORDER BY n.id"
            ).fetchall()
            (samples,) = connection.execute("SELECT COUNT(DISTINCT sample) FROM vectors").fetchone()
            groups = [dict(zip(columns, row, strict=True)) for row in found]
            return {
                "path": str(self._folder),
                "bytes": self._bytes(),
                "samples": samples,
                "vectors": sum(group["vectors"] for group in groups),
                "namespaces": groups,
            }

        nothing = {"bytes": 0, "samples": 0, "vectors": 0, "namespaces": []}
        return self._database.read(work, {"path": str(self._folder), **nothing})

    def verify(self) -> tuple[int, int]:
        """Check every vector against its checksum, and remove those that fail.

        Returns
        -------
        checked, removed : int

        Raises
        ------
        sqlite3.DatabaseError
            There is damage, and it cannot be removed.
        """
        self._memory().clear()
        self._check_pages()
        checked = removed = self._database.read(rows.count_unnumbered, 0)
        if removed:
            self._remove(removed, rows.remove_unnumbered)
        last: rows.Row | None = (-(2**63), 0)
        while last is not None:  # in parts, so that writers get their turn
            nothing: tuple[int, list[rows.Row], rows.Row | None] = (0, [], None)
            n, damaged, last = self._database.read(partial(rows.check, last), nothing)
            checked += n
            if damaged:
                removed += self._remove(len(damaged), partial(rows.remove, damaged))
        return checked, removed

    def _check_pages(self) -> None:
        def work(connection: sqlite3.Connection) -> bool:
            if connection.execute("PRAGMA quick_check").fetchone() != ("ok",):
                raise DamagedError("PRAGMA quick_check failed")
            return True

        self._database.read(work, False)

    def _remove(self, n_damaged: int, work: Callable[[sqlite3.Connection], int]) -> int:
        try:
            return self._database.write(work)
        except (OSError, sqlite3.Error) as error:
            raise DamagedError(
                f"{n_damaged} or more vectors in {self._database.file} are damaged and cannot be "
                f"removed ({error})"
            ) from error

    def prune(self, *, max_bytes: int | None = None, older_than: float | None = None) -> int:
        """Remove vectors, the oldest first, and give their space back to the disk.

        Parameters
        ----------
        max_bytes : int or None, default=None
            Size in bytes that the store may keep on disk.
        older_than : float or None, default=None
            Age in seconds beyond which vectors go.

        Returns
        -------
        int
            Number of vectors removed.
        """
        if max_bytes is None and older_than is None:
            raise ValueError("prune needs max_bytes or older_than, got neither")
        for name, value in (("max_bytes", max_bytes), ("older_than", older_than)):
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must be at least 0, got {value!r}")
        self._memory().clear()
        removed = 0
        if not self.exists():
            return removed
        self._check_pages()  # a crafted file could have more rows than ever end
        if older_than is not None:
            removed += self._delete("stored < ?", time.time() - older_than)
        while max_bytes is not None and (size := self._bytes()) > max_bytes:
            kept = sum(group["vector_bytes"] for group in self.info()["namespaces"])
            gone = self._delete(
                "(block, sample) IN (SELECT block, sample FROM (SELECT block, sample, SUM("
                "LENGTH(vector)) OVER (ORDER BY stored DESC, sample DESC, block) AS kept "
                "FROM vectors) WHERE kept > ?)",
                _ROOM * kept * max_bytes / size,
            )
            removed += gone
            if not gone or self._bytes() >= size:  # only empty tables are left, or no room to work
                break
        return removed

    # --- the file -------------------------------------------------------------------------

    @property
    def _folder(self) -> Path:
        return Path(self.path).expanduser().absolute()

    @property
    def _database(self) -> Database:
        return Database(self._folder, "features-v1", rows.SCHEMA, page_size=_PAGE)

    def _memory(self) -> MemoryLayer:
        """The process's one memory layer of the folder: clones of an estimator share it."""
        with _LAYERS_LOCK:
            layer = _LAYERS.setdefault(self._folder, MemoryLayer(self.memory_bytes))
            layer.max_bytes = self.memory_bytes
            return layer

    def _bytes(self) -> int:
        return self._database.file.stat().st_size

    def _delete(self, condition: str, value: float) -> int:
        def work(connection: sqlite3.Connection) -> int:
            with transaction(connection):
                removed = connection.execute(
                    f"DELETE FROM vectors WHERE {condition}", (value,)
                ).rowcount
                connection.execute(
                    "DELETE FROM samples WHERE id NOT IN (SELECT sample FROM vectors)"
                )
            try:
                connection.execute("VACUUM")
            except sqlite3.OperationalError as error:
                warnings.warn(
                    f"{self!r} gives the room of removed vectors to new ones, not to the disk: "
                    f"compacting its file failed ({error})",
                    stacklevel=5,
                )
            return removed

        return self._database.write(work)


_LAYERS: dict[Path, MemoryLayer] = {}
_LAYERS_LOCK = threading.Lock()
