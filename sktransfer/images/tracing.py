"""Layers, shapes, head and stages of an image network, found by running it once."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.images.calling import argument_of, call, noise_for
from sktransfer.images.heads import find_head, is_usual_head
from sktransfer.images.pooling import Activation, Layout, pool
from sktransfer.images.stages import find_stages
from sktransfer.networks.hooks import Tap
from sktransfer.networks.layers import Execution, Output, Read, first_tensor, watch_execution

PENULTIMATE = "penultimate"
OUTPUT = "output"

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
        return one tensor, stages that return it first in a tuple, "penultimate" and "output".
    taps : dict of str to Tap
        The input or output of a module that each of them is.
    stages : tuple of str
        The main blocks, shallow to deep.
    execution : Execution
    size : tuple of int
        Height and width of the images, in pixels.
    in_channels : int
    argument : str or None, default=None
        Name by which the network takes its images; None if their position will do.
    doubt : str, default=""
        Why there is no layer "penultimate".
    format : int, default=1
        Raised with the version of this package in which a layer of this network came to stand for
        other numbers.
    """

    activations: Mapping[str, Activation]
    taps: Mapping[str, Tap]
    stages: tuple[str, ...]
    execution: Execution
    size: tuple[int, int]
    in_channels: int
    argument: str | None = None
    doubt: str = ""
    format: int = 1

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
            raise ValueError(self._no_such_layer(layer))
        if not self.stages:
            raise ValueError(
                f"layer={layer!r} is the number of a stage, and this backbone has no stages that "
                f"can be read; name a layer, such as {self._last_layers()}"
            )
        if not -len(self.stages) <= layer < len(self.stages):
            raise ValueError(
                f"layer={layer!r} is not a stage of this backbone: it has {len(self.stages)} "
                f"stages, {list(self.stages)}"
            )
        return self.stages[layer]

    def candidates(self) -> tuple[str, ...]:
        """What ``layer="auto"`` chooses among: the stages, and "penultimate" where it is known.

        Raises
        ------
        ValueError
            The network has no stages.
        """
        if not self.stages:
            raise ValueError(
                "layer='auto' chooses among the stages of a network, and this backbone has none "
                f"that can be read; name a layer, such as {self._last_layers()}"
            )
        return (*self.stages, *([PENULTIMATE] if PENULTIMATE in self.activations else []))

    def _no_such_layer(self, layer: str) -> str:
        stages = f"its stages are {list(self.stages)}" if self.stages else "it has no stages"
        if layer == PENULTIMATE:
            why = self.doubt or "the last layer of this network is no classifier"
            return (
                f"layer={layer!r} is not known for this backbone: {why}; name the layer to read, "
                f"such as {self._last_layers()}; {stages}"
            )
        near = difflib.get_close_matches(layer, self.activations, n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        example = [*self.activations][-1]
        return (
            f"layer={layer!r} is not a layer of this backbone that puts out one tensor; {hint}"
            f"{stages}, and `layers_` of an estimator fitted with layer={example!r} lists all"
        )

    def _last_layers(self) -> str:
        return " or ".join(map(repr, [*self.activations][-3:]))

    # --- as `sktransfer.networks.layers.Trace` asks for it --------------------------------

    @property
    def static_shape(self) -> tuple[int, ...]:
        """Images, height, width, channels."""
        return (-1, *self.size, self.in_channels)

    def run(self, module: nn.Module, *inputs: Tensor) -> Any:
        """Call a network on images of shape (n, channels, height, width)."""
        return call(module, self.argument, *inputs)

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
        value = first_tensor(value)
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
    argument = argument_of(module)
    outputs, inputs, execution = _shapes(module, argument, size, in_channels)
    shapes = {tap.module: shape for tap, (shape, _) in outputs.items()}
    into = {tap.module: shape for tap, (shape, _) in inputs.items()}
    in_tuples = {tap.module for tap, (_, in_tuple) in outputs.items() if in_tuple}
    single = {name: shape for name, shape in shapes.items() if name not in in_tuples}
    ran = sorted(execution.times, key=lambda name: execution.times[name][-1])
    noise = noise_for(module, (2, in_channels, *size))
    head = find_head(module, ran, into, single, lambda: call(module, argument, noise))

    taps = {tap.module: tap for tap in outputs}
    entering = next((tap for tap in inputs if tap.module == head.name), None)
    if entering is not None:
        taps[PENULTIMATE], shapes[PENULTIMATE] = entering, into[entering.module]
    elif "" in single and not head.doubt:
        taps[PENULTIMATE], shapes[PENULTIMATE] = taps[""], shapes[""]
    if "" in single:  # the output of the network as a whole
        taps[OUTPUT], shapes[OUTPUT] = taps[""], shapes[""]
    taps.pop("", None)
    shapes.pop("", None)
    activations = _layouts(module, argument, shapes, size, in_channels)
    activations = _mark_prefix_tokens(module, activations)
    take_vectors = {name for name, shape in into.items() if len(shape) == 1}
    no_stages = take_vectors if head.name is None else {*take_vectors, head.name}
    stages = find_stages(module, activations, execution.times, no_stages)
    # What begins a tuple need not be what goes on to the next layer, unless it is a main block's.
    for name in in_tuples - {"", *stages}:
        del taps[name], activations[name]
    if not activations:
        raise ValueError("the backbone has no layer that puts out one tensor")
    usual = head.name is None or is_usual_head(head.name, module.get_submodule(head.name))
    return ImageTrace(
        activations,
        taps,
        stages,
        execution,
        size,
        in_channels,
        argument=argument,
        doubt=head.doubt,
        format=1 if usual else 2,
    )


_Shapes = dict[Tap, tuple[tuple[int, ...], bool]]
"""Shape for one image, and whether the tensor is the first of a tuple."""


def _shapes(
    module: nn.Module, argument: str | None, size: tuple[int, int], in_channels: int
) -> tuple[_Shapes, _Shapes, Execution]:
    """Shapes of outputs and inputs at the last call of each module, in order of completion."""
    last: dict[tuple[str, str], tuple[Tap, tuple[tuple[int, ...], bool] | None]] = {}

    def record(tap: Tap, value: Any) -> None:
        tensor = first_tensor(value)
        usable = tensor is not None and 2 <= tensor.ndim <= 4 and tensor.is_floating_point()
        found = None
        if tensor is not None and usable and len(tensor) == _PROBES:
            found = tuple(tensor.shape[1:]), isinstance(value, tuple)
        last.pop((tap.module, tap.side), None)
        last[tap.module, tap.side] = tap, found

    parameter = next(iter(module.parameters()), torch.zeros(()))
    image = torch.zeros(_PROBES, in_channels, *size, dtype=torch.float32, device=parameter.device)
    try:
        execution, _ = watch_execution(
            module, lambda: call(module, argument, image), _PROBES, record
        )
    except Exception as error:  # a foreign network may raise anything
        raise ValueError(
            f"the backbone cannot process images of {size[0]} x {size[1]} pixels with "
            f"{in_channels} channels ({type(error).__name__}: {error}); set image_size to one it "
            "takes. The channels are those of its first Conv2d, or 3"
        ) from error
    outputs, inputs = (
        {tap: found for tap, found in last.values() if tap.side == side and found is not None}
        for side in ("output", "input")
    )
    return outputs, inputs, execution


def _layouts(
    module: nn.Module,
    argument: str | None,
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
            larger, _, _ = _shapes(module, argument, (2 * size[0], 2 * size[1]), in_channels)
            grown = {tap.module: shape for tap, (shape, _) in larger.items()}
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
