"""Loading a text network where transformers has not been imported."""

import os
import sys
import warnings
from pathlib import Path

from sktransfer import PretrainedTextFeatures


def settings_after_loading(folder: Path, printed: Path) -> tuple[bool, bool]:
    """Whether bars and verbosity are as transformers sets them; a file gets what is printed."""
    descriptor = os.open(printed, os.O_CREAT | os.O_WRONLY)
    for stream in (1, 2):  # torch and the tokenizers do not print by Python
        os.dup2(descriptor, stream)
    warnings.simplefilter("error")
    assert "transformers" not in sys.modules
    PretrainedTextFeatures(folder).fit_transform(["a", "b"])
    from transformers.utils import logging

    return logging.is_progress_bar_enabled(), logging.get_verbosity() == logging.WARNING
