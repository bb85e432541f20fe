"""Files behind addresses, through fsspec's file systems that need no server."""

import io
import subprocess
import sys
import threading

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from sktransfer.exceptions import ImageReadError
from sktransfer.images.keys import sample_of
from sktransfer.images.pixels import ReadingOptions
from sktransfer.images.reading import read_image
from sktransfer.images.remote import fetch, is_address

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.fixture
def content():
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def address(content):
    with fsspec.open("memory://pictures/a.png", "wb") as file:
        file.write(content)
    yield "memory://pictures/a.png"
    fsspec.filesystem("memory").rm("/pictures", recursive=True)


def test_an_address_gives_the_pixels_and_the_key_of_the_file(address, content, tmp_path):
    found = read_image(address, ReadingOptions(10**6))
    assert np.array_equal(np.asarray(found), PIXELS)
    assert sample_of(address, 10**6).key == sample_of(content, 10**6).key
    (tmp_path / "a.png").write_bytes(content)
    assert fetch((tmp_path / "a.png").as_uri()) == content
    assert fetch(f"simplecache::{address}") == content


def test_paths_are_no_addresses():
    for path in ("a.png", "/a.png", r"C:\a.png", "C:/a.png", "a:b.png", "~/a.png", "a//b.png"):
        assert not is_address(path)
    for address in ("https://a/b", "s3://a/b", "gs://a", "simplecache::s3://a", "file:///a"):
        assert is_address(address)


def test_what_is_too_large_or_too_slow_is_refused(address, content, monkeypatch):
    with pytest.raises(ImageReadError, match="larger than 20 bytes"):
        fetch(address, max_bytes=20)
    assert fetch(address, max_bytes=len(content)) == content
    never = threading.Event()

    class Stuck(MemoryFileSystem):
        protocol = "stuck"

        def _open(self, *args, **kwargs):
            never.wait()

    fsspec.register_implementation("stuck", Stuck, clobber=True)
    with pytest.raises(ImageReadError, match=r"not received within 0\.05 seconds"):
        fetch("stuck://a", max_seconds=0.05)
    never.set()


def test_what_is_not_there_or_unknown_is_an_image_error():
    with pytest.raises(ImageReadError, match="cannot be fetched.*FileNotFoundError"):
        fetch("memory://not/there.png")
    with pytest.raises(ImageReadError, match="cannot be fetched.*Protocol not known"):
        fetch("nothing-of-the-kind://a.png")


def test_without_fsspec_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['fsspec'] = None\n"
        "from sktransfer.images.remote import fetch\n"
        "try: fetch('https://example.org/a.png')\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "sktransfer[remote]"' in done.stdout
