"""Batches of rows that are neighbours in length, as large as suits the machine."""

from collections.abc import Iterator

import numpy as np

_STEPS_PER_ROW = 128
"""Length at which a batch holds `batch_size` rows; of shorter ones it holds more."""


def batches_by_length(
    lengths: np.ndarray, batch_size: int, *, equal: bool = False
) -> Iterator[np.ndarray]:
    """Split rows into batches in the order of their lengths.

    Sorted, a batch of unequal lengths is nearly free of padding.

    Parameters
    ----------
    lengths : ndarray of shape (n,)
    batch_size : int
        Rows of 128 steps. Of shorter rows a batch holds as many more as give the same number
        of steps, of longer ones fewer, but at least a quarter as many: a recurrent network does one
        step of all rows at once, and few rows do not fill its matrix product.
    equal : bool, default=False
        Only rows of the same length run together.

    Yields
    ------
    ndarray of int
        Rows of one batch, the longest last.
    """
    order = np.argsort(lengths, kind="stable")
    ordered = lengths[order]
    # So many rows may a batch have whose longest row is this one.
    allowed = np.maximum(batch_size * _STEPS_PER_ROW // ordered, (batch_size + 3) // 4)
    start = 0
    while start < len(order):
        most = start + int(allowed[start])
        if equal:
            most = min(most, int(np.searchsorted(ordered, ordered[start], side="right")))
        # Further on rows are longer, and fewer are allowed.
        fits = np.arange(1, len(ordered[start:most]) + 1) <= allowed[start:most]
        stop = start + max(1, int(fits.sum()))
        yield order[start:stop]
        start = stop
