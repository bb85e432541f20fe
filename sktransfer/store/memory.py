"""Vectors that a process has read from a store, so that a search reads the file once."""

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

_KEY_BYTES = 150  # what a key and its place in a dictionary take


class MemoryLayer:
    """Vectors by namespace, block and key; safe to use from threads.

    The least recently used blocks are dropped when there would be more than `max_bytes`.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._tables: OrderedDict[tuple[str, str], _Table] = OrderedDict()
        self._lock = threading.Lock()

    def get(
        self, namespace: str, block: str, keys: Sequence[bytes | None], out: np.ndarray
    ) -> np.ndarray:
        """Fill the rows of `out` whose key is here, and tell which."""
        with self._lock:
            table = self._tables.get((namespace, block))
            if table is None or table.vectors.shape[1] != out.shape[1]:
                return np.zeros(len(keys), dtype=bool)
            self._tables.move_to_end((namespace, block))
            rows = np.array([table.rows.get(key, -1) for key in keys], dtype=np.intp)
            found = rows >= 0
            if found.all():  # as in most transforms of a search; no copy lies between
                np.take(table.vectors, rows, axis=0, out=out)
            else:
                out[found] = table.vectors[rows[found]]
        return found

    def put(self, namespace: str, block: str, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Keep vectors, as far as there is room."""
        with self._lock:
            name = (namespace, block)
            table = self._tables.setdefault(name, _Table(vectors.shape[1]))
            self._tables.move_to_end(name)
            wanted = len(keys) * (vectors[:1].nbytes + _KEY_BYTES)
            while len(self._tables) > 1 and self._n_bytes() + wanted > self.max_bytes:
                self._tables.popitem(last=False)
            # A block that is larger than the bound keeps its first vectors, rather than
            # all of them in turn.
            if self._n_bytes() + wanted <= self.max_bytes:
                table.add(keys, vectors)

    def _n_bytes(self) -> int:
        return sum(t.vectors.nbytes + _KEY_BYTES * len(t.rows) for t in self._tables.values())

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._tables.clear()


class _Table:
    """A matrix that grows by doubling, and the row of each key."""

    def __init__(self, width: int) -> None:
        self.rows: dict[bytes | None, int] = {}
        self.vectors = np.empty((0, width), dtype=np.float32)

    def add(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        needed = len(self.rows) + len(keys)
        if needed > len(self.vectors):
            grown = np.empty((max(needed, 2 * len(self.vectors)), vectors.shape[1]), np.float32)
            grown[: len(self.rows)] = self.vectors[: len(self.rows)]
            self.vectors = grown
        rows = self.rows
        self.vectors[[rows.setdefault(key, len(rows)) for key in keys]] = vectors
