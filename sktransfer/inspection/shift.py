"""Two domains on one plane, and how far they are apart."""

import textwrap
from typing import Any, Self

import numpy as np

from sktransfer._validation import checked_domain
from sktransfer.inspection._features import features_of, project, readable_rows
from sktransfer.inspection._plotting import (
    COLOURS,
    axes_for,
    axes_grid,
    enlarge_legend_marks,
    import_pyplot,
    ink,
    label_plane,
    muted,
    size_of,
)
from sktransfer.metrics import ShiftReport, diagnose_shift

_KINDS = {
    "none": "no shift",
    "label": "label shift",
    "covariate": "covariate shift",
    "unknown": "shift of unknown kind",
}

_SIZE = (8.4, 4.4)
_NARROW, _PANEL = 5.0, 2.2
"""Width below which figures go under the points, and the height that they need, in inches."""

_CHARACTER = 4.9
"""Mean width of one, in points, of small letters."""


class ShiftDisplay:
    """Rows of two domains on one plane, with the figures of their gap.

    `from_estimator` and `from_features` make the display.

    Parameters
    ----------
    points : array-like of shape (n, 2)
    is_source : array-like of shape (n,), bool
        Which points are of the source.
    report : ShiftReport
        See `sktransfer.metrics.diagnose_shift`.
    method : str, default="pca"
        Name of the plane, for the labels of the axes.
    explained : array-like of shape (2,) or None, default=None
        Share of the variance along each axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        With the points.
    report_ax_ : matplotlib Axes or None
        With the figures.
    figure_ : matplotlib Figure
    source_, target_ : matplotlib PathCollection
    legend_ : matplotlib Legend
    texts_ : dict of str to matplotlib Text
        Each figure by its name in the report.

    See Also
    --------
    sktransfer.metrics.diagnose_shift : Where the figures come from.
    EmbeddingDisplay : Classes on a plane.

    Notes
    -----
    The plane is one of both domains together, and the figures are those of all features. Domains
    may lie on top of each other here and yet be far apart: believe the figures.

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
        points: Any,
        is_source: Any,
        report: ShiftReport,
        *,
        method: str = "pca",
        explained: Any = None,
    ) -> None:
        self.points = points
        self.is_source = is_source
        self.report = report
        self.method = method
        self.explained = explained

    def plot(self, ax: Any = None, *, show_report: bool = True, **scatter_kw: Any) -> Self:
        """Draw the points, and the figures beside them or, in narrow axes, below.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Its place is divided between the points and the figures. None makes a figure.
        show_report : bool, default=True
            Without, or in axes too small for both, the points fill the axes, and their title says
            the kind of shift.
        **scatter_kw : dict
            For matplotlib's `Axes.scatter`, such as ``s=10``.

        Returns
        -------
        self : ShiftDisplay
        """
        points, is_source = self._checked()
        left, self.report_ax_ = _places(ax, show_report)
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
                **{"color": [colour], "marker": marker, "label": f"{what} ({count:,})", **style},
            )
            for rows, colour, marker, what, count in zip(
                (is_source, ~is_source), COLOURS, "o^", ("source", "target"), counts, strict=False
            )
        )
        self.legend_ = left.legend(
            loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, frameon=False, borderpad=0.2
        )
        enlarge_legend_marks(self.legend_)
        label_plane(left, self.method, self.explained)
        self.texts_: dict[str, Any] = {}
        if self.report_ax_ is not None:
            self._write_figures(self.report_ax_)
        else:
            distance = f"proxy A-distance {self.report.proxy_a_distance:.2f}"
            # Above the legend.
            title = f"{_KINDS[self.report.kind]}, {distance}"
            left.set_title(title, fontsize="medium", pad=24, loc="left")
        self.ax_, self.figure_ = left, left.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        transformer: Any,
        X: Any,
        *,
        sample_domain: Any,
        y: Any = None,
        method: Any = "pca",
        random_state: Any = None,
        ax: Any = None,
        **plot_kw: Any,
    ) -> Self:
        """Compute features of both domains, diagnose their gap, and draw.

        Parameters
        ----------
        transformer : transformer or Pipeline
            If it is fitted it is used as it is, else a clone is fitted. The predictor at the end of
            a pipeline is left out.
        X : as the transformer takes it
            Rows of both domains. Those that cannot be read (with ``on_error="nan"``) are left out.
        sample_domain : array-like of shape (n,)
            Positive in source rows, negative in target rows.
        y : array-like of shape (n,) or None, default=None
            Labels, of which only those of the source are used. Without, label shift cannot be told
            from others.
        method : {"pca", "tsne", "umap"} or estimator, default="pca"
            As for `EmbeddingDisplay`.
        random_state : int, RandomState instance or None, default=None
            Of the diagnosis, and of t-SNE and UMAP.
        ax : matplotlib Axes or None, default=None
        **plot_kw : dict
            As for `plot`.

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
        features: Any,
        *,
        sample_domain: Any,
        y: Any = None,
        method: Any = "pca",
        random_state: Any = None,
        ax: Any = None,
        **plot_kw: Any,
    ) -> Self:
        """Diagnose the gap between the features of two domains, and draw.

        Parameters
        ----------
        features : array-like of shape (n, n_features)
            Rows with NaN are left out.
        sample_domain : array-like of shape (n,)
        y : array-like of shape (n,) or None, default=None
        method : {"pca", "tsne", "umap"} or estimator, default="pca"
        random_state : int, RandomState instance or None, default=None
        ax : matplotlib Axes or None, default=None
        **plot_kw : dict
            All as for `from_estimator`.

        Returns
        -------
        ShiftDisplay
        """
        import_pyplot(f"{cls.__name__}.from_features")
        table, rows = readable_rows(features)
        n_rows = len(np.asarray(features))
        is_source = checked_domain(sample_domain, n_rows) > 0
        _check_both(is_source)
        is_source = is_source[rows]
        _check_both(is_source, " that can be read")
        y_source = None
        if y is not None:
            y = y.to_numpy() if hasattr(y, "to_numpy") else np.asarray(y)
            if len(y) != n_rows:
                raise ValueError(
                    f"features has {n_rows} rows and y has {len(y)}; they must be equal"
                )
            y_source = y[rows][is_source]
        report = diagnose_shift(
            table[is_source], table[~is_source], y_source, random_state=random_state
        )
        plane = project(table, method, random_state)
        return cls(
            plane.points, is_source, report, method=plane.method, explained=plane.explained
        ).plot(ax, **plot_kw)

    def _checked(self) -> tuple[np.ndarray, np.ndarray]:
        points, is_source = np.asarray(self.points, dtype=np.float64), np.asarray(self.is_source)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"points must be of shape (n, 2), got {points.shape}")
        if is_source.dtype != bool or is_source.shape != (len(points),):
            raise ValueError(
                f"is_source must hold {len(points)} booleans, one per point, got {is_source.dtype} "
                f"of shape {is_source.shape}"
            )
        return points, is_source

    def _write_figures(self, ax: Any) -> None:
        """Name and value of each figure, in two columns, and the advice below."""
        report = self.report
        figures = {
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
        drop = 0.0

        def write(text: str, at: float = 0.0, **how: Any) -> Any:
            place = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
            written = ax.annotate(text, (at, 1), (0, -drop), **{**place, "size": "small", **how})
            written.set_in_layout(False)  # or a narrow panel would push the points away
            return written

        self.texts_["kind"] = write(_KINDS[report.kind], size="large", weight="bold")
        drop = 25.0
        for key, (name, value) in figures.items():
            if value:
                write(name, color=muted(ax))
                self.texts_[key] = write(value, 1.0, ha="right")
                drop += 15.0
        drop += 8.0
        letters = int(size_of(ax)[0] * 72 / _CHARACTER)
        advice = textwrap.fill(report.advice, max(20, letters))
        self.texts_["advice"] = write(advice, color=ink(ax), linespacing=1.35)


def _check_both(is_source: np.ndarray, which: str = "") -> None:
    """Refuse rows that are all of one domain; `which` says what the others lack."""
    for found, missing, sign in (
        (is_source, "source", "positive"),
        (~is_source, "target", "negative"),
    ):
        if not found.any():
            raise ValueError(
                f"there are no {missing} rows in sample_domain ({sign}){which}, of {len(found)} "
                "rows; a shift is one between two domains, with 20 rows or more of each"
            )


def _places(ax: Any, show_report: bool) -> tuple[Any, Any]:
    """Axes of the points and of the figures, side by side if that is not too narrow."""
    name = "ShiftDisplay.plot"
    width, height = _SIZE if ax is None else size_of(ax)
    below = width < _NARROW
    if not show_report or (below and height < 2 * _PANEL):
        return axes_for(name, ax, figsize=(5.6, 4.6)), None
    if below:
        (points,), (figures,) = axes_grid(name, 2, 1, ax, height_ratios=(height - _PANEL, _PANEL))
    else:
        ((points, figures),) = axes_grid(name, 1, 2, ax, figsize=_SIZE, width_ratios=(1.7, 1))
    return points, figures


def _pvalue(value: float | None) -> str:
    if value is None:
        return ""
    return "< 1e-12" if value < 1e-12 else f"{value:.2g}"
