"""Two domains projected onto a plane, with measures of their distance."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from sktransfer._validation import as_array, checked_domain
from sktransfer.inspection._features import (
    RandomState,
    checked_points,
    features_of,
    project,
    readable_rows,
)
from sktransfer.inspection._plotting import (
    COLOURS,
    axes_for,
    axes_grid,
    enlarge_legend_markers,
    import_pyplot,
    label_axes,
    secondary_colour,
    size_in_inches,
    text_colour,
)
from sktransfer.metrics import ShiftReport, diagnose_shift

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

_KINDS = {
    "none": "no shift",
    "label": "label shift",
    "covariate": "covariate shift",
    "unknown": "shift of unknown kind",
}

_SIZE = (8.4, 4.4)
_MIN_WIDTH, _REPORT_HEIGHT = 5.0, 2.2
"""Inches: in narrower axes the report is below the points, where it needs that height."""

_CHARACTER_WIDTH = 4.9
"""Mean width of a letter of the report, in points (1/72 inch)."""


class ShiftDisplay:
    """Rows of two domains projected onto a plane, with a report on their shift.

    Use `from_estimator` or `from_features` to create the display.

    Parameters
    ----------
    points : array-like of shape (n, 2)
    is_source : array-like of shape (n,), bool
        True for the points of the source.
    report : ShiftReport
        See `sktransfer.metrics.diagnose_shift`.
    method : str, default="pca"
        Name of the projection, for the labels of the axes.
    explained : array-like of shape (2,) or None, default=None
        Share of the variance along each axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the points.
    report_ax_ : matplotlib Axes or None
        Axes of the report.
    figure_ : matplotlib Figure
    source_, target_ : matplotlib PathCollection
    legend_ : matplotlib Legend
    texts_ : dict of str to matplotlib Text
        Values of the report by their names in it, its kind and its advice.

    See Also
    --------
    sktransfer.metrics.diagnose_shift : The function that makes the report.
    EmbeddingDisplay : Classes projected onto a plane.

    Notes
    -----
    Both domains are projected together. The report describes all features, so that domains which
    overlap on the plane may be far apart: trust the report.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.inspection import ShiftDisplay
    >>> rng = np.random.default_rng(0)
    >>> features = rng.normal(size=(200, 10))
    >>> features[100:] += 1.0
    >>> display = ShiftDisplay.from_features(
    ...     features, sample_domain=np.repeat([1, -1], 100), random_state=0
    ... )
    >>> display.report.kind
    'unknown'
    >>> display.texts_["proxy_a_distance"].get_text()
    '1...'
    """

    def __init__(
        self,
        points: ArrayLike,
        is_source: ArrayLike,
        report: ShiftReport,
        *,
        method: str = "pca",
        explained: Sequence[float] | np.ndarray | None = None,
    ) -> None:
        self.points = points
        self.is_source = is_source
        self.report = report
        self.method = method
        self.explained = explained

    def plot(
        self, ax: "Axes | None" = None, *, show_report: bool = True, **scatter_kw: Any
    ) -> Self:
        """Draw the points, and the report beside them or, in narrow axes, below.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            It is divided between the points and the report. None makes a figure.
        show_report : bool, default=True
            If False, or if the axes are too small for both, the points fill the axes, and the
            title names the kind of shift.
        **scatter_kw : dict
            Passed to matplotlib's `Axes.scatter`, such as ``s=10``.

        Returns
        -------
        self : ShiftDisplay
        """
        points, is_source = self._checked()
        left, self.report_ax_ = _divided_axes(ax, show_report)
        style = {
            "s": np.clip(8000 / len(points), 6, 32),
            "alpha": 0.6,
            "linewidths": 0,
            **scatter_kw,
        }
        counts = int(is_source.sum()), int((~is_source).sum())
        self.source_, self.target_ = (
            left.scatter(
                *points[rows].T,
                **{"color": [colour], "marker": marker, "label": f"{domain} ({count:,})", **style},
            )
            for rows, colour, marker, domain, count in zip(
                (is_source, ~is_source), COLOURS, "o^", ("source", "target"), counts, strict=False
            )
        )
        self.legend_ = left.legend(
            loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, frameon=False, borderpad=0.2
        )
        enlarge_legend_markers(self.legend_)
        label_axes(left, self.method, self.explained)
        self.texts_: dict[str, Any] = {}
        if self.report_ax_ is not None:
            self._write_report(self.report_ax_)
        else:
            distance = f"proxy A-distance {self.report.proxy_a_distance:.2f}"
            title = f"{_KINDS[self.report.kind]}, {distance}"
            left.set_title(title, fontsize="medium", pad=24, loc="left")  # above the legend
        self.ax_, self.figure_ = left, left.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        transformer: Any,
        X: Any,
        *,
        sample_domain: ArrayLike,
        y: Any = None,
        method: Any = "pca",
        random_state: RandomState = None,
        ax: "Axes | None" = None,
        **plot_kw: Any,
    ) -> Self:
        """Compute features of both domains, diagnose their shift, and draw them.

        Parameters
        ----------
        transformer : transformer or Pipeline
            A fitted transformer is used as it is; if it is not fitted, a clone is. If a pipeline
            ends with a predictor, the steps before it are used.
        X : any input of the transformer
            Rows of both domains. Those that cannot be read (with ``on_error="nan"``) are left out.
        sample_domain : array-like of shape (n,)
            Positive in source rows, negative in target rows.
        y : array-like of shape (n,) or None, default=None
            Labels; only those of the source are used. Without them label shift cannot be told
            from other kinds.
        method : {"pca", "tsne", "umap"} or estimator, default="pca"
            As for `EmbeddingDisplay`.
        random_state : int, RandomState instance or None, default=None
            Seed of the diagnosis, and of t-SNE and UMAP.
        ax, **plot_kw
            Passed to `plot`.

        Returns
        -------
        ShiftDisplay

        Raises
        ------
        ValueError
            `sample_domain` is no such array or lacks a domain, or there are fewer than 20 rows of
            one.
        ImportError
            matplotlib is not installed.
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        _check_both(checked_domain(sample_domain) > 0)  # before the features, which take long
        features = features_of(transformer, X, y)
        return cls.from_features(
            features,
            sample_domain=sample_domain,
            y=y,
            method=method,
            random_state=random_state,
            ax=ax,
            **plot_kw,
        )

    @classmethod
    def from_features(
        cls,
        features: ArrayLike,
        *,
        sample_domain: ArrayLike,
        y: Any = None,
        method: Any = "pca",
        random_state: RandomState = None,
        ax: "Axes | None" = None,
        **plot_kw: Any,
    ) -> Self:
        """Diagnose the shift between the features of two domains, and draw them.

        Parameters
        ----------
        features : array-like of shape (n, n_features)
            Rows with NaN are left out.
        sample_domain : array-like of shape (n,)
            Positive in source rows, negative in target rows.
        y, method, random_state, ax, **plot_kw
            As for `from_estimator`.

        Returns
        -------
        ShiftDisplay
        """
        import_pyplot(f"{cls.__name__}.from_features")
        table, rows = readable_rows(features, y=y)
        is_source = checked_domain(sample_domain, len(np.asarray(features))) > 0
        _check_both(is_source)
        is_source = is_source[rows]
        _check_both(is_source, " that can be read")
        y_source = None if y is None else as_array(y)[rows][is_source]
        report = diagnose_shift(
            table[is_source], table[~is_source], y_source, random_state=random_state
        )
        projection = project(table, method, random_state)
        return cls(is_source=is_source, report=report, **projection).plot(ax, **plot_kw)

    def _checked(self) -> tuple[np.ndarray, np.ndarray]:
        points, is_source = checked_points(self.points), np.asarray(self.is_source)
        if is_source.dtype != bool or is_source.shape != (len(points),):
            raise ValueError(
                f"is_source must hold {len(points)} booleans, one per point, got {is_source.dtype} "
                f"of shape {is_source.shape}"
            )
        return points, is_source

    def _write_report(self, ax: "Axes") -> None:
        """Write the values of the report in two columns, and its advice below."""
        report = self.report
        values = {
            "pvalue": ("p-value of no gap", _pvalue(report.pvalue)),
            "mmd": ("squared MMD", f"{report.mmd:.3g}"),
            "proxy_a_distance": ("proxy A-distance (0 to 2)", f"{report.proxy_a_distance:.2f}"),
            "outside_support": ("target outside source", f"{report.outside_support:.0%}"),
            "effective_sample_share": (
                "source left by weighting",
                f"{report.effective_sample_share:.0%}",
            ),
            "label_pvalue": ("p-value of label shift alone", _pvalue(report.label_pvalue)),
        }
        ax.set_axis_off()
        offset = 0.0  # from the top, in points

        def write(text: str, x: float = 0.0, **style: Any) -> "Text":
            units = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
            written = ax.annotate(text, (x, 1), (0, -offset), **{**units, "size": "small", **style})
            written.set_in_layout(False)  # else a narrow panel would push the points away
            return written

        self.texts_["kind"] = write(_KINDS[report.kind], size="large", weight="bold")
        offset = 25.0
        for key, (name, value) in values.items():
            if value:
                write(name, color=secondary_colour(ax))
                self.texts_[key] = write(value, 1.0, ha="right")
                offset += 15.0
        offset += 8.0
        letters = int(size_in_inches(ax)[0] * 72 / _CHARACTER_WIDTH)
        advice = textwrap.fill(report.advice, max(20, letters))
        self.texts_["advice"] = write(advice, color=text_colour(ax), linespacing=1.35)


def _check_both(is_source: np.ndarray, which: str = "") -> None:
    """Raise an error if all rows are of one domain; `which` says among which rows."""
    for found, missing, sign in (
        (is_source, "source", "positive"),
        (~is_source, "target", "negative"),
    ):
        if not found.any():
            raise ValueError(
                f"there are no {missing} rows in sample_domain ({sign}){which}, of {len(found)} "
                "rows; a shift is one between two domains, with 20 rows or more of each"
            )


def _divided_axes(ax: "Axes | None", show_report: bool) -> tuple["Axes", "Axes | None"]:
    """Axes of the points and of the report, side by side if they are wide enough."""
    name = "ShiftDisplay.plot"
    width, height = _SIZE if ax is None else size_in_inches(ax)
    below = width < _MIN_WIDTH
    if not show_report or (below and height < 2 * _REPORT_HEIGHT):
        return axes_for(name, ax, figsize=(5.6, 4.6)), None
    if below:
        (points,), (report,) = axes_grid(
            name, 2, 1, ax, height_ratios=(height - _REPORT_HEIGHT, _REPORT_HEIGHT)
        )
    else:
        ((points, report),) = axes_grid(name, 1, 2, ax, figsize=_SIZE, width_ratios=(1.7, 1))
    return points, report


def _pvalue(value: float | None) -> str:
    if value is None:
        return ""
    return "< 1e-12" if value < 1e-12 else f"{value:.2g}"
