"""What the sections of a report look at; what costs time is computed once, when it is asked for."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.utils import check_random_state

from sktransfer._validation import checked_domain
from sktransfer.images.runner import FailedImage
from sktransfer.inspection._plotting import short_names
from sktransfer.inspection.report import scores as numbers
from sktransfer.inspection.report.blocks import Name
from sktransfer.inspection.report.parts import (
    caching_in,
    check_predicts,
    domain_parameters,
    extractors_of,
    features_of,
    is_fitted,
    is_search,
    model_of,
    readers_of,
)
from sktransfer.inspection.report.protocol import (
    Predictions,
    cross_validated,
    folds_of,
    outputs_of,
)
from sktransfer.inspection.report.samples import Content, read_rows, samples_of
from sktransfer.inspection.report.text import plain
from sktransfer.store import FeatureStore

_LONGEST_NAME = 32
"""Characters of a class's name that fit into a table."""

_LONGEST_FULL = 1000


class once:
    """A property that is computed once; if that fails, every look at it raises the same error."""

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_once_{name}"

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        kept = vars(instance)
        if self._name not in kept:
            try:
                kept[self._name] = (self._compute(instance), None)
            except Exception as failure:
                kept[self._name] = (None, failure)
        value, error = kept[self._name]
        if error is not None:
            raise error
        return value


class Probe(NamedTuple):
    """The best layer of a network, its score, and that of the best layer in use.

    `constant` is the score of the best constant prediction.
    """

    layer: str
    score: float
    scoring: str
    in_use: float | None
    constant: float


class Evidence:
    """The estimator, the rows that could be read, and all that is found out about them.

    Rows are numbered among the readable ones; `rows` leads back to X.

    Parameters
    ----------
    report : TransferReport
    store : str
        Folder of a feature store for networks without one of their own.
    """

    def __init__(self, report: Any, store: str) -> None:
        estimator = report.estimator
        check_predicts(estimator)
        self.estimator = estimator
        self.store = store
        self.max_rows = report.max_rows
        self.n_errors = report.n_errors
        self.embedding = report.embedding
        self.random_state = report.random_state
        self.seed = int(check_random_state(report.random_state).randint(2**31 - 1))
        self.cv = report.cv
        self.fitted_before = is_fitted(estimator)
        self.has_train = report.X_train is not None
        self.is_cross_validated = report.cv is not None or not (
            self.fitted_before or self.has_train
        )
        of_folds = report.cv is None or isinstance(report.cv, int | np.integer)
        self.keeps_copies = self.is_cross_validated and of_folds
        self.extractors = extractors_of(estimator)
        # What sections found and the head of the report repeats.
        self.shift_kind: str | None = None
        self.probe: Probe | None = None
        self.rate: float | None = None
        self._passes_before = self._count_passes()
        self.samples = samples_of(report.X, readers_of(estimator))
        n = len(self.samples)
        y = _labels(report.y, n, "y", "X")
        domain = report.sample_domain
        domain = None if domain is None else checked_domain(domain, n)
        groups = None if report.groups is None else _labels(report.groups, n, "groups", "X")
        contents, self.failed = read_rows(self.samples)
        self.rows = np.array([i for i, c in enumerate(contents) if c is not None], dtype=int)
        if not len(self.rows):
            raise ValueError(
                f"none of the {n} rows of X can be read; the first: {self.failed[0].message}"
            )
        self.contents: list[Content] = [c for c in contents if c is not None]
        self.y = y[self.rows]
        self.domain = None if domain is None else domain[self.rows]
        self.copies = np.unique([c.digest for c in self.contents], return_inverse=True)[1]
        self.groups = _merged(self.copies, None if groups is None else groups[self.rows])
        self.has_groups = groups is not None
        self._take_train(report)
        self._settle_task(report.target_names)

    def _take_train(self, report: Any) -> None:
        self.train = self.train_contents = None
        self.train_failed: list[FailedImage] = []
        self.y_train = None
        if report.X_train is None:
            return
        self.train = samples_of(report.X_train, readers_of(self.estimator))
        contents, self.train_failed = read_rows(self.train)
        self.train_rows = np.array([i for i, c in enumerate(contents) if c is not None], dtype=int)
        self.train_contents = [c for c in contents if c is not None]
        if report.y_train is not None:
            y_train = _labels(report.y_train, len(self.train), "y_train", "X_train")
            self.y_train = y_train[self.train_rows]

    def _settle_task(self, target_names: Any) -> None:
        several = self.y.ndim == 2
        classifier = is_classifier(self.estimator)
        self.task = "regression" if not classifier else "multilabel" if several else "classes"
        self.labelled = ~_missing(self.y)
        self.class_names: list[str] = []
        self.short_names: list[str] = []
        self.classes: np.ndarray | None = None
        if self.task == "classes":
            if self.domain is not None and (self.domain > 0).any():
                # What stands for "no label" in target rows is the label of no source row.
                known = self.y[(self.domain > 0) & self.labelled]
                self.labelled &= (self.domain > 0) | np.isin(self.y, known)
            self.y = _plain_labels(self.y, self.labelled)
            classes = np.unique(self.y[self.labelled])
            if self.fitted_before and not self.is_cross_validated:
                classes = np.union1d(classes, np.asarray(model_of(self.estimator).classes_))
            self.classes = classes
        if not self.labelled.any():
            raise ValueError("y holds no label, so there is nothing to compare predictions with")
        if self.classes is not None:
            self.class_names = _names(self.classes, target_names)
            self.short_names = short_names(self.class_names, _LONGEST_NAME)

    # --- rows -----------------------------------------------------------------------------

    def take(self, rows: np.ndarray) -> Any:
        """Some of the readable rows, as X holds them."""
        return self.samples.take(self.rows[rows])

    def take_train(self, rows: np.ndarray) -> Any:
        """Some of the readable training rows."""
        assert self.train is not None
        return self.train.take(self.train_rows[rows])

    def drawn(self, n_rows: int) -> np.ndarray:
        """Which of some rows are drawn where all would be too many."""
        if n_rows <= self.max_rows:
            return np.arange(n_rows)
        random = np.random.RandomState(self.seed)
        return np.sort(random.choice(n_rows, self.max_rows, replace=False))

    def codes(self, labels: np.ndarray) -> np.ndarray:
        """Labels as numbers of classes."""
        assert self.classes is not None
        return np.searchsorted(self.classes, labels)

    def name_of_class(self, code: int) -> Name:
        """What a class is called, in short and in full."""
        return Name(self.short_names[code], self.class_names[code])

    def label(self, value: Any) -> str:
        """A label, or a target, as it is shown."""
        if self.classes is not None:
            return self.short_names[int(np.searchsorted(self.classes, value))]
        if isinstance(value, np.ndarray):
            return ", ".join(f"{each:.4g}" for each in value)
        return f"{value:.4g}"

    def working(self, estimator: Any) -> AbstractContextManager[None]:
        """Within it each row goes through a frozen network once, whatever is fitted."""
        return caching_in(extractors_of(estimator), self.store)

    # --- what is computed -----------------------------------------------------------------

    @once
    def usable(self) -> np.ndarray:
        """Rows that models may be fitted to: labelled, or of a target that its method knows of."""
        if self.domain is None or not domain_parameters(self.estimator, self.domain):
            return self.labelled
        return self.labelled | (self.domain < 0)

    @once
    def splits(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Folds of cross-validation, by numbers of readable rows."""
        usable = np.flatnonzero(self.usable)
        candidates = self.labelled[usable]
        if self.domain is not None and (candidates & (self.domain[usable] < 0)).any():
            candidates = candidates & (self.domain[usable] < 0)
        found = folds_of(
            self.y[usable],
            cv=self.cv,
            groups=self.groups[usable],
            candidates=np.flatnonzero(candidates),
            stratified=self.task == "classes",
            sample_domain=None if self.domain is None else self.domain[usable],
            seed=self.seed,
        )
        return [(usable[train], usable[test]) for train, test in found]

    @once
    def model(self) -> Any:
        """The model that is looked into: the one given, or one fitted to all rows there are."""
        if self.fitted_before and not self.is_cross_validated:
            return self.estimator
        model = clone(self.estimator)
        with self.working(model):
            if self.has_train and not self.is_cross_validated:
                if self.y_train is None:
                    raise ValueError("X_train needs y_train, as estimator is not fitted")
                return model.fit(self.take_train(np.arange(len(self.train_rows))), self.y_train)
            rows = np.flatnonzero(self.usable)
            of_rows = None if self.domain is None else self.domain[rows]
            return model.fit(self.take(rows), self.y[rows], **domain_parameters(model, of_rows))

    @once
    def networks(self) -> list[Any]:
        """Feature transformers, fitted; if fitting fails, as they were given."""
        try:
            return extractors_of(self.model)
        except Exception:
            return self.extractors

    @once
    def predictions(self) -> Predictions:
        """Of rows that the predicting models had not seen."""
        if self.is_cross_validated:
            return cross_validated(
                self.estimator,
                self.take,
                self.y,
                classes=self.classes,
                splits=self.splits,
                sample_domain=self.domain,
                prepare=self.working,
            )
        rows = np.flatnonzero(self.labelled)
        with self.working(self.model):
            return Predictions(rows, outputs_of(self.model, self.take(rows), self.classes))

    @once
    def unseen(self) -> np.ndarray:
        """Predicted rows of classes that no row stood for when the model was fitted."""
        if self.is_cross_validated or self.task != "classes":
            return np.empty(0, dtype=int)
        rows = self.predictions.rows
        return rows[~np.isin(self.y[rows], np.asarray(model_of(self.model).classes_))]

    @once
    def scores(self) -> list[numbers.Score]:
        """With intervals."""
        return self.scores_of(np.arange(len(self.predictions.rows)))

    def scores_of(self, which: np.ndarray) -> list[numbers.Score]:
        """Scores of some of the predicted rows."""
        random = np.random.RandomState(self.seed)
        true = self.y[self.predictions.rows[which]]
        outputs = self.predictions.outputs
        predicted = outputs.predicted[which]
        if self.task == "regression":
            return numbers.regression_scores(true, predicted, random)
        if self.task == "multilabel":
            return numbers.multilabel_scores(true, predicted, random)
        assert self.classes is not None
        proba = None if outputs.proba is None else outputs.proba[which]
        codes = self.codes(true), self.codes(predicted)
        return numbers.classification_scores(*codes, len(self.classes), proba, random)

    @once
    def shown(self) -> np.ndarray:
        """Rows that are drawn, probed and compared."""
        rows = np.flatnonzero(self.usable)
        return rows[self.drawn(len(rows))]

    @once
    def features(self) -> np.ndarray | None:
        """What the networks make of the rows shown; None without a network."""
        model = model_of(self.model)
        with self.working(model):
            return features_of(model, self.take(self.shown))

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
        """What the estimator is, in a word."""
        model = model_of(self.estimator)
        last = model.steps[-1][1] if hasattr(model, "steps") else model
        text = type(last).__name__
        return f"{type(self.estimator).__name__} over {text}" if is_search(self.estimator) else text


def _labels(values: Any, n_rows: int, name: str, of: str) -> np.ndarray:
    if values is None:
        raise ValueError(
            f"{name} must hold a value for each of the {n_rows} rows of {of}, got None"
        )
    array = np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else values)
    if hasattr(values, "detach"):
        array = values.detach().cpu().numpy()
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (1, 2) or len(array) != n_rows:
        raise ValueError(
            f"{name} must hold a value for each of the {n_rows} rows of {of}, got shape "
            f"{array.shape}"
        )
    return array


def _missing(y: np.ndarray) -> np.ndarray:
    """Rows without a label: NaN, None or NA."""
    if y.dtype.kind == "f":
        return np.isnan(y.reshape(len(y), -1)).any(axis=1)
    if y.dtype.kind == "O":
        return np.array([each is None or each is not each or _is_na(each) for each in y.tolist()])
    return np.zeros(len(y), dtype=bool)


def _is_na(value: Any) -> bool:
    return type(value).__name__ in ("NAType", "NaTType")


def _plain_labels(y: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Labels in an array that sorts; of rows without, the first label there is."""
    if y.dtype.kind != "O" or labelled.all():
        return np.array(y.tolist()) if y.dtype.kind == "O" else y
    kept = np.array(y[labelled].tolist())
    full = np.empty(len(y), dtype=kept.dtype)
    full[labelled] = kept
    return full


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


def _names(classes: np.ndarray, target_names: Any) -> list[str]:
    if target_names is None:
        return [plain(each, _LONGEST_FULL) for each in classes.tolist()]
    names = [plain(each, _LONGEST_FULL) for each in target_names]
    if len(names) == len(classes):
        return names
    if classes.dtype.kind in "iu" and classes.min() >= 0 and classes.max() < len(names):
        return [names[each] for each in classes.tolist()]
    raise ValueError(
        f"target_names must name each of the {len(classes)} classes {classes.tolist()[:10]}, got "
        f"{len(names)} names"
    )
