"""Sequences to vectors: a recurrent network as a transformer."""

import dataclasses
import os
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.random_projection import GaussianRandomProjection
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import nn
from tqdm.auto import tqdm

from sktransfer._columns import Names
from sktransfer._pairs import samples_of
from sktransfer._validation import callers_level
from sktransfer.backbones.custom import CustomBackbone, custom_name
from sktransfer.backbones.loaded_network import LoadedNetwork
from sktransfer.backbones.recurrent import save_network
from sktransfer.backbones.weights import bytes_to_state, fit_weights, module_to_bytes
from sktransfer.features._sequence_parameters import (
    check_parameters,
    content_of,
    every_layer_of,
    load_network,
    reads_all_channels,
    resolve_layers,
    resolve_poolings,
    resolve_views,
)
from sktransfer.features.base import FeatureTransformer, Fitted, FittedAttribute, check_finite
from sktransfer.features.dask import refuse_dask
from sktransfer.finetuning.network import Body
from sktransfer.finetuning.protocols import Tunable
from sktransfer.finetuning.strategy import FineTune
from sktransfer.networks.devices import resolve_device
from sktransfer.networks.modules import frozen, packed, unpacked
from sktransfer.sequences.augmenting import changed, check_changeable, series_change
from sktransfer.sequences.body import SequenceBody, TunableSequences
from sktransfer.sequences.encoding import Encoder, bidirectional_part, units_from_end
from sktransfer.sequences.pretraining.strategy import Pretraining, resolve_pretraining
from sktransfer.sequences.pretraining.training import pretrain
from sktransfer.sequences.projection import RandomProjection, projected
from sktransfer.sequences.reading import (
    is_all_missing,
    is_table,
    is_text,
    named_series,
    series_source,
    text_source,
    token_source,
)
from sktransfer.sequences.recurrent import RecurrentNetwork, Shape
from sktransfer.sequences.source import Sequences, Source
from sktransfer.sequences.stored_features import vectors_through
from sktransfer.sequences.vectors import SequencePlan, fit_thresholds, vectors_of, width_of
from sktransfer.sequences.views import learn_scales, statistics, statistics_names
from sktransfer.store import FeatureStore

# To be raised when the same parameters come to give other numbers.
_FORMAT = 1

_N_BYTES = 256

_REFERENCES = 24
"""Training sequences that the thresholds of "ppv" are learned from."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class FittedSequences(Fitted):
    """All that `fit` has loaded and learned for sequences.

    Parameters
    ----------
    network : LoadedNetwork or None
        Its `weights_sha256` is that of the state dict, not of a file: files that were saved by
        others, with other names, hold the same weights.
    vocabulary_size : int or None
    plan : SequencePlan
        With views and scales.
    poolings : tuple of str
    layers : tuple of int or str
    thresholds : list of ndarray of shape (n_groups, n_thresholds, units), one per layer
    backward : tuple of ndarray of shape (units,), bool, one per layer
        Units that read from the end; empty if none do.
    with_statistics : bool
    projection : RandomProjection or None
        In files of older versions a GaussianRandomProjection.
    pretraining_loss : list of float
    channel_names : tuple or None, default=None
        Names of the channels, if the series were frames or columns of one.
    column_names : tuple or None, default=None
        Names of the columns, if X was a table that holds series.
    """

    vocabulary_size: int | None
    plan: SequencePlan
    poolings: tuple[str, ...]
    layers: tuple[int | str, ...]
    thresholds: list[np.ndarray]
    with_statistics: bool
    projection: RandomProjection | GaussianRandomProjection | None
    pretraining_loss: list[float]
    backward: tuple[np.ndarray, ...] = ()
    channel_names: Names | None = None
    column_names: Names | None = None

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views."""
        return tuple(map(str, self.plan.views))

    @property
    def n_channels(self) -> int:
        """Channels of each series."""
        return self.plan.n_channels

    @property
    def width(self) -> int:
        """Columns of pooled states, before statistics and projection."""
        thresholds = [torch.from_numpy(t) for t in self.thresholds]
        return self.plan.n_groups * width_of(self.poolings, thresholds)


class RNNSequenceFeatures(FeatureTransformer[FittedSequences]):
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
        How states over time become a vector: "last" (the final state: that of units which read
        from the end is at the first step), "mean", "max", "min", "std", "ppv" (share of steps
        above thresholds learned in `fit` [1]_), "attention" (where it was trained). Several as a
        tuple or as in "mean+max". "auto" is all but "attention" for the named backbones and
        "last" for your own.
    n_thresholds : int, default=4
        Thresholds of each unit for "ppv".
    append_stats : bool or "auto", default="auto"
        Append mean, log standard deviation and share of missing steps of each channel, and the
        log length. "auto" does so for time series and the named backbones.
    channels : {"last", "first"}, default="last"
        Where series keep their channels: (time, channels), or (channels, time) as in aeon.
    missing : {"interpolate", "error"}, default="interpolate"
        What to do about NaN inside a series: interpolate linearly, and count it, or treat it as
        an error. NaN at the end, in all channels, is padding either way and is cut off.
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
    cross_fit : int or None, default=None
        With a `FineTune`, `fit_transform` gives each row the features of a network that was tuned
        on other rows, in so many folds (stratified by class), so that a step after it does not
        learn from features that have seen their labels. `fit` and `transform` use the network tuned
        on all rows, as scikit-learn's `TargetEncoder` does. It takes as many trainings more. A
        frozen network, and one whose head alone is trained, needs and does none.
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
    on_error : {"raise", "nan"}, default="raise"
        Whether a row that is no usable sequence, such as None, NaN in place of a series, or an
        empty one, is an error, or a row of NaN and an entry of `errors_`. Rows are never dropped.
    random_state : int, RandomState instance or None, default=None
        Seeds ``weights="random"``, `pretraining` and the projection. torch's global generator is
        neither used nor moved.
    verbose : bool or int, default=False
        Show progress bars.

    Attributes
    ----------
    fitted_ : FittedSequences
        Record of all that `fit` has loaded and learned; the attributes below are read from it.
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
    errors_ : list of FailedSequence
        (index, message) of the rows that this thread's last `fit` or `transform` could not use.
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
        backbone: str | CustomBackbone = "lstm",
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
        channels: str = "last",
        missing: str = "interpolate",
        max_length: int | None = None,
        vocabulary_size: int | None = None,
        output_dim: int | None = None,
        pretraining: str | Pretraining | None = None,
        strategy: str | FineTune = "frozen",
        cross_fit: int | None = None,
        cache: str | Path | FeatureStore | None = None,
        batch_size: int = 64,
        device: str = "auto",
        precision: str = "float32",
        on_error: str = "raise",
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
        self.channels = channels
        self.missing = missing
        self.max_length = max_length
        self.vocabulary_size = vocabulary_size
        self.output_dim = output_dim
        self.pretraining = pretraining
        self.strategy = strategy
        self.cross_fit = cross_fit
        self.cache = cache
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.on_error = on_error
        self.random_state = random_state
        self.verbose = verbose

    _augments: ClassVar[bool] = True
    _unusable = "rows of X are no usable sequences"

    views_ = FittedAttribute("views")
    pooling_ = FittedAttribute("poolings")
    layer_ = FittedAttribute("layers")
    n_channels_ = FittedAttribute("n_channels")
    errors_ = FittedAttribute("errors")
    pretraining_loss_ = FittedAttribute("pretraining_loss")

    def fit(
        self, X: Any, y: Any = None, *, sample_weight: Any = None, sample_domain: Any = None
    ) -> Self:
        """Load or pretrain the network, and learn scales and thresholds from the sequences.

        Parameters
        ----------
        X : array, DataFrame, or sequence of n sequences
            Time series as an array or DataFrame of shape (n, time), an array of shape
            (n, time, channels), or a list of arrays of shape (time,) or (time, channels), which
            may differ in length; with ``channels="first"`` (channels, time). With
            `vocabulary_size`, sequences of integers. Or a list, array or Series of str, read as
            their UTF-8 bytes. Or a torch ``Dataset`` of either, or of tuples (sample, label).
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
        self : RNNSequenceFeatures

        Raises
        ------
        ValueError
            A parameter is out of its range; a sequence is empty, infinite or of other channels
            than the first (with ``on_error="nan"``: none is usable); or the network does not fit
            the sequences.
        WeightsNotFoundError, WeightsMismatchError
            The weights are not to be had, or hold something else.
        """
        return super().fit(X, y, sample_weight=sample_weight, sample_domain=sample_domain)

    def _check_parameters(self) -> None:
        self._check_common_parameters()
        check_parameters(self)

    def _load(self, X: Any, every_layer: bool) -> tuple[FittedSequences, int]:
        device = resolve_device(self.device)
        source, vocabulary_size, noted = self._read_source(X, None)
        if not len(source):
            raise ValueError(f"no row of X is a usable sequence; X[0]: {source.failed[0].message}")
        loaded = load_network(self, vocabulary_size)
        module = loaded.module.to(device)
        everything = source.read(range(len(source)))
        views = resolve_views(self, everything)
        joint = reads_all_channels(module, self.channels, source.n_channels, vocabulary_size)
        plan = SequencePlan(
            views, learn_scales(everything, views), source.n_channels, joint, self.batch_size
        )
        layers = every_layer_of(module) if every_layer else resolve_layers(self.layer, module)
        # A module of one's own runs once, so that what is wrong with it is said in `fit`.
        first = source.read(range(min(len(source), _REFERENCES)))
        backward = units_from_end(Encoder(module, layers, self.precision), first)
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
        inside = bidirectional_part(module)
        if inside and "last" in poolings and not backward:
            warnings.warn(
                f"the backbone's output mixes both directions of {inside!r}, so pooling='last' "
                "takes the last step, where the backward direction has seen no more than that. Set "
                f"pooling='mean', or layer={inside!r}, whose final states are known",
                stacklevel=callers_level(),
            )
        encoder = Encoder(module, layers, self.precision)
        some = np.unique(np.linspace(0, len(source) - 1, _REFERENCES).astype(int))
        sequences = source.read(some[:1] if "ppv" not in poolings else some)
        thresholds = fit_thresholds(encoder, sequences, plan, self.n_thresholds)
        named = isinstance(self.backbone, str)
        name = self.backbone if isinstance(self.backbone, str) else custom_name(self.backbone)
        network = LoadedNetwork.of(name, module)
        weights_sha256 = network.weights_sha256 if losses else loaded.sha256
        fitted = FittedSequences(
            network=network,
            by_reference=False,
            device=str(device),
            engine="torch",
            weights_sha256=weights_sha256,
            vocabulary_size=vocabulary_size,
            plan=plan,
            poolings=poolings,
            layers=layers,
            thresholds=[t.cpu().numpy() for t in thresholds],
            backward=backward,
            with_statistics=vocabulary_size is None
            and bool(named if self.append_stats == "auto" else self.append_stats),
            projection=None,
            pretraining_loss=losses,
            **noted,
        )
        fitted.forwarded.note(errors=source.failed)
        return fitted if every_layer else self._with_projection(fitted), source.n_rows

    def _with_projection(self, fitted: FittedSequences) -> FittedSequences:
        """Draw the random projection, if there is to be one."""
        if self.output_dim is None:
            return fitted
        seed = int(check_random_state(self.random_state).randint(2**31))
        n_features = len(self._unprojected_names(fitted))
        projection = RandomProjection.drawn(self.output_dim, n_features, seed)
        return fitted.replace(projection=projection)

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
            Or a DataFrame, after ``set_output``. The features of a dask collection are a dask
            array, which dask's workers compute when it is asked for.

        Raises
        ------
        ValueError, TypeError
            With ``on_error="raise"``, the first row that is no usable sequence.
        """
        return self._transform(X)

    # --- features -------------------------------------------------------------------------

    def _features(self, X: Any, fitted: FittedSequences) -> tuple[np.ndarray, np.ndarray]:
        source = self._source(X, fitted)
        read = self._note_failures(source.n_rows, source.failed, fitted)
        return self._features_of(source, read, fitted), read

    def _features_of(
        self,
        source: Source,
        read: np.ndarray,
        fitted: FittedSequences,
        change: Callable[[Sequences], Sequences] | None = None,
    ) -> np.ndarray:
        """Features of all rows, or of what a change makes of them; NaN for those not `read`."""
        plan = fitted.plan
        encoder = Encoder(fitted.module, fitted.layers, self.precision, fitted.backward)
        thresholds = [torch.from_numpy(t).to(encoder.device) for t in fitted.thresholds]
        n_features = len(self._unprojected_names(fitted))
        features = np.empty((len(source), n_features), dtype=np.float32)
        # Nobody will ask again for what was changed at random.
        session = self._session(fitted) if change is None else None
        with tqdm(
            total=len(source) * plan.n_groups,
            desc=type(self).__name__,
            unit="row",
            disable=not self.verbose,
        ) as bar:
            for start, window in source.windows(len(plan.views)):
                window = window if change is None else change(window)
                rows = features[start : start + len(window)]
                states = rows[:, : fitted.width].reshape(len(window), plan.n_groups, -1)  # a view
                computing = (encoder, window, plan, fitted.poolings, thresholds, states, bar.update)
                if session is None:
                    vectors_of(*computing)
                    fitted.forwarded.count(len(window))
                else:
                    fitted.forwarded.count(vectors_through(session, *computing))
                if fitted.with_statistics:
                    rows[:, fitted.width :] = statistics(window, plan.scales[1])
        if source.failed:
            rows, features = features, np.full((len(read), n_features), np.nan, np.float32)
            features[read] = rows
        if fitted.projection is not None:
            check_finite(features, read)  # which the projection would refuse without their rows
            features = projected(features, read, fitted.projection)
        return features

    def _store_key(self, fitted: FittedSequences) -> tuple[tuple[Any, ...], str]:
        assert fitted.network is not None
        decided_by = (
            _FORMAT,
            fitted.network.fingerprint,
            fitted.layers,
            fitted.plan.joint,
            fitted.n_channels,
            fitted.vocabulary_size,
            torch.device(fitted.device).type,
            self.precision,
            *(units.tobytes() for units in fitted.backward),
        )
        description = f"{fitted.network.name} on sequences, {self.precision}"
        return decided_by, description

    def _columns_of_layers(self, fitted: FittedSequences) -> dict[str, np.ndarray]:
        """Columns of each layer, by its name, without statistics of the series."""
        layers: list[str] = []
        for _ in range(fitted.plan.n_groups):
            for layer, thresholds in zip(fitted.layers, fitted.thresholds, strict=True):
                width = width_of(fitted.poolings, [torch.from_numpy(thresholds)])
                layers += [str(layer)] * width
        names = np.array(layers)
        return {str(layer): np.flatnonzero(names == str(layer)) for layer in fitted.layers}

    def _read_layer(
        self, fitted: FittedSequences, features: np.ndarray, layer: str
    ) -> tuple[FittedSequences, np.ndarray]:
        columns = self._columns_of_layers(fitted)[layer]
        features = np.concatenate([features[:, columns], features[:, fitted.width :]], axis=1)
        number = list(map(str, fitted.layers)).index(layer)
        chosen = self._with_projection(
            fitted.replace(
                layers=(fitted.layers[number],),
                thresholds=[fitted.thresholds[number]],
                backward=fitted.backward[number : number + 1],
            )
        )
        if chosen.projection is not None:
            read = np.isfinite(features).all(axis=1)
            features = projected(features, read, chosen.projection)
        return chosen, features

    def _names(self, fitted: FittedSequences) -> np.ndarray:
        if fitted.projection is not None:
            return fitted.projection.get_feature_names_out()
        return np.asarray(self._unprojected_names(fitted), dtype=object)

    def _unprojected_names(self, fitted: FittedSequences) -> list[str]:
        units = [t.shape[1:] for t in fitted.thresholds]
        names = []
        for view in fitted.views:
            channels = [""] if fitted.plan.joint else [f"_c{c}" for c in range(fitted.n_channels)]
            for channel in channels:
                for layer, (n_thresholds, n_units) in zip(fitted.layers, units, strict=True):
                    infix = f"_{layer}" if len(fitted.layers) > 1 else ""
                    for pooling in fitted.poolings:
                        many = pooling == "ppv"
                        for number in range(n_thresholds if many else 1):
                            start = f"{view}{channel}{infix}_{pooling}{number if many else ''}"
                            names += [f"{start}_{unit}" for unit in range(n_units)]
        return names + (statistics_names(fitted.n_channels) if fitted.with_statistics else [])

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
        return super().get_feature_names_out(input_features)

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

    # --- reading --------------------------------------------------------------------------

    def _count_rows(self, X: Any, fitted: FittedSequences) -> int:
        return self._source(X, fitted).n_rows

    def _source(self, X: Any, fitted: FittedSequences) -> Source:
        """X, of the kind that the network was fitted on."""
        source, vocabulary_size, _ = self._read_source(X, fitted)
        if vocabulary_size != fitted.vocabulary_size:
            raise ValueError(
                f"X holds {content_of(vocabulary_size)}, but this {type(self).__name__} was fitted "
                f"on {content_of(fitted.vocabulary_size)}"
            )
        if source.n_channels != fitted.n_channels:
            raise ValueError(
                f"X has {source.n_channels} channels, but this {type(self).__name__} was fitted "
                f"on {fitted.n_channels}; see channels={self.channels!r}"
            )
        if len(source) and source.names is None and fitted.channel_names is not None:
            warnings.warn(
                f"X has channels without names, but this {type(self).__name__} was fitted on "
                f"channels named {fitted.channel_names!r:.80}; they are taken in this order",
                stacklevel=callers_level(),
            )
        return source

    def _read_source(
        self, X: Any, fitted: FittedSequences | None
    ) -> tuple[Source, int | None, dict[str, Any]]:
        """X, for tokens and texts the size of their vocabulary, and what is noted of a table."""
        refuse_dask(X)
        X = samples_of(X)
        if self._holds_texts(X, fitted):
            if self.vocabulary_size not in (None, _N_BYTES):
                raise ValueError(
                    f"vocabulary_size={self.vocabulary_size} is for sequences of integers; texts "
                    f"are read as bytes, of which there are {_N_BYTES}: set it to None"
                )
            return text_source(X, self.max_length, self.on_error), _N_BYTES, {}
        if self.vocabulary_size is not None:
            source = token_source(X, self.vocabulary_size, self.max_length, self.on_error)
            return source, self.vocabulary_size, {}
        X, columns = named_series(X, None if fitted is None else fitted.column_names)
        noted: dict[str, Any] = {}
        tolerant = self.on_error == "nan"
        if is_table(X):
            # What is infinite is refused where its row and its step can be named.
            X, noted = self._validate_table(X, reset=fitted is None, ensure_all_finite=False)
        source = series_source(
            X,
            channels=self.channels,
            missing=self.missing,
            max_length=self.max_length,
            names=None if fitted is None else fitted.channel_names,
            on_error=self.on_error,
            n_channels=fitted.n_channels if fitted is not None and tolerant else None,
        )
        if fitted is None:
            noted |= {"channel_names": source.names, "column_names": columns}
        if fitted is not None or source.n_channels == 1:
            return source, None, noted
        longest = max(map(len, source.items))
        if source.n_channels > longest and self.channels == "last":
            warnings.warn(
                f"X has {source.n_channels} channels and at most {longest} time steps. If its "
                "arrays are (channels, time), as in aeon, set channels='first'",
                stacklevel=callers_level(),
            )
        return source, None, noted

    def _holds_texts(self, X: Any, fitted: FittedSequences | None) -> bool:
        if is_text(X):
            return True
        if fitted is None or fitted.vocabulary_size != _N_BYTES or is_table(X):
            return False
        # Rows that are all missing are of the kind that the network was fitted on.
        return self.vocabulary_size is None and is_all_missing(X)

    # --- fine-tuning ----------------------------------------------------------------------

    def _body(self, fitted: FittedSequences, module: nn.Module) -> Body:
        projection = None if fitted.projection is None else fitted.projection.components_
        return SequenceBody(
            module, fitted.layers, fitted.poolings, fitted.thresholds, fitted.backward, projection
        )

    def _tunable(self, X: Any, fitted: FittedSequences, body: Any) -> Tunable:
        source = self._source(X, fitted)
        readable = self._note_failures(source.n_rows, source.failed, fitted)

        def statistics_of(sequences: Sequences) -> np.ndarray:
            if not fitted.with_statistics:
                return np.empty((len(sequences), 0))
            return statistics(sequences, fitted.plan.scales[1])

        return TunableSequences(
            body,
            torch.device(fitted.device),
            lambda: source.read(range(len(source))),
            fitted.plan,
            statistics_of,
            lambda: self._compute(X, fitted)[0],
            readable,
        )

    def _augmented(
        self, X: Any, fitted: FittedSequences, change: Any, strategy: FineTune, seed: int
    ) -> Iterator[np.ndarray]:
        source = self._source(X, fitted)
        check_changeable(source.is_tokens)
        read = self._note_failures(source.n_rows, source.failed, fitted)
        yield self._features_of(source, read, fitted)
        apply: Any = series_change(strategy)
        for number in range(change):
            of_view = partial(changed, change=apply, seed=seed + number)
            yield self._features_of(source, read, fitted, of_view)

    def _with_module(self, fitted: FittedSequences, module: nn.Module) -> FittedSequences:
        assert fitted.network is not None
        network = LoadedNetwork.of(fitted.network.name, module)
        return fitted.replace(network=network, weights_sha256=network.weights_sha256, is_tuned=True)

    # --- pickling -------------------------------------------------------------------------

    def _pack(self, fitted: FittedSequences) -> Any:
        assert fitted.network is not None
        module = fitted.module
        shape = module.shape if isinstance(module, RecurrentNetwork) else None
        weights = packed(module) if shape is None else module_to_bytes(module)
        return fitted.network.name, shape, weights, fitted.network.weights_sha256

    def _unpack(self, saved: Any, fitted: FittedSequences, device: torch.device) -> LoadedNetwork:
        name, shape, weights, *sha256 = saved
        module = frozen(unpacked(weights) if shape is None else _rebuilt(shape, weights))
        # Pickles of earlier versions lack the hash.
        return LoadedNetwork(name, module, *sha256) if sha256 else LoadedNetwork.of(name, module)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.vocabulary_size is None
        tags.input_tags.three_d_array = self.vocabulary_size is None
        tags.input_tags.string = self.vocabulary_size is None
        tags.input_tags.allow_nan = self.missing == "interpolate" or self.on_error == "nan"
        return tags


def _rebuilt(shape: Shape, data: bytes) -> RecurrentNetwork:
    network = RecurrentNetwork.empty(shape)
    fit_weights(network, bytes_to_state(data), "the network of this pickle")
    return network
