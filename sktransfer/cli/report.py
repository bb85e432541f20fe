"""A report on a folder of images: ``python -m sktransfer report``."""

import argparse
import json
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sktransfer._files import check_writable
from sktransfer.cli.folder import labelled_images, left_out_text
from sktransfer.cli.options import (
    N_FOLDS,
    add_backbone,
    add_directory,
    add_extraction,
    at_least,
    extractor_of,
    layer_or_stage,
)
from sktransfer.cli.printing import one_line, printable, some, warn

if TYPE_CHECKING:
    import numpy as np
    from sklearn.pipeline import Pipeline

    from sktransfer.features import PretrainedCNNFeatures


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "What a pretrained network is worth on a folder of images with one subfolder per class, as "
        "one HTML file: a layer of the network, a scaler and logistic regression, scored by "
        "cross-validation. Files that cannot be read are listed and left out, as are files beside "
        "the subfolders, which have no class."
    )
    add_directory(command)
    command.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="such as report.html"
    )
    add_backbone(command)
    command.add_argument(
        "--layer",
        type=layer_or_stage,
        default="auto",
        metavar="NAME",
        help="layer to read; 'auto' chooses by the labels of each fold (default: auto)",
    )
    add_extraction(command)
    command.add_argument(
        "--folds",
        type=at_least(2),
        default=N_FOLDS,
        metavar="N",
        help="folds (default: %(default)s)",
    )
    command.add_argument("--title", metavar="TEXT", help="default: the name of the folder")


def main(options: argparse.Namespace) -> int:
    """Run the command and return its exit status: 1 if some files or sections failed."""
    output = Path(options.output)
    if output.suffix not in (".html", ".htm"):
        raise ValueError(f"--output must end in .html, got {output}")
    check_writable(output)
    paths, labels, left_out = labelled_images(options.directory)
    _check_classes(options.directory, paths, labels)
    if left_out:
        warn(left_out_text(left_out))

    from sktransfer.inspection import TransferReport

    pipeline = _pipeline(options)
    _check_network(pipeline.named_steps["features"], paths)
    started = time.perf_counter()
    report = TransferReport(
        pipeline,
        paths,
        labels,
        cv=options.folds,
        title=options.title or Path(options.directory).resolve().name,
        verbose=not options.quiet,
    )
    with warnings.catch_warnings():
        # Said below, where all that failed is listed.
        warnings.filterwarnings("ignore", "the section .* of the report failed", UserWarning)
        if options.quiet:
            _ignore_warnings_for_developers()
        report.to_html(output)
    summary = {"output": str(output), **report.summary(), "left_out": left_out}
    summary["seconds"] = round(time.perf_counter() - started, 3)
    if options.json:
        print(json.dumps(summary, indent=2, allow_nan=False))
    else:
        _print(summary)
    for failure in summary["failed"]:
        text = f"{printable(failure['path'])}: {one_line(failure['error'])}"
        print(f"failed: {text}", file=sys.stderr)
    for name in summary["sections_failed"]:
        print(f"section failed: {name}; the report says why", file=sys.stderr)
    return 1 if left_out or summary["failed"] or summary["sections_failed"] else 0


def _ignore_warnings_for_developers() -> None:
    """Ignore warnings that are for developers, and that a solver stopped early."""
    from sklearn.exceptions import ConvergenceWarning

    for category in (ConvergenceWarning, FutureWarning, DeprecationWarning, RuntimeWarning):
        warnings.simplefilter("ignore", category)


def _pipeline(options: argparse.Namespace) -> "Pipeline":
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    features = extractor_of(
        options, backbone=options.backbone, weights=options.weights, layer=options.layer
    )
    head = LogisticRegression(C=0.1, max_iter=1000)
    return Pipeline([("features", features), ("scaler", StandardScaler()), ("head", head)])


def _check_network(features: "PretrainedCNNFeatures", paths: "np.ndarray") -> None:
    """Have what is wrong with the options raise before the work, not in every section."""
    from sklearn.base import clone

    layer = "penultimate" if features.layer == "auto" else features.layer
    clone(features).set_params(layer=layer, on_error="nan").fit(paths)


def _check_classes(directory: str, paths: "np.ndarray", labels: "np.ndarray") -> None:
    counts = Counter(labels.tolist())
    if len(counts) < 2:
        raise ValueError(
            f"{directory} must hold one subfolder of images per class, two at least; found "
            f"{len(counts)}. `sktransfer extract` needs no classes"
        )
    single = [path for path, label in zip(paths, labels, strict=True) if counts[label] < 2]
    if single:
        raise ValueError(
            "each class must have two images at least, to learn from one and predict the other; "
            f"alone in their class: {some(single)}. Add images there, or move these elsewhere"
        )


def _print(summary: dict[str, Any]) -> None:
    n_failed = len(summary["failed"])
    print(
        f"{summary['rows']} images, {len(summary['classes'])} classes, {n_failed} failed -> "
        f"{printable(summary['output'])} ({summary['seconds']:.1f} s)"
    )
    for name, score in summary["scores"].items():
        interval = ""
        if score["interval"]:
            interval = " (95 % interval {:.3f} to {:.3f})".format(*score["interval"])
        print(f"{name}: {score['value']:.3f}{interval}")
    if summary["best_layer"]:
        print(f"best layer by probe: {printable(summary['best_layer'])}")
