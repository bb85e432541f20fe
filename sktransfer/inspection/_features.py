"""From a transformer to a table of features, and from that to a plane."""

from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.manifold import TSNE
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

METHODS = ("pca", "tsne", "umap")

_COMPONENTS_BEFORE = 50
"""Principal components that t-SNE and UMAP get to see: more is noise, and slow."""


class Plane(NamedTuple):
    """Rows as points.

    Parameters
    ----------
    points : ndarray of shape (n, 2)
    method : str
        As it is to be called.
    explained : ndarray of shape (2,) or None
        Shares of the variance along the axes; of principal components only.
    """

    points: np.ndarray
    method: str
    explained: np.ndarray | None


def features_of(transformer: Any, X: Any, y: Any = None) -> np.ndarray:
    """Features of X; a transformer that is not fitted yet is fitted, as a clone.

    Of a pipeline that ends with a predictor, the steps before that are taken.
    """
    if isinstance(transformer, Pipeline) and not hasattr(transformer, "transform"):
        transformer = transformer[:-1]
    if not hasattr(transformer, "transform"):
        raise TypeError(
            "transformer must have a method transform, as PretrainedCNNFeatures has, or be a "
            f"pipeline; got {transformer!r}"
        )
    try:
        check_is_fitted(transformer)
    except NotFittedError:
        return np.asarray(clone(transformer).fit_transform(X, y))
    return np.asarray(transformer.transform(X))


def readable_rows(features: Any, name: str = "features") -> tuple[np.ndarray, np.ndarray]:
    """A table of floats without rows of NaN, and which rows it holds."""
    table = check_array(features, dtype=np.float64, ensure_all_finite="allow-nan", input_name=name)
    rows = np.flatnonzero(~np.isnan(table).any(axis=1))
    if len(rows) < 3:
        raise ValueError(
            f"{name} must hold at least 3 rows without NaN, got {len(rows)} of {len(table)}; rows "
            "of NaN are items that could not be read, see errors_ of the transformer"
        )
    return table[rows], rows


def project(features: np.ndarray, method: Any, random_state: Any) -> Plane:
    """Standardised features on a plane.

    Parameters
    ----------
    features : ndarray of shape (n, n_features)
        Without NaN.
    method : {"pca", "tsne", "umap"} or estimator with fit_transform
    random_state : int, RandomState instance or None
    """
    if not hasattr(method, "fit_transform") and (
        not isinstance(method, str) or method not in METHODS
    ):
        raise ValueError(
            f"method must be one of {METHODS} or an estimator with fit_transform, got {method!r}"
        )
    n_rows, n_features = features.shape
    if n_features < 2:
        raise ValueError("features must have at least 2 columns to fill a plane, got 1")
    scaled = StandardScaler().fit_transform(features)
    if method == "pca":
        with np.errstate(invalid="ignore"):  # of rows that are all the same, the share is 0 / 0
            pca = PCA(2, random_state=random_state).fit(scaled)
        return Plane(pca.transform(scaled), "PCA", np.nan_to_num(pca.explained_variance_ratio_))
    if not np.ptp(scaled, axis=0).any():
        raise ValueError(
            f"features are the same in all {n_rows} rows, which leaves method={method!r} without "
            "neighbours to keep; see whether the items differ, or set method='pca'"
        )
    n_components = min(_COMPONENTS_BEFORE, n_rows - 1, n_features)
    reduced = PCA(n_components, random_state=random_state).fit_transform(scaled)
    if method == "tsne":
        mapper, name = _tsne(n_rows, random_state), "t-SNE"
    elif method == "umap":
        mapper, name = _umap(n_rows, random_state), "UMAP"
    else:
        mapper, name = clone(method), type(method).__name__
    points = np.asarray(mapper.fit_transform(reduced))
    if points.shape != (n_rows, 2):
        raise ValueError(
            f"method={method!r} must give 2 columns and a row for each of {n_rows}, got an array "
            f"of shape {points.shape}; set n_components=2"
        )
    return Plane(points, name, None)


def _tsne(n_rows: int, random_state: Any) -> Any:
    return TSNE(2, perplexity=min(30.0, (n_rows - 1) / 3), random_state=random_state)


def _umap(n_rows: int, random_state: Any) -> Any:
    try:
        from umap import UMAP
    except ImportError as error:
        raise ImportError(
            "method='umap' needs umap-learn: run `pip install umap-learn`, or set method='tsne'"
        ) from error
    # One job, as with a random state it cannot use more and says so.
    return UMAP(
        n_components=2, n_neighbors=min(15, n_rows - 1), random_state=random_state, n_jobs=1
    )
