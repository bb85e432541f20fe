"""Networks as ONNX: from pixels as they come to features side by side."""

import copy
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer.exceptions import ConversionError
from sktransfer.features.image import PretrainedCNNFeatures
from sktransfer.images.pooling import pool
from sktransfer.images.staged import Read, StagedNetwork
from sktransfer.networks.hooks import Tap, drop_hooks, hooked

OPSET = 20
"""Version of ONNX's operators."""


class PixelsToFeatures(nn.Module):
    """Networks from pixels, channels last, to their features side by side.

    They run to the end: an exception in the middle, as `StagedNetwork` has it, is more than
    torch.export can follow. What is not needed it leaves out.
    """

    def __init__(self, transformers: Sequence[PretrainedCNNFeatures]) -> None:
        super().__init__()
        self.networks = nn.ModuleList()
        self.reads: list[tuple[Read, ...]] = []
        for number, each in enumerate(transformers):
            copied = copy.deepcopy(each.module_).cpu().float().eval()
            drop_hooks(copied)
            self.networks.append(copied)
            self.reads.append(each._reads)
            how = each._preprocessing
            for name in ("mean", "std"):
                self.register_buffer(f"{name}_{number}", torch.tensor(getattr(how, name)))
        self.traces = [each._backbone.trace(each.image_size_) for each in transformers]
        self.shape = (*self.traces[0].size, self.traces[0].in_channels)
        self.n_features = sum(
            read.width(trace)
            for reads, trace in zip(self.reads, self.traces, strict=True)
            for read in reads
        )

    def normalised(self, pixels: Tensor, number: int) -> Tensor:
        """What a network takes, (n, channels, height, width)."""
        scaled = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        mean, std = (self.get_buffer(f"{name}_{number}") for name in ("mean", "std"))
        return ((scaled - mean) / std).permute(0, 3, 1, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Features of pixels, (n, n_features)."""
        pooled = []
        for number in range(len(self.networks)):
            pooled += self._pooled(images, number)
        return torch.cat(pooled, 1)

    def _pooled(self, images: Tensor, number: int) -> list[Tensor]:
        network, reads, trace = self.networks[number], self.reads[number], self.traces[number]
        found: dict[Read, Tensor] = {}

        def record(tap: Tap, value: Tensor) -> None:
            for read in reads:
                if trace.taps[read.layer] == tap:
                    found[read] = pool(value, trace.activations[read.layer], read.pooling)

        with hooked(network, {trace.taps[read.layer] for read in reads}, record):
            network(self.normalised(images, number))
        return [found[read] for read in reads]

    def features(self, batch: np.ndarray) -> np.ndarray:
        """The same as the estimators compute it with torch."""
        pixels = torch.from_numpy(batch)
        with torch.inference_mode():
            parts = [
                matrix
                for number, network in enumerate(self.networks)
                for matrix in StagedNetwork(network, self.traces[number], self.reads[number])(
                    self.normalised(pixels, number)
                )
            ]
        return torch.cat(parts, 1).numpy()


def network_model(network: PixelsToFeatures, batch: np.ndarray) -> Any:
    """From "images", as in the batch and of any number, to "features".

    Raises
    ------
    ConversionError
        The network does what torch.export cannot follow.
    """
    import onnx

    example = torch.from_numpy(np.resize(batch[:2], (2, *network.shape)))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about its own ways
        file = Path(folder) / "network.onnx"
        try:
            torch.onnx.export(
                network.eval(),
                (example,),
                file,
                input_names=["images"],
                output_names=["features"],
                dynamic_shapes=({0: "n"},),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # whatever a network does that torch.export cannot follow
            raise ConversionError(
                f"torch cannot write the network as ONNX: {cause(error)}. Its forward must do the "
                "same for all pixels and any number of images: x.shape[0] is one, len(x) is not"
            ) from error
        return onnx.load(file)


def cause(error: BaseException) -> str:
    """The first lines of what went wrong at the bottom."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).strip().splitlines()[:2])
    return f"{type(error).__name__}: {text or 'no message'}"
