"""Export of a fitted pipeline to one ONNX model, from pixels to predictions."""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sktransfer._composites import unwrapped
from sktransfer._validation import check_option
from sktransfer.export._comparison import compare, random_images
from sktransfer.export._head import head_model, joined
from sktransfer.export._network import PixelsToFeatures, network_model
from sktransfer.export._parts import metadata, parts_of
from sktransfer.networks.torch_settings import usual_settings

if TYPE_CHECKING:
    from onnx import ModelProto

_DTYPES = ("uint8", "float32")


@usual_settings()
def to_onnx(
    estimator: Any, path: str | Path | None = None, *, X: Any = None, dtype: str = "uint8"
) -> "ModelProto":
    """Write a fitted pipeline as one ONNX model, and compare it with the pipeline.

    The model scales and standardises the pixels, runs the network up to the layer that is read,
    pools its output, and applies the steps of scikit-learn, which skl2onnx converts. Only reading
    and resizing images is left to the caller; see `onnx_input`.

    Parameters
    ----------
    estimator : Pipeline, PretrainedCNNFeatures, FineTunedClassifier, FineTunedRegressor or search
        A fitted estimator. The first step of a Pipeline must be a `PretrainedCNNFeatures`, frozen
        or tuned, or a FeatureUnion of several that resize images alike; skl2onnx must support the
        other steps. A search is represented by its best estimator.
    path : str, Path or None, default=None
        The file to write the model to; None writes no file.
    X : array, sequence, Series, tensor or Dataset of images, or None, default=None
        About a dozen images, in any form that the pipeline takes, on which the model is compared
        with it. None means noise, on which a head may be so certain that no difference shows.
    dtype : {"uint8", "float32"}, default="uint8"
        Input of the model: integers from 0 to 255, or floats from 0 to 1.

    Returns
    -------
    onnx.ModelProto
        The input "images" has shape (n, height, width, channels), with the height and width of
        the transformer's `image_size_` and the channels of the network. The outputs are

        - "label" (n,) and "probabilities" (n, n_classes) for a classifier; if it has no
          `predict_proba`, "scores" (n, n_classes) replace the probabilities, and for two classes
          they are minus and plus the `decision_function`,
        - "prediction" (n, n_outputs) for a regressor,
        - "features" (n, n_features), float32, for a transformer.

        The `metadata_props` state how to resize images, and name the backbone, its weights, the
        classes and the versions of packages.

    Raises
    ------
    TypeError
        The estimator is none of the above.
    ValueError
        The networks of a FeatureUnion resize images differently, or the estimator predicts
        several labels.
    ConversionError
        torch or skl2onnx cannot convert a part, or the outputs of the model differ from those of
        the pipeline by more than 1e-4, relative to the largest output if that is above 1.
    ImportError
        A package is missing: ``pip install "sktransfer[onnx]"``.

    See Also
    --------
    onnx_input : Prepares the array to feed to the model.

    Notes
    -----
    torch traces the whole network, which takes from a few seconds to half a minute.

    The model computes in float32, whatever the transformer's `precision`. scikit-learn may compute
    the steps after the network in float64, so that an image at the threshold of a tree may fall on
    the other side.

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

    check_option("dtype", dtype, _DTYPES)
    estimator = unwrapped(estimator)
    parts = parts_of(estimator)
    network = PixelsToFeatures(parts.transformers)
    batch = random_images(network, dtype) if X is None else onnx_input(estimator, X, dtype=dtype)
    head = None  # converted first, since it fails faster than a network
    if parts.tail is not None:
        head = head_model(parts.tail, network.n_features, parts.kind, parts.outputs)
    model = network_model(network, batch)
    if head is not None:
        model = joined(model, head, parts.outputs)
    for output in model.graph.output:  # converters name the batch dimension differently
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
    """Read, resize and crop images as the model of `to_onnx` takes them.

    Parameters
    ----------
    estimator : Pipeline, PretrainedCNNFeatures, FineTunedClassifier, FineTunedRegressor or search
        As for `to_onnx`.
    X : array, sequence, Series, tensor or Dataset of n images
        Images in any form that the estimator takes.
    dtype : {"uint8", "float32"}, default="uint8"
        As given to `to_onnx`.

    Returns
    -------
    ndarray of shape (n, height, width, channels)

    Raises
    ------
    ValueError
        The images hold floats, which uint8 would round.

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
    check_option("dtype", dtype, _DTYPES)
    pixels = parts_of(unwrapped(estimator)).transformers[0].pixels_of(X)
    if dtype == "float32":
        return pixels / np.float32(255) if pixels.dtype == np.uint8 else pixels
    if pixels.dtype != np.uint8:
        raise ValueError(
            "X holds floats, which dtype='uint8' would round; pass dtype='float32', to to_onnx as "
            "well, or images of uint8"
        )
    return pixels


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
