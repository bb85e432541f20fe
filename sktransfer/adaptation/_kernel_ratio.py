"""What density ratios that are sums of kernels have in common."""

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted, validate_data

from sktransfer.adaptation._base import DomainWeights
from sktransfer.adaptation._kernels import check_candidates, median_gamma, rbf

_GAMMAS = 4.0 ** np.arange(-3, 4)
"""What ``gamma="auto"`` chooses from, relative to the gamma of the median distance."""

_BLOCK = 2**15
"""Rows whose ratio is computed at a time."""


class KernelRatio(DomainWeights):
    """A density ratio that is a sum of Gaussian kernels at rows of the target."""

    gamma: float | Sequence[float] | str
    n_centers: int
    random_state: Any
    gamma_: float
    centers_: np.ndarray
    dual_coef_: np.ndarray

    def _candidates(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        check_scalar(self.n_centers, "n_centers", numbers.Integral, min_val=1)
        if isinstance(self.gamma, str) and self.gamma == "auto":
            return _GAMMAS * median_gamma(source, target)
        return check_candidates(self.gamma, "gamma")

    def _ratio(self, X: np.ndarray) -> np.ndarray:
        blocks = (X[i : i + _BLOCK] for i in range(0, len(X), _BLOCK))
        return np.concatenate(
            [rbf(b, self.centers_, self.gamma_) @ self.dual_coef_ for b in blocks]
        )

    def density_ratio(self, X: Any) -> np.ndarray:
        """Density of the target over that of the source.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of either domain.

        Returns
        -------
        ratio : ndarray of shape (n_samples,), float64
        """
        check_is_fitted(self)
        return self._ratio(validate_data(self, X, dtype=np.float64, reset=False))
