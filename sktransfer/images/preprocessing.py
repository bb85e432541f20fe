"""From a decoded image to the float32 array a network was trained on.

Pillow resamples everything, files and arrays alike, so that the same pixels give
the same numbers however they arrive: 8-bit images in 8 bits, as torchvision and
timm do for Pillow images, all else in float32, plane by plane. The two differ by
the rounding to 256 levels after each axis.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sktransfer.exceptions import ImageReadError

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

RESIZES = ("crop", "squash", "squash+crop", "border")

# ITU-R 601-2, the luma transform of Pillow's mode "L".
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class Preprocessing:
    """The size, layout and scale in which a network expects its images.

    Parameters
    ----------
    size : tuple of int or None
        Height and width in pixels of what the network receives; None when the
        network does not say.
    crop_pct : float, default=1.0
        Share of the resized shorter side that the centre crop keeps.
    interpolation : {"nearest", "bilinear", "bicubic", "lanczos"}
        Resampling filter.
    mean, std : tuple of float
        Per-channel normalisation of values in [0, 1].
    in_channels : int, default=3
        Number of channels the first layer takes.
    resize : {"crop", "squash", "squash+crop", "border"}, default="crop"
        "crop" keeps the aspect ratio and cuts the centre, as in the evaluation
        of most published networks; "squash" shrinks the whole image, and "squash+crop"
        makes each side larger by `crop_pct` and cuts the centre; "border" keeps the aspect ratio
        and the whole image, or its centre, and fills what is left with the mean colour.
    """

    size: tuple[int, int] | None = None
    crop_pct: float = 1.0
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    in_channels: int = 3
    resize: str = "crop"

    @property
    def revisions(self) -> tuple[str, ...]:
        """Rules that have changed for such sizes since features were first stored."""
        if self.size is None or self.resize != "crop":
            return ()
        rounded = ("sides rounded to nearest",) if self.size[0] != self.size[1] else ()
        return rounded + (("black borders",) if self.crop_pct > 1 else ())


def prepare(
    image: Image.Image | np.ndarray, preprocessing: Preprocessing, *, max_pixels: int
) -> np.ndarray:
    """An image of `fit_to_size` normalised: (height, width, in_channels), float32."""
    return normalised(fit_to_size(image, preprocessing, max_pixels=max_pixels), preprocessing)


def normalised(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Pixels of one image or several, channels last, as the network was trained on them.

    Parameters
    ----------
    pixels : ndarray of shape (..., in_channels)
        uint8, or float32 within [0, 1].
    preprocessing : Preprocessing
    """
    scaled = (
        pixels.astype(np.float32) / np.float32(255) if pixels.dtype == np.uint8 else pixels.copy()
    )
    scaled -= np.asarray(preprocessing.mean, dtype=np.float32)
    scaled /= np.asarray(preprocessing.std, dtype=np.float32)
    return scaled


def fit_to_size(
    image: Image.Image | np.ndarray, preprocessing: Preprocessing, *, max_pixels: int
) -> np.ndarray:
    """Resize, crop and match the channels of one image.

    Parameters
    ----------
    image : PIL.Image.Image in mode "L" or "RGB", or ndarray
        An array has shape (height, width, channels) and holds uint8, or float32
        within [0, 1].
    preprocessing : Preprocessing
        With a known `size`.
    max_pixels : int
        Upper bound for the intermediate image that an extreme aspect ratio
        would make.

    Returns
    -------
    ndarray of shape (height, width, in_channels), uint8 or float32
    """
    assert preprocessing.size is not None
    if isinstance(image, np.ndarray):
        image = _match_channels(image, preprocessing.in_channels)
        if image.dtype == np.uint8 and image.shape[2] in (1, 3):
            image = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    elif image.mode == "RGB" and preprocessing.in_channels == 1:
        image = image.convert("L")
    if isinstance(image, Image.Image):
        _check_channels(len(image.getbands()), preprocessing.in_channels)

    height, width = _size_of(image)
    new_size = resized_size((height, width), preprocessing)
    if math.prod(new_size) > max_pixels:
        raise ImageReadError(
            f"its {height} x {width} pixels would be resized to {new_size[0]} x {new_size[1]}, "
            f"more than max_pixels={max_pixels}; use resize='squash' for such a shape"
        )
    pixels = _resample(image, new_size, _FILTERS[preprocessing.interpolation])
    if pixels.shape[2] == 1 and preprocessing.in_channels > 1:
        pixels = np.repeat(pixels, preprocessing.in_channels, axis=2)
    pixels = _bordered(pixels, preprocessing)
    height, width = preprocessing.size
    top, left = (
        round((have - keep) / 2)
        for have, keep in zip(pixels.shape[:2], preprocessing.size, strict=True)
    )
    return pixels[top : top + height, left : left + width]


def resized_size(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """Height and width after resizing, before the crop.

    Rounded as torchvision does for square networks, and as timm does for others.
    """
    assert preprocessing.size is not None
    if preprocessing.resize == "squash":
        return preprocessing.size
    # The tiny term undoes 224 / (224 / 232) = 231.99999999999997.
    target = [int(side / preprocessing.crop_pct + 1e-6) for side in preprocessing.size]
    if preprocessing.resize == "squash+crop":
        return target[0], target[1]
    scales = [wanted / have for wanted, have in zip(target, size, strict=True)]
    if preprocessing.resize == "border":
        ratio = max(have / wanted for wanted, have in zip(target, size, strict=True))
        return max(1, round(size[0] / ratio)), max(1, round(size[1] / ratio))
    leading = int(np.argmax(scales))  # the side that must just fit; the other overshoots
    if target[0] == target[1]:
        new = [int(target[leading] * have / size[leading]) for have in size]
    else:
        ratio = min(have / wanted for wanted, have in zip(target, size, strict=True))
        new = [round(have / ratio) for have in size]
    new[leading] = target[leading]
    return new[0], new[1]


def _bordered(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Fill up an image that is smaller than the network's size, all around.

    With the mean colour, if it is to have a border; with black, as torchvision does, where the
    publisher of a network crops more than there is.
    """
    assert preprocessing.size is not None
    missing = [max(0, n - have) for n, have in zip(preprocessing.size, pixels.shape, strict=False)]
    if not any(missing):
        return pixels
    (above, left), (height, width) = (n // 2 for n in missing), pixels.shape[:2]
    shape = (height + missing[0], width + missing[1], pixels.shape[2])
    mean = preprocessing.mean if preprocessing.resize == "border" else (0.0,)
    levels = np.clip(np.rint(np.multiply(mean, 255)), 0, 255)  # as 8 bits hold them
    colour = levels if pixels.dtype == np.uint8 else levels / 255
    whole = np.broadcast_to(colour, shape).astype(pixels.dtype)
    whole[above : above + height, left : left + width] = pixels
    return whole


def _size_of(image: Image.Image | np.ndarray) -> tuple[int, int]:
    if isinstance(image, Image.Image):
        return image.height, image.width
    return image.shape[0], image.shape[1]


def _match_channels(image: np.ndarray, in_channels: int) -> np.ndarray:
    """Give an array the channels of the network, or leave one grey channel to be repeated."""
    channels = image.shape[2]
    if channels == in_channels:
        return image
    if channels == 4 and in_channels in (1, 3):  # over white, as for files
        image = _over_white(image)
        channels = 3
    if channels == 3 and in_channels == 1:
        if image.dtype == np.uint8:  # by Pillow, whose rounding files have
            return np.asarray(Image.fromarray(image).convert("L"))[:, :, None]
        return (image @ _LUMA)[:, :, None]
    _check_channels(channels, in_channels)
    return image


def _check_channels(channels: int, in_channels: int) -> None:
    # Grey is a colour, and neither opacity nor what other channels may hold.
    if channels != in_channels and (channels, in_channels) != (1, 3):
        raise ImageReadError(
            f"it has {channels} channel{'s' if channels > 1 else ''} and the backbone takes "
            f"{in_channels}; convert it, as with PIL's image.convert('RGBA') for 4 channels, pass "
            "channels='first' if the channels of an array are its first axis, or pass a backbone "
            "for this number of channels"
        )


def _over_white(image: np.ndarray) -> np.ndarray:
    top = 255 if image.dtype == np.uint8 else 1
    colour, alpha = image[:, :, :3].astype(np.float32), image[:, :, 3:].astype(np.float32) / top
    flat = colour * alpha + top * (1 - alpha)
    return np.rint(flat).astype(np.uint8) if image.dtype == np.uint8 else flat


def _resample(
    image: Image.Image | np.ndarray, size: tuple[int, int], method: Image.Resampling
) -> np.ndarray:
    height, width = size
    if isinstance(image, Image.Image):
        if _size_of(image) != size:
            image = image.resize((width, height), method)
        pixels = np.asarray(image)
        return pixels[:, :, None] if pixels.ndim == 2 else pixels
    if image.shape[:2] == size:
        return image
    planes: Sequence[np.ndarray] = [
        np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize((width, height), method))
        for plane in np.moveaxis(image, 2, 0)
    ]
    resized = np.stack(planes, axis=2)
    # Bicubic and Lanczos overshoot at edges; 8-bit pixels cannot, so neither may floats.
    return np.clip(resized, 0, 1) if resized.dtype == np.float32 else resized
