"""TIFF files that Pillow has no mode for, written here byte by byte."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sktransfer.exceptions import ImageReadError
from sktransfer.images.pixels import ReadingOptions
from sktransfer.images.reading import read_image
from sktransfer.images.tiff import read_bands

H, W = 13, 18


def write_tiff(
    values,
    *,
    photometric=1,
    compression=1,
    predictor=1,
    planar=False,
    tile=None,
    order="<",
    extra=(),
):
    """The bytes of a TIFF file of (height, width, bands)."""
    height, width, bands = values.shape
    planes = [values[:, :, [i]] for i in range(bands)] if planar else [values]
    rows, columns = tile or (5, width)
    parts = []
    for plane in planes:
        for top in range(0, height, rows):
            for left in range(0, width, columns):
                part = plane[top : top + rows, left : left + columns]
                if tile:
                    missing = [(0, n - have) for n, have in zip(tile, part.shape[:2], strict=True)]
                    part = np.pad(part, [*missing, (0, 0)])
                parts.append(packed(predicted(part, predictor, order), compression))
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    tags = {256: (width,), 257: (height,), 259: (compression,), 262: (photometric,), 277: (bands,)}
    tags |= {258: (values.itemsize * 8,) * bands, 339: (kind,) * bands, 317: (predictor,)}
    tags |= {284: (2 if planar else 1,)}
    tags |= {322: (columns,), 323: (rows,)} if tile else {278: (rows,)}
    tags |= {338: extra} if extra else {}
    where, how_many = (324, 325) if tile else (273, 279)
    tags |= {where: (0,) * len(parts), how_many: tuple(map(len, parts))}

    def directory():
        n, after, entries, arrays = len(tags), 8 + 2 + 12 * len(tags) + 4, b"", b""
        for tag, numbers in sorted(tags.items()):
            data = struct.pack(f"{order}{len(numbers)}I", *numbers)
            if len(numbers) > 1:
                data, arrays = struct.pack(order + "I", after + len(arrays)), arrays + data
            entries += struct.pack(order + "HHI", tag, 4, len(numbers)) + data
        magic = b"II*\0" if order == "<" else b"MM\0*"
        return magic + struct.pack(order + "IH", 8, n) + entries + bytes(4) + arrays

    starts = np.cumsum([len(directory()), *map(len, parts[:-1])])
    tags[where] = tuple(starts.tolist())
    return directory() + b"".join(parts)


def predicted(part, predictor, order):
    """The bytes of a strip or tile, as differences along its rows."""
    stored = np.ascontiguousarray(part.astype(part.dtype.newbyteorder(order)))
    if predictor == 2:
        whole = part.astype(part.dtype.newbyteorder("=")).view(f"u{part.itemsize}")
        steps = np.diff(whole, axis=1, prepend=np.zeros_like(whole[:, :1]))
        return steps.astype(steps.dtype.newbyteorder(order)).tobytes()
    if predictor == 3:  # Adobe's technical note 3: bytes by significance, then differences
        rows, columns, bands = part.shape
        big = np.ascontiguousarray(part.astype(part.dtype.newbyteorder(">"))).view(np.uint8)
        by_significance = big.reshape(rows, columns * bands, part.itemsize).transpose(0, 2, 1)
        pixels = by_significance.reshape(rows, -1, bands)
        return np.diff(pixels, axis=1, prepend=np.zeros_like(pixels[:, :1])).tobytes()
    return stored.tobytes()


def packed(data, compression):
    if compression == 8:
        return zlib.compress(data)
    if compression == 5:  # by Pillow, as a picture of one row
        buffer = io.BytesIO()
        row = Image.frombytes("L", (len(data), 1), data)
        row.save(buffer, format="TIFF", compression="tiff_lzw", tiffinfo={317: 1})
        with Image.open(buffer) as image:
            tags = image.tag_v2
            start, n = tags[273][0], tags[279][0]
        return buffer.getvalue()[start : start + n]
    return data


def values_of(dtype, bands):
    rng = np.random.default_rng(bands)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return rng.random((H, W, bands)).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, (H, W, bands), dtype=dtype, endpoint=True)


@pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}, {"planar": True}])
@pytest.mark.parametrize("how", [(1, 1), (8, 1), (8, 2), (5, 2), (8, 3), (5, 3)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_what_was_written_is_read_in_every_layout(order, how, layout):
    compression, predictor = how
    dtypes = ("f4", "f8") if predictor == 3 else ("u1", "u2", "u4", "u8", "i2", "f2", "f4", "f8")
    for dtype in dtypes:
        for bands in (1, 3, 5):
            values = values_of(dtype, bands)
            file = write_tiff(
                values, compression=compression, predictor=predictor, order=order, **layout
            )
            found = read_bands(io.BytesIO(file), 10**6)
            assert found.values.dtype == np.dtype(dtype)
            assert np.array_equal(found.values, values), (dtype, bands)


@pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}, {"predictor": 2, "compression": 8}])
def test_pillow_reads_the_same_where_it_reads_at_all(layout):
    """The oracle of our own writer, and so of the reader."""
    grey, colour = values_of("f4", 1), values_of("u1", 3)
    for values, photometric in ((grey, 1), (colour, 2)):
        file = write_tiff(values, photometric=photometric, **layout)
        if values is grey and "predictor" in layout:
            continue
        with Image.open(io.BytesIO(file)) as image:
            assert np.array_equal(np.asarray(image).reshape(values.shape), values)
        assert np.array_equal(read_bands(io.BytesIO(file), 10**6).values, values)


def test_libtiff_writes_what_is_read(tmp_path):
    """Files of libtiff, through Pillow: LZW, Deflate, Zstandard and PackBits, in strips."""
    values = values_of("f4", 1)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "zstd", "packbits"):
        buffer = io.BytesIO()
        Image.fromarray(values[:, :, 0]).save(buffer, format="TIFF", compression=compression)
        assert np.array_equal(read_bands(buffer, 10**6).values, values), compression


def read(data, **params):
    return np.asarray(read_image(data, ReadingOptions(**{"max_pixels": 10**6} | params)))


def test_floats_of_every_size_and_colour_are_images():
    for dtype, bands in (("f8", 1), ("f4", 3), ("f8", 3), ("f2", 1)):
        values = values_of(dtype, bands)
        found = read(write_tiff(values, photometric=2 if bands == 3 else 1))
        assert np.allclose(found, values, atol=1e-7)
        assert found.dtype == np.float32
    with pytest.raises(ImageReadError, match=r"outside value_range=\(0, 1\)"):
        read(write_tiff(values_of("f8", 3) * 200, photometric=2))


def test_five_bands_reach_a_network_of_five_channels_only():
    for photometric in (1, 2):  # Pillow drops the last two where the first three are colours
        for dtype, top in (("u1", 1), ("u2", 65535)):
            values = values_of(dtype, 5)
            file = write_tiff(
                values, photometric=photometric, extra=(0, 0) if photometric == 2 else ()
            )
            assert np.allclose(read(file, in_channels=5), values / top, atol=1e-7)
    grey = write_tiff(values_of("u1", 5), photometric=1)
    with pytest.raises(ImageReadError, match="it has 5 bands and the backbone takes 3 channels"):
        read(grey)
    colour = values_of("u2", 5)
    found = read(write_tiff(colour, photometric=2, extra=(0, 0)))
    assert np.allclose(found, colour[:, :, :3] / 65535, atol=1e-7)


def test_opacity_shows_white():
    grey = np.zeros((2, 2, 2), np.uint16)
    grey[0, :, 1] = 65535
    found = read(write_tiff(grey, extra=(2,)))
    assert np.array_equal(found[:, :, 0], [[0, 0], [1, 1]])


def test_whole_numbers_without_a_range_need_one():
    values = np.array([[[0], [2**63]]], np.uint64)
    with pytest.raises(ImageReadError, match="64-bit integers from 0 to 9223372036854775808"):
        read(write_tiff(values))
    assert read(write_tiff(values), value_range=(0, 2**63)).max() == 1


def test_thirty_two_bits_above_two_to_the_31_are_no_negative_numbers():
    values = np.array([[[0], [2**31], [2**32 - 1]]], np.uint32)
    for photometric in (1, 0):  # Pillow has a mode for the first
        found = read(write_tiff(values, photometric=photometric), value_range=(0, 2**32 - 1))
        expected = [0, 2**31 / (2**32 - 1), 1]
        assert np.allclose(found.ravel(), expected if photometric else np.subtract(1, expected))
    with pytest.raises(ImageReadError, match="32-bit integers from 0 to 4294967295"):
        read(write_tiff(values))
    signed = np.array([[[-5], [5]]], np.int32)
    assert np.array_equal(read(write_tiff(signed), value_range=(-5, 5)).ravel(), [0, 1])


def test_too_many_pixels_are_refused_before_they_are_unpacked():
    file = write_tiff(values_of("f8", 1))
    with pytest.raises(ImageReadError, match="13 x 18 pixels of 1 bands, more than max_pixels=99"):
        read(file, max_pixels=99)
    with pytest.raises(ImageReadError, match="13 x 18 pixels of 9 bands"):
        read(write_tiff(values_of("f8", 9)), max_pixels=H * W)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")  # by Pillow
def test_what_is_damaged_or_of_another_kind_is_an_image_error():
    file = write_tiff(values_of("f8", 1), compression=8)
    for n in (20, 100, len(file) // 2, len(file) - 9):
        with pytest.raises(ImageReadError):
            read(file[:n])
    with pytest.raises(ImageReadError, match=r"compression 7 and predictor 1, which is not read"):
        read(write_tiff(values_of("f8", 1), compression=7))
    with pytest.raises(ImageReadError, match="photometric interpretation 6"):
        read(write_tiff(values_of("u2", 3), photometric=6))
