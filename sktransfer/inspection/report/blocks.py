"""Parts of a section as plain data, without a word of HTML.

The template alone makes markup of it, and escapes every string on the way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, TypedDict


class NotApplicable(Exception):
    """There is nothing to show in a section; the message says why, and what would change that."""


@dataclass(frozen=True)
class Prose:
    """A paragraph; `tone` is "", "note", or "code" for lines in a fixed-width face."""

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


Cell = str | Bar | Name


@dataclass(frozen=True)
class Table:
    """Columns with a heading each; the first cell of a row names the row."""

    kind: ClassVar = "table"
    caption: str
    columns: list[str]
    rows: Sequence[Sequence[Cell]]
    numeric: tuple[int, ...] = ()  # columns that are set flush right
    code: tuple[int, ...] = ()  # columns that are set in a fixed-width face
    prose: tuple[int, ...] = ()  # columns of sentences, which need room
    marked: int | None = None  # the row that stands out


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
class Card:
    """A row of X to look at, as an image, lines, or a text, and facts about it."""

    title: str
    facts: list[tuple[str, str | Name]]
    name: str
    image: str = ""  # a data URI
    is_small: bool = False  # whether the image has so few pixels that they are to be seen
    lines: list[str] = field(default_factory=list)  # points of polylines within 160 x 60
    text: str = ""


@dataclass(frozen=True)
class Gallery:
    """Cards beside each other."""

    kind: ClassVar = "gallery"
    cards: list[Card]


Block = Prose | Bullets | Table | Facts | Figure | Scatter | Matrix | Gallery


class Probe(NamedTuple):
    """The best layer of a network, its score, and that of the best layer in use."""

    layer: str
    score: float
    scoring: str
    in_use: float | None
    constant: float  # the score of the best constant prediction


class Findings(TypedDict, total=False):
    """Results of sections that the head of the report repeats."""

    shift: str
    probe: Probe
    rows_per_second: float


SectionContent = tuple[list[Block], Findings]
"""Blocks of a section, and its results for the head."""


@dataclass(frozen=True)
class Section:
    """A part of the report, or the error that came in its place."""

    name: str
    title: str
    lead: str
    blocks: list[Block]
    error: str = ""
