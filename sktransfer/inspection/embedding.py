"""Features as points on a plane."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.utils.multiclass import type_of_target

from sktransfer.inspection._classes import known_labels
from sktransfer.inspection._features import features_of, project, readable_rows
from sktransfer.inspection._plotting import (
    SEQUENTIAL,
    as_written,
    axes_for,
    class_style,
    enlarge_legend_marks,
    import_pyplot,
    ink,
    label_plane,
    legend_beside,
    muted,
    short_names,
)
from sktransfer.inspection._thumbnails import add_thumbnails


class EmbeddingDisplay:
    """Features on a plane: principal components, t-SNE [1]_ or UMAP [2]_.

    Features are standardised first; t-SNE and UMAP see their first 50 principal components.
    `from_estimator` and `from_features` make the display.

    Parameters
    ----------
    points : array-like of shape (n, 2)
    labels : array-like of shape (n,) or None, default=None
        Classes, which get colours and a legend, or continuous numbers, which get a colour bar.
        Points whose label is None or NaN are grey: "no label". Of long names of classes the legend
        shows 24 letters.
    images : array or sequence of n images, or None, default=None
        Paths, PIL images, or arrays of shape (height, width) or (height, width, channels), to be
        shown as thumbnails.
    method : str, default="pca"
        Name of the plane, for the labels of the axes.
    explained : array-like of shape (2,) or None, default=None
        Share of the variance along each axis.
    rows : array-like of shape (n,) or None, default=None
        Row of X that each point stands for; None counts from 0.
    n_dropped : int, default=0
        Rows of X that could not be read, and have no point.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    scatter_ : list of matplotlib PathCollection
        One for each class of the legend, or one in all; before these, one for points without
        label.
    legend_ : matplotlib Legend or None
    colorbar_ : matplotlib Colorbar or None
    thumbnails_ : list of matplotlib AnnotationBbox
    thumbnail_points_ : ndarray of int
        The point that each thumbnail belongs to.

    See Also
    --------
    ShiftDisplay : Two domains on a plane.

    Notes
    -----
    t-SNE and UMAP keep neighbours together. Distances between groups, and the sizes of groups, say
    little.

    References
    ----------
    .. [1] L. van der Maaten and G. Hinton, "Visualizing data using t-SNE", JMLR 9, 2008.
    .. [2] L. McInnes, J. Healy and J. Melville, "UMAP: uniform manifold approximation and
       projection for dimension reduction", arXiv:1802.03426, 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import PretrainedCNNFeatures
    >>> from sktransfer.inspection import EmbeddingDisplay
    >>> digits = load_digits()
    >>> images, labels = digits.images[:100] / 16, digits.target[:100]
    >>> features = PretrainedCNNFeatures(layer="blocks.3", image_size=32)
    >>> display = EmbeddingDisplay.from_estimator(features, images, labels, images=images)
    >>> display.points.shape
    (100, 2)
    >>> display.ax_.get_xlabel()
    'PCA 1 (... % of variance)'
    """

    def __init__(
        self,
        points: Any,
        labels: Any = None,
        *,
        images: Any = None,
        method: str = "pca",
        explained: Any = None,
        rows: Any = None,
        n_dropped: int = 0,
    ) -> None:
        self.points = points
        self.labels = labels
        self.images = images
        self.method = method
        self.explained = explained
        self.rows = rows
        self.n_dropped = n_dropped

    def plot(
        self,
        ax: Any = None,
        *,
        max_classes: int = 20,
        thumbnail_size: float = 26.0,
        max_thumbnails: int = 80,
        **scatter_kw: Any,
    ) -> Self:
        """Draw the points.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            None makes a figure.
        max_classes : int, default=20
            Of more classes, the most frequent get a colour, and the others grey.
        thumbnail_size : float, default=26.0
            Longer side of a thumbnail, in points (1/72 inch).
        max_thumbnails : int, default=80
            Only thumbnails that cover no other are shown, and not more than these.
        **scatter_kw : dict
            For matplotlib's `Axes.scatter`, such as ``s=10``.

        Returns
        -------
        self : EmbeddingDisplay
        """
        points, labels, known = self._checked()
        ax = axes_for("EmbeddingDisplay.plot", ax, figsize=(6.6, 5.0))
        with_images = self.images is not None and max_thumbnails > 0
        size = np.clip(8000 / len(points), 6, 32) * (0.6 if with_images else 1.0)
        style = {"s": size, "alpha": 0.75, "linewidths": 0, **scatter_kw}
        self.legend_: Any = None
        self.colorbar_: Any = None
        edges: Any = [muted(ax)] * len(points)
        if labels is None:
            self.scatter_ = [ax.scatter(*points.T, **{"color": class_style(0)[0], **style})]
        else:
            self.scatter_ = []
            if not known.all():
                self._scatter_unlabelled(ax, points[~known], style)
            if known.any() and type_of_target(labels[known]).startswith("continuous"):
                colours = self._scatter_numbers(ax, points[known], labels[known], style)
            else:
                colours = self._scatter_classes(
                    ax, points[known], labels[known], max_classes, style
                )
            for point, colour in zip(np.flatnonzero(known), colours, strict=True):
                edges[point] = colour
        label_plane(ax, self.method, self.explained)
        if self.n_dropped:
            rows = "row" if self.n_dropped == 1 else "rows"
            text = f"{self.n_dropped} unreadable {rows} left out"
            ax.set_title(text, fontsize="small", color=ink(ax), loc="left")
        self.thumbnails_: list[Any] = []
        self.thumbnail_points_ = np.empty(0, dtype=np.intp)
        if with_images:
            self.thumbnails_, self.thumbnail_points_ = add_thumbnails(
                ax, points, self.images, edges, thumbnail_size, max_thumbnails
            )
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        transformer: Any,
        X: Any,
        y: Any = None,
        *,
        method: Any = "pca",
        images: Any = None,
        random_state: Any = None,
        ax: Any = None,
        **plot_kw: Any,
    ) -> Self:
        """Compute features, put them on a plane, and draw.

        Parameters
        ----------
        transformer : transformer or Pipeline
            If it is fitted it is used as it is, else a clone is fitted. The predictor at the end of
            a pipeline is left out.
        X : as the transformer takes it
            Rows that cannot be read (with ``on_error="nan"``) have no point.
        y : array-like of shape (n,) or None, default=None
            Classes or numbers, for colours.
        method : {"pca", "tsne", "umap"} or estimator, default="pca"
            "umap" needs ``pip install umap-learn``. An estimator with `fit_transform` that gives
            two columns, such as ``TSNE(perplexity=10)``, is cloned.
        images : sequence of n images or None, default=None
            Shown as thumbnails; often X itself.
        random_state : int, RandomState instance or None, default=None
            Of t-SNE and UMAP.
        ax : matplotlib Axes or None, default=None
        **plot_kw : dict
            As for `plot`.

        Returns
        -------
        EmbeddingDisplay

        Raises
        ------
        ValueError
            `method` is unknown, or fewer than 3 rows could be read.
        ImportError
            matplotlib, or umap-learn for ``method="umap"``, is not installed.
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        features = features_of(transformer, X, y)
        return cls.from_features(
            features,
            y,
            method=method,
            images=images,
            random_state=random_state,
            ax=ax,
            **plot_kw,
        )

    @classmethod
    def from_features(
        cls,
        features: Any,
        labels: Any = None,
        *,
        method: Any = "pca",
        images: Any = None,
        random_state: Any = None,
        ax: Any = None,
        **plot_kw: Any,
    ) -> Self:
        """Put features on a plane, and draw.

        Parameters
        ----------
        features : array-like of shape (n, n_features)
            Rows with NaN have no point.
        labels : array-like of shape (n,) or None, default=None
        method : {"pca", "tsne", "umap"} or estimator, default="pca"
        images : sequence of n images or None, default=None
        random_state : int, RandomState instance or None, default=None
        ax : matplotlib Axes or None, default=None
        **plot_kw : dict
            All as for `from_estimator`.

        Returns
        -------
        EmbeddingDisplay
        """
        import_pyplot(f"{cls.__name__}.from_features")
        table, rows = readable_rows(features)
        n_rows = len(np.asarray(features))
        for name, given in (("labels", labels), ("images", images)):
            if given is not None and _length(given) != n_rows:
                raise ValueError(
                    f"features has {n_rows} rows and {name} has {_length(given)}; they must be "
                    "equal"
                )
        if labels is not None:
            labels = labels.to_numpy() if hasattr(labels, "to_numpy") else np.asarray(labels)
            known_labels(labels.ravel())  # for errors that count rows as X does
            labels = labels[rows]
        plane = project(table, method, random_state)
        return cls(
            plane.points,
            labels,
            images=None if images is None else _Rows(images, rows),
            method=plane.method,
            explained=plane.explained,
            rows=rows,
            n_dropped=n_rows - len(rows),
        ).plot(ax, **plot_kw)

    def _checked(self) -> tuple[np.ndarray, Any, np.ndarray]:
        """Points, labels, and which of these are known."""
        points = np.asarray(self.points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"points must be of shape (n, 2), got {points.shape}")
        labels = None if self.labels is None else np.asarray(self.labels).ravel()
        for name, given in (("labels", labels), ("images", self.images)):
            if given is not None and len(given) != len(points):
                raise ValueError(
                    f"there are {len(points)} points and {len(given)} {name}; they must be equal"
                )
        if labels is None:
            return points, None, np.zeros(len(points), dtype=bool)
        return points, *known_labels(labels)

    def _scatter_unlabelled(self, ax: Any, points: np.ndarray, style: dict[str, Any]) -> None:
        grey = {"color": [muted(ax)], "marker": "+", **style, "linewidths": 0.6}
        self.scatter_.append(ax.scatter(*points.T, **{**grey, "label": "no label"}))

    def _scatter_numbers(
        self, ax: Any, points: np.ndarray, labels: np.ndarray, style: dict[str, Any]
    ) -> Any:
        """Draw each point in the colour of its number, and give the colour of each."""
        if self.scatter_:  # beside the axes is the colour bar
            self.legend_ = ax.legend(handles=[*self.scatter_], loc="best", fontsize="small")
            enlarge_legend_marks(self.legend_)
        numbered = ax.scatter(*points.T, **{"c": labels, "cmap": SEQUENTIAL, **style})
        self.scatter_.append(numbered)
        self.colorbar_ = ax.figure.colorbar(numbered, ax=ax)
        self.colorbar_.solids.set_alpha(1)
        return numbered.to_rgba(labels, alpha=1.0)

    def _scatter_classes(
        self,
        ax: Any,
        points: np.ndarray,
        labels: np.ndarray,
        max_classes: int,
        style: dict[str, Any],
    ) -> list[Any]:
        """Draw each class in its colour, and give the colour of each point."""
        classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
        shown = np.arange(len(classes))
        if len(classes) > max_classes:  # one place is for the others
            shown = np.sort(np.argsort(-counts, kind="stable")[: max(max_classes - 1, 0)])
        colours: list[Any] = [muted(ax)] * len(points)
        others = ~np.isin(codes, shown)
        grey_entries = [*self.scatter_]  # at the end of the legend
        if others.any():
            name = f"{len(classes) - len(shown)} other classes"
            grey = {"color": [muted(ax)], "marker": "x", **style, "linewidths": 0.6, "label": name}
            self.scatter_.append(ax.scatter(*points[others].T, **grey))
            grey_entries.insert(0, self.scatter_[-1])
        names = [_entry(name) for name in short_names([str(classes[code]) for code in shown])]
        for number, code in enumerate(shown):
            colour, marker = class_style(number)
            members = codes == code
            look = {"color": [colour], "marker": marker, "label": names[number], **style}
            self.scatter_.append(ax.scatter(*points[members].T, **look))
            for member in np.flatnonzero(members):
                colours[member] = colour
        self._legend(ax, [*self.scatter_[len(grey_entries) :], *grey_entries])
        return colours

    def _legend(self, ax: Any, entries: list[Any]) -> None:
        columns = 1 if len(entries) <= 20 else 2
        self.legend_ = legend_beside(ax, handles=entries, ncols=columns, fontsize="small")
        enlarge_legend_marks(self.legend_)
        as_written(self.legend_.get_texts())


def _entry(name: str) -> str:
    """The name of a class; matplotlib leaves names that begin with an underscore out."""
    return f" {name}" if name.startswith("_") else name


class _Rows(Sequence[Any]):
    """Some items of a sequence, fetched when asked for."""

    def __init__(self, items: Any, rows: np.ndarray) -> None:
        self.items = items.to_list() if hasattr(items, "to_list") else items
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.items[int(self.rows[index])]


def _length(items: Any) -> int:
    return items.shape[0] if hasattr(items, "shape") else len(items)
