"""Batches: the order of rows, and what is done about bad ones."""

import threading

import numpy as np
import pytest

from sktransfer.exceptions import ImageReadError
from sktransfer.images.runner import extract


def means(pixels):
    return [pixels.mean((1, 2))]


def run(items, read, **params):
    return extract(means, items, read, n_features=1, **{"batch_size": 3, **params})


def grey(value):
    if value < 0:
        raise ImageReadError("negative")
    return np.full((2, 2, 1), value, dtype=np.float32)


def test_rows_stay_in_order_whatever_the_threads_do():
    features, failed = run(list(range(50)), grey)
    assert features[:, 0].tolist() == list(range(50))
    assert failed == []


def test_the_first_bad_item_ends_a_strict_run_and_its_threads():
    with pytest.raises(ImageReadError, match=r"X\[4\] is not usable: negative"):
        run([0, 1, 2, 3, -1, 5, -1, *range(60)], grey)
    assert not [t for t in threading.enumerate() if t.name.startswith("sktransfer-read")]


def test_any_exception_of_a_reader_counts_as_a_bad_item():
    def read(value):
        if value == 2:
            raise ZeroDivisionError("oops")
        return grey(value)

    features, failed = run([0, 1, 2, 3], read, on_error="nan")
    assert np.isnan(features[:, 0]).tolist() == [False, False, True, False]
    assert failed[0].index == 2
    assert "ZeroDivisionError: oops" in failed[0].message
