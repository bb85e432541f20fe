"""Feature transfer by kernels: directions along which the means of the domains agree."""

import numbers
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils import check_random_state, check_scalar, gen_batches

from sktransfer.adaptation._base import DomainMap, Pair
from sktransfer.adaptation._components import components_among_features, components_among_rows
from sktransfer.adaptation._kernels import canonical_order, check_gamma, median_gamma, rbf
from sktransfer.adaptation._labels import check_option
from sktransfer.adaptation._maps import check_number, ordered_draw, root

_BLOCK = 2**22
"""Entries of a kernel matrix that are held at a time: 32 MB."""


class TransferComponentAnalysis(ClassNamePrefixFeaturesOutMixin, DomainMap):
    """Components of large variance along which the means of the domains are alike [1]_.

    Of a kernel matrix K of all rows of both domains, components ``K W`` are sought whose variance
    is large, while the distance of the domains' means (the maximum mean discrepancy) and the norm
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
        Weight of the distance of the means, as in the first paper [1]_; the second [2]_ weighs the
        norm of W instead, so that its mu is one over this. 0 gives kernel PCA but for scale.
    n_landmarks : int, default=1000
        With "rbf" and at most so many rows the kernel matrix is computed in full. Of more rows so
        many are drawn, half of them from each domain, as landmarks of Nystroem's approximation;
        memory and time then grow linearly with the rows.
    random_state : int, RandomState instance or None, default=None
        Of that draw. Which rows it gives does not depend on their order in X.

    Attributes
    ----------
    landmarks_ : ndarray of shape (n_landmarks_, n_features)
        Rows with which the kernel is computed. Not for "linear".
    coef_ : ndarray of shape (n_landmarks_, n_components) or (n_features, n_components)
        A row x is mapped to ``k(x, landmarks_) @ coef_``; "linear" to ``x @ coef_``.
    eigenvalues_ : ndarray of shape (n_components,)
        In falling order: variance per unit of what is to be small.
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
    W is scaled so that ``W^T (I + mu K L K) W = I``: components keep their scale, the leading ones
    being the largest, and `StandardScaler` after it makes them equal. Both domains share one
    map, and only means are aligned; a rotation between the domains is not undone. No labels are
    used: components may well be those that do not tell classes apart.

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
    The second feature is what tells the domains apart; the component leaves it out.

    >>> import numpy as np
    >>> from sktransfer.adaptation import TransferComponentAnalysis, stack_domains
    >>> X_source, X_target = [[-1.0, 0], [1.0, 0]], [[-1.0, 9.0], [1.0, 9.0]]
    >>> X, _, sample_domain = stack_domains(X_source, X_target)
    >>> tca = TransferComponentAnalysis(1, kernel="linear", mu=1e6)
    >>> Z = tca.fit_transform(X, sample_domain=sample_domain)
    >>> np.allclose(Z[:2], Z[2:])
    True
    """

    landmarks_: np.ndarray
    coef_: np.ndarray
    eigenvalues_: np.ndarray
    gamma_: float

    def __init__(
        self,
        n_components: int | None = None,
        *,
        kernel: str = "rbf",
        gamma: float | str = "median",
        mu: float = 1.0,
        n_landmarks: int = 1000,
        random_state: Any = None,
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

    def _learn(self, pair: Pair) -> None:
        check_option("kernel", self.kernel, ("rbf", "linear"))
        check_gamma(self.gamma)
        check_number("mu", self.mu)
        check_scalar(self.n_landmarks, "n_landmarks", numbers.Integral, min_val=2)
        random = check_random_state(self.random_state)
        n_components = self._count(pair)
        for name in {"landmarks_", "gamma_"} & vars(self).keys():
            delattr(self, name)
        # Sorted rows give the same bits in whatever order they came.
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
        n_source = max(min(half, len(source)), self.n_landmarks - len(target))
        self.landmarks_ = np.concatenate(
            [
                source[ordered_draw(source, n_source, random)],
                target[ordered_draw(target, self.n_landmarks - n_source, random)],
            ]
        )
        whiten = root(rbf(self.landmarks_, self.landmarks_, self.gamma_), -0.5)
        self.eigenvalues_, coef = components_among_features(
            source,
            target,
            self.mu,
            n_components,
            lambda rows: (K @ whiten for K in self._kernel_blocks(rows)),
        )
        self.coef_ = whiten @ coef

    def _count(self, pair: Pair) -> int:
        n_rows, width = len(pair.source) + len(pair.target), pair.source.shape[1]
        most = width if self.kernel == "linear" else min(n_rows, self.n_landmarks)
        if self.n_components is None:
            return min(width, n_rows - 1, most)
        check_scalar(self.n_components, "n_components", numbers.Integral, min_val=1, max_val=most)
        return self.n_components

    def _kernel_blocks(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        for block in gen_batches(len(rows), max(1, _BLOCK // len(self.landmarks_))):
            yield rbf(rows[block], self.landmarks_, self.gamma_)

    def _map_target(self, X: np.ndarray) -> np.ndarray:
        if self.kernel == "linear":
            return X @ self.coef_
        return np.concatenate([K @ self.coef_ for K in self._kernel_blocks(X)])

    def _map_source(self, X: np.ndarray) -> np.ndarray:
        return self._map_target(X)
