"""A folder as paths and labels."""

import os
from itertools import pairwise
from pathlib import Path

import pytest

from sktransfer.datasets import list_images
from sktransfer.datasets.folder import SUFFIXES, scan_folder


def test_classes_are_the_first_subfolders(tmp_path):
    for name in ["b/2.PNG", "a/deep/er/1.jpeg", "a/0.jpg", "top.gif", "b/notes.txt", ".git/x.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.warns(UserWarning, match="1 file without the suffix.*1 .txt.*notes.txt"):
        paths, labels = list_images(tmp_path)
    assert [Path(path).relative_to(tmp_path).as_posix() for path in paths] == [
        "a/0.jpg",
        "a/deep/er/1.jpeg",
        "b/2.PNG",
        "top.gif",
    ]
    assert labels.tolist() == ["a", "a", "b", ""]


def test_linked_class_folders_are_followed_but_not_in_circles(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a.png").touch()
    root = tmp_path / "root"
    (root / "dogs").mkdir(parents=True)
    (root / "dogs" / "b.png").touch()
    (root / "cats").symlink_to(tmp_path / "store")
    (root / "also cats").symlink_to(tmp_path / "store")
    (root / "dogs" / "back").symlink_to(root)
    (tmp_path / "store" / "round").symlink_to(tmp_path / "store")
    assert list_images(root)[1].tolist() == ["also cats", "cats", "dogs"]


def test_a_folder_without_images_or_no_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="no image file"):
        list_images(tmp_path)
    with pytest.raises(NotADirectoryError, match="not a directory"):
        list_images(tmp_path / "notes.txt")


def test_every_suffix_of_an_image_is_listed_whatever_its_case(tmp_path):
    names = [f"{n:02}{suffix}" for n, suffix in enumerate(SUFFIXES)]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "photo.HEIC").touch()
    paths, _ = list_images(tmp_path)
    assert [Path(path).name for path in paths] == [*names, "photo.HEIC"]
    assert {".jfif", ".jpe", ".avif", ".heic", ".pgm", ".ppm", ".jp2"} <= set(SUFFIXES)


def test_what_is_passed_over_is_counted_and_named(tmp_path):
    for name in ["a/0.png", "a/0.json", "a/1.json", "b/raw.cr2", "b/README", "c/.png"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    scan = scan_folder(tmp_path)
    assert scan.empty == ["b", "c"]
    assert [Path(path).name for path in scan.passed_over] == [
        "0.json",
        "1.json",
        "README",
        "raw.cr2",
    ]
    with pytest.warns(UserWarning, match="passed over") as caught:
        list_images(tmp_path)
    (warning,) = caught
    message = str(warning.message)
    assert "4 files without the suffix of an image (2 .json, 1 without suffix, 1 .cr2)" in message
    assert "2 subfolders without an image: 'b', 'c'" in message
    (tmp_path / "a" / "0.png").unlink()
    with pytest.raises(ValueError, match="no image file.*there are 4 files without the suffix"):
        list_images(tmp_path)


def test_a_real_folder_is_visited_once_in_a_class_however_many_links_lead_there(tmp_path):
    """Two links to the next of thirteen folders are 8,192 ways to the last."""
    levels = [tmp_path / "levels" / str(n) for n in range(14)]
    for level in levels:
        level.mkdir(parents=True)
        (level / "a.png").touch()
    for level, deeper in pairwise(levels):
        (level / "left").symlink_to(deeper)
        (level / "right").symlink_to(deeper)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "cats").symlink_to(levels[0])
    (tmp_path / "root" / "dogs").symlink_to(levels[0])
    paths, labels = list_images(tmp_path / "root")
    assert labels.tolist() == ["cats"] * 14 + ["dogs"] * 14
    assert len({os.path.realpath(path) for path in paths[:14]}) == 14
