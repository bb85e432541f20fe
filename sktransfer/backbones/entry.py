"""Records that describe named backbones, and how to fetch and build them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from torch import Tensor, nn

from sktransfer.backbones.weights import named_as
from sktransfer.exceptions import WeightsNotFoundError
from sktransfer.images.preprocessing import Preprocessing

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class BackboneInfo:
    """Description of a backbone that is known before it is loaded.

    Parameters
    ----------
    name : str
    preprocessing : Preprocessing
        Image size, mean, standard deviation, interpolation and crop.
    license : str
        Licence of the weights, as their publisher states it.
    source : str
        Address where the weights were published.
    """

    name: str
    preprocessing: Preprocessing
    license: str
    source: str


@dataclass(frozen=True)
class BackboneEntry:
    """A named backbone: its description, its published weights and its constructor.

    `fetch` returns the path of the published weights file and the SHA-256 (or its beginning) that
    it must have, or raises `WeightsNotFoundError`; `build` makes the network from a state dict, or
    with random weights from None.
    """

    info: BackboneInfo
    fetch: Callable[[], tuple[Path, str | None]]
    build: Callable[[State | None], nn.Module]


def raise_missing_weights(name: str, file: str, put: str, reason: object) -> NoReturn:
    """Raise an error that names the file, where to put it and how to pass it."""
    raise WeightsNotFoundError(
        f"the weights of {name!r}, file {file}, are not on this machine and could not be fetched "
        f"({reason}). Download the file on a machine with network access and put it into {put}, or "
        f"pass its path as weights='/path/to/{Path(file).name}'. weights='random' needs no file; "
        "the weights of backbone='efficientnet_lite0' are installed by pip"
    ) from (reason if isinstance(reason, BaseException) else None)


def with_matching_head(build: Callable[..., nn.Module], state: State) -> nn.Module:
    """Build a network with as many classes as a (possibly fine-tuned) state dict has."""
    module = build()
    state = named_as(module.state_dict(), state)
    # The classifier is the last linear or 1 x 1 convolutional layer in all supported families.
    heads = [n for n, m in module.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    weight = state.get(f"{heads[-1]}.weight")
    default = module.get_parameter(f"{heads[-1]}.weight")
    if weight is None or weight.shape[0] == default.shape[0]:
        return module
    return build(num_classes=weight.shape[0])
