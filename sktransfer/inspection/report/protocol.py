"""Predictions of rows that a model was not fitted to, and folds to make them by."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    check_cv,
)
from sklearn.pipeline import Pipeline

from sktransfer._composites import model_of
from sktransfer.finetuning.classifier import FineTunedClassifier
from sktransfer.inspection.report.parts import domain_parameters

N_FOLDS = 5

Take = Callable[[np.ndarray], Any]
"""From row numbers to rows of X."""

Split = tuple[np.ndarray, np.ndarray]
"""Rows to fit to, and rows to predict."""


@dataclass(frozen=True)
class Predictions:
    """Predictions of rows."""

    rows: np.ndarray  # which rows were predicted, in ascending order
    predicted: np.ndarray  # (n,) or (n, n_outputs)
    proba: np.ndarray | None = None  # (n, n_classes)
    decision: np.ndarray | None = None  # (n, n_classes), of classifiers without probabilities
    fold: np.ndarray | None = None  # number of the fold that each row was held out in


def predictions_of(model: Any, X: Any, rows: np.ndarray, classes: np.ndarray | None) -> Predictions:
    """Predictions of a fitted model for X, which are `rows`, with columns for all of `classes`.

    The features are computed once for labels and probabilities.
    """
    model = model_of(model)
    if isinstance(model, Pipeline) and len(model.steps) > 1:
        X, model = model[:-1].transform(X), model.steps[-1][1]
    if classes is None:
        return Predictions(rows, np.asarray(model.predict(X)))
    known = np.asarray(model.classes_)
    if hasattr(model, "predict_proba"):
        proba = np.asarray(model.predict_proba(X))
        # Labels are the most probable classes there by definition; another pass is saved.
        is_fine_tuned = isinstance(model, FineTunedClassifier)
        predicted = known[proba.argmax(axis=1)] if is_fine_tuned else np.asarray(model.predict(X))
        return Predictions(rows, predicted, proba=_spread(proba, known, classes, 0.0))
    predicted = np.asarray(model.predict(X))
    if not hasattr(model, "decision_function"):
        return Predictions(rows, predicted)
    decision = np.asarray(model.decision_function(X), dtype=np.float64)
    if decision.ndim == 1:
        decision = np.column_stack([-decision, decision])
    if decision.shape[1] != len(known):  # one column for each pair of classes
        return Predictions(rows, predicted)
    return Predictions(rows, predicted, decision=_spread(decision, known, classes, -np.inf))


def _spread(values: np.ndarray, known: np.ndarray, classes: np.ndarray, fill: float) -> np.ndarray:
    """Columns for all classes, where a model has seen some of them only."""
    found = np.isin(known, classes)
    full = np.full((len(values), len(classes)), fill)
    full[:, np.searchsorted(classes, known[found])] = values[:, found]
    return full


def cross_validated(
    estimator: Any,
    take: Take,
    y: np.ndarray,
    *,
    classes: np.ndarray | None,
    splits: list[Split],
    sample_domain: np.ndarray | None,
    prepare: Callable[[Any], AbstractContextManager[None]],
) -> Predictions:
    """Predict each row by a clone that was fitted to other folds.

    `prepare` is called with each clone before it is fitted, and gives a context to work in.
    """
    parts = []
    for number, (train, test) in enumerate(splits):
        model = clone(estimator)
        train_domain = None if sample_domain is None else sample_domain[train]
        with prepare(model):
            model.fit(take(train), y[train], **domain_parameters(model, train_domain))
            with prepare(model_of(model)):
                part = predictions_of(model, take(test), test, classes)
        parts.append(replace(part, fold=np.full(len(test), number)))
    order = np.concatenate([part.rows for part in parts]).argsort(kind="stable")
    columns = {
        field.name: [getattr(part, field.name) for part in parts] for field in fields(parts[0])
    }
    joined: dict[str, Any] = {
        name: None if any(each is None for each in column) else np.concatenate(column)[order]
        for name, column in columns.items()
    }
    return Predictions(**joined)


def folds_of(
    y: np.ndarray,
    *,
    cv: Any,
    groups: np.ndarray,
    candidates: np.ndarray,
    stratified: bool,
    sample_domain: np.ndarray | None,
    seed: int,
) -> list[Split]:
    """Splits in which each row is held out once at most.

    Only candidates are held out; the other rows are always there for training. If `cv` is None or
    a number, folds keep rows of one group together, and classes in their shares; a splitter gets
    the domains as its groups.
    """
    if cv is not None and not isinstance(cv, int | np.integer):
        groups_of_splitter = groups if sample_domain is None else sample_domain
        with warnings.catch_warnings():
            # Most splitters have no use for groups.
            warnings.filterwarnings("ignore", "The groups parameter is ignored", UserWarning)
            return _checked(
                [*check_cv(cv, y, classifier=stratified).split(y, y, groups_of_splitter)]
            )
    n_splits = _possible(N_FOLDS if cv is None else int(cv), groups[candidates])
    of_candidates = groups[candidates]
    grouped = len(np.unique(of_candidates)) < len(of_candidates)
    kinds = {
        (True, True): StratifiedGroupKFold,
        (True, False): StratifiedKFold,
        (False, True): GroupKFold,
        (False, False): KFold,
    }
    labels = y[candidates]
    stratified = stratified and np.unique(labels, return_counts=True)[1].max() >= n_splits
    splitter = kinds[stratified, grouped](n_splits, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # The report itself names classes of fewer rows than folds.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        splits = [*splitter.split(labels, labels, of_candidates if grouped else None)]
    everything = np.arange(len(y))
    found = []
    for _, held_out in splits:
        test = candidates[held_out]
        # Copies of what is held out must not stand on the other side, whatever they are labelled.
        train = everything[~np.isin(groups, groups[test])]
        found.append((train, test))
    return found


def _possible(n_splits: int, groups: np.ndarray) -> int:
    n_groups = len(np.unique(groups))
    if n_splits < 2:
        raise ValueError(f"cv must be at least 2 folds, got {n_splits}")
    if n_groups < 2:
        raise ValueError(
            f"cross-validation needs at least 2 labelled rows that are no copies, got {n_groups}"
        )
    return min(n_splits, n_groups)


def _checked(splits: list[Split]) -> list[Split]:
    held_out = np.concatenate([test for _, test in splits])
    if len(np.unique(held_out)) < len(held_out):
        raise ValueError(
            "cv must hold out each row once at most, so that each has one prediction, and its test "
            "rows overlap; take KFold, StratifiedKFold or the like, not ShuffleSplit or repeats"
        )
    return splits


def split_rows(splits: list[Split], rows: np.ndarray) -> Iterator[Split]:
    """The splits within some of the rows, numbered among them."""
    place = {row: i for i, row in enumerate(rows.tolist())}
    for train, test in splits:
        inside = tuple(
            np.array([place[r] for r in side.tolist() if r in place], dtype=int)
            for side in (train, test)
        )
        if len(inside[0]) and len(inside[1]):
            yield inside[0], inside[1]
