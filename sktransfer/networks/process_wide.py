"""Settings of the whole process, changed while some of its threads need it."""

import threading
from collections.abc import Callable
from contextlib import ExitStack


class ProcessWide:
    """A change that the first thread to enter makes, and the last one to leave undoes.

    If each thread restored what it had found, the first to leave would take the change from the
    others, and the last would leave it behind.

    Parameters
    ----------
    change : callable
        Makes the change, and registers what undoes it with the stack that it is given.
    """

    def __init__(self, change: Callable[[ExitStack], object]) -> None:
        self._change = change
        self._lock = threading.Lock()
        self._n_inside = 0
        self._undo = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._n_inside:
                with ExitStack() as undo:  # a change that fails half-way is undone
                    self._change(undo)
                    self._undo = undo.pop_all()
            self._n_inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_inside -= 1
            if not self._n_inside:
                self._undo.close()
