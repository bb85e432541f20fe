"""Computation of features, and their projection onto a plane."""

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array

from sktransfer._composites import is_fitted
from sktransfer._validation import row_count

METHODS = ("pca", "tsne", "umap")

RandomState = int | np.random.RandomState | None

_N_COMPONENTS = 50
"""Principal components given to t-SNE and UMAP; more add noise and time."""


def features_of(transformer: Any, X: Any, y: Any = None) -> np.ndarray:
    """Features of X, from the transformer if it is fitted, else from a fitted clone.

    If the transformer is a pipeline that ends with a predictor, the steps before it are used.
    """
    if isinstance(transformer, Pipeline) and not hasattr(transformer, "transform"):
        transformer = transformer[:-1]
    if not hasattr(transformer, "transform"):
        raise TypeError(
            "transformer must have a method transform, as PretrainedCNNFeatures has, or be a "
            f"pipeline; got {transformer!r}"
        )
    if is_fitted(transformer):
        return np.asarray(transformer.transform(X))
    return np.asarray(clone(transformer).fit_transform(X, y))


def readable_rows(features: Any, **given: Any) -> tuple[np.ndarray, np.ndarray]:
    """Features as floats without the rows that have NaN, and the numbers of the rows kept.

    What else is given, by its name, must be None or have an item for each row.
    """
    table = check_array(
        features, dtype=np.float64, ensure_all_finite="allow-nan", input_name="features"
    )
    for name, values in given.items():
        if values is not None and row_count(values) != len(table):
            raise ValueError(
                f"features has {len(table)} rows and {name} has {row_count(values)}; they must be "
                "equal"
            )
    rows = np.flatnonzero(~np.isnan(table).any(axis=1))
    if len(rows) < 3:
        raise ValueError(
            f"features must hold at least 3 rows without NaN, got {len(rows)} of {len(table)}; "
            "rows of NaN are items that could not be read, see errors_ of the transformer"
        )
    return table[rows], rows


def checked_points(points: Any) -> np.ndarray:
    """Points as floats, (n, 2)."""
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points must be of shape (n, 2), got {points.shape}")
    return points


def project(features: np.ndarray, method: Any, random_state: RandomState) -> dict[str, Any]:
    """Standardise features without NaN and project them onto a plane.

    The keys are those of a display: points (n, 2), the name of the method, and the shares of the
    variance that principal components explain, None for other axes.
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
        with np.errstate(invalid="ignore"):  # if all rows are equal, the shares are 0 / 0
            pca = PCA(2, random_state=random_state).fit(scaled)
        shares = np.nan_to_num(pca.explained_variance_ratio_)
        return {"points": pca.transform(scaled), "method": "PCA", "explained": shares}
    if not np.ptp(scaled, axis=0).any():
        raise ValueError(
            f"features are the same in all {n_rows} rows, which leaves method={method!r} without "
            "neighbours to keep; see whether the items differ, or set method='pca'"
        )
    n_components = min(_N_COMPONENTS, n_rows - 1, n_features)
    reduced = PCA(n_components, random_state=random_state).fit_transform(scaled)
    if method == "tsne":
        perplexity = min(30.0, (n_rows - 1) / 3)
        mapper, name = TSNE(2, perplexity=perplexity, random_state=random_state), "t-SNE"
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
    return {"points": points, "method": name, "explained": None}


def _umap(n_rows: int, random_state: RandomState) -> Any:
    try:
        from umap import UMAP
    except ImportError as error:
        raise ImportError(
            "method='umap' needs umap-learn: run `pip install umap-learn`, or set method='tsne'"
        ) from error
    # With a random state UMAP runs one job, and warns if it was asked for more.
    return UMAP(
        n_components=2, n_neighbors=min(15, n_rows - 1), random_state=random_state, n_jobs=1
    )
