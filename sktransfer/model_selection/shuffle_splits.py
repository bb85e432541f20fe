"""A cross-validator with random splits that are stratified by domain and class."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.model_selection import BaseShuffleSplit, StratifiedShuffleSplit
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.multiclass import type_of_target

from sktransfer._validation import Seed, as_array, check_count
from sktransfer.model_selection.splits import DomainSplits


class StratifiedDomainShuffleSplit(DomainSplits, BaseShuffleSplit):
    """Random splits with each domain, and each class of the source, in the same proportions.

    Training and test sets hold rows of both domains. Labels of target rows may be placeholders
    (such as -1), so that the target is stratified by domain alone unless `stratify_target` is True.

    Parameters
    ----------
    n_splits : int, default=10
    test_size : float, int or None, default=None
        Share or number of test rows. None takes the complement of `train_size`, or 0.1.
    train_size : float, int or None, default=None
        Share or number of training rows. None takes the complement of `test_size`.
    stratify_target : bool, default=False
        Whether labels of target rows are real, so that the target is stratified by them, too.
    random_state : int, RandomState instance or None, default=None

    See Also
    --------
    TargetKFold : Tests on target rows alone.
    sklearn.model_selection.StratifiedShuffleSplit : Without domains.

    Notes
    -----
    If y holds no classes (continuous values, or several columns), splits are stratified by domain
    alone. Each stratum needs two rows, and training and test set need as many rows each as there
    are strata. As in scikit-learn, a row may be in several test sets or in none.

    The default score of an estimator uses y of all test rows, placeholders included, and treats
    source rows as target rows. Use these splits with the scorers of `sktransfer.metrics`, which
    distinguish the domains, or use `TargetKFold`.

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

    def __init__(
        self,
        n_splits: int = 10,
        *,
        test_size: float | int | None = None,
        train_size: float | int | None = None,
        stratify_target: bool = False,
        random_state: Seed = None,
    ) -> None:
        self.n_splits = n_splits
        self.test_size = test_size
        self.train_size = train_size
        self.stratify_target = stratify_target
        self.random_state = random_state

    def _splits(self, domains: np.ndarray, y: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        check_count("n_splits", self.n_splits)
        strata = self._strata(domains, y)
        values, counts = np.unique(strata, return_counts=True)
        if counts.min() < 2:
            row = int(np.flatnonzero(strata == values[counts.argmin()])[0])
            raise ValueError(
                f"{type(self).__name__} needs two rows of each domain, and of each class in it; "
                f"row {row} (domain {domains[row]:g}) is the only one of its kind. Drop it, or "
                "pass y=None to stratify by domain alone"
            )
        splitter = StratifiedShuffleSplit(
            self.n_splits,
            test_size=self.test_size,
            train_size=self.train_size,
            random_state=self.random_state,
        )
        yield from splitter.split(np.zeros((len(strata), 1)), strata)

    def _strata(self, domains: np.ndarray, y: Any) -> np.ndarray:
        """Number of the stratum of each row, (n,)."""
        labels = np.zeros(len(domains), dtype=np.int64)
        if y is not None:
            check_consistent_length(domains, y)
            y = as_array(y)
            seen = np.ones(len(y), dtype=bool) if self.stratify_target else domains > 0
            if seen.any():
                labels[seen] = _codes(y[seen])
        pairs = np.column_stack([np.unique(domains, return_inverse=True)[1], labels])
        return np.unique(pairs, axis=0, return_inverse=True)[1].ravel()


def _codes(y: np.ndarray) -> np.ndarray:
    """Integer codes of the classes; 0 for all rows if y holds no classes."""
    if y.dtype.kind == "O":
        y = np.array(y.tolist())  # as the type that they have in common
    kind = type_of_target(y, input_name="y")
    if kind == "unknown":
        raise ValueError(
            "y must hold a label in each row by which to stratify, got None or values of several "
            "types; label these rows, or leave stratify_target=False"
        )
    if kind not in ("binary", "multiclass"):
        return np.zeros(len(y), dtype=np.int64)
    return np.unique(column_or_1d(y), return_inverse=True)[1]
