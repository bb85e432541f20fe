"""Folds of rows of several domains, as scikit-learn's cross-validators."""

import numbers
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.model_selection import BaseCrossValidator, KFold
from sklearn.utils import check_consistent_length, check_scalar

from sktransfer._validation import checked_domain

_HELD_OUT = ("all", "source", "target")

DOMAIN_REQUESTS = {"groups": True, "sample_domain": True}
"""What a splitter asks for where metadata are routed. Domains may still come as `groups`."""


class TargetKFold(BaseCrossValidator):
    """K folds of the target's rows; rows of the source are for training only.

    What counts is how well a model does in the target, so that only target rows are tested on. In
    each split all source rows and the other target rows are there for training; whether labels of
    the latter are used is up to the estimator, which is told by `target_labeled`.

    Parameters
    ----------
    n_splits : int, default=5
        At least 2.
    shuffle : bool, default=False
        Deal target rows to folds at random rather than in their order.
    random_state : int, RandomState instance or None, default=None
        Of the shuffle.

    See Also
    --------
    StratifiedDomainShuffleSplit : Rows of both domains on both sides.
    LeaveOneDomainOut : Whole domains at a time.

    Notes
    -----
    Domains are given as ``sample_domain``, which splitters of this module ask for by themselves
    where metadata routing is enabled. Without routing, pass them as ``groups``, as in
    ``search.fit(X, y, groups=sample_domain, sample_domain=sample_domain)``: the first goes to the
    splitter, the second to the estimator.

    Scores need labels of the target. Where there are none to choose a model by, see the scorers
    of `sktransfer.metrics`.

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
    >>> search.fit(X, y, groups=sample_domain, sample_domain=sample_domain).best_score_
    np.float64(1.0)
    """

    __metadata_request__split = DOMAIN_REQUESTS

    def __init__(
        self, n_splits: int = 5, *, shuffle: bool = False, random_state: Any = None
    ) -> None:
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state

    def split(
        self, X: Any, y: Any = None, groups: Any = None, *, sample_domain: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Positions of the rows to train and to test on.

        Parameters
        ----------
        X : array-like of length n_samples
        y : Any
            Not used.
        groups : array-like of shape (n_samples,) or None, default=None
            The domains, where `sample_domain` is not given.
        sample_domain : array-like of shape (n_samples,) or None, default=None
            Positive for source and negative for target rows.

        Yields
        ------
        train, test : ndarray of int
            Each in ascending order.

        Raises
        ------
        ValueError
            No domains are given, or there are fewer target rows than folds.
        """
        check_scalar(self.n_splits, "n_splits", numbers.Integral, min_val=2)
        domains = checked_domains(self, X, groups, sample_domain)
        target = np.flatnonzero(domains < 0)
        if len(target) < self.n_splits:
            raise ValueError(
                f"n_splits={self.n_splits} folds of target rows need as many, got {len(target)} "
                f"(negative in sample_domain) among {len(domains)} rows"
            )
        folds = KFold(self.n_splits, shuffle=self.shuffle, random_state=self.random_state)
        for _, test in folds.split(target):
            held_out = np.zeros(len(domains), dtype=bool)
            held_out[target[test]] = True
            yield np.flatnonzero(~held_out), np.flatnonzero(held_out)

    def get_n_splits(
        self, X: Any = None, y: Any = None, groups: Any = None, *, sample_domain: Any = None
    ) -> int:
        """Number of folds.

        Parameters
        ----------
        X, y, groups, sample_domain : Any
            Not used.
        """
        return int(self.n_splits)


class LeaveOneDomainOut(BaseCrossValidator):
    """Each domain is tested on once, and the others train.

    For several sources, or several targets, each with a number of its own in `sample_domain`: 1,
    2, 3 and -1, say. Tells how well a model does in a domain that it has not seen.

    Parameters
    ----------
    held_out : {"all", "source", "target"}, default="all"
        Whose turn it is: that of every domain, of those with positive numbers, or of those with
        negative ones. The others are always in training.

    See Also
    --------
    TargetKFold : Parts of the target at a time.
    sklearn.model_selection.LeaveOneGroupOut : For groups that are no domains.

    Notes
    -----
    Estimators of `sktransfer.adaptation` want rows of source and target in training. With a single
    target take ``held_out="source"``, with a single source ``held_out="target"``: the one domain
    cannot be left out. See `TargetKFold` for how domains are passed.

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

    __metadata_request__split = DOMAIN_REQUESTS

    def __init__(self, held_out: str = "all") -> None:
        self.held_out = held_out

    def split(
        self, X: Any, y: Any = None, groups: Any = None, *, sample_domain: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Positions of the rows to train and to test on.

        Parameters
        ----------
        X : array-like of length n_samples
        y : Any
            Not used.
        groups : array-like of shape (n_samples,) or None, default=None
            The domains, where `sample_domain` is not given.
        sample_domain : array-like of shape (n_samples,) or None, default=None
            Positive numbers for sources, negative for targets.

        Yields
        ------
        train, test : ndarray of int
            Each in ascending order; domains by their numbers, ascending.

        Raises
        ------
        ValueError
            No domains are given, there is one alone, or none to be held out.
        """
        domains = checked_domains(self, X, groups, sample_domain)
        for domain in self._turns(domains):
            yield np.flatnonzero(domains != domain), np.flatnonzero(domains == domain)

    def get_n_splits(
        self, X: Any = None, y: Any = None, groups: Any = None, *, sample_domain: Any = None
    ) -> int:
        """Number of domains to be held out.

        Parameters
        ----------
        X, y : Any
            Not used.
        groups, sample_domain : array-like of shape (n_samples,) or None, default=None
            As for `split`.
        """
        domains = checked_domains(self, None, groups, sample_domain)
        return len(self._turns(domains))

    def _turns(self, domains: np.ndarray) -> np.ndarray:
        if not isinstance(self.held_out, str) or self.held_out not in _HELD_OUT:
            raise ValueError(f"held_out must be one of {_HELD_OUT}, got {self.held_out!r}")
        present = np.unique(domains)
        if len(present) < 2:
            raise ValueError(
                f"LeaveOneDomainOut needs at least two domains, got {len(present)} in "
                "sample_domain: give each its own number"
            )
        if self.held_out == "all":
            return present
        turns = present[present > 0] if self.held_out == "source" else present[present < 0]
        if not len(turns):
            raise ValueError(
                f"held_out={self.held_out!r}, but sample_domain holds no such domain, only "
                f"{present[:5].tolist()}"
            )
        return turns


def checked_domains(splitter: Any, X: Any, groups: Any, sample_domain: Any) -> np.ndarray:
    """The domain of each row, (n,), from whichever of the two is given."""
    name = "groups" if sample_domain is None else "sample_domain"
    given = groups if sample_domain is None else sample_domain
    if given is None:
        raise ValueError(
            f"{type(splitter).__name__} needs sample_domain, positive for source and negative for "
            "target rows. Pass it to split; or to a search or cross_val_score in params, with "
            "sklearn.set_config(enable_metadata_routing=True), and without as groups"
        )
    domains = checked_domain(given, name=name)
    if X is not None:
        check_consistent_length(X, domains)
    return domains
