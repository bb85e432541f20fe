"""Labels of points: which are known, and whether they can be told apart."""

import numbers
from typing import Any

import numpy as np


def known_labels(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels in an order of their own, and which of them are neither None nor NaN.

    Parameters
    ----------
    labels : ndarray of shape (n,)

    Returns
    -------
    labels : ndarray of shape (n,)
        Of a dtype of numbers if all that are known are numbers, and whole if NaN made floats of
        whole numbers; any number where none is known.
    known : ndarray of shape (n,), bool

    Raises
    ------
    ValueError
        A number is infinite, or classes have no order, as text beside numbers has none.
    """
    known = np.array([not _is_missing(label) for label in labels], dtype=bool)
    found = labels[known]
    if labels.dtype == object and all(isinstance(label, numbers.Real) for label in found):
        found = np.array(found.tolist())
        labels = np.zeros(len(labels), dtype=found.dtype)
        labels[known] = found
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        row = int(np.flatnonzero(known)[int(np.argmin(np.isfinite(found)))])
        raise ValueError(
            f"labels must be finite numbers, or None or NaN for points without, got {labels[row]} "
            f"in row {row}"
        )
    if found.dtype.kind == "f" and not known.all() and (found == np.rint(found)).all():
        labels = np.where(known, labels, 0).astype(np.int64)  # NaN had made floats of classes
    if found.dtype == object:
        kinds = [type(label) for label in found]
        try:
            np.unique(found)
        except TypeError as error:
            row = int(np.flatnonzero(known)[[kind is not kinds[0] for kind in kinds].index(True)])
            raise ValueError(
                "labels must be all text or all numbers, or None or NaN for points without, got "
                f"{labels[row]!r} in row {row} after {found[0]!r}; pass them as text"
            ) from error
    return labels, known


def _is_missing(label: Any) -> bool:
    if label is None or type(label).__name__ in ("NAType", "NaTType"):  # of pandas
        return True
    return isinstance(label, numbers.Real) and bool(label != label)
