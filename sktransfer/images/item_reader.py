"""From an item of X to the array that a network takes, and to its pixels before that."""

import dataclasses
from typing import Any

import numpy as np
from PIL import Image

from sktransfer.images.pixels import ReadingOptions
from sktransfer.images.preprocessing import Preprocessing, fit_to_size, prepare
from sktransfer.images.reading import read_image


@dataclasses.dataclass(frozen=True)
class ItemReader:
    """Reads items for a network; anything wrong with one is an `ImageReadError`.

    Parameters
    ----------
    options : ReadingOptions
    preprocessing : Preprocessing
    """

    options: ReadingOptions
    preprocessing: Preprocessing

    def input(self, item: Any) -> np.ndarray:
        """What the network takes, normalised."""
        image = read_image(item, self.options)
        return prepare(image, self.preprocessing, max_pixels=self.options.max_pixels)

    def pixels(self, item: Any) -> np.ndarray:
        """The same before it is normalised: uint8, or float32 within [0, 1]."""
        image = read_image(item, self.options)
        return fit_to_size(image, self.preprocessing, max_pixels=self.options.max_pixels)

    def size(self, item: Any) -> tuple[int, int]:
        """Height and width of an item, whose channels must suit the network."""
        image = read_image(item, self.options)
        size = (image.height, image.width) if isinstance(image, Image.Image) else image.shape[:2]
        as_it_is = dataclasses.replace(self.preprocessing, size=size)
        prepare(image, as_it_is, max_pixels=self.options.max_pixels)
        return size
