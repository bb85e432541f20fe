"""X, in any of its accepted forms, as a list of texts."""

from typing import Any, NamedTuple

from sktransfer._columns import cells_of, check_container, is_missing, only_column
from sktransfer._pairs import samples_of

_KINDS = "a list, array or column of str, or a table of one column of str"


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
        hint = "; decode it" if isinstance(item, bytes) else ""
        got = "is missing" if is_missing(item) else f"must be a str, got {item!r:.60}"
        return f"it {got}{hint}"
    if item.isascii():
        return ""
    try:
        item.encode()
    except UnicodeEncodeError as error:
        return f"it cannot be written as UTF-8 ({error.reason})"
    return ""


def _items(X: Any) -> list[Any]:
    if isinstance(X, str | bytes):
        raise TypeError(
            f"X must be a sequence of texts, got the single text {X!r:.60}; pass [text]"
        )
    X = samples_of(X)
    check_container(X, "texts")
    X = only_column(X, "texts")
    if not hasattr(X, "__iter__") and not hasattr(X, "__getitem__"):
        raise TypeError(f"X must be {_KINDS}; got {type(X).__name__}")
    shape = getattr(X, "shape", (0,))
    if len(shape) != 1:
        raise ValueError(f"X must be {_KINDS}; got an array of shape {shape}")
    return cells_of(X)
