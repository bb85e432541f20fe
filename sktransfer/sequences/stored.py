"""Vectors through a feature store: look up what is there, compute the rest, and keep it.

What is kept of a sequence and a view does not depend on what was asked for: all poolings that
need no fitting are one vector, found again by any search over poolings; shares above
thresholds, which are learned from the training data, are another.
"""

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from sktransfer.images.stored import Drawer, warn_not_kept
from sktransfer.sequences.encoding import Encoder
from sktransfer.sequences.reading import Sequences
from sktransfer.sequences.vectors import Plan, vectors_of, width_of

_UNFITTED = ("last", "mean", "max", "min", "std")


def vectors_through(
    drawer: Drawer,
    encoder: Encoder,
    sequences: Sequences,
    plan: Plan,
    poolings: Sequence[str],
    thresholds: Sequence[Tensor],
    out: np.ndarray,
    progress: Callable[[int], object],
) -> int:
    """`vectors_of`, from the store as far as they are there.

    Returns
    -------
    int
        Sequences that went through the network.
    """
    keys = [_key(sequences, index) for index in range(len(sequences))]
    per_view = plan.n_groups // len(plan.views)
    computed = np.zeros(len(sequences), dtype=bool)
    for number, view in enumerate(plan.views):
        of_view = [t[number * per_view : (number + 1) * per_view] for t in thresholds]
        one = replace(plan, views=(view,))
        block = _Blocks(drawer, encoder, one, poolings, of_view)
        vectors, missing = block.get(keys)
        rows = np.flatnonzero(missing)
        progress((len(sequences) - len(rows)) * per_view)
        if len(rows):
            vectors[rows] = block.compute(sequences.take(rows), [keys[r] for r in rows], progress)
            computed[rows] = True
        out[:, number * per_view : (number + 1) * per_view] = vectors
    return int(computed.sum())


class _Blocks:
    """What is stored of one view: a vector of unfitted poolings, and one of shares."""

    def __init__(
        self,
        drawer: Drawer,
        encoder: Encoder,
        plan: Plan,
        poolings: Sequence[str],
        thresholds: Sequence[Tensor],
    ) -> None:
        self.drawer, self.encoder, self.plan = drawer, encoder, plan
        self.poolings = tuple(poolings)
        self.thresholds = thresholds
        self.units = [t.shape[2] for t in thresholds]
        self.stored: dict[str, tuple[str, ...]] = {"states": _UNFITTED}
        if "attention" in poolings:
            self.stored["attention"] = ("attention",)
        if "ppv" in poolings:
            self.stored["ppv"] = ("ppv",)
        view = plan.views[0]
        scale = plan.scales[view.factor]
        fitted = _digest(scale.mean, scale.std) if view.kind == "g" else ""
        if view.kind == "dg":
            fitted = _digest(scale.difference_std)
        above = _digest(*(t.cpu().numpy() for t in thresholds))
        self.names = {
            name: f"{view} {fitted}/{name}{above if name == 'ppv' else ''}" for name in self.stored
        }

    def get(self, keys: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """What is wanted of each sequence, and which of them are not all there."""
        found_parts = {}
        missing = np.zeros(len(keys), dtype=bool)
        for name, poolings in self.stored.items():
            if not set(poolings) & set(self.poolings):
                continue
            width = self.plan.n_groups * sum(self._widths(poolings))
            try:
                found_parts[name], found = self.drawer.store.get(
                    self.drawer.namespace, self.names[name], keys, width
                )
            except (OSError, sqlite3.Error) as error:
                warn_not_kept(self.drawer.store, "read", error)
                found_parts[name] = np.zeros((len(keys), width), dtype=np.float32)
                found = np.zeros(len(keys), dtype=bool)
            missing |= ~found
        return self._wanted(found_parts), missing

    def compute(
        self, sequences: Sequences, keys: list[bytes], progress: Callable[[int], object]
    ) -> np.ndarray:
        """Run the network, keep all that is usually asked for, and give what is wanted."""
        every = [pooling for poolings in self.stored.values() for pooling in poolings]
        shape = (len(keys), self.plan.n_groups, width_of(every, self.thresholds))
        vectors = np.empty(shape, dtype=np.float32)
        vectors_of(self.encoder, sequences, self.plan, every, self.thresholds, vectors, progress)
        # vectors_of orders columns by layer, then pooling; blocks are by name first.
        parts: dict[str, np.ndarray] = {}
        for name, poolings in self.stored.items():
            columns = self._columns(every, poolings)
            parts[name] = np.ascontiguousarray(vectors[:, :, columns]).reshape(len(keys), -1)
        try:
            self.drawer.store.put(
                self.drawer.namespace,
                keys,
                {self.names[name]: part for name, part in parts.items()},
                description=self.drawer.description,
                n_forward=len(keys),
            )
        except (OSError, sqlite3.Error) as error:
            warn_not_kept(self.drawer.store, "written", error)
        return self._wanted(parts)

    def _wanted(self, parts: dict[str, np.ndarray]) -> np.ndarray:
        """Columns by layer and pooling as asked for, out of blocks by layer and pooling."""
        pieces = []
        for layer in range(len(self.units)):
            for pooling in self.poolings:
                name = next(n for n, poolings in self.stored.items() if pooling in poolings)
                poolings = self.stored[name]
                part = parts[name]
                part = part.reshape(len(part), self.plan.n_groups, -1)
                start = sum(self._widths(poolings, range(layer)))
                start += sum(self._width(p, layer) for p in poolings[: poolings.index(pooling)])
                pieces.append(part[:, :, start : start + self._width(pooling, layer)])
        return np.concatenate(pieces, axis=2)

    def _columns(self, every: list[str], some: Sequence[str]) -> np.ndarray:
        """Where in vectors of `every` pooling those of `some` lie, by layer and pooling."""
        columns = []
        start = 0
        for layer in range(len(self.units)):
            for pooling in every:
                width = self._width(pooling, layer)
                if pooling in some:
                    columns.append(np.arange(start, start + width))
                start += width
        return np.concatenate(columns)

    def _width(self, pooling: str, layer: int) -> int:
        many = self.thresholds[layer].shape[1] if pooling == "ppv" else 1
        return many * self.units[layer]

    def _widths(self, poolings: Sequence[str], layers: Sequence[int] | None = None) -> list[int]:
        chosen = range(len(self.units)) if layers is None else layers
        return [self._width(pooling, layer) for layer in chosen for pooling in poolings]


def _key(sequences: Sequences, index: int) -> bytes:
    """Hash of a sequence: its numbers, as they are after gaps are filled."""
    values = np.ascontiguousarray(sequences.one(index))
    digest = hashlib.sha256(repr((values.dtype.str, values.shape)).encode())
    digest.update(values.tobytes())
    return digest.digest()


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr(array.shape).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:32]
