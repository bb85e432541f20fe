"""Base class of the density ratios that are sums of Gaussian kernels."""

from collections.abc import Sequence

import numpy as np

from sktransfer._validation import Seed, check_count
from sktransfer.adaptation._base import DensityRatio
from sktransfer.adaptation._kernels import check_candidates, median_gamma, rbf

_GAMMAS = 4.0 ** np.arange(-3, 4)
"""Candidates of ``gamma="auto"``, relative to the gamma of the median distance."""

_BLOCK = 2**15
"""Rows whose ratio is computed at a time."""


class KernelRatio(DensityRatio):
    """A density ratio that is a weighted sum of Gaussian kernels centred at target rows."""

    gamma: float | Sequence[float] | str
    n_centers: int
    random_state: Seed
    gamma_: float
    centers_: np.ndarray
    dual_coef_: np.ndarray

    def _candidates(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        check_count("n_centers", self.n_centers)
        if isinstance(self.gamma, str) and self.gamma == "auto":
            return _GAMMAS * median_gamma(source, target)
        return check_candidates(self.gamma, "gamma")

    def _ratio(self, X: np.ndarray) -> np.ndarray:
        blocks = (X[i : i + _BLOCK] for i in range(0, len(X), _BLOCK))
        return np.concatenate(
            [rbf(b, self.centers_, self.gamma_) @ self.dual_coef_ for b in blocks]
        )
