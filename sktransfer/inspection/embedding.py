"""Features projected onto a plane."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.multiclass import type_of_target

from sktransfer._validation import as_array
from sktransfer.inspection._features import (
    RandomState,
    checked_points,
    features_of,
    project,
    readable_rows,
)
from sktransfer.inspection._labels import known_labels
from sktransfer.inspection._plotting import (
    SEQUENTIAL,
    axes_for,
    class_style,
    enlarge_legend_markers,
    import_pyplot,
    label_axes,
    legend_beside,
    secondary_colour,
    short_names,
    show_literally,
    text_colour,
)
from sktransfer.inspection._subset import Subset
from sktransfer.inspection._thumbnails import add_thumbnails

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class EmbeddingDisplay:
    """Features projected onto a plane by PCA, t-SNE [1]_ or UMAP [2]_.

    The features are standardised first, and t-SNE and UMAP get their first 50 principal
    components. Use `from_estimator` or `from_features` to create the display.

    Parameters
    ----------
    points : array-like of shape (n, 2)
    labels : array-like of shape (n,) or None, default=None
        Classes, shown by colours and a legend, or continuous numbers, shown by a colour bar.
        Points whose label is None or NaN are grey crosses, "no label". The legend shortens names
        of classes to 24 letters.
    images : array or sequence of n images, or None, default=None
        Images to show as thumbnails: paths, PIL images, or arrays of shape (height, width) or
        (height, width, channels).
    method : str, default="pca"
        Name of the projection, for the labels of the axes.
    explained : array-like of shape (2,) or None, default=None
        Share of the variance along each axis.
    rows : array-like of shape (n,) or None, default=None
        Row of X that each point represents; None counts from 0.
    n_dropped : int, default=0
        Number of rows of X that could not be read and have no point.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    scatter_ : list of matplotlib PathCollection
        One collection for each class, or a single one; points without a label are in a
        collection of their own, the first.
    legend_ : matplotlib Legend or None
    colorbar_ : matplotlib Colorbar or None
    thumbnails_ : list of matplotlib AnnotationBbox
    thumbnail_points_ : ndarray of int
        Number of the point that each thumbnail belongs to.

    See Also
    --------
    ShiftDisplay : Two domains projected onto a plane.

    Notes
    -----
    t-SNE and UMAP preserve neighbourhoods. Distances between groups, and the sizes of groups, mean
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
        points: ArrayLike,
        labels: ArrayLike | None = None,
        *,
        images: Any = None,
        method: str = "pca",
        explained: Sequence[float] | np.ndarray | None = None,
        rows: ArrayLike | None = None,
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
        ax: "Axes | None" = None,
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
            If there are more classes, the most frequent ones get colours and the others are grey.
        thumbnail_size : float, default=26.0
            Longer side of a thumbnail, in points (1/72 inch).
        max_thumbnails : int, default=80
            Number of thumbnails to show, at most; they do not overlap.
        **scatter_kw : dict
            Passed to matplotlib's `Axes.scatter`, such as ``s=10``.

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
        edge_colours: list[Any] = [secondary_colour(ax)] * len(points)
        if labels is None:
            self.scatter_ = [ax.scatter(*points.T, **{"color": class_style(0)[0], **style})]
        else:
            self.scatter_ = []
            if not known.all():
                self._scatter_grey(ax, points[~known], "+", "no label", style)
            if known.any() and type_of_target(labels[known]).startswith("continuous"):
                colours = self._scatter_numbers(ax, points[known], labels[known], style)
            else:
                colours = self._scatter_classes(
                    ax, points[known], labels[known], max_classes, style
                )
            for point, colour in zip(np.flatnonzero(known), colours, strict=True):
                edge_colours[point] = colour
        label_axes(ax, self.method, self.explained)
        if self.n_dropped:
            rows = "row" if self.n_dropped == 1 else "rows"
            text = f"{self.n_dropped} unreadable {rows} left out"
            ax.set_title(text, fontsize="small", color=text_colour(ax), loc="left")
        self.thumbnails_: list[Any] = []
        self.thumbnail_points_ = np.empty(0, dtype=np.intp)
        if with_images:
            self.thumbnails_, self.thumbnail_points_ = add_thumbnails(
                ax, points, self.images, edge_colours, thumbnail_size, max_thumbnails
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
        random_state: RandomState = None,
        ax: "Axes | None" = None,
        **plot_kw: Any,
    ) -> Self:
        """Compute features, project them onto a plane, and draw them.

        Parameters
        ----------
        transformer : transformer or Pipeline
            A fitted transformer is used as it is; if it is not fitted, a clone is. If a pipeline
            ends with a predictor, the steps before it are used.
        X : any input of the transformer
            Rows that cannot be read (with ``on_error="nan"``) have no point.
        y : array-like of shape (n,) or None, default=None
            Classes or numbers that the points are coloured by.
        method : {"pca", "tsne", "umap"} or estimator, default="pca"
            "umap" needs ``pip install umap-learn``. An estimator must have a `fit_transform` that
            returns two columns, as that of ``TSNE(perplexity=10)``, and is cloned.
        images : sequence of n images or None, default=None
            Images to show as thumbnails; often X itself.
        random_state : int, RandomState instance or None, default=None
            Seed of t-SNE and UMAP.
        ax, **plot_kw
            Passed to `plot`.

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
        features: ArrayLike,
        labels: Any = None,
        *,
        method: Any = "pca",
        images: Any = None,
        random_state: RandomState = None,
        ax: "Axes | None" = None,
        **plot_kw: Any,
    ) -> Self:
        """Project features onto a plane, and draw them.

        Parameters
        ----------
        features : array-like of shape (n, n_features)
            Rows with NaN have no point.
        labels : array-like of shape (n,) or None, default=None
            Classes or numbers that the points are coloured by.
        method, images, random_state, ax, **plot_kw
            As for `from_estimator`.

        Returns
        -------
        EmbeddingDisplay
        """
        import_pyplot(f"{cls.__name__}.from_features")
        table, rows = readable_rows(features, labels=labels, images=images)
        if labels is not None:
            labels = as_array(labels)
            known_labels(labels.ravel())  # here, so that its errors count the rows of X
            labels = labels[rows]
        if images is not None:
            images = Subset(images.to_list() if hasattr(images, "to_list") else images, rows)
        return cls(
            labels=labels,
            images=images,
            rows=rows,
            n_dropped=len(np.asarray(features)) - len(rows),
            **project(table, method, random_state),
        ).plot(ax, **plot_kw)

    def _checked(self) -> tuple[np.ndarray, Any, np.ndarray]:
        """The points, the labels, and a mask of the known labels."""
        points = checked_points(self.points)
        labels = None if self.labels is None else np.asarray(self.labels).ravel()
        for name, given in (("labels", labels), ("images", self.images)):
            if given is not None and len(given) != len(points):
                raise ValueError(
                    f"there are {len(points)} points and {len(given)} {name}; they must be equal"
                )
        if labels is None:
            return points, None, np.zeros(len(points), dtype=bool)
        return points, *known_labels(labels)

    def _scatter_grey(
        self, ax: "Axes", points: np.ndarray, marker: str, label: str, style: dict[str, Any]
    ) -> None:
        grey = {"color": [secondary_colour(ax)], "marker": marker, **style, "linewidths": 0.6}
        self.scatter_.append(ax.scatter(*points.T, **{**grey, "label": label}))

    def _scatter_numbers(
        self, ax: "Axes", points: np.ndarray, labels: np.ndarray, style: dict[str, Any]
    ) -> Any:
        """Draw each point in the colour of its number, and return the colours."""
        if self.scatter_:  # the space beside the axes is taken by the colour bar
            self.legend_ = ax.legend(handles=[*self.scatter_], loc="best", fontsize="small")
            enlarge_legend_markers(self.legend_)
        numbered = ax.scatter(*points.T, **{"c": labels, "cmap": SEQUENTIAL, **style})
        self.scatter_.append(numbered)
        self.colorbar_ = ax.figure.colorbar(numbered, ax=ax)
        self.colorbar_.solids.set_alpha(1)
        return numbered.to_rgba(labels, alpha=1.0)

    def _scatter_classes(
        self,
        ax: "Axes",
        points: np.ndarray,
        labels: np.ndarray,
        max_classes: int,
        style: dict[str, Any],
    ) -> list[Any]:
        """Draw each class in its colour, and return the colours of the points."""
        classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
        shown = np.arange(len(classes))
        if len(classes) > max_classes:  # the other classes share one entry of the legend
            shown = np.sort(np.argsort(-counts, kind="stable")[: max(max_classes - 1, 0)])
        colours: list[Any] = [secondary_colour(ax)] * len(points)
        others = ~np.isin(codes, shown)
        grey_entries = [*self.scatter_]  # they come last in the legend
        if others.any():
            name = f"{len(classes) - len(shown)} other classes"
            self._scatter_grey(ax, points[others], "x", name, style)
            grey_entries.insert(0, self.scatter_[-1])
        names = [_entry(name) for name in short_names([str(classes[code]) for code in shown])]
        for number, code in enumerate(shown):
            colour, marker = class_style(number)
            members = codes == code
            class_kw = {"color": [colour], "marker": marker, "label": names[number], **style}
            self.scatter_.append(ax.scatter(*points[members].T, **class_kw))
            for member in np.flatnonzero(members):
                colours[member] = colour
        entries = [*self.scatter_[len(grey_entries) :], *grey_entries]
        columns = 1 if len(entries) <= 20 else 2
        self.legend_ = legend_beside(ax, handles=entries, ncols=columns, fontsize="small")
        enlarge_legend_markers(self.legend_)
        show_literally(self.legend_.get_texts())
        return colours


def _entry(name: str) -> str:
    """A name for the legend; matplotlib would leave out one that begins with an underscore."""
    return f" {name}" if name.startswith("_") else name
