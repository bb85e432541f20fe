"""Sections on searches and on the layers of a network."""

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import RidgeCV
from sklearn.utils.validation import check_is_fitted

from sktransfer._composites import is_search
from sktransfer.finetuning.search import best_first
from sktransfer.inspection._plotting import short_names
from sktransfer.inspection.report.blocks import (
    Bar,
    Block,
    Cell,
    Findings,
    NotApplicable,
    Probe,
    Prose,
    SectionContent,
    Table,
)
from sktransfer.inspection.report.evidence import Evidence
from sktransfer.inspection.report.figures import scratch_axes, themed
from sktransfer.inspection.report.parts import caching_in, is_tuned, readers_of
from sktransfer.inspection.report.pictures import Thumbnails
from sktransfer.inspection.report.protocol import split_rows
from sktransfer.inspection.report.text import number, plain, seconds_text

if TYPE_CHECKING:
    from sktransfer.inspection.layer_probe import LayerProbeDisplay

_MOST_CANDIDATES = 40
_LONGEST_SETTING = 90
_FEWEST = 10
"""Rows that a probe or an embedding is worth while for."""


def strategies(evidence: Evidence) -> SectionContent:
    """The candidates of a search, the best first."""
    if not is_search(evidence.estimator):
        raise NotApplicable(
            "the estimator is no search. Pass a GridSearchCV over layers or strategies to compare "
            "them"
        )
    search = evidence.model
    check_is_fitted(search, "cv_results_")
    found = search.cv_results_
    metrics = [name.removeprefix("mean_test_") for name in found if name.startswith("mean_test_")]
    varied = list(dict.fromkeys(name for one in found["params"] for name in one))
    order = best_first(search)
    rows: list[list[Cell]] = []
    for candidate in order[:_MOST_CANDIDATES]:
        settings = found["params"][candidate]
        cells = [
            plain(" ".join(repr(settings[name]).split()), _LONGEST_SETTING)
            if name in settings
            else ""
            for name in varied
        ]
        rows.append(
            [
                str(len(rows) + 1),
                *(_score(found, metric, candidate) for metric in metrics),
                *cells,
                seconds_text(found["mean_fit_time"][candidate]),
                seconds_text(found["mean_score_time"][candidate]),
            ]
        )
    names = ["score" if metric == "score" else metric for metric in metrics]
    columns = ["", *names, *varied, "fit", "score time"]
    more = len(order) - len(rows)
    rest = f"; {more} more are not shown" if more else ""
    first_code = 1 + len(metrics)
    times = first_code + len(varied)
    best = ", ".join(
        f"{name} = {plain(repr(value), _LONGEST_SETTING)}"
        for name, value in search.best_params_.items()
    )
    n_splits = getattr(search, "n_splits_", "?")
    return [
        Prose(
            f"{len(order)} candidates in {n_splits} splits, the best first. The best is the best "
            f"of many, so its score is a little too good; the scores above are not. Chosen: {best}."
        ),
        Table(
            f"Mean and deviation over splits{rest}",
            columns,
            rows,
            numeric=(times, times + 1),
            code=tuple(range(first_code, times)),
            marked=0,
        ),
    ], {}


def _score(found: Any, metric: str, candidate: int) -> Bar | str:
    mean = float(found[f"mean_test_{metric}"][candidate])
    spread = float(found[f"std_test_{metric}"][candidate])
    text = f"{number(mean)} \N{PLUS-MINUS SIGN} {number(spread)}"
    if not 0 <= mean <= 1:
        return number(mean) if abs(mean) > 1 and spread == 0 else text
    return Bar(text, mean, max(0.0, mean - spread), min(1.0, mean + spread))


def layers(evidence: Evidence) -> SectionContent:
    """A linear probe on each layer."""
    if not evidence.extractors:
        raise NotApplicable("there is no network with layers to choose from")
    if not readers_of(evidence.estimator):
        raise NotApplicable("the network stands behind other steps, and is not probed on its own")
    if evidence.labels.task == "multilabel" or evidence.labels.y.ndim > 1:
        raise NotApplicable("it takes one class or number per row")
    shown = evidence.shown[evidence.labels.is_known[evidence.shown]]
    if len(shown) < _FEWEST:
        raise NotApplicable(f"there are {len(shown)} labelled rows; {_FEWEST} are needed")
    from sktransfer.inspection.layer_probe import RIDGE_ALPHAS, LayerProbeDisplay

    # Whole numbers may be targets of a regression, too; without a head they would be classes.
    head = RidgeCV(RIDGE_ALPHAS) if evidence.labels.task == "regression" else None
    splits = [*split_rows(evidence.splits, shown)]
    if len(splits) < 2:
        raise NotApplicable("too few rows are left in the folds")
    blocks: list[Block] = []
    findings: Findings = {}
    probed = readers_of(evidence.model)
    for extractor in probed:
        probe = clone(extractor)
        if "strategy" in probe.get_params(deep=False):
            probe.set_params(strategy="frozen")
        with caching_in([probe], evidence.store):
            display = LayerProbeDisplay.from_estimator(
                probe,
                evidence.X.take(shown),
                evidence.labels.y[shown],
                head=head,
                cv=splits,
                ax=scratch_axes(),
            )
        if len(display.layers) < 2:
            continue
        findings["probe"], of_probe = _probe(evidence, extractor, display)
        blocks += of_probe
    if not blocks:
        raise NotApplicable("the network has a single layer to read")
    if any(map(is_tuned, evidence.networks)):
        blocks.append(Prose("The layers are those of the network before it was tuned.", "note"))
    return blocks, findings


def _probe(
    evidence: Evidence, extractor: Any, display: "LayerProbeDisplay"
) -> tuple[Probe, list[Block]]:
    assert display.chance is not None
    scores = np.asarray(display.scores)
    means = scores.mean(axis=1)
    names = [str(name) for name in display.layers]
    best = int(means.argmax())
    layers_in_use = {str(name) for name in getattr(extractor, "layer_", ())}
    in_use = [float(means[i]) for i, name in enumerate(names) if name in layers_in_use]
    head = (
        "logistic regression of each layer's standardised features"
        if evidence.labels.task == "classification"
        else "ridge regression of each layer's features as they are"
    )
    rows: list[list[Cell]] = [
        [
            name,
            Bar(f"{number(mean)} \N{PLUS-MINUS SIGN} {number(spread)}", max(0.0, min(1.0, mean))),
            "in use" if name in layers_in_use else "",
        ]
        for name, mean, spread in zip(names, means, scores.std(axis=1), strict=True)
    ]
    blocks: list[Block] = [
        themed(
            display.plot,
            size=(7.2, 3.7),
            alt=f"{display.scoring} of a linear model on each layer; {names[best]} is the best.",
            caption=f"{type(extractor).__name__}: {head}, "
            f"{scores.shape[1]} folds. The best of many is a little too good.",
        ),
        Table(
            "Layers, shallow to deep",
            ["layer", display.scoring, ""],
            rows,
            code=(0,),
            marked=best,
        ),
    ]
    best_in_use = max(in_use, default=None)
    found = (names[best], float(means[best]), display.scoring, best_in_use, float(display.chance))
    return Probe(*found), blocks


def tuning(evidence: Evidence) -> SectionContent:
    """Losses over the epochs."""
    tuned = [each for each in evidence.networks if getattr(each, "history_", None)]
    if not tuned:
        raise NotApplicable("no network was tuned")
    from sktransfer.inspection import FineTuningDisplay

    blocks: list[Block] = []
    for network in tuned:
        history = network.history_
        last = number(history[-1]["train_loss"])
        blocks.append(
            themed(
                FineTuningDisplay(history).plot,
                size=(7.2, 3.6),
                alt=f"Losses over {len(history)} epochs; the training loss ends at {last}.",
                caption=f"{type(network).__name__}: {network.n_trained_parameters_:,} numbers were "
                f"trained in {len(history)} epochs.",
            )
        )
    return blocks, {}


def embedding(evidence: Evidence) -> SectionContent:
    """Features on a plane."""
    if evidence.features is None:
        raise NotApplicable(
            f"the network inside {evidence.name} gives out no features of X on its own"
            if evidence.extractors
            else "there is no network whose features could be shown"
        )
    if len(evidence.shown) < _FEWEST:
        raise NotApplicable(f"there are {len(evidence.shown)} rows; {_FEWEST} are needed")
    from sktransfer.inspection import EmbeddingDisplay

    shown = evidence.shown
    labels: Any = None
    if evidence.labels.task == "classification":
        names = short_names(evidence.labels.class_names)
        labels = np.array([_legend(evidence, names, row) for row in shown])
    elif evidence.labels.y.ndim == 1:
        labels = evidence.labels.y[shown].astype(np.float64)
    images = None
    if evidence.X.samples.kind == "images":
        images = Thumbnails(evidence.X.samples, evidence.X.positions[shown])
    display = EmbeddingDisplay.from_features(
        evidence.features,
        labels,
        method=evidence.report.embedding,
        images=None,
        random_state=evidence.seed,
        ax=scratch_axes(),
    )
    display.images = images
    blocks: list[Block] = [
        themed(
            display.plot,
            size=(7.4, 5.2),
            alt=f"Features of {len(shown)} rows on a plane, by {display.method}.",
            caption=f"Features of {len(shown):,} rows. Classes that lie apart here are easy; those "
            "that do not may still be told apart in more dimensions.",
            is_dense=True,
        )
    ]
    if evidence.is_cross_validated and any(map(is_tuned, evidence.networks)):
        text = "The network was tuned on these very rows, which draws classes apart here."
        blocks.append(Prose(text, "note"))
    return blocks, {}


def _legend(evidence: Evidence, names: list[str], row: int) -> str:
    if not evidence.labels.is_known[row]:
        return "no label"
    name = names[evidence.labels.codes(evidence.labels.y[row])]
    # matplotlib leaves names that begin so out of legends.
    return f" {name}" if name.startswith("_") else name
