"""A random projection of features onto fewer, kept as a seed instead of a matrix."""

import threading
import warnings
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from sklearn.exceptions import DataDimensionalityWarning
from sklearn.random_projection import GaussianRandomProjection

_DRAWING = threading.Lock()


@dataclass(frozen=True, eq=False)
class RandomProjection:
    """The Gaussian random projection of a seed, as scikit-learn draws it.

    The matrix has a row for each feature that comes out and a column for each that goes in, and
    takes hundreds of megabytes where series have many channels. Pickles and files hold the seed,
    and the matrix is drawn again when it is first needed.

    Parameters
    ----------
    n_components : int
    n_features_in : int
    seed : int
    sample : ndarray of shape (n_components,), float32
        First column of the matrix, by which a matrix that was drawn elsewhere is recognised.
    """

    n_components: int
    n_features_in: int
    seed: int
    sample: np.ndarray

    @classmethod
    def drawn(cls, n_components: int, n_features_in: int, seed: int) -> "RandomProjection":
        """Draw the matrix of a seed."""
        if n_components > n_features_in:
            warnings.warn(
                f"output_dim={n_components} is more than the {n_features_in} features there are, "
                "which the projection then does not reduce; lower it, or set it to None",
                DataDimensionalityWarning,
                stacklevel=3,
            )
        matrix = _matrix(n_components, n_features_in, seed)
        projection = cls(n_components, n_features_in, seed, matrix[:, 0].copy())
        vars(projection)["_matrix"] = matrix
        return projection

    @property
    def components_(self) -> np.ndarray:
        """The matrix, (n_components, n_features_in), float32.

        Raises
        ------
        ValueError
            The versions installed draw another one than that of the fit.
        """
        held = vars(self)
        with _DRAWING:  # one matrix for all threads
            if "_matrix" not in held:
                matrix = _matrix(self.n_components, self.n_features_in, self.seed)
                if not np.allclose(matrix[:, 0], self.sample, rtol=1e-5, atol=1e-6):
                    raise ValueError(
                        "output_dim: the random projection cannot be drawn again, as the NumPy "
                        "installed draws other numbers than that of the fit; install its version "
                        "of then, or fit again"
                    )
                held["_matrix"] = matrix
        matrix = held["_matrix"]
        return matrix

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Rows of features, projected."""
        return X @ self.components_.T

    def get_feature_names_out(self) -> np.ndarray:
        """The names that scikit-learn gives."""
        names = [f"gaussianrandomprojection{number}" for number in range(self.n_components)]
        return np.asarray(names, dtype=object)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def projected(
    features: np.ndarray, read: np.ndarray, projection: RandomProjection | GaussianRandomProjection
) -> np.ndarray:
    """Features of the rows that could be read, projected; the others stay rows of NaN."""
    if read.all():
        return projection.transform(features)
    found = np.full((len(features), projection.n_components), np.nan, dtype=np.float32)
    if read.any():
        found[read] = projection.transform(features[read])
    return found


def _matrix(n_components: int, n_features_in: int, seed: int) -> np.ndarray:
    random = np.random.RandomState(seed)
    matrix = np.empty((n_components, n_features_in), dtype=np.float32)
    for row in matrix:  # as all of it in float64 would take twice the memory besides
        row[:] = random.normal(scale=1 / np.sqrt(n_components), size=n_features_in)
    return matrix
