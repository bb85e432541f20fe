"""Random numbers from a seed, without a change of global generators."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

BUILDING = threading.RLock()
"""Held while a network is built: torch's generators are global."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a seed, and leave torch's generators as they were.

    The generators are global: one thread at a time. ``torch.manual_seed`` would also
    seed GPUs that nobody has used yet.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    with BUILDING, torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        for device in devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def everything_seeded(seed: int) -> Iterator[None]:
    """`seeded`, and NumPy's global generator and Python's, too, for code of the user's own."""
    with seeded(seed):
        # The legacy generator of NumPy is the global one.
        of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)  # noqa: NPY002
