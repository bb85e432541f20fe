"""A transformer that other processes can import: its folder goes on their path."""

import os
from collections import Counter
from pathlib import Path

from sktransfer import PretrainedCNNFeatures


class Unpickled(PretrainedCNNFeatures):
    """Writes the number of the process to a file, each time it is unpickled."""

    def __setstate__(self, state):
        with open(os.environ["UNPICKLED_LOG"], "a") as log:
            log.write(f"{os.getpid()}\n")
        super().__setstate__(state)

    @staticmethod
    def by_process(log: Path) -> Counter:
        return Counter(map(int, log.read_text().split()))
