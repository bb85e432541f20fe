"""The images of a folder with one subfolder per class."""

from typing import TYPE_CHECKING

from sktransfer.cli.printing import some

if TYPE_CHECKING:
    import numpy as np


def labelled_images(directory: str) -> tuple["np.ndarray", "np.ndarray", list[str]]:
    """Paths and labels of the images in subfolders, and paths of those beside the subfolders."""
    from sktransfer.datasets import list_images

    paths, labels = list_images(directory)
    has_class = labels != ""
    return paths[has_class], labels[has_class], paths[~has_class].tolist()


def left_out_text(paths: list[str]) -> str:
    """A warning about images beside the subfolders."""
    return f"files beside the subfolders have no class and are left out: {some(paths)}"
