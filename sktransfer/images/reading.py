"""One item, whatever it is, to plain pixels; anything wrong is an `ImageReadError`.

Files and Pillow images become "L" or "RGB" in 8 bits where that loses nothing.
Deeper images, those with the opacity or the bands that a network asks for, and arrays become
arrays of shape (height, width, channels), uint8 or float32 within [0, 1].
"""

from typing import Any

import numpy as np
from PIL import Image

from sktransfer._columns import is_missing
from sktransfer.exceptions import ImageReadError
from sktransfer.images.decoding import read_encoded, read_opened
from sktransfer.images.encoded import encoded_in, unwrapped
from sktransfer.images.pixels import ReadingOptions, check_pixels, to_unit


def read_image(item: Any, options: ReadingOptions) -> Image.Image | np.ndarray:
    """Decode one item of X.

    Parameters
    ----------
    item : str, os.PathLike, bytes, file, dict, PIL.Image.Image or array-like
        A path, address or encoded image, as `sktransfer.images.encoded` describes, a Pillow
        image, or an array of shape (height, width), (height, width, channels) or, with
        ``channels="first"``, (channels, height, width).
    options : ReadingOptions

    Returns
    -------
    PIL.Image.Image in mode "L" or "RGB", or ndarray of shape (height, width, channels)

    Raises
    ------
    ImageReadError
        The message says what is wrong with the item and what to do.
    """
    encoded = encoded_in(item)
    if encoded is not None:
        return read_encoded(encoded, options)
    item = unwrapped(item)
    if isinstance(item, Image.Image):
        return read_opened(item, options)
    if is_missing(item):
        raise ImageReadError(f"it is missing ({item!r}); drop the row or give a path")
    return _read_array(item_to_array(item), options)


def item_to_array(item: Any) -> np.ndarray:
    """A tensor, masked array or anything else that is no file, as an array."""
    if isinstance(item, np.ma.MaskedArray) and np.ma.is_masked(item):
        raise ImageReadError(
            f"{np.count_nonzero(item.mask)} of its values are masked; fill them, as with "
            "filled(0), or drop the row"
        )
    return tensor_to_array(item) if hasattr(item, "detach") else np.asarray(item)


def tensor_to_array(tensor: Any) -> np.ndarray:
    """A torch tensor, perhaps on a GPU or in a precision that NumPy lacks, as an array."""
    tensor = tensor.detach().cpu()
    return np.asarray(tensor.float() if tensor.is_floating_point() else tensor)


def _read_array(values: np.ndarray, options: ReadingOptions) -> np.ndarray:
    if values.ndim not in (2, 3) or values.dtype.kind not in "buif":
        raise ImageReadError(
            "an image is a path, bytes of an image file, a PIL image, or a numeric array of 2 or 3 "
            f"dimensions; got an array of shape {values.shape} and dtype {values.dtype}"
        )
    if values.ndim == 2:
        values = values[:, :, None]
    elif options.channels == "first":
        values = np.moveaxis(values, 0, 2)
    height, width = values.shape[:2]
    if values.size == 0:
        raise ImageReadError(f"it has no pixels: shape {values.shape}")
    check_pixels((width, height), options.max_pixels)
    if values.dtype == np.uint8 and options.value_range is None:
        return np.ascontiguousarray(values)
    return to_unit(values, options.value_range)
