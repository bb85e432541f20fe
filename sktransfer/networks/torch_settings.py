"""torch's own settings around everything that this package computes, and the caller's afterwards.

Autocast, grad mode, default dtype and device, and the precision of matrix products decide numbers,
and a caller may have set any of them for networks of other kinds. Features and trainings depend on
the parameters of their estimators alone.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from sktransfer.networks.process_wide import ProcessWide

_DEVICE_TYPES = ("cpu", "cuda", "mps")

_BACKENDS: Any = torch.backends
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


def _use_usual_numbers(undo: ExitStack) -> None:
    dtype = torch.get_default_dtype()
    if dtype != torch.float32:
        undo.callback(torch.set_default_dtype, dtype)
        torch.set_default_dtype(torch.float32)
    try:
        products = torch.get_float32_matmul_precision()
    except RuntimeError:  # it has been set by `fp32_precision`
        products = "highest"
    if products != "highest":
        undo.callback(torch.set_float32_matmul_precision, products)
        torch.set_float32_matmul_precision("highest")
    for holder, usual in _PRECISIONS:
        precision = holder.fp32_precision
        if precision not in usual:
            undo.callback(setattr, holder, "fp32_precision", precision)
            holder.fp32_precision = usual[0]


_USUAL_NUMBERS = ProcessWide(_use_usual_numbers)


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
        # What is made in inference mode can never be trained; passes of our own ask for it again.
        changes.enter_context(torch.inference_mode(False))
        changes.enter_context(torch.enable_grad())
        changes.enter_context(_USUAL_NUMBERS)
        yield
