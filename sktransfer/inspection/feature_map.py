"""What the channels of a layer make of an image."""

import math
from os import PathLike
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from sklearn.utils import check_scalar

from sktransfer.images.preprocessing import normalised
from sktransfer.images.tracing import Trace
from sktransfer.inspection._maps import (
    as_maps,
    image_transformer,
    layers_to_show,
    pixels_of,
    show_image,
)
from sktransfer.inspection._plotting import SEQUENTIAL, as_written, axes_grid, import_pyplot
from sktransfer.networks.hooks import Tap, hooked


class FeatureMapDisplay:
    """Maps of a layer's channels for one image.

    Shown are the channels whose values vary most over the image, by their standard deviation:
    one that is the same everywhere has nothing to show. Create it by `from_estimator`.

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
        Name of the layer, above the figure or the axes given.
    maps_ : list of matplotlib AxesImage

    See Also
    --------
    GradCAMDisplay : Which positions speak for a class.

    Notes
    -----
    The tokens of a vision transformer are shown as a grid, without class token and registers.
    Each map has a colour scale of its own, from its minimum to its maximum.

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

    def __init__(self, image: Any, maps: Any, *, layer: str, channels: Any) -> None:
        self.image = image
        self.maps = maps
        self.layer = layer
        self.channels = channels

    @classmethod
    def from_estimator(
        cls,
        transformer: Any,
        image: Any,
        *,
        layer: str | int | None = None,
        n_channels: int = 16,
        ax: Any = None,
        **imshow_kw: Any,
    ) -> Self:
        """Run an image through a fitted transformer's network up to a layer, and draw.

        Parameters
        ----------
        transformer : PretrainedCNNFeatures, Pipeline, FineTunedClassifier or search
            Fitted; a Pipeline begins with a `PretrainedCNNFeatures`.
        image : array, path or PIL image
            One image, as the transformer takes several.
        layer : str, int or None, default=None
            A layer of feature maps or of image tokens, by name or number of a stage. None is the
            deepest of the layers read that is one, or else the last stage of more than one
            position.
        n_channels : int, default=16
            How many channels to show, of those there are.
        ax : matplotlib Axes or None, default=None
        **imshow_kw : dict
            See `plot`.

        Returns
        -------
        FeatureMapDisplay

        Raises
        ------
        TypeError
            The transformer has no network for images.
        ValueError
            There are several images, or the layer is none, or puts out a vector; the message
            names some that do not.
        ImageReadError
            The image cannot be read.
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        transformer = image_transformer(transformer, "transformer")
        check_scalar(n_channels, "n_channels", int, min_val=1)
        pixels = pixels_of(transformer, _rows_of(transformer, image))
        trace = transformer._backbone.trace(transformer.image_size_)
        name = layers_to_show(transformer, trace, layer)[0]
        batch = torch.from_numpy(normalised(pixels, transformer._preprocessing))
        values = _run(transformer.module_, trace, name, batch.to(transformer.device_))
        maps = as_maps(values, trace.activations[name], trace.size)[0].float().cpu().numpy()
        spread = maps.std(axis=(1, 2))
        channels = np.argsort(-spread, kind="stable")[:n_channels]
        return cls(pixels[0], maps[channels], layer=name, channels=channels).plot(ax, **imshow_kw)

    def plot(self, ax: Any = None, **imshow_kw: Any) -> Self:
        """Draw the image, and the maps beside it.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            In whose place to draw; None makes a figure.
        **imshow_kw : dict
            For matplotlib's `Axes.imshow` of the maps, such as ``cmap="magma"``.

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
        # Room is left for the titles of the upper maps.
        self.title_ = left.figure.suptitle(title) if ax is None else ax.set_title(title, pad=18)
        as_written([self.title_])
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


def _rows_of(transformer: Any, image: Any) -> Any:
    """X that holds a single image."""
    if transformer.image_shape is None:
        if _are_several(transformer, image):
            shape = getattr(image, "shape", None)
            what = (
                f"of shape {tuple(shape)}" if shape else f"{len(image)} in a {type(image).__name__}"
            )
            raise ValueError(
                f"image must be one image, as the transformer takes several, got images {what}; "
                "pass X[0]"
            )
        return [image]
    is_table = hasattr(image, "columns")  # one row of a DataFrame, with the names of its columns
    return image if is_table else np.reshape(image, (1, -1))


def _are_several(transformer: Any, image: Any) -> bool:
    """Whether images are stacked or listed, or an axis is too long for one of channels."""
    if isinstance(image, list | tuple):
        first: Any = image[0] if image else None
        return isinstance(first, str | PathLike | Image.Image) or len(np.shape(first)) > 1
    shape = tuple(getattr(image, "shape", ()))
    if len(shape) == 3:
        n_channels = shape[0 if transformer.channels == "first" else 2]
        return n_channels not in (1, 3, 4, transformer._preprocessing.in_channels)
    return len(shape) == 4


def _run(module: torch.nn.Module, trace: Trace, layer: str, batch: torch.Tensor) -> torch.Tensor:
    """What a layer puts out, in its last run if it has several, for images of channels last."""
    seen: list[torch.Tensor] = []

    def record(tap: Tap, value: torch.Tensor) -> None:
        seen[:] = [value.clone()]  # the next layer may overwrite it

    with torch.inference_mode(), hooked(module, {trace.taps[layer]}, record):
        module(batch.permute(0, 3, 1, 2))
    return seen[0]
