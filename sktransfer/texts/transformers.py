"""The library transformers, imported only where it is used, without its messages."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

INSTALL = 'pip install "sktransfer[text]"'


def import_transformers() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other packages, which it imports
            import transformers
    except ImportError as error:
        raise ImportError(f"networks for text need transformers: run `{INSTALL}`") from error
    return transformers


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' bars and remarks, and its settings as they were afterwards."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if bars:
        _set_bars(False)
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            _set_bars(True)


def _set_bars(shown: bool) -> None:
    # Not by its function, which switches the hub's bars, too.
    from transformers.utils import logging

    logging._tqdm_active = shown
