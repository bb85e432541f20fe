"""The image network inside an estimator, and activations of its layers as maps."""

import math
from typing import TYPE_CHECKING

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sktransfer._composites import unwrapped
from sktransfer.features.image import PretrainedCNNFeatures
from sktransfer.finetuning.estimator import FineTuned
from sktransfer.images.pooling import Activation
from sktransfer.images.tracing import ImageTrace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage


def image_transformer(estimator: object, name: str) -> PretrainedCNNFeatures:
    """The fitted transformer of images inside an estimator."""
    found = unwrapped(estimator)
    if isinstance(found, Pipeline):
        found = unwrapped(found.steps[0][1])
    if isinstance(found, FineTuned):
        check_is_fitted(found)
        found = found.features_
    if not isinstance(found, PretrainedCNNFeatures):
        raise TypeError(
            f"{name} must be a fitted PretrainedCNNFeatures, a Pipeline whose first step is one, a "
            "FineTunedClassifier or FineTunedRegressor for images, or a fitted search over these; "
            f"got {found!r}"
        )
    check_is_fitted(found)
    return found


def grid_of(activation: Activation, size: tuple[int, int]) -> tuple[int, int] | None:
    """Height and width of a layer's map; None if its output is no map.

    Tokens and flattened positions are assumed to lie row by row on a grid with the aspect ratio
    of the image, after the class token and registers.
    """
    if activation.layout == "vector":
        return None
    if activation.layout == "channels_last" or len(activation.shape) == 3:
        height, width = activation.resolution
        return height, width
    n_positions = activation.resolution[0] - activation.prefix_tokens
    height = round(math.sqrt(max(n_positions, 1) * size[0] / size[1]))
    width = n_positions // max(height, 1)
    return (height, width) if height * width == n_positions > 0 else None


def as_maps(values: Tensor, activation: Activation, size: tuple[int, int]) -> Tensor:
    """Reshape a batch of activations to maps, (n, channels, height, width).

    `grid_of` must not be None for the activation.
    """
    grid = grid_of(activation, size)
    assert grid is not None
    if activation.layout == "channels_first":
        return values.reshape(*values.shape[:2], *grid)
    if activation.layout == "tokens":
        values = values[:, activation.prefix_tokens :]
        values = values.reshape(len(values), *grid, values.shape[-1])
    return values.permute(0, 3, 1, 2)


def has_map(trace: ImageTrace, layer: str) -> bool:
    """Whether a layer puts out a map of more than one position."""
    grid = grid_of(trace.activations[layer], trace.size)
    return grid is not None and math.prod(grid) > 1


def layers_to_show(
    transformer: PretrainedCNNFeatures, trace: ImageTrace, layer: str | int | None
) -> tuple[str, ...]:
    """Names of the layers to show as a map, in order of preference.

    If `layer` is None, the candidates are the layers that the transformer reads, then the stages,
    each from deep to shallow, without those whose output is no map.
    """
    if layer is None:
        order = list(trace.activations)
        read = sorted(dict.fromkeys(transformer.layer_), key=order.index, reverse=True)
        names = [name for name in (*read, *reversed(trace.stages)) if has_map(trace, name)]
        if names:
            return tuple(dict.fromkeys(names))
        raise ValueError(
            f"none of the stages {list(trace.stages)} puts out a map of more than one position for "
            f"images of {trace.size[0]} x {trace.size[1]} pixels; fit with a larger image_size"
        )
    name = trace.resolve(layer)
    if not has_map(trace, name):
        others = [each for each in trace.stages if has_map(trace, each)]
        raise ValueError(
            f"layer={layer!r} puts out shape {trace.activations[name].shape} for images of "
            f"{trace.size[0]} x {trace.size[1]} pixels, which is no map of several positions; "
            + (
                f"layers that would do are {others}"
                if others
                else "no stage does, so fit with a larger image_size"
            )
        )
    return (name,)


def show_image(ax: "Axes", image: np.ndarray) -> "AxesImage":
    """Draw an image; if it has neither one channel nor three, draw the mean of its channels."""
    if image.shape[2] not in (1, 3):
        image = image.mean(axis=2, keepdims=True)
    if image.shape[2] == 3:
        return ax.imshow(image)
    top = 255 if image.dtype == np.uint8 else 1
    return ax.imshow(image[:, :, 0], cmap="gray", vmin=0, vmax=top)


def to_grey(image: np.ndarray) -> np.ndarray:
    """An image without colours, so that those of a heatmap on it stand out."""
    return image.mean(axis=2, keepdims=True).astype(image.dtype)
