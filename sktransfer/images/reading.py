"""One item, whatever it is, to plain pixels; anything wrong is an `ImageReadError`.

Files and Pillow images become "L" or "RGB" in 8 bits where that loses nothing.
Deeper images and arrays become arrays of shape (height, width, channels), uint8
or float32 within [0, 1].
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sktransfer.exceptions import ImageReadError

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
"""Formats that are tried; every decoder that is left out is one less to attack."""

ORIENTATION = 0x0112  # the EXIF tag

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")

Range = tuple[float, float] | None

# Pillow decodes an opened image when it is first needed, which threads must not do at once to
# one image that stands in X twice.
LOADING = threading.Lock()

# Resampled or converted floats may overshoot their range by a rounding error.
_TOLERANCE = 1e-6


def read_image(
    item: Any,
    *,
    channels: str,
    value_range: Range,
    max_pixels: int,
    enough: Callable[[tuple[int, int]], tuple[int, int]] | None = None,
) -> Image.Image | np.ndarray:
    """Decode one item of X.

    Parameters
    ----------
    item : str, os.PathLike, PIL.Image.Image or array-like
        A path, a Pillow image, or an array of shape (height, width),
        (height, width, channels) or, with ``channels="first"``,
        (channels, height, width).
    channels : {"last", "first"}
        Position of the channel axis of an array.
    value_range : tuple of float or None
        Values of black and white in arrays and in files deeper than 8 bits.
    max_pixels : int
        Largest accepted height times width.
    enough : callable or None, default=None
        Tells for the height and width of a file which would do. A JPEG is then decoded at
        a half, a quarter or an eighth of its size if that is no less.

    Returns
    -------
    PIL.Image.Image in mode "L" or "RGB", or ndarray of shape (height, width, channels)

    Raises
    ------
    ImageReadError
        The message says what is wrong with the item and what to do.
    """
    if isinstance(item, str | os.PathLike):
        if not os.fspath(item):
            raise ImageReadError("its path is empty")
        return _read_file(Path(item), value_range=value_range, max_pixels=max_pixels, enough=enough)
    if isinstance(item, Image.Image):
        _check_pixels(item.size, max_pixels)
        with LOADING:
            item.load()
        return _plain(ImageOps.exif_transpose(item), value_range)
    if item is None or (isinstance(item, float | np.floating) and np.isnan(item)) or _is_na(item):
        raise ImageReadError(f"it is missing ({item!r}); drop the row or give a path")
    if hasattr(item, "detach"):
        item = tensor_to_array(item)
    return _read_array(
        np.asarray(item), channels=channels, value_range=value_range, max_pixels=max_pixels
    )


def tensor_to_array(tensor: Any) -> np.ndarray:
    """A torch tensor, perhaps on a GPU or in a precision that NumPy lacks, as an array."""
    tensor = tensor.detach().cpu()
    return np.asarray(tensor.float() if tensor.is_floating_point() else tensor)


def _is_na(item: Any) -> bool:
    return type(item).__name__ in ("NAType", "NaTType")  # pandas, which need not be there


def _read_file(
    path: Path,
    *,
    value_range: Range,
    max_pixels: int,
    enough: Callable[[tuple[int, int]], tuple[int, int]] | None,
) -> Image.Image | np.ndarray:
    if path.is_dir():
        raise ImageReadError(
            "it is a directory; pass its files, for example from sktransfer.datasets.list_images"
        )
    try:
        if path.stat().st_size == 0:
            raise ImageReadError("the file is empty (0 bytes)")
        with Image.open(path, formats=FORMATS) as image:
            # Opening reads the header only: the size is checked before a pixel is decoded.
            _check_pixels(image.size, max_pixels)
            if enough is not None:
                _draft(image, enough)
            try:
                image.load()
            except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
                raise ImageReadError(
                    f"the {image.format} file is truncated or corrupt ({error})"
                ) from error
            ImageOps.exif_transpose(image, in_place=True)
            return _plain(image, value_range)
    except FileNotFoundError as error:
        raise ImageReadError("there is no such file") from error
    except UnidentifiedImageError as error:
        raise ImageReadError(f"it is not a readable {', '.join(FORMATS)} file") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageReadError(
            f"it has more pixels than Pillow decodes ({error}); shrink the file, or raise both "
            f"max_pixels={max_pixels} and PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        ) from error
    except OSError as error:
        raise ImageReadError(f"it cannot be read ({error})") from error


def _draft(image: Image.Image, enough: Callable[[tuple[int, int]], tuple[int, int]]) -> None:
    """Have a JPEG's own transform shrink it, to no less than enough; other formats stay."""
    turned = image.getexif().get(ORIENTATION, 1) >= 5
    height, width = enough(image.size if turned else image.size[::-1])
    image.draft(None, (height, width) if turned else (width, height))


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageReadError(
            f"it has {height} x {width} pixels, more than max_pixels={max_pixels}; "
            "raise max_pixels if you trust it"
        )


def _plain(image: Image.Image, value_range: Range) -> Image.Image | np.ndarray:
    """Any Pillow mode to "L", "RGB" or a float32 array."""
    if image.mode in ("I", "F", *_SIXTEEN_BIT):
        # Pillow would clip these to 255 and so turn nearly all of them white.
        return _deep(image, value_range)
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _deep(image: Image.Image, value_range: Range) -> np.ndarray:
    values = np.asarray(image)[:, :, None]
    if value_range is None and image.mode in _SIXTEEN_BIT:
        value_range = (0, 65535)
    if value_range is None and image.mode == "I":
        raise ImageReadError(
            f"its pixels are 32-bit integers from {values.min()} to {values.max()}, whose range is "
            "not defined; pass value_range=(black, white)"
        )
    return _to_unit(values, value_range)


def _read_array(
    values: np.ndarray, *, channels: str, value_range: Range, max_pixels: int
) -> np.ndarray:
    if values.ndim not in (2, 3) or values.dtype.kind not in "buif":
        raise ImageReadError(
            "an image is a path, a PIL image, or a numeric array of 2 or 3 dimensions; "
            f"got an array of shape {values.shape} and dtype {values.dtype}"
        )
    if values.ndim == 2:
        values = values[:, :, None]
    elif channels == "first":
        values = np.moveaxis(values, 0, 2)
    height, width = values.shape[:2]
    if values.size == 0:
        raise ImageReadError(f"it has no pixels: shape {values.shape}")
    _check_pixels((width, height), max_pixels)
    if values.dtype == np.uint8 and value_range is None:
        return np.ascontiguousarray(values)
    return _to_unit(values, value_range)


def _to_unit(values: np.ndarray, value_range: Range) -> np.ndarray:
    """Map `value_range` to [0, 1] in float32, refusing what lies outside."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ImageReadError("it contains NaN or infinity")
    if value_range is None and values.dtype.kind in "ui":
        raise ImageReadError(
            f"its dtype is {values.dtype}, whose range is not defined; cast to uint8 or pass "
            "value_range=(black, white)"
        )
    low, high = (0.0, 1.0) if value_range is None else value_range
    smallest, largest = values.min(), values.max()
    slack = _TOLERANCE * (high - low)
    if smallest < low - slack or largest > high + slack:
        raise ImageReadError(
            f"its values run from {smallest:.7g} to {largest:.7g}, outside value_range=({low:g}, "
            f"{high:g}); pass the value_range=(black, white) that X really has"
        )
    unit = (values.astype(np.float64) - low) / (high - low)
    return np.clip(unit, 0, 1).astype(np.float32)
