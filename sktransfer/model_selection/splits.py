"""Cross-validators that hold out target rows or whole domains."""

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from sklearn.model_selection import BaseCrossValidator, KFold
from sklearn.utils import check_consistent_length

from sktransfer._validation import Seed, Vector, check_count, check_option, checked_domain

_HELD_OUT = ("all", "source", "target")


class DomainSplits:
    """Splits of rows by their domains; subclasses implement `_splits`."""

    n_splits: int

    # Under routing it requests both; domains may still be passed as `groups`.
    __metadata_request__split: ClassVar = {"groups": True, "sample_domain": True}

    def split(
        self, X: Any, y: Any = None, groups: Any = None, *, sample_domain: Vector = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Generate the positions of training and test rows.

        Parameters
        ----------
        X : array-like of length n_samples
        y : array-like of shape (n_samples,) or None, default=None
            Classes, if splits are stratified by them; else not used.
        groups : array-like of shape (n_samples,) or None, default=None
            The domains, if `sample_domain` is not given.
        sample_domain : array-like of shape (n_samples,) or None, default=None
            Positive for source and negative for target rows.

        Yields
        ------
        train, test : ndarray of int
            Each in ascending order; random splits are in random order.

        Raises
        ------
        ValueError
            No domains are given, or they leave too few rows or domains for the splits.
        """
        yield from self._splits(self._domains(X, groups, sample_domain), y)

    def get_n_splits(
        self, X: Any = None, y: Any = None, groups: Any = None, *, sample_domain: Vector = None
    ) -> int:
        """Number of splits.

        Parameters
        ----------
        X, y : Any
            Not used.
        groups, sample_domain : array-like of shape (n_samples,) or None, default=None
            As for `split`; not used where `n_splits` is a parameter.
        """
        return int(self.n_splits)

    def _splits(self, domains: np.ndarray, y: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        raise NotImplementedError

    def _domains(self, X: Any, groups: Any, sample_domain: Vector) -> np.ndarray:
        """The domain of each row, (n,), from `sample_domain` or else from `groups`."""
        name = "groups" if sample_domain is None else "sample_domain"
        given = groups if sample_domain is None else sample_domain
        if given is None:
            raise ValueError(
                f"{type(self).__name__} needs sample_domain, positive for source and negative for "
                "target rows. Pass it to split. In a search or cross_val_score pass it in params "
                "with sklearn.set_config(enable_metadata_routing=True), or else as groups"
            )
        domains = checked_domain(given, name=name)
        if X is not None:
            check_consistent_length(X, domains)
        return domains


class TargetKFold(DomainSplits, BaseCrossValidator):
    """K folds of the target rows; source rows are for training only.

    Models are to be judged by their performance in the target, so that test sets hold target rows
    only. Each training set holds all source rows and the other target rows; the estimator uses
    labels of the latter as far as `target_labeled` allows.

    Parameters
    ----------
    n_splits : int, default=5
        At least 2, and at most the number of target rows.
    shuffle : bool, default=False
        Whether to shuffle the target rows before they are split into folds.
    random_state : int, RandomState instance or None, default=None
        Seed of the shuffling.

    See Also
    --------
    StratifiedDomainShuffleSplit : Splits with rows of both domains in training and test set.
    LeaveOneDomainOut : Splits that hold out whole domains.

    Notes
    -----
    Domains are passed as ``sample_domain``, which splitters of this module request by themselves
    if metadata routing is enabled. Without routing, pass them as ``groups``, as in
    ``search.fit(X, y, groups=sample_domain, sample_domain=sample_domain)``: the first goes to the
    splitter, the second to the estimator.

    Scores need labels of the target. If there are none, see the scorers of `sktransfer.metrics`.

    Examples
    --------
    >>> from sktransfer.model_selection import TargetKFold
    >>> X, sample_domain = [[0], [1], [2], [3], [4]], [1, -1, -1, 1, -1]
    >>> for train, test in TargetKFold(n_splits=3).split(X, sample_domain=sample_domain):
    ...     print(train, test)
    [0 2 3 4] [1]
    [0 1 3 4] [2]
    [0 1 2 3] [4]

    In a search, where estimators are fitted with the domains as well:

    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sktransfer.adaptation import PrototypeTransferClassifier
    >>> X, y = np.array([[0.0], [0.1], [3], [3.1], [1], [1.1], [4], [4.1]]), [0, 0, 1, 1] * 2
    >>> sample_domain = np.repeat([1, -1], 4)
    >>> search = GridSearchCV(
    ...     PrototypeTransferClassifier(), {"n_iterations": [0, 5]},
    ...     cv=TargetKFold(n_splits=2, shuffle=True, random_state=0),
    ... )
    >>> float(search.fit(X, y, groups=sample_domain, sample_domain=sample_domain).best_score_)
    1.0
    """

    def __init__(
        self, n_splits: int = 5, *, shuffle: bool = False, random_state: Seed = None
    ) -> None:
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state

    def _splits(self, domains: np.ndarray, y: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        check_count("n_splits", self.n_splits, low=2)
        target = np.flatnonzero(domains < 0)
        if len(target) < self.n_splits:
            raise ValueError(
                f"n_splits={self.n_splits} folds need as many target rows (negative in "
                f"sample_domain), got {len(target)} among {len(domains)} rows"
            )
        folds = KFold(self.n_splits, shuffle=self.shuffle, random_state=self.random_state)
        for _, test in folds.split(target):
            held_out = np.zeros(len(domains), dtype=bool)
            held_out[target[test]] = True
            yield np.flatnonzero(~held_out), np.flatnonzero(held_out)


class LeaveOneDomainOut(DomainSplits, BaseCrossValidator):
    """Each domain is the test set once, and the others are the training set.

    For several sources, or several targets, each with a number of its own in `sample_domain`, such
    as 1, 2, 3 and -1. It estimates the performance in a domain that a model has not seen.

    Parameters
    ----------
    held_out : {"all", "source", "target"}, default="all"
        Domains that are held out in turn: every domain, those with positive numbers, or those with
        negative ones. The others are always in the training set.

    See Also
    --------
    TargetKFold : Splits that hold out parts of the target.
    sklearn.model_selection.LeaveOneGroupOut : For groups other than domains.

    Notes
    -----
    Estimators of `sktransfer.adaptation` need source and target rows for training. With a single
    target use ``held_out="source"``, with a single source ``held_out="target"``: the only domain
    of its kind cannot be left out. See `TargetKFold` for how domains are passed.

    Examples
    --------
    >>> from sktransfer.model_selection import LeaveOneDomainOut
    >>> X, sample_domain = [[0], [1], [2], [3], [4]], [1, 2, 1, -1, 2]
    >>> splits = LeaveOneDomainOut(held_out="source")
    >>> for train, test in splits.split(X, sample_domain=sample_domain):
    ...     print(train, test)
    [1 3 4] [0 2]
    [0 2 3] [1 4]
    >>> splits.get_n_splits(sample_domain=sample_domain)
    2
    """

    def __init__(self, held_out: str = "all") -> None:
        self.held_out = held_out

    def _splits(self, domains: np.ndarray, y: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for domain in self._held_out_domains(domains):
            yield np.flatnonzero(domains != domain), np.flatnonzero(domains == domain)

    def get_n_splits(
        self, X: Any = None, y: Any = None, groups: Any = None, *, sample_domain: Vector = None
    ) -> int:
        return len(self._held_out_domains(self._domains(None, groups, sample_domain)))

    def _held_out_domains(self, domains: np.ndarray) -> np.ndarray:
        check_option("held_out", self.held_out, _HELD_OUT)
        present = np.unique(domains)
        if len(present) < 2:
            raise ValueError(
                f"LeaveOneDomainOut needs at least two domains, got {len(present)} in "
                "sample_domain: give each its own number"
            )
        if self.held_out == "all":
            return present
        chosen = present[present > 0] if self.held_out == "source" else present[present < 0]
        if not len(chosen):
            raise ValueError(
                f"held_out={self.held_out!r}, but sample_domain holds no such domain, only "
                f"{present[:5].tolist()}"
            )
        return chosen
