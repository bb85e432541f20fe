"""What the displays share: matplotlib with its cure, axes, and colours."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

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
"""Told apart by colour-blind eyes, on white and on black: M. A. Petroff, "Accessible color
sequences for data visualization", arXiv:2107.02270."""

MARKERS = ("o", "^", "s", "D")

SEQUENTIAL = "viridis"
"""Colour map of numbers."""

LETTERS = 24
"""Of a name in a legend or a title: longer ones would leave no room for the picture."""


def import_pyplot(caller: str) -> Any:
    """matplotlib.pyplot, or how to get it.

    Parameters
    ----------
    caller : str
        What the user called, such as "LayerProbeDisplay.plot".

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f'{caller} needs matplotlib: run `pip install "sktransfer[plot]"`'
        ) from error
    return plt


def axes_for(caller: str, ax: Any = None, *, figsize: tuple[float, float] | None = None) -> Any:
    """The axes to draw on: those given, or those of a new figure in constrained layout."""
    plt = import_pyplot(caller)
    return plt.subplots(figsize=figsize, layout="constrained")[1] if ax is None else ax


def axes_grid(
    caller: str,
    n_rows: int,
    n_columns: int,
    ax: Any = None,
    *,
    figsize: tuple[float, float] | None = None,
    width_ratios: Sequence[float] | None = None,
    height_ratios: Sequence[float] | None = None,
) -> np.ndarray:
    """Axes of shape (n_rows, n_columns), in a new figure or in the place of `ax`."""
    plt = import_pyplot(caller)
    ratios: dict[str, Any] = {"width_ratios": width_ratios, "height_ratios": height_ratios}
    if ax is None:
        figure = plt.figure(figsize=figsize, layout="constrained")
        grid = figure.add_gridspec(n_rows, n_columns, **ratios)
        return grid.subplots(squeeze=False)
    from matplotlib.gridspec import GridSpec, GridSpecFromSubplotSpec

    ax.set_axis_off()
    figure, place = ax.figure, ax.get_subplotspec()
    if place is not None:
        grid = GridSpecFromSubplotSpec(n_rows, n_columns, subplot_spec=place, **ratios)
    else:
        box = ax.get_position()
        sides = {"left": box.x0, "bottom": box.y0, "right": box.x1, "top": box.y1}
        grid = GridSpec(n_rows, n_columns, figure=figure, **sides, **ratios)
    return np.array(
        [[figure.add_subplot(grid[i, j]) for j in range(n_columns)] for i in range(n_rows)]
    )


def size_of(ax: Any) -> tuple[float, float]:
    """Width and height of axes in inches."""
    box = ax.get_window_extent()
    return box.width / ax.figure.dpi, box.height / ax.figure.dpi


def class_style(number: int) -> tuple[str, str]:
    """Colour and marker of the class of a number, counted from 0; 40 pairs are unlike.

    Shapes change with each class, so that colours need not tell neighbours apart alone.
    """
    marker = MARKERS[(number + number // 20) % len(MARKERS)]
    return COLOURS[number % len(COLOURS)], marker


def ink(ax: Any) -> tuple[float, float, float, float]:
    """The colour of text that can be read on these axes: near black, or near white."""
    from matplotlib.colors import to_rgba

    ground = ax.get_facecolor()
    if ground[3] < 0.5:
        ground = ax.figure.get_facecolor()
    red, green, blue, opacity = to_rgba(ground)
    light = opacity < 0.5 or 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
    return to_rgba("0.1" if light else "0.95")


def muted(ax: Any) -> tuple[float, float, float, float]:
    """A grey for what stands back, which can be read on these axes."""
    from matplotlib.colors import to_rgba

    return to_rgba("0.45" if ink(ax)[0] < 0.5 else "0.65")


def legend_beside(ax: Any, **kw: Any) -> Any:
    """A legend to the right of the axes if the figure makes room for it, and within them if not."""
    engine = ax.figure.get_layout_engine()
    roomy = engine is not None and type(engine).__name__ == "ConstrainedLayoutEngine"
    place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0}
    return ax.legend(**{**(place if roomy else {"loc": "best"}), "frameon": not roomy, **kw})


def enlarge_legend_marks(legend: Any) -> None:
    """Make the marks of a scatter's legend large and opaque, however small and pale the points."""
    for handle in legend.legend_handles:
        handle.set_sizes([30])
        handle.set_alpha(1)


def as_written(texts: Iterable[Any]) -> None:
    """Draw the names in texts letter by letter: their dollar signs are no mathematics."""
    for text in texts:
        text.set_parse_math(False)


def short_names(names: Sequence[str], most: int = LETTERS) -> list[str]:
    """Names of at most so many letters, the same only where the names are.

    The end of a long name is cut off, or its middle if that tells names apart, or else long names
    end in a number.
    """
    whole = list(dict.fromkeys(names))
    for tail in (0, most // 2 - 1, most - 5):
        short = {name: _cut(name, most, name[len(name) - tail :]) for name in whole}
        if len({*short.values()}) == len(whole):
            return [short[name] for name in names]
    width = len(str(len(whole)))
    numbered = {
        name: _cut(name, most, f" {number:0{width}}") for number, name in enumerate(whole, 1)
    }
    return [numbered[name] for name in names]


def _cut(name: str, most: int, tail: str) -> str:
    if len(name) <= most:
        return name
    return f"{name[: most - 1 - len(tail)].rstrip()}\N{HORIZONTAL ELLIPSIS}{tail}"


def label_plane(ax: Any, method: str, explained: Any) -> None:
    """Name the axes of a plane; without shares of variance, their units mean nothing."""
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
