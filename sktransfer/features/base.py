"""The base of the feature transformers: how they are fitted, tuned, counted and pickled."""

import dataclasses
import numbers
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import torch
from sklearn.base import TransformerMixin
from sklearn.utils import Tags, check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from sktransfer._columns import errors_about
from sktransfer._pairs import labels_of
from sktransfer._validation import callers_level, source_mask, training_weights
from sktransfer.backbones.loaded_network import LoadedNetwork
from sktransfer.exceptions import ConversionError
from sktransfer.features.calls import Calls
from sktransfer.features.dask import is_dask, transform_lazily
from sktransfer.features.layer_choice import choose_layer, is_auto
from sktransfer.finetuning.averaging import BODY, Ends, interpolate_between
from sktransfer.finetuning.cross_fitting import check_cross_fit
from sktransfer.finetuning.fitting import check_structure, fit_on_labels
from sktransfer.finetuning.network import Body
from sktransfer.finetuning.protocols import Tunable
from sktransfer.finetuning.strategy import FineTune, HasStrategy, check_strategy, is_frozen
from sktransfer.finetuning.tuned import Tuned, raise_interrupt
from sktransfer.networks.devices import device_again
from sktransfer.networks.engines import resolve_engine
from sktransfer.networks.modules import copied, evaluate
from sktransfer.networks.torch_settings import usual_settings
from sktransfer.store import FeatureStore
from sktransfer.store.session import StoreSession

Record = TypeVar("Record", bound="Fitted")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Fitted:
    """All that `fit` has loaded and learned; subclasses add what their samples need.

    A transformer is fitted when it holds such a record, and another fit replaces the whole of it.

    Parameters
    ----------
    network : LoadedNetwork or None
        None in a pickle, which holds it in its own way.
    by_reference : bool
        Whether the name of the backbone will do to load it again.
    device, engine, weights_sha256 : str
    n_features_in : int or None
        Columns of a table of numbers.
    feature_names_in : ndarray of str or None
    layer_scores : dict of str to float or None
        For ``layer="auto"``.
    forwarded : Calls
        What has been computed with the record and with those made of it by `replace`; in a pickle
        a list of 0, as in those of earlier versions.
    trained_parameters : tuple of str
        Names of the weights that were tuned.
    n_trained_parameters : int
    history : list of dict
    ends : dict of str to tuple of ndarray, or None
        With ``interpolate=``, the tensors of the source network and of the tuned one.
    interpolate : float or None
        Where the network lies between them.
    learning_rate : float or None
        Peak rate of the tuning.
    rate_curve : dict of str to ndarray, or None
        The range test that has found it.
    is_tuned : bool
        Whether the network is another one than was loaded.
    """

    network: LoadedNetwork | None
    by_reference: bool
    device: str
    engine: str
    weights_sha256: str
    n_features_in: int | None = None
    feature_names_in: np.ndarray | None = None
    layer_scores: Mapping[str, float] | None = None
    forwarded: Calls = dataclasses.field(default_factory=Calls)
    trained_parameters: tuple[str, ...] = ()
    n_trained_parameters: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    ends: Ends | None = None
    interpolate: float | None = None
    learning_rate: float | None = None
    rate_curve: Mapping[str, np.ndarray] | None = None
    is_tuned: bool = False

    def __post_init__(self) -> None:
        if self.network is not None:
            _ = self.network.state  # of the weights that were hashed: they may yet be changed

    @property
    def module(self) -> nn.Module:
        """The network."""
        assert self.network is not None
        return self.network.module

    @property
    def engine_in_use(self) -> str:
        """The engine, unless it has failed on the network and another one took over."""
        return self.forwarded.engine or self.engine

    @property
    def errors(self) -> list[Any]:
        """The rows of the last call that could not be read."""
        return self.forwarded.outcome.errors

    @property
    def n_truncated(self) -> int:
        """The rows of the last call that were cut off."""
        return self.forwarded.outcome.n_truncated

    def replace(self: Record, **changes: Any) -> Record:
        """A record with other values."""
        return dataclasses.replace(self, **changes)


class FittedAttribute:
    """A public attribute of a transformer that is read from its record.

    Not a data descriptor: scikit-learn may set it on an instance that is being validated.

    Parameters
    ----------
    field : str
    """

    def __init__(self, field: str) -> None:
        self.field = field

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, transformer: Any, owner: type | None = None) -> Any:
        if transformer is None:
            return self
        value = getattr(vars(transformer).get("fitted_"), self.field, None)
        if value is None:
            raise AttributeError(f"{type(transformer).__name__} has no attribute {self.name!r}")
        return value


class FeatureTransformer(TransformerMixin, HasStrategy, ABC, Generic[Record]):
    """A network whose features are read, frozen or tuned; subclasses know what X is."""

    __metadata_request__fit: ClassVar = {"sample_domain": True}

    _augments: ClassVar[bool] = False
    _mirrors: ClassVar[bool] = False
    _unusable: ClassVar[str]

    backbone: Any
    layer: Any
    strategy: Any
    cross_fit: Any = None  # which pickles of earlier versions lack
    cache: Any
    batch_size: int
    device: str
    precision: str
    random_state: Any
    verbose: Any
    fitted_: Record

    module_ = FittedAttribute("module")
    device_ = FittedAttribute("device")
    weights_sha256_ = FittedAttribute("weights_sha256")
    layer_scores_ = FittedAttribute("layer_scores")
    n_features_in_ = FittedAttribute("n_features_in")
    feature_names_in_ = FittedAttribute("feature_names_in")
    trained_parameters_ = FittedAttribute("trained_parameters")
    n_trained_parameters_ = FittedAttribute("n_trained_parameters")
    history_ = FittedAttribute("history")
    interpolate_ = FittedAttribute("interpolate")
    learning_rate_ = FittedAttribute("learning_rate")
    rate_curve_ = FittedAttribute("rate_curve")

    # --- what a subclass says -------------------------------------------------------------

    @abstractmethod
    def _check_parameters(self) -> None:
        """Refuse wrong parameters."""

    @abstractmethod
    def _load(self, X: Any, every_layer: bool) -> tuple[Record, int]:
        """Load the network and learn what features of X need; give the number of rows, too."""

    @abstractmethod
    def _count_rows(self, X: Any, fitted: Record) -> int:
        """Number of samples in X."""

    @abstractmethod
    def _features(self, X: Any, fitted: Record) -> tuple[np.ndarray, np.ndarray]:
        """Features of all rows, and which of these could be read."""

    @abstractmethod
    def _columns_of_layers(self, fitted: Record) -> Mapping[str, slice | np.ndarray]:
        """Columns of each layer in the features."""

    @abstractmethod
    def _read_layer(self, fitted: Record, features: np.ndarray, layer: str) -> Any:
        """A record that reads one layer of those that another reads, and its features."""

    @abstractmethod
    def _names(self, fitted: Record) -> np.ndarray:
        """Names of the features."""

    @abstractmethod
    def _with_module(self, fitted: Record, module: nn.Module) -> Record:
        """A record with other weights, which no name stands for."""

    @abstractmethod
    def _body(self, fitted: Record, module: nn.Module) -> Body:
        """A network of the record's structure, and the features that are read of it."""

    @abstractmethod
    def _tunable(self, X: Any, fitted: Record, body: Body) -> Tunable:
        """X and a body, for fine-tuning."""

    def _augmented(
        self, X: Any, fitted: Record, change: Any, strategy: FineTune, seed: int
    ) -> Iterator[np.ndarray]:
        raise NotImplementedError

    @abstractmethod
    def _pack(self, fitted: Record) -> Any:
        """The network of a record as it travels in a pickle."""

    @abstractmethod
    def _unpack(self, saved: Any, fitted: Record, device: torch.device) -> LoadedNetwork:
        """The network that `_pack` has packed."""

    # --- scikit-learn's methods -----------------------------------------------------------

    def fit(
        self, X: Any, y: Any = None, *, sample_weight: Any = None, sample_domain: Any = None
    ) -> Self:
        """Load the network and learn what its features need; fine-tune it if asked to."""
        self._fit(X, y, sample_weight=sample_weight, sample_domain=sample_domain)
        return self

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> np.ndarray:
        """Fit, and compute the features of the same samples.

        With ``layer="auto"`` and a frozen network both take a single pass. With a strategy and
        `cross_fit` the features are those of networks that were tuned without the sample, and
        differ from those of `transform`.

        Parameters
        ----------
        X : Any
            n samples in any of the forms that `fit` takes.
        y : array-like or None, default=None
        **fit_params : dict
            As for `fit`.

        Returns
        -------
        ndarray of shape (n, n_features_out), float32
            Or a DataFrame, after ``set_output``.
        """
        features = self._fit(X, y, cross_fit=self.cross_fit, **fit_params)
        return self.transform(X) if features is None else features

    @usual_settings()
    def _fit(
        self,
        X: Any,
        y: Any,
        *,
        cross_fit: int | None = None,
        sample_weight: Any = None,
        sample_domain: Any = None,
    ) -> np.ndarray | None:
        """Fit; if that takes the features of a frozen network, or cross-fits them, return them."""
        self._check_parameters()
        row_metadata = {"sample_weight": sample_weight, "sample_domain": sample_domain}
        with errors_about(X):
            if is_frozen(self.strategy):
                self.fitted_, features = self._fit_frozen(X, y, task=None, **row_metadata)
                return features
            result = fit_on_labels(self, X, y, cross_fit=cross_fit, **row_metadata)
            raise_interrupt(result.tuned)
        return result.features

    def _fit_frozen(
        self, X: Any, y: Any, *, task: str | None, sample_weight: Any, sample_domain: Any
    ) -> tuple[Record, np.ndarray | None]:
        """Fit without tuning, and change nothing."""
        fitted, n_rows = self._load(X, every_layer=is_auto(self.layer))
        training_weights(sample_weight, n_rows)  # a frozen network has no use for them
        source_mask(sample_domain, n_rows)
        if not is_auto(self.layer):
            return fitted, None
        features, fitted = self._compute(X, fitted)
        layer, scores = choose_layer(
            features,
            self._columns_of_layers(fitted),
            labels_of(X) if y is None else y,
            task=task,
            sample_weight=sample_weight,
            sample_domain=sample_domain,
        )
        fitted, features = self._read_layer(fitted, features, layer)
        return fitted.replace(layer_scores=scores), np.ascontiguousarray(features)

    @abstractmethod
    def transform(self, X: Any) -> np.ndarray:
        """Features of each sample, one row per sample in the order of X."""

    @usual_settings()
    def _transform(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        self._check_parameters()
        if is_dask(X):
            return transform_lazily(self, X)
        with errors_about(X):
            return self._compute(X, self.fitted_)[0]

    def _compute(self, X: Any, fitted: Record) -> tuple[np.ndarray, Record]:
        """Features, by torch where OpenVINO fails, and the record of what has computed them."""
        evaluate(fitted.module)  # somebody may have trained it: with dropout, features are random
        try:
            features, read = self._features(X, fitted)
        except ConversionError as error:
            engine = getattr(self, "engine", "torch")
            assert fitted.network is not None
            name = fitted.network.name
            if engine != "auto":
                raise ConversionError(
                    f"engine={engine!r} cannot run {name} ({error}); set engine='auto' or 'torch'"
                ) from error
            warnings.warn(
                f"OpenVINO cannot run {name}, so torch does, more slowly ({error}). Set "
                "engine='torch' to choose it without this warning",
                stacklevel=callers_level(),
            )
            fitted.forwarded.engine = "torch"
            fitted = fitted.replace(engine="torch")
            features, read = self._features(X, fitted)
        check_finite(features, read)
        return features, fitted

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the features.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Only checked against the names seen in `fit`, if X was a table.

        Returns
        -------
        ndarray of str, dtype object
        """
        check_is_fitted(self)
        n_features_in = self.fitted_.n_features_in
        if input_features is not None and n_features_in is not None:
            names_in = self.fitted_.feature_names_in
            if names_in is not None and not np.array_equal(names_in, input_features):
                raise ValueError("input_features is not equal to feature_names_in_")
            if len(input_features) != n_features_in:
                raise ValueError(
                    "input_features should have length equal to number of features "
                    f"({n_features_in}), got {len(input_features)}"
                )
        return self._names(self.fitted_)

    @property
    def n_forward_(self) -> int:
        """Number of samples that have gone through the network since `fit`."""
        check_is_fitted(self)
        return self.fitted_.forwarded.n_forward

    def __sklearn_is_fitted__(self) -> bool:
        return "fitted_" in vars(self)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.target_tags.required = not is_frozen(self.strategy) or is_auto(self.layer)
        return tags

    # --- what subclasses share ------------------------------------------------------------

    def _note_failures(self, n: int, failed: Sequence[Any], fitted: Record) -> np.ndarray:
        """Note the rows that cannot be used, and warn of them; a mask of the others comes back."""
        fitted.forwarded.note(errors=list(failed))
        if failed:
            warnings.warn(
                f"{len(failed)} of {n} {self._unusable} and are rows of NaN, or left out of "
                f"fine-tuning; `errors_` says why. The first, X[{failed[0].index}]: "
                f"{failed[0].message}",
                stacklevel=callers_level(),
            )
        usable = np.ones(n, dtype=bool)
        usable[[failure.index for failure in failed]] = False
        return usable

    def _check_common_parameters(self) -> None:
        """Refuse wrong values of the parameters that all transformers have."""
        check_strategy(self.strategy)
        check_cross_fit(self.cross_fit)
        if not isinstance(self.cache, str | os.PathLike | FeatureStore | None) or self.cache == "":
            raise ValueError(
                f"cache must be None, the path of a folder or a FeatureStore, got {self.cache!r}"
            )
        check_scalar(self.batch_size, "batch_size", numbers.Integral, min_val=1)
        check_random_state(self.random_state)

    def _validate_table(self, X: Any, *, reset: bool, **options: Any) -> tuple[Any, dict[str, Any]]:
        """A table of numbers, and with `reset` what a record notes of it.

        scikit-learn notes names and number of columns on the estimator that it is given: a fit
        gives it a blank one, since it may yet fail.
        """
        if np.ma.is_masked(X):  # scikit-learn would take what lies under the mask
            X = np.ma.filled(X.astype(np.float64), np.nan)
        estimator: Any = self
        if reset:
            estimator = object.__new__(type(self))
            estimator.__dict__.update(self.get_params(deep=False))
        if not hasattr(X, "__array__") and hasattr(X, "to_pandas"):  # Hugging Face's datasets
            X = X.to_pandas()
        table = validate_data(estimator, X, reset=reset, **options)
        noted = {
            "n_features_in": getattr(estimator, "n_features_in_", None),
            "feature_names_in": getattr(estimator, "feature_names_in_", None),
        }
        return table, noted if reset else {}

    @abstractmethod
    def _store_key(self, fitted: Record) -> tuple[tuple[Any, ...], str]:
        """All that decides the features apart from the sample, and its description."""

    def _session(self, fitted: Record) -> StoreSession | None:
        """The store for the features of this network under these parameters."""
        # Nobody will ask again for the features of a tuned network: the next fold tunes another.
        if self.cache is None or fitted.is_tuned:
            return None
        return StoreSession(self.cache, *self._store_key(fitted))

    # --- fine-tuning ----------------------------------------------------------------------

    def __tuning_source__(self) -> "TransformerSource[Record]":
        """What fine-tuning works on; see `sktransfer.finetuning.protocols`."""
        return TransformerSource(self)

    # --- pickling -------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__().copy()
        if "fitted_" in state:
            fitted = self.fitted_
            assert fitted.network is not None
            # Under the hash of other weights a store would give the features of those.
            if fitted.network.is_changed and not fitted.by_reference:
                fitted = self._with_module(fitted, fitted.module).replace(
                    is_tuned=fitted.is_tuned, engine=fitted.engine
                )
            state["_network"] = self._pack(fitted)
            state["fitted_"] = fitted.replace(network=None, forwarded=[0])
        return state

    @usual_settings()
    def __setstate__(self, state: dict[str, Any]) -> None:
        # Earlier versions kept errors of the last call here.
        state = {k: v for k, v in state.items() if k not in ("errors_", "n_truncated_")}
        packed = state.pop("_network", None)
        super().__setstate__(state)
        if "fitted_" not in state:
            return
        fitted = self.fitted_
        device = device_again(self)
        engine = fitted.engine
        if getattr(self, "engine", "") == "auto" and engine != resolve_engine("auto", device):
            engine = "torch"  # which runs everywhere
        network = self._unpack(packed, fitted, device)
        network.module.to(device)
        self.fitted_ = fitted.replace(
            network=network, device=str(device), engine=engine, forwarded=Calls()
        )


class TransformerSource(Generic[Record]):
    """A `TuningSource`: a transformer beside which a network is fitted and tuned.

    Parameters
    ----------
    transformer : FeatureTransformer
    """

    def __init__(self, transformer: FeatureTransformer[Record]) -> None:
        self._transformer = transformer
        self.fitted_: Any = vars(transformer).get("fitted_")
        self.augments = transformer._augments
        self.mirrors = transformer._mirrors

    def fit_frozen(self, X: Any, y: Any, **fit_params: Any) -> None:
        """Load the network and learn what its features need to know of X, without tuning."""
        self._transformer._check_parameters()
        self.fitted_, _ = self._transformer._fit_frozen(X, y, **fit_params)

    def start_from(self, transformer: Any) -> None:
        """Take over the weights of another fitted transformer, whose network must be alike."""
        check_structure(self.fitted_.module, transformer.module_)
        module = copied(transformer.module_).to(self.fitted_.device)
        self.fitted_ = self._transformer._with_module(self.fitted_, module)

    def n_rows(self, X: Any) -> int:
        """Number of samples."""
        return self._transformer._count_rows(X, self.fitted_)

    def features(self, X: Any) -> np.ndarray:
        """Features of the network as it is; rows of NaN could not be read."""
        features, self.fitted_ = self._transformer._compute(X, self.fitted_)
        return features

    def feature_names(self) -> np.ndarray:
        """Names of the features."""
        return self._transformer._names(self.fitted_)

    def body(self) -> Body:
        """The network and its features as a trainable module, sharing the weights."""
        return self._transformer._body(self.fitted_, self.fitted_.module)

    def tunable(self, X: Any, body: Body | None = None) -> Tunable:
        """X, and a copy of the network or the body given."""
        if body is None:
            body = self._transformer._body(self.fitted_, copied(self.fitted_.module))
        return self._transformer._tunable(X, self.fitted_, body.to(self.fitted_.device))

    def augmented(self, X: Any, change: Any, strategy: FineTune, seed: int) -> Iterator[np.ndarray]:
        """Features of the samples as they are, and of the views of them that `change` counts."""
        return self._transformer._augmented(X, self.fitted_, change, strategy, seed)

    def interpolate(self, ends: Ends, alpha: float) -> None:
        """Move the network to a point between a source network and a tuned one."""
        within = {name.removeprefix(BODY): ends[name] for name in ends if name.startswith(BODY)}
        moved = self.fitted_.replace(ends=ends, interpolate=alpha)
        if within:
            module = copied(self.fitted_.module)
            interpolate_between(within, alpha, module)
            moved = self._transformer._with_module(moved, module)
        self.fitted_ = self._transformer.fitted_ = moved

    def commit(self, tuned: Tuned | None = None) -> None:
        """Make the transformer fitted, with a tuned network if there is one."""
        fitted = self.fitted_
        if tuned is not None:
            if tuned.trained:  # else it is as it was
                fitted = self._transformer._with_module(fitted, tuned.network.body.module)
            fitted = fitted.replace(
                trained_parameters=tuned.trained,
                n_trained_parameters=tuned.n_trained,
                history=tuned.history,
                ends=tuned.ends,
                interpolate=tuned.alpha,
                learning_rate=tuned.learning_rate,
                rate_curve=tuned.rate_curve,
            )
        self.fitted_ = self._transformer.fitted_ = fitted


def check_finite(features: np.ndarray, read: np.ndarray, first: int = 0) -> None:
    """See that a network has put out numbers for all rows that could be read.

    Raises
    ------
    ValueError
        It has put out NaN or infinity.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # a sum that overflows is looked into below
        if np.isfinite(features.sum()):  # several times faster than to look at all
            return
    wrong = read & ~np.isfinite(features).all(axis=1)
    if wrong.any():
        raise ValueError(
            f"the network puts out NaN or infinity for X[{first + wrong.argmax()}]; check its "
            "weights, and that it is made for values on this scale"
        )


def slices_of(widths: Iterable[tuple[str, int]]) -> dict[str, slice]:
    """Columns of each layer, whose blocks lie side by side.

    Parameters
    ----------
    widths : iterable of (str, int)
        Layer and number of columns of each block, in order; those of one layer are neighbours.
    """
    slices: dict[str, slice] = {}
    start = 0
    for layer, width in widths:
        before = slices.get(layer)
        slices[layer] = slice(start if before is None else before.start, start + width)
        start += width
    return slices
