"""Large arrays lie in files whose space is reserved."""

import gc
import os
import tempfile

import numpy as np
import pytest

from sktransfer.finetuning import buffers
from sktransfer.finetuning.buffers import allocate

resource = pytest.importorskip("resource", reason="limits of the size of files are of Unix")


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """The temporary folder, in which all arrays of more than 1 kB are files."""
    monkeypatch.setattr(buffers, "_IN_MEMORY", 1000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("reserves", [True, False])
def test_a_large_array_has_its_place_on_the_disk_before_it_is_filled(reserves, folder, monkeypatch):
    if not reserves:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    array = allocate((1000, 300), np.float32)
    (file,) = folder.glob("*/*")
    assert file.stat().st_size == array.nbytes == 1_200_000
    assert file.stat().st_blocks * 512 >= array.nbytes
    array[:] = np.arange(300)
    assert array.sum() == 1000 * 299 * 150
    del array
    gc.collect()
    assert not [*folder.iterdir()]


@pytest.mark.parametrize("reserves", [True, False])
def test_too_little_space_is_an_error_with_its_cure_and_leaves_nothing(
    reserves, folder, monkeypatch
):
    if not reserves:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(OSError, match=r"0\.1 GB for activations do not fit into .*TMPDIR"):
            allocate((100, 250_000), np.float32)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [*folder.iterdir()]


def test_small_arrays_stay_in_memory(folder):
    assert not isinstance(allocate((10, 20), np.float32), np.memmap)
    assert not [*folder.iterdir()]
