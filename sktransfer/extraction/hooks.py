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

    def before(tap: Tap) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            if threading.get_ident() == owner:
                record(tap, next(iter([*inputs, *named.values()]), None))

        return hook

    def after(tap: Tap) -> Any:
        def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            if threading.get_ident() == owner:
                record(tap, output)

        return hook

    handles = []
    for tap in taps:
        target = module.get_submodule(tap.module)
        if tap.side == "input":
            handles.append(target.register_forward_pre_hook(before(tap), with_kwargs=True))
        else:
            handles.append(target.register_forward_hook(after(tap)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
