"""Some items of a sequence or a dataset, fetched on access."""

from collections.abc import Sequence
from typing import Any

import numpy as np


class Subset(Sequence[Any]):
    """The items at some positions, each of which is fetched when it is asked for."""

    def __init__(self, items: Any, positions: np.ndarray) -> None:
        self.items = items
        self.positions = positions

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, int | np.integer):
            return Subset(self.items, self.positions[index])
        return self.items[int(self.positions[index])]
