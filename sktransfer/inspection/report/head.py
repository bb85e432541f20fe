"""The head of a report: its numbers, and what it comes to in a few sentences."""

from collections.abc import Iterator
from typing import Any

from sklearn.metrics import confusion_matrix

from sktransfer.inspection.report.blocks import Tile
from sktransfer.inspection.report.evidence import Evidence
from sktransfer.inspection.report.sections.data import KINDS, n_copies, n_seen, rows_at_odds
from sktransfer.inspection.report.sections.predictions import confused_pairs, interval_text
from sktransfer.inspection.report.sections.provenance import licence_of
from sktransfer.inspection.report.text import count, number, plain

_CLEARLY = 0.01
"""By so much a layer must be better to be worth a sentence."""


def tiles_of(evidence: Evidence) -> list[Tile]:
    """The numbers that one looks for first."""
    tiles = []
    if (scores := _or_none(lambda: evidence.scores)) is not None:
        score = scores[0]
        note = f"95 %: {interval_text(score)}" if score.interval else ""
        tiles.append(Tile(score.name, number(score.value), note))
    tiles.append(Tile("rows", f"{len(evidence.rows):,}", KINDS[evidence.samples.kind]))
    if evidence.classes is not None:
        tiles.append(Tile("classes", f"{len(evidence.classes):,}", "to tell apart"))
    n_failed = len(evidence.failed) + len(evidence.train_failed)
    tiles.append(Tile("unreadable", f"{n_failed:,}", "left out" if n_failed else "all were read"))
    if evidence.rate is not None:
        tiles.append(Tile("rows per second", number(evidence.rate), "predicted here"))
    return tiles


def findings_of(evidence: Evidence) -> list[str]:
    """What the report comes to."""
    return [*_findings(evidence)]


def _findings(evidence: Evidence) -> Iterator[str]:
    scores = _or_none(lambda: evidence.scores)
    if scores is not None:
        score = scores[0]
        text = f"{score.name.capitalize()} is {number(score.value)}"
        if score.interval:
            text += f" (95 % interval {interval_text(score)})"
        if score.baseline is not None:
            text += f"; the best constant prediction has {number(score.baseline)}"
        yield f"{text}."
    if scores is not None and evidence.task == "classes":
        yield from _confused(evidence)
    if evidence.shift_kind is not None:
        yield _SHIFTS[evidence.shift_kind]
    yield from _layer(evidence)
    n_failed = len(evidence.failed) + len(evidence.train_failed)
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
        licence = _or_none(lambda network=network: licence_of(network)[0])
        if licence:
            name = network.backbone if isinstance(network.backbone, str) else "your own network"
            yield f"Weights: {plain(name)}, licence {plain(licence)}."


_SHIFTS = {
    "none": "No shift between the two domains was found.",
    "label": "The domains differ, and other shares of the classes explain it.",
    "covariate": "The domains differ in their features: expect less of the model there.",
    "unknown": "The domains differ, in a way that cannot be told.",
}


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def _confused(evidence: Evidence) -> Iterator[str]:
    true = evidence.codes(evidence.y[evidence.predictions.rows])
    predicted = evidence.codes(evidence.predictions.outputs.predicted)
    names = evidence.class_names
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


def _layer(evidence: Evidence) -> Iterator[str]:
    probe = evidence.probe
    if probe is None:
        return
    text = (
        f"Of the layers, {plain(probe.layer)} probes best ({probe.scoring} {number(probe.score)})"
    )
    if probe.in_use is None:
        yield f"{text}."
    elif probe.score - probe.in_use > _CLEARLY:
        yield f"{text}; what is in use has {number(probe.in_use)}. Try that layer."
    else:
        yield f"{text}; what is in use is as good."


def summary_of(evidence: Evidence) -> dict[str, Any]:
    """The same as plain data that JSON can hold."""
    scores = _or_none(lambda: evidence.scores)
    networks = []
    for network in evidence.networks:
        name = network.backbone if isinstance(network.backbone, str) else None
        networks.append({"backbone": name, "licence": _or_none(lambda n=network: licence_of(n)[0])})
    return {
        "task": {"classes": "classification"}.get(evidence.task, evidence.task),
        "protocol": (
            "cross-validation"
            if evidence.is_cross_validated
            else "fitted estimator"
            if evidence.fitted_before
            else "fitted to X_train"
        ),
        "rows": len(evidence.samples),
        "predicted": None if scores is None else len(evidence.predictions.rows),
        "classes": evidence.class_names or None,
        "scores": {
            score.name: {
                "value": _json(score.value),
                "interval": score.interval and [*map(_json, score.interval)],
                "best_constant": None if score.baseline is None else _json(score.baseline),
            }
            for score in scores or []
        },
        "failed": [
            {"row": each.index, "path": each.path, "error": each.message}
            for each in evidence.failed
        ],
        "copies": n_copies(evidence),
        "seen_in_training": None if evidence.train is None else n_seen(evidence),
        "shift": evidence.shift_kind,
        "best_layer": None if evidence.probe is None else evidence.probe.layer,
        "rows_per_second": None if evidence.rate is None else _json(evidence.rate),
        "networks": networks,
    }


def _json(value: float) -> float | None:
    return float(value) if value == value else None


def _or_none(compute: Any) -> Any:
    """What a section has shown the error of is not said again."""
    try:
        return compute()
    except Exception:
        return None
