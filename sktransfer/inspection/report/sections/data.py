"""Sections on the data: the rows, their shift, and those that could not be read."""

from collections import Counter

import numpy as np

from sktransfer._composites import model_of
from sktransfer.inspection.report.blocks import (
    Bar,
    Block,
    Cell,
    Facts,
    NotApplicable,
    Prose,
    SectionContent,
    Table,
)
from sktransfer.inspection.report.evidence import Evidence
from sktransfer.inspection.report.figures import scratch_axes, themed
from sktransfer.inspection.report.parts import features_of, is_tuned
from sktransfer.inspection.report.text import count, number, path_text, plain
from sktransfer.metrics.shift import ShiftReport

_MOST_CLASSES = 40
_MOST_FAILURES = 200
_FEWEST = 20
"""Rows of each domain that a diagnosis of shift takes."""

KINDS = {
    "images": "images",
    "texts": "texts",
    "series": "time series",
    "tokens": "token sequences",
    "table": "rows of numbers",
}


def data(evidence: Evidence) -> SectionContent:
    """Rows, classes, sizes, copies."""
    pairs = [
        ("kind", KINDS[evidence.X.samples.kind]),
        ("rows of X", f"{len(evidence.X.samples):,}"),
        ("readable", f"{len(evidence.X):,}"),
        *_sizes(evidence),
    ]
    if not evidence.labels.is_known.all():
        pairs.append(("without a label", f"{np.count_nonzero(~evidence.labels.is_known):,}"))
    if evidence.domain is not None:
        source = int((evidence.domain > 0).sum())
        pairs.append(("source, target rows", f"{source:,}, {len(evidence.domain) - source:,}"))
    pairs.append(("exact copies of other rows", f"{n_copies(evidence):,}"))
    if evidence.train is not None:
        pairs.append(("training rows given", f"{len(evidence.train.contents):,}"))
        pairs.append(("of X among the training rows", f"{n_seen(evidence):,}"))
    blocks: list[Block] = [Facts(pairs)]
    if evidence.labels.task == "classification":
        blocks.append(_classes(evidence))
        blocks += _single(evidence)
    else:
        blocks.append(_targets(evidence))
    n_at_odds = rows_at_odds(evidence)
    if n_at_odds:
        blocks.append(
            Prose(
                f"{count(n_at_odds, 'row')} have the same content as a row with another label. One "
                "of the labels must be wrong, or the content does not decide.",
                "note",
            )
        )
    return blocks, {}


def _sizes(evidence: Evidence) -> list[tuple[str, str]]:
    sizes = np.array([content.size for content in evidence.X.contents])
    kind = evidence.X.samples.kind
    if kind == "images":
        distinct = Counter(map(tuple, sizes.tolist()))
        (height, width), n = distinct.most_common(1)[0]
        usual = f"{height} x {width}"
        if len(distinct) > 1:
            low, high = sizes.min(axis=0), sizes.max(axis=0)
            usual = (
                f"{low[0]} x {low[1]} to {high[0]} x {high[1]}; most often {usual} "
                f"({n / len(sizes):.0%})"
            )
        return [("pixels (height x width)", usual)]
    if kind == "texts":
        return [("characters", _range(sizes[:, 0])), ("words", _range(sizes[:, 1]))]
    if kind in ("series", "tokens"):
        channels = [("channels", str(sizes[0, 1]))] if kind == "series" else []
        return [("time steps" if kind == "series" else "tokens", _range(sizes[:, 0])), *channels]
    missing = float(np.mean([content.missing for content in evidence.X.contents]))
    return [("features", _range(sizes[:, 0])), ("missing values", f"{missing:.1%}")]


def _range(values: np.ndarray) -> str:
    if values.min() == values.max():
        return f"{values[0]:,}"
    return f"{values.min():,} to {values.max():,}, median {np.median(values):,.0f}"


def n_copies(evidence: Evidence) -> int:
    """Rows that repeat the content of an earlier one."""
    return len(evidence.copies) - len(np.unique(evidence.copies))


def n_seen(evidence: Evidence) -> int:
    """Rows that also stand among the training rows."""
    if evidence.train is None:
        return 0
    seen = {content.digest for content in evidence.train.contents}
    return sum(content.digest in seen for content in evidence.X.contents)


def rows_at_odds(evidence: Evidence) -> int:
    """Rows whose content stands there with two labels."""
    if evidence.labels.task != "classification":
        return 0
    rows = np.flatnonzero(evidence.labels.is_known)
    pairs = {*zip(evidence.copies[rows].tolist(), evidence.labels.y[rows].tolist(), strict=True)}
    several = {copy for copy, n in Counter(copy for copy, _ in pairs).items() if n > 1}
    return int(np.isin(evidence.copies[rows], [*several]).sum())


def _classes(evidence: Evidence) -> Table:
    assert evidence.labels.classes is not None
    columns = ["class", "rows", "share"]
    codes = evidence.labels.codes(evidence.labels.y[evidence.labels.is_known])
    counts = np.bincount(codes, minlength=len(evidence.labels.classes))
    order = (
        np.argsort(-counts, kind="stable") if len(counts) > _MOST_CLASSES else range(len(counts))
    )
    of_train = None
    if evidence.y_train is not None:
        columns.append("training rows")
        of_train = Counter(evidence.y_train.tolist())
    rows: list[list[Cell]] = []
    for code in [*order][:_MOST_CLASSES]:
        share = counts[code] / counts.sum()
        row: list[Cell] = [
            evidence.labels.name(code),
            f"{counts[code]:,}",
            Bar(f"{share:.1%}", counts[code] / counts.max()),
        ]
        if of_train is not None:
            row.append(f"{of_train[evidence.labels.classes[code].item()]:,}")
        rows.append(row)
    more = len(counts) - len(rows)
    rest = f"; the {more} rarest are not shown" if more else ""
    smallest = counts[counts > 0].min()
    ratio = counts.max() / smallest
    uneven = "" if ratio == 1 else f"; the largest has {ratio:.3g} times the rows of the smallest"
    caption = f"{len(counts)} classes{uneven}{rest}"
    return Table(caption, columns, rows, numeric=(1, 3))


def _single(evidence: Evidence) -> list[Block]:
    """A note on classes that cross-validation cannot both learn and score."""
    counts = np.bincount(evidence.labels.codes(evidence.labels.y[evidence.labels.is_known]))
    n = int((counts == 1).sum())
    if not evidence.is_cross_validated or not n:
        return []
    text = f"{count(n, 'class')} have one row" if n > 1 else "One class has a single row"
    return [Prose(f"{text}: when it is held out there is none to learn from.", "note")]


def _targets(evidence: Evidence) -> Table:
    y = evidence.labels.y[evidence.labels.is_known].reshape(int(evidence.labels.is_known.sum()), -1)
    names = ["y"] if y.shape[1] == 1 else [f"y {i}" for i in range(y.shape[1])]
    quantiles = np.percentile(y.astype(np.float64), [0, 25, 50, 75, 100], axis=0).T
    rows = [
        [name, *map(number, q), number(float(column.mean())), number(float(column.std()))]
        for name, q, column in zip(names, quantiles, y.T, strict=True)
    ][:_MOST_CLASSES]
    columns = ["target", "minimum", "25 %", "median", "75 %", "maximum", "mean", "deviation"]
    return Table("Targets", columns, rows, numeric=tuple(range(1, 8)))


def shift(evidence: Evidence) -> SectionContent:
    """The shift between two domains, and what to try against it."""
    source, target, labels, names = _domains(evidence)
    if min(len(source), len(target)) < _FEWEST:
        raise NotApplicable(
            f"there are {len(source)} and {len(target)} rows; at least {_FEWEST} of each domain "
            "are needed to tell a shift from chance"
        )
    from sktransfer.inspection import EmbeddingDisplay, ShiftDisplay

    domain = np.repeat([1, -1], [len(source), len(target)])
    y = None
    if labels is not None:
        y = np.concatenate([labels, np.repeat(labels[:1], len(target))])
    display = ShiftDisplay.from_features(
        np.concatenate([source, target]),
        sample_domain=domain,
        y=y,
        random_state=evidence.seed,
        ax=scratch_axes(),
    )
    found = display.report
    # The display's own figures stand in a table here, where they can be read on a phone.
    plane = EmbeddingDisplay(
        display.points,
        np.where(display.is_source, "source", "target"),
        method=display.method,
        explained=display.explained,
    )
    blocks: list[Block] = [
        Prose(f"{names[0]} against {names[1]}: {_VERDICTS[found.kind]} Advice: {found.advice}."),
        themed(
            plane.plot,
            size=(7.2, 4.2),
            alt=f"Rows of both domains on a plane of their features; the shift is {found.kind}.",
            caption="Source and target rows on a plane of their features.",
            is_dense=True,
        ),
        Table(
            "Size of the gap",
            ["measure", "value", "meaning"],
            _measures(found),
            numeric=(1,),
            prose=(2,),
        ),
    ]
    if found.class_weight:
        most = max(found.class_weight.values())
        rows: list[list[Cell]] = [
            [evidence.labels.text(label), Bar(number(weight), weight / most)]
            for label, weight in found.class_weight.items()
        ]
        caption = "Share of each class in the target over that in the source, as estimated"
        blocks.append(Table(caption, ["class", "ratio"], rows))
    if any(map(is_tuned, evidence.networks)):
        blocks.append(
            Prose(
                "The network was tuned on labels, and its features tell rows it was tuned on from "
                "others: part of this gap may be that.",
                "note",
            )
        )
    return blocks, {"shift": found.kind}


_VERDICTS = {
    "none": "no gap was found.",
    "label": "a gap was found, and other shares of the classes explain it.",
    "covariate": "a gap was found in the features, which shares of the classes do not explain.",
    "unknown": "a gap was found, of a kind that cannot be told.",
}


def _domains(
    evidence: Evidence,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, tuple[str, str]]:
    """Features of both, labels of the source, and what they are called."""
    is_classification = evidence.labels.task == "classification"
    labels = None
    if evidence.domain is not None:
        features = _features(evidence)
        is_source = evidence.domain[evidence.shown] > 0
        rows = evidence.shown[is_source]
        if is_classification and evidence.labels.is_known[rows].all():
            labels = evidence.labels.y[rows]
        return features[is_source], features[~is_source], labels, ("Source rows", "target rows")
    if evidence.train is not None:
        rows = evidence.drawn(len(evidence.train))
        model = model_of(evidence.model)
        with evidence.caching(model):
            source = features_of(model, evidence.train.take(rows))
        if source is None:
            source = np.asarray(evidence.train.take(rows))
        if is_classification and evidence.y_train is not None:
            labels = evidence.y_train[rows]
        return source, _features(evidence), labels, ("Training rows", "rows of X")
    raise NotApplicable(
        "there is one set of rows. Pass sample_domain (positive for source rows, negative for "
        "target rows), or the training rows as X_train"
    )


def _features(evidence: Evidence) -> np.ndarray:
    if evidence.features is not None:
        return evidence.features
    return np.asarray(evidence.X.take(evidence.shown))


def _measures(found: ShiftReport) -> list[list[Cell]]:
    rows: list[tuple[str, float, str]] = [
        ("p-value", found.pvalue, "of the hypothesis that there is no gap"),
        ("proxy A-distance", found.proxy_a_distance, "0: not to be told apart; 2: without error"),
        ("gap of means", found.mean_gap, "in standard deviations"),
        ("gap of covariances", found.covariance_gap, "over the size of the source's"),
        ("outside support", found.outside_support, "share of target rows; 0.01 without a gap"),
        (
            "effective sample",
            found.effective_sample_share,
            "share of source rows left when weighted like the target",
        ),
        ("squared MMD", found.mmd, "of standardised features, unbiased"),
    ]
    if found.label_pvalue is not None:
        meaning = "of the hypothesis that shares of classes are all of it"
        rows.insert(1, ("p-value of label shift", found.label_pvalue, meaning))
    return [[name, number(value), meaning] for name, value, meaning in rows]


def failed(evidence: Evidence) -> SectionContent:
    """Rows that could not be read, with reasons."""
    failures = evidence.failures
    if not failures:
        raise NotApplicable("every row could be read")
    rows = [
        [
            f"{where}[{each.index}]",
            path_text(each.path) if each.path else "-",
            plain(each.message, 300),
        ]
        for where, each in failures[:_MOST_FAILURES]
    ]
    more = len(failures) - len(rows)
    rest = f"; {more} more are not shown" if more else ""
    n_rows = len(evidence.X.samples) + (
        0 if evidence.train is None else len(evidence.train.samples)
    )
    return [
        Prose("They are left out of everything else in this report."),
        Table(
            f"{len(failures)} of {n_rows:,} rows{rest}",
            ["row", "file", "reason"],
            rows,
            code=(0, 1),
            prose=(2,),
        ),
    ], {}
