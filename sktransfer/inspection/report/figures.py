"""Displays as pictures, for light and for dark surroundings."""

import base64
import io
import warnings
from collections.abc import Callable
from typing import Any

from sktransfer.inspection._plotting import import_pyplot
from sktransfer.inspection.report.blocks import Figure, NotApplicable

_DPI = 200
"""Resolution of figures as pixels: sharp on fine screens in the width of the page."""

_LIGHT = {"ground": "#ffffff", "ink": "#1b2130", "line": "#8a93a5"}
_DARK = {"ground": "#171c26", "ink": "#e6eaf2", "line": "#7c879c"}
"""The colours --card and --ink of the style sheet; displays choose their greys by the ground."""


def themed(
    draw: Callable[[Any], Any],
    *,
    size: tuple[float, float],
    alt: str,
    caption: str,
    is_dense: bool = False,
) -> Figure:
    """Draw on axes of a size in inches, twice; dense figures hold many points, or images."""
    light, dark = (_drawn(draw, size, theme, is_dense) for theme in (_LIGHT, _DARK))
    return Figure(light, dark, alt, caption)


def _drawn(
    draw: Callable[[Any], Any], size: tuple[float, float], theme: dict[str, str], is_dense: bool
) -> str:
    _need_matplotlib()
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context(_settings(theme)):
        figure = Canvas(figsize=size, layout="constrained")
        draw(figure.subplots())
        return _uri(figure, is_dense)


def scratch_axes() -> Any:
    """Axes for a display that cannot be made without drawing."""
    _need_matplotlib()
    from matplotlib.figure import Figure as Canvas

    return Canvas().subplots()


def _need_matplotlib() -> None:
    try:
        import_pyplot("its figure")
    except ImportError as error:
        raise NotApplicable(str(error)) from error


def _settings(theme: dict[str, str]) -> dict[str, Any]:
    ground, ink, line = theme["ground"], theme["ink"], theme["line"]
    return {
        "figure.facecolor": ground,
        "savefig.facecolor": ground,
        "axes.facecolor": ground,
        "legend.facecolor": ground,
        "legend.edgecolor": line,
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.titlecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "axes.edgecolor": line,
        "grid.color": line,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.family": "sans-serif",
        "font.size": 10.0,
        "text.parse_math": False,  # names of classes may hold dollar signs
        "svg.hashsalt": "sktransfer",
        "svg.fonttype": "path",
    }


def _uri(figure: Any, is_dense: bool) -> str:
    """A cloud of points and thumbnails is smaller, and faster to show, as pixels."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Names of classes may be in any script; boxes in a legend are no reason to alarm anyone.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        if is_dense:
            figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
        else:
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    kind = "png" if is_dense else "svg+xml"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
