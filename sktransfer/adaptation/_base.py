"""What methods between two domains share: what they are given, and how rows keep their order."""

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags, assert_all_finite, check_array, column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

from sktransfer._validation import checked_domain, labelled_mask, source_mask
from sktransfer.exceptions import DomainWarning


@dataclass(frozen=True)
class Pair:
    """The rows of two domains, each in the order in which they stand in X.

    Parameters
    ----------
    source : ndarray of shape (n_source, n_features), float64
    target : ndarray of shape (n_target, n_features), float64
    y_source : ndarray of shape (n_source,) or None
    y_target : ndarray of shape (n_target,) or None
        Meaningless where `labelled` is False.
    labelled : ndarray of shape (n_target,), bool
    """

    source: np.ndarray
    target: np.ndarray
    y_source: np.ndarray | None
    y_target: np.ndarray | None
    labelled: np.ndarray


class DomainMethod(BaseEstimator, ABC):
    """A method that looks at the rows of two domains; subclasses say what it learns."""

    # Without them a method has nothing to do, so that they are asked for by default.
    __metadata_request__fit: ClassVar = {"sample_domain": True, "target_labeled": True}

    _needs_labels: ClassVar[bool] = False
    """Whether the labels of the source are part of it."""

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self._needs_labels
        return tags

    def _split(
        self, X: Any, y: Any, sample_domain: Any, target_labeled: Any
    ) -> tuple[Pair, np.ndarray, np.ndarray]:
        """The pair, which rows are of the source, and X as it was checked."""
        if self._needs_labels and y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: it "
                "learns from the labels of the source"
            )
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        is_source = source_mask(sample_domain, len(X))
        labelled = labelled_mask(is_source, target_labeled)
        # Only the labels that are meant to be seen are looked at.
        y = checked_labels(y, labelled) if self._needs_labels else None
        table = X.astype(np.float64)
        if is_source.all():
            if sample_domain is not None:
                raise ValueError(
                    "sample_domain has no target row (below 0), and there is nothing to adapt to"
                )
            warnings.warn(
                f"{type(self).__name__} was fitted without sample_domain: all rows are taken for "
                "source and target alike, and nothing is adapted. Pass sample_domain, positive for "
                "source and negative for target rows",
                DomainWarning,
                stacklevel=3,
            )
            nothing = np.zeros(len(X), dtype=bool)
            return Pair(table, table, y, y, nothing), is_source, X
        pair = Pair(
            table[is_source],
            table[~is_source],
            None if y is None else y[is_source],
            None if y is None else y[~is_source],
            labelled[~is_source],
        )
        return pair, is_source, X


class DomainMap(TransformerMixin, DomainMethod):
    """Feature transfer: maps of source and target rows into features that are alike.

    Subclasses implement `_learn`, `_map_source` and `_map_target`; and `_map_learned` where the
    rows of `fit` have images of their own.
    """

    __metadata_request__transform: ClassVar = {"sample_domain": True}

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        assert tags.transformer_tags is not None
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @abstractmethod
    def _learn(self, pair: Pair) -> None:
        """Learn both maps; parameters are to be checked here."""

    @abstractmethod
    def _map_source(self, X: np.ndarray) -> np.ndarray:
        """Source rows, (n, n_features) float64, to the common features."""

    @abstractmethod
    def _map_target(self, X: np.ndarray) -> np.ndarray:
        """Target rows, likewise."""

    def _map_learned(self, pair: Pair) -> np.ndarray:
        """The source rows that the maps were learned on."""
        return self._map_source(pair.source)

    def fit(
        self, X: Any, y: Any = None, *, sample_domain: Any = None, target_labeled: Any = None
    ) -> Self:
        """Learn the maps.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of both domains, in any order.
        y : array-like of shape (n_samples,) or None, default=None
            Labels. Those of target rows are not looked at but where `target_labeled` says so.
        sample_domain : array-like of shape (n_samples,) or None, default=None
            Positive for source and negative for target rows. None takes all rows for both, with a
            `DomainWarning`: then there is nothing to adapt.
        target_labeled : array-like of shape (n_samples,), bool, or None, default=None
            Target rows whose labels may be used.

        Returns
        -------
        self
        """
        self._learn(self._split(X, y, sample_domain, target_labeled)[0])
        return self

    def fit_transform(
        self, X: Any, y: Any = None, *, sample_domain: Any = None, target_labeled: Any = None
    ) -> np.ndarray:
        """Learn the maps, and map the same rows, each as one of its domain.

        Parameters are those of `fit`, the result that of `transform`. Without `sample_domain` rows
        are mapped as target rows.
        """
        pair, is_source, X = self._split(X, y, sample_domain, target_labeled)
        self._learn(pair)
        if sample_domain is None:
            return self._map_target(pair.target).astype(X.dtype, copy=False)
        return _merged(self._map_learned(pair), self._map_target(pair.target), is_source, X.dtype)

    def transform(self, X: Any, *, sample_domain: Any = None) -> np.ndarray:
        """Map rows, which are of the target unless it is said that they are not.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        sample_domain : array-like of shape (n_samples,) or None, default=None
            Positive for source rows.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_features_out)
            In the order of X, float32 if X is, else float64.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        table = X.astype(np.float64)
        is_source = mask_of_some(sample_domain, len(X))
        if not is_source.any():
            return self._map_target(table).astype(X.dtype, copy=False)
        if is_source.all():
            return self._map_source(table).astype(X.dtype, copy=False)
        return _merged(
            self._map_source(table[is_source]),
            self._map_target(table[~is_source]),
            is_source,
            X.dtype,
        )


class DomainWeights(DomainMethod):
    """Instance transfer: weights under which the source rows look like target rows.

    Subclasses implement `_weights`.

    Attributes
    ----------
    sample_weight_ : ndarray of shape (n_samples,)
        Of the rows of `fit` in their order. Source rows have mean 1, target rows 0.
    effective_sample_size_ : float
        How many rows of equal weight the weighted source rows are worth, (sum w)^2 / sum w^2.
    """

    sample_weight_: np.ndarray
    effective_sample_size_: float

    @abstractmethod
    def _weights(self, pair: Pair) -> np.ndarray:
        """Weights of the source rows, (n_source,), none negative, on any scale."""

    def fit(
        self, X: Any, y: Any = None, *, sample_domain: Any = None, target_labeled: Any = None
    ) -> Self:
        """Learn the weights.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of both domains, in any order.
        y : array-like of shape (n_samples,) or None, default=None
            Not used: weights depend on features alone.
        sample_domain : array-like of shape (n_samples,) or None, default=None
            Positive for source and negative for target rows. None takes all rows for both, with a
            `DomainWarning`: then there is nothing to adapt.
        target_labeled : array-like of shape (n_samples,), bool, or None, default=None
            Not used.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            No source row gets any weight: the domains do not overlap.
        """
        pair, is_source, _ = self._split(X, y, sample_domain, target_labeled)
        weights = self._weights(pair)
        if not np.isfinite(weights).all() or weights.sum() <= 0:
            raise ValueError(
                f"{type(self).__name__} finds no source row that is like the target: the domains "
                "do not overlap, or the kernel is too narrow. Standardise the features, try "
                "another gamma, or map the features instead, as CORAL does"
            )
        self.sample_weight_ = np.zeros(len(is_source))
        self.sample_weight_[is_source] = weights / weights.mean()
        self.effective_sample_size_ = float(weights.sum() ** 2 / (weights**2).sum())
        return self


def mask_of_some(sample_domain: Any, n_rows: int) -> np.ndarray:
    """Which of some rows to be mapped are of the source: none, if nothing is said."""
    if sample_domain is None:
        return np.zeros(n_rows, dtype=bool)
    return checked_domain(sample_domain, n_rows) > 0  # rows of the target alone will do here


def checked_labels(y: Any, labelled: np.ndarray) -> np.ndarray:
    """Y as an array, of which only the labelled rows are looked at."""
    y = y.to_numpy() if hasattr(y, "to_numpy") else np.asarray(y)
    y = column_or_1d(y, warn=True)
    if len(y) != len(labelled):
        raise ValueError(f"y has {len(y)} rows and X has {len(labelled)}; they must be equal")
    some = y[labelled]
    if some.dtype.kind == "f":
        assert_all_finite(some, input_name="y")
    if some.dtype.kind == "O":
        if any(label is None or label != label for label in some):
            raise ValueError("Input y contains NaN or None; drop these rows, or label them")
        values = np.array(some.tolist())  # as the type that they have in common
        # NumPy makes text of numbers beside text.
        if values.dtype.kind == "U" and not all(isinstance(label, str) for label in some):
            kinds = sorted({type(label).__name__ for label in some})
            raise ValueError(f"y must hold labels of one type, got {' and '.join(kinds)}")
        some = values
    known = np.empty(len(y), dtype=some.dtype)
    known[labelled], known[~labelled] = some, some[0]
    return known


def checked_weights(sample_weight: Any, n_rows: int) -> np.ndarray:
    """One weight per row, (n_rows,) of float64."""
    weights = check_array(
        sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
    )
    if weights.shape != (n_rows,):
        raise ValueError(
            f"sample_weight.shape == {weights.shape}, expected {(n_rows,)}: one weight per row"
        )
    return weights


def _merged(
    source: np.ndarray, target: np.ndarray, is_source: np.ndarray, dtype: np.dtype
) -> np.ndarray:
    """Rows of two domains in the order in which they came."""
    merged = np.empty((len(is_source), source.shape[1]), dtype=dtype)
    merged[is_source] = source
    merged[~is_source] = target
    return merged
