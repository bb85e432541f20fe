"""Vectors of texts through a feature store: look up what is there, compute the rest, keep it.

What is kept does not depend on what was asked for: mean, class token and maximum of every stage,
so that the next layer or pooling of a search is found.
"""

import hashlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from sktransfer.images.stored import Drawer, warn_not_kept
from sktransfer.store.claims import Claims
from sktransfer.texts.tracing import POOLINGS, Engine, Read, Trace
from sktransfer.texts.vectors import Plan, in_lots, vectors_of

_LOT = 256
"""Texts that one worker claims, computes and stores at once."""

_TOKENS = "tokens"
"""Block of the length of each text, which says whether it was cut."""

_POLL_SECONDS = (0.05, 0.5)
"""First and longest wait for texts that others are computing."""


class Found(NamedTuple):
    """One matrix per read, tokens of each text, and how many texts went through the network."""

    matrices: list[np.ndarray]
    n_tokens: np.ndarray
    n_forward: int


def vectors_through(
    drawer: Drawer,
    engine_for: Callable[[tuple[Read, ...]], Engine],
    trace: Trace,
    reads: tuple[Read, ...],
    plan: Plan,
    texts: Sequence[str],
    progress: Callable[[int], object] = lambda n: None,
) -> Found:
    """`vectors_of`, from the store as far as they are there.

    Parameters
    ----------
    drawer : Drawer
    engine_for : callable
        Makes the engine for some reads; called only if something is missing.
    trace : Trace
    reads, plan, texts, progress
        As for `vectors_of`; no text twice.
    """
    run = _Run(drawer, engine_for, trace, reads, plan, texts, progress)
    run.look_up(np.arange(len(texts)))
    if len(run.missing):
        run.compute()
    return Found(run.matrices, run.n_tokens, run.n_forward)


def key_of(text: str) -> bytes:
    """What a text is known by."""
    return hashlib.sha256(b"text" + text.encode()).digest()


class _Run:
    """The state of one `vectors_through`."""

    def __init__(
        self,
        drawer: Drawer,
        engine_for: Callable[[tuple[Read, ...]], Engine],
        trace: Trace,
        reads: tuple[Read, ...],
        plan: Plan,
        texts: Sequence[str],
        progress: Callable[[int], object],
    ) -> None:
        self.drawer, self.engine_for, self.trace = drawer, engine_for, trace
        self.reads, self.plan, self.progress = reads, plan, progress
        self.texts = list(texts)
        self.keys = [key_of(text) for text in texts]
        self.missing = np.arange(len(texts))
        self.matrices = [
            np.empty((len(texts), trace.widths[read.layer]), dtype=np.float32) for read in reads
        ]
        self.n_tokens = np.zeros(len(texts), dtype=np.int64)
        self.n_forward = 0
        self.usable = True

    def look_up(self, texts: np.ndarray) -> None:
        """Fill the rows of those that are stored, and take them off the missing."""
        keys = [self.keys[i] for i in texts]
        layers = tuple(dict.fromkeys(read.layer for read in self.reads))
        there = np.ones(len(texts), dtype=bool)
        blocks: dict[str, np.ndarray] = {}
        for name in (*layers, _TOKENS):
            width = 1 if name == _TOKENS else len(self._kept(name)) * self.trace.widths[name]
            blocks[name], found = self._get(self._name(name), keys, width)
            there &= found
        self._fill(texts[there], {name: block[there] for name, block in blocks.items()})

    def compute(self) -> None:
        """Compute what is missing, sharing the work with whoever else is at it."""
        layers = self._layers_to_compute()
        reads = tuple(read for layer in layers for read in self._kept(layer))
        engine = self.engine_for(reads)
        scope = f"{self.drawer.namespace}:{'|'.join(layers)}"
        wait = _POLL_SECONDS[0]
        with self.drawer.store.claims() as claims:
            while len(self.missing):
                claimed = False
                lots = in_lots([self.texts[i] for i in self.missing], _LOT)
                for lot in [self.missing[some] for some in lots]:
                    claimed |= self._compute_lot(lot, claims, scope, engine, reads)
                if not len(self.missing):
                    break
                # The others hold the rest, or did when they were claimed.
                self.look_up(self.missing)
                if len(self.missing) and not claimed:
                    time.sleep(wait)
                    wait = min(2 * wait, _POLL_SECONDS[1])

    def _compute_lot(
        self, lot: np.ndarray, claims: Claims, scope: str, engine: Engine, reads: tuple[Read, ...]
    ) -> bool:
        """Compute those of some texts that nobody else is at; whether there were any."""
        number_of = {self.keys[i]: i for i in lot}
        taken = claims.take(scope, list(number_of), len(lot)) if self.usable else list(number_of)
        try:
            mine = np.array([number_of[key] for key in taken], dtype=np.intp)
            if not len(mine):
                return False
            # Someone may have stored them between our lookup and our claim.
            self.look_up(mine)
            mine = mine[np.isin(mine, self.missing)]
            if len(mine):
                some = [self.texts[i] for i in mine]
                matrices, n_tokens = vectors_of(engine, reads, self.plan, some)
                self.n_forward += len(mine)
                self._keep(mine, reads, matrices, n_tokens)
            return True
        finally:
            if self.usable:
                claims.release(scope, taken)

    def _keep(
        self,
        texts: np.ndarray,
        reads: tuple[Read, ...],
        matrices: list[np.ndarray],
        n_tokens: np.ndarray,
    ) -> None:
        blocks: dict[str, np.ndarray] = {_TOKENS: n_tokens[:, None].astype(np.float32)}
        for layer in dict.fromkeys(read.layer for read in reads):
            parts = [m for m, read in zip(matrices, reads, strict=True) if read.layer == layer]
            blocks[layer] = np.concatenate(parts, axis=1)
        if self.usable:
            try:
                self.drawer.store.put(
                    self.drawer.namespace,
                    [self.keys[i] for i in texts],
                    {self._name(name): block for name, block in blocks.items()},
                    description=self.drawer.description,
                    n_forward=len(texts),
                )
            except (OSError, sqlite3.Error) as error:
                self._give_up("written", error)
        self._fill(texts, blocks)

    def _fill(self, texts: np.ndarray, blocks: dict[str, np.ndarray]) -> None:
        for read, matrix in zip(self.reads, self.matrices, strict=True):
            width = self.trace.widths[read.layer]
            start = self._kept(read.layer).index(read) * width
            matrix[texts] = blocks[read.layer][:, start : start + width]
        self.n_tokens[texts] = blocks[_TOKENS][:, 0].astype(np.int64)
        self.missing = np.setdiff1d(self.missing, texts)
        self.progress(len(texts))

    def _kept(self, layer: str) -> tuple[Read, ...]:
        """What is stored of a layer as one vector."""
        return self.trace.reads((layer,), POOLINGS)

    def _name(self, layer: str) -> str:
        if layer == _TOKENS:
            return _TOKENS
        return f"{layer}/{'+'.join(read.pooling for read in self._kept(layer))}"

    def _layers_to_compute(self) -> tuple[str, ...]:
        """All stages and what is asked for; the latter alone once the stages are there."""
        asked = tuple(dict.fromkeys(read.layer for read in self.reads))
        special = tuple(layer for layer in asked if layer not in self.trace.stages)
        if special:
            keys = [self.keys[i] for i in self.missing]
            last = self.trace.stages[-1]
            width = len(self._kept(last)) * self.trace.widths[last]
            if self._get(self._name(last), keys, width)[1].all():
                return asked
        return (*self.trace.stages, *special)

    def _get(self, name: str, keys: list[bytes], width: int) -> tuple[np.ndarray, np.ndarray]:
        if self.usable:
            try:
                return self.drawer.store.get(self.drawer.namespace, name, keys, width)
            except (OSError, sqlite3.Error) as error:
                self._give_up("read", error)
        nothing = np.full((len(keys), width), np.nan, dtype=np.float32)
        return nothing, np.zeros(len(keys), dtype=bool)

    def _give_up(self, what: str, error: Exception) -> None:
        """Go on without the store: a search should not end because a disk is full."""
        self.usable = False
        warn_not_kept(self.drawer.store, what, error)
