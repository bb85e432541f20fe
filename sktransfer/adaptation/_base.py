"""Base classes of the methods that learn from rows of two domains and keep their order."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from sktransfer._validation import (
    Vector,
    checked_domain,
    checked_labels,
    labelled_mask,
    new_source_mask,
    source_mask,
)
from sktransfer.adaptation._kernels import canonical_order
from sktransfer.exceptions import DomainWarning


@dataclass(frozen=True)
class DomainPair:
    """The rows of two domains, each in the order that they have in X."""

    source: np.ndarray  # (n_source, n_features), float64
    target: np.ndarray  # (n_target, n_features), float64
    y_source: np.ndarray | None
    y_target: np.ndarray | None  # placeholders where `labelled` is False
    labelled: np.ndarray  # (n_target,), bool
    table: np.ndarray  # X, float64
    domain: np.ndarray  # (n_samples,), the domains of all rows; all of the source without any

    @property
    def is_source(self) -> np.ndarray:
        return self.domain > 0

    def require_two_rows(self, method: str) -> None:
        """Refuse a domain that has no covariance."""
        for domain, rows in (("source", self.source), ("target", self.target)):
            if len(rows) < 2:
                raise ValueError(
                    f"{method} needs at least 2 rows of each domain to compare their spread; got "
                    f"n_samples = {len(rows)} of the {domain}"
                )


class DomainMethod(BaseEstimator, ABC):
    """An estimator that learns from the rows of two domains; subclasses implement `_learn`."""

    # A method can do nothing without the domains, so that it requests them by default.
    __metadata_request__fit: ClassVar = {"sample_domain": True, "target_labeled": True}

    _needs_labels: ClassVar[bool] = False
    """Whether the method learns from the labels of the source."""

    _use_of_labels: ClassVar[str] = "learns from the labels of the source"
    _without_domains: ClassVar[str] = (
        "all rows count as source and as target rows, and nothing is adapted"
    )
    _finite: ClassVar[bool | str] = True
    """The argument `ensure_all_finite` for X."""

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self._needs_labels
        return tags

    @abstractmethod
    def _learn(self, pair: DomainPair) -> None:
        """Check the parameters, and learn from the rows of both domains."""

    def fit(
        self, X: Any, y: Any = None, *, sample_domain: Vector = None, target_labeled: Vector = None
    ) -> Self:
        """Learn from the rows of both domains.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of both domains, in any order.
        y : array-like of shape (n_samples,) or None, default=None
            Labels, for methods that learn from them; those of target rows are ignored, except
            where `target_labeled` is True.
        sample_domain : array-like of shape (n_samples,) or None, default=None
            Positive for source and negative for target rows. With None all rows count as both,
            with a `DomainWarning`, and nothing is adapted.
        target_labeled : array-like of shape (n_samples,), bool, or None, default=None
            Target rows whose labels may be used.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            A parameter or an argument is invalid; or, for a method that weights rows, no source
            row gets any weight, as the domains do not overlap.
        """
        self._learn(self._split(X, y, sample_domain, target_labeled))
        return self

    def _split(self, X: Any, y: Any, sample_domain: Vector, target_labeled: Vector) -> DomainPair:
        if self._needs_labels and y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: it "
                f"{self._use_of_labels}"
            )
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_all_finite=self._finite)
        given = np.ones(len(X)) if sample_domain is None else sample_domain
        domain = checked_domain(given, len(X))
        is_source = source_mask(domain, len(X))
        labelled = labelled_mask(is_source, target_labeled)
        # Labels of other rows are never read, so that a method cannot cheat with them.
        y = checked_labels(y, labelled) if self._needs_labels else None
        # Covariances and kernels of float32 lose too many digits to be inverted.
        table = X.astype(np.float64)
        in_source, in_target = self._in_domains(table)
        if sample_domain is not None:
            in_source, in_target = is_source, ~is_source
            if is_source.all():
                raise ValueError(
                    "sample_domain has no target row (below 0), and there is nothing to adapt to"
                )
        else:
            labelled = np.zeros(len(X), dtype=bool)
            warnings.warn(
                f"{type(self).__name__} was fitted without sample_domain: {self._without_domains}. "
                "Pass sample_domain, positive for source and negative for target rows",
                DomainWarning,
                stacklevel=3,
            )
        source, target = self._rows(table, in_source, in_target)
        y_source, y_target = (None, None) if y is None else (y[in_source], y[in_target])
        return DomainPair(source, target, y_source, y_target, labelled[in_target], table, domain)

    def _in_domains(self, table: np.ndarray) -> Sequence[np.ndarray]:
        """Masks of the rows that count as source and as target without `sample_domain`."""
        return [np.ones(len(table), dtype=bool)] * 2

    def _rows(
        self, table: np.ndarray, in_source: np.ndarray, in_target: np.ndarray
    ) -> Sequence[np.ndarray]:
        """The rows of the source and those of the target, without a copy of the whole table."""
        return [table if mask.all() else table[mask] for mask in (in_source, in_target)]


class DomainMap(TransformerMixin, DomainMethod):
    """Feature transfer: maps of source and target rows into common features.

    Subclasses set `coef_` and `intercept_`, or implement `_map_source`; and `_map_target`, if
    target rows do not stay as they are.
    """

    __metadata_request__transform: ClassVar = {"sample_domain": True}

    coef_: np.ndarray
    intercept_: np.ndarray

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        assert tags.transformer_tags is not None
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _map_source(self, X: np.ndarray) -> np.ndarray:
        """Map source rows, (n, n_features) float64, to the common features."""
        return X @ self.coef_ + self.intercept_

    def _map_target(self, X: np.ndarray) -> np.ndarray:
        """Map target rows, (n, n_features) float64, to the common features."""
        return X

    def fit_transform(
        self, X: Any, y: Any = None, *, sample_domain: Vector = None, target_labeled: Vector = None
    ) -> np.ndarray:
        """Learn the maps, and map the same rows, each by the map of its domain.

        Parameters are those of `fit`, the result is that of `transform`. Without `sample_domain`
        rows are mapped as target rows.
        """
        self._learn(self._split(X, y, sample_domain, target_labeled))
        return self.transform(X, sample_domain=sample_domain)

    def transform(self, X: Any, *, sample_domain: Vector = None) -> np.ndarray:
        """Map rows, as target rows unless `sample_domain` says otherwise.

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
        X = validate_data(
            self, X, dtype=[np.float64, np.float32], ensure_all_finite=self._finite, reset=False
        )
        is_source = new_source_mask(sample_domain, len(X))
        source, target = self._rows(X.astype(np.float64), is_source, ~is_source)
        if not len(source):
            return self._map_target(target).astype(X.dtype, copy=False)
        if not len(target):
            return self._map_source(source).astype(X.dtype, copy=False)
        mapped = self._map_source(source)
        Z = np.empty((len(X), mapped.shape[1]), dtype=X.dtype)
        Z[is_source], Z[~is_source] = mapped, self._map_target(target)
        return Z


class DomainWeights(DomainMethod):
    """Instance transfer: weights that make the source rows resemble the target rows.

    Subclasses implement `_weights`.

    Attributes
    ----------
    sample_weight_ : ndarray of shape (n_samples,)
        Weights of the rows of `fit`, in their order: source rows have mean 1, target rows 0.
    effective_sample_size_ : float
        Number of equally weighted rows that the source rows are worth, (sum w)^2 / sum w^2.
    """

    @abstractmethod
    def _weights(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Weights of the source rows, none negative, which `_learn` scales to mean 1."""

    def _learn(self, pair: DomainPair) -> None:
        # Draws and sums of sorted rows are the same for every order of X.
        order = canonical_order(pair.source)
        weights = np.empty(len(order))
        weights[order] = self._weights(
            pair.source[order], pair.target[canonical_order(pair.target)]
        )
        if not np.isfinite(weights).all() or weights.sum() <= 0:
            raise ValueError(
                f"{type(self).__name__} finds no source row that is like the target: the domains "
                "do not overlap, or the kernel is too narrow. Standardise the features, try "
                "another gamma, or map the features instead, for example with CORAL"
            )
        self.sample_weight_ = np.zeros(len(pair.domain))
        self.sample_weight_[pair.is_source] = weights / weights.mean()
        self.effective_sample_size_ = float(weights.sum() ** 2 / (weights**2).sum())


class DensityRatio(DomainWeights):
    """Weights that are values of a density ratio, which applies to new rows, too."""

    @abstractmethod
    def _ratio(self, X: np.ndarray) -> np.ndarray:
        """Density ratio of rows, (n,)."""

    def density_ratio(self, X: Any) -> np.ndarray:
        """Density of the target over that of the source.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of either domain.

        Returns
        -------
        ratio : ndarray of shape (n_samples,), float64
        """
        check_is_fitted(self)
        return self._ratio(validate_data(self, X, dtype=np.float64, reset=False))


class DomainClassifier(ClassifierMixin, DomainMethod):
    """A classifier of target rows that learns from the labels of the source."""

    _needs_labels = True
    classes_: np.ndarray

    @abstractmethod
    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        P : ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`; float32 if X is, else float64.
        """

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,)
        """
        shares = self.predict_proba(X)
        return self.classes_[shares.argmax(axis=1)]


def seeded_clone(estimator: BaseEstimator, random: np.random.RandomState) -> Any:
    """An unfitted copy of an estimator, with every `random_state` in it drawn from `random`."""
    copy = clone(estimator)
    names = [n for n in sorted(copy.get_params(deep=True)) if n.split("__")[-1] == "random_state"]
    return copy.set_params(**{name: random.randint(np.iinfo(np.int32).max) for name in names})
