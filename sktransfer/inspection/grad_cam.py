"""Grad-CAM through any scikit-learn head whose score is differentiable."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline
from sklearn.utils import check_scalar, gen_batches
from torch import Tensor

from sktransfer._composites import unwrapped
from sktransfer.features.image import PretrainedCNNFeatures
from sktransfer.finetuning.estimator import FineTuned
from sktransfer.images.preprocessing import normalised
from sktransfer.inspection._head_gradients import (
    DifferentiableHead,
    head_of_fine_tuned,
    head_of_pipeline,
)
from sktransfer.inspection._maps import (
    as_maps,
    image_transformer,
    layers_to_show,
    show_image,
    to_grey,
)
from sktransfer.inspection._plotting import axes_grid, import_pyplot, short_names, show_literally
from sktransfer.networks.early_exit import LayerReader
from sktransfer.networks.hooks import Tap, hooked
from sktransfer.networks.layers import first_tensor
from sktransfer.networks.torch_settings import usual_settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from torch.autograd.graph import GradientEdge

_BATCH_SIZE = 8
"""Images in one pass, all of whose activations are kept for the backward pass."""

_INCHES, _GAP = 2.0, 0.06
"""Side of an image in a figure, and the gap between two images as a share of it."""

_MAX_TITLE_LENGTH = 40
"""Letters that fit above an image and its heatmap."""


class GradCAMDisplay:
    """Heatmaps of the parts of an image that raise the score of a class, by Grad-CAM [1]_.

    The weight of a channel is the derivative of the class score with respect to its map, averaged
    over the positions (equation 1). The heatmap is the positive part of the weighted sum of the
    maps (equation 2). If the last maps are averaged before a linear head, Grad-CAM is class
    activation mapping [2]_.

    Use `from_estimator` to create the display.

    Parameters
    ----------
    images : array-like of shape (n, height, width, channels)
        uint8, or floats within [0, 1].
    heatmaps : array-like of shape (n, height, width)
        Nonnegative values.
    titles : sequence of str or None, default=None
        Titles of the images. They are shortened to 40 letters.
    layer : str or None, default=None
        Name of the layer that the heatmaps come from.

    Attributes
    ----------
    ax_ : ndarray of matplotlib Axes, of shape (n, 2)
        For each image, the axes of the image and of its heatmap.
    figure_ : matplotlib Figure
    overlays_ : list of matplotlib AxesImage
        The heatmaps.

    See Also
    --------
    FeatureMapDisplay : Maps of a layer, without a class.

    Notes
    -----
    Each heatmap is drawn relative to its own maximum; `heatmaps` holds the values. A heatmap that
    is zero everywhere means that no position of the layer raises the score of the class.

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
        images: ArrayLike,
        heatmaps: ArrayLike,
        *,
        titles: Sequence[str] | None = None,
        layer: str | None = None,
    ) -> None:
        self.images = images
        self.heatmaps = heatmaps
        self.titles = titles
        self.layer = layer

    @classmethod
    @usual_settings()
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        target: Any = None,
        layer: str | int | None = None,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> Self:
        """Compute heatmaps for the scores of a fitted estimator, and draw them.

        Parameters
        ----------
        estimator : fitted Pipeline, FineTunedClassifier, FineTunedRegressor or search
            The first step of a Pipeline must be a `PretrainedCNNFeatures`, frozen or tuned, and
            its last step a classifier or regressor. The score is `decision_function` if there is
            one, else the log odds of `predict_proba`, and `predict` for a regressor. torch
            differentiates the network. The steps after it are differentiated numerically, with
            two rows per feature, which is exact for linear heads. A search is represented by its
            best estimator.
        X : array, sequence, Series, tensor or Dataset of n images
            A few images, in any form that the estimator takes.
        target : label, sequence of n labels or None, default=None
            The class to explain, or one for each image; None is the predicted class. For a
            regressor with several outputs, the number of an output.
        layer : str, int or None, default=None
            A layer of feature maps or image tokens that is not deeper than the features. None
            takes the deepest such layer that the transformer reads, else the last stage that the
            features depend on and that has more than one position.
        ax, **kwargs
            Passed to `plot`.

        Returns
        -------
        GradCAMDisplay

        Raises
        ------
        TypeError
            The estimator is none of the above.
        ValueError
            The score of the head is piecewise constant, as that of a forest; the class is
            unknown; the output of the layer is no map; or the features do not depend on it.
        ImageReadError
            An image cannot be read.
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        estimator = unwrapped(estimator)
        transformer = image_transformer(estimator, "estimator")
        head = _head_of(estimator)
        _check_batch(transformer, X)
        pixels = transformer.pixels_of(X)
        trace = transformer.fitted_.trace
        layers = layers_to_show(transformer, trace, layer)
        heatmaps: list[np.ndarray] = []
        titles: list[str] = []
        for rows in gen_batches(len(pixels), _BATCH_SIZE):
            targets = _targets(target, rows, len(pixels))
            found, names, used = _explained(transformer, head, pixels[rows], layers, targets)
            layers = (used,)  # the layer found for the first images serves for all
            heatmaps += [*found]
            titles += names
        return cls(pixels, np.stack(heatmaps), titles=titles, layer=layers[0]).plot(ax, **kwargs)

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        cmap: "str | Colormap" = "turbo",
        alpha: float = 0.7,
        n_columns: int | None = None,
    ) -> Self:
        """Draw each image, and beside it the image under its heatmap.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            The images are drawn in its place; None makes a figure.
        cmap : str or matplotlib Colormap, default="turbo"
        alpha : float, default=0.7
            Opacity of a heatmap's maximum. Lower values are proportionally less opaque.
        n_columns : int or None, default=None
            Images in a row; None means up to three.

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
        # An image takes two cells, and a narrow empty one separates it from the next.
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
            cells, images, heatmaps, short_names(titles, _MAX_TITLE_LENGTH), strict=True
        ):
            show_image(left, image)
            show_image(right, to_grey(image))
            top = heatmap.max()
            shown = heatmap / top if top > 0 else np.zeros_like(heatmap)
            self.overlays_.append(
                right.imshow(shown, cmap=cmap, vmin=0, vmax=1, alpha=alpha * shown)
            )
            show_literally([left.set_title(title, fontsize="medium", loc="left")])
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


def _head_of(estimator: Any) -> DifferentiableHead:
    if isinstance(estimator, FineTuned):
        return head_of_fine_tuned(estimator)
    if isinstance(estimator, Pipeline):
        return head_of_pipeline(estimator[1:])
    raise TypeError(
        f"estimator must end in a fitted classifier or regressor after the network, got "
        f"{estimator!r} alone; put both into a Pipeline"
    )


def _check_batch(transformer: PretrainedCNNFeatures, X: Any) -> None:
    """Refuse a single grey image, whose rows would pass for images."""
    shape = tuple(getattr(X, "shape", ()))
    is_table = hasattr(X, "columns")
    if transformer.image_shape is None and len(shape) == 2 and not is_table and shape[1] > 1:
        raise ValueError(
            f"X must be a batch of images, got one of shape {shape}; pass X[:1], or [image], for "
            "a batch of one"
        )


def _targets(target: Any, rows: slice, n: int) -> Any:
    """The targets of some of n images."""
    if np.ndim(target) == 0:
        return target
    if len(target) != n:
        raise ValueError(
            f"target must be one label, or one for each of the {n} images, got {len(target)}"
        )
    return np.asarray(target)[rows]


def _explained(
    transformer: PretrainedCNNFeatures,
    head: DifferentiableHead,
    pixels: np.ndarray,
    layers: Sequence[str],
    target: Any,
) -> tuple[np.ndarray, list[str], str]:
    """Heatmaps and titles of images, and the first of `layers` that the features depend on."""
    trace = transformer.fitted_.trace
    features, recorded = _forward(transformer, pixels, layers)
    values = features.detach().cpu().double().numpy()
    columns = head.columns(values, target)
    head_gradients = torch.as_tensor(head.gradients(values, columns), dtype=torch.float32)
    for name in layers:
        if name not in recorded:
            continue
        activations, edge = recorded[name]
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
            features,
            [edge],
            grad_outputs=head_gradients.to(features.device),
            retain_graph=True,
            allow_unused=True,
        )
        found = gradients[0]
        if found is None:  # the features do not depend on the layer
            continue
        derivatives = as_maps(found, trace.activations[name], trace.size)
        if not derivatives.any():  # of a last block, say, of which only the class token is read
            continue
        weights = derivatives.mean((2, 3), keepdim=True)
        maps = weights * as_maps(activations, trace.activations[name], trace.size)
        maps = maps.sum(1, keepdim=True).relu()
        large = torch.nn.functional.interpolate(
            maps.float(), trace.size, mode="bilinear", align_corners=False
        )
        scores = head.scores(values)[np.arange(len(values)), columns]
        titles = [head.title(*each) for each in zip(columns, scores, strict=True)]
        return large[:, 0].cpu().numpy(), titles, name
    raise ValueError(
        f"the features, read from {list(transformer.layer_)}, do not come through the positions of "
        f"{' or '.join(map(repr, layers))}; give a layer before them"
    )


def _forward(
    transformer: PretrainedCNNFeatures, pixels: np.ndarray, layers: Sequence[str]
) -> tuple[Tensor, dict[str, tuple[Tensor, "GradientEdge"]]]:
    """Features with their graph, and activations and edges of `layers` that ran before them.

    The graph begins at the pixels, and the weights get no gradients. The edge of an activation is
    taken while its layer runs, as the next layer may overwrite it.
    """
    trace = transformer.fitted_.trace
    module = transformer.module_
    names = {trace.taps[name]: name for name in layers}
    recorded: dict[str, tuple[Tensor, GradientEdge]] = {}

    def record(tap: Tap, value: Any) -> None:
        tensor = first_tensor(value)
        if tensor is not None and tensor.requires_grad:
            edge = torch.autograd.graph.get_gradient_edge(tensor)
            recorded[names[tap]] = tensor.detach().clone(), edge

    batch = torch.from_numpy(normalised(pixels, transformer.fitted_.preprocessing)).permute(
        0, 3, 1, 2
    )
    batch = batch.to(transformer.device_).requires_grad_()
    with hooked(module, set(names), record, exclusive=True):
        # A first layer that works in place must not change the tensor that the graph begins with.
        features = LayerReader(module, trace, transformer.fitted_.reads)(batch.clone())
    return torch.cat(features, 1), recorded
