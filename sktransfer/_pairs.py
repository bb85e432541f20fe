"""Datasets of torch, whose items may be pairs of a sample and its label.

torch is not imported: where nobody has, there are no such datasets.
"""

import sys
from typing import Any

import numpy as np

_ATTRIBUTES = ("targets", "labels")
"""Where the datasets of torchvision keep their labels."""


def is_dataset(X: Any) -> bool:
    """Whether X is a dataset of torch that has a length and is read by position."""
    data: Any = sys.modules.get("torch.utils.data")
    sized = hasattr(X, "__len__") and hasattr(X, "__getitem__")
    return data is not None and isinstance(X, data.Dataset) and sized


def samples_of(X: Any) -> Any:
    """A dataset of torch as the list of its samples, without their labels; else X."""
    if not is_dataset(X):
        return X
    items = (X[index] for index in range(len(X)))
    return [item[0] if isinstance(item, tuple) and item else item for item in items]


def labels_of(X: Any) -> np.ndarray | None:
    """The labels of a dataset of torch that gives (sample, label); None if X does not.

    Those that it keeps in `targets` or `labels`, or that the datasets inside a ``Subset`` or
    ``ConcatDataset`` do, are taken if they agree in number, and in value with some items. Else the
    dataset is gone through once, which reads its samples, too.

    Raises
    ------
    ValueError
        What stands at the place of a label is none, or an item cannot be had.
    """
    if not is_dataset(X) or len(X) == 0 or not _is_pair(_item(X, 0)):
        return None
    kept = _kept(X)
    if kept is None or not _agree(kept, X):
        kept = np.stack([_label(X, index) for index in range(len(X))])
    return kept


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple) and len(item) > 1


def _kept(X: Any) -> np.ndarray | None:
    """Labels of all items without a look at these."""
    data: Any = sys.modules["torch.utils.data"]
    if isinstance(X, data.Subset):
        inner = _kept(X.dataset)
        return None if inner is None else inner[np.asarray(X.indices, dtype=np.int64)]
    if isinstance(X, data.ConcatDataset):
        parts = [_kept(each) for each in X.datasets]
        known = [part for part in parts if part is not None]
        alike = len(known) == len(parts) and len({part.shape[1:] for part in known}) == 1
        return np.concatenate(known) if alike else None
    if isinstance(X, data.TensorDataset):
        return _array(X.tensors[1]) if len(X.tensors) > 1 else None
    if getattr(X, "target_transform", None) is not None:
        return None
    for name in _ATTRIBUTES:
        values = getattr(X, name, None)
        if values is not None and hasattr(values, "__len__") and len(values) == len(X):
            return _array(values)
    return None


def _agree(kept: np.ndarray, X: Any) -> bool:
    """Whether items at the beginning, in the middle and at the end have these labels."""
    if len(kept) != len(X):
        return False
    return all(
        np.array_equal(kept[index], _label(X, index)) for index in {0, len(X) // 2, len(X) - 1}
    )


def _label(X: Any, index: int) -> np.ndarray:
    item = _item(X, index)
    label = _array(item[1]) if _is_pair(item) else None
    if label is None or label.ndim > 1:
        shown = " ".join(repr(item[1] if _is_pair(item) else item).split())
        got = f"the label {shown:.60}" if _is_pair(item) else f"{shown:.60}"
        raise ValueError(
            f"X[{index}] must be a pair of a sample and a label, a number, a str or a vector of "
            f"numbers, as y is None; got {got}. Pass y"
        )
    return label


def _item(X: Any, index: int) -> Any:
    try:
        return X[index]
    except Exception as error:  # a dataset may raise anything
        raise ValueError(
            f"X[{index}] gives no label, as reading it failed with {type(error).__name__}: "
            f"{error}. Leave it out, or pass y"
        ) from error


def _array(values: Any) -> np.ndarray | None:
    """Labels as an array of numbers or strings; None if they are something else."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):  # lists of unequal length
        return None
    return array if array.dtype.kind in "biufU" else None
