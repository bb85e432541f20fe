"""X, in any of its accepted forms, as a list of texts."""

from typing import Any, NamedTuple

import numpy as np

_KINDS = "a list, array or Series of str, or a table of one column of str"


class FailedText(NamedTuple):
    """A row of X that holds no text, and why."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of it
    message: str


def as_texts(X: Any, on_error: str) -> tuple[list[str], list[FailedText]]:
    """Texts of all rows, in order, and the rows that have none.

    Parameters
    ----------
    X : sequence of str
    on_error : {"raise", "nan"}
        Whether a row that is no text is an error, or an empty text and an entry of the second
        result.

    Raises
    ------
    TypeError
        X is a single text, or no sequence; or with ``on_error="raise"`` a row is no text.
    ValueError
        X is empty, or has several columns.
    """
    texts: list[str] = []
    failed: list[FailedText] = []
    for index, item in enumerate(_items(X)):
        message = _wrong_with(item)
        if message:
            failed.append(FailedText(index, message))
            if on_error == "raise":
                raise TypeError(f"X[{index}] is not usable: {message}. {_remedy(item)}")
        texts.append("" if message else str(item))
    if not texts:
        raise ValueError(
            "Found array with 0 sample(s) while a minimum of 1 is required: X is empty"
        )
    return texts, failed


def _remedy(item: Any) -> str:
    if isinstance(item, list | tuple):  # then all rows are
        return "Texts are cut into tokens here; join those that are, with ' '.join(tokens)"
    return "To keep going with NaN rows, set on_error='nan'"


def _wrong_with(item: Any) -> str:
    if not isinstance(item, str):
        # pandas' NA has no truth value to compare by.
        missing = item is None or type(item).__name__ == "NAType" or item != item
        hint = "; decode it" if isinstance(item, bytes) else ""
        return f"it {'is missing' if missing else f'must be a str, got {item!r:.60}'}{hint}"
    if item.isascii():
        return ""
    try:
        item.encode()
    except UnicodeEncodeError as error:
        return f"it cannot be written as UTF-8 ({error.reason})"
    return ""


def _items(X: Any) -> list[Any]:
    if isinstance(X, str | bytes):
        raise TypeError(f"X must be a sequence of texts, got the single text {X!r}; pass [text]")
    if hasattr(X, "columns") and len(X.shape) == 2:  # pandas or polars DataFrame
        if X.shape[1] != 1:
            raise ValueError(
                f"X is a table of {X.shape[1]} columns; pass the one column that holds the texts, "
                "or set a ColumnTransformer before"
            )
        X = X[X.columns[0]]
    if isinstance(X, list | tuple):
        return list(X)
    for name in ("to_list", "to_pylist"):  # Series of pandas and polars; arrays of Arrow
        if hasattr(X, name):
            return list(getattr(X, name)())
    if not hasattr(X, "__array__"):
        raise TypeError(f"X must be {_KINDS}; got {type(X).__name__}")
    array = np.asarray(X)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"X must be {_KINDS}; got an array of shape {array.shape}")
    return list(array.tolist())
