"""Comparison of an ONNX model with the pipeline that it was exported from."""

import warnings
from typing import TYPE_CHECKING

import numpy as np
from sklearn.pipeline import Pipeline

from sktransfer.exceptions import ConversionError
from sktransfer.export._network import PixelsToFeatures
from sktransfer.export._parts import Parts

if TYPE_CHECKING:
    from onnx import ModelProto

_TOLERANCE = 1e-4
"""Largest difference allowed, relative to the largest output if that is above 1."""


def compare(
    model: "ModelProto", network: PixelsToFeatures, parts: Parts, batch: np.ndarray
) -> None:
    """Raise ConversionError if the outputs of the model differ from those of the estimator."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # no warnings about shapes that skl2onnx states wrongly
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = dict(
        zip(
            [output.name for output in session.get_outputs()],
            session.run(None, {"images": batch}),
            strict=True,
        )
    )
    features = network.features(batch)
    expected = features if parts.tail is None else _predicted(parts.tail, features, parts.kind)
    values = found[parts.kind].reshape(len(batch), -1)
    if values.shape != expected.shape:
        raise ConversionError(
            f"the ONNX model puts out {parts.kind} of shape {values.shape}, the pipeline "
            f"{expected.shape}"
        )
    tolerance = _TOLERANCE * max(1.0, float(np.abs(expected).max()))
    worst = float(np.abs(values - expected).max())
    if not worst <= tolerance:
        raise ConversionError(
            f"the ONNX model's {parts.kind} differ from those of the pipeline, whose steps after "
            f"the network are {parts.names}, by up to {worst:.2g}; allowed is {tolerance:.2g}"
        )
    if parts.tail is not None and "label" in parts.outputs:
        labels = np.asarray(parts.tail.predict(features))
        # Two classes within the tolerance may swap: such rows have no right label.
        best = np.sort(expected, axis=1)
        sure = best[:, -1] - best[:, -2] > 2 * tolerance
        if (found["label"].ravel()[sure] != labels[sure]).any():
            raise ConversionError("the ONNX model's labels differ from those of the pipeline")


def _predicted(tail: Pipeline, features: np.ndarray, kind: str) -> np.ndarray:
    """The expected output of the model, as a matrix."""
    with warnings.catch_warnings():
        # The steps may have been fitted to a DataFrame; its columns are in the same order.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        if kind == "features":
            return np.asarray(tail.transform(features))
        if kind == "prediction":
            return np.asarray(tail.predict(features)).reshape(len(features), -1)
        if kind == "probabilities":
            return np.asarray(tail.predict_proba(features))
        scores = np.asarray(tail.decision_function(features))
    return np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores


def random_images(network: PixelsToFeatures, dtype: str) -> np.ndarray:
    """Four images of noise, two of them dark."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, *network.shape), dtype=np.uint8)
    pixels[2:] //= 8
    return pixels if dtype == "uint8" else pixels / np.float32(255)
