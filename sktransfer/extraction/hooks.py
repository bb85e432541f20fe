"""Read the inputs and outputs of a network's modules while it runs.

Hooks act only in the thread that set them: one network may serve several
estimators in several threads.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Tap:
    """A place in a network where activations are read: a module's output or input."""

    module: str
    side: str = "output"


@contextmanager
def hooked(module: nn.Module, taps: set[Tap], record: Callable[[Tap, Any], None]) -> Iterator[None]:
    """Call ``record(tap, value)`` for each tap during the block, in this thread only."""
    owner = threading.get_ident()

    def hook_of(tap: Tap) -> Any:
        # torch calls a pre-hook with (module, inputs, named inputs), a hook with (.., output).
        def hook(_: nn.Module, inputs: tuple[Any, ...], last: Any) -> None:
            if threading.get_ident() == owner:
                reads_output = tap.side == "output"
                record(tap, last if reads_output else next(iter([*inputs, *last.values()]), None))

        return hook

    handles = []
    for tap in taps:
        target = module.get_submodule(tap.module)
        if tap.side == "input":
            handles.append(target.register_forward_pre_hook(hook_of(tap), with_kwargs=True))
        else:
            handles.append(target.register_forward_hook(hook_of(tap)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
