"""Files whose depth, opacity, orientation or tags Pillow leaves to its callers."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from sktransfer.exceptions import ImageReadError
from sktransfer.images.decoding import formats, is_read_anew
from sktransfer.images.pixels import ReadingOptions
from sktransfer.images.reading import read_image


def read(item, **params):
    return read_image(item, ReadingOptions(**{"max_pixels": 10**6} | params))


def grey_tiff(values, photometric, bits=None):
    """An uncompressed grey TIFF file; 12 bits come packed."""
    height, width = values.shape
    data = values.tobytes()
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(int)
        data = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs.tolist())
    kind = 3 if values.dtype.kind == "f" else 1
    tags = {256: width, 257: height, 258: bits or values.itemsize * 8, 259: 1, 262: photometric}
    tags |= {273: 8 + 2 + 12 * 10 + 4, 277: 1, 278: height, 279: len(data), 339: kind}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def png(rows, *, bits, colour, transparent, width):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0)
    values = struct.pack(f">{len(transparent)}H", *transparent)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = ((b"IHDR", header), (b"tRNS", values), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


RAMP = np.linspace(0, 1, 24).reshape(4, 6)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_a_page_on_which_white_is_zero_is_the_negative_of_the_other(dtype):
    top = 1 if dtype == "f4" else np.iinfo(dtype).max
    values = (RAMP * top).astype(dtype)
    black_is_zero, white_is_zero = (grey_tiff(values, photometric) for photometric in (1, 0))
    scale = 255 if dtype == "u1" else 1
    positive = np.asarray(read(black_is_zero)).squeeze() / scale
    assert np.allclose(positive, values / top, atol=1e-6)
    assert np.allclose(np.asarray(read(white_is_zero)).squeeze() / scale, 1 - positive, atol=1e-6)
    with Image.open(io.BytesIO(white_is_zero)) as opened:
        for _ in range(2):  # decoded by the first pass
            found = np.asarray(read(opened)).squeeze() / scale
            assert np.allclose(found, 1 - positive, atol=1e-6)


def test_twelve_bits_run_to_4095():
    values = (RAMP * 4095).astype(np.uint16)
    assert np.allclose(read(grey_tiff(values, 1, bits=12)).squeeze(), values / 4095, atol=1e-6)


def test_the_transparent_value_of_a_grey_png_shows_white_whatever_its_depth(tmp_path):
    for bits, row in ((1, b"\x40"), (2, b"\x1b"), (4, b"\x0f\x3c"), (8, bytes([0, 5, 9, 255]))):
        width = 2 if bits == 1 else 4
        top = 2**bits - 1
        numbers = np.unpackbits(np.frombuffer(row, np.uint8)).reshape(-1, bits)
        numbers = (numbers @ (1 << np.arange(bits)[::-1]))[:width]
        for transparent in set(numbers.tolist()):
            file = png([row], bits=bits, colour=0, transparent=[transparent], width=width)
            found = np.asarray(read(file).convert("L"))[0]
            expected = np.where(numbers == transparent, 255, numbers * 255 // top)
            assert np.array_equal(found, expected), (bits, transparent)
    numbers = np.array([0, 257, 999, 65535], np.uint16)
    file = png([numbers.astype(">u2").tobytes()], bits=16, colour=0, transparent=[999], width=4)
    assert np.allclose(read(file).ravel(), [0, 257 / 65535, 1, 1])
    within = read(file, value_range=(0, 65535)).ravel()
    assert np.allclose(within, [0, 257 / 65535, 1, 1])
    Image.fromarray(numbers[None]).save(tmp_path / "a.png", transparency=0)
    with Image.open(tmp_path / "a.png") as opened:
        assert np.allclose(read(opened).ravel(), [1, 257 / 65535, 999 / 65535, 1])


def test_a_transparent_value_outside_the_range_of_the_others_is_white():
    numbers = np.array([0, 100, 60000], ">u2")
    file = png([numbers.tobytes()], bits=16, colour=0, transparent=[60000], width=3)
    assert np.allclose(read(file, value_range=(0, 100)).ravel(), [0, 1, 1])


def test_the_transparent_colour_of_a_16_bit_png_shows_white():
    row = np.array([2570, 5140, 7710, 0, 0, 0], ">u2").tobytes()
    file = png([row], bits=16, colour=2, transparent=[2570, 5140, 7710], width=2)
    assert np.array_equal(np.asarray(read(file))[0], [[255, 255, 255], [0, 0, 0]])


def test_opacity_reaches_a_network_of_four_channels_and_is_white_for_others():
    rgba = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(rgba).save(buffer, format="PNG")
    with Image.open(buffer) as opened:
        for item in (buffer.getvalue(), opened):
            assert np.array_equal(read(item, in_channels=4), rgba)
    assert read(buffer.getvalue()).mode == "RGB"
    grey = io.BytesIO()
    Image.fromarray(rgba).convert("LA").save(grey, format="PNG")
    assert np.asarray(read(grey.getvalue(), in_channels=2)).shape == (5, 7, 2)
    assert read(grey.getvalue(), in_channels=1).mode == "RGB"


def exif(*tags):
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(tags) + bytes(4)


def short(tag, value):
    return struct.pack("<HHIHH", tag, 3, 1, value, 0)


MALFORMED = {
    "a resolution written as text": struct.pack("<HHI", 0x11A, 2, 4) + b"72 \0",
    "a rational of no numbers": struct.pack("<HHII", 0x11A, 5, 0, 0),
    "a block beyond the end": struct.pack("<HHII", 0x8769, 4, 1, 0xFFFFFF),
    "an unknown type": struct.pack("<HHII", 0x10F, 99, 1, 0),
    "text that is no text": struct.pack("<HHI", 0x10F, 2, 4) + b"\xff\xfe\xfd\xfc",
}


@pytest.mark.parametrize("tag", MALFORMED)
@pytest.mark.parametrize("suffix", ["jpeg", "png", "webp"])
def test_a_malformed_tag_neither_spoils_nor_turns_a_photograph(tag, suffix):
    upright = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    files = []
    for orientation in (1, 6):
        buffer = io.BytesIO()
        tags = exif(short(0x112, orientation), MALFORMED[tag])
        options = {"lossless": True} if suffix == "webp" else {}
        Image.fromarray(upright).save(buffer, format=suffix, exif=tags, **options)
        files.append(buffer.getvalue())
    plain, turned = (np.asarray(read(file)) for file in files)
    assert np.array_equal(turned, np.rot90(plain, -1))
    with Image.open(io.BytesIO(files[1])) as opened:
        assert np.array_equal(np.asarray(read(opened)), turned)
    drafted = read(files[1], enough=lambda size: size)
    assert np.array_equal(np.asarray(drafted), turned)


def test_an_orientation_that_is_none_is_ignored():
    for value in (0, 9, 255):
        buffer = io.BytesIO()
        Image.new("RGB", (6, 4), "red").save(buffer, format="PNG", exif=exif(short(0x112, value)))
        assert read(buffer.getvalue()).size == (6, 4)
    buffer = io.BytesIO()
    text = exif(struct.pack("<HHI", 0x112, 2, 2) + b"6\0\0\0")
    Image.new("RGB", (64, 32), "red").save(buffer, format="JPEG", exif=text)
    assert read(buffer.getvalue()).size == (64, 32)
    assert read(buffer.getvalue(), enough=lambda size: (8, 8)).size == (16, 8)


@pytest.mark.parametrize("file_format", ["PPM", "AVIF", "JPEG2000"])
def test_further_formats_are_read_where_pillow_has_them(file_format):
    codec = {"AVIF": "avif", "JPEG2000": "jpg_2000"}.get(file_format)
    if codec and not features.check(codec):
        assert file_format not in formats()
        return
    buffer = io.BytesIO()
    Image.new("RGB", (16, 12), (200, 30, 60)).save(buffer, format=file_format)
    found = np.asarray(read(buffer.getvalue()))
    assert found.shape == (12, 16, 3)
    assert np.abs(found.astype(int) - (200, 30, 60)).max() < 6


def test_portable_grey_maps_of_any_maximum_run_from_black_to_white():
    for maximum, kind in ((255, ">u1"), (300, ">u2"), (4095, ">u2"), (65535, ">u2")):
        values = np.array([0, maximum // 3, maximum], kind)
        found = np.asarray(read(b"P5 3 1 %d\n" % maximum + values.tobytes())).ravel()
        expected = values.astype(float) / maximum
        assert np.allclose(found / (255 if maximum == 255 else 1), expected, atol=1e-4)


def test_a_heic_file_says_what_reads_it():
    if "HEIF" in formats():
        pytest.skip("pillow-heif is installed")
    with pytest.raises(ImageReadError, match=r'HEIC file; run `pip install "sktransfer\[heif\]"`'):
        read(b"\0\0\0\x18ftypheic" + bytes(64))


def test_only_what_was_misread_is_read_anew(tmp_path):
    ramp = (RAMP * 65535).astype(np.uint16)
    assert is_read_anew(grey_tiff(ramp, 0))
    assert not is_read_anew(grey_tiff(ramp, 1))
    assert not is_read_anew(grey_tiff((RAMP * 255).astype(np.uint8), 0))  # which Pillow inverts
    assert is_read_anew(grey_tiff(ramp // 16, 1, bits=12))
    for name, transparency in (("a.png", {"transparency": 0}), ("b.png", {})):
        Image.fromarray(ramp).save(tmp_path / name, **transparency)
        assert is_read_anew(tmp_path / name) is bool(transparency)
        with Image.open(tmp_path / name) as opened:
            assert is_read_anew(opened) is bool(transparency)
    Image.new("L", (3, 3)).save(tmp_path / "c.png", transparency=0)
    assert not is_read_anew(tmp_path / "c.png")
    assert not is_read_anew(b"neither")
