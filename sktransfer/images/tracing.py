"""Layers, shapes, head and stages of an image network, found by running it once."""

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.images.pooling import Activation, Layout, pool
from sktransfer.networks.hooks import Tap
from sktransfer.networks.layers import Execution, Output, Read, watch_execution

PENULTIMATE = "penultimate"
OUTPUT = "output"

# A child is the trunk if it holds this share of its level's weight matrices: stems and necks
# beside it (NFNet's stem has four convolutions) hold a few, while the largest of ResNet-152's
# four stages holds 0.7.
_TRUNK_SHARE = 0.9

# Blank images in a tracing pass. A layer whose first axis is not the batch (attention windows,
# tokens first, positional embeddings) has another length there, and is not offered.
_PROBES = 5

# Layers whose three-axis output is (batch, channels, positions) by torch's convention.
_ONE_DIMENSIONAL = (
    nn.Conv1d,
    nn.BatchNorm1d,
    nn.MaxPool1d,
    nn.AvgPool1d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveMaxPool1d,
)


@dataclass(frozen=True)
class ImageTrace:
    """The layers of a network for images of one size.

    Parameters
    ----------
    activations : dict of str to Activation
        Layers that can be read, in order of execution: the names of ``named_modules()`` that
        return one tensor, "penultimate" and "output".
    taps : dict of str to Tap
        The input or output of a module that each of them is.
    stages : tuple of str
        The main blocks, shallow to deep.
    execution : Execution
    size : tuple of int
        Height and width of the images, in pixels.
    in_channels : int
    """

    activations: Mapping[str, Activation]
    taps: Mapping[str, Tap]
    stages: tuple[str, ...]
    execution: Execution
    size: tuple[int, int]
    in_channels: int

    def resolve(self, layer: str | int) -> str:
        """Name of a layer given by its name or by its stage number.

        Raises
        ------
        ValueError
            No such layer or stage; the message lists them.
        """
        if isinstance(layer, str):
            if layer in self.activations:
                return layer
            near = difflib.get_close_matches(layer, self.activations, n=3)
            hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
            raise ValueError(
                f"layer={layer!r} is not a layer of this backbone that puts out one tensor; {hint}"
                f"its stages are {list(self.stages)}, and `layers_` of an estimator fitted with "
                "layer='penultimate' lists all"
            )
        if not -len(self.stages) <= layer < len(self.stages):
            raise ValueError(
                f"layer={layer!r} is not a stage of this backbone: it has {len(self.stages)} "
                f"stages, {list(self.stages)}"
            )
        return self.stages[layer]

    # --- as `sktransfer.networks.layers.Trace` asks for it --------------------------------

    @property
    def static_shape(self) -> tuple[int, ...]:
        """Images, height, width, channels."""
        return (-1, *self.size, self.in_channels)

    def run(self, module: nn.Module, *inputs: Tensor) -> Any:
        """Call a network on images of shape (n, channels, height, width)."""
        return module(*inputs)

    def from_arrays(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """View images with their channels last as torch has them.

        Nothing is copied, and convolutions on a CPU run two to five times faster on this layout
        (torch's ``channels_last``).
        """
        (pixels,) = arrays
        return (pixels.permute(0, 3, 1, 2),)

    def examples(self, thorough: bool = False) -> list[tuple[Tensor, ...]]:
        """Noise, of different ranges and sizes of batch if it is to be thorough."""
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn((3, *self.size, self.in_channels), generator=generator)
        more = [noise.abs() / 4, noise[:1] * 60 - 100] if thorough else []
        return [(each,) for each in (noise, *more)]

    def without_content(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Images of NaN."""
        return tuple(torch.full_like(each, torch.nan) for each in inputs)

    def blank_shape(self, output: Output, values: Tensor) -> tuple[int, ...]:
        """Shape of a module's output for as many images as there are `values`."""
        return (len(values), *output.shape)

    def pool(self, read: Read, value: Any, *inputs: Tensor) -> Tensor:
        """Pool a layer's output over its positions.

        Raises
        ------
        ValueError
            The output has another shape than when the network was traced.
        """
        activation = self.activations[read.layer]
        # While a compiler traces, shapes are no numbers; it has seen real ones before.
        if not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            expected = (len(inputs[0]), *activation.shape)
            if tuple(value.shape) != expected:
                raise ValueError(
                    f"layer {read.layer!r} put out shape {tuple(value.shape)} for {expected[0]} "
                    f"images, expected {expected}; choose a layer with one row per image"
                )
        return pool(value, activation, read.pooling)

    def reads(self, layers: Sequence[str], poolings: Sequence[str]) -> tuple[Read, ...]:
        """The reads of some layers; one that returns a vector is flattened."""
        return tuple(
            Read(layer, pooling)
            for layer in layers
            for pooling in (poolings if self.activations[layer].is_spatial else ("flatten",))
        )

    def usual_reads(self) -> tuple[Read, ...]:
        """Mean and maximum of every stage and of what the classifier sees."""
        layers = [*self.stages, *([PENULTIMATE] if PENULTIMATE in self.activations else [])]
        return self.reads(layers, ("mean", "max"))

    def width(self, read: Read) -> int:
        """Length of the vector of a read."""
        return self.activations[read.layer].width(read.pooling)


def trace_network(module: nn.Module, size: tuple[int, int], in_channels: int) -> ImageTrace:
    """Run blank images through a network and record the output of each layer.

    Widths come from this pass, never from attributes such as ``num_features``,
    which some networks state wrongly.

    Parameters
    ----------
    module : nn.Module
        In evaluation mode.
    size : tuple of int
        Height and width of the images, in pixels.
    in_channels : int

    Raises
    ------
    ValueError
        The network cannot take images of this size or number of channels.
    """
    outputs, inputs, execution = _shapes(module, size, in_channels)
    head = _head(module, [tap.module for tap in outputs])
    taps = {tap.module: tap for tap in outputs}
    shapes = {tap.module: shape for tap, shape in outputs.items()}
    entering = next((tap for tap in inputs if tap.module == head), None)
    if entering is not None:
        taps[PENULTIMATE], shapes[PENULTIMATE] = entering, inputs[entering]
    elif "" in shapes:
        taps[PENULTIMATE], shapes[PENULTIMATE] = taps[""], shapes[""]
    if "" in shapes:  # the output of the network as a whole
        taps[OUTPUT], shapes[OUTPUT] = taps.pop(""), shapes.pop("")
    if not shapes:
        raise ValueError("the backbone has no layer that puts out one tensor")
    activations = _layouts(module, shapes, size, in_channels)
    activations = _mark_prefix_tokens(module, activations)
    stages = find_stages(module, activations)
    return ImageTrace(activations, taps, stages, execution, size, in_channels)


_Shapes = dict[Tap, tuple[int, ...]]


def _shapes(
    module: nn.Module, size: tuple[int, int], in_channels: int
) -> tuple[_Shapes, _Shapes, Execution]:
    """Shapes of outputs and inputs at the last call of each module, in order of completion."""
    last: dict[tuple[str, str], tuple[Tap, tuple[int, ...] | None]] = {}

    def record(tap: Tap, value: Any) -> None:
        usable = isinstance(value, Tensor) and 2 <= value.ndim <= 4 and value.is_floating_point()
        shape = tuple(value.shape[1:]) if usable and len(value) == _PROBES else None
        last.pop((tap.module, tap.side), None)
        last[tap.module, tap.side] = tap, shape

    parameter = next(iter(module.parameters()), torch.zeros(()))
    image = torch.zeros(_PROBES, in_channels, *size, dtype=torch.float32, device=parameter.device)
    try:
        execution, _ = watch_execution(module, lambda: module(image), _PROBES, record)
    except Exception as error:  # a foreign network may raise anything
        raise ValueError(
            f"the backbone cannot process images of {size[0]} x {size[1]} pixels with "
            f"{in_channels} channels ({type(error).__name__}: {error}); set image_size to one it "
            "takes. The channels are those of its first Conv2d, or 3"
        ) from error
    outputs, inputs = (
        {tap: shape for tap, shape in last.values() if tap.side == side and shape is not None}
        for side in ("output", "input")
    )
    return outputs, inputs, execution


def _layouts(
    module: nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    size: tuple[int, int],
    in_channels: int,
) -> dict[str, Activation]:
    """Tell what the axes of each layer's output mean."""
    modules = dict(module.named_modules())
    doubtful = {
        name for name, shape in shapes.items() if len(shape) == 3 and _fits(shape[:2], size)
    }
    grown: Mapping[str, tuple[int, ...]] = {}
    if doubtful:
        try:  # only a larger image shows whether the first axis is a side or the channels
            larger, _, _ = _shapes(module, (2 * size[0], 2 * size[1]), in_channels)
            grown = {tap.module: shape for tap, shape in larger.items()}
        except ValueError:  # a network of one fixed size
            grown = {}

    def layout(name: str, shape: tuple[int, ...]) -> Layout:
        if len(shape) == 1:
            return "vector"
        if len(shape) == 2:
            channels_first = name in modules and _puts_channels_first(modules[name])
            return "channels_first" if channels_first else "tokens"
        if name not in doubtful:
            return "channels_first"
        if name in grown:
            return "channels_last" if grown[name][0] != shape[0] else "channels_first"
        says_so = str(getattr(module, "output_fmt", "")) == "NHWC"  # timm
        return "channels_last" if says_so or not _fits(shape[1:], size) else "channels_first"

    return {name: Activation(shape, layout(name, shape)) for name, shape in shapes.items()}


def _fits(sides: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Whether two axes have the aspect ratio of the image, to a pixel."""
    return abs(sides[0] * size[1] - sides[1] * size[0]) <= max(size)


def _puts_channels_first(layer: nn.Module) -> bool:
    """Whether a layer with two axes per image returns (C, positions) rather than tokens."""
    return isinstance(layer, _ONE_DIMENSIONAL) or (
        isinstance(layer, nn.Flatten) and layer.start_dim == 2
    )


def _mark_prefix_tokens(
    module: nn.Module, activations: dict[str, Activation]
) -> dict[str, Activation]:
    """Note class token and registers in the layers that carry them."""
    names = {name.rpartition(".")[2] for name, _ in module.named_parameters()}
    class_token = bool(names & {"cls_token", "class_token"})
    prefix = getattr(module, "num_prefix_tokens", None)  # timm
    if not isinstance(prefix, int):
        prefix = int(class_token)
    grids = [a.shape[0] for a in activations.values() if a.layout == "tokens"]
    if prefix == 0 or not grids:
        return activations
    # The patch embedding has no class token yet: its grid is shorter than the last one.
    return {
        name: Activation(a.shape, a.layout, prefix, class_token)
        if a.layout == "tokens" and a.shape[0] == grids[-1]
        else a
        for name, a in activations.items()
    }


def _head(module: nn.Module, ran: Collection[str]) -> str | None:
    """Name of the classifier: the last layer with parameters, if it maps features to outputs."""
    names = {layer: name for name, layer in module.named_modules()}
    # timm; a distilled network has two classifiers, that of the labels first.
    get_classifier: Any = getattr(module, "get_classifier", None)
    if get_classifier is not None:
        classifier = get_classifier()
        classifier = classifier[0] if isinstance(classifier, tuple) else classifier
        if isinstance(classifier, nn.Linear) and names.get(classifier) in ran:
            return names[classifier]
    last = None
    for name in ran:
        layer = module.get_submodule(name)
        if not any(layer.children()) and any(True for _ in layer.parameters(recurse=False)):
            last = name
    if last is None:
        return None
    layer = module.get_submodule(last)
    if isinstance(layer, nn.Linear):
        return last
    # SqueezeNet classifies by a 1 x 1 convolution; elsewhere such a layer is a feature.
    in_classifier = last.partition(".")[0] in ("classifier", "head", "fc")
    if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and in_classifier:
        return last
    return None


def find_stages(module: nn.Module, activations: Mapping[str, Activation]) -> tuple[str, ...]:
    """Names of a network's main blocks, shallow to deep.

    Going down from the root, a child that holds nearly all weight matrices of its
    level leads further down; at the first level without such a child, its blocks are
    the stages. A level of plain layers, as in VGG, is cut where the resolution
    changes.
    """
    order = {name: position for position, name in enumerate(activations)}
    level: nn.Module = module
    prefix = ""
    while True:
        children = [
            (name, child)
            for name, child in _executed_children(level, prefix, activations)
            if activations[name].is_spatial
        ]
        children.sort(key=lambda item: order[item[0]])
        deep = [item for item in children if _n_matrices(item[1]) >= 2 and any(item[1].children())]
        if not deep:
            break
        name, child = max(deep, key=lambda item: _n_matrices(item[1]))
        if _n_matrices(child) < _TRUNK_SHARE * sum(_n_matrices(c) for _, c in children):
            break
        prefix, level = name + ".", child
    if deep:
        return tuple(n for n, c in children if any(c.children()) and _n_matrices(c) >= 1)
    names = [name for name, _ in children]
    return tuple(
        name
        for name, after in zip(names, [*names[1:], None], strict=False)
        if after is None or activations[after].resolution != activations[name].resolution
    )


def _executed_children(
    level: nn.Module, prefix: str, activations: Mapping[str, Activation]
) -> Iterator[tuple[str, nn.Module]]:
    """Children that ran; the members of a list that never runs itself count as children."""
    for name, child in level.named_children():
        full = prefix + name
        if full in activations:
            yield full, child
        elif isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from _executed_children(child, full + ".", activations)


def _n_matrices(module: nn.Module) -> int:
    return sum(parameter.ndim >= 2 for parameter in module.parameters())
