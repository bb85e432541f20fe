"""From a fitted pipeline to one ONNX model: pixels in, labels and probabilities out."""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from sktransfer.export._comparison import compare, noise
from sktransfer.export._head import head_model, joined
from sktransfer.export._network import PixelsToFeatures, network_model
from sktransfer.export._parts import metadata, parts_of
from sktransfer.inspection._maps import pixels_of, unwrapped

_DTYPES = ("uint8", "float32")


def to_onnx(
    estimator: Any, path: str | Path | None = None, *, X: Any = None, dtype: str = "uint8"
) -> Any:
    """Write a fitted pipeline as one ONNX model, and compare it with the pipeline.

    The model holds all from pixels to prediction: scaling and normalising of the pixels, the
    network up to the layer that is read, pooling, and the steps of scikit-learn as skl2onnx
    writes them. Only reading and resizing of images are left to who calls it.

    Parameters
    ----------
    estimator : Pipeline, PretrainedCNNFeatures, FineTunedClassifier, FineTunedRegressor or search
        Fitted. The first step of a Pipeline is a `PretrainedCNNFeatures`, frozen or tuned, or a
        FeatureUnion of several that resize images alike; skl2onnx must know the others. Of a
        search its best estimator is taken.
    path : str, Path or None, default=None
        Where to write the model.
    X : array, sequence, Series, tensor or Dataset of images, or None, default=None
        Images on which the model is compared with the pipeline, in any form that it takes; a
        dozen. None takes noise, on which a head may be too sure for a difference to show.
    dtype : {"uint8", "float32"}, default="uint8"
        What the model takes: integers from 0 to 255, or floats from 0 to 1.

    Returns
    -------
    onnx.ModelProto
        Its input "images" has shape (n, height, width, channels): the transformer's
        `image_size_`, and as many channels as the network takes. Its outputs are

        - for a classifier "label" (n,), and "probabilities" (n, n_classes), or without
          `predict_proba` "scores" (n, n_classes); of two classes the scores are minus and plus
          the `decision_function`,
        - for a regressor "prediction" (n, n_outputs),
        - for a transformer "features" (n, n_features), float32.

        Its `metadata_props` say how to resize, and name backbone, weights, classes and versions.

    Raises
    ------
    TypeError
        The estimator is none of the above.
    ValueError
        A FeatureUnion's networks need different images, or several labels are predicted.
    ConversionError
        torch or skl2onnx cannot write a part, or the model's outputs differ from the pipeline's
        by more than 1e-4, relative to the largest if that is above 1.
    ImportError
        A package is missing: ``pip install "sktransfer[onnx]"``.

    See Also
    --------
    onnx_input : The array to feed to the model.

    Notes
    -----
    The whole network is traced, which takes from some seconds to half a minute.

    The model computes in float32, whatever the transformer's `precision`. scikit-learn computes
    the steps after the network in float32, too, or in float64: an image on the threshold of a
    tree may fall to the other side.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransfer import PretrainedCNNFeatures
    >>> from sktransfer.export import onnx_input, to_onnx
    >>> digits = load_digits()
    >>> images, labels = digits.images[:100] / 16, digits.target[:100]
    >>> pipeline = make_pipeline(
    ...     PretrainedCNNFeatures(layer="blocks.1", image_size=32),
    ...     LogisticRegression(max_iter=1000),
    ... ).fit(images, labels)
    >>> model = to_onnx(pipeline, X=images[:5], dtype="float32")
    >>> [output.name for output in model.graph.output]
    ['label', 'probabilities']
    >>> import onnxruntime
    >>> session = onnxruntime.InferenceSession(model.SerializeToString())
    >>> batch = onnx_input(pipeline, images[:3], dtype="float32")
    >>> session.run(["label"], {"images": batch})[0].tolist()
    [0, 1, 2]
    """
    _require_packages()
    import onnx

    _check_dtype(dtype)
    estimator = unwrapped(estimator)
    parts = parts_of(estimator)
    network = PixelsToFeatures(parts.transformers)
    batch = noise(network, dtype) if X is None else onnx_input(estimator, X, dtype=dtype)
    head = None  # first, as it takes less time to fail
    if parts.tail is not None:
        head = head_model(parts.tail, network.n_features, parts.kind, parts.outputs)
    model = network_model(network, batch)
    if head is not None:
        model = joined(model, head, parts.outputs)
    for output in model.graph.output:  # as of the input, whatever a converter calls it
        output.type.tensor_type.shape.dim[0].dim_param = "n"
    model.producer_name, model.producer_version = "sktransfer", version("sktransfer")
    for name, value in metadata(parts, dtype).items():
        model.metadata_props.add(key=name, value=value)
    onnx.checker.check_model(model, full_check=True)
    compare(model, network, parts, batch)
    if path is not None:
        Path(path).write_bytes(model.SerializeToString())
    return model


def onnx_input(estimator: Any, X: Any, *, dtype: str = "uint8") -> np.ndarray:
    """Images read, resized and cropped as the model of `to_onnx` takes them.

    Parameters
    ----------
    estimator : Pipeline, PretrainedCNNFeatures, FineTunedClassifier, FineTunedRegressor or search
        As for `to_onnx`.
    X : array, sequence, Series, tensor or Dataset of n images
        In any form that the estimator takes.
    dtype : {"uint8", "float32"}, default="uint8"
        As given to `to_onnx`.

    Returns
    -------
    ndarray of shape (n, height, width, channels)

    Raises
    ------
    ValueError
        The images hold floats, which as uint8 would not be the same.

    Examples
    --------
    >>> from sklearn.datasets import load_sample_images
    >>> from sktransfer import PretrainedCNNFeatures
    >>> from sktransfer.export import onnx_input
    >>> photos = load_sample_images().images
    >>> features = PretrainedCNNFeatures().fit(photos)
    >>> onnx_input(features, photos).shape
    (2, 224, 224, 3)
    """
    _check_dtype(dtype)
    pixels = pixels_of(parts_of(unwrapped(estimator)).transformers[0], X)
    if dtype == "float32":
        return pixels / np.float32(255) if pixels.dtype == np.uint8 else pixels
    if pixels.dtype != np.uint8:
        raise ValueError(
            "X holds floats, which dtype='uint8' would round; pass dtype='float32', to to_onnx as "
            "well, or images of uint8"
        )
    return pixels


def _check_dtype(dtype: Any) -> None:
    if dtype not in _DTYPES:
        raise ValueError(f"dtype must be one of {_DTYPES}, got {dtype!r}")


def _require_packages() -> None:
    missing = [
        name
        for name in ("onnx", "onnxruntime", "onnxscript", "skl2onnx")
        if find_spec(name) is None
    ]
    if missing:
        raise ImportError(
            f'ONNX export needs {" and ".join(missing)}: run `pip install "sktransfer[onnx]"`'
        )
