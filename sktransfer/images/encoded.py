"""Image files in the forms in which people have them: paths, bytes, open files, addresses.

An item of X is one of these:

- a path, in which ``~`` is the home folder;
- the content of a file: ``bytes``, ``bytearray``, a one-dimensional ``memoryview``, or a data URI;
- a binary file open for reading, or an `io.BytesIO`; all of it is read, and its position restored;
- a mapping with "bytes" or "path", as Hugging Face's datasets store images;
- an address such as ``https://...`` or ``s3://...``, see `sktransfer.images.remote`;
- a scalar of Arrow that holds one of the others.
"""

import base64
import binascii
import io
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np

from sktransfer.exceptions import ImageReadError
from sktransfer.images.remote import fetch, is_address

_DATA = re.compile(r"data:[\w.+-]*(?:/[\w.+-]+)?(?P<options>(?:;[^,;]*)*),", re.ASCII)

# How much of a data URI names it in messages.
_SHOWN = 40

# One file may stand in X twice, or be read for its key while another thread decodes it.
_READING = threading.Lock()


def encoded_in(item: Any) -> Path | bytes | None:
    """The image file that an item is: its path, or its content; None if it is something else.

    Raises
    ------
    ImageReadError
        It should be a file, but cannot be had.
    """
    if isinstance(item, np.ndarray):  # the one kind of which there may be very many, and small
        return None
    item = unwrapped(item)
    if isinstance(item, str | os.PathLike):
        return _named(os.fsdecode(item))
    if isinstance(item, bytes | bytearray):
        return bytes(item)
    if isinstance(item, memoryview):
        return item.tobytes() if item.ndim == 1 and item.format in ("B", "b", "c") else None
    return _content(item) if callable(getattr(item, "read", None)) else None


def unwrapped(item: Any) -> Any:
    """What is in a scalar of Arrow, or in a row of bytes and path; other items as they are."""
    if callable(getattr(item, "as_py", None)):
        item = item.as_py()
    if isinstance(item, Mapping) and ("bytes" in item or "path" in item):
        content = item.get("bytes")
        return item.get("path") if content is None else content
    return item


def name_in(item: Any) -> str | None:
    """Path or address of an item, if it has one, for messages."""
    if isinstance(item, Mapping):
        item = item.get("path")
    elif callable(getattr(item, "read", None)):
        item = getattr(item, "name", None)
    if not isinstance(item, str | os.PathLike):
        return None
    name = os.fsdecode(item)
    return f"{name[:_SHOWN]}..." if _DATA.match(name) else name


def is_fetched(item: Any) -> bool:
    """Whether an item is an address, so that its content may be another one the next time."""
    item = unwrapped(item)
    return isinstance(item, str) and is_address(item)


def _named(name: str) -> Path | bytes:
    if not name:
        raise ImageReadError("its path is empty")
    data = _DATA.match(name)
    if data is not None:
        return _of_data_uri(name[data.end() :], data["options"])
    return fetch(name) if is_address(name) else Path(os.path.expanduser(name))


def _of_data_uri(text: str, options: str) -> bytes:
    content = unquote_to_bytes(text)
    if not options.lower().endswith(";base64"):
        return content
    try:
        return base64.b64decode(b"".join(content.split()), validate=True)
    except binascii.Error as error:
        raise ImageReadError(f"its data URI is not valid base64 ({error})") from error


def _content(file: Any) -> bytes:
    """All of an open file, which is left open and where it was."""
    if isinstance(file, io.TextIOBase):
        raise ImageReadError("it is a file opened as text; open it with mode 'rb'")
    if getattr(file, "closed", False):
        raise ImageReadError("it is a file that has been closed; pass its path, or its bytes")
    try:
        with _READING:
            position = file.tell()
            file.seek(0)
            content = file.read()
            file.seek(position)
    except (OSError, AttributeError) as error:
        raise ImageReadError(
            f"it is a {type(file).__name__} that cannot be read from its beginning ({error}); pass "
            "its bytes"
        ) from error
    if not isinstance(content, bytes):
        raise ImageReadError("it is a file that gives no bytes; open it with mode 'rb'")
    return content
