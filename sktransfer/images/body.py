"""The image network as fine-tuning needs it: split into stages, and run from where it is tuned."""

import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer.finetuning.batches import ArrayInputs, Inputs
from sktransfer.finetuning.buffers import roomy
from sktransfer.finetuning.network import Body
from sktransfer.finetuning.strategy import FineTune
from sktransfer.finetuning.unfreezing import Stages
from sktransfer.images.pooling import Activation
from sktransfer.images.preprocessing import Preprocessing, normalised
from sktransfer.images.resuming import Passage, Resumption, follow, resumable
from sktransfer.images.staged import Read, StagedNetwork
from sktransfer.images.tracing import Trace
from sktransfer.networks.seeding import seeded


class ImageBody(Body):
    """A network for images, or what of it comes after its frozen part.

    Parameters
    ----------
    module : nn.Module
        In evaluation mode; it is trained in place.
    trace : Trace
    reads : tuple of Read
    """

    def __init__(self, module: nn.Module, trace: Trace, reads: tuple[Read, ...]) -> None:
        super().__init__()
        self.module = module
        self.trace = trace
        self.reads = reads
        self.passage = follow(module, trace)
        self.stages = stages_of(module, trace, reads, self.passage)
        self.begin: Resumption | str = "pixels"
        """From where it runs: pixels, "features" that are already there, or a layer."""

    def forward(self, batch: Tensor) -> Tensor:
        """Features of pixels, of a layer's activations, or as they are."""
        if self.begin == "features":
            return batch
        staged = StagedNetwork(self.module, self.trace, self.reads)
        if isinstance(self.begin, Resumption):
            shape = (len(batch), self.trace.in_channels, *self.trace.size)
            with self.begin(self.module, batch):
                return torch.cat(staged(batch.new_empty(shape)), 1)
        return torch.cat(staged(batch), 1)

    def with_maps(self, batch: Tensor, *, leaf: bool = False) -> tuple[Tensor, Tensor]:
        """Features, and the output of the deepest stage."""
        layer = self.stages.names[-1]
        seen: list[Tensor] = []

        def keep(module: nn.Module, inputs: Any, value: Tensor) -> Tensor:
            if leaf:
                value = value.detach().requires_grad_()
            seen.append(value)
            return value.clone()  # what follows may work in place

        handle = self.module.get_submodule(self.trace.taps[layer].module).register_forward_hook(
            keep
        )
        try:
            features = self(batch)
        finally:
            handle.remove()
        return features, seen[-1] if leaf else _as_maps(seen[-1], self.trace.activations[layer])

    def resume_points(self, trained: Sequence[str]) -> list[str]:
        """Stages that are done before anything that is trained runs, or is read."""
        first = min(self.stages.of[name] for name in trained)
        read = min(self.passage.done[self.trace.taps[read.layer].module] for read in self.reads)
        return [name for name in self.stages.names[:first] if self.passage.done[name] <= read]


class ImageInputs:
    """Images of the size that the network takes, changed at random for training.

    Parameters
    ----------
    pixels : ndarray of shape (n, height, width, channels)
        uint8, or float32 within [0, 1].
    how : Preprocessing
    change : callable or None
        From and to a tensor (channels, height, width).
    """

    mixable = True

    def __init__(
        self, pixels: np.ndarray, how: Preprocessing, change: Callable[..., Any] | None
    ) -> None:
        self.pixels = pixels
        self.how = how
        self.change = change

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, rows: np.ndarray, *, training: bool) -> Tensor:
        """Normalised images, (n, channels, height, width)."""
        pixels = self.pixels[rows]
        if training and self.change is not None:
            pixels = np.stack([changed(image, self.change) for image in pixels])
        return torch.from_numpy(normalised(pixels, self.how)).permute(0, 3, 1, 2)


def changed(image: np.ndarray, change: Callable[..., Any]) -> np.ndarray:
    """An image after a torchvision transform, channels last as before."""
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    result = change(tensor)
    if not isinstance(result, Tensor) or result.shape != tensor.shape:
        got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise ValueError(
            f"augment must return a tensor of the shape that it is given, {tuple(tensor.shape)}, "
            f"got {got}"
        )
    if image.dtype == np.uint8 and result.dtype != torch.uint8:
        raise ValueError(f"augment must keep the type of pixels, uint8, got {result.dtype}")
    return result.numpy().transpose(1, 2, 0)


class TunableImages:
    """Images and their network, for `sktransfer.finetuning.training.tune`.

    Parameters
    ----------
    body : ImageBody
    device : torch.device
    how : Preprocessing
    n : int
    activations : callable
        Vectors of some reads for all images as the frozen network computes them, (n, width);
        rows of NaN could not be read. Takes the reads and where to write.
    pixels : callable
        All images in the size of the network, and which could be read.
    """

    def __init__(
        self,
        body: ImageBody,
        device: torch.device,
        how: Preprocessing,
        n: int,
        activations: Callable[[tuple[Read, ...], np.ndarray], np.ndarray],
        pixels: Callable[[], tuple[np.ndarray, np.ndarray]],
    ) -> None:
        self.body = body
        self.device = device
        self._how = how
        self._n = n
        self._activations = activations
        self._pixels = pixels

    def __len__(self) -> int:
        return self._n

    def inputs(self, trained: tuple[str, ...], strategy: FineTune) -> tuple[Inputs, np.ndarray]:
        """Features, activations or pixels: the deepest that training leaves alone."""
        body = self.body
        body.begin = "pixels"
        if strategy.augment is None and strategy.cache_trunk:
            if not trained:
                body.begin = "features"
                return self._stored(body.reads, None)
            points = body.resume_points(trained)
            begin = resumable(body.module, body.trace, body.reads, points)
            if begin is not None:
                body.begin = begin
                shape = body.trace.activations[begin.layer].shape
                return self._stored((Read(begin.layer, "flatten"),), shape)
        pixels, readable = self._pixels()
        change = augmentation(strategy.augment, body.trace.size)
        return ImageInputs(pixels, self._how, change), readable

    def _stored(
        self, reads: tuple[Read, ...], shape: tuple[int, ...] | None
    ) -> tuple[Inputs, np.ndarray]:
        width = sum(read.width(self.body.trace) for read in reads)
        values = self._activations(reads, roomy((self._n, width), np.float32))
        readable = np.array([bool(np.isfinite(row).all()) for row in values])
        return ArrayInputs(values, shape or (width,)), readable


def stages_of(module: nn.Module, trace: Trace, reads: tuple[Read, ...], passage: Passage) -> Stages:
    """The stages with weights up to what is read, and to which each weight belongs."""

    def read_by(time: int) -> bool:
        return any(
            time < passage.done[tap.module]
            if (tap := trace.taps[read.layer]).side == "input"
            else time <= passage.done[tap.module]
            for read in reads
        )

    names = tuple(name for name in trace.stages if read_by(passage.done[name]))
    if not names:  # a layer before the first stage is read, or there are none
        names = (reads[-1].layer,)
    ends = [passage.done.get(trace.taps[name].module, 0) for name in names]

    def first_use(name: str) -> int:
        owner = name.rpartition(".")[0]
        while owner and owner not in passage.first:  # as inside nn.MultiheadAttention
            owner = owner.rpartition(".")[0]
        around = any(stage.startswith(f"{owner}.") or not owner for stage in names)
        return 0 if around else passage.first[owner]

    # A tied weight goes by several names and belongs to the first place where it is used.
    uses: dict[int, int] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        uses[id(parameter)] = min(first_use(name), uses.get(id(parameter), sys.maxsize))
    of = {
        name: min(sum(end < uses[id(parameter)] for end in ends), len(names) - 1)
        for name, parameter in module.named_parameters()
        if read_by(uses[id(parameter)])
    }
    # Pooling and the like have no weights, and are no stage to unfreeze.
    used = sorted(set(of.values())) or [len(names) - 1]
    return Stages(
        tuple(names[stage] for stage in used),
        {name: used.index(stage) for name, stage in of.items()},
    )


def augmentation(augment: Any, size: tuple[int, int]) -> Callable[..., Any] | None:
    """What `augment` stands for."""
    if not isinstance(augment, str):
        return augment
    from torchvision.transforms import v2

    light = [
        v2.RandomResizedCrop(size, scale=(0.7, 1.0), ratio=(0.9, 1.1), antialias=True),
        v2.RandomHorizontalFlip(),
    ]
    if augment == "light":
        return v2.Compose(light)
    return v2.Compose([*light, v2.TrivialAugmentWide(), v2.RandomErasing(p=0.25)])


def views_of(
    pixels: np.ndarray, change: Any, augment: Callable[..., Any] | None, seed: int
) -> Iterator[np.ndarray]:
    """Images as they are, then mirrored ("flip") or so many times changed at random."""
    yield pixels
    if change == "flip":
        yield np.ascontiguousarray(pixels[:, :, ::-1])
        return
    assert augment is not None
    for number in range(change):
        yield np.stack([_view(image, augment, seed + number) for image in pixels])


def _view(image: np.ndarray, augment: Callable[..., Any], seed: int) -> np.ndarray:
    """An image changed at random, whatever the images before it."""
    own = zlib.crc32(np.ascontiguousarray(image).tobytes())
    with seeded((seed + own) % 2**31):
        return changed(image, augment)


def _as_maps(values: Tensor, activation: Activation) -> Tensor:
    """Activations as (n, channels, positions)."""
    if activation.layout == "channels_first":
        return values.flatten(2) if values.ndim > 2 else values[:, :, None]
    if activation.layout == "vector":
        return values[:, :, None]
    return values.flatten(1, -2).transpose(1, 2)
