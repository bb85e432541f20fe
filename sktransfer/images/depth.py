"""What the samples of an image file are, which Pillow's mode does not tell."""

from typing import Any, NamedTuple

from PIL import Image

from sktransfer.images import tiff

SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")


class SampleFormat(NamedTuple):
    """What pixels are in a file, which Pillow's mode does not tell."""

    bits: int | None = None  # of a sample
    is_unsigned: bool = False
    white_is_zero: bool = False


def sample_format(image: Image.Image) -> SampleFormat:
    """Look at an image that Pillow has opened; of all formats, TIFF leaves its tags on it."""
    tags: Any = getattr(image, "tag_v2", None)
    if tags is None:
        return SampleFormat()
    return SampleFormat(
        tags.get(tiff.BITS, (1,))[0],
        tags.get(tiff.SAMPLE_FORMAT, (1,))[0] == 1,
        tags.get(tiff.PHOTOMETRIC, tiff.WHITE_IS_ZERO) == tiff.WHITE_IS_ZERO,
    )


def sample_format_in_file(image: Image.Image) -> SampleFormat:
    """The same before pixels are decoded, when PNG tells its depth, too, as in "RGB;16B"."""
    tiles: Any = getattr(image, "tile", None)
    if image.format != "PNG" or not tiles:
        return sample_format(image)
    digits = str(tiles[0].args).partition(";")[2].strip("B")
    return SampleFormat(int(digits) if digits.isdecimal() else 8)


def is_inverted(image: Image.Image, samples: SampleFormat) -> bool:
    """Whether white is zero; Pillow itself inverts 8 bits and less."""
    return samples.white_is_zero and (image.mode == "F" or image.mode in SIXTEEN_BIT)
