"""Random splits of rows of several domains."""

import numbers
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.model_selection import BaseShuffleSplit, StratifiedShuffleSplit
from sklearn.utils import check_consistent_length, check_scalar, column_or_1d
from sklearn.utils.multiclass import type_of_target

from sktransfer.model_selection.splits import DOMAIN_REQUESTS, checked_domains


class StratifiedDomainShuffleSplit(BaseShuffleSplit):
    """Random splits with each domain, and each class of the source, in the same proportions.

    Rows of both domains are on both sides. Labels of target rows may be made up (-1, say), so
    that the target is divided by domain alone unless `stratify_target` says otherwise.

    Parameters
    ----------
    n_splits : int, default=10
    test_size : float, int or None, default=None
        Share or number of rows to test on. None takes what `train_size` leaves, or 0.1.
    train_size : float, int or None, default=None
        Share or number of rows to train on. None takes what `test_size` leaves.
    stratify_target : bool, default=False
        Whether labels of target rows are true, and to be kept in proportion, too.
    random_state : int, RandomState instance or None, default=None

    See Also
    --------
    TargetKFold : Tests on target rows alone.
    sklearn.model_selection.StratifiedShuffleSplit : Without domains.

    Notes
    -----
    y that holds no classes (continuous, or of several columns) divides nothing, and domains alone
    are kept in proportion. Each stratum needs two rows, and train and test as many rows each as
    there are strata. As in scikit-learn, rows may be tested in several splits and in none.

    The default score of an estimator looks at y of all rows that are tested on, made-up labels
    included, and takes source rows for rows of the target. Use these splits with the scorers of
    `sktransfer.metrics`, which tell rows apart, or `TargetKFold`.

    See `TargetKFold` for how domains are passed.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.model_selection import StratifiedDomainShuffleSplit
    >>> X, y = np.zeros((16, 1)), np.array([0, 1] * 4 + [-1] * 8)
    >>> sample_domain = np.repeat([1, -1], 8)
    >>> splits = StratifiedDomainShuffleSplit(n_splits=1, test_size=0.5, random_state=0)
    >>> for train, test in splits.split(X, y, sample_domain=sample_domain):
    ...     print(np.sort(y[test]))
    [-1 -1 -1 -1  0  0  1  1]
    """

    __metadata_request__split = DOMAIN_REQUESTS

    def __init__(
        self,
        n_splits: int = 10,
        *,
        test_size: float | int | None = None,
        train_size: float | int | None = None,
        stratify_target: bool = False,
        random_state: Any = None,
    ) -> None:
        self.n_splits = n_splits
        self.test_size = test_size
        self.train_size = train_size
        self.stratify_target = stratify_target
        self.random_state = random_state

    def split(
        self, X: Any, y: Any = None, groups: Any = None, *, sample_domain: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Positions of the rows to train and to test on.

        Parameters
        ----------
        X : array-like of length n_samples
        y : array-like of shape (n_samples,) or None, default=None
            Classes; those of target rows are not looked at without `stratify_target`. None divides
            by domain alone.
        groups : array-like of shape (n_samples,) or None, default=None
            The domains, where `sample_domain` is not given.
        sample_domain : array-like of shape (n_samples,) or None, default=None
            Positive for source and negative for target rows.

        Yields
        ------
        train, test : ndarray of int
            In random order.

        Raises
        ------
        ValueError
            No domains are given, a stratum has a single row, or the sizes leave too few rows.
        """
        check_scalar(self.n_splits, "n_splits", numbers.Integral, min_val=1)
        domains = checked_domains(self, X, groups, sample_domain)
        strata = self._strata(domains, y)
        values, counts = np.unique(strata, return_counts=True)
        if counts.min() < 2:
            row = int(np.flatnonzero(strata == values[counts.argmin()])[0])
            raise ValueError(
                f"{type(self).__name__} needs two rows of each domain, and of each class in it; "
                f"row {row} (domain {domains[row]:g}) is the only one of its kind. Drop it, or "
                "pass y=None to divide by domain alone"
            )
        splitter = StratifiedShuffleSplit(
            self.n_splits,
            test_size=self.test_size,
            train_size=self.train_size,
            random_state=self.random_state,
        )
        yield from splitter.split(np.zeros((len(strata), 1)), strata)

    def _strata(self, domains: np.ndarray, y: Any) -> np.ndarray:
        """Numbers of the groups of rows that are to be kept in proportion, (n,)."""
        labels = np.zeros(len(domains), dtype=np.int64)
        if y is not None:
            check_consistent_length(domains, y)
            y = y.to_numpy() if hasattr(y, "to_numpy") else np.asarray(y)
            seen = np.ones(len(y), dtype=bool) if self.stratify_target else domains > 0
            if seen.any():
                labels[seen] = _codes(y[seen])
        pairs = np.column_stack([np.unique(domains, return_inverse=True)[1], labels])
        return np.unique(pairs, axis=0, return_inverse=True)[1].ravel()

    def get_n_splits(
        self, X: Any = None, y: Any = None, groups: Any = None, *, sample_domain: Any = None
    ) -> int:
        """Number of splits.

        Parameters
        ----------
        X, y, groups, sample_domain : Any
            Not used.
        """
        return int(self.n_splits)


def _codes(y: np.ndarray) -> np.ndarray:
    """Numbers of the classes; 0 for all rows if y holds none."""
    if y.dtype.kind == "O":
        y = np.array(y.tolist())  # as the type that they have in common
    kind = type_of_target(y, input_name="y")
    if kind == "unknown":
        raise ValueError(
            "y must hold a label in each row by which it divides, got None or values of several "
            "types; label these rows, or leave stratify_target=False"
        )
    if kind not in ("binary", "multiclass"):
        return np.zeros(len(y), dtype=np.int64)
    return np.unique(column_or_1d(y), return_inverse=True)[1]
