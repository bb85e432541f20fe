"""Learning rate schedules, as factors of the peak rate for each step."""

import math
from collections.abc import Callable

# The defaults of torch.optim.lr_scheduler.OneCycleLR.
_START = 1 / 25
_RISE = 0.3
_END = 1e-4
"""Factor of the last step, relative to the first."""


def rate_over_steps(schedule: str, n_steps: int, n_warmup: int) -> Callable[[int], float]:
    """A function of the step that returns its factor; "one-cycle" ignores `n_warmup`."""

    def factor(step: int) -> float:
        if schedule == "one-cycle":
            return _one_cycle(step, n_steps)
        # Not from 0: a first step at rate 0 would be wasted.
        warm = min(1.0, (step + 1) / (n_warmup + 1))
        if schedule == "constant" or step < n_warmup:
            return warm
        done = (step - n_warmup) / max(1, n_steps - n_warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return factor


def _one_cycle(step: int, n_steps: int) -> float:
    top = _RISE * n_steps - 1
    if step <= top:
        return _cosine_between(_START, 1.0, step / top)
    last = n_steps - 1
    return _cosine_between(1.0, _START * _END, min(1.0, (step - top) / max(1e-9, last - top)))


def _cosine_between(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
