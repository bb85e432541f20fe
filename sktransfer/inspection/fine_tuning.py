"""How a fine-tuning went, epoch by epoch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sktransfer.inspection._plotting import COLOURS, axes_grid, import_pyplot, muted

_LOSSES = {"train_loss": "training", "valid_loss": "validation"}
_ACCURACIES = {"train_acc": "training", "valid_acc": "validation"}
_RATES = {"event_lr": "learning rate", "lr": "learning rate"}
_PANELS = {"loss": _LOSSES, "accuracy": _ACCURACIES, "learning rate": _RATES}
_STYLES = {"training": (COLOURS[0], "o", "-"), "validation": (COLOURS[6], "^", "--")}

_MANY = 20.0
"""Times that the largest loss is the smallest, above which the axis is logarithmic."""


class FineTuningDisplay:
    """Losses over the epochs of a fine-tuning; accuracies and learning rates if they were noted.

    `from_estimator` makes the display.

    Parameters
    ----------
    history : sequence of dict
        One for each epoch, as in the attribute `history_` of what was tuned or in skorch's
        ``net.history``: "train_loss", and where they are "valid_loss", "train_acc", "valid_acc",
        "event_lr" (or "lr") and "dur", its seconds.

    Attributes
    ----------
    ax_ : matplotlib Axes
        With the losses.
    axes_ : ndarray of matplotlib Axes
        That and those of accuracies and learning rates, from top to bottom.
    figure_ : matplotlib Figure
    lines_ : dict of str to matplotlib Line2D
        By their names in the history.
    best_epoch_ : int or None
        Of the lowest validation loss, counted from 1. Where a part of the rows was held out, the
        weights of about that epoch are kept.
    best_ : matplotlib Line2D or None
        Its mark.

    See Also
    --------
    sktransfer.FineTune : Its `early_stopping` holds rows out.
    sktransfer.strategy_table : What a search over strategies found.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTune, FineTunedClassifier, PretrainedCNNFeatures
    >>> from sktransfer.inspection import FineTuningDisplay
    >>> digits = load_digits()
    >>> classifier = FineTunedClassifier(
    ...     PretrainedCNNFeatures(layer="blocks.2", image_size=32),
    ...     strategy=FineTune(1, epochs=3, early_stopping=True),
    ...     random_state=0,
    ... ).fit(digits.images[:200] / 16, digits.target[:200])
    >>> display = FineTuningDisplay.from_estimator(classifier)
    >>> sorted(display.lines_)
    ['train_loss', 'valid_loss']
    """

    def __init__(self, history: Sequence[Mapping[str, Any]]) -> None:
        self.history = history

    def plot(self, ax: Any = None, *, yscale: str = "auto", **line_kw: Any) -> Self:
        """Draw a curve for each figure that was noted.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Its place is divided if there is more than losses. None makes a figure.
        yscale : {"auto", "linear", "log"}, default="auto"
            Of the losses. "auto" is "log" if they fall to less than a twentieth.
        **line_kw : dict
            For matplotlib's `Axes.plot`, such as ``linewidth=2``.

        Returns
        -------
        self : FineTuningDisplay
        """
        if yscale not in ("auto", "linear", "log"):
            raise ValueError(f"yscale must be 'auto', 'linear' or 'log', got {yscale!r}")
        columns = self._columns()
        panels = {
            title: {key: name for key, name in curves.items() if key in columns}
            for title, curves in _PANELS.items()
        }
        panels = {title: curves for title, curves in panels.items() if curves}
        shares = [1.0 if title == "learning rate" else 2.0 for title in panels]
        self.axes_ = axes_grid(
            "FineTuningDisplay.plot",
            len(panels),
            1,
            ax,
            figsize=(6.4, 2.2 + 0.9 * sum(shares)),
            height_ratios=shares,
        )[:, 0]
        epochs = np.arange(1, len(self.history) + 1)
        self.lines_: dict[str, Any] = {}
        for panel, (title, curves) in zip(self.axes_, panels.items(), strict=True):
            for key, name in curves.items():
                colour, marker, dashes = _STYLES.get(name, (COLOURS[4], "s", "-"))
                style: dict[str, Any] = {
                    "color": colour,
                    "marker": marker,
                    "linestyle": dashes,
                    "label": name,
                }
                style["markersize"] = 5 if len(epochs) <= 40 else 0
                (self.lines_[key],) = panel.plot(epochs, columns[key], **{**style, **line_kw})
            panel.set_ylabel(title)
            if title == "learning rate":
                panel.set_ylim(bottom=0)
            panel.grid(alpha=0.3)
            panel.set_axisbelow(True)
            _count_epochs(panel, len(epochs))
        for panel in self.axes_[:-1]:
            panel.tick_params(labelbottom=False)
        self.axes_[-1].set_xlabel(self._epoch_label(columns))
        losses = np.concatenate([columns[key] for key in panels["loss"]])
        losses = losses[np.isfinite(losses)]
        wide = losses.size and losses.min() > 0 and losses.max() > _MANY * losses.min()
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        self.ax_.set_yscale(("log" if wide else "linear") if yscale == "auto" else yscale)
        self._mark_best(columns)
        self.ax_.legend(loc="best", fontsize="small")
        return self

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: Any = None, yscale: str = "auto", **line_kw: Any
    ) -> Self:
        """Draw how a fitted estimator was tuned.

        Parameters
        ----------
        estimator : fitted FineTunedClassifier, FineTunedRegressor or feature transformer
            Or a pipeline or search that holds one.
        ax : matplotlib Axes or None, default=None
        yscale : {"auto", "linear", "log"}, default="auto"
        **line_kw : dict
            All as for `plot`.

        Returns
        -------
        FineTuningDisplay

        Raises
        ------
        TypeError
            Nothing in the estimator can be fine-tuned.
        ValueError
            It was not: its strategy is "frozen".
        ImportError
            matplotlib is not installed.
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        histories = [*_histories(estimator)]
        if not histories:
            raise TypeError(
                "FineTuningDisplay needs a fitted FineTunedClassifier, FineTunedRegressor or "
                f"feature transformer, or a pipeline or search of such; got {estimator!r}"
            )
        tuned = [history for history in histories if history]
        if not tuned:
            raise ValueError(
                "there are no epochs to show: the network is frozen; set strategy=FineTune(...)"
            )
        return cls(tuned[0]).plot(ax, yscale=yscale, **line_kw)

    def _columns(self) -> dict[str, np.ndarray]:
        """Numbers of all epochs, by name; NaN where an epoch lacks one."""
        epochs = [dict(epoch) for epoch in self.history]
        if not any("train_loss" in epoch or "valid_loss" in epoch for epoch in epochs):
            raise ValueError(
                "history must hold a dict with 'train_loss' or 'valid_loss' for each epoch, got "
                f"{self.history!r}"
            )
        names = [*_LOSSES, *_ACCURACIES, *_RATES, "dur"]
        return {
            name: np.array([epoch.get(name, np.nan) for epoch in epochs], dtype=np.float64)
            for name in names
            if any(name in epoch for epoch in epochs)
        }

    def _epoch_label(self, columns: Mapping[str, np.ndarray]) -> str:
        seconds = columns.get("dur")
        return "epoch" if seconds is None else f"epoch ({np.nanmean(seconds):.2g} s each)"

    def _mark_best(self, columns: Mapping[str, np.ndarray]) -> None:
        self.best_epoch_: int | None = None
        self.best_: Any = None
        losses = columns.get("valid_loss")
        if losses is None or np.isnan(losses).all():
            return
        self.best_epoch_ = int(np.nanargmin(losses)) + 1
        marks = [
            panel.axvline(
                self.best_epoch_, color=muted(panel), linestyle=":", linewidth=1.2, zorder=1
            )
            for panel in self.axes_
        ]
        self.best_ = marks[0]
        self.best_.set_label(f"lowest validation loss: {np.nanmin(losses):.3g}")


def _histories(estimator: Any) -> Iterator[list[dict[str, Any]]]:
    """Of an estimator, or of the parts of one that is made of several."""
    if hasattr(estimator, "history_"):
        yield list(estimator.history_)
        return
    parts = [getattr(estimator, name, None) for name in ("best_estimator_", "estimator_")]
    for name in ("steps", "transformers_", "transformer_list"):
        parts += [part[1] for part in getattr(estimator, name, ())]
    for part in parts:
        if part is not None:
            yield from _histories(part)


def _count_epochs(ax: Any, n_epochs: int) -> None:
    """Whole numbers along the axis."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set_xlim(0.5, n_epochs + 0.5)
