"""Image files, and images that Pillow has opened, to plain pixels."""

import functools
import io
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from sktransfer.exceptions import ImageReadError
from sktransfer.images import tiff
from sktransfer.images.faults import ends_the_run

ORIENTATION = 0x0112  # the EXIF tag

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")

Range = tuple[float, float] | None

# Resampled or converted floats may overshoot their range by a rounding error.
_TOLERANCE = 1e-6

# Pillow decodes an opened image when it is first needed, which threads must not do at once to
# one image that stands in X twice.
LOADING = threading.Lock()


@dataclass(frozen=True)
class How:
    """How images are to be read.

    Parameters
    ----------
    value_range : tuple of float or None
        Values of black and white in arrays and in files deeper than 8 bits.
    max_pixels : int
        Largest accepted height times width.
    in_channels : int, default=3
        Channels of the network: opacity and further bands of a file are kept if it takes them.
    enough : callable or None, default=None
        Tells for the height and width of a file which would do. A JPEG is then decoded at
        a half, a quarter or an eighth of its size if that is no less.
    """

    value_range: Range
    max_pixels: int
    in_channels: int = 3
    enough: Callable[[tuple[int, int]], tuple[int, int]] | None = None


@functools.cache
def formats() -> tuple[str, ...]:
    """Formats that are tried; every decoder that is left out is one less to attack.

    AVIF and JPEG 2000 are among them where Pillow was built with them, HEIC where pillow-heif is
    installed.
    """
    found = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM"]
    found += [
        name
        for name, codec in (("AVIF", "avif"), ("JPEG2000", "jpg_2000"))
        if features.check(codec)
    ]
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return tuple(found)
    register_heif_opener()
    return (*found, "HEIF")


def read_encoded(source: Path | bytes, how: How) -> Image.Image | np.ndarray:
    """Decode a file, or the bytes of one, as `sktransfer.images.reading.read_image` describes."""
    try:
        with _opened(source) as file:
            return _read_open(file, how)
    except FileNotFoundError as error:
        raise ImageReadError("there is no such file") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageReadError(
            f"it has more pixels than Pillow decodes ({error}); shrink the file, or raise both "
            f"max_pixels={how.max_pixels} and PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        ) from error
    except OSError as error:
        if ends_the_run(error):
            raise
        if isinstance(source, Path) and source.is_dir():
            raise ImageReadError(
                "it is a directory; pass its files, for example from "
                "sktransfer.datasets.list_images"
            ) from error
        raise ImageReadError(f"it cannot be read ({error})") from error


def read_opened(image: Image.Image, how: How) -> Image.Image | np.ndarray:
    """An image that Pillow has opened or made; it stays as it is, but for being decoded."""
    check_pixels(image.size, how.max_pixels)
    stored = stored_as(image)
    try:
        with LOADING:
            image.load()
    except AssertionError as error:  # that is all that Pillow says
        raise ImageReadError(
            "it is a PIL image whose file was closed before its pixels were read; pass the path, "
            "or call load() while it is open"
        ) from error
    return _plain(upright(image), stored, how)


def raw_orientation(image: Image.Image) -> Any:
    """The value of the orientation tag, which may be anything; None without a readable one."""
    try:
        return image.getexif().get(ORIENTATION)
    except Exception as error:  # a photograph is no worse for tags that cannot be parsed
        if ends_the_run(error):
            raise
        return None


def upright(image: Image.Image) -> Image.Image:
    """An image turned as its orientation tag says.

    Other tags are not looked at, and a malformed one is ignored.
    """
    try:
        turn = _TURNS.get(raw_orientation(image))
    except TypeError:  # a value without a hash
        turn = None
    return image if turn is None else image.transpose(turn)


class Stored(NamedTuple):
    """What pixels are in a file, which Pillow's mode does not tell."""

    bits: int | None = None  # of a sample
    is_unsigned: bool = False
    white_is_zero: bool = False


def stored_as(image: Image.Image) -> Stored:
    """Look at an image that Pillow has opened; of all formats, TIFF leaves its tags on it."""
    tags: Any = getattr(image, "tag_v2", None)
    if tags is None:
        return Stored()
    return Stored(
        tags.get(tiff.BITS, (1,))[0],
        tags.get(tiff.SAMPLE_FORMAT, (1,))[0] == 1,
        tags.get(tiff.PHOTOMETRIC, tiff.WHITE_IS_ZERO) == tiff.WHITE_IS_ZERO,
    )


def _stored_in_file(image: Image.Image) -> Stored:
    """The same before pixels are decoded, when PNG tells its depth, too, as in "RGB;16B"."""
    tiles: Any = getattr(image, "tile", None)
    if image.format != "PNG" or not tiles:
        return stored_as(image)
    digits = str(tiles[0].args).partition(";")[2].strip("B")
    return Stored(int(digits) if digits.isdecimal() else 8)


def is_read_anew(source: Path | bytes | Image.Image) -> bool:
    """Whether an image is one of those that earlier versions misread.

    Deep pages on which white is zero came out inverted, 12 bits too dark, and transparent values of
    PNG files of other depths than 8 bits were not found. What was stored for them is wrong.
    """
    if isinstance(source, Image.Image):
        stored = stored_as(source)
        return _was_misread(source, stored)
    with _opened(source) as file:
        head = file.read(25)
        is_png_of_8_bits = head[:4] == b"\x89PNG" and head[24:] == b"\x08"
        if head[:4] not in (*tiff.MAGIC, b"\x89PNG") or is_png_of_8_bits:
            return False
        file.seek(0)
        try:
            with Image.open(file, formats=("PNG", "TIFF")) as image:
                return _was_misread(image, _stored_in_file(image))
        except UnidentifiedImageError:
            return False  # such files were not read at all


def _was_misread(image: Image.Image, stored: Stored) -> bool:
    has_transparent_value = "transparency" in image.info and (
        image.mode in _SIXTEEN_BIT or stored.bits in (2, 4, 16)
    )
    is_of_12_bits = image.mode in _SIXTEEN_BIT and stored.bits == 12
    return is_inverted(image, stored) or has_transparent_value or is_of_12_bits


def is_inverted(image: Image.Image, stored: Stored) -> bool:
    """Whether white is zero; Pillow itself inverts 8 bits and less."""
    return stored.white_is_zero and (image.mode == "F" or image.mode in _SIXTEEN_BIT)


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


# --- files --------------------------------------------------------------------------------


def _opened(source: Path | bytes) -> BinaryIO:
    return source.open("rb") if isinstance(source, Path) else io.BytesIO(source)


def _read_open(file: BinaryIO, how: How) -> Image.Image | np.ndarray:
    head = file.read(16)
    if not head:
        raise ImageReadError("the file is empty (0 bytes)")
    file.seek(0)
    try:
        # Opening reads the header only: the size is checked before a pixel is decoded.
        with Image.open(file, formats=formats()) as image:
            check_pixels(image.size, how.max_pixels)
            if _has_more_bands(image, how.in_channels):
                return _of_bands(file, how)
            if how.enough is not None:
                _draft(image, how.enough)
            stored = _stored_in_file(image)
            try:
                image.load()
            except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
                if ends_the_run(error):
                    raise
                raise ImageReadError(
                    f"the {image.format} file is truncated or corrupt ({error})"
                ) from error
            return _plain(upright(image), stored, how)
    except UnidentifiedImageError as error:
        if head[:4] in tiff.MAGIC:
            return _of_bands(file, how)
        raise ImageReadError(_unknown(head)) from error


def _unknown(head: bytes) -> str:
    """Why a file that no decoder takes is not read."""
    if head[4:8] == b"ftyp" and head[8:11] in (b"hei", b"hev", b"mif", b"msf"):
        return 'it is a HEIC file; run `pip install "sktransfer[heif]"` to read it'
    if head[4:8] == b"ftyp" and head[8:11] == b"avi":
        return "it is an AVIF file, which this build of Pillow does not read or which is damaged"
    return f"it is not a readable {', '.join(formats())} file"


def _has_more_bands(image: Image.Image, in_channels: int) -> bool:
    """Whether a TIFF file has just the bands that the network takes, and Pillow drops some."""
    tags: Any = getattr(image, "tag_v2", None)
    return (
        tags is not None
        and tags.get(tiff.SAMPLES, 1) == in_channels > len(image.getbands())
        and tags.get(tiff.PHOTOMETRIC) in (tiff.BLACK_IS_ZERO, tiff.RGB)
    )


def _of_bands(file: BinaryIO, how: How) -> np.ndarray:
    """A TIFF file of depths and bands that Pillow has no mode for."""
    bands = tiff.read_bands(file, how.max_pixels)
    values, n_bands = bands.values, bands.values.shape[2]
    n_colours = 3 if bands.photometric == tiff.RGB else 1
    is_asked_for = n_bands == how.in_channels
    if not is_asked_for and n_bands > n_colours and how.in_channels in (1, 3):
        if bands.photometric != tiff.RGB and not bands.has_alpha:
            raise ImageReadError(
                f"it has {n_bands} bands and the backbone takes {how.in_channels} channels; select "
                "bands, or pass a backbone for this number of channels"
            )
        values = values[:, :, : n_colours + bands.has_alpha]
    value_range = how.value_range
    if values.dtype == np.uint16 and value_range is None:
        value_range = (0, 65535)
    if values.dtype != np.uint8 or value_range is not None:
        values = _in_range(values, value_range)
    if bands.photometric == tiff.WHITE_IS_ZERO:
        values = (255 if values.dtype == np.uint8 else np.float32(1)) - values
    if bands.has_alpha and not is_asked_for and values.shape[2] == n_colours + 1:
        top = 255 if values.dtype == np.uint8 else 1
        colours, alpha = np.split(values.astype(np.float32) / top, [n_colours], axis=2)
        flat = (colours * alpha + (1 - alpha)) * top  # over white
        values = np.rint(flat).astype(np.uint8) if values.dtype == np.uint8 else flat
    return values


def _draft(image: Image.Image, enough: Callable[[tuple[int, int]], tuple[int, int]]) -> None:
    """Have a JPEG's own transform shrink it, to no less than enough; other formats stay."""
    turned = raw_orientation(image) in (5, 6, 7, 8)
    height, width = enough(image.size if turned else image.size[::-1])
    image.draft(None, (height, width) if turned else (width, height))


# --- Pillow's modes -----------------------------------------------------------------------


def _plain(image: Image.Image, stored: Stored, how: How) -> Image.Image | np.ndarray:
    """Any Pillow mode to "L", "RGB", float32 values, or to the channels of another network."""
    if image.mode in ("I", "F", *_SIXTEEN_BIT):
        # Pillow would clip these to 255 and so turn nearly all of them white.
        return _deep(image, stored, how)
    bands = image.getbands()
    if "A" in bands or "a" in bands or "transparency" in image.info:
        if how.in_channels == 2 and bands in (("L", "A"), ("L", "a")):
            return np.asarray(image.convert("LA"))
        rgba = _with_opacity(image, stored)
        if how.in_channels == 4:
            return np.asarray(rgba)
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _with_opacity(image: Image.Image, stored: Stored) -> Image.Image:
    """Convert to "RGBA"; a transparent colour is stated in the depth of a PNG file."""
    colour = image.info.get("transparency")
    bits = stored.bits
    if image.mode == "L" and isinstance(colour, int) and bits in (2, 4):
        colour = colour * 255 // (2**bits - 1)
    elif image.mode == "RGB" and isinstance(colour, tuple) and bits == 16:
        colour = tuple(value >> 8 for value in colour)
    else:
        return image.convert("RGBA")
    image = image.copy()
    image.info["transparency"] = colour
    return image.convert("RGBA")


def _deep(image: Image.Image, stored: Stored, how: How) -> np.ndarray:
    values = np.asarray(image)[:, :, None]
    value_range = how.value_range
    if image.mode == "I" and stored.bits == 32 and stored.is_unsigned:
        values = values.view(np.uint32)
    if value_range is None and image.mode in _SIXTEEN_BIT:
        value_range = (0, 4095 if stored.bits == 12 else 65535)
    if value_range is None and image.format == "PPM" and image.mode == "I":
        value_range = (0, 65535)  # to which Pillow scales whatever maximum the file states
    unit = _in_range(values, value_range, ignored=_transparent(image))
    return 1 - unit if is_inverted(image, stored) else unit


def _transparent(image: Image.Image) -> np.ndarray | None:
    """Where a 16-bit grey PNG has its transparent value."""
    value = image.info.get("transparency")
    if image.mode not in _SIXTEEN_BIT or not isinstance(value, int):
        return None
    return np.asarray(image)[:, :, None] == value


def _in_range(
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
