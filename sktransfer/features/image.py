"""Images to vectors: a pretrained convolutional network or vision transformer as a transformer."""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sktransfer.backbones.custom import CustomBackbone
from sktransfer.backbones.entry import BackboneInfo
from sktransfer.backbones.loaded_network import sha256_of
from sktransfer.backbones.registry import (
    Backbone,
    load_backbone,
    rebuild_backbone,
    shared_backbone,
)
from sktransfer.backbones.weights import module_to_bytes
from sktransfer.features._image_parameters import (
    check_parameters,
    resolve_layers,
    resolve_poolings,
    resolve_preprocessing,
)
from sktransfer.features.base import (
    FeatureTransformer,
    Fitted,
    FittedAttribute,
    check_finite,
    slices_of,
)
from sktransfer.features.dask import first_part, refuse_dask
from sktransfer.finetuning.buffers import allocate
from sktransfer.finetuning.network import Body
from sktransfer.finetuning.strategy import FineTune
from sktransfer.images.augmenting import image_change, views_of
from sktransfer.images.body import ImageBody, TunableImages
from sktransfer.images.item_reader import ItemReader
from sktransfer.images.pixels import ReadingOptions
from sktransfer.images.preprocessing import Preprocessing, normalised, resized_size
from sktransfer.images.runner import (
    FailedImage,
    extract,
    first_readable,
    in_passes,
    read_all,
)
from sktransfer.images.sources import as_image_items, rows_to_images
from sktransfer.images.stored_features import Extracted, extract_cached
from sktransfer.images.tracing import ImageTrace
from sktransfer.networks.devices import resolve_device
from sktransfer.networks.engines import Engine, Network, make_engine, resolve_engine
from sktransfer.networks.layers import Read
from sktransfer.networks.modules import frozen, packed, unpacked
from sktransfer.store import FeatureStore

# To be raised when the same parameters come to give other numbers.
_FORMAT = 1


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class FittedImages(Fitted):
    """All that `fit` has loaded and learned for images.

    Parameters
    ----------
    network : Backbone or None
    name : str or None
        Name of the backbone; None for a network of the user's own.
    info : BackboneInfo
    preprocessing : Preprocessing
        With a known size.
    reads : tuple of Read
    layers : tuple of str
        Those that are read.
    all_layers, stages : list of str
    """

    network: Backbone | None
    name: str | None
    info: BackboneInfo
    preprocessing: Preprocessing
    reads: tuple[Read, ...]
    layers: tuple[str, ...]
    all_layers: list[str]
    stages: list[str]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what the network receives."""
        assert self.preprocessing.size is not None
        return self.preprocessing.size

    @property
    def trace(self) -> ImageTrace:
        """The layers of the network for images of this size."""
        assert self.network is not None
        return self.network.trace(self.size)


class PretrainedCNNFeatures(FeatureTransformer[FittedImages]):
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
    weights_prefix : str or None, default=None
        Beginning of the names of the network's tensors in a weights file that holds others, too,
        such as "encoder.". A prefix that all tensors of a file have is found without it.
    layer : str, int or tuple of these, default="penultimate"
        Where features are read: "penultimate" (what the classifier sees), "output" (what
        the network returns), any name of ``module_.named_modules()`` that puts out one
        tensor, or the number of a stage in `stages_` (negative from the deepest). The
        features of several layers are concatenated. A single pass serves all, and ends
        after the deepest. "auto" chooses among the stages and "penultimate" by the labels given to
        `fit`: the one of the highest LogME [4]_, on standardised features, or the one before it
        if that is within a standard error. It needs one pass over the images of `fit`. Whole
        numbers in y are classes; below some hundred labels the choice wavers.
    pooling : str or tuple of str, default="mean"
        How a feature map or a grid of tokens becomes a vector: "mean" (or "avg"), "max", "gem"
        (generalised mean with exponent 3 [3]_), "cls" (the class token of a vision transformer),
        "flatten" (all values), or several of these, joined as in "mean+max". Layers that put out
        a vector are taken as they are.
    image_size : int, tuple of int or None, default=None
        Height and width in pixels of what the network receives. None takes the backbone's
        own size (224 for most), or for a network that states none the size of the first
        image in `fit`. Small images need small sizes: 32 for digits of 8 x 8.
    resize : {"crop", "squash", "squash+crop", "border"} or None, default=None
        None takes the backbone's own. "crop" resizes the shorter side and cuts the centre, as
        in the evaluation of nearly all published networks; "squash" fits the whole image,
        whatever its aspect ratio, and "squash+crop" then cuts the centre; "border" fits the
        whole image with its aspect ratio, and fills the rest with the mean colour.
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
    strategy : "frozen" or FineTune, default="frozen"
        Transfer strategy. "frozen" uses the network as it is; a `FineTune` trains part of it, or
        all, on the labels given to `fit`, and `transform` reads the tuned layer. Its parameters
        can be searched, as ``strategy__learning_rate``.
    cross_fit : int or None, default=None
        With a `FineTune`, `fit_transform` gives each row the features of a network that was tuned
        on other rows, in so many folds (stratified by class), so that a step after it does not
        learn from features that have seen their labels. `fit` and `transform` use the network tuned
        on all rows, as scikit-learn's `TargetEncoder` does. It takes as many trainings more. A
        frozen network, and one whose head alone is trained, needs and does none.
    cache : str, Path, FeatureStore or None, default=None
        Folder of a feature store. Each image then goes through the network once, whatever the
        layers, poolings, folds and processes of a search: one pass stores average and maximum
        of every stage. Images are found by their content, under the same network, weights,
        preprocessing, precision and engine only.
    batch_size : int, default=64
        Images read ahead and handed over together. Memory grows with it, not with the number
        of images. A CPU takes as many of them at once as suit its caches.
    device : str, default="auto"
        "auto", "cpu", "cuda", "cuda:1", "mps"; "auto" prefers a GPU.
    engine : {"auto", "torch", "openvino"}, default="auto"
        What runs the network. "auto" takes OpenVINO where it is installed
        (``pip install "sktransfer[openvino]"``) and the device is a CPU, and torch, with a
        warning, for a network that OpenVINO cannot convert, or whose code decides by values of
        pixels. Their float32 features agree within about 1e-6 relative to the largest.
    precision : {"float32", "bfloat16"}, default="float32"
        Arithmetic inside the network. The features are float32 either way.
    fast_decode : bool, default=False
        Decode JPEG files at a half, a quarter or an eighth of their size where that is still
        no smaller than what the network needs. Several times faster for large photographs;
        pixels shift a little.
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
    fitted_ : FittedImages
        Record of all that `fit` has loaded and learned; the attributes below are read from it.
    module_ : nn.Module
        The network, frozen and in evaluation mode. Named backbones are shared by all
        estimators of a process: copy before you change it.
    layer_ : tuple of str
        Names of the layers in use.
    layer_scores_ : dict of str to float
        LogME of each layer that ``layer="auto"`` chose from, the higher the better.
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
        (index, path, message) of the images that this thread's last `transform` could not read.
    device_ : str
        Device in use.
    engine_ : {"torch", "openvino"}
        Engine in use.
    n_forward_ : int
        Number of images that have gone through the network since `fit`. With a warm `cache`
        it stays zero.
    n_features_in_ : int
        Number of pixel values in a row. Only with `image_shape`.
    feature_names_in_ : ndarray of str
        Column names. Only with `image_shape` and a DataFrame.

    See Also
    --------
    sktransfer.FeatureStore : What `cache` keeps, and how to look into it.
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
    .. [4] K. You et al., "LogME: practical assessment of pre-trained models for transfer
       learning", ICML 2021.

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
    array(['blocks.3_mean_0', 'blocks.3_mean_1'], dtype=object)
    >>> pipeline = make_pipeline(features, LinearDiscriminantAnalysis())
    >>> bool(pipeline.fit(images[:200], labels[:200]).score(images[200:], labels[200:]) > 0.9)
    True
    """

    def __init__(
        self,
        backbone: str | CustomBackbone = "efficientnet_lite0",
        *,
        weights: str | Path = "default",
        weights_sha256: str | None = None,
        weights_prefix: str | None = None,
        layer: str | int | tuple[str | int, ...] = "penultimate",
        pooling: str | tuple[str, ...] = "mean",
        image_size: int | tuple[int, int] | None = None,
        resize: str | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        image_shape: tuple[int, ...] | None = None,
        channels: str = "last",
        value_range: tuple[float, float] | None = None,
        strategy: str | FineTune = "frozen",
        cross_fit: int | None = None,
        cache: str | Path | FeatureStore | None = None,
        batch_size: int = 64,
        device: str = "auto",
        engine: str = "auto",
        precision: str = "float32",
        fast_decode: bool = False,
        on_error: str = "raise",
        max_pixels: int = 89_478_485,
        random_state: Any = None,
        verbose: bool | int = False,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.weights_sha256 = weights_sha256
        self.weights_prefix = weights_prefix
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
        self.cross_fit = cross_fit
        self.cache = cache
        self.batch_size = batch_size
        self.device = device
        self.engine = engine
        self.precision = precision
        self.fast_decode = fast_decode
        self.on_error = on_error
        self.max_pixels = max_pixels
        self.random_state = random_state
        self.verbose = verbose

    _augments: ClassVar[bool] = True
    _mirrors: ClassVar[bool] = True
    _unusable = "images could not be read"

    layer_ = FittedAttribute("layers")
    engine_ = FittedAttribute("engine_in_use")
    errors_ = FittedAttribute("errors")
    image_size_ = FittedAttribute("size")
    layers_ = FittedAttribute("all_layers")
    stages_ = FittedAttribute("stages")

    @property
    def feature_slices_(self) -> dict[str, slice]:
        """Columns of each layer, in the order of `layer_`."""
        check_is_fitted(self)
        return self._columns_of_layers(self.fitted_)

    def fit(
        self, X: Any, y: Any = None, *, sample_weight: Any = None, sample_domain: Any = None
    ) -> Self:
        """Load the network, settle image size, layers and pooling, and fine-tune if asked to.

        With ``strategy="frozen"`` only the first readable image is looked at, and labels are not
        used.

        Parameters
        ----------
        X : array, sequence, Series, tensor or Dataset of n images
            uint8 or float arrays of shape (n, height, width) or (n, height, width, channels);
            a list, array or Series of paths; PIL images; arrays of unequal size; or any object
            with ``len`` and indexing that yields images or (image, target) pairs, such as a
            torch ``Dataset``. With `image_shape`, an array or DataFrame of shape
            (n, n_pixels). Only the first block of a dask collection is read.
        y : array-like of shape (n,) or (n, n_outputs), or None
            For a `FineTune`: classes, an indicator matrix of several labels, or continuous
            numbers, told apart by their type. None takes the labels of X if that is a torch
            ``Dataset`` whose items are tuples (sample, label).
        sample_weight : array-like of shape (n,) or None, default=None
            Weights of the rows in fine-tuning. A frozen network has no use for them.
        sample_domain : array-like of shape (n,) or None, default=None
            For fine-tuning with an `alignment`: positive in source rows, negative in target rows,
            whose y is not used. Without `alignment` target rows are left out.

        Returns
        -------
        self : PretrainedCNNFeatures

        Raises
        ------
        ValueError
            A parameter is out of its range, X does not hold images, or `y` does not suit
            fine-tuning.
        ImageReadError
            The first image cannot be read (with ``on_error="nan"``: none can).
        WeightsNotFoundError, WeightsMismatchError
            The weights are not to be had, or are not the expected ones.
        ImportError
            ``engine="openvino"`` without OpenVINO.
        """
        return super().fit(X, y, sample_weight=sample_weight, sample_domain=sample_domain)

    def _check_parameters(self) -> None:
        self._check_common_parameters()
        check_parameters(self)

    def _load(self, X: Any, every_layer: bool) -> tuple[FittedImages, int]:
        device = resolve_device(self.device)
        engine = resolve_engine(self.engine, device)
        backbone = self._load_backbone(device)
        _ = backbone.fingerprint  # taken before a pass, as a network may count its calls
        preprocessing = resolve_preprocessing(self, backbone.info.preprocessing)
        items, noted = self._read_items(
            X if every_layer else first_part(X), preprocessing.in_channels, reset=True
        )
        reader = self._reader(preprocessing)
        if preprocessing.size is None:
            size = first_readable(items, reader.size, self.on_error)
            preprocessing = dataclasses.replace(preprocessing, size=size)
        else:  # what is no image is refused before it is transformed
            first_readable(items, reader.input, self.on_error)
        assert preprocessing.size is not None
        trace = backbone.trace(preprocessing.size)
        poolings = resolve_poolings(self.pooling)
        asked = trace.candidates() if every_layer else self.layer
        layers = resolve_layers(asked, poolings, trace)
        fitted = FittedImages(
            network=backbone,
            # How the network can be had again, whatever set_params says afterwards: by name and
            # default weights, by name and the weights themselves, or not without the network.
            name=self.backbone if isinstance(self.backbone, str) else None,
            by_reference=isinstance(self.backbone, str) and self._has_default_weights(),
            info=backbone.info,
            device=str(device),
            engine=engine,
            weights_sha256=backbone.weights_sha256,
            preprocessing=preprocessing,
            reads=trace.reads(layers, poolings),
            layers=layers,
            all_layers=list(trace.activations),
            stages=list(trace.stages),
            **noted,
        )
        return fitted, len(items)

    def _has_default_weights(self) -> bool:
        return isinstance(self.weights, str) and self.weights == "default"

    def _load_backbone(self, device: torch.device) -> Backbone:
        if isinstance(self.backbone, str) and self._has_default_weights():
            return shared_backbone(self.backbone, self.weights_sha256, device)
        backbone = load_backbone(
            self.backbone,
            self.weights,
            weights_sha256=self.weights_sha256,
            weights_prefix=self.weights_prefix,
            random_state=self.random_state,
        )
        backbone.module.to(device)
        return backbone

    def transform(self, X: Any) -> np.ndarray:
        """Features of each image, one row per image in the order of X.

        Parameters
        ----------
        X : array, sequence, Series, tensor or Dataset of n images
            In any of the forms that `fit` takes, or as a dask Array, Bag, Series or DataFrame.

        Returns
        -------
        ndarray of shape (n, n_features_out), float32
            Or a DataFrame, after ``set_output``. The features of a dask collection are a dask
            array, which dask's workers compute when it is asked for.

        Raises
        ------
        ImageReadError
            With ``on_error="raise"``, the first image that cannot be read, by row and path.
        """
        return self._transform(X)

    # --- features -------------------------------------------------------------------------

    def _features(self, X: Any, fitted: FittedImages) -> tuple[np.ndarray, np.ndarray]:
        items = self._items(X, fitted)
        return self._read_features(items, self._extract(items, fitted, fitted.reads), fitted)

    def _read_features(
        self, items: Sequence[Any], found: Extracted, fitted: FittedImages
    ) -> tuple[np.ndarray, np.ndarray]:
        fitted.forwarded.count(found.n_forward)
        return found.features, self._note_failures(len(items), found.failed, fitted)

    def _extract(
        self,
        items: Sequence[Any],
        fitted: FittedImages,
        reads: tuple[Read, ...],
        out: np.ndarray | None = None,
    ) -> Extracted:
        """Some reads of all items, through the store if there is one."""
        options: dict[str, Any] = {
            "read": self._reader(fitted.preprocessing).input,
            "batch_size": self.batch_size,
            "on_error": self.on_error,
            "progress": type(self).__name__ if self.verbose else None,
            "out": out,
        }
        session = self._session(fitted)
        if session is None:
            width = sum(map(fitted.trace.width, reads))
            engine = self._engine(fitted, reads)
            features, failed = extract(engine, items, n_features=width, **options)
            return Extracted(features, failed, len(items) - len(failed))
        return extract_cached(
            session,
            partial(self._engine, fitted),
            items,
            trace=fitted.trace,
            reads=reads,
            max_pixels=self.max_pixels,
            **options,
        )

    def _engine(self, fitted: FittedImages, reads: tuple[Read, ...]) -> Engine:
        assert fitted.network is not None
        network = Network(fitted.module, fitted.trace, fitted.network.fingerprint)
        device = torch.device(fitted.device)
        engine = make_engine(fitted.engine_in_use, network, reads, device, self.precision)
        return in_passes(engine, fitted.size) if device.type == "cpu" else engine

    def _store_key(self, fitted: FittedImages) -> tuple[tuple[Any, ...], str]:
        assert fitted.network is not None
        decided_by = (
            max(_FORMAT, fitted.trace.format),
            fitted.network.fingerprint,
            fitted.preprocessing,
            *fitted.preprocessing.revisions,
            self.channels,
            self.value_range,
            self.max_pixels,
            bool(self.fast_decode),
            fitted.engine_in_use,
            torch.device(fitted.device).type,
            self.precision,
        )
        height, width = fitted.size
        description = (
            f"{fitted.info.name}, {height} x {width}, {fitted.engine_in_use}, {self.precision}"
        )
        return decided_by, description

    def _columns_of_layers(self, fitted: FittedImages) -> dict[str, slice]:
        trace = fitted.trace
        return slices_of((read.layer, trace.width(read)) for read in fitted.reads)

    def _read_layer(
        self, fitted: FittedImages, features: np.ndarray, layer: str
    ) -> tuple[FittedImages, np.ndarray]:
        columns = self._columns_of_layers(fitted)[layer]
        reads = tuple(read for read in fitted.reads if read.layer == layer)
        return fitted.replace(layers=(layer,), reads=reads), features[:, columns]

    def _names(self, fitted: FittedImages) -> np.ndarray:
        trace = fitted.trace
        names = []
        for read in fitted.reads:
            spatial = trace.activations[read.layer].is_spatial
            prefix = f"{read.layer}_{read.pooling}" if spatial else read.layer
            names += [f"{prefix}_{i}" for i in range(trace.width(read))]
        return np.asarray(names, dtype=object)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the features: layer, pooling and number, as in "blocks.3_mean_17".

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Only checked against the names seen in `fit`.

        Returns
        -------
        ndarray of str, dtype object
        """
        return super().get_feature_names_out(input_features)

    # --- reading --------------------------------------------------------------------------

    def _count_rows(self, X: Any, fitted: FittedImages) -> int:
        return len(self._items(X, fitted))

    def _items(self, X: Any, fitted: FittedImages) -> Sequence[Any]:
        return self._read_items(X, fitted.preprocessing.in_channels, reset=False)[0]

    def _read_items(
        self, X: Any, in_channels: int, *, reset: bool
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        refuse_dask(X)
        if self.image_shape is None:
            return as_image_items(X, channels=self.channels, in_channels=in_channels), {}
        rows, noted = self._validate_table(
            X, reset=reset, ensure_all_finite=self.on_error == "raise"
        )
        images: Any = rows_to_images(rows, self.image_shape)
        return images, noted

    def _reader(self, preprocessing: Preprocessing) -> ItemReader:
        enough = None
        if self.fast_decode and preprocessing.size:
            enough = partial(resized_size, preprocessing=preprocessing)
        options = ReadingOptions(
            self.max_pixels, self.value_range, self.channels, preprocessing.in_channels, enough
        )
        return ItemReader(options, preprocessing)

    def _pixels(self, items: Sequence[Any], fitted: FittedImages) -> tuple[np.ndarray, np.ndarray]:
        """Images in the size of the network, not yet normalised, and which could be read."""
        images, failed = self._read_pixels(items, fitted, self.on_error)
        return images, self._note_failures(len(items), failed, fitted)

    def _read_pixels(
        self, items: Sequence[Any], fitted: FittedImages, on_error: str
    ) -> tuple[np.ndarray, list[FailedImage]]:
        return read_all(
            items,
            self._reader(fitted.preprocessing).pixels,
            shape=(*fitted.size, fitted.preprocessing.in_channels),
            make=allocate,
            batch_size=self.batch_size,
            on_error=on_error,
        )

    def pixels_of(self, X: Any) -> np.ndarray:
        """Images resized and cropped as the network gets them, but not normalised.

        Parameters
        ----------
        X : array, sequence, Series, tensor or Dataset of n images

        Returns
        -------
        ndarray of shape (n, height, width, channels)
            uint8 if all are, else float32 within [0, 1].

        Raises
        ------
        ImageReadError
            An image cannot be read, whatever `on_error` says.
        """
        check_is_fitted(self)
        return self._read_pixels(self._items(X, self.fitted_), self.fitted_, "raise")[0]

    # --- fine-tuning ----------------------------------------------------------------------

    def _body(self, fitted: FittedImages, module: nn.Module) -> Body:
        return ImageBody(module, fitted.trace, fitted.reads)

    def _tunable(self, X: Any, fitted: FittedImages, body: Any) -> TunableImages:
        items = self._items(X, fitted)

        def activations(reads: tuple[Read, ...], out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            found = self._extract(items, fitted, reads, out)
            features, readable = self._read_features(items, found, fitted)
            for start in range(0, len(features), self.batch_size):  # it may be larger than memory
                rows = slice(start, start + self.batch_size)
                check_finite(features[rows], readable[rows], first=start)
            return features, readable

        return TunableImages(
            body,
            torch.device(fitted.device),
            fitted.preprocessing,
            len(items),
            activations,
            lambda: self._pixels(items, fitted),
        )

    def _with_module(self, fitted: FittedImages, module: nn.Module) -> FittedImages:
        weights_sha256 = sha256_of(module)
        return fitted.replace(
            network=Backbone(fitted.info.name, module, weights_sha256, fitted.info),
            weights_sha256=weights_sha256,
            by_reference=False,
            is_tuned=True,
            # Converting a network takes longer than most transforms.
            engine="torch" if self.engine == "auto" else fitted.engine,
        )

    def _augmented(
        self, X: Any, fitted: FittedImages, change: Any, strategy: FineTune, seed: int
    ) -> Iterator[np.ndarray]:
        pixels, readable = self._pixels(self._items(X, fitted), fitted)
        engine = self._engine(fitted, fitted.reads)
        for view in views_of(pixels, change, image_change(strategy, fitted.size), seed):
            starts = range(0, len(view), self.batch_size)
            parts = (
                normalised(view[i : i + self.batch_size], fitted.preprocessing) for i in starts
            )
            features = np.concatenate([np.concatenate(engine(part), axis=1) for part in parts])
            features[~readable] = np.nan
            yield features

    # --- pickling -------------------------------------------------------------------------

    def _pack(self, fitted: FittedImages) -> Any:
        if fitted.name is None:
            return packed(fitted.module)
        return None if fitted.by_reference else module_to_bytes(fitted.module)

    def _unpack(self, saved: Any, fitted: FittedImages, device: torch.device) -> Backbone:
        if fitted.name is None:
            network = frozen(unpacked(saved))
            return Backbone(fitted.info.name, network, fitted.weights_sha256, fitted.info)
        if fitted.by_reference:
            return shared_backbone(fitted.name, fitted.weights_sha256, device)
        return rebuild_backbone(fitted.name, saved, fitted.weights_sha256)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.input_tags.three_d_array = self.image_shape is None
        tags.input_tags.string = self.image_shape is None
        tags.input_tags.allow_nan = self.on_error == "nan"
        return tags
