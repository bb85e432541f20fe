"""A network that other processes can import: its folder goes on their path."""

import os
import time
from pathlib import Path

from torch import Tensor, nn


class Counted(nn.Module):
    """Writes the size of each batch to a file, blank probes aside, and may take its time.

    Each size follows the number of the process that had the batch.

    Parameters
    ----------
    log : str, default=None
        Path of the file; by default that in the environment variable COUNTED_LOG.
    """

    def __init__(self, log: str | None = None) -> None:
        super().__init__()
        self.log = log
        self.first = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(5, 7, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        if x.any():
            with open(self.log or os.environ["COUNTED_LOG"], "a") as log:
                log.write(f"{os.getpid()} {len(x)}\n")
            time.sleep(float(os.environ.get("COUNTED_SECONDS", 0)))
        return self.head(self.second(self.first(x)).mean((2, 3)))

    @staticmethod
    def images_seen(log: Path, process: int | None = None) -> int:
        """How many images went through, in one process or in all."""
        lines = log.read_text().splitlines() if log.exists() else []
        batches = [tuple(map(int, line.split())) for line in lines]
        return sum(size for number, size in batches if process in (None, number))
