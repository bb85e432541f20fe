"""Two domains with other features each in one table: a block of columns for either."""

import numbers
import warnings
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted, validate_data

from sktransfer._validation import labelled_mask, source_mask, stack_domains
from sktransfer.adaptation._base import DomainMap, Pair, _merged, checked_labels, mask_of_some
from sktransfer.exceptions import DomainWarning


@dataclass(frozen=True)
class WidePair(Pair):
    """The rows of two domains, each in the features of its own.

    Parameters
    ----------
    joint_source : ndarray of shape (n_pairs, n_source_features), float64
        Source features of the rows that have those of both domains.
    joint_target : ndarray of shape (n_pairs, n_target_features), float64
        Their target features.
    """

    joint_source: np.ndarray
    joint_target: np.ndarray


class WideMap(DomainMap):
    """A map between domains whose features are not the same."""

    n_source_features: int | None
    n_source_features_: int

    @abstractmethod
    def _learn_wide(self, pair: WidePair) -> None:
        """Learn both maps; parameters are to be checked here."""

    def _learn(self, pair: Pair) -> None:
        assert isinstance(pair, WidePair)
        self._learn_wide(pair)

    def _split(
        self, X: Any, y: Any, sample_domain: Any, target_labeled: Any
    ) -> tuple[Pair, np.ndarray, np.ndarray]:
        if self._needs_labels and y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: it "
                "compares classes"
            )
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan")
        is_source = source_mask(sample_domain, len(X))
        labelled = labelled_mask(is_source, target_labeled)
        y = checked_labels(y, labelled) if self._needs_labels else None
        width = self._width(X.shape[1])
        table = X.astype(np.float64)
        known = _known(table[:, :width], "source"), _known(table[:, width:], "target")
        if sample_domain is None:
            in_source, in_target = known
            labelled = np.zeros(len(X), dtype=bool)
            if not (in_source.any() and in_target.any()):
                raise ValueError(
                    "X has no row with the features of one domain; check n_source_features"
                )
            warnings.warn(
                f"{type(self).__name__} was fitted without sample_domain: a row is taken for a row "
                "of each domain whose features it has. Pass sample_domain, positive for source and "
                "negative for target rows",
                DomainWarning,
                stacklevel=3,
            )
        else:
            in_source, in_target = is_source, ~is_source
            if not in_target.any():
                raise ValueError(
                    "sample_domain has no target row (below 0), and there is nothing to adapt to"
                )
        pair = WidePair(
            _all_of(table[:, :width], known[0], in_source, "source"),
            _all_of(table[:, width:], known[1], in_target, "target"),
            None if y is None else y[in_source],
            None if y is None else y[in_target],
            labelled[in_target],
            table[known[0] & known[1], :width],
            table[known[0] & known[1], width:],
        )
        self.n_source_features_ = width
        return pair, is_source, X

    def _width(self, n_features: int) -> int:
        if n_features < 2:
            raise ValueError(
                f"{type(self).__name__} needs columns of the source and of the target in X, got "
                f"n_features = {n_features}; see stack_heterogeneous"
            )
        if self.n_source_features is None:
            return (n_features + 1) // 2
        check_scalar(
            self.n_source_features,
            "n_source_features",
            numbers.Integral,
            min_val=1,
            max_val=n_features - 1,
        )
        return self.n_source_features

    def fit_transform(
        self, X: Any, y: Any = None, *, sample_domain: Any = None, target_labeled: Any = None
    ) -> np.ndarray:
        """Learn the maps, and map the same rows, each as one of its domain.

        Parameters are those of `fit`, the result that of `transform`. Without `sample_domain` rows
        are mapped as target rows.
        """
        self.fit(X, y, sample_domain=sample_domain, target_labeled=target_labeled)
        return self.transform(X, sample_domain=sample_domain)

    def transform(self, X: Any, *, sample_domain: Any = None) -> np.ndarray:
        """Map rows, which are of the target unless it is said that they are not.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_source_features + n_target_features)
            Of each row only the block of its domain is looked at.
        sample_domain : array-like of shape (n_samples,) or None, default=None
            Positive for source rows.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_features_out)
            In the order of X, float32 if X is, else float64.
        """
        check_is_fitted(self)
        X = validate_data(
            self, X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan", reset=False
        )
        is_source, width = mask_of_some(sample_domain, len(X)), self.n_source_features_
        table = X.astype(np.float64)
        blocks = table[:, :width], table[:, width:]
        known = _known(blocks[0], "source"), _known(blocks[1], "target")
        source = _all_of(blocks[0], known[0], is_source, "source")
        target = _all_of(blocks[1], known[1], ~is_source, "target")
        if not len(source):
            return self._map_target(target).astype(X.dtype)
        if not len(target):
            return self._map_source(source).astype(X.dtype)
        return _merged(self._map_source(source), self._map_target(target), is_source, X.dtype)


def stack_heterogeneous(
    X_source: Any, X_target: Any, y_source: Any = None, y_target: Any = None, *, pairs: Any = None
) -> tuple[Any, np.ndarray | None, np.ndarray]:
    """Lay two domains with other features each in one table, the source first.

    Parameters
    ----------
    X_source : array-like of shape (n_source, n_source_features)
    X_target : array-like of shape (n_target, n_target_features)
        Either may have no row: ``stack_heterogeneous(X_source[:0], X_target)`` gives rows to
        predict for.
    y_source : array-like of shape (n_source,) or None, default=None
    y_target : array-like of shape (n_target,) or None, default=None
        None fills in what no label is, as `stack_domains` does.
    pairs : array-like of shape (n_pairs, 2), int, or None, default=None
        Row numbers of `X_source` and `X_target` that are one and the same thing. Such a source row
        gets the features of its counterpart, too. None leaves rows unpaired.

    Returns
    -------
    X : ndarray or DataFrame of shape (n_source + n_target, n_source_features + n_target_features)
        NaN where a row has no such features. A DataFrame, with columns "source__a" and
        "target__b", where both domains come as one.
    y : ndarray of shape (n_source + n_target,) or None
    sample_domain : ndarray of shape (n_source + n_target,), int
        1 for source and -1 for target rows.

    Raises
    ------
    ValueError
        A table is not two-dimensional or has missing values, or `pairs` holds no row numbers.

    Examples
    --------
    >>> from sktransfer.adaptation import stack_heterogeneous
    >>> X, y, sample_domain = stack_heterogeneous(
    ...     [[1.0], [2.0]], [[3.0, 4.0]], ["no", "yes"], pairs=[[1, 0]])
    >>> X
    array([[ 1., nan, nan],
           [ 2.,  3.,  4.],
           [nan,  3.,  4.]])
    >>> y.tolist(), sample_domain.tolist()
    (['no', 'yes', ''], [1, 1, -1])
    """
    source, target = _block(X_source, "X_source"), _block(X_target, "X_target")
    (n, width), (m, other) = source.shape, target.shape
    table = np.full((n + m, width + other), np.nan, dtype=np.result_type(source, target))
    table[:n, :width] = source
    table[n:, width:] = target
    if pairs is not None:
        numbers_of_rows = np.asarray(pairs)
        _check_pairs(numbers_of_rows, n, m)
        table[numbers_of_rows[:, 0], width:] = target[numbers_of_rows[:, 1]]
    _, y, sample_domain = stack_domains(np.empty((n, 0)), np.empty((m, 0)), y_source, y_target)
    if not (hasattr(X_source, "iloc") and hasattr(X_target, "iloc")):
        return table, y, sample_domain
    import pandas as pd

    names = [f"source__{name}" for name in X_source.columns]
    names += [f"target__{name}" for name in X_target.columns]
    return pd.DataFrame(table, columns=names), y, sample_domain


def _block(X: Any, name: str) -> np.ndarray:
    block = np.asarray(X)
    if block.dtype != np.float32:
        block = block.astype(np.float64)
    if block.ndim != 2 or not np.isfinite(block).all():
        raise ValueError(
            f"{name} must be a table of finite numbers, (n_samples, n_features); got shape "
            f"{block.shape}" + ("" if block.ndim != 2 else " with NaN or infinity. Impute it first")
        )
    return block


def _check_pairs(pairs: np.ndarray, n: int, m: int) -> None:
    sound = pairs.ndim == 2 and pairs.shape[1] == 2 and pairs.dtype.kind in "iu"
    if not sound or (pairs < 0).any() or (pairs >= [n, m]).any():
        raise ValueError(
            f"pairs must hold two row numbers each, below {n} of X_source and below {m} of "
            f"X_target, in an array (n_pairs, 2); got {pairs[:3].tolist()} of shape {pairs.shape}"
        )
    if len(np.unique(pairs[:, 0])) < len(pairs):
        raise ValueError("pairs must hold each row of X_source once; keep one counterpart of each")


def _known(block: np.ndarray, domain: str) -> np.ndarray:
    """Which rows have the features of a domain, (n_rows,); they have all or none."""
    missing = np.isnan(block)
    partly = missing.any(axis=1) & ~missing.all(axis=1)
    if partly.any():
        row = partly.argmax()
        raise ValueError(
            f"Input X contains NaN in some of the {domain}'s features: in row {row} in column "
            f"{missing[row].argmax()} of them. A row has all features of a domain or none; impute "
            "the values, or check n_source_features"
        )
    return ~missing[:, 0]


def _all_of(block: np.ndarray, known: np.ndarray, chosen: np.ndarray, domain: str) -> np.ndarray:
    """The features of some rows, all of which must have them."""
    lacking = chosen & ~known
    if lacking.any():
        raise ValueError(
            f"Input X contains NaN in row {lacking.argmax()}, a row of the {domain}, for all of "
            f"the {domain}'s features; check sample_domain and n_source_features"
        )
    return block[chosen]
