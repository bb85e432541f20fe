"""The channels of series in frames and columns, which are matched by name."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sktransfer._columns import (
    Column,
    Names,
    column_names,
    has_labels,
    is_missing,
    matched,
    numbers_of,
)
from sktransfer.sequences.failures import UnusableError


@dataclass(frozen=True)
class Channels:
    """A row of a table of several columns, in each of which it has a series of one channel."""

    row: list[Column]


def names_of(items: list[Any], names: Names | None) -> Names | None:
    """Labels of the channels: `names`, or those of the first series that has any; None if none has.

    Without names of columns there are none.
    """
    found = (_labels_of(item) for item in items)
    first = next((labels for labels in found if labels is not None), None)
    return first if names is None or first is None else names


def _labels_of(item: Any) -> Names | None:
    if isinstance(item, np.ndarray):
        return None
    is_row = isinstance(item, Channels)
    labels = tuple(column.name for column in item.row) if is_row else column_names(item)
    return labels if labels is not None and has_labels(labels) else None


def in_order(item: Any, names: Names) -> Any:
    """A series whose channels stand in the order of `names`."""
    labels = _labels_of(item)
    if labels is None:
        raise UnusableError(
            "has columns without names, and others have names",
            "Give all series the same names, or pass all as arrays, as in frame.to_numpy()",
        )
    try:
        order = matched(labels, names)
    except ValueError as error:
        raise UnusableError(*error.args) from error
    if order is None:
        return item
    if isinstance(item, Channels):
        return Channels([item.row[number] for number in order])
    return numbers_of(item)[:, order]


def joined(columns: list[Column]) -> np.ndarray:
    """The cells of a row side by side, (time, channels)."""
    if all(is_missing(cell) for _, cell in columns):
        raise UnusableError("is missing in all columns")
    series = []
    for name, cell in columns:
        values = numbers_of(cell)
        if values.ndim != 1 or values.dtype.kind not in "biuf":
            got = "nothing" if is_missing(cell) else f"{cell!r:.60}"
            raise UnusableError(
                f"must hold a series of real numbers in the column {name!r:.30}, as in the other "
                f"columns, which are its channels; got {got}"
            )
        series.append(values)
    if len({len(values) for values in series}) > 1:
        steps = ", ".join(
            f"{len(values)} in {column.name!r:.30}"
            for column, values in zip(columns[:4], series, strict=False)
        )
        raise UnusableError(
            f"has unequal numbers of time steps in its columns ({steps}), which are the channels "
            "of one series",
            "Cut or fill them, or give each column a transformer of its own in a ColumnTransformer",
        )
    return np.stack(series, axis=1)
