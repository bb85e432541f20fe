"""Separation of a fitted estimator into its networks and the steps after them."""

import json
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils.validation import check_is_fitted

from sktransfer._composites import unwrapped
from sktransfer.export._head import linear_head
from sktransfer.features.image import PretrainedCNNFeatures
from sktransfer.finetuning.estimator import FineTuned


class Parts(NamedTuple):
    """The parts of an estimator that are exported one by one.

    The output is of a kind: "probabilities" or "scores", besides the label, "prediction", or
    "features".
    """

    transformers: list[PretrainedCNNFeatures]  # their features are concatenated
    tail: Pipeline | None  # the steps after them
    kind: str

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return ("label", self.kind) if self.kind in ("probabilities", "scores") else (self.kind,)

    @property
    def names(self) -> list[str]:
        """Class names of the steps after the transformers."""
        return [] if self.tail is None else [type(step).__name__ for _, step in self.tail.steps]


def parts_of(estimator: Any) -> Parts:
    """Separate a fitted estimator into its transformers and the steps after them."""
    check_is_fitted(estimator)
    if isinstance(estimator, FineTuned):
        tail = Pipeline([("head", linear_head(estimator))])
        return Parts(_transformers(estimator.features_), tail, _kind(tail))
    if not isinstance(estimator, Pipeline):
        return Parts(_transformers(estimator), None, "features")
    transformers = _transformers(unwrapped(estimator.steps[0][1]))
    steps = [
        (name, step) for name, step in estimator.steps[1:] if step not in (None, "passthrough")
    ]
    if not steps:
        return Parts(transformers, None, "features")
    tail = Pipeline(steps)
    return Parts(transformers, tail, _kind(tail))


def _transformers(step: Any) -> list[PretrainedCNNFeatures]:
    if isinstance(step, FeatureUnion) and not step.transformer_weights:
        found = [unwrapped(each) for _, each in step.transformer_list]
    else:
        found = [step]
    for each in found:
        if not isinstance(each, PretrainedCNNFeatures):
            raise TypeError(
                "ONNX export needs a fitted PretrainedCNNFeatures, alone, as the first step of a "
                "Pipeline, or several in a FeatureUnion without transformer_weights; got "
                f"{each!r}. Networks for sequences and texts cannot be exported"
            )
    settings = {
        (each.size, each.crop_pct, each.interpolation, each.in_channels, each.resize)
        for each in (transformer.fitted_.preprocessing for transformer in found)
    }
    if len(settings) > 1:
        raise ValueError(
            "the networks of a FeatureUnion must take the same images to share one input of an "
            "ONNX model; they differ in (image_size, crop, interpolation, channels, resize): "
            f"{sorted(settings, key=str)}. resize='squash' and image_size may make them alike"
        )
    return found


def _kind(tail: Pipeline) -> str:
    if not hasattr(tail, "predict"):
        return "features"
    if not hasattr(tail, "classes_"):
        return "prediction"
    return "probabilities" if hasattr(tail, "predict_proba") else "scores"


def metadata(parts: Parts, dtype: str) -> dict[str, str]:
    """Properties of the model: how to prepare its input, and what it was made from."""
    first = parts.transformers[0]
    preprocessing = first.fitted_.preprocessing
    shape = "(n, {}, {}, {})".format(*first.image_size_, preprocessing.in_channels)
    value_range = "0 to 255" if dtype == "uint8" else "0 to 1"
    found = {
        "input": f"images: {dtype}, {shape}, {value_range}",
        "resize": preprocessing.resize,
        "crop_pct": str(preprocessing.crop_pct),
        "interpolation": preprocessing.interpolation,
        "backbones": json.dumps([each.fitted_.info.name for each in parts.transformers]),
        "licenses": json.dumps([each.fitted_.info.license for each in parts.transformers]),
        "weights_sha256": json.dumps([each.weights_sha256_ for each in parts.transformers]),
        "layers": json.dumps([each.layer_ for each in parts.transformers]),
        "poolings": json.dumps([each.pooling for each in parts.transformers]),
    }
    for name in ("sktransfer", "torch", "scikit-learn", "skl2onnx", "onnx"):
        found[f"version of {name}"] = version(name)
    if parts.tail is not None and "label" in parts.outputs:
        found["classes"] = json.dumps(np.asarray(parts.tail.classes_).tolist())
    return found
