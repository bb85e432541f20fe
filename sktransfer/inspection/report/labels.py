"""Labels of rows, with the names of their classes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sktransfer._columns import is_missing
from sktransfer._validation import as_array
from sktransfer.inspection._plotting import short_names
from sktransfer.inspection.report.blocks import Name
from sktransfer.inspection.report.text import plain

_LONGEST_NAME = 32
"""Characters of a class's name that fit into a table."""

_LONGEST_FULL_NAME = 1000


@dataclass(frozen=True)
class Labels:
    """Labels of the readable rows, with the classes of a classification in sorted order."""

    y: np.ndarray  # (n_rows,) or (n_rows, n_outputs)
    task: str  # "classification", "multilabel" or "regression"
    is_known: np.ndarray  # whether a row has a label
    classes: np.ndarray | None
    class_names: list[str]
    short_names: list[str]  # they fit into tables

    def codes(self, labels: np.ndarray) -> np.ndarray:
        """Labels as numbers of classes."""
        assert self.classes is not None
        return np.searchsorted(self.classes, labels)

    def name(self, code: int) -> Name:
        """The name of a class, in short and in full."""
        return Name(self.short_names[code], self.class_names[code])

    def text(self, value: Any) -> str:
        """A label, or a target, as it is shown."""
        if self.classes is not None:
            return self.short_names[int(self.codes(value))]
        if isinstance(value, np.ndarray):
            return ", ".join(f"{each:.4g}" for each in value)
        return f"{value:.4g}"


def labels_of(
    y: np.ndarray,
    *,
    is_classifier: bool,
    domain: np.ndarray | None,
    classes_of_model: ArrayLike | None,
    target_names: Iterable[object] | None,
) -> Labels:
    """Labels of y, with their task and classes; predictions may have further classes."""
    task = "regression" if not is_classifier else "multilabel" if y.ndim == 2 else "classification"
    is_known = ~_is_missing(y)
    classes = None
    if task == "classification":
        if domain is not None and (domain > 0).any():
            # What stands for "no label" in target rows is the label of no source row.
            is_known &= (domain > 0) | np.isin(y, y[(domain > 0) & is_known])
        y = _sortable(y, is_known)
        classes = np.unique(y[is_known])
        if classes_of_model is not None:
            classes = np.union1d(classes, np.asarray(classes_of_model))
    if not is_known.any():
        raise ValueError("y holds no label, so there is nothing to compare predictions with")
    names = [] if classes is None else _names(classes, target_names)
    return Labels(y, task, is_known, classes, names, short_names(names, _LONGEST_NAME))


def checked_values(values: Any, n_rows: int, name: str, of: str) -> np.ndarray:
    """An array-like with one value, or one row of values, for each row of X."""
    if values is None:
        raise ValueError(
            f"{name} must hold a value for each of the {n_rows} rows of {of}, got None"
        )
    array = as_array(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (1, 2) or len(array) != n_rows:
        raise ValueError(
            f"{name} must hold a value for each of the {n_rows} rows of {of}, got shape "
            f"{array.shape}"
        )
    return array


def _is_missing(y: np.ndarray) -> np.ndarray:
    """Rows without a label: NaN, None or NA."""
    if y.dtype.kind == "f":
        return np.isnan(y.reshape(len(y), -1)).any(axis=1)
    if y.dtype.kind == "O":
        return np.array([is_missing(each) for each in y.tolist()])
    return np.zeros(len(y), dtype=bool)


def _sortable(y: np.ndarray, is_known: np.ndarray) -> np.ndarray:
    """Labels in an array that sorts, in which rows without a label have an arbitrary value."""
    if y.dtype.kind != "O" or is_known.all():
        return np.array(y.tolist()) if y.dtype.kind == "O" else y
    known = np.array(y[is_known].tolist())
    full = np.empty(len(y), dtype=known.dtype)
    full[is_known] = known
    return full


def _names(classes: np.ndarray, target_names: Iterable[object] | None) -> list[str]:
    if target_names is None:
        return [plain(each, _LONGEST_FULL_NAME) for each in classes.tolist()]
    names = [plain(each, _LONGEST_FULL_NAME) for each in target_names]
    if len(names) == len(classes):
        return names
    if classes.dtype.kind in "iu" and classes.min() >= 0 and classes.max() < len(names):
        return [names[each] for each in classes.tolist()]
    raise ValueError(
        f"target_names must name each of the {len(classes)} classes {classes.tolist()[:10]}, got "
        f"{len(names)} names"
    )
