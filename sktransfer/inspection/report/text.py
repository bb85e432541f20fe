"""Numbers and foreign strings as text."""

import os
from typing import Any

_LONGEST = 120


def plain(value: Any, longest: int = _LONGEST) -> str:
    """Any value as printable text, cut to a length, in which unprintable characters are escaped."""
    text = value if isinstance(value, str) else " ".join(str(value).split())
    text = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
    return text if len(text) <= longest else f"{text[: longest - 1]}\N{HORIZONTAL ELLIPSIS}"


def path_text(value: Any, longest: int = _LONGEST) -> str:
    """A path, of which the end is what matters."""
    text = plain(os.fspath(value), 10_000)
    return text if len(text) <= longest else f"\N{HORIZONTAL ELLIPSIS}{text[1 - longest :]}"


def number(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, or decimals if it is within 1."""
    if value != value:
        return "-"
    if 0 < abs(value) < 0.5 * 10**-digits:
        return f"{value:.0e}"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}f}" if abs(value) <= 1 else f"{value:#.{digits}g}"


def seconds_text(value: float) -> str:
    """A duration."""
    if value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.1f} s" if value < 100 else f"{value / 60:.1f} min"


def count(n: int, what: str) -> str:
    """A number of things: "1 row", "2 rows"."""
    if n == 1:
        return f"1 {what}"
    plural = f"{what}es" if what.endswith("s") else what + "s"
    return f"{n:,} {plural}"
