"""Keys under which images are stored: hashes of their content, never of their names or folders."""

import hashlib
import os
import stat
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
from PIL import Image

from sktransfer.images.decoding import LOADING, is_read_anew, raw_orientation
from sktransfer.images.encoded import encoded_in, unwrapped
from sktransfer.images.faults import ends_the_run
from sktransfer.images.reading import item_to_array
from sktransfer.images.runner import fetch

# A file changed twice within its time stamp's resolution would look unchanged.
_SETTLED_SECONDS = 2.0
_N_REMEMBERED_FILES = 1_000_000

_LARGE = 16_384
"""Bytes from which hashing an array costs more than handing it to a thread."""

FileState = tuple[int, int, int, int]


class Sample(NamedTuple):
    """An item's key, and for a file its state before it was hashed, and its path."""

    key: bytes
    state: FileState | None = None
    path: str | None = None


def sample_of(item: Any, max_pixels: int) -> Sample | None:
    """SHA-256 of the content of an item of X; None if it is missing or cannot be read.

    That of a file are its bytes, of an image its mode, size, pixels, palette, transparency and
    orientation, of an array its dtype, shape and values. Larger Pillow images are not decoded.
    """
    try:
        encoded = encoded_in(item)
        if isinstance(encoded, Path):
            return _file(encoded)
        if encoded is not None:
            return Sample(_file_key(encoded, hashlib.sha256(encoded).digest()))
        item = unwrapped(item)
        if isinstance(item, Image.Image):
            if item.width * item.height > max_pixels:
                return None
            return Sample(_image_key(item))
        array = item_to_array(item)
    except Exception as error:  # reading it will tell what is wrong
        if ends_the_run(error):
            raise
        return None
    if array.dtype.kind not in "buif" or array.ndim == 0:
        return None
    return Sample(_sha256(("array", array.dtype.str, array.shape), np.ascontiguousarray(array)))


def file_state(path: str | os.PathLike[str]) -> FileState | None:
    """Inode, size and times of a regular file; None if it is missing, empty or something else."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def samples_of(items: Any, max_pixels: int) -> list[Sample | None]:
    """`sample_of` all items, of which there is at least one: in threads if they are large."""
    is_plain = isinstance(items, np.ndarray) and not np.ma.is_masked(items)
    if is_plain and items.dtype.kind in "buif" and items[0].nbytes < _LARGE:
        return list(samples_of_rows(items))

    def sample(index: int) -> Sample | None:
        return sample_of(fetch(items, index), max_pixels)

    if getattr(items[0], "nbytes", _LARGE) < _LARGE:
        return [sample(index) for index in range(len(items))]
    with ThreadPoolExecutor(joblib.cpu_count()) as pool:
        return list(pool.map(sample, range(len(items))))


_MAX_ROW_BYTES = 64_000_000
_ROWS: dict[tuple[str, tuple[int, ...]], dict[bytes, Sample]] = {}

_FILES: OrderedDict[str, Sample] = OrderedDict()


def _file(path: Path) -> Sample | None:
    """Hash a file, or remember its hash as long as its inode, size and times stay the same."""
    state = file_state(path)
    if state is None:
        return None
    name = os.path.abspath(path)
    known = _FILES.get(name)
    if known is not None and known.state == state:
        return known
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    sample = Sample(_file_key(path, digest.digest()), state, name)
    if time.time() - state[3] / 1e9 > _SETTLED_SECONDS and file_state(path) == state:
        _FILES[name] = sample
        if len(_FILES) > _N_REMEMBERED_FILES:
            _FILES.popitem(last=False)
    return sample


def _file_key(source: Path | bytes, digest: bytes) -> bytes:
    """Key of a file by the hash of its content, the same for a path and for its bytes."""
    kind = b"file read anew" if is_read_anew(source) else b"file"
    return hashlib.sha256(kind + digest).digest()


def _image_key(image: Image.Image) -> bytes:
    with LOADING:  # of the file it was opened from
        image.load()
    pixels = image.tobytes()
    palette = image.palette.tobytes() if image.palette is not None else b""
    kind = (
        "image",
        image.mode,
        image.size,
        raw_orientation(image),
        image.info.get("transparency"),
        image.palette.mode if image.palette is not None else None,
        hashlib.sha256(palette).hexdigest(),
        *(("read anew",) if is_read_anew(image) else ()),
    )
    return _sha256(kind, pixels)


def samples_of_rows(array: np.ndarray) -> list[Sample]:
    """`sample_of` each row of an array of small images, remembered by their bytes.

    A search asks for the same images hundreds of times, in other arrays each time; looking
    up the bytes of a small one is several times faster than hashing them.
    """
    known = _ROWS.setdefault((array.dtype.str, array.shape[1:]), {})
    rows = np.ascontiguousarray(array).reshape(len(array), -1)
    n_bytes = rows.shape[1] * rows.itemsize
    values: list[bytes] = rows.view(f"V{n_bytes}").ravel().tolist()
    samples = []
    for i, value in enumerate(values):
        sample = known.get(value)
        if sample is None:
            if len(known) * n_bytes > _MAX_ROW_BYTES:
                known.clear()
            kind = ("array", array.dtype.str, array.shape[1:])
            sample = known[value] = Sample(_sha256(kind, values[i]))
        samples.append(sample)
    return samples


def _sha256(kind: tuple[Any, ...], data: Any) -> bytes:
    digest = hashlib.sha256(repr(kind).encode())
    digest.update(data)
    return digest.digest()
