"""Maps between two domains with different features (heterogeneous transfer).

X has the columns of the source first, then those of the target; a row has NaN in all columns of a
domain whose features it lacks. `stack_heterogeneous` builds such a table.
"""

from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, OneToOneFeatureMixin

from sktransfer._validation import check_count, check_number, check_option
from sktransfer.adaptation._base import DomainPair
from sktransfer.adaptation._heterogeneous_base import HeterogeneousMap
from sktransfer.adaptation._labels import encode_classes
from sktransfer.adaptation._matrices import covariance, fix_signs, symmetric_power


class CanonicalCorrelationMap(ClassNamePrefixFeaturesOutMixin, HeterogeneousMap):
    """Common features of two domains, learned from samples that are known in both [1]_.

    A row that has the features of both domains is a pair: the same patient measured by both
    devices, the same text in both languages. Canonical correlation analysis finds for each domain
    the directions whose values correlate most over the pairs. Source rows are then mapped to the
    directions of the source, and target rows to those of the target.

    Parameters
    ----------
    n_components : int or None, default=None
        None takes as many as possible: the smaller number of features, or one less than there are
        pairs. The last ones correlate least.
    n_source_features : int or None, default=None
        Number of leading columns of X that are features of the source; the rest are of the target.
        None takes the first half (the larger one of an odd number).
    reg : float, default=0.01
        Number that is added to the diagonal of each domain's covariance, in units of the mean
        variance of its features. If there are fewer pairs than features, 0 finds correlations of 1
        in any data.

    Attributes
    ----------
    correlations_ : ndarray of shape (n_components,)
        Canonical correlations of the pairs in descending order, diminished by `reg`.
    source_coef_ : ndarray of shape (n_source_features, n_components)
    target_coef_ : ndarray of shape (n_target_features, n_components)
        Rows less `source_mean_` or `target_mean_` are multiplied by it.
    source_mean_, target_mean_ : ndarray
        Means of the pairs.
    n_pairs_ : int
    n_source_features_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only if X had names.

    Raises
    ------
    ValueError, TypeError
        A parameter is none of the above, there are fewer than two pairs, or a row lacks features
        of its domain.

    Notes
    -----
    Pairs need no labels, but there must be several of them for each component. Components have
    variance 1 over the pairs (apart from `reg`), including those with little correlation, which
    are noise to a classifier: choose `n_components` by `correlations_` or a search. Without
    `sample_domain` every row is a pair.

    References
    ----------
    .. [1] H. Hotelling, "Relations between two sets of variates", Biometrika 28, 1936.
    .. [2] D. R. Hardoon, S. Szedmak and J. Shawe-Taylor, "Canonical correlation analysis: an
       overview with application to learning methods", Neural Computation 16, 2004, equations 2.4
       to 2.6.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.adaptation import CanonicalCorrelationMap, stack_heterogeneous
    >>> X_source = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> X_target = np.array([[30.0, 1.0], [20.0, 5.0], [10.0, 2.0]])
    >>> X, _, sample_domain = stack_heterogeneous(
    ...     X_source, X_target, pairs=[[1, 0], [2, 1], [3, 2]])
    >>> cca = CanonicalCorrelationMap(n_source_features=1, reg=0)
    >>> cca.fit_transform(X, sample_domain=sample_domain).round(3).T.tolist()
    [[-2.0, -1.0, 0.0, 1.0, -1.0, 0.0, 1.0]]
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        n_source_features: int | None = None,
        reg: float = 0.01,
    ) -> None:
        self.n_components = n_components
        self.n_source_features = n_source_features
        self.reg = reg

    @property
    def _n_features_out(self) -> int:
        return self.source_coef_.shape[1]

    def _learn(self, pair: DomainPair) -> None:
        joint = pair.table[~np.isnan(pair.table).any(axis=1)]
        source, target = np.hsplit(joint, [self.n_source_features_])
        check_number("reg", self.reg)
        if len(source) < 2:
            raise ValueError(
                "CanonicalCorrelationMap needs at least 2 pairs, rows of X with the features of "
                f"both domains; got n_samples = {len(source)}. Pass pairs to stack_heterogeneous, "
                "or use LinearGromovWasserstein, which needs no pairs"
            )
        most = min(source.shape[1], target.shape[1], max(1, len(source) - 1))
        if self.n_components is not None:
            check_count("n_components", self.n_components, high=most)
            most = self.n_components
        self.n_pairs_ = len(source)
        self.source_mean_, self.target_mean_ = source.mean(axis=0), target.mean(axis=0)
        whiten = [symmetric_power(self._covariance(rows), -0.5) for rows in (source, target)]
        shared = (source - self.source_mean_).T @ (target - self.target_mean_) / (len(source) - 1)
        U, correlations, Vt = np.linalg.svd(whiten[0] @ shared @ whiten[1], full_matrices=False)
        self.correlations_ = np.minimum(correlations[:most], 1.0)
        source_coef, target_coef = whiten[0] @ U[:, :most], whiten[1] @ Vt[:most].T
        # A pair of directions must change sign together, or their correlation becomes negative.
        signs = np.where((fix_signs(source_coef) == source_coef).all(axis=0), 1.0, -1.0)
        self.source_coef_, self.target_coef_ = source_coef * signs, target_coef * signs

    def _covariance(self, rows: np.ndarray) -> np.ndarray:
        matrix = covariance(rows)
        return matrix + self.reg * matrix.trace() / len(matrix) * np.eye(len(matrix))

    def _map_source(self, X: np.ndarray) -> np.ndarray:
        return (X - self.source_mean_) @ self.source_coef_

    def _map_target(self, X: np.ndarray) -> np.ndarray:
        return (X - self.target_mean_) @ self.target_coef_


class LinearGromovWasserstein(OneToOneFeatureMixin, HeterogeneousMap):
    """Map the source to the features of the target, without samples that are known in both [1]_.

    The map is the optimal one between Gaussians for the Gromov-Wasserstein distance, which compares
    distances between rows: the k-th principal axis of the source becomes the k-th of the target,
    scaled to its standard deviation. Target rows stay as they are.

    Parameters
    ----------
    n_source_features : int or None, default=None
        Number of leading columns of X that are features of the source; the rest are of the target.
        None takes the first half (the larger one of an odd number).
    signs : {"skewness", "labels"}, default="skewness"
        How to choose the sign of each axis, which covariances leave open. "skewness": so that the
        third moments agree, which is a guess if distributions are symmetric. "labels": so that the
        means of the classes agree, for which `fit` needs y and some labelled rows of the target
        (`target_labeled`); a few of each class are enough.

    Attributes
    ----------
    coef_ : ndarray of shape (n_source_features, n_target_features)
    intercept_ : ndarray of shape (n_target_features,)
        Source rows are mapped to ``x @ coef_ + intercept_``.
    n_source_features_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only if X had names.

    Raises
    ------
    ValueError, TypeError
        A parameter is none of the above, a domain has fewer than two rows, a row lacks features of
        its domain, or ``signs="labels"`` finds no class in both domains.

    Notes
    -----
    The map depends on two covariances only. It works if the domains are two views of the same
    samples, whose axes have distinct variances in the same order; features that were standardised
    one by one may have lost both properties. Axes beyond the smaller number of features are
    dropped.

    References
    ----------
    .. [1] J. Delon, A. Desolneux and A. Salmona, "Gromov-Wasserstein distances between Gaussian
       distributions", Journal of Applied Probability 59, 2022, theorem 4.1.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.adaptation import LinearGromovWasserstein, stack_heterogeneous
    >>> X_source = np.array([[0.0], [1.0], [5.0]])
    >>> X_target = np.array([[20.0, 7.0], [22.0, 7.0], [30.0, 7.0]])
    >>> X, _, sample_domain = stack_heterogeneous(X_source, X_target)
    >>> gromov = LinearGromovWasserstein(n_source_features=1)
    >>> gromov.fit_transform(X, sample_domain=sample_domain)[:3].round(3).tolist()
    [[20.0, 7.0], [22.0, 7.0], [30.0, 7.0]]
    """

    def __init__(self, *, n_source_features: int | None = None, signs: str = "skewness") -> None:
        self.n_source_features = n_source_features
        self.signs = signs

    @property
    def _needs_labels(self) -> bool:  # type: ignore[override]
        return bool(self.signs == "labels")

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the target's features.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the columns of X, which must be those seen in `fit`.

        Returns
        -------
        names : ndarray of shape (n_target_features,), object
        """
        return super().get_feature_names_out(input_features)[self.n_source_features_ :]

    def _learn(self, pair: DomainPair) -> None:
        check_option("signs", self.signs, ("skewness", "labels"))
        pair.require_two_rows("LinearGromovWasserstein")
        source, target = pair.source, pair.target
        means = source.mean(axis=0), target.mean(axis=0)
        axes = [_principal_axes(rows) for rows in (source, target)]
        size = min(source.shape[1], target.shape[1])
        variances = [values[:size] for values, _ in axes]
        vectors = [each[:, :size] for _, each in axes]
        projected = [
            (rows - mean) @ each
            for rows, mean, each in zip((source, target), means, vectors, strict=True)
        ]
        if self.signs == "labels":
            agreement = _class_agreement(pair, *projected)
        else:
            agreement = (projected[0] ** 3).sum(axis=0) * (projected[1] ** 3).sum(axis=0)
        # An agreement of 0 decides for neither sign, so that any will do.
        signs = np.where(agreement < 0, -1.0, 1.0)
        spread = variances[0] > len(axes[0][0]) * np.finfo(np.float64).eps * axes[0][0][0]
        scale = np.zeros(size)
        scale[spread] = np.sqrt(np.maximum(variances[1], 0)[spread] / variances[0][spread])
        self.coef_ = (vectors[0] * (signs * scale)) @ vectors[1].T
        self.intercept_ = means[1] - means[0] @ self.coef_


def _principal_axes(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances in descending order, and the principal axes as columns."""
    values, vectors = np.linalg.eigh(covariance(rows, 0))
    return values[::-1], fix_signs(vectors[:, ::-1])


def _class_agreement(pair: DomainPair, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Inner product of the domains' class means along each axis, (n_axes,)."""
    _, source_codes, target_codes = encode_classes(pair)
    shared = np.intersect1d(source_codes, target_codes[pair.labelled])
    if len(shared) == 0:
        raise ValueError(
            "signs='labels' needs labelled target rows of a class that the source has; mark them "
            "in target_labeled, or use signs='skewness'"
        )
    means = [
        np.stack([rows[codes == code].mean(axis=0) for code in shared])
        for rows, codes in ((source, source_codes), (target, target_codes))
    ]
    # Several classes are compared by their differences; a single one by its distance from the
    # mean of all rows, which the projections have at 0.
    if len(shared) > 1:
        means = [each - each.mean(axis=0) for each in means]
    return (means[0] * means[1]).sum(axis=0)
