"""Facts about an estimator and its rows that several sections of a report need."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state

from sktransfer._composites import is_fitted, is_search, model_of
from sktransfer._validation import checked_domain
from sktransfer.images.runner import FailedImage
from sktransfer.inspection.report import scores as numbers
from sktransfer.inspection.report.labels import checked_values, labels_of
from sktransfer.inspection.report.parts import (
    caching_in,
    check_predicts,
    domain_parameters,
    extractors_of,
    features_of,
    readers_of,
)
from sktransfer.inspection.report.protocol import (
    Predictions,
    Split,
    cross_validated,
    folds_of,
    predictions_of,
)
from sktransfer.inspection.report.samples import readable_rows, samples_of
from sktransfer.inspection.scaling import ScalingReport, diagnose_scaling
from sktransfer.store import FeatureStore

if TYPE_CHECKING:
    from sktransfer.inspection.report.transfer_report import TransferReport


Value = TypeVar("Value")


class computed_once(Generic[Value]):
    """A property whose value, or whose error, is that of its first use."""

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_outcome_of_{name}"

    def __get__(self, instance: "Evidence", owner: type) -> Value:
        outcomes = vars(instance)
        if self._name not in outcomes:
            try:
                outcomes[self._name] = (self._compute(instance), None)
            except Exception as failure:
                outcomes[self._name] = (None, failure)
        value: Value
        value, error = outcomes[self._name]
        if error is not None:
            raise error
        return value


class Evidence:
    """The estimator, the rows that could be read, and what is computed once for all sections.

    Sections read from it and change nothing in it. Rows are numbered among the readable ones.

    Parameters
    ----------
    report : TransferReport
        Its parameters.
    store : str
        Folder of a feature store for networks without one of their own.

    Attributes
    ----------
    X : ReadableRows
    train : ReadableRows or None
    labels : Labels
        Of X.
    y_train : ndarray or None
    domain : ndarray of shape (n_rows,) or None
    copies, groups : ndarray of shape (n_rows,)
        Rows of one number have the same content, or stay in one fold.
    is_cross_validated : bool
        Whether clones predict X by folds; else one model predicts all of it.
    was_fitted : bool
        Whether the estimator came fitted.
    extractors : list of transformers
        Those that run a network, as they were given.
    seed : int
    """

    def __init__(self, report: "TransferReport", store: str) -> None:
        self.report = report
        self.store = store
        self.estimator = report.estimator
        check_predicts(self.estimator)
        self.seed = int(check_random_state(report.random_state).randint(2**31 - 1))
        self.was_fitted = is_fitted(self.estimator)
        self.is_cross_validated = report.cv is not None or not (
            self.was_fitted or report.X_train is not None
        )
        self.extractors = extractors_of(self.estimator)
        self._passes_before = self._count_passes()
        samples = samples_of(report.X, readers_of(self.estimator))
        n = len(samples)
        y = checked_values(report.y, n, "y", "X")
        domain = None if report.sample_domain is None else checked_domain(report.sample_domain, n)
        groups = report.groups
        groups = None if groups is None else checked_values(groups, n, "groups", "X")
        self.X = readable_rows(samples)
        readable = self.X.positions
        if not len(readable):
            raise ValueError(
                f"none of the {n} rows of X can be read; the first: {self.X.failed[0].message}"
            )
        self.domain = None if domain is None else domain[readable]
        self.copies = np.unique([c.digest for c in self.X.contents], return_inverse=True)[1]
        self.groups = _merged(self.copies, None if groups is None else groups[readable])
        self.train = self.y_train = None
        if report.X_train is not None:
            self.train = readable_rows(samples_of(report.X_train, readers_of(self.estimator)))
            if report.y_train is not None:
                n_train = len(self.train.samples)
                y_train = checked_values(report.y_train, n_train, "y_train", "X_train")
                self.y_train = y_train[self.train.positions]
        is_predicting = self.was_fitted and not self.is_cross_validated
        self.labels = labels_of(
            y[readable],
            is_classifier=is_classifier(self.estimator),
            domain=self.domain,
            classes_of_model=getattr(model_of(self.estimator), "classes_", None)
            if is_predicting
            else None,
            target_names=report.target_names,
        )

    @property
    def keeps_copies(self) -> bool:
        """Whether folds are made here, which keep copies of a row together."""
        cv = self.report.cv
        return self.is_cross_validated and (cv is None or isinstance(cv, int | np.integer))

    @property
    def failures(self) -> list[tuple[str, FailedImage]]:
        """Rows that could not be read, each after the name of the argument that holds it."""
        of_train = [] if self.train is None else self.train.failed
        return [*(("X", row) for row in self.X.failed), *(("X_train", row) for row in of_train)]

    def drawn(self, n_rows: int) -> np.ndarray:
        """Numbers of the rows that are drawn where `n_rows` would be too many."""
        if n_rows <= self.report.max_rows:
            return np.arange(n_rows)
        random = np.random.RandomState(self.seed)
        return np.sort(random.choice(n_rows, self.report.max_rows, replace=False))

    def caching(self, estimator: Any) -> AbstractContextManager[None]:
        """Give networks without a store one for a while, so that a row passes each once."""
        return caching_in(extractors_of(estimator), self.store)

    @computed_once
    def usable(self) -> np.ndarray:
        """Rows that models may be fitted to: labelled, or of a target that its method knows of."""
        if self.domain is None or not domain_parameters(self.estimator, self.domain):
            return self.labels.is_known
        return self.labels.is_known | (self.domain < 0)

    @computed_once
    def splits(self) -> list[Split]:
        """Folds of cross-validation, by numbers of readable rows."""
        usable = np.flatnonzero(self.usable)
        candidates = self.labels.is_known[usable]
        if self.domain is not None and (candidates & (self.domain[usable] < 0)).any():
            candidates = candidates & (self.domain[usable] < 0)
        found = folds_of(
            self.labels.y[usable],
            cv=self.report.cv,
            groups=self.groups[usable],
            candidates=np.flatnonzero(candidates),
            stratified=self.labels.task == "classification",
            sample_domain=None if self.domain is None else self.domain[usable],
            seed=self.seed,
        )
        return [(usable[train], usable[test]) for train, test in found]

    @computed_once
    def model(self) -> Any:
        """The model that is looked into: the one given, or one fitted to all rows there are."""
        if self.was_fitted and not self.is_cross_validated:
            return self.estimator
        model = clone(self.estimator)
        with self.caching(model):
            if self.train is not None and not self.is_cross_validated:
                if self.y_train is None:
                    raise ValueError("X_train needs y_train, as estimator is not fitted")
                return model.fit(self.train.take(np.arange(len(self.train))), self.y_train)
            rows = np.flatnonzero(self.usable)
            train_domain = None if self.domain is None else self.domain[rows]
            return model.fit(
                self.X.take(rows), self.labels.y[rows], **domain_parameters(model, train_domain)
            )

    @computed_once
    def networks(self) -> list[Any]:
        """Feature transformers, fitted; if fitting fails, as they were given."""
        try:
            return extractors_of(self.model)
        except Exception:
            return self.extractors

    @computed_once
    def predictions(self) -> Predictions:
        """Predictions of rows that the predicting models had not seen."""
        if self.is_cross_validated:
            return cross_validated(
                self.estimator,
                self.X.take,
                self.labels.y,
                classes=self.labels.classes,
                splits=self.splits,
                sample_domain=self.domain,
                prepare=self.caching,
            )
        rows = np.flatnonzero(self.labels.is_known)
        with self.caching(self.model):
            return predictions_of(self.model, self.X.take(rows), rows, self.labels.classes)

    @computed_once
    def unseen(self) -> np.ndarray:
        """Predicted rows of classes that no row stood for when the model was fitted."""
        if self.is_cross_validated or self.labels.task != "classification":
            return np.empty(0, dtype=int)
        rows = self.predictions.rows
        return rows[~np.isin(self.labels.y[rows], np.asarray(model_of(self.model).classes_))]

    @computed_once
    def scores(self) -> list[numbers.Score]:
        """With intervals."""
        return self.scores_of(np.arange(len(self.predictions.rows)))

    def scores_of(self, which: np.ndarray) -> list[numbers.Score]:
        """Scores of some of the predicted rows."""
        random = np.random.RandomState(self.seed)
        true = self.labels.y[self.predictions.rows[which]]
        predicted = self.predictions.predicted[which]
        if self.labels.task == "regression":
            return numbers.regression_scores(true, predicted, random)
        if self.labels.task == "multilabel":
            return numbers.multilabel_scores(true, predicted, random)
        assert self.labels.classes is not None
        proba = self.predictions.proba
        proba = None if proba is None else proba[which]
        codes = self.labels.codes(true), self.labels.codes(predicted)
        return numbers.classification_scores(*codes, len(self.labels.classes), proba, random)

    @computed_once
    def shown(self) -> np.ndarray:
        """Rows that are drawn, probed and compared."""
        rows = np.flatnonzero(self.usable)
        return rows[self.drawn(len(rows))]

    @computed_once
    def features(self) -> np.ndarray | None:
        """Features of the rows shown; None without a network."""
        model = model_of(self.model)
        with self.caching(model):
            return features_of(model, self.X.take(self.shown))

    @computed_once
    def scaling(self) -> ScalingReport | None:
        """Whether the model scales features by next to nothing; None if it is no pipeline."""
        model = model_of(self.model)
        if not isinstance(model, Pipeline):
            return None
        with self.caching(model):
            return diagnose_scaling(model, self.X.take(self.shown))

    def passes(self) -> int:
        """Rows that went through frozen networks since the report began."""
        return self._count_passes() - self._passes_before

    def _count_passes(self) -> int:
        caches = [getattr(each, "cache", None) for each in self.extractors]
        stores = {
            each if isinstance(each, FeatureStore) else FeatureStore(each)
            for each in (*caches, self.store)
            if each is not None
        }
        return sum(
            int(group["n_forward"])
            for store in stores
            if store.exists()
            for group in store.info()["namespaces"]
        )

    @property
    def name(self) -> str:
        """The class of the predictor, and of the search over it."""
        model = model_of(self.estimator)
        last = model.steps[-1][1] if hasattr(model, "steps") else model
        text = type(last).__name__
        return f"{type(self.estimator).__name__} over {text}" if is_search(self.estimator) else text


def _merged(copies: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Groups of rows that belong together: copies, and those that the caller says."""
    if groups is None:
        return copies
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    number = np.unique(groups, return_inverse=True)[1]
    n = len(copies)
    total = n + copies.max() + 1 + number.max() + 1
    rows = np.arange(n)
    edges = np.concatenate([n + copies, n + copies.max() + 1 + number])
    graph = coo_matrix((np.ones(2 * n), (np.tile(rows, 2), edges)), shape=(total, total))
    return connected_components(graph, directed=False)[1][:n]
