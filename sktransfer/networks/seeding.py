"""Random numbers from a seed, without a change of torch's generators."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

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
