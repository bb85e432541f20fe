"""Read the inputs and outputs of a network's modules while it runs.

Hooks act only in the thread that set them: one network may serve several
estimators in several threads. None is set or removed while another thread runs the network, as
torch goes through the hooks of a module while it calls them.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from torch import nn
from torch.utils.hooks import RemovableHandle


@dataclass(frozen=True)
class Tap:
    """The input or output of a module, as a point where activations are read.

    Parameters
    ----------
    module : str
        Name of the module, as in ``named_modules()``.
    side : {"output", "input"}, default="output"
    call : int or None, default=None
        Which of the module's calls in one pass, counted from 0; None stands for every call.
    """

    module: str
    side: str = "output"
    call: int | None = None


_OURS: WeakSet[Callable[..., None]] = WeakSet()


def is_ours(hook: Any) -> bool:
    """Whether `hooked` has set a hook, which it is going to remove again."""
    try:
        return hook in _OURS
    except TypeError:  # a hook of somebody else that cannot be referred to weakly
        return False


def drop_hooks(module: nn.Module) -> None:
    """Remove from a copy the hooks that were on the original while it was copied."""
    for child in module.modules():
        for hooks in (child._forward_hooks, child._forward_pre_hooks):
            for number in [n for n, hook in hooks.items() if is_ours(hook)]:
                hooks.pop(number)
                child._forward_hooks_with_kwargs.pop(number, None)
                child._forward_pre_hooks_with_kwargs.pop(number, None)


@contextmanager
def hooked(
    module: nn.Module,
    taps: set[Tap],
    record: Callable[[Tap, Any], None],
    *,
    exclusive: bool = False,
) -> Iterator[None]:
    """Call ``record(tap, value)`` for each tap during the block, in this thread only.

    Other threads may run the network meanwhile if they read from the same taps; else they wait.

    Parameters
    ----------
    module : nn.Module
    taps : set of Tap
    record : callable
    exclusive : bool, default=False
        Let all other threads wait. A block within which this thread reads from other taps of the
        same network must be so: two of them could wait for each other.
    """
    use = _use_of(module)
    listener = _Listener(record)
    use.begin(module, taps, exclusive)
    use.hear(listener, taps)
    try:
        yield
    finally:
        use.forget(listener, taps)
        use.end(exclusive)


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Let no other thread run a network through `hooked` during the block, to copy or describe it.

    What it holds besides is not looked after: networks are frozen.
    """
    with hooked(module, set(), lambda tap, value: None, exclusive=True):
        yield


class _Listener:
    """The receiver of one block, with how often the module of each tap has run in it."""

    def __init__(self, record: Callable[[Tap, Any], None]) -> None:
        self._record = record
        self._calls: Counter[Tap] = Counter()

    def hear(self, tap: Tap, value: Any) -> None:
        call = self._calls[tap]
        self._calls[tap] += 1
        if tap.call in (None, call):
            self._record(tap, value)


class _Use:
    """The threads that run a network, and the hooks that are on it meanwhile."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._blocks: Counter[int] = Counter()  # open blocks of each thread
        self._n_exclusive = 0
        self._n_waiting = 0
        self._hooks: dict[Tap, RemovableHandle] = {}
        self._listeners: dict[tuple[int, Tap], list[_Listener]] = {}

    def begin(self, module: nn.Module, taps: set[Tap], exclusive: bool) -> None:
        """Open a block: at once if no other thread is inside or all hooks are there already."""
        thread = threading.get_ident()
        with self._changed:
            if not self._may_begin(thread, taps, exclusive):
                self._n_waiting += 1
                try:
                    self._changed.wait_for(lambda: not self._occupied(thread))
                finally:
                    self._n_waiting -= 1
            self._blocks[thread] += 1
            self._n_exclusive += exclusive
            try:
                for tap in taps - self._hooks.keys():
                    self._hooks[tap] = self._set(module, tap)
            except BaseException:
                self.end(exclusive)
                raise

    def end(self, exclusive: bool) -> None:
        """Close a block; the last one takes the hooks with it."""
        thread = threading.get_ident()
        with self._changed:
            self._n_exclusive -= exclusive
            self._blocks[thread] -= 1
            if not self._blocks[thread]:
                del self._blocks[thread]
            if not self._blocks:
                while self._hooks:
                    self._hooks.popitem()[1].remove()
            self._changed.notify_all()

    def hear(self, listener: _Listener, taps: set[Tap]) -> None:
        """Tell a listener what this thread's passes put out at some taps."""
        thread = threading.get_ident()
        for tap in taps:
            self._listeners.setdefault((thread, tap), []).append(listener)

    def forget(self, listener: _Listener, taps: set[Tap]) -> None:
        """Tell it no more."""
        thread = threading.get_ident()
        for tap in taps:
            listening = self._listeners[thread, tap]
            listening.remove(listener)
            if not listening:
                del self._listeners[thread, tap]

    def _may_begin(self, thread: int, taps: set[Tap], exclusive: bool) -> bool:
        """Whether a block disturbs no other; the lock is held."""
        if not self._occupied(thread):
            return True
        if exclusive or self._n_exclusive or not taps <= self._hooks.keys():
            return False
        # Those who wait for all others to leave would wait for ever if more came in.
        return not self._n_waiting or thread in self._blocks

    def _occupied(self, thread: int) -> bool:
        return any(other != thread for other in self._blocks)

    def _set(self, module: nn.Module, tap: Tap) -> RemovableHandle:
        target = module.get_submodule(tap.module)
        listeners = self._listeners
        reads_output = tap.side == "output"

        # torch calls a pre-hook with (module, inputs, named inputs), a hook with (.., output).
        def hook(_: nn.Module, inputs: tuple[Any, ...], last: Any) -> None:
            heard = listeners.get((threading.get_ident(), tap))
            if heard is None:
                return
            # The first input may be given by position or by name.
            value = last if reads_output else next(iter([*inputs, *last.values()]), None)
            for listener in tuple(heard):
                listener.hear(tap, value)

        _OURS.add(hook)
        if reads_output:
            return target.register_forward_hook(hook)
        return target.register_forward_pre_hook(hook, with_kwargs=True)


_USES: WeakKeyDictionary[nn.Module, _Use] = WeakKeyDictionary()
_LOCK = threading.Lock()


def _use_of(module: nn.Module) -> _Use:
    with _LOCK:
        return _USES.setdefault(module, _Use())
