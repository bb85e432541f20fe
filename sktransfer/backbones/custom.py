"""The user's own networks: an instance, a class, or any function that returns one."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from sktransfer.backbones.weights import fit_weights, read_weights
from sktransfer.images.preprocessing import Preprocessing

OwnBackbone = nn.Module | Callable[[], nn.Module]


def build_own(backbone: OwnBackbone) -> nn.Module:
    """A copy of an instance, or of what the class or function returns.

    A function may return a network that its caller goes on using: a copy keeps it
    from being frozen.

    Raises
    ------
    TypeError
        It is none of these, or cannot be called without arguments.
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


def load_own(
    backbone: OwnBackbone, weights: str | Path, weights_sha256: str | None = None, prefix: str = ""
) -> tuple[nn.Module, str | None]:
    """The network with its own weights, fresh ones, or those of a file, and the file's SHA-256.

    Of a file the tensors are taken whose names begin with `prefix`.

    Raises
    ------
    ValueError
        Fresh weights are asked for of an instance, which cannot be built anew.
    """
    module = build_own(backbone)
    if weights == "random" and isinstance(backbone, nn.Module):
        raise ValueError(
            "weights='random' needs a backbone that can be built anew; pass the class or a "
            f"function instead of a {type(backbone).__name__} instance"
        )
    if weights in ("default", "random"):
        return module, None
    state, sha256 = read_weights(weights, weights_sha256)
    if prefix:
        state = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    fit_weights(module, state, name_of_own(backbone))
    return module, sha256


def _copy(module: nn.Module) -> nn.Module:
    if any(is_lazy(parameter) for parameter in module.parameters()):
        raise ValueError(
            f"{type(module).__name__} has lazy layers that have seen no input yet; run it once on "
            "a batch of images, or give its layers their sizes"
        )
    try:
        return copy.deepcopy(module)
    except RuntimeError as error:
        raise ValueError(
            f"{type(module).__name__} cannot be copied ({error}); pass a class or a function that "
            "builds it"
        ) from error


def name_of_own(backbone: OwnBackbone) -> str:
    """A short name: of the class or function."""
    if isinstance(backbone, nn.Module):
        return type(backbone).__name__
    return getattr(backbone, "__name__", type(backbone).__name__)


def preprocessing_of(module: nn.Module) -> Preprocessing:
    """What a network says of its input: timm's `pretrained_cfg`, corrected by its layers."""
    config: Any = getattr(module, "pretrained_cfg", None)
    known = isinstance(config, dict) and "input_size" in config
    how = from_timm_config(config) if known else Preprocessing()
    convolution = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
    channels = convolution.in_channels if convolution else how.in_channels
    if channels != how.in_channels:  # timm's in_chans=, which its configuration does not follow
        mean, std = (sum(values) / len(values) for values in (how.mean, how.std))
        how = dataclasses.replace(how, in_channels=channels, mean=(mean,), std=(std,))
    size = getattr(getattr(module, "patch_embed", None), "img_size", None)
    if isinstance(size, tuple):  # likewise timm's img_size=
        how = dataclasses.replace(how, size=size)
    return how


def from_timm_config(config: dict[str, Any]) -> Preprocessing:
    """Read timm's `pretrained_cfg`."""
    channels, height, width = config["input_size"]
    return Preprocessing(
        size=(height, width),
        crop_pct=config.get("crop_pct") or 1.0,
        interpolation=config.get("interpolation") or "bicubic",
        mean=tuple(config.get("mean") or (0.0,)),
        std=tuple(config.get("std") or (1.0,)),
        in_channels=channels,
    )
