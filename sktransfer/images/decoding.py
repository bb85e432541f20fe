"""Image files, and images that Pillow has opened, to plain pixels."""

import functools
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from sktransfer.exceptions import ImageReadError
from sktransfer.images import tiff
from sktransfer.images.depth import (
    SIXTEEN_BIT,
    SampleFormat,
    is_inverted,
    sample_format,
    sample_format_in_file,
)
from sktransfer.images.faults import ends_the_run
from sktransfer.images.pixels import ReadingOptions, check_pixels, plain_pixels, to_unit_range

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

# Pillow decodes an opened image when it is first needed, which threads must not do at once to
# one image that stands in X twice.
LOADING = threading.Lock()


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


def read_encoded(source: Path | bytes, options: ReadingOptions) -> Image.Image | np.ndarray:
    """Decode a file, or the bytes of one, as `sktransfer.images.reading.read_image` describes."""
    try:
        with _opened(source) as file:
            return _read_open(file, options)
    except FileNotFoundError as error:
        raise ImageReadError("there is no such file") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageReadError(
            f"it has more pixels than Pillow decodes ({error}); shrink the file, or raise both "
            f"max_pixels={options.max_pixels} and PIL.Image.MAX_IMAGE_PIXELS if you trust it"
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


def read_opened(image: Image.Image, options: ReadingOptions) -> Image.Image | np.ndarray:
    """An image that Pillow has opened or made; it stays as it is, but for being decoded."""
    check_pixels(image.size, options.max_pixels)
    samples = sample_format(image)
    try:
        with LOADING:
            image.load()
    except AssertionError as error:  # that is all that Pillow says
        raise ImageReadError(
            "it is a PIL image whose file was closed before its pixels were read; pass the path, "
            "or call load() while it is open"
        ) from error
    return plain_pixels(upright(image), samples, options)


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


def is_read_anew(source: Path | bytes | Image.Image) -> bool:
    """Whether an image is one of those that earlier versions misread.

    Deep pages on which white is zero came out inverted, 12 bits too dark, and transparent values of
    PNG files of other depths than 8 bits were not found. What was stored for them is wrong.
    """
    if isinstance(source, Image.Image):
        samples = sample_format(source)
        return _was_misread(source, samples)
    with _opened(source) as file:
        head = file.read(25)
        is_png_of_8_bits = head[:4] == b"\x89PNG" and head[24:] == b"\x08"
        if head[:4] not in (*tiff.MAGIC, b"\x89PNG") or is_png_of_8_bits:
            return False
        file.seek(0)
        try:
            with Image.open(file, formats=("PNG", "TIFF")) as image:
                return _was_misread(image, sample_format_in_file(image))
        except UnidentifiedImageError:
            return False  # such files were not read at all


def _was_misread(image: Image.Image, samples: SampleFormat) -> bool:
    has_transparent_value = "transparency" in image.info and (
        image.mode in SIXTEEN_BIT or samples.bits in (2, 4, 16)
    )
    is_of_12_bits = image.mode in SIXTEEN_BIT and samples.bits == 12
    return is_inverted(image, samples) or has_transparent_value or is_of_12_bits


# --- files --------------------------------------------------------------------------------


def _opened(source: Path | bytes) -> BinaryIO:
    return source.open("rb") if isinstance(source, Path) else io.BytesIO(source)


def _read_open(file: BinaryIO, options: ReadingOptions) -> Image.Image | np.ndarray:
    head = file.read(16)
    if not head:
        raise ImageReadError("the file is empty (0 bytes)")
    file.seek(0)
    try:
        # Opening reads the header only: the size is checked before a pixel is decoded.
        with Image.open(file, formats=formats()) as image:
            check_pixels(image.size, options.max_pixels)
            if _has_more_bands(image, options.in_channels):
                return _of_bands(file, options)
            if options.enough is not None:
                _draft(image, options.enough)
            samples = sample_format_in_file(image)
            try:
                image.load()
            except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
                if ends_the_run(error):
                    raise
                raise ImageReadError(
                    f"the {image.format} file is truncated or corrupt ({error})"
                ) from error
            return plain_pixels(upright(image), samples, options)
    except UnidentifiedImageError as error:
        if head[:4] in tiff.MAGIC:
            return _of_bands(file, options)
        raise ImageReadError(_unknown(head)) from error


def _unknown(head: bytes) -> str:
    """Why a file that no decoder takes is not read."""
    is_heic = head[4:8] == b"ftyp" and head[8:11] in (b"hei", b"hev", b"mif", b"msf")
    if is_heic and "HEIF" not in formats():
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


def _of_bands(file: BinaryIO, options: ReadingOptions) -> np.ndarray:
    """A TIFF file of depths and bands that Pillow has no mode for."""
    bands = tiff.read_bands(file, options.max_pixels)
    values, n_bands = bands.values, bands.values.shape[2]
    n_colours = 3 if bands.photometric == tiff.RGB else 1
    is_asked_for = n_bands == options.in_channels
    if not is_asked_for and n_bands > n_colours and options.in_channels in (1, 3):
        if bands.photometric != tiff.RGB and not bands.has_alpha:
            raise ImageReadError(
                f"it has {n_bands} bands and the backbone takes {options.in_channels} channels; "
                "select bands, or pass a backbone for this number of channels"
            )
        values = values[:, :, : n_colours + bands.has_alpha]
    value_range = options.value_range
    if values.dtype == np.uint16 and value_range is None:
        value_range = (0, 65535)
    if values.dtype != np.uint8 or value_range is not None:
        values = to_unit_range(values, value_range)
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
