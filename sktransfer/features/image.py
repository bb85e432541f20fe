"""Images to vectors: a pretrained convolutional network or vision transformer as a transformer."""

import copy
import dataclasses
import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from sktransfer._validation import source_mask
from sktransfer.backbones.custom import OwnBackbone
from sktransfer.backbones.registry import (
    Backbone,
    load_backbone,
    rebuild_backbone,
    shared_backbone,
)
from sktransfer.backbones.weights import module_to_bytes
from sktransfer.exceptions import ConversionError, ImageReadError
from sktransfer.features._image_parameters import (
    check_parameters,
    resolve_layers,
    resolve_preprocessing,
)
from sktransfer.features._shared import check_input_features, restored_on_error
from sktransfer.features.base import FeatureTransformer, slices_of
from sktransfer.features.dask import first_part, is_dask, refuse_dask, transform_lazily
from sktransfer.features.layer_choice import choose_layer, is_auto
from sktransfer.finetuning.buffers import roomy
from sktransfer.finetuning.fitting import SEEN, forget_table, pass_on
from sktransfer.finetuning.strategy import FineTune, is_frozen
from sktransfer.finetuning.targets import weights_of
from sktransfer.images.body import (
    ImageBody,
    TunableImages,
    augmentation,
    views_of,
)
from sktransfer.images.engines import Engine, Network, resolve_engine, torch_engine
from sktransfer.images.openvino import openvino_engine
from sktransfer.images.preprocessing import (
    Preprocessing,
    fitted,
    normalised,
    prepare,
    resized_size,
)
from sktransfer.images.reading import read_image
from sktransfer.images.runner import FailedImage, extract, image_error, read_all, read_item
from sktransfer.images.sources import as_image_items, name_of, rows_to_images
from sktransfer.images.staged import Read, reads_of
from sktransfer.images.stored import Extracted, extract_cached
from sktransfer.networks.devices import device_again, resolve_device
from sktransfer.networks.fingerprint import module_state, network_fingerprint
from sktransfer.networks.hooks import drop_hooks
from sktransfer.store import FeatureStore
from sktransfer.store.session import StoreSession

# To be raised when the same parameters come to give other numbers.
_FORMAT = 1


class PretrainedCNNFeatures(FeatureTransformer):
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
        after the deepest. "auto" chooses among the stages and "penultimate" by the labels given to
        `fit`: the one of the highest LogME [4]_, on standardised features, or the one before it
        if that is within a standard error. It needs one pass over the images of `fit`. Whole
        numbers in y are classes; below some hundred labels the choice wavers.
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
    strategy : "frozen" or FineTune, default="frozen"
        Transfer strategy. "frozen" uses the network as it is; a `FineTune` trains part of it, or
        all, on the labels given to `fit`, and `transform` reads the tuned layer. Its parameters
        can be searched, as ``strategy__learning_rate``.
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
        warning, for a network that OpenVINO cannot convert. Their float32 features agree
        within about 1e-6 relative to the largest.
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
        (index, path, message) of the images that the last `transform` could not read.
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
        strategy: str | FineTune = "frozen",
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
        self.engine = engine
        self.precision = precision
        self.fast_decode = fast_decode
        self.on_error = on_error
        self.max_pixels = max_pixels
        self.random_state = random_state
        self.verbose = verbose

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
            (n, n_pixels). Of a dask collection the first block is read.
        y : array-like of shape (n,) or (n, n_outputs), or None
            For a `FineTune`: classes, an indicator matrix of several labels, or continuous
            numbers, told apart by their type.
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

    def _check(self) -> None:
        check_parameters(self)

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> np.ndarray:
        """Fit, and give the features of the same images.

        With ``layer="auto"`` and a frozen network both take a single pass.

        Parameters
        ----------
        X : array, sequence, Series, tensor or Dataset of n images
        y : array-like or None, default=None
        **fit_params : dict
            As for `fit`.

        Returns
        -------
        ndarray of shape (n, n_features_out), float32
            Or a DataFrame, after ``set_output``.
        """
        if is_auto(self.layer) and is_frozen(self.strategy):
            check_parameters(self)
            features = self._fit_frozen(X, y, **fit_params)
            assert features is not None
            return features
        return super().fit_transform(X, y, **fit_params)

    def _fit_frozen(
        self,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        sample_domain: Any = None,
        task: str | None = None,
    ) -> np.ndarray | None:
        """Fit without tuning; if that takes the features of X, give them."""
        of_rows = {"sample_weight": sample_weight, "sample_domain": sample_domain}
        if not is_auto(self.layer):
            self._settle(first_part(X), **of_rows)
            self.__dict__.pop("layer_scores_", None)
            return None
        # On an estimator of its own: this one changes only if all goes well.
        own = type(self)(
            **{**self.get_params(deep=False), "layer": "penultimate", "strategy": "frozen"}
        )
        own._settle(X, **of_rows)
        own._read_from(tuple(dict.fromkeys((*own.stages_, "penultimate"))))
        features = np.asarray(own.transform(X))
        columns = own.feature_slices_
        layer, own.layer_scores_ = choose_layer(features, columns, y, task=task, **of_rows)
        own._read_from((layer,))
        pass_on(own, self)
        return np.ascontiguousarray(features[:, columns[layer]])

    def _read_from(self, layers: tuple[str, ...]) -> None:
        """Read these layers from now on."""
        trace = self._backbone.trace(self.image_size_)
        self.layer_ = resolve_layers(layers, self.pooling, trace)
        self._reads = reads_of(trace, self.layer_, self.pooling)

    def _settle(self, X: Any, sample_weight: Any, sample_domain: Any) -> None:
        """Load the network, and settle image size, layers and pooling."""
        device = resolve_device(self.device)
        engine = resolve_engine(self.engine, device)
        backbone = self._load(device)
        _ = backbone.fingerprint  # taken before a pass, as a network may count its calls
        how = resolve_preprocessing(self, backbone.info.preprocessing)
        with restored_on_error(self, SEEN):
            items = self._items(X, how.in_channels, reset=True)
            weights_of(sample_weight, len(items))  # not used, and yet looked at
            source_mask(sample_domain, len(items))
            if how.size is None:
                size = self._first_image(items, self._size_reader(how))
                how = dataclasses.replace(how, size=size)
            else:
                self._first_image(items, self._reader(how))
            assert how.size is not None
            trace = backbone.trace(how.size)
            layers = resolve_layers(self.layer, self.pooling, trace)
        # All went well: only now does the estimator change.
        self.device_ = str(device)
        self.engine_ = engine
        self.weights_sha256_ = backbone.weights_sha256
        self.image_size_ = how.size
        self.layer_ = layers
        self.layers_ = list(trace.activations)
        self.stages_ = list(trace.stages)
        self.errors_: list[FailedImage] = []
        self._preprocessing = how
        self._reads = reads_of(trace, layers, self.pooling)
        # How the network can be had again, whatever set_params says afterwards: by name and
        # default weights, by name and the weights themselves, or not without the network.
        self._name = self.backbone if isinstance(self.backbone, str) else None
        self._by_reference = self._name is not None and self._by_default()
        self._begin()
        self._attach(backbone)

    # --- fine-tuning: see features/_tuning.py ---------------------------------------------

    def _count(self, X: Any) -> int:
        return len(self._items(X, self._preprocessing.in_channels, reset=False))

    def _body(self, module: nn.Module) -> ImageBody:
        return ImageBody(module, self._backbone.trace(self.image_size_), self._reads)

    def _tunable(self, X: Any, body: ImageBody | None = None) -> TunableImages:
        """X and a network to be tuned: a copy of the own one, or the body given."""
        items = self._items(X, self._preprocessing.in_channels, reset=False)
        if body is None:
            module = copy.deepcopy(self.module_)
            drop_hooks(module)
            body = self._body(module)

        def activations(reads: tuple[Read, ...], out: np.ndarray) -> np.ndarray:
            features, failed, n_forward = self._extract(items, reads, out)
            self._note(items, failed, n_forward)
            return features

        device = torch.device(self.device_)
        pixels = partial(self._pixels, items)
        return TunableImages(body, device, self._preprocessing, len(items), activations, pixels)

    def _pixels(self, items: Any) -> tuple[np.ndarray, np.ndarray]:
        """Images in the size of the network, not yet normalised, and which could be read."""
        how = self._preprocessing
        assert how.size is not None
        images, failed = read_all(
            items,
            self._fitted_reader(),
            shape=(*how.size, how.in_channels),
            make=roomy,
            batch_size=self.batch_size,
            on_error=self.on_error,
        )
        self._note(items, failed, 0)
        readable = np.ones(len(items), dtype=bool)
        readable[[failure.index for failure in failed]] = False
        return images, readable

    def _use_module(self, module: nn.Module) -> None:
        """Go on with other weights, which no name stands for."""
        self.weights_sha256_ = hashlib.sha256(module_to_bytes(module)).hexdigest()
        self._by_reference = False
        self._is_tuned = True
        if self.engine == "auto":
            self.engine_ = "torch"  # converting a network takes longer than most transforms
        self._attach(Backbone(module, self._backbone.info, self.weights_sha256_))

    def _augmented(self, X: Any, change: Any, augment: Any, seed: int) -> Iterator[np.ndarray]:
        """Features of the images, and of what `change` makes of them."""
        items = self._items(X, self._preprocessing.in_channels, reset=False)
        pixels, readable = self._pixels(items)
        views = views_of(pixels, change, augmentation(augment, self.image_size_), seed)
        engine = self._engine(self._reads)
        for view in views:
            starts = range(0, len(view), self.batch_size)
            parts = (normalised(view[i : i + self.batch_size], self._preprocessing) for i in starts)
            features = np.concatenate([np.concatenate(engine(part), axis=1) for part in parts])
            features[~readable] = np.nan
            yield features

    def transform(self, X: Any) -> np.ndarray:
        """Features of each image, one row per image in the order of X.

        Parameters
        ----------
        X : array, sequence, Series, tensor or Dataset of n images
            In any of the forms that `fit` takes, or as a dask Array, Bag, Series or DataFrame.

        Returns
        -------
        ndarray of shape (n, n_features_out), float32
            Or a DataFrame, after ``set_output``. Of a dask collection a dask array, which is
            computed when it is asked for, by dask's workers.

        Raises
        ------
        ImageReadError
            With ``on_error="raise"``, the first image that cannot be read, by row and path.
        """
        check_is_fitted(self)
        check_parameters(self)
        if is_dask(X):
            return transform_lazily(self, X)
        items = self._items(X, self._preprocessing.in_channels, reset=False)
        try:
            features, self.errors_, n_forward = self._extract(items)
        except ConversionError as error:
            if self.engine != "auto":
                raise ConversionError(
                    f"engine={self.engine!r} cannot run {self._backbone.info.name} ({error}); set "
                    "engine='auto' or 'torch'"
                ) from error
            warnings.warn(
                f"OpenVINO cannot run {self._backbone.info.name}, so torch does, more slowly "
                f"({error}). Set engine='torch' to choose it without this warning",
                stacklevel=2,
            )
            self.engine_ = "torch"
            features, self.errors_, n_forward = self._extract(items)
        self._note(items, self.errors_, n_forward)
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
        check_input_features(self, input_features)
        trace = self._backbone.trace(self.image_size_)
        names = []
        for read in self._reads:
            spatial = trace.activations[read.layer].is_spatial
            prefix = f"{read.layer}_{read.pooling}" if spatial else read.layer
            names += [f"{prefix}_{i}" for i in range(read.width(trace))]
        return np.asarray(names, dtype=object)

    # --- input ----------------------------------------------------------------------------

    def _items(self, X: Any, in_channels: int, *, reset: bool) -> Any:
        refuse_dask(X)
        if self.image_shape is None:
            if reset:
                forget_table(self)
            return as_image_items(X, channels=self.channels, in_channels=in_channels)
        rows = validate_data(self, X, reset=reset, ensure_all_finite=self.on_error == "raise")
        return rows_to_images(rows, self.image_shape)

    def _decode(self, item: Any, how: Preprocessing) -> Any:
        return read_image(
            item,
            channels=self.channels,
            value_range=self.value_range,
            max_pixels=self.max_pixels,
            enough=partial(resized_size, how=how) if self.fast_decode and how.size else None,
        )

    def _reader(self, how: Preprocessing) -> Callable[[Any], np.ndarray]:
        """What turns an item of X into the array that the network takes."""
        return lambda item: prepare(self._decode(item, how), how, max_pixels=self.max_pixels)

    def _fitted_reader(self) -> Callable[[Any], np.ndarray]:
        """The same before values are normalised."""
        how = self._preprocessing
        return lambda item: fitted(self._decode(item, how), how, max_pixels=self.max_pixels)

    def _size_reader(self, how: Preprocessing) -> Callable[[Any], tuple[int, int]]:
        """What tells height and width of an item, and sees to it that its channels fit."""

        def read(item: Any) -> tuple[int, int]:
            image = self._decode(item, how)
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

    def _attach(self, backbone: Backbone) -> None:
        """Take a loaded network into use."""
        self._backbone = backbone
        self.module_ = backbone.module
        self._fingerprint = backbone.fingerprint
        self._module_state = backbone.state

    def _note(self, items: Any, failed: list[FailedImage], n_forward: int) -> None:
        """Count the images that went through the network, and say which could not be read."""
        self._forwarded[0] += n_forward
        self.errors_ = failed
        if failed:
            warnings.warn(
                f"{len(failed)} of {len(items)} images could not be read and are rows of NaN, or "
                f"left out of fine-tuning; `errors_` says why. The first: {failed[0].message}",
                stacklevel=3,
            )

    def _extract(
        self, items: Any, reads: tuple[Read, ...] | None = None, out: np.ndarray | None = None
    ) -> Extracted:
        """Features of all items, through the store if there is one."""
        reads = self._reads if reads is None else reads
        if module_state(self.module_) != self._module_state:  # someone trained it, say
            self._module_state = module_state(self.module_)
            weights = hashlib.sha256(module_to_bytes(self.module_)).hexdigest()
            self._fingerprint = network_fingerprint(self.module_, weights)
        trace = self._backbone.trace(self.image_size_)
        how: dict[str, Any] = {
            "read": self._reader(self._preprocessing),
            "batch_size": self.batch_size,
            "on_error": self.on_error,
            "progress": type(self).__name__ if self.verbose else None,
            "out": out,
        }
        # What a tuned network gives nobody will ask for again: the next fold tunes another.
        if self.cache is None or self._is_tuned:
            width = sum(read.width(trace) for read in reads)
            engine = self._engine(reads)
            features, failed = extract(engine, items, n_features=width, **how)
            return Extracted(features, failed, len(items) - len(failed))
        return extract_cached(
            self._session(self.cache),
            self._engine,
            items,
            trace=trace,
            reads=reads,
            max_pixels=self.max_pixels,
            **how,
        )

    def _engine(self, reads: tuple[Read, ...]) -> Engine:
        trace = self._backbone.trace(self.image_size_)
        network = Network(self.module_, trace, self._fingerprint)
        if self.engine_ == "openvino":
            return openvino_engine(network, reads, self.precision)
        return torch_engine(network, reads, torch.device(self.device_), self.precision)

    def _session(self, cache: str | Path | FeatureStore) -> StoreSession:
        """The store, for the features of this network under these parameters."""
        decided_by = (
            _FORMAT,
            self._fingerprint,
            self._preprocessing,
            self.channels,
            self.value_range,
            self.max_pixels,
            bool(self.fast_decode),
            self.engine_,
            torch.device(self.device_).type,
            self.precision,
        )
        height, width = self.image_size_
        description = (
            f"{self._backbone.info.name}, {height} x {width}, {self.engine_}, {self.precision}"
        )
        return StoreSession(cache, decided_by, description)

    @property
    def feature_slices_(self) -> dict[str, slice]:
        """Columns of each layer, in the order of `layer_`."""
        check_is_fitted(self)
        trace = self._backbone.trace(self.image_size_)
        return slices_of((read.layer, read.width(trace)) for read in self._reads)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_reads")

    # --- pickling -------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__().copy()
        backbone = state.pop("_backbone", None)
        module = state.pop("module_", None)
        for derived in ("_fingerprint", "_module_state"):  # code may change, and ids do
            state.pop(derived, None)
        if backbone is None:
            return state
        if self._name is None:
            # A state dict does not hold all of a network: plain attributes, buffers that
            # are not persistent. On the CPU, so that it can be unpickled anywhere.
            own = copy.deepcopy(module).cpu()
            drop_hooks(own)
            state["_own"] = (own, backbone.info)
        elif not self._by_reference:
            state["_module_bytes"] = module_to_bytes(module)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = state.copy()
        data = state.pop("_module_bytes", None)
        own = state.pop("_own", None)
        super().__setstate__(state)
        if not self.__sklearn_is_fitted__():
            return
        device = device_again(self)
        self.device_ = str(device)
        if self.engine == "auto" and self.engine_ != resolve_engine("auto", device):
            self.engine_ = "torch"  # which runs everywhere
        if self._name is None:
            module, info = own
            backbone = Backbone(module, info, self.weights_sha256_)
        elif self._by_reference:
            backbone = shared_backbone(self._name, self.weights_sha256_, device)
        else:
            backbone = rebuild_backbone(self._name, data, self.weights_sha256_)
        backbone.module.to(device)
        self._attach(backbone)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.input_tags.three_d_array = self.image_shape is None
        tags.input_tags.string = self.image_shape is None
        tags.input_tags.allow_nan = self.on_error == "nan"
        return tags
