"""How good the predictions are, and where they go wrong."""

from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from sktransfer.inspection.report import scores as numbers
from sktransfer.inspection.report.blocks import (
    Bar,
    Block,
    Card,
    Gallery,
    Matrix,
    Name,
    NotApplicable,
    Prose,
    Scatter,
    Table,
)
from sktransfer.inspection.report.evidence import Evidence
from sktransfer.inspection.report.parts import domain_parameters
from sktransfer.inspection.report.pictures import picture_of
from sktransfer.inspection.report.text import count, number, path_text

_MOST_CLASSES = 20
"""In the matrix; more do not fit."""

_MEASURES = {
    "log loss": "log loss, the surprise at the true class",
    "margin": "the margin by which another class won",
}

_MOST_ROWS = 60
_MOST_PAIRS = 12
_MOST_POINTS = 800


def protocol_text(evidence: Evidence) -> str:
    """How the predictions were come by."""
    n = len(evidence.predictions.rows)
    if evidence.is_cross_validated:
        folds = evidence.predictions.fold
        n_folds = 0 if folds is None else len(np.unique(folds))
        text = (
            f"{n_folds}-fold cross-validation of a clone of the estimator: each of {n:,} rows was "
            "predicted by a model that was not fitted to it"
        )
        if evidence.keeps_copies:
            kept = "copies of a row and rows of a group" if evidence.has_groups else "copies"
            text += f", nor to {kept}"
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
    if evidence.fitted_before:
        return (
            f"The fitted estimator predicted the {n:,} rows of X. They must not be rows that it "
            "was fitted to, or searched over; otherwise the numbers are too good."
        )
    return (
        f"The estimator was fitted to the {len(evidence.train_rows):,} rows of X_train, and "
        f"predicted the {n:,} rows of X."
    )


def scores(evidence: Evidence) -> list[Block]:
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
    if evidence.task == "classes":
        blocks.append(_class_table(evidence))
    if evidence.task == "regression" and evidence.y.ndim == 1:
        blocks.append(_scatter(evidence))
    return blocks


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
    true = evidence.y[evidence.predictions.rows]
    predicted = evidence.predictions.outputs.predicted
    if evidence.task == "regression":
        name, hits = "mean absolute error", np.abs(true - predicted).reshape(len(true), -1)
        hits = hits.mean(axis=1)
    else:
        name, hits = "accuracy", (true == predicted).reshape(len(true), -1).all(axis=1)
    of_folds = [float(hits[folds == fold].mean()) for fold in np.unique(folds)]
    return f"By fold, {name} was {', '.join(map(number, of_folds))}."


def _by_domain(evidence: Evidence) -> list[Block]:
    assert evidence.domain is not None
    domain = evidence.domain[evidence.predictions.rows]
    rows: list[list[Any]] = []
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


def _codes(evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    true = evidence.codes(evidence.y[evidence.predictions.rows])
    return true, evidence.codes(evidence.predictions.outputs.predicted)


def _class_table(evidence: Evidence) -> Table:
    true, predicted = _codes(evidence)
    found = numbers.class_table(true, predicted, len(evidence.class_names))
    order = np.argsort([recall if n else 2 for n, _, recall, _, _ in found], kind="stable")
    rows: list[list[Any]] = []
    for code in order[:_MOST_ROWS]:
        n, precision, recall, f1, interval = found[code]
        low, high = interval or (None, None)
        span = "-" if interval is None else f"{number(interval[0])} to {number(interval[1])}"
        bar = Bar(number(recall), recall, low, high) if n else "-"
        name = evidence.name_of_class(code)
        rows.append([name, f"{n:,}", bar, span, number(precision), number(f1)])
    more = len(found) - len(rows)
    rest = f"; {more} more are not shown" if more else ""
    columns = ["class", "rows", "recall", "95 % interval", "precision", "F1"]
    caption = f"By class, the worst recall first{rest}"
    return Table(caption, columns, rows, numeric=(1, 3, 4, 5))


def _scatter(evidence: Evidence) -> Scatter:
    true = evidence.y[evidence.predictions.rows].astype(np.float64)
    predicted = evidence.predictions.outputs.predicted.astype(np.float64)
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


def confusion(evidence: Evidence) -> list[Block]:
    """Which class is taken for which."""
    if evidence.task != "classes":
        raise NotApplicable("it needs one class per row")
    true, predicted = _codes(evidence)
    names = [evidence.name_of_class(code) for code in range(len(evidence.class_names))]
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
        rows = [[names[t], names[p], f"{n:,}", f"{n / matrix[t].sum():.1%}"] for t, p, n in pairs]
        columns = ["true", "taken for", "rows", "share of the true class"]
        blocks.append(Table("Most frequent confusions", columns, rows, numeric=(2, 3)))
    return blocks


def confused_pairs(matrix: np.ndarray) -> list[tuple[int, int, int]]:
    """True class, predicted class and number of rows, the most first."""
    wrong = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")
    cells = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(int(t), int(p), int(wrong[t, p])) for t, p in cells if wrong[t, p]]


def worst_rows(evidence: Evidence) -> tuple[np.ndarray, np.ndarray, str]:
    """Predicted rows in the order of their badness, how bad each is, and by what measure.

    Numbers are those of `Predictions.rows`. Only wrong rows, if there are any.
    """
    outputs = evidence.predictions.outputs
    true = evidence.y[evidence.predictions.rows]
    if evidence.task == "regression":
        off = (
            np.abs(true - outputs.predicted).astype(np.float64).reshape(len(true), -1).mean(axis=1)
        )
        return np.argsort(-off, kind="stable"), off, "absolute error"
    if evidence.task == "multilabel":
        off = (true != outputs.predicted).sum(axis=1).astype(np.float64)
        order = np.argsort(-off, kind="stable")
        return order[off[order] > 0], off, "labels that are wrong"
    codes = evidence.codes(true)
    right = true == outputs.predicted
    if outputs.proba is not None:
        badness, measure = numbers.losses_of(codes, outputs.proba), "log loss"
    elif outputs.decision is not None:
        own = outputs.decision[np.arange(len(codes)), codes]
        others = outputs.decision.copy()
        others[np.arange(len(codes)), codes] = -np.inf
        badness, measure = others.max(axis=1) - own, "margin"
    else:
        badness, measure = (~right).astype(np.float64), "being wrong"
    order = np.argsort(-badness, kind="stable")
    return order[~right[order]] if not right.all() else order, badness, measure


def errors(evidence: Evidence) -> list[Block]:
    """The worst rows, to look at."""
    order, badness, measure = worst_rows(evidence)
    if not len(order):
        raise NotApplicable("no row is wrong")
    shown = order[: evidence.n_errors]
    predictions = evidence.predictions
    outputs = predictions.outputs
    cards = []
    for number_of_row in shown:
        row = int(predictions.rows[number_of_row])
        true, predicted = evidence.y[row], outputs.predicted[number_of_row]
        facts: list[tuple[str, str | Name]] = [
            ("true", _named(evidence, true)),
            ("predicted", _named(evidence, predicted)),
        ]
        title = evidence.label(predicted)
        if outputs.proba is not None and evidence.classes is not None:
            shares = outputs.proba[number_of_row]
            own, other = evidence.codes(np.array([true, predicted]))
            facts = [
                ("predicted", _named(evidence, predicted, f" ({_percent(shares[other])})")),
                ("true", _named(evidence, true, f" ({_percent(shares[own])})")),
            ]
        else:
            facts.append((measure, number(float(badness[number_of_row]))))
        position = int(evidence.rows[row])
        path = evidence.samples.name(position)
        name = f"X[{position}]" if path is None else path_text(path, 60)
        cards.append(Card(picture_of(evidence.samples, position), title, facts, name))
    return [Prose(_lead(evidence, order, measure, len(shown))), Gallery(cards)]


def _named(evidence: Evidence, value: Any, more: str = "") -> str | Name:
    """A label or a target, and what is said of it."""
    if evidence.classes is None:
        return evidence.label(value) + more
    name = evidence.name_of_class(int(np.searchsorted(evidence.classes, value)))
    return Name(name.text + more, name.full)


def _percent(share: float) -> str:
    """A share in a few characters, which does not call certain what is not."""
    percent = 100 * share
    if 0 < percent < 0.05 or 99.95 < percent < 100:
        return "<0.1%" if percent < 1 else ">99.9%"
    return f"{percent:.1f}%" if percent < 1 or percent > 99 else f"{percent:.0f}%"


def _lead(evidence: Evidence, order: np.ndarray, measure: str, n_shown: int) -> str:
    n = len(evidence.predictions.rows)
    if evidence.task == "regression":
        return f"The {count(n_shown, 'row')} of the largest {measure}."
    true = evidence.y[evidence.predictions.rows]
    if (true == evidence.predictions.outputs.predicted).all():
        return f"No row is wrong. These are the {n_shown} right ones of the highest {measure}."
    shown = "all of them" if n_shown == len(order) else f"the {n_shown} worst"
    of_rows = f"{count(len(order), 'row')} of {n:,} {'is' if len(order) == 1 else 'are'} wrong"
    return (
        f"{of_rows}; {shown}, by {_MEASURES.get(measure, measure)}. "
        "Look for wrong labels, for odd samples, and for what the errors share."
    )
