"""Predictions of rows that a model was not fitted to, and how they were come by."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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

from sktransfer.finetuning.classifier import FineTunedClassifier
from sktransfer.inspection.report.parts import domain_parameters, model_of

N_FOLDS = 5

Take = Callable[[np.ndarray], Any]
"""From row numbers to rows of X."""


@dataclass(frozen=True)
class Outputs:
    """What a model says of some rows.

    Parameters
    ----------
    predicted : ndarray of shape (n,) or (n, n_outputs)
    proba : ndarray of shape (n, n_classes) or None
    decision : ndarray of shape (n, n_classes) or None
        Of classifiers without probabilities.
    """

    predicted: np.ndarray
    proba: np.ndarray | None = None
    decision: np.ndarray | None = None


@dataclass(frozen=True)
class Predictions:
    """Predictions of rows, and where they come from.

    Parameters
    ----------
    rows : ndarray of shape (n,)
        Which rows were predicted, in ascending order.
    outputs : Outputs
        One row for each of `rows`.
    fold : ndarray of shape (n,) or None
        Number of the fold that each row was held out in.
    """

    rows: np.ndarray
    outputs: Outputs
    fold: np.ndarray | None = None


def outputs_of(model: Any, X: Any, classes: np.ndarray | None) -> Outputs:
    """What a fitted model says of X, with columns for all of `classes`.

    The features are computed once for labels and probabilities.
    """
    model = model_of(model)
    if isinstance(model, Pipeline) and len(model.steps) > 1:
        X, model = model[:-1].transform(X), model.steps[-1][1]
    if classes is None:
        return Outputs(np.asarray(model.predict(X)))
    known = np.asarray(model.classes_)
    if hasattr(model, "predict_proba"):
        proba = np.asarray(model.predict_proba(X))
        # Labels are the most probable classes there by definition; another pass is saved.
        own = isinstance(model, FineTunedClassifier)
        predicted = known[proba.argmax(axis=1)] if own else np.asarray(model.predict(X))
        return Outputs(predicted, proba=_spread(proba, known, classes, 0.0))
    predicted = np.asarray(model.predict(X))
    if not hasattr(model, "decision_function"):
        return Outputs(predicted)
    decision = np.asarray(model.decision_function(X), dtype=np.float64)
    if decision.ndim == 1:
        decision = np.column_stack([-decision, decision])
    if decision.shape[1] != len(known):  # one column for each pair of classes
        return Outputs(predicted)
    return Outputs(predicted, decision=_spread(decision, known, classes, -np.inf))


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
    splits: list[tuple[np.ndarray, np.ndarray]],
    sample_domain: np.ndarray | None,
    prepare: Callable[[Any], Any],
) -> Predictions:
    """Predict each row by a clone that was fitted to other folds.

    Parameters
    ----------
    estimator : estimator
    take : callable
    y : ndarray of shape (n_rows,)
    classes : ndarray or None
    splits : list of tuple of ndarray
        Rows to fit to and rows to predict. No row is predicted twice.
    sample_domain : ndarray or None
    prepare : callable
        Called with each clone before it is fitted; gives a context to work in.
    """
    rows, parts, folds = [], [], []
    for number, (train, test) in enumerate(splits):
        model = clone(estimator)
        of_rows = None if sample_domain is None else sample_domain[train]
        with prepare(model):
            model.fit(take(train), y[train], **domain_parameters(model, of_rows))
            with prepare(model_of(model)):
                parts.append(outputs_of(model, take(test), classes))
        rows.append(test)
        folds.append(np.full(len(test), number))
    order = np.concatenate(rows).argsort(kind="stable")
    return Predictions(
        np.concatenate(rows)[order],
        Outputs(*(_joined(parts, name, order) for name in ("predicted", "proba", "decision"))),
        np.concatenate(folds)[order],
    )


def _joined(parts: list[Outputs], name: str, order: np.ndarray) -> Any:
    values = [getattr(part, name) for part in parts]
    return None if any(value is None for value in values) else np.concatenate(values)[order]


def folds_of(
    y: np.ndarray,
    *,
    cv: Any,
    groups: np.ndarray,
    candidates: np.ndarray,
    stratified: bool,
    sample_domain: np.ndarray | None,
    seed: int,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Splits in which each row is held out once at most.

    Parameters
    ----------
    y : ndarray of shape (n_rows,) or (n_rows, n_outputs)
    cv : None, int, splitter or iterable
        None and numbers keep rows of one group together, and classes in their shares.
    groups : ndarray of shape (n_rows,)
        Numbers; rows of the same are never on both sides.
    candidates : ndarray of int
        Rows that may be held out; the others are always there for training.
    stratified : bool
        Whether y holds classes.
    sample_domain : ndarray or None
        Given to a splitter as its groups.
    seed : int
    """
    if cv is not None and not isinstance(cv, int | np.integer):
        told = groups if sample_domain is None else sample_domain
        with warnings.catch_warnings():
            # Most splitters have no use for groups; that is no news.
            warnings.filterwarnings("ignore", "The groups parameter is ignored", UserWarning)
            return _checked([*check_cv(cv, y, classifier=stratified).split(y, y, told)])
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
        # Classes of fewer rows than folds: the report has its own words for them.
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


def _checked(splits: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
    held_out = np.concatenate([test for _, test in splits])
    if len(np.unique(held_out)) < len(held_out):
        raise ValueError(
            "cv must hold out each row once at most, so that each has one prediction, and its test "
            "rows overlap; take KFold, StratifiedKFold or the like, not ShuffleSplit or repeats"
        )
    return splits


def split_rows(splits: list[tuple[np.ndarray, np.ndarray]], rows: np.ndarray) -> Iterator[Any]:
    """The splits within some of the rows, numbered among them."""
    place = {row: i for i, row in enumerate(rows.tolist())}
    for train, test in splits:
        inside = [
            np.array([place[r] for r in side.tolist() if r in place], dtype=int)
            for side in (train, test)
        ]
        if len(inside[0]) and len(inside[1]):
            yield tuple(inside)
