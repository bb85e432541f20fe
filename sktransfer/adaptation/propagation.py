"""Label propagation from the source to the target along a graph of similar rows."""

import warnings
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted, validate_data

from sktransfer._validation import check_count, check_number, check_option
from sktransfer.adaptation._base import DomainClassifier, DomainPair
from sktransfer.adaptation._kernels import canonical_order
from sktransfer.adaptation._label_spreading import propagate, spread
from sktransfer.adaptation._labels import UNLABELLED, encode_classes
from sktransfer.adaptation._similarity import AFFINITIES, SimilarityGraph

_METHODS = ("propagation", "spreading")

_BLOCK = 1024
"""Rows that are predicted at a time."""

_FALLBACK = 0.1
"""Least share of the vote for rows that the graph connects to no label."""


class LabelPropagationClassifier(DomainClassifier):
    """Propagate labels from the source to the target along a graph of similar rows.

    Each row of both domains is joined to its nearest rows, and the labels of the source propagate
    along these edges to unlabelled rows: the relation between rows is transferred. Classes may
    have any shape, as long as rows of a class are neighbours of one another.

    The counterpart within a network is ``FineTune(penalty="rkd")``, which keeps the relations
    between rows while the network is tuned.

    Parameters
    ----------
    method : {"propagation", "spreading"}, default="propagation"
        "propagation": labelled rows keep their labels, and every other row has the weighted mean
        of its neighbours, the harmonic solution of Zhu et al. [1]_ [2]_. "spreading": labels of
        labelled rows may change as well, and labels fade with every step, ``(I - alpha S)^-1 Y``
        of Zhou et al. [3]_: for labels with errors.
    n_neighbors : int, default=10
        Number of rows to which each is joined.
    affinity : {"local", "rbf", "connectivity"}, default="local"
        Weight of the edge between rows at distance d. "local": ``exp(-d**2 / (s_i * s_j))`` where s
        is the distance of a row to the last of its neighbours [4]_, which needs no scale. "rbf":
        ``exp(-gamma * d**2)``. "connectivity": 1.
    gamma : float or None, default=None
        For "rbf". None takes 1 / n_features.
    vote_share : float, default=0.1
        Share in [0, 1) of an unlabelled row's probabilities that comes from the labelled rows
        nearest to it (`n_neighbors` of them, unweighted, at any distance) instead of from its
        neighbours in the graph: the "external classifier" of Zhu et al. [2]_, section 5. With 0
        labels enter the target only where its rows touch those of the source, which under a shift
        may be at a few rows, which then decide for all.
    alpha : float, default=0.9
        For "spreading": share of a row's probabilities that comes from its neighbours, in (0, 1).
    max_iter : int, default=2000
        Maximum number of steps of the solver.
    tol : float, default=1e-6
        Tolerance of the solver: in "spreading" the relative change of a row's probabilities, in
        "propagation" the distance of a row from the mean of its neighbours.
    n_jobs : int or None, default=None
        For the search of neighbours.

    Attributes
    ----------
    transduction_ : ndarray of shape (n_samples,)
        Class of each row of `fit`, in its order.
    label_distributions_ : ndarray of shape (n_samples, n_classes)
        Probabilities of the classes for each row of `fit`.
    n_unreached_ : int
        Number of rows in parts of the graph without any labelled row, whose labels depend on the
        vote alone (with a `vote_share` of at least 0.1). If they are many, the target is far from
        the source, or `n_neighbors` is too small.
    n_iter_ : int
        Steps of the solver, at least 1.
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only if X had names of columns.

    Warns
    -----
    ConvergenceWarning
        The solver did not reach `tol` in `max_iter` steps.

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
    rows, weighted like edges [5]_, which does not change the graph.

    If the target is shifted by more than the gap between classes, both its neighbours in the
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

    def _learn(self, pair: DomainPair) -> None:
        self._check_parameters()
        self.classes_, source_codes, target_codes = encode_classes(pair)
        is_source = pair.is_source
        if is_source.all():
            table, codes, positions = pair.source, source_codes, np.arange(len(is_source))
        else:
            table = np.concatenate([pair.source, pair.target])
            codes = np.concatenate([source_codes, target_codes])
            positions = np.concatenate([np.flatnonzero(is_source), np.flatnonzero(~is_source)])
        # The search breaks ties of distance by position: sort, so that X's order does not matter.
        order = canonical_order(np.column_stack([codes, table]))
        table, codes, positions = table[order], codes[order], positions[order]
        labelled = codes != UNLABELLED
        self._graph = SimilarityGraph(
            table, self.n_neighbors, self.affinity, self.gamma, self.n_jobs
        )
        weights = self._graph.edges()
        one_hot = np.zeros((len(codes), len(self.classes_)))
        one_hot[np.flatnonzero(labelled), codes[labelled]] = 1.0
        share, votes = self._votes(weights, one_hot, labelled)
        if self.method == "spreading":
            labels = one_hot + share[:, None] * votes
            result = spread(weights, labels, alpha=self.alpha, max_iter=self.max_iter, tol=self.tol)
        else:
            result = propagate(
                weights, one_hot, labelled, share, votes, max_iter=self.max_iter, tol=self.tol
            )
        probabilities, self.n_iter_, converged = result
        if not converged:
            warnings.warn(
                f"method={self.method!r} did not converge to tol={self.tol} in "
                f"max_iter={self.max_iter} steps; raise max_iter, or n_neighbors",
                ConvergenceWarning,
                stacklevel=3,
            )
        self._shares = _mean_over_equal_rows(table, codes, probabilities)
        self.label_distributions_ = np.empty_like(self._shares)
        self.label_distributions_[positions] = self._shares
        self.transduction_ = self.classes_[self.label_distributions_.argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
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
        check_count("n_neighbors", self.n_neighbors)
        if self.gamma is not None:
            check_number("gamma", self.gamma, include_low=False)
        check_number("vote_share", self.vote_share, high=1)
        check_number("alpha", self.alpha, high=1, include_low=False)
        check_count("max_iter", self.max_iter)
        check_number("tol", self.tol)

    def _votes(
        self, weights: sparse.csr_array, one_hot: np.ndarray, labelled: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Share of the vote in each row, (n,), and the vote of the nearest labelled rows."""
        n_parts, part = connected_components(weights, directed=False)
        reached = np.zeros(n_parts, dtype=bool)
        reached[part[labelled]] = True
        unreached = ~reached[part]
        self.n_unreached_ = int(unreached.sum())
        # Without a vote, rows that no label reaches would have no probabilities at all.
        share = np.where(labelled, 0.0, float(self.vote_share))
        share[unreached] = max(self.vote_share, _FALLBACK)
        votes = np.zeros_like(one_hot)
        voting = np.flatnonzero(share)
        if len(voting):
            voters = np.flatnonzero(labelled)
            votes[voting] = self._graph.votes(voting, voters, one_hot[voters])
        return share, votes


def _mean_over_equal_rows(table: np.ndarray, codes: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Probabilities with those of equal rows, which are adjacent, replaced by their mean.

    Equal rows may have been given different neighbours among those at equal distance.
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
