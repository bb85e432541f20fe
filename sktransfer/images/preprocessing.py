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
    resize : {"crop", "squash"}, default="crop"
        "crop" keeps the aspect ratio and cuts the centre, as in the evaluation
        of the published networks; "squash" shrinks the whole image.
    """

    size: tuple[int, int] | None = None
    crop_pct: float = 1.0
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    in_channels: int = 3
    resize: str = "crop"


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

    height, width = _size_of(image)
    new_size = resized_size((height, width), preprocessing)
    if math.prod(new_size) > max_pixels:
        raise ImageReadError(
            f"its {height} x {width} pixels would be resized to {new_size[0]} x {new_size[1]}, "
            f"more than max_pixels={max_pixels}; use resize='squash' for such a shape"
        )
    resized = _resample(image, new_size, _FILTERS[preprocessing.interpolation])
    height, width = preprocessing.size
    top, left = (
        round((have - keep) / 2) for have, keep in zip(new_size, preprocessing.size, strict=True)
    )
    pixels = resized[top : top + height, left : left + width]
    if pixels.shape[2] == 1 and preprocessing.in_channels > 1:
        pixels = np.repeat(pixels, preprocessing.in_channels, axis=2)
    return pixels


def resized_size(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """Height and width after resizing, before the crop (torchvision's rounding)."""
    assert preprocessing.size is not None
    if preprocessing.resize == "squash":
        return preprocessing.size
    # The tiny term undoes 224 / (224 / 232) = 231.99999999999997.
    target = [int(side / preprocessing.crop_pct + 1e-6) for side in preprocessing.size]
    scales = [wanted / have for wanted, have in zip(target, size, strict=True)]
    leading = int(np.argmax(scales))  # the side that must just fit; the other overshoots
    new = [int(target[leading] * have / size[leading]) for have in size]
    new[leading] = target[leading]
    return max(new[0], preprocessing.size[0]), max(new[1], preprocessing.size[1])


def _size_of(image: Image.Image | np.ndarray) -> tuple[int, int]:
    if isinstance(image, Image.Image):
        return image.height, image.width
    return image.shape[0], image.shape[1]


def _match_channels(image: np.ndarray, in_channels: int) -> np.ndarray:
    """Give an array the channels of the network, or leave one grey channel to be repeated."""
    channels = image.shape[2]
    if channels == in_channels or channels == 1:
        return image
    if channels == 4 and in_channels in (1, 3):  # over white, as for files
        image = _over_white(image)
        channels = 3
    if channels == 3 and in_channels == 1:
        grey = image.astype(np.float32) @ _LUMA
        if image.dtype == np.uint8:
            grey = np.rint(grey).astype(np.uint8)
        return grey[:, :, None]
    if channels == in_channels:
        return image
    raise ImageReadError(
        f"it has {channels} channels and the backbone takes {in_channels}; pass channels='first' "
        "if the channels are the first axis, or a backbone for this number of channels"
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
