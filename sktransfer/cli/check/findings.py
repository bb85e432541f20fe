"""Findings of a check."""

from collections.abc import Sized
from typing import NamedTuple


class Finding(NamedTuple):
    """Something that is broken or odd."""

    kind: str
    message: str
    items: list[str]  # the files, classes, packages or backbones concerned


def counted(items: Sized, one: str, many: str | None = None) -> str:
    """Such as "1 file" or "3 files"."""
    return f"{len(items)} {one if len(items) == 1 else many or one + 's'}"
