"""A folder as paths and labels."""

from pathlib import Path

import pytest

from sktransfer.datasets import list_images


def test_classes_are_the_first_subfolders(tmp_path):
    for name in ["b/2.PNG", "a/deep/er/1.jpeg", "a/0.jpg", "top.gif", "b/notes.txt", ".git/x.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
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
