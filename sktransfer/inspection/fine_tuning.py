"""Learning curves of a fine-tuning."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sktransfer._composites import find_all
from sktransfer.inspection._plotting import COLOURS, axes_grid, import_pyplot, secondary_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOSSES = {"train_loss": "training", "valid_loss": "validation"}
_ACCURACIES = {"train_acc": "training", "valid_acc": "validation"}
_RATES = {"event_lr": "learning rate", "lr": "learning rate"}
_PANELS = {"loss": _LOSSES, "accuracy": _ACCURACIES, "learning rate": _RATES}
_STYLES = {"training": (COLOURS[0], "o", "-"), "validation": (COLOURS[6], "^", "--")}

_LOG_SCALE_RATIO = 20.0
"""Ratio of the largest loss to the smallest above which the axis is logarithmic."""


class FineTuningDisplay:
    """Losses over the epochs of a fine-tuning; accuracies and learning rates if recorded.

    Use `from_estimator` to create the display.

    Parameters
    ----------
    history : sequence of dict
        One dict per epoch, as in the attribute `history_` of a tuned estimator or in skorch's
        ``net.history``. It holds "train_loss" or "valid_loss", and optionally "train_acc",
        "valid_acc", "event_lr" (or "lr"), and "dur", the duration in seconds.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the losses.
    axes_ : ndarray of matplotlib Axes
        Axes of the losses, accuracies and learning rates, from top to bottom.
    figure_ : matplotlib Figure
    lines_ : dict of str to matplotlib Line2D
        The curves, by their names in the history.
    best_epoch_ : int or None
        Epoch of the lowest validation loss, counted from 1. Early stopping keeps the weights of
        about that epoch.
    best_ : matplotlib Line2D or None
        The line that marks the best epoch.

    See Also
    --------
    sktransfer.FineTune : Its parameter `early_stopping` holds rows out for validation.
    sktransfer.strategy_table : The results of a search over strategies.

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

    def plot(self, ax: "Axes | None" = None, *, yscale: str = "auto", **line_kw: Any) -> Self:
        """Draw a curve for each quantity in the history.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            It is divided if the history holds more than losses. None makes a figure.
        yscale : {"auto", "linear", "log"}, default="auto"
            Scale of the losses. "auto" means "log" if the largest loss is more than twenty times
            the smallest.
        **line_kw : dict
            Passed to matplotlib's `Axes.plot`, such as ``linewidth=2``.

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
        from matplotlib.ticker import MaxNLocator

        epochs = np.arange(1, len(self.history) + 1)
        self.lines_: dict[str, Any] = {}
        for panel, (title, curves) in zip(self.axes_, panels.items(), strict=True):
            for key, name in curves.items():
                colour, marker, dashes = _STYLES.get(name, (COLOURS[4], "s", "-"))
                style: dict[str, Any] = {
                    "color": colour,
                    "marker": marker,
                    "markersize": 5 if len(epochs) <= 40 else 0,
                    "linestyle": dashes,
                    "label": name,
                }
                (self.lines_[key],) = panel.plot(epochs, columns[key], **{**style, **line_kw})
            panel.set_ylabel(title)
            if title == "learning rate":
                panel.set_ylim(bottom=0)
            panel.grid(alpha=0.3)
            panel.set_axisbelow(True)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            panel.set_xlim(0.5, len(epochs) + 0.5)
        for panel in self.axes_[:-1]:
            panel.tick_params(labelbottom=False)
        seconds = columns.get("dur")
        duration = "" if seconds is None else f" ({np.nanmean(seconds):.2g} s each)"
        self.axes_[-1].set_xlabel(f"epoch{duration}")
        losses = np.concatenate([columns[key] for key in panels["loss"]])
        losses = losses[np.isfinite(losses)]
        wide = losses.size and losses.min() > 0 and losses.max() > _LOG_SCALE_RATIO * losses.min()
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        self.ax_.set_yscale(("log" if wide else "linear") if yscale == "auto" else yscale)
        self._mark_best(columns)
        self.ax_.legend(loc="best", fontsize="small")
        return self

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: "Axes | None" = None, yscale: str = "auto", **line_kw: Any
    ) -> Self:
        """Draw the learning curves of a fitted estimator.

        Parameters
        ----------
        estimator : fitted FineTunedClassifier, FineTunedRegressor or feature transformer
            Or a pipeline or search that holds one.
        ax, yscale, **line_kw
            Passed to `plot`.

        Returns
        -------
        FineTuningDisplay

        Raises
        ------
        TypeError
            Nothing in the estimator can be fine-tuned.
        ValueError
            The network was not fine-tuned: its strategy is "frozen".
        ImportError
            matplotlib is not installed.
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        trained = [*find_all(estimator, lambda each: hasattr(each, "history_"))]
        if not trained:
            raise TypeError(
                "FineTuningDisplay needs a fitted FineTunedClassifier, FineTunedRegressor or "
                f"feature transformer, or a pipeline or search of such; got {estimator!r}"
            )
        histories = [list(each.history_) for each in trained if len(each.history_)]
        if not histories:
            raise ValueError(
                "there are no epochs to show: the network is frozen; set strategy=FineTune(...)"
            )
        return cls(histories[0]).plot(ax, yscale=yscale, **line_kw)

    def _columns(self) -> dict[str, np.ndarray]:
        """The values of all epochs by name, NaN where an epoch lacks one."""
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

    def _mark_best(self, columns: Mapping[str, np.ndarray]) -> None:
        self.best_epoch_: int | None = None
        self.best_: Any = None
        losses = columns.get("valid_loss")
        if losses is None or np.isnan(losses).all():
            return
        self.best_epoch_ = int(np.nanargmin(losses)) + 1
        marks = [
            panel.axvline(
                self.best_epoch_,
                color=secondary_colour(panel),
                linestyle=":",
                linewidth=1.2,
                zorder=1,
            )
            for panel in self.axes_
        ]
        self.best_ = marks[0]
        self.best_.set_label(f"lowest validation loss: {np.nanmin(losses):.3g}")
