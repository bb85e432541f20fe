"""What a fitted estimator is made of: networks, and what scikit-learn does with their features."""

import json
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils.validation import check_is_fitted

from sktransfer.export._head import linear_head
from sktransfer.features.image import PretrainedCNNFeatures
from sktransfer.finetuning.estimator import FineTuned
from sktransfer.inspection._maps import unwrapped


class Parts(NamedTuple):
    """What an estimator is made of.

    Parameters
    ----------
    transformers : list of PretrainedCNNFeatures
        Whose features stand side by side.
    tail : Pipeline or None
        What scikit-learn does with them.
    kind : {"probabilities", "scores", "prediction", "features"}
        What comes out, beside the label of a classifier.
    """

    transformers: list[PretrainedCNNFeatures]
    tail: Pipeline | None
    kind: str

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what comes out."""
        return ("label", self.kind) if self.kind in ("probabilities", "scores") else (self.kind,)

    @property
    def names(self) -> list[str]:
        """Classes of the steps after the networks."""
        return [] if self.tail is None else [type(step).__name__ for _, step in self.tail.steps]


def parts_of(estimator: Any) -> Parts:
    """Take a fitted estimator apart.

    Raises
    ------
    TypeError, ValueError, NotFittedError
        It holds no network for images, or nothing that could be exported.
    """
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
    alike = {
        (how.size, how.crop_pct, how.interpolation, how.in_channels, how.resize)
        for how in (each._preprocessing for each in found)
    }
    if len(alike) > 1:
        raise ValueError(
            "the networks of a FeatureUnion must take the same images to share one input of an "
            "ONNX model; they differ in (image_size, crop, interpolation, channels, resize): "
            f"{sorted(alike, key=str)}. resize='squash' and image_size may make them alike"
        )
    return found


def _kind(tail: Pipeline) -> str:
    if not hasattr(tail, "predict"):
        return "features"
    if not hasattr(tail, "classes_"):
        return "prediction"
    return "probabilities" if hasattr(tail, "predict_proba") else "scores"


def metadata(parts: Parts, dtype: str) -> dict[str, str]:
    """What who calls the model has to know, and where it comes from."""
    first = parts.transformers[0]
    how = first._preprocessing
    height, width = first.image_size_
    top = "0 to 255" if dtype == "uint8" else "0 to 1"
    found = {
        "input": f"images: {dtype}, (n, {height}, {width}, {how.in_channels}), {top}",
        "resize": how.resize,
        "crop_pct": str(how.crop_pct),
        "interpolation": how.interpolation,
        "backbones": json.dumps([each._backbone.info.name for each in parts.transformers]),
        "licenses": json.dumps([each._backbone.info.license for each in parts.transformers]),
        "weights_sha256": json.dumps([each.weights_sha256_ for each in parts.transformers]),
        "layers": json.dumps([each.layer_ for each in parts.transformers]),
        "poolings": json.dumps([each.pooling for each in parts.transformers]),
    }
    for name in ("sktransfer", "torch", "scikit-learn", "skl2onnx", "onnx"):
        found[f"version of {name}"] = version(name)
    if parts.tail is not None and "label" in parts.outputs:
        found["classes"] = json.dumps(np.asarray(parts.tail.classes_).tolist())
    return found
