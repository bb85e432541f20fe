"""From a name, or a network of the user's own, to a loaded backbone."""

import fnmatch
import threading
import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from sklearn.utils import check_random_state
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sktransfer.backbones.custom import (
    CustomBackbone,
    custom_name,
    infer_preprocessing,
    load_custom,
)
from sktransfer.backbones.entry import BackboneEntry, BackboneInfo
from sktransfer.backbones.hub import hub_entry, timm_entry, timm_names
from sktransfer.backbones.loaded_network import LoadedNetwork, sha256_of
from sktransfer.backbones.vision import (
    lite_entry,
    offline_names,
    torchvision_entry,
    torchvision_names,
)
from sktransfer.backbones.weights import (
    bytes_to_state,
    check_sha256,
    check_weights,
    read_weights,
    under_prefix,
    without_wrappers,
)
from sktransfer.images.tracing import ImageTrace, trace_network
from sktransfer.networks.modules import frozen
from sktransfer.networks.seeding import seeded
from sktransfer.networks.torch_settings import usual_settings


@dataclass(frozen=True)
class Backbone(LoadedNetwork):
    """A network for images with its weights, frozen and in evaluation mode.

    Parameters
    ----------
    name : str
    module : nn.Module
    weights_sha256 : str
        SHA-256 of the weights file; for weights that came without one, of the state dict
        written as safetensors.
    info : BackboneInfo
    """

    info: BackboneInfo
    _traces: dict[tuple[int, int], ImageTrace] = field(default_factory=dict, repr=False)

    def trace(self, size: tuple[int, int]) -> ImageTrace:
        """Layers of the network for images of this height and width; remembered."""
        with self._lock:
            if size not in self._traces:
                channels = self.info.preprocessing.in_channels
                with usual_settings():
                    self._traces[size] = trace_network(self.module, size, channels)
            return self._traces[size]


def list_backbones(pattern: str = "*") -> list[str]:
    """Names that `load_backbone` and ``backbone=`` understand.

    Parameters
    ----------
    pattern : str, default="*"
        Shell-style filter. timm's models (over a thousand) are listed only for a
        pattern that starts with ``"timm/"``. Models of the Hugging Face hub,
        ``"hf-hub:<organisation>/<name>@<revision>"``, are not listed.

    Returns
    -------
    list of str
        First those whose weights come with pip.

    Examples
    --------
    >>> from sktransfer import list_backbones
    >>> list_backbones("efficientnet_lite*")
    ['efficientnet_lite0', 'efficientnet_lite1', 'efficientnet_lite2']
    >>> list_backbones("vgg1[69]")
    ['vgg16', 'vgg19']
    """
    if pattern.startswith("timm/"):
        return fnmatch.filter(timm_names(), pattern)
    return fnmatch.filter([*offline_names(), *torchvision_names()], pattern)


def describe_backbone(name: str) -> BackboneInfo:
    """Preprocessing, licence and source of a named backbone, without loading it.

    Parameters
    ----------
    name : str

    Returns
    -------
    BackboneInfo

    Raises
    ------
    ValueError
        The name is not known.

    Examples
    --------
    >>> from sktransfer import describe_backbone
    >>> info = describe_backbone("resnet50")
    >>> info.preprocessing.size, info.preprocessing.interpolation
    ((224, 224), 'bilinear')
    >>> info.source
    'https://download.pytorch.org/models/resnet50-11ad3fa6.pth'
    """
    return _find_entry(name).info


@usual_settings()
def load_backbone(
    name: str | CustomBackbone,
    weights: str | Path = "default",
    *,
    weights_sha256: str | None = None,
    weights_prefix: str | None = None,
    random_state: object = None,
) -> Backbone:
    """Load a network with its weights and what is known of it.

    Parameters
    ----------
    name : str, nn.Module subclass, callable or nn.Module
        A name from `list_backbones`, ``"timm/<model>"``,
        ``"hf-hub:<organisation>/<name>@<revision>"``, a class or function that
        returns a network when called without arguments, or a network, which is
        deep-copied.
    weights : str or Path, default="default"
        "default": the published weights, or for your own network those it comes
        with. "random": fresh ones. Else the path of a ``.safetensors``, ``.pth``,
        ``.pt`` or ``.bin`` file; its number of classes may differ from the
        published one.
    weights_sha256 : str or None, default=None
        SHA-256 the weights must have: of their file, or for weights that come without
        one, of the state dict written as safetensors. Its first 8 digits will do.
    weights_prefix : str or None, default=None
        Beginning of the names of the network's tensors in a file that holds others, too, such as
        "encoder.". A prefix that all tensors of a file have is found without it.
    random_state : int, RandomState instance or None, default=None
        Seeds ``weights="random"`` and your own networks; torch's global generator is
        left alone.

    Returns
    -------
    Backbone

    Raises
    ------
    ValueError
        The name is not known.
    WeightsNotFoundError
        The weights are neither here nor reachable.
    WeightsMismatchError
        They are not the ones expected, or do not fit the network.

    Examples
    --------
    >>> from sktransfer import load_backbone
    >>> backbone = load_backbone("efficientnet_lite0")
    >>> backbone.info.license
    'Apache-2.0'
    >>> backbone.weights_sha256[:8]
    '57934424'
    >>> backbone.trace((224, 224)).stages[:2]
    ('blocks.0', 'blocks.1')
    """
    generator = check_random_state(random_state)
    drawn = weights == "random" or not isinstance(name, str | nn.Module)
    with seeded(int(generator.randint(2**31 - 1)) if drawn else 0), torch.no_grad():
        module, info, sha256 = _load(name, weights, weights_sha256, weights_prefix)
    return _finish(module, info, sha256, weights_sha256)


@usual_settings()
def rebuild_backbone(name: str, data: bytes, weights_sha256: str) -> Backbone:
    """A named backbone from its state as `module_to_bytes` wrote it, without its file.

    Parameters
    ----------
    name : str
        As for `load_backbone`.
    data : bytes
    weights_sha256 : str
        Kept as it is.
    """
    entry = _find_entry(name)
    with seeded(0), torch.no_grad():
        module = entry.build(bytes_to_state(data))
    return _finish(module, entry.info, weights_sha256, None)


def _finish(
    module: nn.Module, info: BackboneInfo, sha256: str | None, expected: str | None
) -> Backbone:
    module = frozen(module).float()
    check_weights(module, info.name)
    # In this memory format convolutions on a CPU run up to five times faster.
    module.to(memory_format=torch.channels_last)
    # Instance norm takes its statistics from one image.
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    if any(norm.running_mean is None for norm in norms):
        warnings.warn(
            f"{info.name} has batch norm without running statistics: the features of an image "
            "depend on the others in its batch. Build it with track_running_stats=True",
            stacklevel=4,
        )
    if sha256 is None:
        sha256 = sha256_of(module)
        if expected is not None:
            check_sha256(sha256, expected, f"the state of {info.name}")
    return Backbone(info.name, module, sha256, info)


def _find_entry(name: str) -> BackboneEntry:
    if not isinstance(name, str):
        raise TypeError(f"name must be one of list_backbones(), got {name!r}")
    if name.startswith("timm/"):
        return timm_entry(name)
    if name.startswith("hf-hub:"):
        return hub_entry(name)
    if name in offline_names():
        return lite_entry(name)
    return torchvision_entry(name)


def _load(
    name: str | CustomBackbone,
    weights: str | Path,
    weights_sha256: str | None,
    weights_prefix: str | None,
) -> tuple[nn.Module, BackboneInfo, str | None]:
    """Network, description and, if its weights came from a file, the file's SHA-256."""
    if not isinstance(name, str):
        module, sha256 = load_custom(name, weights, weights_sha256, weights_prefix)
        info = BackboneInfo(custom_name(name), infer_preprocessing(module), "your own", "your own")
        return module, info, sha256
    entry = _find_entry(name)
    if weights == "random":
        return entry.build(None), entry.info, None
    if weights == "default":
        path, pinned = entry.fetch()
        state, sha256 = read_weights(path, pinned, weights_sha256)
    else:
        state, sha256 = read_weights(weights, weights_sha256)
        if weights_prefix:
            state = under_prefix(state, weights_prefix, weights)
    return entry.build(without_wrappers(state)), entry.info, sha256


def shared_backbone(name: str, weights_sha256: str | None, device: torch.device) -> Backbone:
    """A named backbone with its published weights, loaded once per process and device.

    A grid search fits hundreds of transformers on the same frozen network. The two
    used last are kept. Treat the module as read-only; copy it to train it.

    Raises
    ------
    WeightsMismatchError
        The SHA-256 is not `weights_sha256`.
    """
    with _LOADING:
        backbone = _published(name, device)
    if weights_sha256 is not None:
        check_sha256(backbone.weights_sha256, weights_sha256, f"the default weights of {name!r}")
    return backbone


_LOADING = threading.Lock()  # so that threads share one network


@lru_cache(maxsize=2)
def _published(name: str, device: torch.device) -> Backbone:
    backbone = load_backbone(name)
    backbone.module.to(device)
    return backbone
