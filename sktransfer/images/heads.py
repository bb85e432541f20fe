"""The classifier of an image network, whose input is what ``layer="penultimate"`` reads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.images.stages import n_own_matrices
from sktransfer.networks.hooks import Tap, hooked

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of inputs or outputs for one image, by module, as far as these are single tensors."""

_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Head:
    """What is known of a network's classifier.

    Parameters
    ----------
    name : str or None
        The module whose input are the features; None if the network has none.
    doubt : str, default=""
        Why it cannot be told whether the network has one; empty if it can.
    """

    name: str | None
    doubt: str = ""


def find_head(
    module: nn.Module,
    ran: list[str],
    inputs: Shapes,
    outputs: Shapes,
    run_on_noise: Callable[[], Any],
) -> Head:
    """The layer that maps features to what the network puts out.

    Parameters
    ----------
    module : nn.Module
    ran : list of str
        Modules in the order in which their last calls returned.
    inputs, outputs : dict of str to tuple of int
        Shapes for one image at the last call of each module.
    run_on_noise : callable
        Calls the network on a few images.
    """
    names = {layer: name for name, layer in module.named_modules()}
    # timm; a distilled network has two classifiers, that of the labels first.
    get_classifier: Any = getattr(module, "get_classifier", None)
    if get_classifier is not None:
        classifier = get_classifier()
        classifier = classifier[0] if isinstance(classifier, tuple) else classifier
        if isinstance(classifier, nn.Linear) and names.get(classifier) in ran:
            return Head(names[classifier])
    layers = {name: module.get_submodule(name) for name in ran}
    leaves = [n for n, m in layers.items() if not any(m.children())]
    weighted = [n for n in leaves if any(True for _ in layers[n].parameters(recurse=False))]
    for name in weighted[-1:]:
        if is_usual_head(name, layers[name]) and _puts_out_all(name, inputs, outputs):
            return Head(name)
    # Modules around others return after them, and are no layers.
    matrices = [n for n in ran if n_own_matrices(layers[n])]
    matrices = [n for n in matrices if not any(_is_inside(other, n) for other in matrices)]
    last = matrices[-1] if matrices else None
    if last is not None and _maps_vectors(last, layers[last], inputs, outputs):
        return Head(last)
    if len(matrices) > 1 and last in weighted[-1:] and get_classifier is None:
        pointwise = _is_pointwise(last, layers[last], inputs, outputs)
        if pointwise and _only_pooling_follows(module, last, run_on_noise):
            return Head(last)
    return Head(None, _doubt(module, layers, outputs))


def is_usual_head(name: str, layer: nn.Module) -> bool:
    """Whether a network's last layer with parameters is a classifier by its class and name."""
    if isinstance(layer, nn.Linear):
        return True
    # SqueezeNet classifies by a 1 x 1 convolution; elsewhere such a layer may be a feature.
    in_classifier = name.partition(".")[0] in ("classifier", "head", "fc")
    return isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and in_classifier


def _puts_out_all(name: str, inputs: Shapes, outputs: Shapes) -> bool:
    """Whether a linear layer is more than a part of the last block of a vision transformer."""
    found, whole = outputs.get(name, ()), outputs.get("", ())
    return len(inputs.get(name, ())) != 2 or bool(whole and found and whole[-1] == found[-1])


def _is_inside(name: str, other: str) -> bool:
    return name != other and (not other or name.startswith(f"{other}."))


def _maps_vectors(name: str, layer: nn.Module, inputs: Shapes, outputs: Shapes) -> bool:
    """Whether a layer of any class applies a matrix to one vector per image.

    After it nothing but normalisation can follow, as in ``Linear, BatchNorm1d``. The heads of
    margin losses and quantised layers are of classes of their own.
    """
    given, whole = inputs.get(name, ()), outputs.get("", ())
    if len(given) != 1 or (whole and outputs.get(name, whole) != whole):
        return False
    own = [p for p in layer.parameters(recurse=False) if p.ndim == 2]
    return hasattr(layer, "_packed_params") or any(given[0] in matrix.shape for matrix in own)


def _is_pointwise(name: str, layer: nn.Module, inputs: Shapes, outputs: Shapes) -> bool:
    """Whether a layer is a convolution that classifies positions, or the map as a whole."""
    given, found = inputs.get(name, ()), outputs.get(name, ())
    if not isinstance(layer, nn.Conv2d) or len(given) != 3 or len(found) != 3:
        return False
    whole = found[1:] == (1, 1) and given[1:] == layer.kernel_size
    puts_out = outputs.get("") in (found[:1], found)  # pooled, or a class for each position
    return (layer.kernel_size == (1, 1) or whole) and puts_out


def _only_pooling_follows(module: nn.Module, name: str, run_on_noise: Callable[[], Any]) -> bool:
    """Whether the network puts out the pooled output of a layer, or probabilities of that.

    A feature has an activation function behind it.
    """
    found: dict[str, Tensor] = {}

    def record(tap: Tap, value: Any) -> None:
        found[tap.module] = value.clone()

    with torch.inference_mode(), hooked(module, {Tap(name), Tap("")}, record):
        run_on_noise()
    if found[name].shape == found[""].shape and found[name].shape[2:] != (1, 1):
        return bool(torch.equal(found[name], found[""]))
    flat = found[name].flatten(2)
    functions: tuple[Callable[[Tensor], Tensor], ...] = (
        *(torch.clone, torch.sigmoid),
        *(lambda scores: scores.softmax(1), lambda scores: scores.log_softmax(1)),
    )
    return any(
        bool(torch.allclose(function(pooled), found[""], _TOLERANCE, _TOLERANCE))
        for pooled in (flat.mean(2), flat.amax(2))
        for function in functions
    )


def _doubt(module: nn.Module, layers: Mapping[str, nn.Module], outputs: Shapes) -> str:
    """Whether weights are used elsewhere than in modules that run, and so cannot be placed."""
    idle = {
        name: layer
        for name, layer in module.named_modules()
        if n_own_matrices(layer) and not any(n == name or _is_inside(name, n) for n in layers if n)
    }
    root = idle.pop("", None)  # its parameters are mostly positions, tokens or scales
    whole = outputs.get("", ())
    own = [] if root is None else list(root.named_parameters(recurse=False))
    for name, parameter in own:
        if parameter.ndim == 2 and len(whole) == 1 and whole[0] in parameter.shape:
            return f"its parameter {name!r} has as many rows or columns as the network has outputs"
    if idle and not any(n_own_matrices(layer) for name, layer in layers.items() if name):
        return "its layers do not run as modules, as in a network that torch.export has made"
    for name, layer in idle.items():
        weight = getattr(layer, "weight", None)
        if isinstance(weight, Tensor) and (len(weight),) == outputs.get(""):
            return f"its layer {name!r} has as many outputs as the network and does not run itself"
    return ""
