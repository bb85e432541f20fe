"""Read the inputs and outputs of a network's modules while it runs.

Hooks act only in the thread that set them: one network may serve several
estimators in several threads.
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from torch import nn


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
def hooked(module: nn.Module, taps: set[Tap], record: Callable[[Tap, Any], None]) -> Iterator[None]:
    """Call ``record(tap, value)`` for each tap during the block, in this thread only."""
    owner = threading.get_ident()

    def hook_for(tap: Tap) -> Callable[..., None]:
        calls = itertools.count()

        # torch calls a pre-hook with (module, inputs, named inputs), a hook with (.., output).
        def hook(_: nn.Module, inputs: tuple[Any, ...], last: Any) -> None:
            if threading.get_ident() != owner or tap.call not in (None, next(calls)):
                return
            reads_output = tap.side == "output"
            record(tap, last if reads_output else next(iter([*inputs, *last.values()]), None))

        _OURS.add(hook)
        return hook

    handles = []
    for tap in taps:
        target = module.get_submodule(tap.module)
        if tap.side == "input":
            handles.append(target.register_forward_pre_hook(hook_for(tap), with_kwargs=True))
        else:
            handles.append(target.register_forward_hook(hook_for(tap)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
