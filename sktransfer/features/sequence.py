"""Sequences to vectors: a recurrent network as a transformer."""

import copy
import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.random_projection import GaussianRandomProjection
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn
from tqdm.auto import tqdm

from sktransfer._validation import source_mask
from sktransfer.backbones.custom import OwnBackbone, name_of_own
from sktransfer.backbones.recurrent import save_network
from sktransfer.backbones.weights import bytes_to_state, fit_weights, module_to_bytes
from sktransfer.features._sequence_parameters import (
    EVERY_LAYER,
    check_parameters,
    load_network,
    resolve_layers,
    resolve_poolings,
    resolve_views,
)
from sktransfer.features._shared import check_input_features, restored_on_error
from sktransfer.features.base import FeatureTransformer
from sktransfer.features.dask import is_dask, refuse_dask, transform_lazily
from sktransfer.features.layer_choice import choose_layer, is_auto
from sktransfer.finetuning.fitting import SEEN, forget_table, pass_on
from sktransfer.finetuning.strategy import FineTune
from sktransfer.finetuning.targets import weights_of
from sktransfer.networks.devices import device_again, resolve_device
from sktransfer.networks.fingerprint import network_fingerprint
from sktransfer.networks.hooks import drop_hooks
from sktransfer.sequences.body import SequenceBody, TunableSequences
from sktransfer.sequences.encoding import Encoder, check_module, recurrent_part
from sktransfer.sequences.pretraining.strategy import Pretraining, resolve_pretraining
from sktransfer.sequences.pretraining.training import pretrain
from sktransfer.sequences.reading import (
    Sequences,
    Source,
    as_array,
    is_table,
    is_text,
    series_source,
    text_source,
    token_source,
)
from sktransfer.sequences.recurrent import RecurrentNetwork, Shape
from sktransfer.sequences.stored import vectors_through
from sktransfer.sequences.vectors import Plan, fit_thresholds, vectors_of, width_of
from sktransfer.sequences.views import (
    Scale,
    View,
    learn_scales,
    statistics,
    statistics_names,
)
from sktransfer.store import FeatureStore
from sktransfer.store.session import StoreSession

# To be raised when the same parameters come to give other numbers.
_FORMAT = 1

_N_BYTES = 256

_REFERENCES = 24
"""Training sequences that the thresholds of "ppv" are learned from."""

_WINDOW_STEPS = 2_000_000
"""Steps that are held, and shown to the network, at once."""


class RNNSequenceFeatures(FeatureTransformer):
    """Features of time series, token sequences or texts from a recurrent network.

    Each channel of a series is shown to the network in several views - normalised, on the scale
    of the training data, as differences - and the network's states over time are pooled: means,
    extremes, and the share of time that each unit spends above thresholds. The default weights
    were trained on synthetic series alone to tell kinds of shapes apart, so the features transfer
    to any series; no training on yours is needed. With a linear head they are about as accurate
    as MiniRocket, and the two together better than either.

    Parameters
    ----------
    backbone : {"lstm", "gru", "rnn"}, nn.Module subclass, callable or nn.Module, default="lstm"
        The network, or your own: a class, a function that returns one, or an instance, which
        `fit` copies. A ``torch.nn.RNN``, ``LSTM`` or ``GRU`` may have either layout; any other
        module must take (batch, time, channels) and return (batch, time, units) or
        (batch, units), or a tuple that begins with it. A network of one input channel reads
        the channels of a series one by one; others must have as many as X.
    weights : str or Path, default="default"
        "default" for the weights that come with this package ("lstm" and "gru"; for your own
        network those it has, for tokens and texts, which have none, random ones); "random" for
        fresh ones, a strong baseline since they spread their memory over many time scales; or
        a ``.safetensors``, ``.pt`` or ``.pth`` file, of `save_weights` or any other that holds
        the tensors of an LSTM, GRU or RNN (of tanh: the tensors do not say).
    weights_prefix : str or None, default=None
        What the names of these tensors begin with in a foreign file, such as "encoder.rnn.".
        None finds the only recurrent network there is.
    hidden_size, num_layers : int or None, default=None
        Units and stacked layers of a network with random weights; None means 64 and 1. With
        other weights, None takes what they have, and anything else must agree.
    bidirectional : bool or None, default=None
        Whether a network with random weights also reads from the end; None means False.
    layer : int, str or tuple of these, default=-1
        Which of the stacked layers is read, counted from 0 or, negative, from the last; several
        are concatenated. For your own module that is no torch RNN: -1 for what it returns, or
        a name of ``module_.named_modules()``. "auto" chooses among the stacked layers by the
        labels given to `fit`, as in `PretrainedCNNFeatures`.
    views : "auto", str or tuple of str, default="auto"
        What the network is shown: "z", each series normalised to mean 0 and standard deviation
        1; "g", on the scale of the training data; "d", differences between neighbouring steps,
        normalised; "dg", differences on the scale of the training data; "raw", the values. A
        number behind it says over how many steps to average first, as in "z4". Several as a
        tuple or as in "g+d". "auto" is "raw" for your own backbones, tokens and texts; for the
        named backbones all others, and where half of the training series have 128, 512 or 2048
        steps, the same averaged over 4, 16 or 64.
    pooling : "auto", str or tuple of str, default="auto"
        How states over time become a vector: "last", "mean", "max", "min", "std", "ppv" (share of
        steps above thresholds learned in `fit` [1]_), "attention" (where it was trained). Several
        as a tuple or as in "mean+max". "auto" is all but "attention" for the named backbones and
        "last" for your own.
    n_thresholds : int, default=4
        Thresholds of each unit for "ppv".
    append_stats : bool or "auto", default="auto"
        Append mean, log standard deviation and share of missing steps of each channel, and the
        log length. "auto" does so for time series and the named backbones.
    channels_first : bool, default=False
        Whether series of several channels are (channels, time), as in aeon, instead of
        (time, channels).
    missing : {"interpolate", "error"}, default="interpolate"
        What to do about NaN inside a series: interpolate linearly, and count it, or raise. NaN at
        the end, in all channels, is padding either way and is cut off.
    max_length : int or None, default=None
        Steps after which sequences are cut off.
    vocabulary_size : int or None, default=None
        With a number, X holds sequences of tokens from 0 to below it.
    output_dim : int or None, default=None
        Number of features, by Gaussian random projection [2]_; None keeps them all.
    pretraining : None, str or Pretraining, default=None
        Train the network on the sequences given to `fit` first, without labels: "contrastive",
        "forecast", "masked", "autoencode", or a `Pretraining` with its own settings.
    strategy : "frozen" or FineTune, default="frozen"
        Transfer strategy. "frozen" uses the network as it is; a `FineTune` trains it, or its last
        layers, on the labels given to `fit`. Its stages are the layers of the recurrent network,
        of which the last is read.
    cache : str, Path, FeatureStore or None, default=None
        Folder of a feature store. A sequence goes through the network once per view, whatever
        the poolings and heads of a search; with "ppv", whose thresholds are learned, once per
        training set.
    batch_size : int, default=64
        Rows of 128 steps that run together; of shorter rows more, of longer ones fewer.
    device : str, default="auto"
        "auto", "cpu", "cuda", "cuda:1", "mps"; "auto" prefers a GPU.
    precision : {"float32", "bfloat16"}, default="float32"
        Arithmetic inside the network. The features are float32 either way.
    random_state : int, RandomState instance or None, default=None
        Seeds ``weights="random"``, `pretraining` and the projection. torch's global generator is
        neither used nor moved.
    verbose : bool or int, default=False
        Show progress bars.

    Attributes
    ----------
    module_ : nn.Module
        The network, frozen and in evaluation mode.
    views_, pooling_ : tuple of str
        In use.
    layer_scores_ : dict of str to float
        LogME of each layer that ``layer="auto"`` chose from.
    layer_ : tuple of int or str
        In use.
    n_channels_ : int
        Channels of each series; 1 for tokens and texts.
    weights_sha256_ : str
        SHA-256 of the weights file, or for weights without one, of the state dict written as
        safetensors.
    pretraining_loss_ : list of float
        Mean loss of each epoch of `pretraining`; empty without.
    device_ : str
        Device in use.
    n_forward_ : int
        Number of sequences that have gone through the network since `fit`. With a warm `cache`
        it stays zero.
    n_features_in_ : int
        Number of time steps, if X was a table (n, time). Tables of another width are then
        refused; pass a list of arrays for series of other lengths.
    feature_names_in_ : ndarray of str
        Column names, if X was a DataFrame.

    See Also
    --------
    sktransfer.Pretraining : Settings for `pretraining`.
    sktransfer.FeatureStore : What `cache` keeps, and how to look into it.

    Notes
    -----
    Sequences run in batches of similar length; padding is never seen by a feature, so that the
    features of a sequence do not depend on its company beyond rounding. Modules of your own
    run on sequences of equal length only.

    A fitted estimator pickles with its weights, as safetensors for the named backbones, and can
    be unpickled without the GPU it was fitted on.

    References
    ----------
    .. [1] A. Dempster, D. F. Schmidt and G. I. Webb, "MiniRocket: a very fast (almost)
       deterministic transform for time series classification", KDD 2021.
    .. [2] W. B. Johnson and J. Lindenstrauss, "Extensions of Lipschitz mappings into a Hilbert
       space", Contemporary Mathematics 26, 1984.
    .. [3] H. Jaeger, "The 'echo state' approach to analysing and training recurrent neural
       networks", GMD Report 148, 2001: features from a network that is not trained for the task.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import RidgeClassifierCV
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sktransfer import RNNSequenceFeatures
    >>> rng = np.random.default_rng(0)
    >>> time = np.arange(100)
    >>> phase = rng.uniform(0, 6, (60, 1))
    >>> sines = np.sin(time / 5 + phase[:30]) + rng.normal(0, 0.3, (30, 100))
    >>> squares = np.sign(np.sin(time / 5 + phase[30:])) + rng.normal(0, 0.3, (30, 100))
    >>> X, y = np.concatenate([sines, squares]), np.repeat(["sine", "square"], 30)
    >>> pipeline = make_pipeline(RNNSequenceFeatures(), StandardScaler(), RidgeClassifierCV())
    >>> pipeline.fit(X[::2], y[::2]).score(X[1::2], y[1::2])
    1.0
    >>> ragged = [rng.normal(size=(n, 3)) for n in (20, 35, 28)]
    >>> features = RNNSequenceFeatures(views="g+d", pooling="mean+max").fit(ragged)
    >>> features.transform(ragged).shape
    (3, 778)
    >>> features.get_feature_names_out()[[0, 64, -1]]
    array(['g_c0_mean_0', 'g_c0_max_0', 'loglength'], dtype=object)
    """

    def __init__(
        self,
        backbone: str | OwnBackbone = "lstm",
        *,
        weights: str | Path = "default",
        weights_prefix: str | None = None,
        hidden_size: int | None = None,
        num_layers: int | None = None,
        bidirectional: bool | None = None,
        layer: int | str | tuple[int | str, ...] = -1,
        views: str | tuple[str, ...] = "auto",
        pooling: str | tuple[str, ...] = "auto",
        n_thresholds: int = 4,
        append_stats: bool | str = "auto",
        channels_first: bool = False,
        missing: str = "interpolate",
        max_length: int | None = None,
        vocabulary_size: int | None = None,
        output_dim: int | None = None,
        pretraining: str | Pretraining | None = None,
        strategy: str | FineTune = "frozen",
        cache: str | Path | FeatureStore | None = None,
        batch_size: int = 64,
        device: str = "auto",
        precision: str = "float32",
        random_state: Any = None,
        verbose: bool | int = False,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.weights_prefix = weights_prefix
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.layer = layer
        self.views = views
        self.pooling = pooling
        self.n_thresholds = n_thresholds
        self.append_stats = append_stats
        self.channels_first = channels_first
        self.missing = missing
        self.max_length = max_length
        self.vocabulary_size = vocabulary_size
        self.output_dim = output_dim
        self.pretraining = pretraining
        self.strategy = strategy
        self.cache = cache
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self, X: Any, y: Any = None, *, sample_weight: Any = None, sample_domain: Any = None
    ) -> Self:
        """Load or pretrain the network, and learn scales and thresholds from the sequences.

        Parameters
        ----------
        X : array, DataFrame, or sequence of n sequences
            Time series as an array or DataFrame of shape (n, time), an array of shape
            (n, time, channels), or a list of arrays of shape (time,) or (time, channels), which
            may differ in length; with `channels_first` (channels, time). With
            `vocabulary_size`, sequences of integers. Or a list, array or Series of str, read as
            their UTF-8 bytes.
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
        self : RNNSequenceFeatures

        Raises
        ------
        ValueError
            A parameter is out of its range; a sequence is empty, infinite or of other channels
            than the first; or the network does not fit the sequences.
        WeightsNotFoundError, WeightsMismatchError
            The weights are not to be had, or hold something else.
        """
        return super().fit(X, y, sample_weight=sample_weight, sample_domain=sample_domain)

    def _check(self) -> None:
        check_parameters(self)

    def _fit_frozen(
        self,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        sample_domain: Any = None,
        task: str | None = None,
    ) -> None:
        """Fit without tuning."""
        of_rows = {"sample_weight": sample_weight, "sample_domain": sample_domain}
        if not is_auto(self.layer):
            self._settle(X, self.layer, **of_rows)
            self.__dict__.pop("layer_scores_", None)
            return
        # On an estimator of its own: this one changes only if all goes well.
        changed = {"layer": -1, "strategy": "frozen", "output_dim": None}
        own = type(self)(**{**self.get_params(deep=False), **changed})
        own._settle(X, EVERY_LAYER, **of_rows)
        features = np.asarray(own.transform(X))
        layer, scores = choose_layer(features, own._columns_of_layers(), y, task=task, **of_rows)
        own.layer_scores_ = scores
        number = list(map(str, own.layer_)).index(layer)
        own.layer_, own._thresholds = (own.layer_[number],), [own._thresholds[number]]
        own._n_features = len(own._names())
        own._project(self.output_dim)
        pass_on(own, self)

    def _columns_of_layers(self) -> dict[str, np.ndarray]:
        """Columns of each layer, by its name, without statistics of the series."""
        layers: list[str] = []
        for _ in range(self._plan.n_groups):
            for layer, of_layer in zip(self.layer_, self._thresholds, strict=True):
                width = width_of(self.pooling_, [torch.from_numpy(of_layer)])
                layers += [str(layer)] * width
        return {layer: np.flatnonzero(np.array(layers) == layer) for layer in map(str, self.layer_)}

    def _project(self, output_dim: int | None) -> None:
        """Draw the random projection, if there is to be one."""
        self._projection = None
        if output_dim is not None:
            self._projection = GaussianRandomProjection(
                output_dim, random_state=check_random_state(self.random_state).randint(2**31)
            ).fit(np.zeros((1, self._n_features), dtype=np.float32))

    def _settle(self, X: Any, layer: Any, sample_weight: Any, sample_domain: Any) -> None:
        """Load or pretrain the network, and learn scales and thresholds."""
        device = resolve_device(self.device)
        with restored_on_error(self, SEEN):
            source, vocabulary_size = self._source(X, reset=True)
            weights_of(sample_weight, len(source))  # not used, and yet looked at
            source_mask(sample_domain, len(source))
            loaded = load_network(self, vocabulary_size)
            module = loaded.module.to(device)
            everything = source.read(range(len(source)))
            views = resolve_views(self, everything)
            joint = self._is_joint(module, source, vocabulary_size)
            plan = Plan(
                views, _scales_of(everything, views), source.n_channels, joint, self.batch_size
            )
            layers = resolve_layers(layer, module)
            self._try(Encoder(module, layers, self.precision), source)
            strategy = resolve_pretraining(self.pretraining)
            losses: list[float] = []
            if strategy is not None:
                losses = pretrain(
                    module,
                    source,
                    everything.lengths,
                    plan,
                    strategy,
                    int(check_random_state(self.random_state).randint(2**31 - 1)),
                    vocabulary_size=vocabulary_size,
                    progress="pretraining" if self.verbose else None,
                )
            poolings = resolve_poolings(self, module, layers)
            encoder = Encoder(module, layers, self.precision)
            some = np.unique(np.linspace(0, len(source) - 1, _REFERENCES).astype(int))
            sequences = source.read(some[:1] if "ppv" not in poolings else some)
            thresholds = fit_thresholds(encoder, sequences, plan, self.n_thresholds)
        # All went well: only now does the estimator change.
        self.device_ = str(device)
        self.module_ = module
        self.n_channels_ = source.n_channels
        self.views_ = tuple(map(str, views))
        self.pooling_ = poolings
        self.layer_ = layers
        self.pretraining_loss_ = losses
        self.weights_sha256_ = (
            hashlib.sha256(module_to_bytes(module)).hexdigest() if losses else loaded.sha256
        )
        self._vocabulary_size = vocabulary_size
        self._plan = plan
        self._thresholds = [t.cpu().numpy() for t in thresholds]
        self._with_stats = vocabulary_size is None and (
            isinstance(self.backbone, str) if self.append_stats == "auto" else self.append_stats
        )
        self._n_features = len(self._names())
        self._project(self.output_dim)
        self._begin()

    # --- fine-tuning: see features/_tuning.py ---------------------------------------------

    def _count(self, X: Any) -> int:
        return len(self._source(X, reset=False)[0])

    def _body(self, module: nn.Module) -> SequenceBody:
        projection = None if self._projection is None else self._projection.components_
        return SequenceBody(module, self.layer_, self.pooling_, self._thresholds, projection)

    def _tunable(self, X: Any, body: SequenceBody | None = None) -> TunableSequences:
        """X and a network to be tuned: a copy of the own one, or the body given."""
        if body is None:
            module = copy.deepcopy(self.module_)
            drop_hooks(module)
            body = self._body(module)
        source, _ = self._source(X, reset=False)
        n = len(source)

        def lost(sequences: Sequences) -> np.ndarray:
            if not self._with_stats:
                return np.empty((len(sequences), 0))
            return statistics(sequences, self._plan.scales[1])

        return TunableSequences(
            body.to(self.device_),
            torch.device(self.device_),
            lambda: source.read(range(n)),
            self._plan,
            lost,
            lambda: np.asarray(self.transform(X)),
            n,
        )

    def _use_module(self, module: nn.Module) -> None:
        """Go on with other weights."""
        self.module_ = module
        self.weights_sha256_ = hashlib.sha256(module_to_bytes(module)).hexdigest()
        self._is_tuned = True

    def transform(self, X: Any) -> np.ndarray:
        """Features of each sequence, one row per sequence in the order of X.

        Parameters
        ----------
        X : array, DataFrame, or sequence of n sequences
            In any of the forms that `fit` takes, of the same kind and number of channels. The
            lengths may be others, except those of a table. Or a dask Array, Bag, Series or
            DataFrame of them.

        Returns
        -------
        ndarray of shape (n, n_features_out), float32
            Or a DataFrame, after ``set_output``. Of a dask collection a dask array, which is
            computed when it is asked for, by dask's workers.
        """
        check_is_fitted(self)
        check_parameters(self)
        if is_dask(X):
            return transform_lazily(self, X)
        source, vocabulary_size = self._source(X, reset=False)
        if vocabulary_size != self._vocabulary_size:
            raise ValueError(
                f"X holds {_content(vocabulary_size)}, but this {type(self).__name__} was fitted "
                f"on {_content(self._vocabulary_size)}"
            )
        if source.n_channels != self.n_channels_:
            raise ValueError(
                f"X has {source.n_channels} channels, but this {type(self).__name__} was fitted "
                f"on {self.n_channels_}; see channels_first={self.channels_first!r}"
            )
        # Someone may have trained it in between: with dropout on, features would be random.
        encoder = Encoder(self.module_.eval(), self.layer_, self.precision)
        thresholds = [torch.from_numpy(t).to(encoder.device) for t in self._thresholds]
        out = np.empty((len(source), self._n_features), dtype=np.float32)
        session = self._session()
        with tqdm(
            total=len(source) * self._plan.n_groups,
            desc=type(self).__name__,
            unit="row",
            disable=not self.verbose,
        ) as bar:
            for start, window in _windows(source, self._plan):
                rows = out[start : start + len(window)]
                self._transform(window, encoder, thresholds, session, rows, bar.update)
        finite = np.isfinite(out).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"the network puts out NaN or infinity for X[{finite.argmin()}]; see whether its "
                "weights are sound, and leave views='raw' to networks that are made for such values"
            )
        return out if self._projection is None else self._projection.transform(out)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the features.

        "g_c0_mean_17" is the mean of unit 17 over channel 0 in view "g"; "z_c1_ppv2_5" the share
        of time that unit 5 is above its threshold 2. A network that reads all channels at once has
        no channel in its names; one of which several layers are read has the layer before the
        pooling.

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
        if self._projection is not None:
            return self._projection.get_feature_names_out()
        return np.asarray(self._names(), dtype=object)

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Write the network's weights to a file for ``weights=`` elsewhere.

        Parameters
        ----------
        path : str or Path
            Ends in ``.safetensors``. The file holds tensors and, for the named backbones, their
            sizes; views and poolings are parameters, and scales and thresholds belong to `fit`.
        """
        check_is_fitted(self)
        save_network(self.module_, path)

    # --- input ----------------------------------------------------------------------------

    def _source(self, X: Any, *, reset: bool) -> tuple[Source, int | None]:
        """X, and for tokens and texts the size of their vocabulary."""
        refuse_dask(X)
        if reset:
            forget_table(self)
        if is_text(X):
            if self.vocabulary_size not in (None, _N_BYTES):
                raise ValueError(
                    f"vocabulary_size={self.vocabulary_size} is for sequences of integers; texts "
                    f"are read as bytes, of which there are {_N_BYTES}: set it to None"
                )
            return text_source(X, self.max_length), _N_BYTES
        if self.vocabulary_size is not None:
            return token_source(X, self.vocabulary_size, self.max_length), self.vocabulary_size
        X = as_array(X)
        if is_table(X):
            X = validate_data(self, X, reset=reset, ensure_all_finite="allow-nan")
        how: dict[str, Any] = {"missing": self.missing, "max_length": self.max_length}
        source = series_source(X, channels_first=self.channels_first, **how)
        longest = max(map(len, source.items)) if reset and source.n_channels > 1 else np.inf
        if source.n_channels > longest and not self.channels_first:
            warnings.warn(
                f"X has {source.n_channels} channels and at most {longest} time steps. If its "
                "arrays are (channels, time), as in aeon, set channels_first=True",
                stacklevel=3,
            )
        return source, None

    def _is_joint(self, module: nn.Module, source: Source, vocabulary_size: int | None) -> bool:
        """Whether the network reads all channels at once."""
        rnn = recurrent_part(module)
        if vocabulary_size is not None and rnn is not None and rnn is module:
            raise ValueError(
                f"backbone is a bare {type(module).__name__}, which reads numbers, and X holds "
                f"{_content(vocabulary_size)}; put an nn.Embedding before it in your own module"
            )
        if vocabulary_size is not None or rnn is None:
            return True
        if rnn.input_size == 1:
            return False
        if rnn.input_size != source.n_channels:
            raise ValueError(
                f"the backbone reads {rnn.input_size} channels, and X has {source.n_channels}; "
                f"pass a network of that input size, or of 1, which reads channels one by one "
                f"(channels_first={self.channels_first!r})"
            )
        return True

    def _try(self, encoder: Encoder, source: Source) -> None:
        """Run a module of the user's once, so that what is wrong with it is said in `fit`."""
        if not encoder.equal_lengths:
            return
        some = source.read(range(min(len(source), _REFERENCES)))
        values = some.one(int(some.lengths.argmax()))
        if some.is_tokens:
            steps = torch.from_numpy(values)
        else:
            steps = torch.from_numpy(values.astype(np.float32))[:, None]
        with torch.inference_mode():
            check_module(encoder, steps.to(encoder.device))

    # --- features -------------------------------------------------------------------------

    def _transform(
        self,
        sequences: Sequences,
        encoder: Encoder,
        thresholds: list[torch.Tensor],
        session: StoreSession | None,
        out: np.ndarray,
        advance: Callable[[int], object],
    ) -> None:
        """Write the features of some sequences into their rows."""
        n_groups = self._plan.n_groups
        width = n_groups * width_of(self.pooling_, thresholds)
        vectors = out[:, :width].reshape(len(sequences), n_groups, -1)  # a view
        how = (encoder, sequences, self._plan, self.pooling_, thresholds, vectors, advance)
        if session is None:
            vectors_of(*how)
            self._forwarded[0] += len(sequences)
        else:
            self._forwarded[0] += vectors_through(session, *how)
        if self._with_stats:
            out[:, width:] = statistics(sequences, self._plan.scales[1])

    def _names(self) -> list[str]:
        units = [t.shape[1:] for t in self._thresholds]
        names = []
        for view in self.views_:
            channels = [""] if self._plan.joint else [f"_c{c}" for c in range(self.n_channels_)]
            for channel in channels:
                for layer, (n_thresholds, n_units) in zip(self.layer_, units, strict=True):
                    of_layer = f"_{layer}" if len(self.layer_) > 1 else ""
                    for pooling in self.pooling_:
                        many = pooling == "ppv"
                        for number in range(n_thresholds if many else 1):
                            start = f"{view}{channel}{of_layer}_{pooling}{number if many else ''}"
                            names += [f"{start}_{unit}" for unit in range(n_units)]
        return names + (statistics_names(self.n_channels_) if self._with_stats else [])

    def _session(self) -> StoreSession | None:
        """The store, for the vectors of this network."""
        # What a tuned network gives nobody will ask for again: the next fold tunes another.
        if self.cache is None or self._is_tuned:
            return None
        weights = hashlib.sha256(module_to_bytes(self.module_)).hexdigest()
        decided_by = (
            _FORMAT,
            network_fingerprint(self.module_, weights),
            self.layer_,
            self._plan.joint,
            self.n_channels_,
            self._vocabulary_size,
            torch.device(self.device_).type,
            self.precision,
        )
        name = self.backbone if isinstance(self.backbone, str) else name_of_own(self.backbone)
        return StoreSession(self.cache, decided_by, f"{name} on sequences, {self.precision}")

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_thresholds")

    # --- pickling -------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__().copy()
        module = state.pop("module_", None)
        if isinstance(module, RecurrentNetwork):
            state["_network"] = (module.shape, module_to_bytes(module))
        elif module is not None:
            # A state dict does not hold all of a network: plain attributes, buffers that are
            # not persistent.
            own = copy.deepcopy(module).cpu()
            drop_hooks(own)
            state["_network"] = own
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = state.copy()
        network = state.pop("_network", None)
        super().__setstate__(state)
        if network is None:
            return
        if isinstance(network, tuple):
            shape, data = network
            network = _rebuilt(shape, data)
        device = device_again(self)
        self.device_ = str(device)
        self.module_ = network.to(device).eval().requires_grad_(False)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.vocabulary_size is None
        tags.input_tags.three_d_array = self.vocabulary_size is None
        tags.input_tags.string = self.vocabulary_size is None
        tags.input_tags.allow_nan = self.missing == "interpolate"
        return tags


def _rebuilt(shape: Shape, data: bytes) -> RecurrentNetwork:
    network = RecurrentNetwork.empty(shape)
    fit_weights(network, bytes_to_state(data), "the network of this pickle")
    return network


def _scales_of(sequences: Sequences, views: tuple[View, ...]) -> dict[int, Scale]:
    """Location and scale of all series; of tokens, which have none, 0 and 1."""
    if sequences.is_tokens:
        return {1: Scale(np.zeros(1), np.ones(1), np.ones(1))}
    return learn_scales(sequences, views)


def _windows(source: Source, plan: Plan) -> Iterator[tuple[int, Sequences]]:
    """All sequences in order, some at a time, each time with the number of the first."""
    start = 0
    while start < len(source):
        stop, n_steps = start, 0
        while stop < len(source) and (stop == start or n_steps < _WINDOW_STEPS):
            n_steps += source.length(stop) * source.n_channels * len(plan.views)
            stop += 1
        yield start, source.read(range(start, stop))
        start = stop


def _content(vocabulary_size: int | None) -> str:
    return "time series" if vocabulary_size is None else f"tokens below {vocabulary_size}"
