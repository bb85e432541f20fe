"""The head of a report: its main numbers, and its conclusions in a few sentences."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from sklearn.metrics import confusion_matrix

from sktransfer.inspection.report.blocks import Findings, Probe
from sktransfer.inspection.report.evidence import Evidence
from sktransfer.inspection.report.scores import Score
from sktransfer.inspection.report.sections.data import KINDS, n_copies, n_seen, rows_at_odds
from sktransfer.inspection.report.sections.predictions import (
    confused_pairs,
    interval_text,
    true_and_predicted,
)
from sktransfer.inspection.report.sections.provenance import licence_of
from sktransfer.inspection.report.text import count, number, plain

_CLEAR_DIFFERENCE = 0.01
"""Difference of scores from which a better layer is worth a sentence."""

_LARGE_DIFFERENCE = 0.05
"""Difference from which a model worse than a linear probe of its layer is worth a sentence."""

_MOST_NAMED = 5

_LONGEST = 1000
"""Most characters of a sentence that another module has written."""

Value = TypeVar("Value")


def tiles_of(evidence: Evidence, findings: Findings) -> list[tuple[str, str, str]]:
    """The label, the value and a note of each number that one looks for first."""
    tiles = []
    if (scores := _or_none(lambda: evidence.scores)) is not None:
        score = scores[0]
        note = f"95 %: {interval_text(score)}" if score.interval else ""
        tiles.append((score.name, number(score.value), note))
    tiles.append(("rows", f"{len(evidence.X):,}", KINDS[evidence.X.samples.kind]))
    if evidence.labels.classes is not None:
        tiles.append(("classes", f"{len(evidence.labels.classes):,}", "to tell apart"))
    n_failed = len(evidence.failures)
    tiles.append(("unreadable", f"{n_failed:,}", "left out" if n_failed else "all were read"))
    if "rows_per_second" in findings:
        rate = number(findings["rows_per_second"])
        tiles.append(("rows per second", rate, "predicted here"))
    return tiles


def conclusions_of(evidence: Evidence, findings: Findings) -> Iterator[str]:
    """Sentences that sum the report up."""
    scores = _or_none(lambda: evidence.scores)
    if scores is not None:
        score = scores[0]
        text = f"{score.name.capitalize()} is {number(score.value)}"
        if score.interval:
            text += f" (95 % interval {interval_text(score)})"
        if score.baseline is not None:
            text += f"; the best constant prediction has {number(score.baseline)}"
        yield f"{text}."
    if scores is not None and evidence.labels.task == "classification":
        yield from _confused(evidence)
    yield from _unseen(evidence)
    if n := n_unlabelled(evidence):
        what = "target" if evidence.labels.task == "regression" else "label"
        yield f"{count(n, 'row')} of X {_have(n)} no {what} and {_are(n)} not scored."
    if "shift" in findings:
        yield _SHIFTS[findings["shift"]]
    if "probe" in findings:
        yield from _layer(findings["probe"], scores)
    scaling = _or_none(lambda: evidence.scaling)
    if scaling is not None and scaling.step is not None:
        text = plain(str(scaling), _LONGEST)
        yield f"{text[0].upper()}{text[1:]}."
    n_failed = len(evidence.failures)
    if n_failed:
        yield f"{count(n_failed, 'row')} could not be read and {_are(n_failed)} left out."
    if n := n_seen(evidence):
        yield (
            f"{count(n, 'row')} of X {'stands' if n == 1 else 'stand'} in X_train, too, "
            "so the scores are too good."
        )
    if n := n_copies(evidence):
        text = "1 row is an exact copy of another" if n == 1 else f"{n:,} rows are exact copies"
        yield f"{text}; copies were kept in one fold." if evidence.keeps_copies else f"{text}."
    if n := rows_at_odds(evidence):
        yield f"{count(n, 'row')} {_are(n)} labelled in two ways: same content, other label."
    for network in evidence.networks:
        licence = _or_none(partial(licence_of, network))
        if licence:
            name = network.backbone if isinstance(network.backbone, str) else "your own network"
            yield f"Weights: {plain(name)}, licence {plain(licence[0])}."


_SHIFTS = {
    "none": "No shift between the two domains was found.",
    "label": "The domains differ, and other shares of the classes explain it.",
    "covariate": "The domains differ in their features: expect less of the model there.",
    "unknown": "The domains differ, in a way that cannot be told.",
}


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def _have(n: int) -> str:
    return "has" if n == 1 else "have"


def n_unlabelled(evidence: Evidence) -> int:
    """Readable rows without a label, or without a target."""
    return int((~evidence.labels.is_known).sum())


def unseen_classes(evidence: Evidence) -> tuple[list[int], int]:
    """Classes that the model has never seen, by number, and how many predicted rows they have."""
    rows = _or_none(lambda: evidence.unseen)
    if rows is None or not len(rows):
        return [], 0
    return sorted({*evidence.labels.codes(evidence.labels.y[rows]).tolist()}), len(rows)


def _unseen(evidence: Evidence) -> Iterator[str]:
    codes, n_rows = unseen_classes(evidence)
    if not codes:
        return
    names = ", ".join(evidence.labels.short_names[code] for code in codes[:_MOST_NAMED])
    more = ", ..." if len(codes) > _MOST_NAMED else ""
    classes = "a class" if len(codes) == 1 else f"{len(codes)} classes"
    yield (
        f"{count(n_rows, 'row')} {_are(n_rows)} of {classes} that the model has never seen "
        f"({names}{more}), and cannot be right."
    )


def _confused(evidence: Evidence) -> Iterator[str]:
    true, predicted = true_and_predicted(evidence)
    names = evidence.labels.short_names
    matrix = confusion_matrix(true, predicted, labels=range(len(names)))
    pairs = confused_pairs(matrix)
    if not pairs:
        yield "No row is wrong."
        return
    t, p, n = pairs[0]
    n_wrong = int((true != predicted).sum())
    yield (
        f"{count(n_wrong, 'row')} {_are(n_wrong)} wrong; most often {names[t]} is taken for "
        f"{names[p]} ({n:,})."
    )


def _layer(probe: Probe, scores: list[Score] | None) -> Iterator[str]:
    best = f"{plain(probe.layer)} probes best ({probe.scoring} {number(probe.score)})"
    if not probe.score > probe.constant:
        yield (
            f"No layer beats the constant prediction ({probe.scoring} {number(probe.constant)}) in "
            f"a linear probe; {best}."
        )
        return
    text = f"Of the layers, {best}"
    if probe.in_use is None:
        yield f"{text}."
    elif probe.score - probe.in_use > _CLEAR_DIFFERENCE:
        yield f"{text}; the layer in use probes with {number(probe.in_use)}. Try that layer."
    else:
        yield f"{text}; the layer in use probes as well."
    reached = probe.score if probe.in_use is None else probe.in_use
    if (
        scores
        and scores[0].name.lower() == probe.scoring
        and scores[0].value < reached - _LARGE_DIFFERENCE
    ):
        yield (
            f"The estimator itself has {number(scores[0].value)}, far less than a linear model on "
            f"that layer ({number(reached)}): look at what comes behind the network, or at what it "
            "was fitted to."
        )


def summary_of(evidence: Evidence, findings: Findings) -> dict[str, Any]:
    """The same as plain data that JSON can hold."""
    scores = _or_none(lambda: evidence.scores)
    labels = evidence.labels
    networks = []
    for network in evidence.networks:
        name = network.backbone if isinstance(network.backbone, str) else None
        licence = _or_none(partial(licence_of, network))
        networks.append({"backbone": name, "licence": licence and licence[0]})
    return {
        "task": labels.task,
        "protocol": (
            "cross-validation"
            if evidence.is_cross_validated
            else "fitted estimator"
            if evidence.was_fitted
            else "fitted to X_train"
        ),
        "rows": len(evidence.X.samples),
        "predicted": None if scores is None else len(evidence.predictions.rows),
        "without_label": n_unlabelled(evidence),
        "classes": labels.class_names or None,
        "unseen_classes": [
            evidence.labels.class_names[code] for code in unseen_classes(evidence)[0]
        ],
        "scores": {
            score.name: {
                "value": _json(score.value),
                "interval": score.interval and [*map(_json, score.interval)],
                "best_constant": _json(score.baseline),
            }
            for score in scores or []
        },
        "failed": [
            {"row": each.index, "path": each.path, "error": each.message}
            for each in evidence.X.failed
        ],
        "copies": n_copies(evidence),
        "seen_in_training": None if evidence.train is None else n_seen(evidence),
        "shift": findings.get("shift"),
        "best_layer": findings["probe"].layer if "probe" in findings else None,
        "rows_per_second": findings.get("rows_per_second"),
        "networks": networks,
    }


def _json(value: float | None) -> float | None:
    return None if value is None or value != value else float(value)


def _or_none(compute: Callable[[], Value]) -> Value | None:
    """The result, or None if it fails, as a section has shown the error."""
    try:
        return compute()
    except Exception:
        return None
