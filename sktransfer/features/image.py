"""Images to vectors: a pretrained convolutional network or vision transformer as a transformer."""

import copy
import dataclasses
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from sktransfer.backbones.custom import OwnBackbone
from sktransfer.backbones.registry import (
    Backbone,
    load_backbone,
    rebuild_backbone,
    shared_backbone,
)
from sktransfer.backbones.weights import module_to_bytes
from sktransfer.exceptions import ImageReadError
from sktransfer.extraction.preprocessing import Preprocessing, prepare
from sktransfer.extraction.reading import read_image
from sktransfer.extraction.runner import (
    FailedImage,
    extract,
    image_error,
    read_item,
    resolve_device,
)
from sktransfer.extraction.sources import as_image_items, name_of, rows_to_images
from sktransfer.extraction.staged import StagedNetwork
from sktransfer.features._parameters import (
    check_parameters,
    resolve_layers,
    resolve_preprocessing,
    restored_on_error,
)

# What scikit-learn's validation notes of rows of pixels.
_SEEN = {"n_features_in_", "feature_names_in_"}


class PretrainedCNNFeatures(TransformerMixin, BaseEstimator):
    """Features of images from a layer of a pretrained network.

    Each image runs through the network up to the last wanted layer; what the layer
    puts out is pooled over its positions to one vector. This is feature-representation
    transfer with a frozen network [1]_. Which layer transfers best depends on how far
    the new images are from ImageNet [2]_: for images unlike photographs a middle layer
    usually beats the last one by far, so search over `layer`.

    Parameters
    ----------
    backbone : str, nn.Module subclass, callable or nn.Module, default="efficientnet_lite0"
        A name from `sktransfer.list_backbones`, such as "resnet50", "vgg16",
        "timm/convnext_tiny" or "hf-hub:<organisation>/<name>@<revision>"; or your own
        network as a class, a function that returns one, or an instance. `fit` works on a
        copy, and `sklearn.base.clone` copies an instance, too: for ``Pipeline(memory=...)``
        the copies are different networks, so prefer a class or function there.
    weights : str or Path, default="default"
        "default" for the published weights (for your own network those it comes with),
        "random" for fresh ones, or the path of a ``.safetensors`` or ``.pth`` file.
    weights_sha256 : str or None, default=None
        SHA-256, or its first digits, that the weights must have; see `weights_sha256_`.
    layer : str, int or tuple of these, default="penultimate"
        Where features are read: "penultimate" (what the classifier sees), "output" (what
        the network returns), any name of ``module_.named_modules()`` that puts out one
        tensor, or the number of a stage in `stages_` (negative from the deepest). The
        features of several layers are concatenated. A single pass serves all, and ends
        after the deepest.
    pooling : {"avg", "max", "avg+max", "gem", "cls", "flatten"}, default="avg"
        How a feature map or a grid of tokens becomes a vector: mean, maximum, both,
        generalised mean with exponent 3 [3]_, the class token of a vision transformer, or
        all values. Layers that put out a vector are taken as they are.
    image_size : int, tuple of int or None, default=None
        Height and width in pixels of what the network receives. None takes the backbone's
        own size (224 for most), or for a network that states none the size of the first
        image in `fit`. Small images need small sizes: 32 for digits of 8 x 8.
    resize : {"crop", "squash"}, default="crop"
        "crop" resizes the shorter side and cuts the centre, as in the evaluation of nearly
        all published networks; "squash" fits the whole image, whatever its aspect ratio.
    mean, std : float, sequence of float or None, default=None
        Per-channel normalisation of values in [0, 1]; None takes the backbone's own, which
        for your own network is none.
    image_shape : tuple of int or None, default=None
        With None, X holds images. With (height, width) or (height, width, channels) - or
        (channels, height, width) for ``channels="first"`` - X is 2-D and each row holds the
        pixels of one image. One entry may be -1.
    channels : {"last", "first"}, default="last"
        Where arrays keep their channels.
    value_range : tuple of float or None, default=None
        Black and white of arrays and of files deeper than 8 bits. None means 0 to 255 for
        uint8, 0 to 1 for floats, the full scale for 16-bit files, and an error for anything
        else.
    strategy : {"frozen"}, default="frozen"
        Transfer strategy. The network is used as it is.
    cache : None, default=None
        Feature store. Not available yet.
    batch_size : int, default=64
        Images per forward pass. Memory grows with it, not with the number of images.
    device : str, default="auto"
        "auto", "cpu", "cuda", "cuda:1", "mps"; "auto" prefers a GPU.
    precision : {"float32", "bfloat16"}, default="float32"
        Arithmetic inside the network. The features are float32 either way.
    on_error : {"raise", "nan"}, default="raise"
        Whether an image that cannot be read is an error, or a row of NaN and an entry of
        `errors_`. Rows are never dropped.
    max_pixels : int, default=89478485
        Images with more pixels are refused before they are decoded. The default is Pillow's
        own threshold for suspected decompression bombs.
    random_state : int, RandomState instance or None, default=None
        Seeds ``weights="random"`` and networks that initialise themselves. torch's global
        generator is neither used nor moved.
    verbose : bool or int, default=False
        Show a progress bar while transforming.

    Attributes
    ----------
    module_ : nn.Module
        The network, frozen and in evaluation mode. Named backbones are shared by all
        estimators of a process: copy before you change it.
    layer_ : tuple of str
        Names of the layers in use.
    layers_ : list of str
        All layers that can be asked for, in order of execution.
    stages_ : list of str
        The main blocks, shallow to deep, by which integers count.
    image_size_ : tuple of int
        Height and width of what the network receives, in pixels.
    weights_sha256_ : str
        SHA-256 of the weights file, or for weights without one, of the state dict written
        as safetensors.
    feature_slices_ : dict of str to slice
        Columns of the output that belong to each layer.
    errors_ : list of FailedImage
        (index, path, message) of the images that the last `transform` could not read.
    device_ : str
        Device in use.
    n_features_in_ : int
        Number of pixel values in a row. Only with `image_shape`.
    feature_names_in_ : ndarray of str
        Column names. Only with `image_shape` and a DataFrame.

    See Also
    --------
    sktransfer.list_backbones : Names for `backbone`.
    sktransfer.datasets.list_images : Paths and class labels of a folder of images.

    Notes
    -----
    A fitted estimator with a named backbone and its default weights pickles as a reference:
    the weights are loaded again, and their SHA-256 is verified, when it is unpickled. Other
    weights of named backbones travel inside the pickle as safetensors, and a network of your
    own as itself. An estimator fitted on a GPU can be unpickled without one.

    References
    ----------
    .. [1] S. J. Pan and Q. Yang, "A survey on transfer learning", IEEE Transactions on
       Knowledge and Data Engineering 22(10), 2010.
    .. [2] J. Yosinski, J. Clune, Y. Bengio and H. Lipson, "How transferable are features in
       deep neural networks?", NeurIPS 2014.
    .. [3] F. Radenovic, G. Tolias and O. Chum, "Fine-tuning CNN image retrieval with no human
       annotation", IEEE TPAMI 41(7), 2019, equation 3.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransfer import PretrainedCNNFeatures
    >>> digits = load_digits()
    >>> images, labels = digits.images[:300] / 16, digits.target[:300]
    >>> features = PretrainedCNNFeatures(layer="blocks.3", image_size=32)
    >>> features.fit_transform(images).shape
    (300, 80)
    >>> features.get_feature_names_out()[:2]
    array(['blocks.3_avg_0', 'blocks.3_avg_1'], dtype=object)
    >>> pipeline = make_pipeline(features, LinearDiscriminantAnalysis())
    >>> bool(pipeline.fit(images[:200], labels[:200]).score(images[200:], labels[200:]) > 0.9)
    True
    """

    def __init__(
        self,
        backbone: str | OwnBackbone = "efficientnet_lite0",
        *,
        weights: str | Path = "default",
        weights_sha256: str | None = None,
        layer: str | int | tuple[str | int, ...] = "penultimate",
        pooling: str = "avg",
        image_size: int | tuple[int, int] | None = None,
        resize: str = "crop",
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        image_shape: tuple[int, ...] | None = None,
        channels: str = "last",
        value_range: tuple[float, float] | None = None,
        strategy: str = "frozen",
        cache: None = None,
        batch_size: int = 64,
        device: str = "auto",
        precision: str = "float32",
        on_error: str = "raise",
        max_pixels: int = 89_478_485,
        random_state: Any = None,
        verbose: bool | int = False,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.weights_sha256 = weights_sha256
        self.layer = layer
        self.pooling = pooling
        self.image_size = image_size
        self.resize = resize
        self.mean = mean
        self.std = std
        self.image_shape = image_shape
        self.channels = channels
        self.value_range = value_range
        self.strategy = strategy
        self.cache = cache
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.on_error = on_error
        self.max_pixels = max_pixels
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Load the network and settle the image size, the layers and the pooling.

        Only the first readable image is looked at; labels are not used.

        Parameters
        ----------
        X : array, sequence, Series, tensor or Dataset of n images
            uint8 or float arrays of shape (n, height, width) or (n, height, width, channels);
            a list, array or Series of paths; PIL images; arrays of unequal size; or any object
            with ``len`` and indexing that yields images or (image, target) pairs, such as a
            torch ``Dataset``. With `image_shape`, an array or DataFrame of shape
            (n, n_pixels).
        y : None
            Ignored.

        Returns
        -------
        self : PretrainedCNNFeatures

        Raises
        ------
        ValueError
            A parameter is out of its range, or X does not hold images.
        ImageReadError
            The first image cannot be read (with ``on_error="nan"``: none can).
        WeightsNotFoundError, WeightsMismatchError
            The weights are not to be had, or are not the expected ones.
        """
        check_parameters(self)
        device = resolve_device(self.device)
        backbone = self._load(device)
        how = resolve_preprocessing(self, backbone.info.preprocessing)
        with restored_on_error(self, _SEEN):
            items = self._items(X, how.in_channels, reset=True)
            if how.size is None:
                size = self._first_image(items, self._size_reader(how))
                how = dataclasses.replace(how, size=size)
            else:
                self._first_image(items, self._reader(how))
            assert how.size is not None
            trace = backbone.trace(how.size)
            layers = resolve_layers(self, trace)
        # All went well: only now does the estimator change.
        self.device_ = str(device)
        self.weights_sha256_ = backbone.weights_sha256
        self.image_size_ = how.size
        self.layer_ = layers
        self.layers_ = list(trace.activations)
        self.stages_ = list(trace.stages)
        self.errors_: list[FailedImage] = []
        self._preprocessing = how
        # How the network can be had again, whatever set_params says afterwards: by name and
        # default weights, by name and the weights themselves, or not without the network.
        self._name = self.backbone if isinstance(self.backbone, str) else None
        self._by_reference = self._name is not None and self._by_default()
        self._attach(backbone, self.pooling)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Features of each image, one row per image in the order of X.

        Parameters
        ----------
        X : array, sequence, Series, tensor or Dataset of n images
            In any of the forms that `fit` takes.

        Returns
        -------
        ndarray of shape (n, n_features_out), float32
            Or a DataFrame, after ``set_output``.

        Raises
        ------
        ImageReadError
            With ``on_error="raise"``, the first image that cannot be read, by row and path.
        """
        check_is_fitted(self)
        check_parameters(self)
        items = self._items(X, self._preprocessing.in_channels, reset=False)
        features, self.errors_ = extract(
            self._network,
            items,
            self._reader(self._preprocessing),
            n_features=sum(width for _, width in self._blocks()),
            batch_size=self.batch_size,
            device=torch.device(self.device_),
            precision=self.precision,
            on_error=self.on_error,
            progress=type(self).__name__ if self.verbose else None,
        )
        if self.errors_:
            warnings.warn(
                f"{len(self.errors_)} of {len(items)} images could not be read and are rows of "
                f"NaN; `errors_` says why. The first: {self.errors_[0].message}",
                stacklevel=2,
            )
        return features

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the features: layer, pooling and number, as in "blocks.3_avg_17".

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Only checked against the names seen in `fit`.

        Returns
        -------
        ndarray of str, dtype object
        """
        check_is_fitted(self)
        n_features_in = getattr(self, "n_features_in_", None)
        if input_features is not None and n_features_in is not None:
            names_in = getattr(self, "feature_names_in_", None)
            if names_in is not None and not np.array_equal(names_in, input_features):
                raise ValueError("input_features is not equal to feature_names_in_")
            if len(input_features) != n_features_in:
                raise ValueError(
                    "input_features should have length equal to number of features "
                    f"({n_features_in}), got {len(input_features)}"
                )
        names = [f"{prefix}_{i}" for prefix, width in self._blocks() for i in range(width)]
        return np.asarray(names, dtype=object)

    # --- input ----------------------------------------------------------------------------

    def _items(self, X: Any, in_channels: int, *, reset: bool) -> Any:
        if self.image_shape is None:
            if reset:  # an earlier fit may have seen rows of pixels
                for name in _SEEN & vars(self).keys():
                    delattr(self, name)
            return as_image_items(X, channels=self.channels, in_channels=in_channels)
        rows = validate_data(self, X, reset=reset, ensure_all_finite=self.on_error == "raise")
        return rows_to_images(rows, self.image_shape)

    def _decode(self, item: Any) -> Any:
        return read_image(
            item,
            channels=self.channels,
            value_range=self.value_range,
            max_pixels=self.max_pixels,
        )

    def _reader(self, how: Preprocessing) -> Callable[[Any], np.ndarray]:
        """What turns an item of X into the array that the network takes."""
        return lambda item: prepare(self._decode(item), how, max_pixels=self.max_pixels)

    def _size_reader(self, how: Preprocessing) -> Callable[[Any], tuple[int, int]]:
        """What tells height and width of an item, and sees to it that its channels fit."""

        def read(item: Any) -> tuple[int, int]:
            image = self._decode(item)
            height, width = image.shape[:2] if isinstance(image, np.ndarray) else image.size[::-1]
            own_size = dataclasses.replace(how, size=(height, width))
            prepare(image, own_size, max_pixels=self.max_pixels)
            return height, width

        return read

    def _first_image(self, items: Sequence[Any], read: Callable[[Any], Any]) -> Any:
        """What `read` makes of the first image, or with on_error="nan" of the first good one."""
        failures = []
        for index in range(len(items)):
            result = read_item(items, index, read)
            if not isinstance(result, ImageReadError):
                return result
            failures.append(FailedImage(index, name_of(items, index), str(result)))
            if self.on_error == "raise":
                raise image_error(failures[0]) from result
        raise ImageReadError(
            f"none of the {len(items)} images can be read; the first, "
            f"{failures[0].path or 'X[0]'}: {failures[0].message}"
        )

    # --- the network ----------------------------------------------------------------------

    def _by_default(self) -> bool:
        return isinstance(self.weights, str) and self.weights == "default"

    def _load(self, device: torch.device) -> Backbone:
        if isinstance(self.backbone, str) and self._by_default():
            return shared_backbone(self.backbone, self.weights_sha256, device)
        backbone = load_backbone(
            self.backbone,
            self.weights,
            weights_sha256=self.weights_sha256,
            random_state=self.random_state,
        )
        backbone.module.to(device)
        return backbone

    def _attach(self, backbone: Backbone, pooling: str) -> None:
        """Take a loaded network into use."""
        self._backbone = backbone
        self.module_ = backbone.module
        trace = backbone.trace(self.image_size_)
        self._network = StagedNetwork(backbone.module, trace, self.layer_, pooling)

    @property
    def feature_slices_(self) -> dict[str, slice]:
        """Columns of each layer, in the order of `layer_`."""
        check_is_fitted(self)
        slices, start = {}, 0
        for layer, activation in self._network.taken():
            stop = start + activation.width(self._network.pooling)
            slices[layer] = slice(start, stop)
            start = stop
        return slices

    def _blocks(self) -> list[tuple[str, int]]:
        """Name prefix and width of each run of features."""
        blocks = []
        pooling = self._network.pooling
        for layer, activation in self._network.taken():
            width = activation.width(pooling)
            if not activation.is_spatial:
                blocks.append((layer, width))
            elif pooling == "avg+max":
                blocks += [(f"{layer}_avg", width // 2), (f"{layer}_max", width // 2)]
            else:
                blocks.append((f"{layer}_{pooling}", width))
        return blocks

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_network")

    # --- pickling -------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__().copy()
        network = state.pop("_network", None)
        for loaded in ("module_", "_backbone"):
            state.pop(loaded, None)
        if network is None:
            return state
        state["_pooling"] = network.pooling
        if self._name is None:
            # A state dict does not hold all of a network: plain attributes, buffers that
            # are not persistent. On the CPU, so that it can be unpickled anywhere.
            info = self._backbone.info
            state["_own"] = (copy.deepcopy(network.module).cpu(), info)
        elif not self._by_reference:
            state["_module_bytes"] = module_to_bytes(network.module)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = state.copy()
        pooling = state.pop("_pooling", None)
        data = state.pop("_module_bytes", None)
        own = state.pop("_own", None)
        super().__setstate__(state)
        if pooling is None:  # not fitted
            return
        try:
            device = resolve_device("auto" if self.device == "auto" else self.device_)
        except ValueError:
            warnings.warn(
                f"the estimator was fitted on device={self.device_!r}, which this machine lacks; "
                "using the CPU",
                stacklevel=2,
            )
            device = torch.device("cpu")
        self.device_ = str(device)
        if self._name is None:
            module, info = own
            backbone = Backbone(module, info, self.weights_sha256_)
        elif self._by_reference:
            backbone = shared_backbone(self._name, self.weights_sha256_, device)
        else:
            backbone = rebuild_backbone(self._name, data, self.weights_sha256_)
        backbone.module.to(device)
        self._attach(backbone, pooling)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.input_tags.three_d_array = self.image_shape is None
        tags.input_tags.string = self.image_shape is None
        tags.input_tags.allow_nan = self.on_error == "nan"
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
