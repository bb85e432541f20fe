"""Random changes of images, by transforms of several libraries and by functions of one's own."""

import copy
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sktransfer.finetuning.strategy import FineTune
from sktransfer.images.faults import ends_the_run
from sktransfer.networks.seeding import everything_seeded

_LIBRARIES = ("albumentations", "kornia")
"""Those whose transforms are known by their classes, and called in a way of their own."""

_GIVEN = {
    "tensor": "a tensor (channels, height, width)",
    "array": "an array (height, width, channels)",
    "pil": "a PIL image",
    "albumentations": "image=, an array (height, width, channels),",
    "kornia": "a float tensor (batch, channels, height, width)",
}

_FAR = 1.0
"""Distance from [0, 1] of values that are no noise beyond black and white, but another scale."""

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class ImageChange:
    """A random change of images, which come and go as arrays whatever the transform takes.

    Parameters
    ----------
    transform : callable
        It is copied: it may keep a state, such as a random generator.
    form : {"tensor", "array", "pil", "albumentations", "kornia"}
        What it takes. "kornia" changes a batch at once, and the others single images.
    """

    def __init__(self, transform: Any, form: str) -> None:
        self.transform = copy.deepcopy(transform)
        self.form = form
        self._is_seeded = False

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Images (n, height, width, channels) after the change.

        uint8 if they are, but float32 for "kornia"; else float32 within [0, 1].

        Raises
        ------
        ValueError
            The transform fails, or returns something else than an image of the same shape.
        """
        if not self._is_seeded:
            self.seed()
        if self.form == "kornia":
            return self._changed(_as_floats(images))
        return np.stack([self._changed(image) for image in images])

    def seed(self) -> None:
        """Seed generators of the transform's own by torch's, as those of albumentations."""
        self._is_seeded = True
        if self.form == "albumentations" and hasattr(self.transform, "set_random_seed"):
            self.transform.set_random_seed(int(torch.randint(2**31, ())))

    def _changed(self, image: np.ndarray) -> np.ndarray:
        given = _given(image, self.form)
        try:
            if self.form == "albumentations":
                result = self.transform(image=given)
                result = result["image"] if isinstance(result, dict) else result
            else:
                result = self.transform(given)
        except Exception as error:  # somebody else's code may raise anything
            if ends_the_run(error):
                raise
            raise ValueError(
                f"augment was given {self._what(image)} and failed with {type(error).__name__}: "
                f"{error!s:.200}. {self._cure()}"
            ) from error
        return self._checked(result, image)

    def _checked(self, result: Any, image: np.ndarray) -> np.ndarray:
        """What the transform has returned as an array like the image."""
        kind = {"pil": Image.Image, "tensor": Tensor, "kornia": Tensor}.get(self.form, np.ndarray)
        if not isinstance(result, kind):
            raise ValueError(
                f"augment was given {self._what(image)} and must return a {kind.__name__} too, got "
                f"{type(result).__name__}. {self._cure()}"
            )
        values = _as_array(result, self.form)
        if values.ndim == image.ndim - 1 and image.shape[-1] == 1:
            values = values[..., None]
        if values.shape != image.shape:
            raise ValueError(
                f"augment must return an image of the shape that it is given, and got "
                f"{self._what(image)}; it returned the shape {_shape(result)}"
            )
        if self.form == "pil" and image.dtype != np.uint8:
            values = _as_floats(values)
        if image.dtype == np.uint8 and values.dtype != np.uint8:
            raise ValueError(
                f"augment must keep the type of pixels, uint8 from 0 to 255, got {values.dtype}; "
                "round and clip its result, and leave scaling and normalisation to the features"
            )
        if image.dtype == np.uint8:
            return values
        if values.dtype.kind != "f":
            raise ValueError(
                f"augment must return floats within [0, 1], as it is given, got {values.dtype}"
            )
        low, high = float(values.min()), float(values.max())
        if not (low >= -_FAR and high <= 1 + _FAR):  # NaN is neither
            raise ValueError(
                f"augment must return finite values within [0, 1], as it is given, got {low:.3g} "
                f"to {high:.3g}; leave scaling and normalisation to the features"
            )
        return np.clip(values, 0, 1, dtype=np.float32)

    def _what(self, image: np.ndarray) -> str:
        given = _given(image, self.form)
        kind = given.mode if isinstance(given, Image.Image) else given.dtype
        return f"{_GIVEN[self.form]} of shape {_shape(given)}, {kind},"

    def _cure(self) -> str:
        if self.form in _LIBRARIES:
            return "See the documentation of the transform"
        others = [f"{form!r} for {_GIVEN[form]}" for form in ("tensor", "array", "pil")]
        return f"What it is given is up to augment_input: {', '.join(others)}"


def image_change(strategy: FineTune, size: tuple[int, int]) -> ImageChange | None:
    """The change that a strategy asks for.

    Parameters
    ----------
    strategy : FineTune
    size : tuple of int
        Height and width of the images.

    Raises
    ------
    ValueError
        `augment_input` is set for a transform of albumentations or kornia.
    """
    augment, form = strategy.augment, strategy.augment_input
    if augment is None:
        return None
    if isinstance(augment, str):
        return ImageChange(_named(augment, size), "tensor")
    library = _library_of(augment)
    if library is None:
        return ImageChange(augment, "tensor" if form == "auto" else form)
    if form != "auto":
        raise ValueError(
            f"augment is a transform of {library}, which is called with {_GIVEN[library]} whatever "
            f"augment_input is; set augment_input='auto', got {form!r}"
        )
    return ImageChange(augment, library)


def views_of(
    pixels: np.ndarray, change: Any, augment: ImageChange | None, seed: int
) -> Iterator[np.ndarray]:
    """Images unchanged, then mirrored ("flip") or so many times changed at random."""
    yield pixels
    if change == "flip":
        yield np.ascontiguousarray(pixels[:, :, ::-1])
        return
    assert augment is not None
    for number in range(change):
        views = []
        for image in pixels:
            # Seeded by the image, so that it changes alike whatever the images before it.
            digest = zlib.crc32(np.ascontiguousarray(image).tobytes())
            with everything_seeded((seed + number + digest) % 2**31):
                augment.seed()
                views.append(augment(image[None])[0])
        yield np.stack(views)


def _library_of(augment: Any) -> str | None:
    """The library among `_LIBRARIES` that a transform is of, or a part of a module."""
    parts = list(augment.modules()) if isinstance(augment, nn.Module) else [augment]
    roots = {cls.__module__.partition(".")[0] for part in parts for cls in type(part).__mro__}
    return next((library for library in _LIBRARIES if library in roots), None)


def _named(augment: str, size: tuple[int, int]) -> Any:
    from torchvision.transforms import v2

    light = [
        v2.RandomResizedCrop(size, scale=(0.7, 1.0), ratio=(0.9, 1.1), antialias=True),
        v2.RandomHorizontalFlip(),
    ]
    if augment == "light":
        return v2.Compose(light)
    return v2.Compose([*light, v2.TrivialAugmentWide(), v2.RandomErasing(p=0.25)])


def _given(image: np.ndarray, form: str) -> Any:
    """An image, or for kornia a batch, in the form that a transform takes."""
    if form in ("tensor", "kornia"):
        return torch.from_numpy(np.moveaxis(image, -1, -3).copy())
    if form != "pil":
        return image.copy()  # a function may work in place
    if image.shape[2] not in _MODES:
        raise ValueError(
            f"augment_input='pil' needs images of 1, 3 or 4 channels, and these have "
            f"{image.shape[2]}; set it to 'array'"
        )
    levels = image if image.dtype == np.uint8 else np.rint(image * 255).astype(np.uint8)
    return Image.fromarray(levels[:, :, 0] if image.shape[2] == 1 else levels)


def _as_array(result: Any, form: str) -> np.ndarray:
    """The reverse of `_given`."""
    if isinstance(result, Tensor):
        values = result.detach().cpu().numpy()
        return np.moveaxis(values, -3, -1) if result.ndim >= 3 else values
    return np.asarray(result)


def _as_floats(images: np.ndarray) -> np.ndarray:
    return images / np.float32(255) if images.dtype == np.uint8 else images


def _shape(image: Any) -> tuple[int, ...]:
    return image.size[::-1] if isinstance(image, Image.Image) else tuple(image.shape)
