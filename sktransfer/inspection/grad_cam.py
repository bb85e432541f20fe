"""Where a network looks: Grad-CAM, through any scikit-learn head that has a slope."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from sklearn.utils import check_scalar, gen_batches
from torch import Tensor

from sktransfer.features.image import PretrainedCNNFeatures
from sktransfer.finetuning.estimator import FineTuned
from sktransfer.images.preprocessing import normalised
from sktransfer.images.staged import StagedNetwork
from sktransfer.inspection._maps import (
    as_maps,
    grey,
    image_transformer,
    layers_to_show,
    pixels_of,
    show_image,
    unwrapped,
)
from sktransfer.inspection._plotting import as_written, axes_grid, import_pyplot, short_names
from sktransfer.inspection._slopes import Head, head_of_steps, head_of_tuned
from sktransfer.networks.hooks import Tap, hooked

_AT_ONCE = 8
"""Images in one pass, whose activations are all kept for the way back."""

_INCHES, _GAP = 2.0, 0.06
"""Side of an image in a figure, and what is between two as a share of it."""

_LETTERS = 40
"""Of a title: so many fit above an image and its heatmap."""


class GradCAMDisplay:
    """Which parts of an image speak for a class, by Grad-CAM [1]_.

    The derivative of the class's score with respect to a layer's maps, averaged over each map,
    says how much that map matters (equation 1); the maps summed with these weights, without what
    is negative, are the heatmap (equation 2). For a last map that is averaged before a linear
    head this is class activation mapping [2]_.

    Create it by `from_estimator`.

    Parameters
    ----------
    images : array-like of shape (n, height, width, channels)
        uint8, or floats within [0, 1].
    heatmaps : array-like of shape (n, height, width)
        Not negative.
    titles : sequence of str or None, default=None
        One above each image; of long ones 40 letters are shown.
    layer : str or None, default=None
        From whose maps the heatmaps are.

    Attributes
    ----------
    ax_ : ndarray of matplotlib Axes, of shape (n, 2)
        The image, and the same with its heatmap.
    figure_ : matplotlib Figure
    overlays_ : list of matplotlib AxesImage
        The heatmaps.

    See Also
    --------
    FeatureMapDisplay : Maps of a layer as they are.

    Notes
    -----
    Each heatmap is drawn relative to its own maximum; `heatmaps` holds the numbers. A heatmap that
    is zero everywhere means that the layer's maps speak against the class.

    References
    ----------
    .. [1] R. R. Selvaraju et al., "Grad-CAM: visual explanations from deep networks via
       gradient-based localization", ICCV 2017, equations 1 and 2.
    .. [2] B. Zhou et al., "Learning deep features for discriminative localization", CVPR 2016.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransfer import PretrainedCNNFeatures
    >>> from sktransfer.inspection import GradCAMDisplay
    >>> digits = load_digits()
    >>> images, labels = digits.images[:100] / 16, digits.target[:100]
    >>> pipeline = make_pipeline(
    ...     PretrainedCNNFeatures(layer="blocks.2", image_size=32),
    ...     LogisticRegression(max_iter=1000),
    ... ).fit(images, labels)
    >>> display = GradCAMDisplay.from_estimator(pipeline, images[:2], target=0)
    >>> display.heatmaps.shape
    (2, 32, 32)
    >>> display.layer
    'blocks.2'
    """

    def __init__(
        self,
        images: Any,
        heatmaps: Any,
        *,
        titles: Sequence[str] | None = None,
        layer: str | None = None,
    ) -> None:
        self.images = images
        self.heatmaps = heatmaps
        self.titles = titles
        self.layer = layer

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        target: Any = None,
        layer: str | int | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Explain what a fitted estimator says of images, and draw it.

        Parameters
        ----------
        estimator : fitted Pipeline, FineTunedClassifier, FineTunedRegressor or search
            A Pipeline has a `PretrainedCNNFeatures`, frozen or tuned, as its first step, then any
            steps that end in a classifier or regressor. Its score is `decision_function`, else
            the log odds of `predict_proba`, or for a regressor `predict`. It is differentiated by
            differences, which takes two rows for each feature, and is exact for linear heads; the
            network is by torch. Of a search its best estimator is taken.
        X : array, sequence, Series, tensor or Dataset of n images
            As for the estimator; a handful.
        target : label, sequence of n labels or None, default=None
            The class to be explained; None is the predicted one. For a regressor of several
            outputs the number of one.
        layer : str, int or None, default=None
            A layer of feature maps or image tokens, no deeper than the features. None is the
            deepest of the layers read that is one, else the last stage that the features come
            through and that has more than one position.
        ax : matplotlib Axes or None, default=None
            See `plot`.
        **kwargs : dict
            See `plot`.

        Returns
        -------
        GradCAMDisplay

        Raises
        ------
        TypeError
            The estimator is none of the above.
        ValueError
            The head's score has no slope, as that of a forest, there is no such class, or the layer
            is no map, or not one that the features come through.
        ImageReadError
            An image cannot be read.
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        estimator = unwrapped(estimator)
        transformer = image_transformer(estimator, "estimator")
        head = _head_of(estimator)
        pixels = pixels_of(transformer, _batch(transformer, X))
        trace = transformer._backbone.trace(transformer.image_size_)
        layers = layers_to_show(transformer, trace, layer)
        parts = []
        for rows in gen_batches(len(pixels), _AT_ONCE):
            part = _explained(
                transformer, head, pixels[rows], layers, _of_rows(target, rows, len(pixels))
            )
            layers = (part.layer,)  # what the first images settle holds for all
            parts.append(part)
        heatmaps = np.concatenate([part.heatmaps for part in parts])
        titles = [title for part in parts for title in part.titles]
        return cls(pixels, heatmaps, titles=titles, layer=layers[0]).plot(ax, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        cmap: Any = "turbo",
        alpha: float = 0.7,
        n_columns: int | None = None,
    ) -> Self:
        """Draw each image, and beside it the same under its heatmap.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            In whose place to draw; None makes a figure.
        cmap : str or matplotlib Colormap, default="turbo"
        alpha : float, default=0.7
            Opacity of a heatmap's maximum; what is less is as much less opaque.
        n_columns : int or None, default=None
            Images in a row; None takes up to three.

        Returns
        -------
        self : GradCAMDisplay
        """
        images, heatmaps, titles = self._checked()
        n = len(images)
        n_columns = min(3, n) if n_columns is None else n_columns
        check_scalar(n_columns, "n_columns", int, min_val=1)
        n_rows = -(-n // n_columns)
        height, width = images.shape[1:3]
        # Two cells for an image, and a narrow empty one to tell it from the next.
        shares = (1, 1, _GAP) * n_columns
        sides = (sum(shares) * _INCHES * max(1.0, width / height), n_rows * (_INCHES + 0.35))
        grid = axes_grid(
            "GradCAMDisplay.plot", n_rows, len(shares), ax, figsize=sides, width_ratios=shares
        )
        for cell in grid.ravel():
            cell.set_axis_off()
        cells = grid.reshape(-1, 3)[:n, :2]
        self.overlays_ = []
        for (left, right), image, heatmap, title in zip(
            cells, images, heatmaps, short_names(titles, _LETTERS), strict=True
        ):
            show_image(left, image)
            show_image(right, grey(image))
            top = heatmap.max()
            shown = heatmap / top if top > 0 else np.zeros_like(heatmap)
            self.overlays_.append(
                right.imshow(shown, cmap=cmap, vmin=0, vmax=1, alpha=alpha * shown)
            )
            as_written([left.set_title(title, fontsize="medium", loc="left")])
        self.ax_, self.figure_ = cells, cells[0, 0].figure
        return self

    def _checked(self) -> tuple[np.ndarray, np.ndarray, list[str]]:
        images, heatmaps = np.asarray(self.images), np.asarray(self.heatmaps, dtype=np.float64)
        if images.ndim != 4 or heatmaps.shape != images.shape[:3] or not len(images):
            raise ValueError(
                "images must be of shape (n, height, width, channels) and heatmaps of "
                f"(n, height, width), got {images.shape} and {heatmaps.shape}"
            )
        titles = [""] * len(images) if self.titles is None else list(map(str, self.titles))
        if len(titles) != len(images):
            raise ValueError(
                f"titles must be one for each of the {len(images)} images, got {len(titles)}"
            )
        return images, heatmaps, titles


class _Explained(NamedTuple):
    """Heatmaps of some images, a title for each, and the layer they are from."""

    heatmaps: np.ndarray
    titles: list[str]
    layer: str


def _head_of(estimator: Any) -> Head:
    if isinstance(estimator, FineTuned):
        return head_of_tuned(estimator)
    if isinstance(estimator, Pipeline):
        return head_of_steps(estimator[1:])
    raise TypeError(
        f"estimator must end in a fitted classifier or regressor after the network, got "
        f"{estimator!r} alone; put both into a Pipeline"
    )


def _batch(transformer: PretrainedCNNFeatures, X: Any) -> Any:
    """X, which a single grey image is not: that would pass for rows of pixels."""
    shape = tuple(getattr(X, "shape", ()))
    is_table = hasattr(X, "columns")
    if transformer.image_shape is None and len(shape) == 2 and not is_table and shape[1] > 1:
        raise ValueError(
            f"X must be a batch of images, got one of shape {shape}; pass X[:1], or [image], for "
            "a batch of one"
        )
    return X


def _of_rows(target: Any, rows: slice, n: int) -> Any:
    """The targets of some images."""
    if np.ndim(target) == 0:
        return target
    if len(target) != n:
        raise ValueError(
            f"target must be one label, or one for each of the {n} images, got {len(target)}"
        )
    return np.asarray(target)[rows]


def _explained(
    transformer: PretrainedCNNFeatures,
    head: Head,
    pixels: np.ndarray,
    layers: Sequence[str],
    target: Any,
) -> _Explained:
    """Heatmaps of the first of `layers` that the features come through."""
    trace = transformer._backbone.trace(transformer.image_size_)
    features, seen = _forward(transformer, pixels, layers)
    values = features.detach().cpu().double().numpy()
    columns = head.columns(values, target)
    slopes = torch.as_tensor(head.slopes(values, columns), dtype=torch.float32)
    names = [name for name in layers if name in seen]
    gradients = _gradients(features, slopes, [seen[name].edge for name in names])
    for name, found in zip(names, gradients, strict=True):
        if found is None:
            continue
        how = (trace.activations[name], trace.size)
        derivatives = as_maps(found, *how)
        if not derivatives.any():  # as of a last block of which only the class token is read
            continue
        weights = derivatives.mean((2, 3), keepdim=True)
        maps = (weights * as_maps(seen[name].values, *how)).sum(1, keepdim=True).relu()
        large = torch.nn.functional.interpolate(
            maps.float(), trace.size, mode="bilinear", align_corners=False
        )
        scores = head.scores(values)[np.arange(len(values)), columns]
        titles = [head.title(*each) for each in zip(columns, scores, strict=True)]
        return _Explained(large[:, 0].cpu().numpy(), titles, name)
    raise ValueError(
        f"the features, read from {list(transformer.layer_)}, do not come through the positions of "
        f"{' or '.join(map(repr, layers))}; give a layer before them"
    )


def _gradients(features: Tensor, slopes: Tensor, edges: list[Any]) -> tuple[Tensor | None, ...]:
    """What `slopes` of the features are at other places of their graph; None where it is not."""
    if not edges:
        return ()
    return torch.autograd.grad(
        features, edges, grad_outputs=slopes.to(features.device), allow_unused=True
    )


class _Seen(NamedTuple):
    """Activations of a layer, and where to differentiate with respect to them."""

    values: Tensor
    edge: Any


def _forward(
    transformer: PretrainedCNNFeatures, pixels: np.ndarray, layers: Sequence[str]
) -> tuple[Tensor, dict[str, _Seen]]:
    """Features with their graph, and those of `layers` that ran to their end before them.

    Weights are left as they are, without gradients; the graph begins at the pixels. It is noted
    while the layer runs where its output stands in the graph, as the next layer may overwrite it.
    """
    trace = transformer._backbone.trace(transformer.image_size_)
    module = transformer.module_
    names = {trace.taps[name]: name for name in layers}
    runs: Counter[Tap] = Counter()
    seen: dict[str, _Seen] = {}

    def record(tap: Tap, value: Tensor) -> None:
        runs[tap] += 1
        if runs[tap] == trace.calls[tap.module] and value.requires_grad:
            edge = torch.autograd.graph.get_gradient_edge(value)
            seen[names[tap]] = _Seen(value.detach().clone(), edge)

    batch = torch.from_numpy(normalised(pixels, transformer._preprocessing)).permute(0, 3, 1, 2)
    batch = batch.to(transformer.device_).requires_grad_()
    with torch.enable_grad(), hooked(module, set(names), record):
        # A copy, as a first layer that works in place must not change what the graph begins with.
        features = StagedNetwork(module, trace, transformer._reads)(batch.clone())
    return torch.cat(features, 1), seen
