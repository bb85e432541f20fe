"""The image network as fine-tuning trains it, and the inputs of its training."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer.finetuning.batches import ArrayInputs, Inputs
from sktransfer.finetuning.buffers import allocate
from sktransfer.finetuning.network import Body
from sktransfer.finetuning.protocols import Tunable
from sktransfer.finetuning.strategy import FineTune
from sktransfer.finetuning.unfreezing import stages_of
from sktransfer.images.augmenting import ImageChange, image_change
from sktransfer.images.pooling import Activation
from sktransfer.images.preprocessing import Preprocessing, normalised
from sktransfer.images.tracing import ImageTrace
from sktransfer.networks.early_exit import LayerReader
from sktransfer.networks.layers import Read, first_tensor
from sktransfer.networks.resuming import Resumption


class ImageBody(Body):
    """A network for images, or the part of it after its frozen layers.

    Parameters
    ----------
    module : nn.Module
        In evaluation mode; it is trained in place.
    trace : ImageTrace
    reads : tuple of Read
    """

    trace: ImageTrace

    def __init__(self, module: nn.Module, trace: ImageTrace, reads: tuple[Read, ...]) -> None:
        super().__init__()
        self.module = module
        self.trace = trace
        self.reads = reads
        self.stages = stages_of(module, trace, reads)

    def forward(self, batch: Tensor) -> Tensor:
        """Features of pixels, of a layer's activations, or as they are."""
        if self.begin == "features":
            return batch
        reader = LayerReader(self.module, self.trace, self.reads)
        if isinstance(self.begin, Resumption):
            shape = (len(batch), self.trace.in_channels, *self.trace.size)
            with self.begin(self.module, batch):
                return torch.cat(reader(batch.new_empty(shape)), 1)
        return torch.cat(reader(batch), 1)

    @property
    def n_positions(self) -> int:
        """Number of positions in the maps of the deepest stage."""
        activation = self.trace.activations[self.stages.names[-1]]
        if activation.layout == "channels_first":
            return math.prod(activation.shape[1:])
        return math.prod(activation.shape[:-1])

    def with_maps(self, batch: Tensor, *, leaf: bool = False) -> tuple[Tensor, Tensor]:
        """Features, and the output of the deepest stage."""
        layer = self.stages.names[-1]
        seen: list[Tensor] = []

        def keep(module: nn.Module, inputs: Any, value: Any) -> Any:
            maps = first_tensor(value)
            assert maps is not None  # as it was when the network was traced
            if leaf:
                maps = maps.detach().requires_grad_()
            seen.append(maps)
            goes_on = maps.clone()  # what follows may work in place
            return (goes_on, *value[1:]) if isinstance(value, tuple) else goes_on

        handle = self.module.get_submodule(self.trace.taps[layer].module).register_forward_hook(
            keep
        )
        try:
            features = self(batch)
        finally:
            handle.remove()
        return features, seen[-1] if leaf else _as_maps(seen[-1], self.trace.activations[layer])


class ImageInputs:
    """Images of the size that the network takes, changed at random for training.

    Pixels have shape (n, height, width, channels), and are uint8, or float32 within [0, 1].
    """

    mixable = True

    def __init__(
        self, pixels: np.ndarray, preprocessing: Preprocessing, change: ImageChange | None
    ) -> None:
        self.pixels = pixels
        self.preprocessing = preprocessing
        self.change = change

    def batch(self, rows: np.ndarray, *, training: bool) -> Tensor:
        """Normalised images, (n, channels, height, width)."""
        pixels = self.pixels[rows]
        if training and self.change is not None:
            pixels = self.change(pixels)
        return torch.from_numpy(normalised(pixels, self.preprocessing)).permute(0, 3, 1, 2)


class TunableImages(Tunable):
    """Images and their network, for `sktransfer.finetuning.training.tune`.

    Parameters
    ----------
    body : ImageBody
    device : torch.device
    preprocessing : Preprocessing
    n : int
        Number of images.
    activations : callable
        Computes some reads of all images by the frozen network into an array of shape (n, width),
        and returns it with a mask of the images that could be read.
    pixels : callable
        Returns all images in the size of the network, and the mask.
    """

    samples = "images"
    augments = True
    body: ImageBody

    def __init__(
        self,
        body: ImageBody,
        device: torch.device,
        preprocessing: Preprocessing,
        n: int,
        activations: Callable[[tuple[Read, ...], np.ndarray], tuple[np.ndarray, np.ndarray]],
        pixels: Callable[[], tuple[np.ndarray, np.ndarray]],
    ) -> None:
        super().__init__(body, device)
        self._preprocessing = preprocessing
        self._n = n
        self._compute = activations
        self._pixels = pixels

    def _features(self) -> tuple[Inputs, np.ndarray]:
        width = sum(map(self.body.trace.width, self.body.reads))
        return self._computed(self.body.reads, (width,))

    def _activations(self, layer: str) -> tuple[Inputs, np.ndarray]:
        shape = self.body.trace.activations[layer].shape
        return self._computed((Read(layer, "flatten"),), shape)

    def _computed(
        self, reads: tuple[Read, ...], shape: tuple[int, ...]
    ) -> tuple[Inputs, np.ndarray]:
        out = allocate((self._n, math.prod(shape)), np.float32)
        values, readable = self._compute(reads, out)
        return ArrayInputs(values, shape), readable

    def _samples(self, strategy: FineTune) -> tuple[Inputs, np.ndarray]:
        change = image_change(strategy, self.body.trace.size)
        pixels, readable = self._pixels()
        return ImageInputs(pixels, self._preprocessing, change), readable


def _as_maps(values: Tensor, activation: Activation) -> Tensor:
    """Activations as (n, channels, positions)."""
    if activation.layout == "channels_first":
        return values.flatten(2) if values.ndim > 2 else values[:, :, None]
    if activation.layout == "vector":
        return values[:, :, None]
    return values.flatten(1, -2).transpose(1, 2)
