"""Items to what a network takes, and to what fine-tuning augments."""

import numpy as np
import pytest

from sktransfer.exceptions import ImageReadError
from sktransfer.images.item_reader import ItemReader
from sktransfer.images.pixels import ReadingOptions
from sktransfer.images.preprocessing import Preprocessing, normalised

IMAGE = np.random.RandomState(0).randint(0, 256, (9, 12, 3)).astype("u1")


def test_what_the_network_takes_is_the_pixels_normalised():
    reader = ItemReader(ReadingOptions(10**6), Preprocessing(size=(6, 8), std=(0.5, 0.2, 0.1)))
    pixels = reader.pixels(IMAGE)
    assert (pixels.shape, pixels.dtype) == ((6, 8, 3), np.uint8)
    np.testing.assert_array_equal(reader.input(IMAGE), normalised(pixels, reader.preprocessing))


def test_the_size_of_an_item_is_that_of_a_network_which_has_none():
    reader = ItemReader(ReadingOptions(10**6), Preprocessing(size=None))
    assert reader.size(IMAGE) == (9, 12)
    with pytest.raises(ImageReadError, match="it has 5 channels and the backbone takes 3"):
        reader.size(np.zeros((4, 4, 5), dtype="u1"))
