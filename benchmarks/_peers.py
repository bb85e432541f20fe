"""Peers that compute the same features, used as their documentation recommends.

Their constructors download weights, so they get our copy of the network instead.
Each maker takes a plain copy of the network and returns a function from a list of images
to a matrix. With ``transform=None`` the images are preprocessed tensors already.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
import timm
import torch
from torch import nn

Extractor = Callable[[Sequence[Any]], np.ndarray]
Transform = Callable[[Any], torch.Tensor] | None

TIMM_NAMES = {"efficientnet_lite0": "tf_efficientnet_lite0", "resnet50": "resnet50"}
POOLED = {"efficientnet_lite0": "global_pool", "resnet50": "avgpool"}
HEADS = {"efficientnet_lite0": "classifier", "resnet50": "fc"}


def plain(module: nn.Module) -> nn.Module:
    """A copy of a network in torch's default memory layout."""
    return copy.deepcopy(module).to(memory_format=torch.contiguous_format).eval()


def batches(images: Sequence[Any], size: int, transform: Transform) -> Any:
    """Stacked batches of shape (n, channels, height, width)."""
    for start in range(0, len(images), size):
        part = images[start : start + size]
        yield torch.stack([image if transform is None else transform(image) for image in part])


def eager_loop(
    module: nn.Module,
    name: str,
    transform: Transform,
    batch_size: int,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Extractor:
    """A plain loop: inference mode, and the network without its classifier."""
    network = plain(module).to(memory_format=memory_format)
    setattr(network, HEADS[name], nn.Identity())

    def run(images: Sequence[Any]) -> np.ndarray:
        with torch.inference_mode():
            parts = [
                network(batch.contiguous(memory_format=memory_format))
                for batch in batches(images, batch_size, transform)
            ]
        return torch.cat(parts).numpy()

    return run


def thingsvision_loop(module: nn.Module, name: str, transform: Transform) -> Extractor:
    """The extraction of thingsvision: a hook keeps a clone, and the whole network runs."""
    network = plain(module)
    kept: dict[str, torch.Tensor] = {}

    def hook(layer: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        kept["activation"] = output.clone().detach()

    network.get_submodule(POOLED[name]).register_forward_hook(hook)

    @torch.no_grad()
    def run(images: Sequence[Any]) -> np.ndarray:
        parts = []
        for batch in batches(images, 32, transform):
            network(batch)
            parts.append(kept["activation"].flatten(1).cpu().numpy())
        return np.concatenate(parts)

    return run


def embetter(module: nn.Module, name: str, *, tensors: bool, as_is: bool = False) -> Extractor:
    """The TimmEncoder of embetter.

    It leaves the network in training mode, where batch norm does not use its running
    statistics: ``as_is`` keeps that, otherwise the network is set to evaluation.
    """
    from embetter.vision import TimmEncoder

    create = timm.create_model
    with patch("timm.create_model", lambda name, pretrained, **kw: create(name, **kw)):
        encoder = TimmEncoder(TIMM_NAMES[name])
    state = {k: v for k, v in module.state_dict().items() if k.split(".")[0] != HEADS[name]}
    encoder.model.load_state_dict(state)
    encoder.model.train(as_is)
    if tensors:
        encoder.transform_img = lambda image: image
    return encoder.transform


def img2vec(module: nn.Module, *, tensors: bool, batch_size: int | None) -> Extractor:
    """The Img2Vec of img2vec_pytorch with resnet50, on single images or on lists of them."""
    from img2vec_pytorch import Img2Vec

    with patch("img2vec_pytorch.img_to_vec.resnet50", lambda weights: plain(module)):
        encoder = Img2Vec(model="resnet50")
    if tensors:
        encoder.transforms = lambda image: image

    def run(images: Sequence[Any]) -> np.ndarray:
        if batch_size is None:
            return np.stack([encoder.get_vec(image) for image in images])
        starts = range(0, len(images), batch_size)
        return np.concatenate([encoder.get_vec(list(images[i : i + batch_size])) for i in starts])

    return run
