"""What the calls of a fitted transformer leave behind, beside what it has learned."""

import threading
from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """What a call has to say of its rows."""

    errors: list[Any]
    n_truncated: int


class Calls:
    """Counts over all calls, and the outcome of the last one.

    No part of a transformer's pickle, which would change with every call, and with it the key under
    which caches find the transformer. Threads share the counts; each sees the outcome of its own
    last call, or as long as it has made none of anybody's.

    Attributes
    ----------
    engine : str or None
        What runs the network instead of the engine that was settled in `fit`.
    """

    engine: str | None = None

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_forward = 0
        self._latest = Outcome([], 0)
        self._own = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return Calls, ()

    @property
    def n_forward(self) -> int:
        """Number of samples that have gone through the network."""
        return self._n_forward

    def count(self, n_forward: int) -> None:
        """Add samples that have gone through the network."""
        with self._lock:
            self._n_forward += n_forward

    @property
    def outcome(self) -> Outcome:
        """The outcome of the last call."""
        own: Outcome = getattr(self._own, "outcome", self._latest)
        return own

    def note(self, **values: Any) -> None:
        """Note parts of the outcome of a call of this thread."""
        self._latest = self._own.outcome = self.outcome._replace(**values)
