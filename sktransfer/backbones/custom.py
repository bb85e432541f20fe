"""Custom networks: an instance, a class, or a function that returns one."""

import copy
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from sktransfer.backbones.weights import fit_weights, read_weights, under_prefix
from sktransfer.images.preprocessing import Preprocessing
from sktransfer.networks.hooks import Tap, hooked

# Height and width of a blank image for a network that states none.
_PROBE_SIZE = (224, 224)

CustomBackbone = nn.Module | Callable[[], nn.Module]


def build_custom(backbone: CustomBackbone) -> nn.Module:
    """A copy of an instance, or of the network that a class or function returns.

    A function may return a network that the caller still uses: only the copy is frozen.
    """
    if isinstance(backbone, nn.Module):
        return _copy(backbone)
    if not callable(backbone):
        raise TypeError(
            "backbone must be a name from sktransfer.list_backbones(), an nn.Module class, a "
            f"function that returns an nn.Module, or an nn.Module; got {backbone!r}"
        )
    try:
        module = backbone()
    except TypeError as error:
        raise TypeError(
            f"backbone={backbone!r} must be callable without arguments ({error}); bind them with "
            "functools.partial"
        ) from error
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"backbone={backbone!r} must return an nn.Module, got {type(module).__name__}"
        )
    return _copy(module)


def load_custom(
    backbone: CustomBackbone,
    weights: str | Path,
    weights_sha256: str | None = None,
    prefix: str | None = None,
) -> tuple[nn.Module, str | None]:
    """A custom network with its own, random or a file's weights, and the file's SHA-256.

    With a `prefix`, only tensors whose names begin with it are taken from a file.

    Raises
    ------
    ValueError
        Random weights are requested for an instance, which cannot be built anew.
    """
    module = build_custom(backbone)
    if weights == "random" and isinstance(backbone, nn.Module):
        raise ValueError(
            "weights='random' needs a backbone that can be built anew; pass the class, or a "
            f"function that builds it, instead of a {type(backbone).__name__} instance"
        )
    if weights in ("default", "random"):
        return module, None
    state, sha256 = read_weights(weights, weights_sha256)
    if prefix:
        state = under_prefix(state, prefix, weights)
    fit_weights(module, state, custom_name(backbone))
    return module, sha256


def _copy(module: nn.Module) -> nn.Module:
    module = _not_compiled(module)
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError(
            "backbone is TorchScript, whose layers cannot be read; pass the nn.Module that it was "
            "made from, or a function that builds it and loads the weights of "
            "torch.jit.load(file).state_dict()"
        )
    if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        raise ValueError(
            f"{type(module).__name__} is on torch's meta device, and its weights have no values; "
            "build it on the CPU and load them"
        )
    tensors = (value for value in module.state_dict().values() if isinstance(value, torch.Tensor))
    if any(tensor.is_quantized for tensor in tensors):
        raise ValueError(
            f"{type(module).__name__} holds quantised weights, and its layers put out no floats; "
            "pass the network as it was before (layers quantised dynamically work)"
        )
    if any(is_lazy(parameter) for parameter in module.parameters()):
        raise ValueError(
            f"{type(module).__name__} has lazy layers that are not initialised yet; run it once on "
            "a batch of images, or give its layers their sizes"
        )
    try:
        copied = copy.deepcopy(module)
        for part in list(copied.modules()):
            for name, child in part.named_children():
                if (plain := _not_compiled(child)) is not child:
                    part.register_module(name, plain)
        return copied
    except RuntimeError as error:  # torch cannot copy tensors with a gradient history
        raise ValueError(
            f"{type(module).__name__} cannot be copied ({error}); pass a class or a function that "
            "builds it"
        ) from error


def _not_compiled(module: nn.Module) -> nn.Module:
    """The network in a wrapper of torch.compile, whose layers cannot be read as they run."""
    compiler = sys.modules.get("torch._dynamo.eval_frame")  # slow to import
    while compiler is not None and isinstance(module, compiler.OptimizedModule):
        module = module._orig_mod
    return module


def custom_name(backbone: CustomBackbone) -> str:
    """Name of the class or function."""
    if isinstance(backbone, nn.Module):
        return type(backbone).__name__
    return getattr(backbone, "__name__", type(backbone).__name__)


def infer_preprocessing(module: nn.Module) -> Preprocessing:
    """Preprocessing from timm's `pretrained_cfg`, corrected by the layers of the network."""
    config: Any = getattr(module, "pretrained_cfg", None)
    known = isinstance(config, dict) and "input_size" in config
    found = from_timm_config(config) if known else Preprocessing()
    size = getattr(getattr(module, "patch_embed", None), "img_size", None)
    if isinstance(size, tuple):  # timm does not update its configuration for img_size=
        found = dataclasses.replace(found, size=size)
    channels = _image_channels(module, found)
    if channels != found.in_channels:  # nor for in_chans=
        mean, std = (sum(values) / len(values) for values in (found.mean, found.std))
        found = dataclasses.replace(found, in_channels=channels, mean=(mean,), std=(std,))
    return found


class _FirstConvolution(Exception):
    """Ends a pass where the first convolution is called."""

    def __init__(self, fits: bool) -> None:
        self.fits = fits


def _image_channels(module: nn.Module, stated: Preprocessing) -> int:
    """Channels of the images that a network takes: those of the first convolution that it calls.

    That may be another one than the first it declares. So blank images run as far as there, until
    one has the channels which that convolution takes.
    """
    declared = [m.in_channels for m in module.modules() if isinstance(m, nn.Conv2d)]
    candidates = list(dict.fromkeys([*declared[:1], stated.in_channels, 3, 1, *declared]))
    if len(set(declared)) < 2:
        return candidates[0]
    size = stated.size or _PROBE_SIZE
    for channels in candidates:
        if _reaches_convolution(module, channels, size):
            return channels
    return candidates[0]


def _reaches_convolution(module: nn.Module, channels: int, size: tuple[int, int]) -> bool:
    # What a pass may change is copied: a network may count its calls. Its weights are not.
    shared: dict[int, Any] = {id(each): each for each in module.parameters()}
    copied = copy.deepcopy(module, shared)
    copied.eval()
    convolutions = {n: m for n, m in copied.named_modules() if isinstance(m, nn.Conv2d)}

    def end(tap: Tap, value: Any) -> None:
        is_image = isinstance(value, torch.Tensor) and value.ndim in (3, 4)
        raise _FirstConvolution(
            is_image and value.shape[-3] == convolutions[tap.module].in_channels
        )

    taps = {Tap(name, "input") for name in convolutions}
    parameter = next(iter(module.parameters()))
    image = torch.zeros((2, channels, *size), dtype=parameter.dtype, device=parameter.device)
    try:
        with torch.no_grad(), hooked(copied, taps, end):
            copied(image)
    except _FirstConvolution as reached:
        return reached.fits
    except Exception:  # a foreign network may raise anything, such as for too many channels
        return False
    return False  # there is no telling


_TIMM_MODES = {"center": "crop", "squash": "squash", "border": "border"}


def from_timm_config(config: dict[str, Any]) -> Preprocessing:
    """Preprocessing from timm's `pretrained_cfg`, with timm's defaults for what it leaves out."""
    from timm.data import resolve_data_config

    found = resolve_data_config({}, pretrained_cfg=config)
    channels, height, width = found["input_size"]
    resize = _TIMM_MODES.get(found["crop_mode"], "crop")
    if resize == "squash" and found["crop_pct"] != 1:
        resize = "squash+crop"
    return Preprocessing(
        size=(height, width),
        crop_pct=found["crop_pct"],
        interpolation=found["interpolation"],
        mean=tuple(found["mean"]),
        std=tuple(found["std"]),
        in_channels=channels,
        resize=resize,
    )
