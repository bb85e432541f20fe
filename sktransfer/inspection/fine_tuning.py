"""Learning curves of a fine-tuning."""

import numbers
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sktransfer._composites import find_all
from sktransfer.finetuning.held_out import Verdict
from sktransfer.inspection._plotting import COLOURS, axes_grid, import_pyplot, secondary_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOSSES = {"train_loss": "training", "valid_loss": "validation"}
_RATES = {"event_lr": "learning rate", "lr": "learning rate"}
_PREFIXES = {"train_": "training", "valid_": "validation"}
_METRICS = {"acc": "accuracy"}
"""Metrics that the history has under a short name."""

_NO_METRICS = ("epoch", "dur", *_RATES, "train_batch_count", "valid_batch_count")
_KINDS = ("history", "rate")
_STYLES = {"training": (COLOURS[0], "o", "-"), "validation": (COLOURS[6], "^", "--")}

_LOG_SCALE_RATIO = 20.0
"""Ratio of the largest loss to the smallest above which the axis is logarithmic."""


class FineTuningDisplay:
    """Losses over the epochs of a fine-tuning; other scores and learning rates if recorded.

    With ``kind="rate"`` it shows the range test of ``learning_rate="find"`` instead.

    Use `from_estimator` to create the display.

    Parameters
    ----------
    history : sequence of dict
        One dict per epoch, as in the attribute `history_` of a tuned estimator or in skorch's
        ``net.history``. It holds "train_loss" or "valid_loss", and optionally other numbers, such
        as "valid_accuracy", "event_lr" (or "lr"), and "dur", the duration in seconds.
    rate_curve : dict of str to array-like, or None, default=None
        "rate", "loss" and "smoothed_loss" of the steps of a range test, as in `rate_curve_` of a
        tuned estimator.
    learning_rate : float or None, default=None
        The rate that was chosen.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the losses.
    axes_ : ndarray of matplotlib Axes
        Axes of the losses, of each other score, and of the learning rates, from top to bottom.
    figure_ : matplotlib Figure
    lines_ : dict of str to matplotlib Line2D
        The curves, by their names in the history or the range test.
    best_epoch_ : int or None
        Epoch of the lowest validation loss, counted from 1. Early stopping keeps the weights of
        about that epoch.
    best_ : matplotlib Line2D or None
        The line that marks the best epoch.
    rate_line_ : matplotlib Line2D or None
        The line that marks the chosen rate of a range test.

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

    def __init__(
        self,
        history: Sequence[Mapping[str, Any]],
        rate_curve: Mapping[str, Any] | None = None,
        learning_rate: float | None = None,
    ) -> None:
        self.history = history
        self.rate_curve = rate_curve
        self.learning_rate = learning_rate

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        kind: str = "history",
        yscale: str = "auto",
        **line_kw: Any,
    ) -> Self:
        """Draw a curve for each quantity in the history, or the range test.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            It is divided if the history holds more than losses. None makes a figure.
        kind : {"history", "rate"}, default="history"
            "rate" draws the losses of the range test over its learning rates.
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
        if kind not in _KINDS:
            raise ValueError(f"kind must be one of {_KINDS}, got {kind!r}")
        self.best_epoch_: int | None = None
        self.best_: Any = None
        self.rate_line_: Any = None
        if kind == "rate":
            return self._plot_range_test(ax, yscale, line_kw)
        columns = self._columns()
        panels = _panels(columns)
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
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        losses = np.concatenate([columns[key] for key in panels["loss"]])
        self.ax_.set_yscale(_scale_of(losses) if yscale == "auto" else yscale)
        self._mark_best(columns)
        self.ax_.legend(loc="best", fontsize="small")
        return self

    def _plot_range_test(self, ax: "Axes | None", yscale: str, line_kw: dict[str, Any]) -> Self:
        if self.rate_curve is None:
            raise ValueError(
                "kind='rate' shows the range test of FineTune(learning_rate='find'), and there was "
                "none; set it, or kind='history'"
            )
        self.axes_ = axes_grid("FineTuningDisplay.plot", 1, 1, ax, figsize=(6.4, 4.0))[:, 0]
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        curve = {name: np.asarray(values, float) for name, values in self.rate_curve.items()}
        styles: dict[str, dict[str, Any]] = {
            "loss": {"color": COLOURS[0], "alpha": 0.35, "label": "loss of each step"},
            "smoothed_loss": {"color": COLOURS[6], "label": "smoothed"},
        }
        self.lines_ = {
            name: self.ax_.plot(curve["rate"], curve[name], **{**style, **line_kw})[0]
            for name, style in styles.items()
        }
        self.ax_.set_xscale("log")
        self.ax_.set_yscale(_scale_of(curve["loss"]) if yscale == "auto" else yscale)
        self.ax_.set_xlabel("learning rate")
        self.ax_.set_ylabel("loss")
        self.ax_.grid(alpha=0.3)
        self.ax_.set_axisbelow(True)
        if self.learning_rate is not None:
            self.rate_line_ = self.ax_.axvline(
                self.learning_rate,
                color=secondary_colour(self.ax_),
                linestyle=":",
                linewidth=1.2,
                label=f"chosen: {self.learning_rate:.2g}",
            )
        self.ax_.legend(loc="best", fontsize="small")
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        ax: "Axes | None" = None,
        kind: str = "history",
        yscale: str = "auto",
        **line_kw: Any,
    ) -> Self:
        """Draw the learning curves of a fitted estimator, or its range test.

        Parameters
        ----------
        estimator : fitted FineTunedClassifier, FineTunedRegressor or feature transformer
            Or a pipeline or search that holds one.
        ax, kind, yscale, **line_kw
            Passed to `plot`.

        Returns
        -------
        FineTuningDisplay

        Raises
        ------
        TypeError
            Nothing in the estimator can be fine-tuned.
        ValueError
            The network was not fine-tuned: its strategy is "frozen"; or the range test is asked
            for, and its learning rate was given.
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
        tuned = [each for each in trained if len(each.history_)]
        if not tuned:
            raise ValueError(
                "there are no epochs to show: the network is frozen; set strategy=FineTune(...)"
            )
        curve, rate = (getattr(tuned[0], name, None) for name in ("rate_curve_", "learning_rate_"))
        display = cls(list(tuned[0].history_), curve, rate)
        return display.plot(ax, kind=kind, yscale=yscale, **line_kw)

    def _columns(self) -> dict[str, np.ndarray]:
        """The values of all epochs by name, NaN where an epoch lacks one."""
        epochs = [dict(epoch) for epoch in self.history]
        if not any("train_loss" in epoch or "valid_loss" in epoch for epoch in epochs):
            raise ValueError(
                "history must hold a dict with 'train_loss' or 'valid_loss' for each epoch, got "
                f"{self.history!r}"
            )
        return {
            name: np.array([epoch.get(name, np.nan) for epoch in epochs], dtype=np.float64)
            for name in dict.fromkeys(name for epoch in epochs for name in epoch)
            if all(_is_number(epoch.get(name, np.nan)) for epoch in epochs)
        }

    def _mark_best(self, columns: Mapping[str, np.ndarray]) -> None:
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


def _panels(columns: Mapping[str, np.ndarray]) -> dict[str, dict[str, str]]:
    """Names of the curves of each panel, by the keys of the history."""
    panels: dict[str, dict[str, str]] = {"loss": {k: _LOSSES[k] for k in _LOSSES if k in columns}}
    for key in columns:
        if key in (*_LOSSES, *_NO_METRICS, *Verdict._fields):
            continue
        prefix = next((each for each in _PREFIXES if key.startswith(each)), "")
        metric = key.removeprefix(prefix)
        title = _METRICS.get(metric, metric).replace("_", " ")
        # Without a prefix nothing tells which rows a callback has scored.
        panels.setdefault(title, {})[key] = _PREFIXES.get(prefix, title)
    rates = {key: name for key, name in _RATES.items() if key in columns}
    return {**panels, "learning rate": rates} if rates else panels


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)


def _scale_of(losses: np.ndarray) -> str:
    losses = losses[np.isfinite(losses)]
    wide = losses.size and losses.min() > 0 and losses.max() > _LOG_SCALE_RATIO * losses.min()
    return "log" if wide else "linear"
