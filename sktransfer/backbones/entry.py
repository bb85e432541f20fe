"""What a family of backbones says of each of its members."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from torch import Tensor, nn

from sktransfer.exceptions import WeightsNotFoundError
from sktransfer.images.preprocessing import Preprocessing

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class BackboneInfo:
    """What is known of a backbone before it is loaded.

    Parameters
    ----------
    name : str
    preprocessing : Preprocessing
        Image size, mean, standard deviation, interpolation and crop.
    license : str
        Of the weights, as their publisher states it.
    source : str
        Where the weights were published.
    """

    name: str
    preprocessing: Preprocessing
    license: str
    source: str


@dataclass(frozen=True)
class Entry:
    """A named backbone: its description, its published weights and its constructor.

    Parameters
    ----------
    info : BackboneInfo
    fetch : callable
        Path of the published weights file and the SHA-256 (or prefix) it must have;
        raises `WeightsNotFoundError` when it is not to be had.
    build : callable
        From a state dict, or None for fresh random weights, to the network.
    """

    info: BackboneInfo
    fetch: Callable[[], tuple[Path, str | None]]
    build: Callable[[State | None], nn.Module]


def missing_weights(name: str, file: str, put: str, reason: object) -> NoReturn:
    """Raise the error that names the file, where to put it and how to pass it."""
    raise WeightsNotFoundError(
        f"the weights of {name!r}, file {file}, are not on this machine and could not be fetched "
        f"({reason}). Get the file on a machine with network access and put it into {put}, or pass "
        f"its path as weights='/path/to/{Path(file).name}'. weights='random' needs no file; "
        "backbone='efficientnet_lite0' brings its weights with pip"
    ) from (reason if isinstance(reason, BaseException) else None)


def with_matching_head(build: Callable[..., nn.Module], state: State) -> nn.Module:
    """Build with as many classes as a (perhaps fine-tuned) state dict has."""
    module = build()
    heads = [n for n, m in module.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    weight = state.get(f"{heads[-1]}.weight")
    own = module.get_parameter(f"{heads[-1]}.weight")
    if weight is None or weight.shape[0] == own.shape[0]:
        return module
    return build(num_classes=weight.shape[0])
