"""Learning rates over the steps of a training, relative to their height."""

import math
from collections.abc import Callable

_START = 1 / 25
_RISE = 0.3
_END = 1e-4
"""Of the start. These are the values of ``torch.optim.lr_scheduler.OneCycleLR``."""


def rate_over_steps(schedule: str, n_steps: int, n_warmup: int) -> Callable[[int], float]:
    """The factor of each step for "constant", "cosine" and "one-cycle".

    Parameters
    ----------
    schedule : {"constant", "cosine", "one-cycle"}
    n_steps : int
        Of the whole training.
    n_warmup : int
        Steps of a linear rise; "one-cycle" has its own.
    """

    def factor(step: int) -> float:
        if schedule == "one-cycle":
            return _one_cycle(step, n_steps)
        warm = min(1.0, (step + 1) / (n_warmup + 1))
        if schedule == "constant" or step < n_warmup:
            return warm
        done = (step - n_warmup) / max(1, n_steps - n_warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return factor


def _one_cycle(step: int, n_steps: int) -> float:
    top = _RISE * n_steps - 1
    if step <= top:
        return _between(_START, 1.0, step / top)
    last = n_steps - 1
    return _between(1.0, _START * _END, min(1.0, (step - top) / max(1e-9, last - top)))


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
