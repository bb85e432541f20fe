"""Feature maps of a layer for one image."""

import math
from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image
from sklearn.utils import check_scalar

from sktransfer.features.image import PretrainedCNNFeatures
from sktransfer.images.preprocessing import normalised
from sktransfer.images.tracing import ImageTrace
from sktransfer.inspection._maps import (
    as_maps,
    image_transformer,
    layers_to_show,
    show_image,
)
from sktransfer.inspection._plotting import SEQUENTIAL, axes_grid, import_pyplot, show_literally
from sktransfer.networks.hooks import Tap, hooked
from sktransfer.networks.layers import first_tensor
from sktransfer.networks.torch_settings import usual_settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class FeatureMapDisplay:
    """Maps of a layer's channels for one image.

    The display shows the channels whose values have the largest standard deviation over the
    image, since a constant map shows nothing. Use `from_estimator` to create it.

    Parameters
    ----------
    image : array-like of shape (height, width, channels)
        uint8, or floats within [0, 1].
    maps : array-like of shape (n, map_height, map_width)
    layer : str
        Name of the layer.
    channels : sequence of int
        Numbers of the channels in the layer, one for each map.

    Attributes
    ----------
    ax_ : ndarray of matplotlib Axes, of shape (1 + n,)
        The image, then the maps.
    figure_ : matplotlib Figure
    title_ : matplotlib Text
        Name of the layer, above the figure or the given axes.
    maps_ : list of matplotlib AxesImage

    See Also
    --------
    GradCAMDisplay : The positions that raise the score of a class.

    Notes
    -----
    The tokens of a vision transformer are shown as a grid, without the class token and registers.
    Each map has its own colour scale, from its minimum to its maximum.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import PretrainedCNNFeatures
    >>> from sktransfer.inspection import FeatureMapDisplay
    >>> images = load_digits().images / 16
    >>> features = PretrainedCNNFeatures(image_size=64).fit(images)
    >>> display = FeatureMapDisplay.from_estimator(features, images[0], layer="blocks.1")
    >>> display.maps.shape
    (16, 16, 16)
    """

    def __init__(
        self, image: ArrayLike, maps: ArrayLike, *, layer: str, channels: Sequence[int] | np.ndarray
    ) -> None:
        self.image = image
        self.maps = maps
        self.layer = layer
        self.channels = channels

    @classmethod
    @usual_settings()
    def from_estimator(
        cls,
        transformer: Any,
        image: Any,
        *,
        layer: str | int | None = None,
        n_channels: int = 16,
        ax: "Axes | None" = None,
        **imshow_kw: Any,
    ) -> Self:
        """Compute the maps of a fitted transformer's network for an image, and draw them.

        Parameters
        ----------
        transformer : PretrainedCNNFeatures, Pipeline, FineTunedClassifier or search
            A fitted estimator; the first step of a Pipeline must be a `PretrainedCNNFeatures`.
        image : array, path or PIL image
            One image, in a form of which the transformer takes several.
        layer : str, int or None, default=None
            A layer of feature maps or of image tokens, by name or number of a stage. None takes
            the deepest such layer that the transformer reads, else the last stage with more than
            one position.
        n_channels : int, default=16
            Number of channels to show, at most.
        ax, **imshow_kw
            Passed to `plot`.

        Returns
        -------
        FeatureMapDisplay

        Raises
        ------
        TypeError
            The transformer has no network for images.
        ValueError
            Several images were passed, the layer is unknown, or its output is a vector; the
            message names layers that can be shown.
        ImageReadError
            The image cannot be read.
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        transformer = image_transformer(transformer, "transformer")
        check_scalar(n_channels, "n_channels", int, min_val=1)
        pixels = transformer.pixels_of(_rows_of(transformer, image))
        trace = transformer.fitted_.trace
        name = layers_to_show(transformer, trace, layer)[0]
        batch = torch.from_numpy(normalised(pixels, transformer.fitted_.preprocessing))
        values = _run(transformer.module_, trace, name, batch.to(transformer.device_))
        maps = as_maps(values, trace.activations[name], trace.size)[0].float().cpu().numpy()
        spread = maps.std(axis=(1, 2))
        channels = np.argsort(-spread, kind="stable")[:n_channels]
        return cls(pixels[0], maps[channels], layer=name, channels=channels).plot(ax, **imshow_kw)

    def plot(self, ax: "Axes | None" = None, **imshow_kw: Any) -> Self:
        """Draw the image, and the maps beside it.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            The plot is drawn in its place; None makes a figure.
        **imshow_kw : dict
            Passed to matplotlib's `Axes.imshow` for the maps, such as ``cmap="magma"``.

        Returns
        -------
        self : FeatureMapDisplay
        """
        image, maps, channels = np.asarray(self.image), np.asarray(self.maps), list(self.channels)
        if image.ndim != 3 or maps.ndim != 3 or not len(maps) or len(maps) != len(channels):
            raise ValueError(
                "image must be of shape (height, width, channels), and maps of (n, map_height, "
                f"map_width) with n channels, got {image.shape}, {maps.shape} and {len(channels)}"
            )
        n_columns = math.ceil(math.sqrt(len(maps)))
        n_rows = -(-len(maps) // n_columns)
        name = "FeatureMapDisplay.plot"
        shares = {"width_ratios": (n_rows, n_columns)}
        figsize = (1.25 * (n_columns + n_rows), 1.4 * n_rows)
        ((left, right),) = axes_grid(name, 1, 2, ax, figsize=figsize, **shares)
        show_image(left, image)
        left.set_title("image")
        cells = axes_grid(name, n_rows, n_columns, right).ravel()
        title = f"layer {self.layer}"
        # The padding leaves room for the titles of the upper maps.
        self.title_ = left.figure.suptitle(title) if ax is None else ax.set_title(title, pad=18)
        show_literally([self.title_])
        for cell in (left, *cells):
            cell.set_axis_off()
        style = {"cmap": SEQUENTIAL, **imshow_kw}
        self.maps_ = []
        for cell, values, channel in zip(cells, maps, channels, strict=False):
            self.maps_.append(cell.imshow(values, **style))
            cell.set_title(f"ch {channel}", fontsize="small", pad=2)
        self.ax_ = np.array([left, *cells[: len(maps)]])
        self.figure_ = left.figure
        return self


def _rows_of(transformer: PretrainedCNNFeatures, image: Any) -> Any:
    """An X for the transformer that holds a single image."""
    if transformer.image_shape is None:
        if _are_several(transformer, image):
            shape = getattr(image, "shape", None)
            kind = type(image).__name__
            received = f"of shape {tuple(shape)}" if shape else f"{len(image)} in a {kind}"
            raise ValueError(
                f"image must be one image, as the transformer takes several, got images "
                f"{received}; pass X[0]"
            )
        return [image]
    is_table = hasattr(image, "columns")  # one row of a DataFrame, with the names of its columns
    return image if is_table else np.reshape(image, (1, -1))


def _are_several(transformer: PretrainedCNNFeatures, image: Any) -> bool:
    """Whether this is a stack or list of images, by the length of the axis of channels."""
    if isinstance(image, list | tuple):
        first: Any = image[0] if image else None
        return isinstance(first, str | PathLike | Image.Image) or len(np.shape(first)) > 1
    shape = tuple(getattr(image, "shape", ()))
    if len(shape) == 3:
        n_channels = shape[0 if transformer.channels == "first" else 2]
        return n_channels not in (1, 3, 4, transformer.fitted_.preprocessing.in_channels)
    return len(shape) == 4


def _run(
    module: torch.nn.Module, trace: ImageTrace, layer: str, batch: torch.Tensor
) -> torch.Tensor:
    """The output of a layer for images of channels last; of its last run if it runs repeatedly."""
    output: list[torch.Tensor] = []

    def record(tap: Tap, value: Any) -> None:
        tensor = first_tensor(value)
        assert tensor is not None  # as it was when the network was traced
        output[:] = [tensor.clone()]  # the next layer may overwrite it

    with torch.inference_mode(), hooked(module, {trace.taps[layer]}, record):
        trace.run(module, batch.permute(0, 3, 1, 2))
    return output[0]
