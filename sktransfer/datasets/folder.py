"""Paths and class labels of the images in a folder."""

import os
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".png", ".apng", ".webp", ".tif", ".tiff"),
    *(".bmp", ".dib", ".gif", ".avif", ".avifs", ".heic", ".heif", ".hif", ".pbm", ".pgm", ".ppm"),
    *(".pnm", ".pfm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
)
"""Suffixes of images. Some are read only by a Pillow with the codec, or with pillow-heif; an error
that says so is more than a file that is not seen."""

# How many files or classes a message names.
_NAMED = 3


@dataclass(frozen=True)
class FolderScan:
    """What is below a folder.

    Parameters
    ----------
    paths, labels : list of str
        Images and their classes, sorted by path.
    passed_over : list of str
        Paths of all other files, but for those whose names start with a dot.
    empty : list of str
        Subfolders of the folder without an image.
    """

    paths: list[str]
    labels: list[str]
    passed_over: list[str]
    empty: list[str]

    def summary(self) -> str:
        """What is passed over, in words; empty if nothing is."""
        said = []
        if self.passed_over:
            kinds = Counter(os.path.splitext(path)[1].lower() for path in self.passed_over)
            by_kind = ", ".join(
                f"{n} {kind or 'without suffix'}" for kind, n in kinds.most_common()
            )
            files = "file" if len(self.passed_over) == 1 else "files"
            said.append(
                f"{len(self.passed_over)} {files} without the suffix of an image ({by_kind}): "
                + _some(self.passed_over)
            )
        if self.empty:
            classes = "subfolder" if len(self.empty) == 1 else "subfolders"
            said.append(f"{len(self.empty)} {classes} without an image: {_some(self.empty)}")
        return "; ".join(said)


def list_images(directory: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Paths of all images below a folder, and the class of each.

    The class is the name of the first subfolder on the way to the file, as in
    ``directory/cat/2024/001.jpg``; for files directly in `directory` it is "".
    Files are recognised by their suffix alone and are not opened. A warning counts and names
    files with other suffixes and subfolders without an image. Names that start with a dot
    are skipped. Links to folders are followed; within a class, a folder that several links lead
    to is listed once.

    Parameters
    ----------
    directory : str or Path

    Returns
    -------
    paths : ndarray of shape (n,), dtype object
        In sorted order.
    labels : ndarray of shape (n,), dtype object

    Raises
    ------
    NotADirectoryError
        `directory` is not a directory.
    ValueError
        It holds no file with the suffix of an image.
    OSError
        A subfolder cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sktransfer.datasets import list_images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ["cat/a.jpg", "cat/b.png", "dog/c.jpg"]:
    ...         file = Path(folder, name)
    ...         file.parent.mkdir(exist_ok=True)
    ...         file.touch()
    ...     paths, labels = list_images(folder)
    >>> labels.tolist()
    ['cat', 'cat', 'dog']
    """
    found = scan_folder(directory)
    passed_over = found.summary()
    if passed_over:
        warnings.warn(f"{os.fspath(directory)}: passed over {passed_over}", stacklevel=2)
    return np.array(found.paths, dtype=object), np.array(found.labels, dtype=object)


def scan_folder(directory: str | os.PathLike[str]) -> FolderScan:
    """Images below a folder with their classes, and what `list_images` passes over.

    Raises
    ------
    NotADirectoryError, ValueError, OSError
        As `list_images` does.
    """
    root = Path(directory).expanduser()
    if not root.is_dir():
        raise NotADirectoryError(f"{os.fspath(directory)} is not a directory")
    found: list[tuple[str, str]] = []
    passed_over: list[str] = []
    classes: list[str] = []
    # By device and inode: a folder that links lead back to, or to which many ways lead. The way
    # from the root is in each class.
    visited: dict[str, set[tuple[int, int]]] = {}
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=_raise):
        parts = Path(folder).relative_to(root).parts
        label = parts[0] if parts else ""
        status = os.stat(folder)
        seen = visited.setdefault(label, set() if label == "" else set(visited[""]))
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        if len(parts) == 1:
            classes.append(label)
        for file in files:
            if file.startswith("."):
                continue
            path = os.path.join(folder, file)
            if file.lower().endswith(SUFFIXES):
                found.append((path, label))
            else:
                passed_over.append(path)
    found.sort()
    labels = [label for _, label in found]
    scan = FolderScan(
        [path for path, _ in found],
        labels,
        sorted(passed_over),
        sorted(set(classes).difference(labels)),
    )
    if not found:
        others = scan.summary()
        raise ValueError(
            f"{os.fspath(directory)} holds no image file ({', '.join(SUFFIXES[:11])} ...), nor do "
            f"its subfolders{f'; there are {others}' if others else ''}"
        )
    return scan


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(map(repr, names[:_NAMED])) + (f" and {more} more" if more > 0 else "")


def _raise(error: OSError) -> None:
    raise error
