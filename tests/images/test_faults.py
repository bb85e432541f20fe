"""Errors that are the machine's fault end a run."""

import contextlib
import errno

import numpy as np
import pytest
from PIL import Image

from sktransfer.exceptions import ImageReadError
from sktransfer.images.faults import ends_the_run
from sktransfer.images.keys import sample_of
from sktransfer.images.pixels import ReadingOptions
from sktransfer.images.reading import read_image
from sktransfer.images.runner import extract, first_readable

FAULTS = [OSError(number, "no more") for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)]
FAULTS.append(MemoryError())


class Data:
    """A dataset whose third item raises."""

    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 2:
            raise self.error
        return np.zeros((4, 4, 3), np.float32)


def engine(pixels):
    return [pixels.mean(axis=(1, 2))]


@pytest.mark.parametrize("error", FAULTS, ids=repr)
def test_no_fault_of_the_machine_becomes_a_row_of_nan(error):
    with pytest.raises(type(error)) as caught:
        extract(engine, Data(error), np.asarray, n_features=3, batch_size=2, on_error="nan")
    assert caught.value is error

    def read(item):
        raise error

    with pytest.raises(type(error)):
        extract(engine, [1, 2], read, n_features=3, batch_size=2, on_error="nan")
    with pytest.raises(type(error)):
        first_readable([1, 2], read, "nan")


def test_an_error_raised_from_such_a_fault_is_one_and_others_are_not():
    outer = ValueError("reading failed")
    outer.__cause__ = MemoryError()
    assert ends_the_run(outer)
    for error in (
        OSError(errno.ENOENT, "no file"),
        OSError("broken"),
        ValueError("bad"),
        EOFError(),
    ):
        assert not ends_the_run(error)
        features, failed = extract(
            engine, Data(error), np.asarray, n_features=3, batch_size=2, on_error="nan"
        )
        assert [each.index for each in failed] == [2]
        assert np.isnan(features[2]).all()


def test_a_process_out_of_open_files_says_so(tmp_path):
    resource = pytest.importorskip("resource")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    read_image(tmp_path / "a.png", ReadingOptions(99))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
        with contextlib.suppress(OSError):
            while True:
                held.append((tmp_path / "a.png").open("rb"))
        for use in (
            lambda: read_image(tmp_path / "a.png", ReadingOptions(99)),
            lambda: sample_of(tmp_path / "a.png", 99),
        ):
            with pytest.raises(OSError, match="Too many open files") as caught:
                use()
            assert not isinstance(caught.value, ImageReadError)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for file in held:
            file.close()
