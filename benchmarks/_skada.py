"""Adapters that give skada, a peer in domain adaptation, the interface of our estimators.

Importing skada enables scikit-learn's metadata routing for the whole process; here it is enabled
only while skada runs.
"""

import importlib
from typing import Any, Self

import numpy as np
import sklearn
from sklearn import config_context
from sklearn.base import clone
from sklearn.svm import SVC


def imported() -> Any:
    before = sklearn.get_config()
    found = importlib.import_module("skada")
    for part in ("datasets", "model_selection"):
        importlib.import_module(f"skada.{part}")
    sklearn.set_config(**before)
    return found


skada = imported()


class Pipeline:
    """A pipeline as users of skada write it: an adapter and an SVC.

    Parameters
    ----------
    adapter : skada adapter
    source_first : bool, default=False
        Whether rows are sorted by domain beforehand. It mends an error of skada's transfer
        component analysis, whose result has the rows of the source first in any case, so that
        otherwise they meet the labels of others.
    """

    def __init__(self, adapter: Any, *, source_first: bool = False) -> None:
        self.adapter = adapter
        self.source_first = source_first

    def fit(self, X: np.ndarray, y: np.ndarray, *, sample_domain: np.ndarray) -> Self:
        rows = np.arange(len(X))
        if self.source_first:
            rows = np.argsort(sample_domain < 0, kind="stable")
        # It writes to the labels it is given, so they are a copy; -1 hides those of the target.
        y = np.where(sample_domain > 0, y, -1)
        with config_context(enable_metadata_routing=True):
            head = SVC().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
            self.pipeline_ = skada.make_da_pipeline(clone(self.adapter), head)
            self.pipeline_.fit(X[rows].copy(), y[rows], sample_domain=sample_domain[rows])
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Classes of target rows."""
        with config_context(enable_metadata_routing=True):
            return self.pipeline_.predict(X.copy(), sample_domain=np.full(len(X), -2))

    def score(self, X: np.ndarray, y: np.ndarray) -> float:
        return float(np.mean(self.predict(X) == y))


def weights_or_rows(
    adapter: Any, X: np.ndarray, y: np.ndarray, sample_domain: np.ndarray
) -> np.ndarray:
    """The output of an adapter for both domains: mapped rows, or weights of all rows."""
    y = np.where(sample_domain > 0, y, -1)
    made = clone(adapter).fit_transform(X, y, sample_domain=sample_domain)
    return made[1]["sample_weight"] if isinstance(made, tuple) else made
