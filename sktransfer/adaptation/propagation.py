"""Relation transfer along a graph: labels pass from the source's rows to rows like them."""

import numbers
import warnings
from typing import Any, Self

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from sklearn.base import ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_scalar, gen_batches
from sklearn.utils.validation import check_is_fitted, validate_data

from sktransfer.adaptation._base import DomainMethod
from sktransfer.adaptation._flow import propagate, spread
from sktransfer.adaptation._kernels import canonical_order
from sktransfer.adaptation._labels import UNLABELLED, check_option, coded_labels
from sktransfer.adaptation._maps import check_number
from sktransfer.adaptation._similarity import AFFINITIES, SimilarityGraph

_METHODS = ("propagation", "spreading")

_BLOCK = 1024
"""Rows that are predicted at once."""

_FALLBACK = 0.1
"""Least share of the vote where the graph brings no label."""


class LabelPropagationClassifier(ClassifierMixin, DomainMethod):
    """Labels that pass from the source to the target along a graph of similar rows.

    Each row of both domains is joined to its nearest rows, and the labels of the source flow along
    these edges to the rows without: what is transferred is the relation between rows. Classes may
    have any shape, as long as rows of a class are neighbours of one another.

    The counterpart within a network is ``FineTune(penalty="rkd")``, which keeps the relations
    between rows while the network is tuned.

    Parameters
    ----------
    method : {"propagation", "spreading"}, default="propagation"
        "propagation": labelled rows keep their labels, and every other row has the weighted mean
        of its neighbours, the harmonic solution of Zhu et al. [1]_ [2]_. "spreading": labelled rows
        may change their mind as well, and labels fade with every step, ``(I - alpha S)^-1 Y``
        of Zhou et al. [3]_: for labels with errors.
    n_neighbors : int, default=10
        Rows to which each is joined. With as many as there are rows the graph is complete.
    affinity : {"local", "rbf", "connectivity"}, default="local"
        Weight of the edge between rows at distance d. "local": ``exp(-d**2 / (s_i * s_j))`` where s
        is the distance of a row to the last of its neighbours [4]_, which needs no scale. "rbf":
        ``exp(-gamma * d**2)``. "connectivity": 1.
    gamma : float or None, default=None
        For "rbf". None takes 1 / n_features.
    vote_share : float, default=0.1
        How much of its label a row without one has from the labelled rows nearest to it
        (`n_neighbors` of them, unweighted, however far) and not from its neighbours in the graph,
        in [0, 1). It is the "external classifier" of Zhu et al. [2]_, section 5. With 0 labels
        enter the target only where its rows touch those of the source, which under a shift may be
        at a few rows, that then decide for all.
    alpha : float, default=0.9
        For "spreading": how much of its label a row has from its neighbours, in (0, 1).
    max_iter : int, default=2000
        Limit of the solver's steps.
    tol : float, default=1e-6
        When to stop: change of a row's probabilities in "spreading", relative to them, and how far
        a row may be from the mean of its neighbours in "propagation".
    n_jobs : int or None, default=None
        For the search of neighbours.

    Attributes
    ----------
    transduction_ : ndarray of shape (n_samples,)
        Class of each row of `fit`, in its order.
    label_distributions_ : ndarray of shape (n_samples, n_classes)
        Probabilities behind it.
    n_unreached_ : int
        Rows in parts of the graph without any labelled row, whose labels rest on the vote alone
        (with a `vote_share` of 0.1 at least). Where they are many, the target is far from the
        source, or `n_neighbors` is too small.
    n_iter_ : int
        Steps of the solver, at least 1.
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only if X had names of columns.

    See Also
    --------
    sklearn.semi_supervised.LabelSpreading, sklearn.semi_supervised.LabelPropagation :
        Without domains, on a given graph.
    sktransfer.adaptation.SourceMetric : A metric in which rows of a class are neighbours.
    sktransfer.adaptation.PrototypeTransferClassifier : Faster, for classes that are clusters.

    Notes
    -----
    The graph is sparse: 40,000 rows need some 100 MB beside the table, and time for the search of
    neighbours, which grows with the square of the rows in more than about fifteen columns. A row
    that was in `fit` is predicted as in `transduction_`; another one by the mean of its nearest
    rows, weighted as edges are [5]_, which does not change the graph.

    Where the target is shifted by more than the gap between classes, both its neighbours in the
    source and the vote are of the wrong class: a map such as `CORAL` before it may help. Distances
    mean little in many raw columns: use features of a network, or PCA.

    References
    ----------
    .. [1] X. Zhu and Z. Ghahramani, "Learning from labeled and unlabeled data with label
       propagation", CMU-CALD-02-107, 2002, equation 5.
    .. [2] X. Zhu, Z. Ghahramani and J. Lafferty, "Semi-supervised learning using Gaussian fields
       and harmonic functions", ICML 2003, equation 5.
    .. [3] D. Zhou, O. Bousquet, T. N. Lal, J. Weston and B. Schoelkopf, "Learning with local and
       global consistency", NeurIPS 2003, equation 3.
    .. [4] L. Zelnik-Manor and P. Perona, "Self-tuning spectral clustering", NeurIPS 2004, equation
       1.
    .. [5] O. Delalleau, Y. Bengio and N. Le Roux, "Efficient non-parametric function induction in
       semi-supervised learning", AISTATS 2005, equation 7.

    Examples
    --------
    Rows of the target go on where those of the source end:

    >>> from sktransfer.adaptation import LabelPropagationClassifier, stack_domains
    >>> X, y, sample_domain = stack_domains(
    ...     [[0.0, 0], [0, 1], [5, 0], [5, 1]],
    ...     [[0, 2], [1, 3], [2, 4], [3, 5], [5, 2], [6, 3]],
    ...     ["a", "a", "b", "b"],
    ... )
    >>> classifier = LabelPropagationClassifier(n_neighbors=2)
    >>> classifier.fit(X, y, sample_domain=sample_domain).transduction_[4:]
    array(['a', 'a', 'a', 'a', 'b', 'b'], dtype='<U1')
    >>> classifier.predict([[3, 6]])
    array(['a'], dtype='<U1')
    """

    _needs_labels = True

    def __init__(
        self,
        method: str = "propagation",
        *,
        n_neighbors: int = 10,
        affinity: str = "local",
        gamma: float | None = None,
        vote_share: float = 0.1,
        alpha: float = 0.9,
        max_iter: int = 2000,
        tol: float = 1e-6,
        n_jobs: int | None = None,
    ) -> None:
        self.method = method
        self.n_neighbors = n_neighbors
        self.affinity = affinity
        self.gamma = gamma
        self.vote_share = vote_share
        self.alpha = alpha
        self.max_iter = max_iter
        self.tol = tol
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any, *, sample_domain: Any = None, target_labeled: Any = None) -> Self:
        """Build the graph, and let the labels flow.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of both domains, in any order.
        y : array-like of shape (n_samples,)
            Classes. Those of target rows are not looked at but where `target_labeled` says so.
        sample_domain : array-like of shape (n_samples,) or None, default=None
            Positive for source and negative for target rows. With None all rows are labelled, with
            a `DomainWarning`.
        target_labeled : array-like of shape (n_samples,), bool, or None, default=None
            Target rows whose labels may be used.

        Returns
        -------
        self

        Warns
        -----
        ConvergenceWarning
            The solver did not reach `tol` in `max_iter` steps.
        """
        self._check_parameters()
        pair, is_source, _ = self._split(X, y, sample_domain, target_labeled)
        self.classes_, source_codes, target_codes = coded_labels(pair)
        if is_source.all():
            table, codes, place = pair.source, source_codes, np.arange(len(is_source))
        else:
            table = np.concatenate([pair.source, pair.target])
            codes = np.concatenate([source_codes, target_codes])
            place = np.concatenate([np.flatnonzero(is_source), np.flatnonzero(~is_source)])
        # Neighbours at equal distance are told apart by their position.
        order = canonical_order(np.column_stack([codes, table]))
        table, codes, place = table[order], codes[order], place[order]
        labelled = codes != UNLABELLED
        self._graph = SimilarityGraph(
            table, self.n_neighbors, self.affinity, self.gamma, self.n_jobs
        )
        weights = self._graph.edges()
        one_hot = np.zeros((len(codes), len(self.classes_)))
        one_hot[np.flatnonzero(labelled), codes[labelled]] = 1.0
        share, votes = self._votes(weights, one_hot, labelled)
        limits: dict[str, Any] = {"max_iter": self.max_iter, "tol": self.tol}
        if self.method == "spreading":
            labels = one_hot + share[:, None] * votes
            flow = spread(weights, labels, alpha=self.alpha, **limits)
        else:
            flow = propagate(weights, one_hot, labelled, share, votes, **limits)
        self.n_iter_ = flow.n_iter
        if not flow.converged:
            warnings.warn(
                f"method={self.method!r} did not converge to tol={self.tol} in "
                f"max_iter={self.max_iter} steps; raise max_iter, or n_neighbors",
                ConvergenceWarning,
                stacklevel=2,
            )
        self._shares = _equal_for_equal_rows(table, codes, flow.shares)
        self.label_distributions_ = np.empty_like(self._shares)
        self.label_distributions_[place] = self._shares
        self.transduction_ = self.classes_[self.label_distributions_.argmax(axis=1)]
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,)
        """
        shares = self.predict_proba(X)
        return self.classes_[shares.argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes: of a row that was in `fit` its own, else of its neighbours.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        P : ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`; float32 if X is, else float64.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        shares = np.empty((len(X), len(self.classes_)), dtype=X.dtype)
        for block in gen_batches(len(X), _BLOCK):
            rows, weights = self._graph.neighbours(X[block].astype(np.float64))
            shares[block] = np.einsum("ij,ijk->ik", weights, self._shares[rows])
        return shares

    def _check_parameters(self) -> None:
        check_option("method", self.method, _METHODS)
        check_option("affinity", self.affinity, AFFINITIES)
        check_scalar(self.n_neighbors, "n_neighbors", numbers.Integral, min_val=1)
        if self.gamma is not None:
            check_number("gamma", self.gamma, include_low=False)
        check_number("vote_share", self.vote_share, high=1)
        check_number("alpha", self.alpha, high=1, include_low=False)
        check_scalar(self.max_iter, "max_iter", numbers.Integral, min_val=1)
        check_number("tol", self.tol)

    def _votes(
        self, weights: sparse.csr_array, one_hot: np.ndarray, labelled: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """How much each row heeds the vote of the nearest labelled rows, and the vote."""
        n_parts, part = connected_components(weights, directed=False)
        reached = np.zeros(n_parts, dtype=bool)
        reached[part[labelled]] = True
        unreached = ~reached[part]
        self.n_unreached_ = int(unreached.sum())
        share = np.where(labelled, 0.0, float(self.vote_share))
        share[unreached] = max(self.vote_share, _FALLBACK)
        votes = np.zeros_like(one_hot)
        voting = np.flatnonzero(share)
        if len(voting):
            told = np.flatnonzero(labelled)
            votes[voting] = self._graph.votes(voting, told, one_hot[told])
        return share, votes


def _equal_for_equal_rows(table: np.ndarray, codes: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The mean over rows that are the same, which stand side by side.

    Which neighbours each of them has is chance.
    """
    if len(table) < 2:
        return shares
    same = (codes[1:] == codes[:-1]) & (table[1:] == table[:-1]).all(axis=1)
    if not same.any():
        return shares
    group = np.concatenate([[0], np.cumsum(~same)])
    starts = np.flatnonzero(np.concatenate([[True], ~same]))
    means = np.add.reduceat(shares, starts, axis=0) / np.bincount(group)[:, None]
    return means[group]
