"""The library transformers, imported only where it is used, without its messages."""

import sys
import threading
import warnings
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from sktransfer.networks.process_wide import ProcessWide

_IMPORTING = threading.Lock()

INSTALL = 'pip install "sktransfer[text]"'


def import_transformers() -> Any:
    try:
        if "transformers" in sys.modules:
            import transformers  # without a change of the filters of warnings, which threads share

            return transformers
        with _IMPORTING, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other packages, which it imports
            import transformers
    except ImportError as error:
        raise ImportError(f"networks for text need transformers: run `{INSTALL}`") from error
    return transformers


def _silence(undo: ExitStack) -> None:
    from transformers.utils import logging

    undo.callback(logging.set_verbosity, logging.get_verbosity())
    logging.set_verbosity_error()
    if logging.is_progress_bar_enabled():
        undo.callback(_set_bars, True)
        _set_bars(False)


_SILENCE = ProcessWide(_silence)


def quiet() -> AbstractContextManager[None]:
    """Without transformers' bars and remarks, and its settings as they were afterwards."""
    return _SILENCE


def _set_bars(shown: bool) -> None:
    # Not by its function, which switches the hub's bars, too.
    from transformers.utils import logging

    logging._tqdm_active = shown
