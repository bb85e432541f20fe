"""Files behind addresses such as https:// and s3://, through fsspec where it is installed."""

import re
import threading
from typing import Any

from sktransfer.exceptions import ImageReadError
from sktransfer.images.faults import ends_the_run

MAX_BYTES = 256 * 2**20
"""Larger files are refused: no more than this is ever fetched."""

MAX_SECONDS = 60.0
"""For one file, from the first byte asked for to the last one received."""

_CHUNK = 2**20

# Two letters or more before the colon: one letter is a drive of Windows. Addresses of fsspec may be
# chained, as in simplecache::s3://.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(?:::[A-Za-z][A-Za-z0-9+.-]+)*://")


def is_address(name: str) -> bool:
    """Whether a string is the address of a file, rather than its path."""
    return _ADDRESS.match(name) is not None


_INSTALL = '`pip install "sktransfer[remote]"`'


def fetch(address: str, *, max_bytes: int = MAX_BYTES, max_seconds: float = MAX_SECONDS) -> bytes:
    """Content of the file behind an address.

    Raises
    ------
    ImageReadError
        The file cannot be had, or it is too large or too slow.
    ImportError
        fsspec or the package it needs for the protocol is not installed.
    """
    try:
        import fsspec  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{address:.200} is an address, which is read through fsspec: run {_INSTALL}, or pass "
            "the path of a file"
        ) from error
    found: list[bytes] = []
    failures: list[Exception] = []

    def work() -> None:
        try:
            found.append(_read(address, max_bytes))
        except Exception as error:  # each file system has errors of its own
            failures.append(error)

    # A thread that hangs cannot be stopped, but it does not keep the process from ending.
    worker = threading.Thread(target=work, daemon=True, name="sktransfer-fetch")
    worker.start()
    worker.join(max_seconds)
    if found:
        return found[0]
    if not failures:
        raise ImageReadError(f"it was not received within {max_seconds:g} seconds")
    (failure,) = failures
    if isinstance(failure, ImportError):
        is_http = address.startswith(("http://", "https://"))
        cure = f"run {_INSTALL}" if is_http else "install the package that it names"
        raise ImportError(f"{address:.200} cannot be fetched ({failure}); {cure}") from failure
    if isinstance(failure, ImageReadError) or ends_the_run(failure):
        raise failure
    raise ImageReadError(f"it cannot be fetched ({type(failure).__name__}: {failure})") from failure


def _read(address: str, max_bytes: int) -> bytes:
    import fsspec

    content = bytearray()
    file: Any
    with fsspec.open(address, "rb") as file:
        while chunk := file.read(_CHUNK):
            content += chunk
            if len(content) > max_bytes:
                raise ImageReadError(f"it is larger than {max_bytes} bytes")
    return bytes(content)
