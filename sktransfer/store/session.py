"""One run's access to a feature store, which goes on without the store when that fails."""

import hashlib
import sqlite3
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sktransfer.store.claims import Claims
from sktransfer.store.feature_store import FeatureStore


class Block(NamedTuple):
    """A vector that is stored of each sample, by its name and length."""

    name: str
    width: int


class StoreSession:
    """A feature store during one run.

    When the store cannot be read or written, the session warns, once, and from then on finds and
    keeps nothing: a search should not end because a disk is full.

    Parameters
    ----------
    cache : str, Path or FeatureStore
    decided_by : tuple
        All that decides the vectors but the sample; its ``repr`` tells one case from another.
    description : str
        Says the same for people.

    Attributes
    ----------
    namespace : str
        Hash of `decided_by`, under which the store keeps the vectors.
    works : bool
        Whether the store could be read and written so far.
    """

    def __init__(
        self,
        cache: str | Path | FeatureStore,
        decided_by: tuple[object, ...],
        description: str,
    ) -> None:
        self._store = cache if isinstance(cache, FeatureStore) else FeatureStore(cache)
        self._description = description
        self.namespace = hashlib.sha256(repr(decided_by).encode()).hexdigest()
        self.works = True

    def find(
        self, blocks: Sequence[Block], keys: Sequence[bytes | None]
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Vectors by the name of their block, one row per key, and which keys have all of them."""
        vectors: dict[str, np.ndarray] = {}
        complete = np.ones(len(keys), dtype=bool)
        for block in blocks:
            vectors[block.name], found = self._get(block, keys)
            complete &= found
        return vectors, complete

    def put(self, keys: Sequence[bytes], vectors: Mapping[str, np.ndarray]) -> None:
        """Store what was computed: one row per key in the matrix of each block."""
        if not self.works or not keys:
            return
        try:
            self._store.put(
                self.namespace, keys, vectors, description=self._description, n_forward=len(keys)
            )
        except (OSError, sqlite3.Error) as error:
            self._give_up("written", error)

    def claims(self) -> Claims:
        """Claims on samples that are about to be computed, as a context."""
        return self._store.claims()

    def _get(self, block: Block, keys: Sequence[bytes | None]) -> tuple[np.ndarray, np.ndarray]:
        if self.works:
            try:
                return self._store.get(self.namespace, block.name, keys, block.width)
            except (OSError, sqlite3.Error) as error:
                self._give_up("read", error)
        nothing = np.full((len(keys), block.width), np.nan, dtype=np.float32)
        return nothing, np.zeros(len(keys), dtype=bool)

    def _give_up(self, what: str, error: Exception) -> None:
        self.works = False
        warnings.warn(
            f"{self._store!r} cannot be {what} ({error}); the features are right, but they are "
            "not kept. Check the folder's permissions, free space and other users",
            stacklevel=3,
        )
