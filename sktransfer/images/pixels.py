"""Pixels of any mode, depth and range to those that a network takes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sktransfer.exceptions import ImageReadError
from sktransfer.images.depth import SIXTEEN_BIT, SampleFormat, is_inverted

Range = tuple[float, float] | None

# By name, as "A" is a colour of LAB.
_WITH_OPACITY = ("LA", "La", "PA", "RGBA", "RGBa")

# Resampled or converted floats may overshoot their range by a rounding error.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class ReadingOptions:
    """How images are to be read.

    Parameters
    ----------
    max_pixels : int
        Largest accepted height times width.
    value_range : tuple of float or None, default=None
        Values of black and white in arrays and in files deeper than 8 bits.
    channels : {"last", "first"}, default="last"
        Position of the channel axis of an array.
    in_channels : int, default=3
        Channels of the network: opacity and further bands of a file are kept if it takes them.
    enough : callable or None, default=None
        Tells for the height and width of a file which would do. A JPEG is then decoded at
        a half, a quarter or an eighth of its size if that is no less.
    """

    max_pixels: int
    value_range: Range = None
    channels: str = "last"
    in_channels: int = 3
    enough: Callable[[tuple[int, int]], tuple[int, int]] | None = None


def check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    """Refuse an image without pixels, or with too many."""
    width, height = size
    if width * height == 0:
        raise ImageReadError(f"it has no pixels: it is {height} x {width}")
    if width * height > max_pixels:
        raise ImageReadError(
            f"it has {height} x {width} pixels, more than max_pixels={max_pixels}; "
            "raise max_pixels if you trust it"
        )


def to_unit(values: np.ndarray, value_range: Range) -> np.ndarray:
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


def plain_pixels(
    image: Image.Image, samples: SampleFormat, options: ReadingOptions
) -> Image.Image | np.ndarray:
    """Any Pillow mode to "L", "RGB", float32 values, or to the channels of another network."""
    if image.mode in ("I", "F", *SIXTEEN_BIT):
        # Pillow would clip these to 255 and so turn nearly all of them white.
        return _deep(image, samples, options)
    if image.mode in _WITH_OPACITY or "transparency" in image.info:
        if image.mode == "La":  # with colours that are multiplied by opacity
            image = image.convert("LA")
        if options.in_channels == 2 and image.mode == "LA":
            return np.asarray(image)
        rgba = _with_opacity(image, samples)
        if options.in_channels == 4:
            return np.asarray(rgba)
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _with_opacity(image: Image.Image, samples: SampleFormat) -> Image.Image:
    """Convert to "RGBA"; a transparent colour is stated in the depth of a PNG file."""
    colour = image.info.get("transparency")
    bits = samples.bits
    if image.mode == "L" and isinstance(colour, int) and bits in (2, 4):
        colour = colour * 255 // (2**bits - 1)
    elif image.mode == "RGB" and isinstance(colour, tuple) and bits == 16:
        colour = tuple(value >> 8 for value in colour)
    else:
        return image.convert("RGBA")
    image = image.copy()
    image.info["transparency"] = colour
    return image.convert("RGBA")


def _deep(image: Image.Image, samples: SampleFormat, options: ReadingOptions) -> np.ndarray:
    values = np.asarray(image)[:, :, None]
    value_range = options.value_range
    if image.mode == "I" and samples.bits == 32 and samples.is_unsigned:
        values = values.view(np.uint32)
    if value_range is None and image.mode in SIXTEEN_BIT:
        value_range = (0, 4095 if samples.bits == 12 else 65535)
    if value_range is None and image.format == "PPM" and image.mode == "I":
        value_range = (0, 65535)  # to which Pillow scales whatever maximum the file states
    unit = to_unit_range(values, value_range, ignored=_transparent(image))
    return 1 - unit if is_inverted(image, samples) else unit


def _transparent(image: Image.Image) -> np.ndarray | None:
    """Where a 16-bit grey PNG has its transparent value."""
    value = image.info.get("transparency")
    if image.mode not in SIXTEEN_BIT or not isinstance(value, int):
        return None
    return np.asarray(image)[:, :, None] == value


def to_unit_range(
    values: np.ndarray, value_range: Range, ignored: np.ndarray | None = None
) -> np.ndarray:
    """Map the values of a deep file to [0, 1]; those that are ignored become white."""
    if value_range is None and values.dtype.kind in "ui":
        raise ImageReadError(
            f"its pixels are {8 * values.itemsize}-bit integers from {values.min()} to "
            f"{values.max()}, whose range is not defined; pass value_range=(black, white)"
        )
    if ignored is not None and value_range is not None:
        values = np.where(ignored, value_range[1], values)
    return to_unit(values, value_range)
