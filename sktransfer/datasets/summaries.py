"""Summaries of SciPy's functions as a data set of short texts with classes."""

import importlib
import inspect
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sklearn.utils import Bunch

TOPICS = (
    "fft",
    "integrate",
    "interpolate",
    "linalg",
    "ndimage",
    "optimize",
    "signal",
    "sparse",
    "special",
    "stats",
)


def load_scipy_summaries() -> "Bunch":
    """Load the first sentences of SciPy's documentation, with the subpackage of each as class.

    About twelve hundred English texts of one or two lines in ten classes, which need no download:
    they are read from the installed SciPy, and so differ slightly between its versions. Duplicates
    are dropped.

    Returns
    -------
    Bunch
        ``data``, list of str; ``target``, ndarray of int of shape (n,), the class of each text;
        ``target_names``, list of str, the subpackages; ``names``, list of str, what each text
        describes, such as "scipy.stats.skew".

    Examples
    --------
    >>> from sktransfer.datasets import load_scipy_summaries
    >>> texts = load_scipy_summaries()
    >>> position = texts.names.index("scipy.linalg.expm")
    >>> texts.data[position]
    'Compute the matrix exponential of an array.'
    >>> texts.target_names[texts.target[position]]
    'linalg'
    >>> len(texts.data) > 1000
    True
    """
    from sklearn.utils import Bunch  # imported here, as `list_images` does without scikit-learn

    found: dict[str, tuple[int, str]] = {}
    for number, topic in enumerate(TOPICS):
        module = importlib.import_module(f"scipy.{topic}")
        for name in sorted(module.__all__):
            text = _summary(module, name)
            if text:
                found.setdefault(text, (number, f"scipy.{topic}.{name}"))
    return Bunch(
        data=list(found),
        target=np.array([number for number, _ in found.values()]),
        target_names=list(TOPICS),
        names=[name for _, name in found.values()],
    )


def _summary(module: ModuleType, name: str) -> str:
    """The first paragraph of prose; docstrings of universal functions begin with a signature."""
    described = getattr(module, name)
    if inspect.ismodule(described):
        return ""
    for paragraph in (inspect.getdoc(described) or "").split("\n\n"):
        text = " ".join(paragraph.split())
        if text and not text.startswith(f"{name}("):
            return text
    return ""
