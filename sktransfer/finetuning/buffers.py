"""Allocation of large arrays, in memory or in a temporary file."""

import errno
import math
import os
import tempfile
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

_IN_MEMORY = 2 * 2**30
"""Largest array in bytes that is held in memory; larger ones are in a temporary file."""

_PIECE = 2**24  # bytes written at once where space cannot be reserved


def allocate(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """An uninitialised array: a memory map of a temporary file if it is large.

    The file is deleted with the array.

    Raises
    ------
    OSError
        The temporary folder has too little space.
    """
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    if n_bytes <= _IN_MEMORY:
        return np.empty(shape, dtype=dtype)
    folder = tempfile.TemporaryDirectory(prefix="sktransfer-", ignore_cleanup_errors=True)
    file = Path(folder.name) / "rows"
    try:
        _reserve(file, n_bytes)
    except OSError as error:
        folder.cleanup()
        raise OSError(
            error.errno,
            f"{n_bytes / 1e9:,.1f} GB for activations do not fit into {Path(folder.name).parent} "
            f"({error.strerror or error}); make space, let the environment variable TMPDIR name "
            "another folder, fine-tune more layers, or give fewer rows or smaller inputs",
        ) from error
    array = np.memmap(file, dtype=dtype, mode="r+", shape=shape)
    weakref.finalize(array, folder.cleanup)
    return array


def _reserve(file: Path, n_bytes: int) -> None:
    """Make a file whose bytes have their place on the disk.

    A memory map of a file with holes kills the process when the disk is full.
    """
    with file.open("wb") as stream:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(stream.fileno(), 0, n_bytes)
                return
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
                    raise
        zeros = bytes(min(n_bytes, _PIECE))
        for start in range(0, n_bytes, _PIECE):
            stream.write(zeros[: n_bytes - start])
