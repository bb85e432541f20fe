"""X, in any of its accepted forms, as a sequence of single images.

Nothing is decoded here: paths stay paths until their batch is due.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from sktransfer._columns import cells_of, check_container, is_column, only_column, plain_cell
from sktransfer.images.encoded import name_in
from sktransfer.images.reading import tensor_to_array

_KINDS = (
    "an array of shape (n, height, width) or (n, height, width, channels), a sequence of paths, "
    "PIL images or arrays, or a dataset with len() and indexing"
)


def as_image_items(X: Any, *, channels: str, in_channels: int) -> Sequence[Any]:
    """Check the outer form of X and return something with ``len`` and ``[i]``.

    Parameters
    ----------
    X : array, sequence or column of images or paths, table of one column, tensor or Dataset
        Everything but 2-D rows of pixels, which `rows_to_images` handles.
    channels : {"last", "first"}
        Position of the channel axis of a 4-D array.
    in_channels : int
        Channels of the backbone, to distinguish a plausible channel axis from a wrong one.

    Raises
    ------
    TypeError
        X is a single path or image, or cannot be indexed.
    ValueError
        X is empty, has several columns, or its shape is not one of images.
    """
    if isinstance(X, str | os.PathLike):
        raise TypeError(
            f"X must be a sequence of images, got the single path {X!r}; pass [path], or all files "
            "of a folder from sktransfer.datasets.list_images"
        )
    if isinstance(X, Image.Image):
        raise TypeError("X must be a sequence of images, got a single PIL image; pass [image]")
    is_row = isinstance(X, Mapping) and not X.keys().isdisjoint(("bytes", "path"))
    if is_row or isinstance(X, bytes | bytearray) or callable(getattr(X, "read", None)):
        raise TypeError(
            f"X must be a sequence of images, got a single {type(X).__name__}; pass a list of "
            "these, one for each image"
        )
    items: Sequence[Any] = _indexable(X)
    if getattr(getattr(items, "dtype", None), "kind", "O") not in "OSUT":
        _check_array(items, channels, in_channels)
    if len(items) == 0:
        raise ValueError(
            "Found array with 0 sample(s) while a minimum of 1 is required: X is empty"
        )
    return items


def rows_to_images(X: np.ndarray, image_shape: tuple[int, ...]) -> np.ndarray:
    """Reshape rows of pixels of shape (n, n_pixels) to (n, *image_shape)."""
    try:
        return X.reshape(len(X), *image_shape)
    except ValueError as error:
        raise ValueError(
            f"image_shape={image_shape!r} does not match rows of {X.shape[1]} values; "
            "it must be (height, width) or (height, width, channels) of one image"
        ) from error


def take(items: Sequence[Any], index: int) -> Any:
    """Fetch one item; of a dataset's ``(image, target)`` pairs, the image.

    Called by one thread only, as datasets need not be thread-safe.
    """
    item = items[index]
    return plain_cell(item[0] if isinstance(item, tuple) and item else item)


def name_of(items: Sequence[Any], index: int) -> str | None:
    """Path or address of an item, if it has one."""
    if not isinstance(items, list | np.ndarray):  # a dataset may work hard for an item
        return None
    return name_in(take(items, index))


def _indexable(X: Any) -> Any:
    if hasattr(X, "detach"):
        return tensor_to_array(X)
    check_container(X, "images")
    try:
        X = only_column(X, "images")
    except ValueError as error:
        raise ValueError(
            f"{error}. If each row holds the pixels of one image, set image_shape=(height, width)"
        ) from error
    if isinstance(X, np.ndarray) and X.dtype.kind not in "OSUT":
        return X
    if isinstance(X, list | tuple) or is_column(X):
        return cells_of(X)
    if hasattr(X, "__len__") and hasattr(X, "__getitem__"):  # also h5py and zarr, row by row
        return X
    if isinstance(X, Collection):  # such as the values of a dict
        return list(X)
    if hasattr(X, "__array__"):
        return np.asarray(X)
    raise TypeError(f"X must be {_KINDS}; got {type(X).__name__}")


def _check_array(X: Any, channels: str, in_channels: int) -> None:
    if X.ndim == 2:
        raise ValueError(
            f"X has shape {X.shape}: rows of pixels need image_shape=(height, width) or "
            "(height, width, channels)"
        )
    if X.ndim not in (3, 4):
        raise ValueError(f"X must be {_KINDS}; got shape {X.shape}")
    if X.ndim == 3 and X.shape[2] in (3, 4) and X.shape[1] > 4:
        raise ValueError(
            f"X has shape {X.shape}, which looks like one colour image; pass X[None] for a batch "
            "of one"
        )
    if X.ndim == 4:
        axis = 1 if channels == "first" else 3
        plausible = {1, 3, 4, in_channels}
        if X.shape[axis] not in plausible:
            other = "first" if channels == "last" else "last"
            raise ValueError(
                f"X has shape {X.shape}, so {X.shape[axis]} channels with channels={channels!r}; "
                f"pass channels={other!r} if they are on the other side"
            )
