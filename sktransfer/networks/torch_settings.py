"""torch's own settings around everything that this package computes, and the caller's afterwards.

Autocast, grad mode, default dtype and device, and the precision of matrix products decide numbers,
and a caller may have set any of them for networks of other kinds. Features and trainings depend on
the parameters of their estimators alone.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

_DEVICE_TYPES = ("cpu", "cuda", "mps")

_BACKENDS = torch.backends
_PRECISIONS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    # From the general to the special: "none" is the setting of the level above.
    (_BACKENDS, ("none",)),
    (_BACKENDS.cudnn, ("none",)),
    (_BACKENDS.mkldnn, ("none",)),
    (_BACKENDS.cuda.matmul, ("ieee", "none")),
    (_BACKENDS.mkldnn.matmul, ("ieee", "none")),
    (_BACKENDS.mkldnn.conv, ("ieee", "none")),
    (_BACKENDS.mkldnn.rnn, ("ieee", "none")),
    (_BACKENDS.cudnn.conv, ("tf32",)),
    (_BACKENDS.cudnn.rnn, ("tf32",)),
)
"""Holders of `fp32_precision`, and the values that are as good as torch's own; the first is set."""


class _ProcessWide:
    """Settings of the process: the first that computes changes them, the last restores them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_computing = 0
        self._restore: list[Callable[[], object]] = []

    def __enter__(self) -> None:
        with self._lock:
            if not self._n_computing:
                self._change()
            self._n_computing += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_computing -= 1
            while not self._n_computing and self._restore:
                self._restore.pop()()

    def _change(self) -> None:
        dtype = torch.get_default_dtype()
        if dtype != torch.float32:
            self._later(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        try:
            products = torch.get_float32_matmul_precision()
        except RuntimeError:  # it has been set by `fp32_precision`
            products = "highest"
        if products != "highest":
            self._later(torch.set_float32_matmul_precision, products)
            torch.set_float32_matmul_precision("highest")
        for holder, usual in _PRECISIONS:
            precision = holder.fp32_precision
            if precision not in usual:
                self._later(setattr, holder, "fp32_precision", precision)
                holder.fp32_precision = usual[0]

    def _later(self, function: Callable[..., object], *arguments: Any) -> None:
        self._restore.append(lambda: function(*arguments))


_PROCESS_WIDE = _ProcessWide()


@contextmanager
def usual_settings() -> Iterator[None]:
    """Run the block, or the function that this decorates, under torch's own settings.

    Deterministic algorithms stay if the caller has asked for them: they compute the same, and it
    is a promise that trainings can be repeated.
    """
    with ExitStack() as changes:
        for kind in filter(torch.is_autocast_enabled, _DEVICE_TYPES):
            changes.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            changes.enter_context(torch.device("cpu"))
        changes.enter_context(torch.inference_mode(False))
        changes.enter_context(torch.enable_grad())
        changes.enter_context(_PROCESS_WIDE)
        yield
