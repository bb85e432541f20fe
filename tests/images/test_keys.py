"""What an image is stored under: its content."""

import os
import time

import numpy as np
import pytest
import torch
from PIL import Image

from sktransfer.images import keys
from sktransfer.images.keys import sample_of


def sample_key(item):
    sample = sample_of(item, max_pixels=10_000)
    return None if sample is None else sample.key


def test_arrays_are_known_by_type_shape_and_values():
    base = np.arange(12, dtype=np.uint8).reshape(3, 4)
    keys = [
        sample_key(item)
        for item in (
            base,
            base.reshape(4, 3),
            base.T.copy(),
            base.astype(np.int8),
            base.astype(float),
            base + 1,
        )
    ]
    assert len(set(keys)) == len(keys)
    same = [base.copy(), np.asfortranarray(base), torch.from_numpy(base), base.tolist()]
    assert [sample_key(item) == keys[0] for item in same] == [True, True, True, False]
    assert sample_key(base[:, ::-1][:, ::-1]) == keys[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.float64, bool])
def test_rows_of_an_array_have_the_keys_of_single_images(dtype, monkeypatch):
    monkeypatch.setattr(keys, "_MAX_ROW_BYTES", 50)
    array = np.random.RandomState(0).randint(0, 2, (30, 3, 4)).astype(dtype)
    array[7] = array[3]
    for X in (array, array[::-2], array[:, ::-1], array):
        assert [s.key for s in keys.samples_of_rows(X)] == [sample_key(x) for x in X]


def test_pictures_are_known_by_all_that_decides_their_pixels():
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    palette = grey.convert("P")
    other_palette = palette.copy()
    other_palette.putpalette([0, 128, 255] * 256)
    turned = grey.copy()
    turned.getexif()[0x0112] = 6
    transparent = palette.copy()
    transparent.info["transparency"] = 3
    pictures = [grey, palette, other_palette, turned, transparent, grey.convert("RGB")]
    keys = [sample_key(picture) for picture in pictures]
    assert len(set(keys)) == len(keys)
    assert sample_key(grey.copy()) == keys[0]


def test_files_are_known_by_content_not_by_name(tmp_path, colour):
    Image.fromarray(colour[0]).save(tmp_path / "a.png")
    (tmp_path / "b.bin").write_bytes((tmp_path / "a.png").read_bytes())
    Image.fromarray(colour[1]).save(tmp_path / "c.png")
    a, b, c = (sample_key(tmp_path / name) for name in ("a.png", "b.bin", "c.png"))
    assert a == b == sample_key(str(tmp_path / "a.png"))
    assert a != c


def test_a_file_that_changes_has_another_key_even_within_its_time_stamp(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"one")
    first = sample_key(path)
    stamp = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert sample_key(path) != first


def test_a_file_at_rest_is_hashed_once(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"content")
    monkeypatch.setattr(keys, "_SETTLED_SECONDS", 0.05)
    time.sleep(0.1)
    key = sample_key(path)
    hashed = []
    digest = keys.hashlib.file_digest
    monkeypatch.setattr(
        keys.hashlib, "file_digest", lambda *args: hashed.append(1) or digest(*args)
    )
    assert sample_key(path) == key
    assert not hashed
    path.write_bytes(b"changed")
    assert sample_key(path) != key
    assert hashed


def test_what_is_no_regular_file_or_too_large_a_picture_has_no_key(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    large = Image.new("L", (101, 100))
    for item in (tmp_path / "pipe", tmp_path / "empty", tmp_path, "/dev/zero", large):
        assert sample_key(item) is None


@pytest.mark.parametrize("item", [None, "absent.png", float("nan"), object(), "", np.array("x")])
def test_what_cannot_be_read_has_no_key(item):
    assert sample_key(item) is None
