"""Sections on predictions: scores, confusion and the worst errors."""

from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from sktransfer.inspection.report import scores as numbers
from sktransfer.inspection.report.blocks import (
    Bar,
    Block,
    Card,
    Cell,
    Gallery,
    Matrix,
    Name,
    NotApplicable,
    Prose,
    Scatter,
    SectionContent,
    Table,
)
from sktransfer.inspection.report.evidence import Evidence
from sktransfer.inspection.report.parts import domain_parameters
from sktransfer.inspection.report.pictures import picture_of
from sktransfer.inspection.report.text import count, number, path_text

_MOST_CLASSES = 20
"""More do not fit into the matrix."""

_MEASURES = {
    "log loss": "log loss, the surprise at the true class",
    "margin": "the margin by which another class won",
}

_MOST_ROWS = 60
_MOST_PAIRS = 12
_MOST_POINTS = 800


def protocol_text(evidence: Evidence) -> str:
    """A sentence on the way the predictions were made."""
    n = len(evidence.predictions.rows)
    if evidence.is_cross_validated:
        folds = evidence.predictions.fold
        n_folds = 0 if folds is None else len(np.unique(folds))
        text = (
            f"{n_folds}-fold cross-validation of a clone of the estimator: each of {n:,} rows was "
            "predicted by a model that was not fitted to it"
        )
        if evidence.keeps_copies:
            related = (
                "copies of a row and rows of a group"
                if evidence.report.groups is not None
                else "copies"
            )
            text += f", nor to {related}"
        if evidence.domain is not None:
            domain = evidence.domain[evidence.predictions.rows]
            if (domain < 0).all():
                text += ". Rows of the source were always there for training"
            else:
                text += (
                    ". Rows of the target have no label to compare with: these are scores of the "
                    "source; for the target see the scorers of sktransfer.metrics"
                )
        return f"{text}."
    if evidence.was_fitted:
        return (
            f"The fitted estimator predicted the {n:,} rows of X. They must not be rows that it "
            "was fitted to, or searched over; otherwise the numbers are too good."
        )
    assert evidence.train is not None
    return (
        f"The estimator was fitted to the {len(evidence.train):,} rows of X_train, and "
        f"predicted the {n:,} rows of X."
    )


def scores(evidence: Evidence) -> SectionContent:
    """Scores with intervals, of domains and of classes."""
    blocks: list[Block] = [Prose(protocol_text(evidence))]
    rows = [
        [
            score.name,
            Bar(number(score.value), score.value, *(score.interval or (None, None)))
            if score.higher_is_better and 0 <= score.value <= 1
            else number(score.value),
            interval_text(score),
            "-" if score.baseline is None else number(score.baseline),
            score.explanation,
        ]
        for score in evidence.scores
    ]
    columns = ["score", "value", "95 % interval", "best constant", "meaning"]
    blocks.append(Table("Scores of all predicted rows", columns, rows, numeric=(2, 3), prose=(4,)))
    spread = _spread_of_folds(evidence)
    if spread:
        blocks.append(Prose(spread))
    if evidence.domain is not None:
        blocks += _by_domain(evidence)
    if evidence.labels.task == "classification":
        blocks.append(_class_table(evidence))
    if evidence.labels.task == "regression" and evidence.labels.y.ndim == 1:
        blocks.append(_scatter(evidence))
    return blocks, {}


def interval_text(score: numbers.Score) -> str:
    """The interval, or why there is none."""
    if score.interval is None:
        best = 1 if score.higher_is_better else 0
        return "no error to resample" if score.value == best else "-"
    return f"{number(score.interval[0])} to {number(score.interval[1])}"


def _spread_of_folds(evidence: Evidence) -> str:
    folds = evidence.predictions.fold
    if folds is None:
        return ""
    true = evidence.labels.y[evidence.predictions.rows]
    predicted = evidence.predictions.predicted
    if evidence.labels.task == "regression":
        name, hits = "mean absolute error", np.abs(true - predicted).reshape(len(true), -1)
        hits = hits.mean(axis=1)
    else:
        name, hits = "accuracy", (true == predicted).reshape(len(true), -1).all(axis=1)
    of_folds = [float(hits[folds == fold].mean()) for fold in np.unique(folds)]
    return f"By fold, {name} was {', '.join(map(number, of_folds))}."


def _by_domain(evidence: Evidence) -> list[Block]:
    assert evidence.domain is not None
    domain = evidence.domain[evidence.predictions.rows]
    rows: list[list[Cell]] = []
    for name, of_domain in (("source", domain > 0), ("target", domain < 0)):
        which = np.flatnonzero(of_domain)
        if len(which):
            first = evidence.scores_of(which)[0]
            rows.append([name, f"{len(which):,}", number(first.value), interval_text(first)])
    columns = ["domain", "rows", evidence.scores[0].name, "95 % interval"]
    blocks: list[Block] = [Table("By domain", columns, rows, numeric=(1, 2, 3))]
    if (domain > 0).any() and domain_parameters(evidence.estimator, evidence.domain):
        text = "Rows of the source were predicted as if they were of the target."
        blocks.append(Prose(text, "note"))
    return blocks


def true_and_predicted(evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the classes of the predicted rows."""
    true = evidence.labels.codes(evidence.labels.y[evidence.predictions.rows])
    return true, evidence.labels.codes(evidence.predictions.predicted)


def _class_table(evidence: Evidence) -> Table:
    true, predicted = true_and_predicted(evidence)
    found = numbers.class_table(true, predicted, len(evidence.labels.class_names))
    order = np.argsort([recall if n else 2 for n, _, recall, _, _ in found], kind="stable")
    rows: list[list[Cell]] = []
    for code in order[:_MOST_ROWS]:
        n, precision, recall, f1, interval = found[code]
        low, high = interval or (None, None)
        span = "-" if interval is None else f"{number(interval[0])} to {number(interval[1])}"
        bar = Bar(number(recall), recall, low, high) if n else "-"
        name = evidence.labels.name(code)
        rows.append([name, f"{n:,}", bar, span, number(precision), number(f1)])
    more = len(found) - len(rows)
    rest = f"; {more} more are not shown" if more else ""
    columns = ["class", "rows", "recall", "95 % interval", "precision", "F1"]
    caption = f"By class, the worst recall first{rest}"
    return Table(caption, columns, rows, numeric=(1, 3, 4, 5))


def _scatter(evidence: Evidence) -> Scatter:
    true = evidence.labels.y[evidence.predictions.rows].astype(np.float64)
    predicted = evidence.predictions.predicted.astype(np.float64)
    low, high = float(min(true.min(), predicted.min())), float(max(true.max(), predicted.max()))
    size = high - low if high > low else 1.0
    some = np.unique(np.linspace(0, len(true) - 1, _MOST_POINTS).astype(int))
    points = [
        (float((t - low) / size), float((p - low) / size))
        for t, p in zip(true[some], predicted[some], strict=True)
    ]
    shown = "" if len(some) == len(true) else f" {len(some)} of {len(true):,} rows."
    return Scatter(
        points,
        number(low),
        number(high),
        alt="Predicted against true values; points on the diagonal are right.",
        caption=f"Predicted (upwards) against true values. On the line they agree.{shown}",
    )


def confusion(evidence: Evidence) -> SectionContent:
    """Confusions of classes."""
    if evidence.labels.task != "classification":
        raise NotApplicable("it needs one class per row")
    true, predicted = true_and_predicted(evidence)
    names = [evidence.labels.name(code) for code in range(len(evidence.labels.class_names))]
    matrix = confusion_matrix(true, predicted, labels=np.arange(len(names)))
    blocks: list[Block] = []
    wrong = matrix - np.diag(matrix.diagonal())
    worst = np.arange(len(names))
    if len(names) > _MOST_CLASSES:
        trouble = wrong.sum(axis=0) + wrong.sum(axis=1)
        worst = np.sort(np.argsort(-trouble, kind="stable")[:_MOST_CLASSES])
        text = f"There are {len(names)} classes; these are the {_MOST_CLASSES} most often confused."
        blocks.append(Prose(text))
    part = matrix[np.ix_(worst, worst)]
    totals = np.maximum(matrix.sum(axis=1)[worst], 1)
    blocks.append(
        Matrix(
            [names[code] for code in worst],
            part.tolist(),
            (part / totals[:, None]).tolist(),
            "Rows are true classes, columns predicted ones. The deeper a cell, the larger its "
            "share of the row.",
        )
    )
    pairs = confused_pairs(matrix)[:_MOST_PAIRS]
    if pairs:
        rows: list[list[Cell]] = [
            [names[t], names[p], f"{n:,}", f"{n / matrix[t].sum():.1%}"] for t, p, n in pairs
        ]
        columns = ["true", "taken for", "rows", "share of the true class"]
        blocks.append(Table("Most frequent confusions", columns, rows, numeric=(2, 3)))
    return blocks, {}


def confused_pairs(matrix: np.ndarray) -> list[tuple[int, int, int]]:
    """True class, predicted class and number of rows, the most first."""
    wrong = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")
    cells = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(int(t), int(p), int(wrong[t, p])) for t, p in cells if wrong[t, p]]


def worst_rows(evidence: Evidence) -> tuple[np.ndarray, np.ndarray, str]:
    """Predicted rows with the worst first, a measure of error for each, and its name.

    Numbers are those of `Predictions.rows`. Only wrong rows, if there are any.
    """
    found = evidence.predictions
    true = evidence.labels.y[evidence.predictions.rows]
    if evidence.labels.task == "regression":
        off = np.abs(true - found.predicted).astype(np.float64).reshape(len(true), -1).mean(axis=1)
        return np.argsort(-off, kind="stable"), off, "absolute error"
    if evidence.labels.task == "multilabel":
        off = (true != found.predicted).sum(axis=1).astype(np.float64)
        order = np.argsort(-off, kind="stable")
        return order[off[order] > 0], off, "labels that are wrong"
    codes = evidence.labels.codes(true)
    right = true == found.predicted
    if found.proba is not None:
        badness, measure = numbers.losses_of(codes, found.proba), "log loss"
    elif found.decision is not None:
        of_true_class = found.decision[np.arange(len(codes)), codes]
        others = found.decision.copy()
        others[np.arange(len(codes)), codes] = -np.inf
        badness, measure = others.max(axis=1) - of_true_class, "margin"
    else:
        badness, measure = (~right).astype(np.float64), "being wrong"
    order = np.argsort(-badness, kind="stable")
    return order[~right[order]] if not right.all() else order, badness, measure


def errors(evidence: Evidence) -> SectionContent:
    """The worst rows, to look at."""
    order, badness, measure = worst_rows(evidence)
    if not len(order):
        raise NotApplicable("no row is wrong")
    shown = order[: evidence.report.n_errors]
    predictions = evidence.predictions
    cards = []
    for number_of_row in shown:
        row = int(predictions.rows[number_of_row])
        true, predicted = evidence.labels.y[row], predictions.predicted[number_of_row]
        facts: list[tuple[str, str | Name]]
        if predictions.proba is not None and evidence.labels.classes is not None:
            codes = evidence.labels.codes(np.array([true, predicted]))
            shares = [f" ({_percent(each)})" for each in predictions.proba[number_of_row][codes]]
            facts = [
                ("predicted", _named(evidence, predicted, shares[1])),
                ("true", _named(evidence, true, shares[0])),
            ]
        else:
            facts = [
                ("true", _named(evidence, true)),
                ("predicted", _named(evidence, predicted)),
                (measure, number(float(badness[number_of_row]))),
            ]
        title = evidence.labels.text(predicted)
        position = int(evidence.X.positions[row])
        path = evidence.X.samples.name(position)
        name = f"X[{position}]" if path is None else path_text(path, 60)
        cards.append(Card(title, facts, name, **picture_of(evidence.X.samples, position)))
    return [Prose(_lead(evidence, order, measure, len(shown))), Gallery(cards)], {}


def _named(evidence: Evidence, value: Any, more: str = "") -> str | Name:
    """A label or a target, and what is said of it."""
    if evidence.labels.classes is None:
        return evidence.labels.text(value) + more
    name = evidence.labels.name(int(np.searchsorted(evidence.labels.classes, value)))
    return Name(name.text + more, name.full)


def _percent(share: float) -> str:
    """A share in a few characters, which does not call certain what is not."""
    percent = 100 * share
    if 0 < percent < 0.05 or 99.95 < percent < 100:
        return "<0.1%" if percent < 1 else ">99.9%"
    return f"{percent:.1f}%" if percent < 1 or percent > 99 else f"{percent:.0f}%"


def _lead(evidence: Evidence, order: np.ndarray, measure: str, n_shown: int) -> str:
    n = len(evidence.predictions.rows)
    if evidence.labels.task == "regression":
        return f"The {count(n_shown, 'row')} of the largest {measure}."
    true = evidence.labels.y[evidence.predictions.rows]
    if (true == evidence.predictions.predicted).all():
        return f"No row is wrong. These are the {n_shown} right ones of the highest {measure}."
    shown = "all of them" if n_shown == len(order) else f"the {n_shown} worst"
    wrong_rows = f"{count(len(order), 'row')} of {n:,} {'is' if len(order) == 1 else 'are'} wrong"
    return (
        f"{wrong_rows}; {shown}, by {_MEASURES.get(measure, measure)}. "
        "Look for wrong labels, for odd samples, and for what the errors share."
    )
