"""Validation of the labels that points are coloured by."""

import numbers

import numpy as np

from sktransfer._columns import is_missing


def known_labels(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels that can be sorted, and a mask of those that are neither None nor NaN.

    They become numbers if all known ones are, and integers if only NaN had made them floats. The
    values of unknown labels are arbitrary.
    """
    known = np.array([not is_missing(label) for label in labels], dtype=bool)
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
        # An array that holds NaN is of floats, though its classes are whole numbers.
        labels = np.where(known, labels, 0).astype(np.int64)
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
