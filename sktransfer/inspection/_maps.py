"""What the pictures of a network share: its images as it gets them, and layers as maps."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sktransfer.exceptions import ImageReadError
from sktransfer.features.image import PretrainedCNNFeatures
from sktransfer.finetuning.estimator import FineTuned
from sktransfer.images.pooling import Activation
from sktransfer.images.runner import FailedImage, image_error, read_item
from sktransfer.images.sources import name_of
from sktransfer.images.tracing import Trace


def unwrapped(estimator: Any) -> Any:
    """The best estimator of a fitted search, what a FrozenEstimator holds, or the estimator."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif type(estimator).__name__ == "FrozenEstimator":
            estimator = estimator.estimator
        else:
            return estimator


def image_transformer(estimator: Any, name: str) -> PretrainedCNNFeatures:
    """The fitted network for images in an estimator.

    Parameters
    ----------
    estimator : PretrainedCNNFeatures, FineTuned, Pipeline that begins with one, or search
    name : str
        What the caller calls it, for errors.

    Raises
    ------
    TypeError
        There is none.
    NotFittedError
        It is not fitted.
    """
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


def pixels_of(transformer: PretrainedCNNFeatures, X: Any) -> np.ndarray:
    """Images resized and cropped as the network gets them, (n, height, width, channels).

    uint8 if all are, else float32 within [0, 1].

    Raises
    ------
    ImageReadError
        An image cannot be read, whatever the transformer's `on_error`: there is nothing to show.
    """
    items = transformer._items(X, transformer._preprocessing.in_channels, reset=False)
    read = transformer._fitted_reader()
    images = []
    for index in range(len(items)):
        image = read_item(items, index, read)
        if isinstance(image, ImageReadError):
            raise image_error(FailedImage(index, name_of(items, index), str(image))) from image
        images.append(image)
    if len({image.dtype for image in images}) > 1:
        images = [image / np.float32(255) if image.dtype == np.uint8 else image for image in images]
    return np.stack(images)


def grid_of(activation: Activation, size: tuple[int, int]) -> tuple[int, int] | None:
    """Height and width of a layer seen as a map; None for a vector or a mere list of positions.

    Tokens and flattened positions are taken to lie row by row on a grid with the aspect ratio of
    the image, after the class token and registers.

    Parameters
    ----------
    activation : Activation
    size : tuple of int
        Height and width of the image.
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
    """A batch of activations of a layer with a grid, as (n, channels, height, width)."""
    grid = grid_of(activation, size)
    assert grid is not None
    if activation.layout == "channels_first":
        return values.reshape(*values.shape[:2], *grid)
    if activation.layout == "tokens":
        values = values[:, activation.prefix_tokens :]
        values = values.reshape(len(values), *grid, values.shape[-1])
    return values.permute(0, 3, 1, 2)


def has_map(trace: Trace, layer: str) -> bool:
    """Whether a layer puts out a map of more than one position."""
    grid = grid_of(trace.activations[layer], trace.size)
    return grid is not None and math.prod(grid) > 1


def layers_to_show(transformer: PretrainedCNNFeatures, trace: Trace, layer: Any) -> tuple[str, ...]:
    """Names of the layers that come into question as a map, the first choice first.

    Without `layer` these are the layers read that are maps, deepest first; then the stages,
    deepest first.

    Raises
    ------
    ValueError
        The layer is none, is no map, or there is none.
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
        raise ValueError(
            f"layer={layer!r} puts out shape {trace.activations[name].shape} for images of "
            f"{trace.size[0]} x {trace.size[1]} pixels, which is no map of several positions; "
            f"{_would_do(trace, trace.stages)}"
        )
    return (name,)


def _would_do(trace: Trace, layers: Sequence[str]) -> str:
    names = [name for name in layers if has_map(trace, name)]
    if not names:
        return "no stage does, so fit with a larger image_size"
    return f"layers that would do are {names}"


def show_image(ax: Any, image: np.ndarray) -> Any:
    """Draw an image of one channel, of three, or the mean of any other number."""
    if image.shape[2] not in (1, 3):
        image = image.mean(axis=2, keepdims=True)
    if image.shape[2] == 3:
        return ax.imshow(image)
    top = 255 if image.dtype == np.uint8 else 1
    return ax.imshow(image[:, :, 0], cmap="gray", vmin=0, vmax=top)


def grey(image: np.ndarray) -> np.ndarray:
    """An image without its colours, on which those of a heatmap can be told."""
    return image.mean(axis=2, keepdims=True).astype(image.dtype)
