"""Cross-validated scores of a linear model on each layer of a network."""

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import check_cv, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import column_or_1d

from sktransfer._validation import as_array
from sktransfer.inspection._plotting import (
    COLOURS,
    axes_for,
    import_pyplot,
    secondary_colour,
    text_colour,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RIDGE_ALPHAS = np.logspace(-5, 5, 11)
"""Penalties of the ridge regression. Its features are not standardised: a unit that is zero in all
training rows but one or two would be hundreds of standard deviations large in a test row."""

_SCORES_FROM_0_TO_1 = (
    *("accuracy", "balanced_accuracy", "top_k_accuracy", "average_precision"),
    *("f1", "precision", "recall", "jaccard", "roc_auc"),
)
"""Prefixes of the names of scores that lie between 0 and 1."""


class LayerProbeDisplay:
    """Scores of a linear model on each layer of a network.

    The names of layers do not tell which of them suits a task. A linear probe [1]_ does: it
    cross-validates a linear model on the features of each layer. Use `from_estimator` to create
    the display.

    Parameters
    ----------
    layers : sequence of str
        Names of the layers, from shallow to deep.
    scores : array-like of shape (n_layers, n_splits)
        Scores of each layer; higher is better.
    chance : float or None, default=None
        Score without features: the share of the most frequent class for accuracy, 0 for R2.
    scoring : str, default="accuracy"
        Name of the score.
    auto : str or None, default=None
        The layer that ``layer="auto"`` would choose.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    errorbar_ : matplotlib ErrorbarContainer
        Means and standard deviations over the splits, within the range of the score.
    splits_ : matplotlib PathCollection
        Scores of the individual splits.
    chance_ : matplotlib Line2D or None
    auto_ : matplotlib Line2D or None
        Marker of the layer `auto`.

    See Also
    --------
    sktransfer.PretrainedCNNFeatures : ``layer="auto"`` chooses a layer without training.

    References
    ----------
    .. [1] G. Alain and Y. Bengio, "Understanding intermediate layers using linear classifier
       probes", ICLR 2017 workshop.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import PretrainedCNNFeatures
    >>> from sktransfer.inspection import LayerProbeDisplay
    >>> digits = load_digits()
    >>> display = LayerProbeDisplay.from_estimator(
    ...     PretrainedCNNFeatures(image_size=32), digits.images[:300] / 16, digits.target[:300]
    ... )
    >>> display.scores.shape
    (8, 5)
    >>> display.best
    'blocks.3'
    >>> print(display)
    layer        accuracy
    blocks.0     0...
    """

    def __init__(
        self,
        layers: Sequence[str],
        scores: ArrayLike,
        *,
        chance: float | None = None,
        scoring: str = "accuracy",
        auto: str | None = None,
    ) -> None:
        self.layers = layers
        self.scores = scores
        self.chance = chance
        self.scoring = scoring
        self.auto = auto

    @property
    def best(self) -> str:
        """The layer with the highest mean score."""
        layers, scores = self._checked()
        return layers[int(scores.mean(axis=1).argmax())]

    def __str__(self) -> str:
        """A table of means and standard deviations."""
        layers, scores = self._checked()
        names = ["layer", *layers, *(["chance"] if self.chance is not None else [])]
        width = max(map(len, names))
        lines = [f"{'layer':<{width}}  {self.scoring}"]
        for layer, layer_scores in zip(layers, scores, strict=True):
            mark = '  layer="auto"' if layer == self.auto else ""
            lines.append(
                f"{layer:<{width}}  {layer_scores.mean():.4f} +- {layer_scores.std():.4f}{mark}"
            )
        if self.chance is not None:
            lines.append(f"{'chance':<{width}}  {self.chance:.4f}")
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None, **errorbar_kw: Any) -> Self:
        """Draw the scores over the layers.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            None makes a figure.
        **errorbar_kw : dict
            Passed to matplotlib's `Axes.errorbar`, such as ``color="black"``.

        Returns
        -------
        self : LayerProbeDisplay
        """
        layers, scores = self._checked()
        n_layers, n_splits = scores.shape
        ax = axes_for("LayerProbeDisplay.plot", ax, figsize=(max(5.0, 1.6 + 0.62 * n_layers), 4.0))
        positions = np.arange(n_layers)
        means, spread = scores.mean(axis=1), scores.std(axis=1)
        style = {
            "color": COLOURS[0],
            "marker": "o",
            "capsize": 3,
            "zorder": 3,
            "label": f"mean of {n_splits} splits, with standard deviation",
        }
        low, high = np.clip([means - spread, means + spread], *_bounds(self.scoring))
        bars = np.maximum([means - low, high - means], 0)
        self.errorbar_ = ax.errorbar(positions, means, bars, **{**style, **errorbar_kw})
        self.splits_ = ax.scatter(
            np.repeat(positions, n_splits),
            scores.ravel(),
            s=9,
            color=secondary_colour(ax),
            alpha=0.6,
            zorder=2,
        )
        self.chance_ = self.auto_ = None
        if self.chance is not None:
            self.chance_ = ax.axhline(
                self.chance,
                color=secondary_colour(ax),
                linestyle="--",
                label=f"chance: {self.chance:.2g}",
            )
        if self.auto is not None:
            at = layers.index(self.auto)
            (self.auto_,) = ax.plot(
                at,
                means[at],
                "*",
                markersize=15,
                color=COLOURS[1],
                markeredgecolor=text_colour(ax),
                markeredgewidth=0.7,
                zorder=4,
                label='choice of layer="auto"',
            )
        self._limit_axis(ax, means)
        crowded = n_layers * (max(map(len, layers)) + 2) > 70
        rotated: dict[str, Any] = (
            {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
        )
        ax.set_xticks(positions, layers, **rotated)
        ax.set_xlim(-0.5, n_layers - 0.5)
        ax.set_xlabel("layer")
        ax.set_ylabel(self.scoring.replace("_", " "))
        ax.grid(axis="y", alpha=0.3)
        ax.set_axisbelow(True)
        entries = [part for part in (self.errorbar_, self.auto_, self.chance_) if part is not None]
        self.legend_ = ax.legend(handles=entries, loc="best", fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        transformer: Any,
        X: Any,
        y: Any,
        *,
        layers: Sequence[str | int] | None = None,
        head: Any = None,
        cv: Any = 5,
        scoring: Any = None,
        mark_auto: bool = True,
        n_jobs: int | None = None,
        ax: "Axes | None" = None,
        **errorbar_kw: Any,
    ) -> Self:
        """Probe the layers of a transformer's network, and draw the scores.

        The items of X go through the network once for all layers.

        Parameters
        ----------
        transformer : PretrainedCNNFeatures, RNNSequenceFeatures or PretrainedTextFeatures
            A transformer with a frozen network. A clone of it is fitted.
        X : any input of the transformer
            Rows that cannot be read (with ``on_error="nan"``) are left out.
        y : array-like of shape (n,)
            Classes, or continuous numbers.
        layers : sequence of str or int, or None, default=None
            Values of the transformer's parameter `layer`. None means its stages and the layer
            that it reads by default.
        head : predictor or None, default=None
            The model trained on each layer; it is cloned. None means a logistic regression on
            standardised features for classes, and a ridge regression on the features for numbers.
        cv : int, splitter or iterable, default=5
            As for scikit-learn's `cross_val_score`. If rows belong to groups, pass the splits:
            ``cv=list(GroupKFold().split(X, y, groups))``.
        scoring : str, callable or None, default=None
            None means "accuracy" for classes and "r2" for numbers. For other scores, chance is
            the cross-validated score of a dummy model.
        mark_auto : bool, default=True
            Whether to mark the layer that ``layer="auto"`` would choose from all rows by LogME.
        n_jobs : int or None, default=None
            Number of processes that evaluate the splits.
        ax, **errorbar_kw
            Passed to `plot`.

        Returns
        -------
        LayerProbeDisplay

        Raises
        ------
        ValueError
            The transformer's strategy is not "frozen", a layer is unknown, or y does not suit the
            head.
        ImportError
            matplotlib is not installed.
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        features, columns = _features_by_layer(transformer, X, y, layers)
        y = _labels(y, len(features))
        readable = np.isfinite(features).all(axis=1)
        classes = _is_classification(y, head)
        if head is None:
            logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
            head = logistic if classes else RidgeCV(RIDGE_ALPHAS)
        splits = [
            tuple(rows[readable[rows]] for rows in split)  # numbered as in X
            for split in check_cv(cv, y, classifier=classes).split(np.zeros((len(y), 1)), y)
        ]
        scorer = ("accuracy" if classes else "r2") if scoring is None else scoring
        evaluation = {"cv": splits, "scoring": scorer, "error_score": "raise"}
        scores = np.array(
            [
                cross_val_score(clone(head), features[:, own], y, n_jobs=n_jobs, **evaluation)
                for own in columns.values()
            ]
        )
        if isinstance(scorer, str) and scorer in ("accuracy", "r2"):
            # Cross-validation would be pessimistic: if classes are about equally frequent, the one
            # that is most frequent in a training split is rare in its test split.
            counts = np.unique(y[readable], return_counts=True)[1]
            chance = float(counts.max() / counts.sum()) if scorer == "accuracy" else 0.0
        else:
            dummy = DummyClassifier(strategy="prior") if classes else DummyRegressor()
            chance = float(cross_val_score(dummy, np.zeros((len(y), 1)), y, **evaluation).mean())
        auto = None
        if mark_auto:
            from sktransfer.features.layer_choice import choose_layer  # loads torch

            task = "classification" if classes else "regression"
            auto = choose_layer(features, columns, y, task=task)[0]
        return cls(list(columns), scores, chance=chance, scoring=_name_of(scorer), auto=auto).plot(
            ax, **errorbar_kw
        )

    def _limit_axis(self, ax: "Axes", means: np.ndarray) -> None:
        """Cut the axis off far below chance, where R2 may be, and write the values beyond it."""
        if self.chance is None or means.max() <= self.chance:
            return
        floor = self.chance - 0.5 * (means.max() - self.chance)
        if means.min() >= floor:
            return
        ax.set_ylim(bottom=floor)
        for layer in np.flatnonzero(means < floor):
            ax.annotate(
                f"{means[layer]:.2g} \N{DOWNWARDS ARROW}",
                (layer, floor),
                (-4, 4),
                textcoords="offset points",
                ha="right",
            )

    def _checked(self) -> tuple[list[str], np.ndarray]:
        layers, scores = list(map(str, self.layers)), np.asarray(self.scores, dtype=np.float64)
        if scores.ndim != 2 or len(scores) != len(layers) or not scores.size:
            raise ValueError(
                f"scores must be of shape ({len(layers)}, n_splits), a row for each layer, got "
                f"{scores.shape}"
            )
        if self.auto is not None and self.auto not in layers:
            raise ValueError(f"auto must be one of the layers {layers}, got {self.auto!r}")
        return layers, scores


def _features_by_layer(
    transformer: Any, X: Any, y: Any, layers: Sequence[str | int] | None
) -> tuple[np.ndarray, dict[str, Any]]:
    """Features of all layers from one pass, and the columns of each layer."""
    parameters = transformer.get_params(deep=False) if hasattr(transformer, "get_params") else {}
    if "layer" not in parameters:
        raise TypeError(
            "transformer must have a parameter layer, as PretrainedCNNFeatures and "
            f"RNNSequenceFeatures have; got {transformer!r}"
        )
    strategy = parameters.get("strategy", "frozen")
    if not isinstance(strategy, str) or strategy != "frozen":
        raise ValueError(
            "LayerProbeDisplay probes the layers of a frozen network; set strategy='frozen', got "
            f"strategy={strategy!r}"
        )
    if isinstance(layers, str | int) or (layers is not None and not len(layers)):
        raise ValueError(f"layers must be None or a list of layers, got {layers!r}")
    default = inspect.signature(type(transformer)).parameters["layer"].default
    first = clone(transformer).set_params(layer=default).fit(X, y)
    # These parameters would mix the layers. Rows are scaled to length 1 below, layer by layer.
    unmixed = {"output_dim": None, "combine": "concat", "normalize": False}
    unmixed = {name: value for name, value in unmixed.items() if name in parameters}
    wanted = _all_layers(first) if layers is None else tuple(layers)
    fitted = clone(transformer).set_params(layer=wanted, **unmixed).fit(X, y)
    features = np.array(fitted.transform(X), dtype=np.float64)
    columns = dict(fitted._columns_of_layers(fitted.fitted_))
    if getattr(first, "normalize_", False):
        for own in columns.values():
            features[:, own] = normalize(features[:, own])
    return features, columns


def _all_layers(fitted: Any) -> tuple[str | int, ...]:
    """The stages and the layer read by default, from shallow to deep."""
    if hasattr(fitted, "stages_"):
        return tuple(dict.fromkeys((*fitted.stages_, *fitted.layer_)))
    last = fitted.layer_[-1]  # stacked recurrent layers are numbered
    return tuple(range(last + 1)) if isinstance(last, int) and last >= 0 else fitted.layer_


def _labels(y: Any, n_rows: int) -> np.ndarray:
    if y is None:
        raise ValueError("LayerProbeDisplay needs y, the labels of X; got None")
    y = column_or_1d(as_array(y))
    if len(y) != n_rows:
        raise ValueError(f"X has {n_rows} rows and y has {len(y)}; they must be equal")
    return y


def _is_classification(y: np.ndarray, head: Any) -> bool:
    if head is not None and (is_classifier(head) or is_regressor(head)):
        return bool(is_classifier(head))
    return not type_of_target(y, input_name="y").startswith("continuous")


def _bounds(scoring: str) -> tuple[float, float]:
    """The lower and upper bound of a score, by its name."""
    if scoring == "r2":
        return -np.inf, 1.0
    return (0.0, 1.0) if scoring.startswith(_SCORES_FROM_0_TO_1) else (-np.inf, np.inf)


def _name_of(scorer: Any) -> str:
    if isinstance(scorer, str):
        return scorer
    function = getattr(scorer, "_score_func", scorer)  # a scorer of make_scorer holds it
    return str(getattr(function, "__name__", "score"))
