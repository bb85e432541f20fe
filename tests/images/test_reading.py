"""The image zoo: every kind of file that is read, and every kind that must be refused.

All files are made here.
"""

import io
import struct
import zlib

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from sktransfer.exceptions import ImageReadError
from sktransfer.images.pixels import ReadingOptions
from sktransfer.images.reading import read_image

H, W = 12, 20


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth colour picture without symmetry, so that every flip shows."""
    y, x = np.mgrid[0:H, 0:W]
    return np.stack([y * 20, x * 12, (x + y) * 8], axis=2).astype(np.uint8)


def read(item, **params):
    return read_image(item, ReadingOptions(**{"max_pixels": 10**6} | params))


def pixels(item, **params):
    return np.asarray(read(item, **params))


# --- what is read -----------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "gif"])
def test_lossless_formats_give_back_the_pixels(suffix, picture, tmp_path):
    path = tmp_path / f"image.{suffix}"
    image = Image.fromarray(picture)
    if suffix == "gif":
        image = image.quantize(256)
        picture = np.asarray(image.convert("RGB"))
    image.save(path, **({"lossless": True} if suffix == "webp" else {}))
    assert np.array_equal(pixels(path), picture)
    assert np.array_equal(pixels(str(path)), picture)


def test_jpeg_comes_close_to_the_pixels(picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(pixels(tmp_path / "a.jpg").astype(int) - picture).mean() < 3


def test_the_suffix_does_not_matter(picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a.dat", format="PNG")
    assert np.array_equal(pixels(tmp_path / "a.dat"), picture)


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
def test_exif_orientation_is_applied(orientation, suffix, picture, tmp_path):
    image = Image.fromarray(picture)
    exif = image.getexif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    if suffix == "tiff":
        image.save(path, tiffinfo={0x0112: orientation})
    else:
        image.save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    assert np.array_equal(pixels(path), UPRIGHT[orientation](picture))
    with Image.open(path) as opened:
        assert np.array_equal(pixels(opened), UPRIGHT[orientation](picture))
        if suffix != "tiff":  # which Pillow itself turns when it loads
            assert opened.size == (W, H)  # the caller's image is as it was


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bit_grey_keeps_its_depth(suffix, tmp_path):
    ramp = np.linspace(0, 65535, H * W).reshape(H, W).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / f"a.{suffix}")
    found = read(tmp_path / f"a.{suffix}")
    assert found.dtype == np.float32
    assert np.allclose(found[:, :, 0], ramp / 65535, atol=1e-7)
    assert len(np.unique(found)) == H * W  # Pillow's own conversion leaves two values


def test_sixteen_bit_grey_follows_value_range(tmp_path):
    ramp = np.linspace(0, 4095, H * W).reshape(H, W).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    found = read(tmp_path / "a.png", value_range=(0, 4095))
    assert np.allclose(found[:, :, 0], ramp / 4095, atol=1e-6)
    with pytest.raises(ImageReadError, match="outside value_range"):
        read(tmp_path / "a.png", value_range=(0, 255))


def test_float_tiff_must_lie_in_its_range(tmp_path):
    ramp = np.linspace(0, 1, H * W).reshape(H, W).astype(np.float32)
    Image.fromarray(ramp).save(tmp_path / "unit.tiff")
    assert np.allclose(read(tmp_path / "unit.tiff")[:, :, 0], ramp)
    Image.fromarray(ramp * 300).save(tmp_path / "wide.tiff")
    with pytest.raises(ImageReadError, match=r"from 0 to 300, outside value_range=\(0, 1\)"):
        read(tmp_path / "wide.tiff")
    assert np.allclose(read(tmp_path / "wide.tiff", value_range=(0, 300))[:, :, 0], ramp)


def test_thirty_two_bit_integers_need_a_range(tmp_path):
    Image.fromarray(np.arange(H * W, dtype=np.int32).reshape(H, W)).save(tmp_path / "a.tiff")
    with pytest.raises(ImageReadError, match="32-bit integers from 0 to 239.*value_range"):
        read(tmp_path / "a.tiff")
    assert read(tmp_path / "a.tiff", value_range=(0, 239)).max() == 1


def test_transparency_shows_white(tmp_path):
    rgba = np.zeros((H, W, 4), dtype=np.uint8)
    rgba[:, : W // 2] = (255, 0, 0, 255)
    rgba[:, W // 2 :] = (0, 0, 0, 0)
    expected = rgba[:, :, :3].copy()
    expected[:, W // 2 :] = 255
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    Image.fromarray(rgba).save(tmp_path / "rgba.webp", lossless=True)
    Image.fromarray(rgba).save(tmp_path / "palette.gif")
    palette = Image.fromarray(rgba[:, :, :3]).quantize(2)
    palette.save(tmp_path / "palette.png", transparency=palette.getpixel((W - 1, 0)))
    for name in ("rgba.png", "rgba.webp", "palette.gif", "palette.png"):
        assert np.array_equal(pixels(tmp_path / name), expected), name


def test_half_transparent_black_over_white_is_grey(tmp_path):
    Image.new("LA", (W, H), (0, 128)).save(tmp_path / "a.png")
    assert np.abs(pixels(tmp_path / "a.png").astype(int) - 127).max() <= 1


def test_a_palette_gives_its_colours(picture, tmp_path):
    palette = Image.fromarray(picture).quantize(16)
    palette.save(tmp_path / "a.png")
    assert np.array_equal(pixels(tmp_path / "a.png"), np.asarray(palette.convert("RGB")))


def test_cmyk_gives_rgb(tmp_path):
    Image.new("CMYK", (W, H), (0, 255, 255, 0)).save(tmp_path / "a.tiff")
    assert np.array_equal(pixels(tmp_path / "a.tiff")[0, 0], [255, 0, 0])
    Image.new("CMYK", (W, H), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    assert np.abs(pixels(tmp_path / "a.jpg")[0, 0].astype(int) - [255, 0, 0]).max() < 6


def test_grey_and_black_and_white_stay_one_channel(picture, tmp_path):
    Image.fromarray(picture).convert("L").save(tmp_path / "grey.png")
    Image.fromarray(picture).convert("1").save(tmp_path / "bilevel.png")
    assert read(tmp_path / "grey.png").mode == "L"
    assert read(tmp_path / "bilevel.png").mode == "L"
    assert set(np.unique(pixels(tmp_path / "bilevel.png"))) == {0, 255}


@pytest.mark.parametrize("suffix", ["gif", "webp", "tiff", "png"])
def test_of_an_animation_the_first_frame_counts(suffix, tmp_path):
    frames = [Image.new("RGB", (W, H), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if suffix == "webp" else {}
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    assert np.array_equal(pixels(path)[0, 0], [255, 0, 0])


def test_arrays_keep_their_layout(picture):
    assert np.array_equal(read(picture), picture)
    assert np.array_equal(read(np.moveaxis(picture, 2, 0), channels="first"), picture)
    assert read(picture[:, :, 0]).shape == (H, W, 1)
    assert read(np.ones((H, W), dtype=bool)).max() == 1


# --- what is refused --------------------------------------------------------------------


def png_bomb(width, height):
    """A PNG header that promises many pixels, and hardly any data."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 100)
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [2_000, 10_000, 50_000])
def test_bombs_are_refused_before_they_are_decoded(side, tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_bomb(side, side))
    with pytest.raises(ImageReadError, match="max_pixels=1000000"):
        read(tmp_path / "bomb.png")


def test_images_in_memory_obey_max_pixels_too(picture):
    for image in (picture, Image.fromarray(picture)):
        with pytest.raises(ImageReadError, match="12 x 20 pixels, more than max_pixels=100"):
            read(image, max_pixels=100)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "bmp", "gif"])
@pytest.mark.parametrize("kept", [0.05, 0.3, 0.6, 0.9])
def test_truncated_files_are_refused(suffix, kept, tmp_path):
    noise = np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format={"jpg": "jpeg"}.get(suffix, suffix))
    data = buffer.getvalue()
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ImageReadError, match="truncated or corrupt|not a readable|cannot be read"):
        read(path)


def test_a_damaged_png_is_refused(picture, tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="png")
    data = bytearray(buffer.getvalue())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageReadError, match="truncated or corrupt|not a readable"):
        read(tmp_path / "a.png")


def test_what_is_no_image_file_is_refused_by_its_kind(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "garbage.jpg").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "text.png").write_text("not an image\n")
    (tmp_path / "page.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "drawing.pcx").write_bytes(b"\x0a\x05\x01\x08" + bytes(124))  # is left out
    (tmp_path / "folder.jpg").mkdir()
    expected = {
        "empty.jpg": "empty",
        "garbage.jpg": "not a readable JPEG, PNG, WEBP, TIFF, BMP, GIF, PPM.* file",
        "text.png": "not a readable",
        "page.png": "not a readable",
        "drawing.pcx": "not a readable",
        "folder.jpg": "is a directory",
        "absent.jpg": "no such file",
    }
    for name, message in expected.items():
        with pytest.raises(ImageReadError, match=message):
            read(tmp_path / name)


def test_lazily_opened_pictures_are_refused_before_they_are_decoded(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_bomb(2000, 2000))
    with (
        Image.open(tmp_path / "bomb.png") as opened,
        pytest.raises(ImageReadError, match="max_pixels"),  # decoded, it would be truncated
    ):
        read(opened)


def test_a_closed_image_and_one_without_pixels_say_so(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as closed:
        pass
    with pytest.raises(ImageReadError, match="closed before its pixels were read; pass the path"):
        read(closed)
    for empty in (Image.new("RGB", (0, 9)), Image.new("L", (9, 0)), np.zeros((0, 9, 3))):
        with pytest.raises(ImageReadError, match="no pixels"):
            read(empty)


def test_masked_values_are_refused_and_a_mask_of_nothing_is_none(picture):
    assert np.array_equal(read(np.ma.array(picture)), picture)
    assert np.array_equal(read(np.ma.array(picture, mask=False)), picture)
    masked = np.ma.array(picture)
    masked[0, 0] = np.ma.masked
    with pytest.raises(ImageReadError, match=r"3 of its values are masked; fill them"):
        read(masked)


def test_missing_values_of_every_library_are_missing():
    for missing in (None, float("nan"), np.float32("nan"), pd.NA, pd.NaT):
        with pytest.raises(ImageReadError, match="it is missing"):
            read(missing)
    with pytest.raises(ImageReadError, match="path is empty"):
        read("")


def test_a_rounding_error_beyond_the_range_is_forgiven_and_clipped():
    found = read(np.full((4, 4), 1 + 1e-7, dtype=np.float32))
    assert found.max() == 1
    with pytest.raises(ImageReadError, match=r"to 1\.00001, outside"):
        read(np.full((4, 4), 1.00001))


def test_tensors_of_any_precision_are_read():
    values = torch.rand(3, 4, 5)
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        found = read(values.to(dtype), channels="first")
        assert np.allclose(found, values.permute(1, 2, 0), atol=0.01)


def test_a_file_that_may_not_be_opened_is_an_image_error(tmp_path):
    path = tmp_path / "loop.jpg"
    path.symlink_to(path)
    with pytest.raises(ImageReadError, match="cannot be read"):
        read(path)


def test_the_colours_of_lab_are_no_opacity(colour):
    lab = Image.merge("LAB", [Image.fromarray(plane) for plane in np.moveaxis(colour[0], 2, 0)])
    found = read(lab)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(lab.convert("RGB")))


def test_grey_that_is_multiplied_by_opacity_is_read_as_grey_with_opacity(colour):
    grey, opacity = (Image.fromarray(plane) for plane in np.moveaxis(colour[0], 2, 0)[:2])
    image = Image.merge("LA", [grey, opacity]).convert("La")
    found, expected = (pixels(each) for each in (image, image.convert("LA")))
    np.testing.assert_array_equal(found, expected)
