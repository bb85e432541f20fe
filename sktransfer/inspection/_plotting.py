"""Axes, colours and names for the displays, and the import of matplotlib."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend
    from matplotlib.text import Text

COLOURS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
"""Distinguishable for colour-blind readers, on white and on black: M. A. Petroff, "Accessible
color sequences for data visualization", arXiv:2107.02270."""

MARKERS = ("o", "^", "s", "D")

SEQUENTIAL = "viridis"
"""Colour map for continuous values."""

MAX_NAME_LENGTH = 24
"""Letters of a name in a legend or a title; longer ones would leave no room for the plot."""


def import_pyplot(caller: str) -> Any:
    """Import matplotlib.pyplot; without matplotlib, raise an error that says how to install it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f'{caller} needs matplotlib: run `pip install "sktransfer[plot]"`'
        ) from error
    return plt


def axes_for(
    caller: str, ax: "Axes | None" = None, *, figsize: tuple[float, float] | None = None
) -> "Axes":
    """The axes given, or those of a new figure in constrained layout."""
    plt = import_pyplot(caller)
    return plt.subplots(figsize=figsize, layout="constrained")[1] if ax is None else ax


def axes_grid(
    caller: str,
    n_rows: int,
    n_columns: int,
    ax: "Axes | None" = None,
    *,
    figsize: tuple[float, float] | None = None,
    width_ratios: Sequence[float] | None = None,
    height_ratios: Sequence[float] | None = None,
) -> np.ndarray:
    """Axes of shape (n_rows, n_columns), in a new figure or in place of `ax`."""
    plt = import_pyplot(caller)
    ratios: dict[str, Any] = {"width_ratios": width_ratios, "height_ratios": height_ratios}
    if ax is None:
        grid = plt.figure(figsize=figsize, layout="constrained").add_gridspec(
            n_rows, n_columns, **ratios
        )
        return grid.subplots(squeeze=False)
    from matplotlib.gridspec import GridSpec, GridSpecFromSubplotSpec

    ax.set_axis_off()
    figure: Any = ax.figure  # or a subfigure, which GridSpec takes as well
    cell = ax.get_subplotspec()
    if cell is not None:
        grid = GridSpecFromSubplotSpec(n_rows, n_columns, subplot_spec=cell, **ratios)
    else:
        box = ax.get_position()
        sides = {"left": box.x0, "bottom": box.y0, "right": box.x1, "top": box.y1}
        grid = GridSpec(n_rows, n_columns, figure=figure, **sides, **ratios)
    return np.array(
        [[figure.add_subplot(grid[i, j]) for j in range(n_columns)] for i in range(n_rows)]
    )


def size_in_inches(ax: "Axes") -> tuple[float, float]:
    """Width and height of axes in inches."""
    box = ax.get_window_extent()
    return box.width / ax.figure.dpi, box.height / ax.figure.dpi


def class_style(number: int) -> tuple[str, str]:
    """Colour and marker of a class by its number, counted from 0; the first 40 pairs differ.

    Neighbouring classes differ in their markers too, so that colour is not the only cue.
    """
    marker = MARKERS[(number + number // 20) % len(MARKERS)]
    return COLOURS[number % len(COLOURS)], marker


def text_colour(ax: "Axes") -> tuple[float, float, float, float]:
    """The colour of readable text on these axes: near black, or near white."""
    from matplotlib.colors import to_rgba

    background = ax.get_facecolor()
    if background[3] < 0.5:
        background = ax.figure.get_facecolor()
    red, green, blue, opacity = to_rgba(background)
    # The weights are those of luma (ITU-R BT.601): green looks brighter than blue.
    light = opacity < 0.5 or 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
    return to_rgba("0.1" if light else "0.95")


def secondary_colour(ax: "Axes") -> tuple[float, float, float, float]:
    """A grey for secondary elements that is readable on these axes."""
    from matplotlib.colors import to_rgba

    return to_rgba("0.45" if text_colour(ax)[0] < 0.5 else "0.65")


def legend_beside(ax: "Axes", **kw: Any) -> "Legend":
    """A legend to the right of the axes if the layout makes room for it, else inside them."""
    engine = ax.figure.get_layout_engine()
    makes_room = type(engine).__name__ == "ConstrainedLayoutEngine"
    position: dict[str, Any] = {"loc": "best"}
    if makes_room:
        position = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0}
    return ax.legend(**{**position, "frameon": not makes_room, **kw})


def enlarge_legend_markers(legend: "Legend") -> None:
    """Make the markers in a scatter plot's legend large and opaque, whatever the points' style."""
    handles: list[Any] = legend.legend_handles  # those of a scatter plot are collections
    for handle in handles:
        handle.set_sizes([30])
        handle.set_alpha(1)


def show_literally(texts: Iterable["Text"]) -> None:
    """Draw texts as they are: a dollar sign in a name does not begin a formula."""
    for text in texts:
        text.set_parse_math(False)


def short_names(names: Sequence[str], max_length: int = MAX_NAME_LENGTH) -> list[str]:
    """Shorten long names, so that different names stay different.

    A long name loses its end. If that makes names equal, it loses its middle, and if they are
    still equal, it ends in a number.
    """
    whole = list(dict.fromkeys(names))
    for tail in (0, max_length // 2 - 1, max_length - 5):
        short = {name: _truncated(name, max_length, name[len(name) - tail :]) for name in whole}
        if len({*short.values()}) == len(whole):
            return [short[name] for name in names]
    width = len(str(len(whole)))
    numbered = {
        name: _truncated(name, max_length, f" {number:0{width}}")
        for number, name in enumerate(whole, 1)
    }
    return [numbered[name] for name in names]


def _truncated(name: str, max_length: int, tail: str) -> str:
    """A name of at most so many letters, an ellipsis before its tail."""
    if len(name) <= max_length:
        return name
    return f"{name[: max_length - 1 - len(tail)].rstrip()}\N{HORIZONTAL ELLIPSIS}{tail}"


def label_axes(ax: "Axes", method: str, explained: Sequence[float] | np.ndarray | None) -> None:
    """Name the axes of a projection, with their shares of the variance if these are known.

    The axes of t-SNE and UMAP have no ticks, as their units mean nothing.
    """
    name = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}.get(method, method)
    labels = [f"{name} {number}" for number in (1, 2)]
    if explained is not None:
        labels = [
            f"{label} ({100 * share:.1f} % of variance)"
            for label, share in zip(labels, explained, strict=True)
        ]
    elif name != "PCA":
        ax.set_xticks([])
        ax.set_yticks([])
    ax.set_xlabel(labels[0])
    ax.set_ylabel(labels[1])
