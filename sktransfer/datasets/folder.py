"""Paths and class labels of the images in a folder."""

import os
from pathlib import Path

import numpy as np

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")


def list_images(directory: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Paths of all images below a folder, and the class of each.

    The class is the name of the first subfolder on the way to the file, as in
    ``directory/cat/2024/001.jpg``; for files directly in `directory` it is "".
    Files are recognised by their suffix alone and are not opened. Names that start with a dot
    are skipped. Links to folders are followed, unless they form a cycle.

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
    root = Path(directory).expanduser()
    if not root.is_dir():
        raise NotADirectoryError(f"{os.fspath(directory)} is not a directory")
    found: list[tuple[str, str]] = []
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=_raise):
        if _is_cycle(Path(folder), root):
            subfolders.clear()
            continue
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        parts = Path(folder).relative_to(root).parts
        label = parts[0] if parts else ""
        found += [
            (os.path.join(folder, file), label)
            for file in files
            if file.lower().endswith(SUFFIXES) and not file.startswith(".")
        ]
    if not found:
        raise ValueError(
            f"{os.fspath(directory)} holds no image file ({', '.join(SUFFIXES)}), nor do its "
            "subfolders"
        )
    found.sort()
    return (
        np.array([path for path, _ in found], dtype=object),
        np.array([label for _, label in found], dtype=object),
    )


def _is_cycle(folder: Path, root: Path) -> bool:
    """Whether a folder is, by way of links, one of its own ancestors."""
    ancestors = [root, *(root / part for part in reversed(folder.relative_to(root).parents))]
    return folder != root and folder.resolve() in {each.resolve() for each in ancestors}


def _raise(error: OSError) -> None:
    raise error
