"""Rows of X that hold no usable sequence, and what becomes of them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

from sktransfer._columns import is_missing

T = TypeVar("T")


class FailedSequence(NamedTuple):
    """A row of X that holds no usable sequence, and why."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of it
    message: str


class UnusableError(Exception):
    """What is wrong with a sequence, by a reader that does not know its row.

    Parameters
    ----------
    message : str
        Begins with a verb, as it follows "X[3]" or "it".
    cure : str, default=""
        A sentence that says what to do.
    kind : type of exception, default=ValueError
        What is raised for the row.
    """

    def __init__(self, message: str, cure: str = "", kind: type[Exception] = ValueError) -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure or "Leave it out, with its label"
        self.kind = kind

    def raise_for(self, row: int) -> NoReturn:
        """Raise an error that names the row of X."""
        raise self.kind(
            f"X[{row}] {self.message}. {self.cure}. To keep going with NaN rows, set on_error='nan'"
        ) from self.__cause__


def read_each(
    items: Iterable[Any], read: Callable[[Any], T], on_error: str, rows: Sequence[int] | None = None
) -> tuple[list[T], list[int], list[FailedSequence]]:
    """All items as `read` returns them, their rows in X, and those that it cannot use.

    Parameters
    ----------
    items : iterable
    read : callable
        Raises `UnusableError`.
    on_error : {"raise", "nan"}
        Whether an unusable item is an error, or an entry of the third result.
    rows : sequence of int or None, default=None
        Row in X of each item; None counts them.
    """
    good: list[T] = []
    good_rows: list[int] = []
    failed: list[FailedSequence] = []
    for number, item in enumerate(items):
        row = number if rows is None else rows[number]
        try:
            good.append(read(item))
            good_rows.append(row)
        except UnusableError as error:
            if on_error == "raise":
                error.raise_for(row)
            failed.append(FailedSequence(row, f"it {error.message}"))
    return good, good_rows, failed


def check_present(item: Any) -> None:
    """Refuse what stands for a missing sequence.

    Raises
    ------
    UnusableError
    """
    if is_missing(item):
        raise UnusableError("is missing")
