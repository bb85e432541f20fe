"""Conversion of networks to ONNX, from pixels to concatenated features."""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer.exceptions import ConversionError
from sktransfer.features.image import PretrainedCNNFeatures
from sktransfer.images.pooling import pool
from sktransfer.networks.early_exit import LayerReader
from sktransfer.networks.hooks import Tap, hooked
from sktransfer.networks.layers import Read, first_tensor
from sktransfer.networks.modules import copied, evaluate

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 20
"""Version of the ONNX operators."""


class PixelsToFeatures(nn.Module):
    """A module that maps pixels, channels last, to the concatenated features of networks.

    Each network runs to its end, since torch.export cannot trace the exception by which
    `LayerReader` ends a pass early. The exported graph leaves out the unused layers.
    """

    def __init__(self, transformers: Sequence[PretrainedCNNFeatures]) -> None:
        super().__init__()
        self.networks = nn.ModuleList()
        self.reads: list[tuple[Read, ...]] = []
        for number, each in enumerate(transformers):
            self.networks.append(copied(each.module_).cpu().float())
            self.reads.append(each.fitted_.reads)
            for name in ("mean", "std"):
                values = torch.tensor(getattr(each.fitted_.preprocessing, name))
                self.register_buffer(f"pixel_{name}_{number}", values)
        self.traces = [each.fitted_.trace for each in transformers]
        self.shape = (*self.traces[0].size, self.traces[0].in_channels)
        self.n_features = sum(
            trace.width(read)
            for reads, trace in zip(self.reads, self.traces, strict=True)
            for read in reads
        )

    def normalised(self, pixels: Tensor, number: int) -> Tensor:
        """The standardised input of a network, (n, channels, height, width)."""
        scaled = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        mean, std = (self.get_buffer(f"pixel_{name}_{number}") for name in ("mean", "std"))
        return ((scaled - mean) / std).permute(0, 3, 1, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the features of pixels, (n, n_features)."""
        pooled = []
        for number in range(len(self.networks)):
            pooled += self._pooled(images, number)
        return torch.cat(pooled, 1)

    def _pooled(self, images: Tensor, number: int) -> list[Tensor]:
        network, reads, trace = self.networks[number], self.reads[number], self.traces[number]
        found: dict[Read, Tensor] = {}

        def record(tap: Tap, value: Any) -> None:
            tensor = first_tensor(value)
            assert tensor is not None  # as it was when the network was traced
            for read in reads:
                if trace.taps[read.layer] == tap:
                    found[read] = pool(tensor, trace.activations[read.layer], read.pooling)

        with hooked(network, {trace.taps[read.layer] for read in reads}, record):
            trace.run(network, self.normalised(images, number))
        return [found[read] for read in reads]

    def features(self, batch: np.ndarray) -> np.ndarray:
        """Compute the features as the estimators do, in torch and with early exit."""
        pixels = torch.from_numpy(batch)
        with torch.inference_mode():
            parts = [
                matrix
                for number, network in enumerate(self.networks)
                for matrix in LayerReader(network, self.traces[number], self.reads[number])(
                    self.normalised(pixels, number)
                )
            ]
        return torch.cat(parts, 1).numpy()


def network_model(network: PixelsToFeatures, batch: np.ndarray) -> "ModelProto":
    """Convert networks to an ONNX model with the input "images" and the output "features".

    The model takes any number of images of the shape and dtype of those in the batch.
    """
    import onnx

    example = torch.from_numpy(np.resize(batch[:2], (2, *network.shape)))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its own deprecations
        file = Path(folder) / "network.onnx"
        evaluate(network)
        try:
            torch.onnx.export(
                network,
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
        except Exception as error:  # the errors of torch.export and of a network are of any kind
            raise ConversionError(
                f"torch cannot write the network as ONNX: {cause(error)}. Its forward must do the "
                "same for all pixels and any number of images: x.shape[0] is one, len(x) is not"
            ) from error
        return onnx.load(file)


def cause(error: BaseException) -> str:
    """The first lines of the error that others were raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).strip().splitlines()[:2])
    return f"{type(error).__name__}: {text or 'no message'}"
