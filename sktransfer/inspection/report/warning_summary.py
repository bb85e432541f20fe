"""Warnings of some work, shown after it and once of each kind."""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_ROW = r"X\[\d+\](?: \([^()]*\))?"
_ROWS = re.compile(rf": {_ROW}(?:, {_ROW})*(?:, \.\.\.)?")
"""Rows that a message names; they are numbered within what a model was given, not within X."""


@contextmanager
def summarising_warnings(stacklevel: int) -> Iterator[None]:
    """Hold back the warnings of some work, and show one of each kind after it.

    What a network has to say of its rows it says of each fold, probe and plane anew, and calls the
    rows by their place there. The message of the most rows is shown, without these places.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            yield
    finally:
        # Two levels up are contextlib's, and this function's.
        _show([each.message for each in caught], stacklevel + 3)


def _show(messages: Sequence[Warning | str], stacklevel: int) -> None:
    kinds: dict[tuple[type, str], list[Warning]] = {}
    for message in messages:
        assert isinstance(message, Warning)
        kinds.setdefault((type(message), _kind(str(message))), []).append(message)
    for (category, _), of_kind in kinds.items():
        if len(of_kind) == 1 and not _ROWS.search(str(of_kind[0])):
            warnings.warn(of_kind[0], stacklevel=stacklevel)
        else:
            warnings.warn(_joined([*map(str, of_kind)]), _plain(category), stacklevel=stacklevel)


def _kind(text: str) -> str:
    return re.sub(r"\d+(\.\d+)?", "#", _ROWS.sub("", text))


def _plain(category: type) -> type[Warning]:
    """A category that a text alone makes a warning of."""
    try:
        category("")
    except TypeError:
        return UserWarning
    return category


def _joined(texts: list[str]) -> str:
    """The message of the most rows, and what became of the others."""
    most = max(texts, key=lambda text: [int(n) for n in re.findall(r"\d+", _ROWS.sub("", text))])
    if _ROWS.search(most):
        return f"{_ROWS.sub('', most)} (counted over the part of X where it is most)"
    return most if len({*texts}) == 1 else f"{most} (and the like with other numbers)"
