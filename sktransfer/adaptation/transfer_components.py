"""Transfer component analysis: kernel components along which the means of the domains agree."""

from collections.abc import Iterator

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils import check_random_state, gen_batches

from sktransfer._validation import Seed, check_count, check_gamma, check_number, check_option
from sktransfer.adaptation._base import DomainMap, DomainPair
from sktransfer.adaptation._components import components_among_features, components_among_rows
from sktransfer.adaptation._kernels import canonical_order, canonical_sample, median_gamma, rbf
from sktransfer.adaptation._matrices import symmetric_power

_BLOCK = 2**22
"""Entries of a kernel matrix in memory at a time: 32 MB."""


class TransferComponentAnalysis(ClassNamePrefixFeaturesOutMixin, DomainMap):
    """Components of large variance along which the means of the domains are alike [1]_.

    From the kernel matrix K of all rows of both domains it computes components ``K W`` of large
    variance, while the distance of the domains' means (the maximum mean discrepancy) and the norm
    of W are small: W are the leading eigenvectors of ``(I + mu K L K)^-1 K H K``, where H centres
    and ``e L e`` is the squared distance of the means of e.

    Parameters
    ----------
    n_components : int or None, default=None
        None takes as many as there are features, at most ``n_samples - 1`` and `n_landmarks`.
    kernel : {"rbf", "linear"}, default="rbf"
        "rbf" is ``exp(-gamma ||x - y||^2)``. "linear" needs no kernel matrix: it is solved among
        the features, exactly, in time that grows linearly with the rows.
    gamma : float or "median", default="median"
        "median" takes 1 / (2 m^2), where m is the median distance between rows.
    mu : float, default=1.0
        Weight of the distance of the means, as in the first paper [1]_; the second [2]_ weights the
        norm of W instead, so that its mu is one over this. 0 gives kernel PCA up to scale.
    n_landmarks : int, default=1000
        For "rbf": most rows for which the full kernel matrix is computed. From more rows this
        number is drawn, half of them from each domain, as landmarks of Nystroem's approximation;
        memory and time then grow linearly with the rows.
    random_state : int, RandomState instance or None, default=None
        Seed of that draw, whose result does not depend on the order of the rows in X.

    Attributes
    ----------
    landmarks_ : ndarray of shape (n_landmarks_, n_features)
        Rows to which the kernel is computed. Not for "linear".
    coef_ : ndarray of shape (n_landmarks_, n_components) or (n_features, n_components)
        A row x is mapped to ``k(x, landmarks_) @ coef_``; "linear" to ``x @ coef_``.
    eigenvalues_ : ndarray of shape (n_components,)
        Variance of each component per unit of the constraint, in descending order.
    gamma_ : float
        Not for "linear".
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only if X had names.

    Raises
    ------
    ValueError, TypeError
        A parameter is none of the above.

    Notes
    -----
    W is scaled so that ``W^T (I + mu K L K) W = I``: leading components have the largest scale,
    which a `StandardScaler` after it makes equal. Both domains share one map, and only means are
    aligned; a rotation between the domains is not undone. No labels are used, so that components
    need not be those that separate classes.

    References
    ----------
    .. [1] S. J. Pan, I. W. Tsang, J. T. Kwok and Q. Yang, "Domain adaptation via transfer
       component analysis", IJCAI 2009, section 3.
    .. [2] S. J. Pan, I. W. Tsang, J. T. Kwok and Q. Yang, "Domain adaptation via transfer
       component analysis", IEEE Transactions on Neural Networks 22, 2011, section III.
    .. [3] C. Williams and M. Seeger, "Using the Nystroem method to speed up kernel machines",
       NIPS 2000.

    Examples
    --------
    The domains differ in the second feature, which the component leaves out.

    >>> import numpy as np
    >>> from sktransfer.adaptation import TransferComponentAnalysis, stack_domains
    >>> X_source, X_target = [[-1.0, 0], [1.0, 0]], [[-1.0, 9.0], [1.0, 9.0]]
    >>> X, _, sample_domain = stack_domains(X_source, X_target)
    >>> tca = TransferComponentAnalysis(1, kernel="linear", mu=1e6)
    >>> Z = tca.fit_transform(X, sample_domain=sample_domain)
    >>> np.allclose(Z[:2], Z[2:])
    True
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        kernel: str = "rbf",
        gamma: float | str = "median",
        mu: float = 1.0,
        n_landmarks: int = 1000,
        random_state: Seed = None,
    ) -> None:
        self.n_components = n_components
        self.kernel = kernel
        self.gamma = gamma
        self.mu = mu
        self.n_landmarks = n_landmarks
        self.random_state = random_state

    @property
    def _n_features_out(self) -> int:
        return self.coef_.shape[1]

    def _learn(self, pair: DomainPair) -> None:
        check_option("kernel", self.kernel, ("rbf", "linear"))
        check_gamma(self.gamma)
        check_number("mu", self.mu)
        check_count("n_landmarks", self.n_landmarks, low=2)
        random = check_random_state(self.random_state)
        n_components = self._count(pair)
        for name in {"landmarks_", "gamma_"} & vars(self).keys():
            delattr(self, name)
        # Sums over sorted rows are the same to the last bit for every order of X.
        source, target = (rows[canonical_order(rows)] for rows in (pair.source, pair.target))
        if self.kernel == "linear":
            self.eigenvalues_, self.coef_ = components_among_features(
                source, target, self.mu, n_components, lambda rows: [rows]
            )
            return
        self.gamma_ = (
            median_gamma(source, target) if isinstance(self.gamma, str) else float(self.gamma)
        )
        if len(source) + len(target) <= self.n_landmarks:
            self.landmarks_ = np.concatenate([source, target])
            K = rbf(self.landmarks_, self.landmarks_, self.gamma_)
            self.eigenvalues_, self.coef_ = components_among_rows(
                K, len(source), self.mu, n_components
            )
            return
        half = self.n_landmarks // 2
        # Half of the landmarks from each domain, or more of one if the other has too few rows.
        n_source = max(min(half, len(source)), self.n_landmarks - len(target))
        self.landmarks_ = np.concatenate(
            [
                source[canonical_sample(source, n_source, random)],
                target[canonical_sample(target, self.n_landmarks - n_source, random)],
            ]
        )
        whiten = symmetric_power(rbf(self.landmarks_, self.landmarks_, self.gamma_), -0.5)
        self.eigenvalues_, coef = components_among_features(
            source,
            target,
            self.mu,
            n_components,
            lambda rows: (K @ whiten for K in self._kernel_blocks(rows)),
        )
        self.coef_ = whiten @ coef

    def _count(self, pair: DomainPair) -> int:
        n_rows, width = len(pair.source) + len(pair.target), pair.source.shape[1]
        most = width if self.kernel == "linear" else min(n_rows, self.n_landmarks)
        if self.n_components is None:
            return min(width, n_rows - 1, most)
        check_count("n_components", self.n_components, high=most)
        return self.n_components

    def _kernel_blocks(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        for block in gen_batches(len(rows), max(1, _BLOCK // len(self.landmarks_))):
            yield rbf(rows[block], self.landmarks_, self.gamma_)

    def _map_target(self, X: np.ndarray) -> np.ndarray:
        if self.kernel == "linear":
            return X @ self.coef_
        return np.concatenate([K @ self.coef_ for K in self._kernel_blocks(X)])

    _map_source = _map_target
