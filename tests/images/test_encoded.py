"""Image files in memory, open, in rows of data sets and in data URIs."""

import base64
import io
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from sktransfer.exceptions import ImageReadError
from sktransfer.images.encoded import encoded_in, name_in
from sktransfer.images.keys import sample_of
from sktransfer.images.pixels import ReadingOptions
from sktransfer.images.reading import read_image

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def read(item):
    return np.asarray(read_image(item, ReadingOptions(10**6)))


@pytest.fixture
def path(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def forms(path):
    data = path.read_bytes()
    encoded = base64.b64encode(data).decode()
    return {
        "path": path,
        "text": str(path),
        "bytes": data,
        "bytearray": bytearray(data),
        "memoryview": memoryview(data),
        "BytesIO": io.BytesIO(data),
        "row of bytes": {"bytes": data, "path": None},
        "row of bytes and a path": {"bytes": data, "path": "not/there.png"},
        "row of a path": {"bytes": None, "path": str(path)},
        "data URI": f"data:image/png;base64,{encoded}",
        "data URI with options": f"data:image/png;name=a.png;base64,{encoded}",
        "data URI in lines": f"data:image/png;base64,{encoded[:40]}\n{encoded[40:]}",
        "percent-encoded data URI": "data:image/png," + "".join(f"%{byte:02x}" for byte in data),
        "Arrow binary": pa.scalar(data),
        "Arrow path": pa.scalar(str(path)),
        "Arrow row": pa.scalar({"bytes": data, "path": None}),
        "numpy bytes": np.bytes_(data),
    }


def test_every_form_of_a_file_gives_its_pixels_and_its_key(path):
    expected = sample_of(path, 10**6).key
    for name, item in forms(path).items():
        assert np.array_equal(read(item), PIXELS), name
        assert sample_of(item, 10**6).key == expected, name


def test_open_files_stay_open_and_where_they_are(path):
    with path.open("rb") as file, tempfile.SpooledTemporaryFile() as spooled:
        spooled.write(path.read_bytes())  # at its end now
        buffer = io.BytesIO(path.read_bytes())
        buffer.seek(3)
        for each, position in ((file, 0), (buffer, 3), (spooled, spooled.tell())):
            for _ in range(2):
                assert np.array_equal(read(each), PIXELS)
                assert not each.closed
                assert each.tell() == position
        assert file.read() == path.read_bytes()


def test_an_open_file_can_stand_in_many_rows_and_threads(path):
    with path.open("rb") as file, ThreadPoolExecutor(8) as pool:
        assert all(np.array_equal(each, PIXELS) for each in pool.map(read, [file] * 64))


def test_a_path_may_begin_with_the_home_folder(path, monkeypatch):
    monkeypatch.setenv("HOME", str(path.parent))
    monkeypatch.setenv("USERPROFILE", str(path.parent))
    for item in ("~/a.png", Path("~/a.png"), {"bytes": None, "path": "~/a.png"}):
        assert np.array_equal(read(item), PIXELS)
    assert name_in("~/a.png") == "~/a.png"


def test_what_cannot_be_read_twice_or_is_no_bytes_says_so(path):
    closed = path.open("rb")
    closed.close()
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe, path.open(encoding="latin-1") as text:
        os.close(writing)
        for item, message in (
            (text, "opened as text; open it with mode 'rb'"),
            (io.StringIO("a"), "opened as text"),
            (closed, "has been closed"),
            (pipe, "cannot be read from its beginning"),
            ("data:image/png;base64,a", "not valid base64"),
            (b"", r"the file is empty \(0 bytes\)"),
            ("", "path is empty"),
            ({"bytes": None, "path": None}, "it is missing"),
            (pa.scalar(None, pa.binary()), "it is missing"),
        ):
            with pytest.raises(ImageReadError, match=message):
                read(item)


def test_a_view_of_pixels_is_no_file():
    assert np.array_equal(read(memoryview(PIXELS)), PIXELS)
    assert encoded_in(memoryview(PIXELS)) is None
    assert encoded_in(PIXELS) is None
    assert encoded_in(Image.fromarray(PIXELS)) is None


def test_messages_name_files_and_not_their_content(path):
    data = "data:image/png;base64," + "A" * 1000
    assert name_in(data) == data[:40] + "..."
    assert name_in(path) == str(path)
    assert name_in({"bytes": b"...", "path": "a.png"}) == "a.png"
    assert name_in(b"...") is None
    with path.open("rb") as file:
        assert name_in(file) == str(path)
