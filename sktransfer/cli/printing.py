"""Output for terminals, in which names of files and texts of errors cannot do harm."""

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def printable(text: object) -> str:
    r"""The text with what is not printable escaped, so that it stays on its line.

    A file may be called anything: a line break would forge a line of output, an escape
    sequence colour the terminal, an override of direction show another name.

    Examples
    --------
    >>> from sktransfer.cli.printing import printable
    >>> print(printable("Zoë\n\x1b[31m\u202egnp.jpg"))
    Zoë\n\x1b[31m\u202egnp.jpg
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in str(text))


def _escaped(character: str) -> str:
    byte = ord(character) - 0xDC00
    if 0x80 <= byte <= 0xFF:  # of a file name that is not UTF-8, as Python keeps it
        return f"\\x{byte:02x}"
    return character.encode("unicode_escape").decode("ascii")


def one_line(text: object) -> str:
    """The lines of an error's text as one, printable."""
    return printable(" ".join(line.strip() for line in str(text).splitlines()))


def some(names: Sequence[object], n: int = 5) -> str:
    """The first few names, printable, and how many more there are.

    Examples
    --------
    >>> from sktransfer.cli.printing import some
    >>> some(["a.png", "b.png", "c.png"], 2)
    'a.png, b.png and 1 more'
    """
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(map(printable, names[:n])) + more


def warn(text: object) -> None:
    """Print a warning to stderr."""
    print(f"sktransfer: warning: {one_line(text)}", file=sys.stderr)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Python's warnings as lines for a user: no file, no line of code, each text once."""
    seen = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in seen:
            seen.add(str(message))
            warn(message)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
