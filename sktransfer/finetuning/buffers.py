"""Arrays for all rows of X, in memory or in a temporary file."""

import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np

_IN_MEMORY = 2 * 2**30
"""Bytes of activations or pixels up to which they stay in memory; more lie in a temporary file."""


def roomy(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array in memory, or if it is large in a temporary file that goes with it."""
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if n_bytes <= _IN_MEMORY:
        return np.empty(shape, dtype=dtype)
    folder = tempfile.TemporaryDirectory(prefix="sktransfer-", ignore_cleanup_errors=True)
    array = np.memmap(Path(folder.name) / "rows", dtype=dtype, mode="w+", shape=shape)
    weakref.finalize(array, folder.cleanup)
    return array
