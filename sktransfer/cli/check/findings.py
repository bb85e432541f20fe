"""What a check objects to."""

from typing import Any, NamedTuple


class Finding(NamedTuple):
    """Something to object to.

    Parameters
    ----------
    kind : str
    message : str
    items : list of str
        Files, classes, packages or backbones it is about.
    """

    kind: str
    message: str
    items: list[str]


def counted(items: list[Any], one: str, many: str | None = None) -> str:
    """Such as "1 file" or "3 files"."""
    return f"{len(items)} {one if len(items) == 1 else many or one + 's'}"
