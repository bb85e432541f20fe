"""What a section of the report is made of: plain data, without a word of HTML.

The template alone makes markup of it, and escapes every string on the way.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar


class NotApplicable(Exception):
    """There is nothing to show in a section; the message says why, and what would change that."""


@dataclass(frozen=True)
class Prose:
    """A paragraph; `tone` is "" or "note"."""

    kind: ClassVar = "prose"
    text: str
    tone: str = ""


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    kind: ClassVar = "bullets"
    items: list[str]


@dataclass(frozen=True)
class Bar:
    """A number in a table with a bar beneath; `share` is its length, `low` and `high` a whisker."""

    text: str
    share: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Name:
    """A name in a table or on a card, cut to fit; `full` is shown when one points at it."""

    text: str
    full: str


@dataclass(frozen=True)
class Table:
    """Columns with a heading each; the first cell of a row names the row.

    Parameters
    ----------
    caption : str
        What it holds.
    columns : list of str
    rows : list of list
        Cells are texts, numbers, `Name` or `Bar`.
    numeric : tuple of int
        Columns that are set flush right.
    code : tuple of int
        Columns that are set in a fixed-width face.
    prose : tuple of int
        Columns of sentences, which want room.
    marked : int or None
        The row that stands out.
    """

    kind: ClassVar = "table"
    caption: str
    columns: list[str]
    rows: list[list[Any]]
    numeric: tuple[int, ...] = ()
    code: tuple[int, ...] = ()
    prose: tuple[int, ...] = ()
    marked: int | None = None


@dataclass(frozen=True)
class Facts:
    """Pairs of a name and a value."""

    kind: ClassVar = "facts"
    pairs: list[tuple[str, str]]


@dataclass(frozen=True)
class Figure:
    """A picture for light and one for dark surroundings, as data URIs."""

    kind: ClassVar = "figure"
    light: str
    dark: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Scatter:
    """Points within the unit square, and the line on which they should lie."""

    kind: ClassVar = "scatter"
    points: list[tuple[float, float]]
    low: str
    high: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Matrix:
    """Counts of true against predicted classes; `shares` are those of each row."""

    kind: ClassVar = "matrix"
    labels: list[Name]
    counts: list[list[int]]
    shares: list[list[float]]
    caption: str


@dataclass(frozen=True)
class Picture:
    """A row of X to look at: an image, lines, or a text.

    Parameters
    ----------
    image : str
        A data URI, or "".
    is_small : bool
        Whether the image has so few pixels that they are to be seen.
    lines : list of str
        Points of polylines within 160 x 60.
    text : str
    """

    image: str = ""
    is_small: bool = False
    lines: list[str] = field(default_factory=list)
    text: str = ""


@dataclass(frozen=True)
class Card:
    """A picture, and what is said of it."""

    picture: Picture
    title: str
    facts: list[tuple[str, str | Name]]
    name: str


@dataclass(frozen=True)
class Gallery:
    """Cards beside each other."""

    kind: ClassVar = "gallery"
    cards: list[Card]


@dataclass(frozen=True)
class Code:
    """Text in a fixed-width face, line by line."""

    kind: ClassVar = "code"
    text: str


Block = Prose | Bullets | Table | Facts | Figure | Scatter | Matrix | Gallery | Code


@dataclass(frozen=True)
class Section:
    """A part of the report, or the error that came in its place."""

    name: str
    title: str
    lead: str
    blocks: list[Block]
    error: str = ""


@dataclass(frozen=True)
class Tile:
    """A number at the head of the report."""

    label: str
    value: str
    note: str = ""
