"""A ranking of networks by transferability, compared with their accuracies."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.stats import kendalltau

from sktransfer.inspection._plotting import (
    COLOURS,
    axes_for,
    axes_grid,
    import_pyplot,
    secondary_colour,
    size_in_inches,
    text_colour,
)
from sktransfer.model_selection import BackboneRanking, RankedBackbone

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAME_WIDTH, _REASON_WIDTH = 30, 42
"""Letters in a line of a name, and of the reason of a failure."""

_MIN_WIDTH = 6.0
"""Inches: in narrower axes the points are below the bars."""


class TransferabilityDisplay:
    """Transferability scores as bars, the best on top, and accuracies against scores as points.

    Use `from_ranking` to create the display.

    Parameters
    ----------
    ranking : BackboneRanking
        See `sktransfer.model_selection.rank_backbones`.
    accuracies : mapping of str to float, sequence of float or None, default=None
        Accuracies that the networks reached, by their names in the ranking (all or some), or in
        the order of the ranking. Kendall's tau [1]_ compares them with the scores.
    metric : str, default="score"
        Name of the score, such as "LogME".

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the bars.
    scatter_ax_ : matplotlib Axes or None
        Axes of the points.
    figure_ : matplotlib Figure
    bars_ : matplotlib BarContainer
        One bar for each network, of length 0 if the network failed.
    reasons_ : list of matplotlib Text
        Reasons of the failures.
    scatter_ : matplotlib PathCollection or None
    kendall_tau_ : float or None
        1 if the accuracies are in the order of the scores, -1 if they are in the opposite order,
        near 0 if the two are unrelated, and NaN if all accuracies or scores are equal.

    See Also
    --------
    LayerProbeDisplay : Layers of one network, compared by a trained head.

    References
    ----------
    .. [1] M. G. Kendall, "A new measure of rank correlation", Biometrika 30, 1938.

    Examples
    --------
    >>> from sktransfer.inspection import TransferabilityDisplay
    >>> from sktransfer.model_selection import BackboneRanking, RankedBackbone
    >>> ranking = BackboneRanking(
    ...     [
    ...         RankedBackbone("resnet50", 0.61, 4.0, 2048, 100),
    ...         RankedBackbone("resnet18", 0.52, 2.0, 512, 100),
    ...         RankedBackbone("vgg16", 0.40, 9.0, 4096, 100),
    ...     ]
    ... )
    >>> display = TransferabilityDisplay.from_ranking(
    ...     ranking, accuracies={"resnet50": 0.95, "resnet18": 0.93, "vgg16": 0.94}
    ... )
    >>> round(display.kendall_tau_, 3)
    0.333
    """

    def __init__(
        self,
        ranking: BackboneRanking,
        *,
        accuracies: Mapping[str, float] | Sequence[float] | None = None,
        metric: str = "score",
    ) -> None:
        self.ranking = ranking
        self.accuracies = accuracies
        self.metric = metric

    def plot(self, ax: "Axes | None" = None, **bar_kw: Any) -> Self:
        """Draw the bars, and the points if accuracies are known.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            It is divided between bars and points if accuracies are known. None makes a figure.
        **bar_kw : dict
            Passed to matplotlib's `Axes.barh`, such as ``height=0.5``.

        Returns
        -------
        self : TransferabilityDisplay
        """
        ranking = self._checked()
        accuracies = self._accuracies(ranking)
        name, height = "TransferabilityDisplay.plot", 1.4 + 0.42 * len(ranking)
        self.scatter_ax_: Any = None
        self.scatter_: Any = None
        self.kendall_tau_: float | None = None
        if accuracies is None:
            left = axes_for(name, ax, figsize=(6.8, height))
        else:
            if ax is not None and size_in_inches(ax)[0] < _MIN_WIDTH:
                left, right = axes_grid(name, 2, 1, ax)[:, 0]
            else:
                ((left, right),) = axes_grid(
                    name, 1, 2, ax, figsize=(10.0, max(height, 4.0)), width_ratios=(1.25, 1)
                )
            self._plot_points(right, ranking, accuracies)
        self._plot_bars(left, ranking, accuracies is not None, bar_kw)
        self.ax_, self.figure_ = left, left.figure
        return self

    @classmethod
    def from_ranking(
        cls,
        ranking: BackboneRanking,
        *,
        accuracies: Mapping[str, float] | Sequence[float] | None = None,
        metric: str = "score",
        ax: "Axes | None" = None,
        **bar_kw: Any,
    ) -> Self:
        """Draw a ranking.

        Parameters
        ----------
        ranking, accuracies, metric
            As for the class.
        ax, **bar_kw
            Passed to `plot`.

        Returns
        -------
        TransferabilityDisplay

        Raises
        ------
        ValueError
            The ranking is empty, or `accuracies` does not fit it.
        ImportError
            matplotlib is not installed.
        """
        import_pyplot(f"{cls.__name__}.from_ranking")
        return cls(ranking, accuracies=accuracies, metric=metric).plot(ax, **bar_kw)

    def _checked(self) -> list[RankedBackbone]:
        ranking = list(self.ranking)
        if not ranking or not all(isinstance(row, RankedBackbone) for row in ranking):
            raise ValueError(
                "ranking must be what rank_backbones returns, with at least one backbone; got "
                f"{self.ranking!r}"
            )
        return ranking

    def _accuracies(self, ranking: list[RankedBackbone]) -> np.ndarray | None:
        """An accuracy for each row of the ranking, NaN where it is unknown."""
        given = self.accuracies
        if given is None:
            return None
        names = [row.backbone for row in ranking]
        if isinstance(given, Mapping):
            unknown = [name for name in given if name not in names]
            if unknown:
                raise ValueError(
                    f"accuracies names {unknown}, which the ranking does not have; its names are "
                    f"{names}"
                )
            given = [given.get(name, np.nan) for name in names]
        accuracies = np.asarray(given, dtype=np.float64)
        if accuracies.shape != (len(names),):
            raise ValueError(
                f"accuracies must hold {len(names)} numbers, one for each backbone of the ranking, "
                f"got an array of shape {accuracies.shape}"
            )
        known = np.isfinite(accuracies) & np.isfinite([row.score for row in ranking])
        if known.sum() < 2:
            raise ValueError(
                "accuracies must be known of at least 2 backbones that have a score, got "
                f"{known.sum()}"
            )
        return accuracies

    def _plot_bars(
        self, ax: "Axes", ranking: list[RankedBackbone], numbered: bool, bar_kw: dict[str, Any]
    ) -> None:
        positions = np.arange(len(ranking))
        scores = np.array([row.score for row in ranking], dtype=np.float64)
        failed = ~np.isfinite(scores)
        lengths = np.where(failed, 0.0, scores)
        self.bars_ = ax.barh(positions, lengths, **{"color": COLOURS[0], **bar_kw})
        texts = ["" if bad else f"{score:.3f}" for score, bad in zip(scores, failed, strict=True)]
        ax.bar_label(self.bars_, texts, padding=4, fontsize="small")
        ax.axvline(0, color=secondary_colour(ax), linewidth=0.8)
        self.reasons_ = [
            ax.annotate(
                _wrapped(f"failed: {ranking[row].error}", _REASON_WIDTH),
                (0, row),
                (5, 0),
                textcoords="offset points",
                va="center",
                color=secondary_colour(ax),
                fontsize="small",
                style="italic",
            )
            for row in np.flatnonzero(failed)
        ]
        for reason in self.reasons_:
            reason.set_in_layout(False)
        names = [_wrapped(row.backbone, _NAME_WIDTH) for row in ranking]
        if numbered:
            names = [f"{name}  ({number})" for number, name in enumerate(names, start=1)]
        ax.set_yticks(positions, names)
        labels: list[Any] = ax.get_yticklabels()
        for label, bad in zip(labels, failed, strict=True):
            label.set_parse_math(False)
            if bad:
                label.set_color(secondary_colour(ax))
        ax.set_ylim(len(ranking) - 0.4, -0.6)  # the best on top
        ax.margins(x=0.22 if lengths.min() < 0 else 0.14)
        ax.set_xlabel(self.metric)
        ax.spines[["top", "right"]].set_visible(False)

    def _plot_points(
        self, ax: "Axes", ranking: list[RankedBackbone], accuracies: np.ndarray
    ) -> None:
        scores = np.array([row.score for row in ranking], dtype=np.float64)
        known = np.flatnonzero(np.isfinite(accuracies) & np.isfinite(scores))
        self.kendall_tau_ = float(kendalltau(scores[known], accuracies[known]).statistic)
        self.scatter_ax_ = ax
        self.scatter_ = ax.scatter(
            scores[known], accuracies[known], s=190, color=COLOURS[0], alpha=0.9, linewidths=0
        )
        for number in known:
            ax.annotate(
                str(number + 1),
                (scores[number], accuracies[number]),
                ha="center",
                va="center_baseline",
                color="white",
                weight="bold",
                fontsize="small",
            )
        ax.margins(0.12)
        ax.set_xlabel(self.metric)
        ax.set_ylabel("accuracy")
        ax.set_title(
            f"Kendall's \N{GREEK SMALL LETTER TAU} = {self.kendall_tau_:.2f}",
            fontsize="medium",
            color=text_colour(ax),
        )
        ax.grid(alpha=0.3)
        ax.set_axisbelow(True)


def _wrapped(text: str, width: int) -> str:
    """Text on at most two lines, which may also break after an opening parenthesis."""
    spaced = " ".join(text.replace("(", "( ").split())
    lines = [line.replace("( ", "(") for line in textwrap.wrap(spaced, width)] or [""]
    return "\n".join(lines[:2]) + (" ..." if len(lines) > 2 else "")
