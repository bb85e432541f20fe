"""TIFF files that Pillow has no mode for: floats of any size, five bands, and so on.

Pillow unpacks the strips or tiles of such a file as if each byte were a grey pixel; what the bytes
mean is put together here.
"""

import io
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import TiffImagePlugin

from sktransfer.exceptions import ImageReadError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How a TIFF or BigTIFF file begins."""

BITS, PHOTOMETRIC, SAMPLES, SAMPLE_FORMAT, EXTRA_SAMPLES = 258, 262, 277, 339, 338

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2

_KINDS = {1: "u", 2: "i", 3: "f"}
_DTYPES = {f"{kind}{size}" for kind in "ui" for size in (1, 2, 4, 8)} | {"f2", "f4", "f8"}

# No compression, LZW, Deflate under its two numbers, PackBits, LZMA and Zstandard: those that know
# nothing of pixels.
_LOSSLESS = (1, 5, 8, 32946, 32773, 34925, 50000)

_ALPHA = (1, 2)


@dataclass(frozen=True)
class Bands:
    """What a TIFF file holds.

    Parameters
    ----------
    values : ndarray of shape (height, width, bands)
        As stored.
    photometric : {0, 1, 2}
        White is zero, black is zero, or the first three are red, green and blue.
    has_alpha : bool
        Whether the band after the colours is opacity.
    """

    values: np.ndarray
    photometric: int
    has_alpha: bool


@dataclass(frozen=True)
class _Layout:
    """How the samples of one page lie in its file."""

    height: int
    width: int
    bands: int
    dtype: np.dtype[Any]
    compression: int
    predictor: int
    planar: bool
    part: tuple[int, int]  # height and width of a strip or tile
    tiled: bool
    offsets: tuple[int, ...]
    counts: tuple[int, ...]


def read_bands(file: BinaryIO, max_pixels: int) -> Bands:
    """The first page of a TIFF file.

    Raises
    ------
    ImageReadError
        It is too large, damaged, or of a kind that is not read.
    """
    try:
        return _read_bands(file, max_pixels)
    except ImageReadError:
        raise
    # Whatever tags that are missing, or of another type than they should be, lead to.
    except (KeyError, TypeError, ValueError, ArithmeticError, SyntaxError, struct.error) as error:
        raise ImageReadError(
            f"the TIFF file is truncated or corrupt ({type(error).__name__}: {error})"
        ) from error


def _read_bands(file: BinaryIO, max_pixels: int) -> Bands:
    file.seek(0)
    head = file.read(8)
    if 43 in head[2:4]:
        head += file.read(8)
    tags: Any = TiffImagePlugin.ImageFileDirectory_v2(head)
    file.seek(tags.next)
    tags.load(file)
    photometric = tags.get(PHOTOMETRIC, WHITE_IS_ZERO)
    if photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
        raise ImageReadError(
            f"it is a TIFF of photometric interpretation {photometric} with "
            f"{tags.get(BITS, (1,))} bits, which is not read; convert it to grey or RGB"
        )
    layout = _layout(tags)
    # Four bands make a pixel, as in RGB with opacity.
    if layout.height * layout.width * -(-layout.bands // 4) > max_pixels:
        raise ImageReadError(
            f"it has {layout.height} x {layout.width} pixels of {layout.bands} bands, more than "
            f"max_pixels={max_pixels}; raise max_pixels if you trust it"
        )
    n_planes = layout.bands if layout.planar else 1
    each = len(layout.offsets) // n_planes
    planes = [
        _plane(file, layout, slice(i * each, (i + 1) * each)) for i in range(max(1, n_planes))
    ]
    n_colours = 3 if photometric == RGB else 1
    extra = tags.get(EXTRA_SAMPLES, ())
    return Bands(
        np.concatenate(planes, axis=2),
        photometric,
        has_alpha=bool(extra) and extra[0] in _ALPHA and layout.bands == n_colours + len(extra),
    )


def _layout(tags: Any) -> _Layout:
    width, height = int(tags[256]), int(tags[257])
    bands = int(tags.get(SAMPLES, 1))
    bits, kinds = set(tags.get(BITS, (1,))), set(tags.get(SAMPLE_FORMAT, (1,)))
    dtype = "".join(f"{_KINDS.get(kind, '?')}{n / 8:g}" for kind in kinds for n in bits)
    compression, predictor = tags.get(259, 1), tags.get(317, 1)
    if (
        dtype not in _DTYPES
        or compression not in _LOSSLESS
        or predictor not in (1, 2, 3)
        or tags.get(266, 1) != 1
    ):
        raise ImageReadError(
            f"it is a TIFF of {sorted(bits)} bits, sample format {sorted(kinds)}, compression "
            f"{compression} and predictor {predictor}, which is not read; write whole bytes, "
            "uncompressed or with LZW, Deflate, PackBits or Zstandard"
        )
    tiled = 324 in tags
    offsets, counts = (tuple(tags[tag]) for tag in ((324, 325) if tiled else (273, 279)))
    part = (
        (int(tags[323]), int(tags[322]))
        if tiled
        else (min(int(tags.get(278, height)), height), width)
    )
    layout = _Layout(
        height,
        width,
        bands,
        np.dtype(("<" if tags.prefix == b"II" else ">") + dtype),
        compression,
        predictor,
        tags.get(284, 1) == 2 and bands > 1,
        part,
        tiled,
        offsets,
        counts,
    )
    if min(height, width, bands, *part) < 1 or len(offsets) != len(counts):
        raise ImageReadError("the TIFF file is corrupt (its sizes contradict each other)")
    return layout


def _plane(file: BinaryIO, layout: _Layout, parts: slice) -> np.ndarray:
    """The samples of some strips or tiles: all, or those of one band; (height, width, bands)."""
    bands = 1 if layout.planar else layout.bands
    n_bytes = bands * layout.dtype.itemsize
    across = -(-layout.width // layout.part[1])
    width = across * layout.part[1]  # that of a row of tiles, which may reach beyond the image
    data = _unpacked(file, layout, parts, width * n_bytes, n_bytes)
    rows = data.reshape(layout.height * across, layout.part[1] * n_bytes)  # of strips or tiles
    if layout.predictor == 3:
        summed = np.add.accumulate(rows.reshape(len(rows), -1, bands), axis=1, dtype=np.uint8)
        by_significance = summed.reshape(len(rows), layout.dtype.itemsize, -1)
        joined = np.ascontiguousarray(by_significance.transpose(0, 2, 1))
        samples = joined.view(layout.dtype.newbyteorder(">"))
    elif layout.predictor == 2:
        whole = np.dtype(f"u{layout.dtype.itemsize}")
        steps = rows.view(whole.newbyteorder(layout.dtype.byteorder)).astype(whole)
        steps = steps.reshape(len(rows), -1, bands)
        samples = np.add.accumulate(steps, axis=1, dtype=whole).view(layout.dtype.newbyteorder("="))
    else:
        samples = rows.view(layout.dtype)
    values = samples.reshape(layout.height, width, bands)[:, : layout.width]
    return values.astype(layout.dtype.newbyteorder("="))


def _unpacked(
    file: BinaryIO, layout: _Layout, parts: slice, row_bytes: int, n_bytes: int
) -> np.ndarray:
    """Bytes of the strips or tiles, (height, row_bytes), with whatever predictor they have."""
    offsets, counts = layout.offsets[parts], layout.counts[parts]
    size = file.seek(0, io.SEEK_END)
    if not offsets or sum(counts) > size:
        raise ImageReadError("the TIFF file is truncated or corrupt (its strips are not in it)")
    strips = []
    for offset, count in zip(offsets, counts, strict=True):
        file.seek(offset)
        strips.append(file.read(count))
    height, part_bytes = layout.part[0], layout.part[1] * n_bytes
    tags: dict[int, tuple[int, ...]] = {
        256: (row_bytes,),
        257: (layout.height,),
        258: (8,),
        259: (layout.compression,),
        262: (BLACK_IS_ZERO,),
        277: (1,),
    }
    if layout.tiled:
        tags |= {322: (part_bytes,), 323: (height,)}
    else:
        tags |= {278: (height,)}
    where, how_many = (324, 325) if layout.tiled else (273, 279)
    repacked = _grey_file(tags, where, how_many, strips)
    try:
        with TiffImagePlugin.TiffImageFile(io.BytesIO(repacked)) as image:
            return np.array(image)
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        raise ImageReadError(f"the TIFF file is truncated or corrupt ({error})") from error


def _grey_file(
    tags: dict[int, tuple[int, ...]], where: int, how_many: int, strips: list[bytes]
) -> bytes:
    """A TIFF file of 32-bit tags and the strips or tiles."""
    n = len(strips)
    n_tags = len(tags) + 2
    after = 8 + 2 + 12 * n_tags + 4
    starts = np.cumsum([after + 8 * n, *(len(strip) for strip in strips[:-1])]).tolist()
    tags = dict(sorted({**tags, where: tuple(starts), how_many: tuple(map(len, strips))}.items()))
    directory, arrays = b"", b""
    for tag, values in tags.items():
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(values) > 1:
            packed, arrays = struct.pack("<I", after + len(arrays)), arrays + packed
        directory += struct.pack("<HHI", tag, 4, len(values)) + packed
    head = b"II*\0" + struct.pack("<IH", 8, n_tags) + directory + bytes(4)
    return head + arrays.ljust(8 * n, b"\0") + b"".join(strips)
