"""Allocation of large arrays, in memory or in a temporary file."""

import tempfile
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

_IN_MEMORY = 2 * 2**30
"""Largest array in bytes that is held in memory; larger ones are in a temporary file."""


def allocate(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """An uninitialised array: a memory map of a temporary file if it is large.

    The file is deleted with the array.
    """
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if n_bytes <= _IN_MEMORY:
        return np.empty(shape, dtype=dtype)
    folder = tempfile.TemporaryDirectory(prefix="sktransfer-", ignore_cleanup_errors=True)
    array = np.memmap(Path(folder.name) / "rows", dtype=dtype, mode="w+", shape=shape)
    weakref.finalize(array, folder.cleanup)
    return array
