"""A report on a folder of images: ``python -m sktransfer report``."""

import argparse
import json
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from sktransfer.cli.printing import one_line, printable, some, warn

_FOLDS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes, beside ``--json``, which all commands take.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    """
    parser.description = (
        "What a pretrained network is worth on a folder of images with one subfolder per class, as "
        "one HTML file: a layer of the network, a scaler and logistic regression, scored by "
        "cross-validation. Files that cannot be read are listed and left out, as are files beside "
        "the subfolders, which have no class."
    )
    parser.add_argument("directory", help="folder of images, one subfolder per class")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="such as report.html")
    parser.add_argument("--backbone", default="efficientnet_lite0", metavar="NAME")
    parser.add_argument(
        "--weights", default="default", metavar="FILE", help="'default', 'random' or a path"
    )
    parser.add_argument(
        "--layer",
        default="auto",
        metavar="NAME",
        help="layer to read; 'auto' chooses by the labels of each fold (default: auto)",
    )
    parser.add_argument("--pooling", default="avg", metavar="KIND")
    parser.add_argument("--image-size", type=int, metavar="PIXELS")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--engine", default="auto", help="auto, torch or openvino")
    parser.add_argument(
        "--cache", metavar="FOLDER", help="feature store: what is in it is not computed again"
    )
    parser.add_argument(
        "--folds", type=int, default=_FOLDS, metavar="N", help="folds (default: %(default)s)"
    )
    parser.add_argument("--title", metavar="TEXT", help="default: the name of the folder")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def main(options: argparse.Namespace) -> int:
    """Run the command and return its exit status: 1 if some files or sections failed."""
    output = Path(options.output)
    if output.suffix not in (".html", ".htm"):
        raise ValueError(f"--output must end in .html, got {output}")
    if not output.absolute().parent.is_dir():
        raise ValueError(f"the folder of --output {output} does not exist; create it first")

    from sktransfer.datasets import list_images
    from sktransfer.inspection import TransferReport

    paths, labels = list_images(options.directory)
    loose = paths[labels == ""].tolist()
    paths, labels = paths[labels != ""], labels[labels != ""]
    _check_classes(options.directory, paths, labels, options.folds)
    if loose:
        warn(f"files beside the subfolders have no class and are left out: {some(loose)}")
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
            _only_what_matters()
        report.to_html(output)
    summary = {"output": str(output), **report.summary(), "left_out": loose}
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
    return 1 if loose or summary["failed"] or summary["sections_failed"] else 0


def _only_what_matters() -> None:
    """Pass over what is for developers, and that a solver stopped early."""
    from sklearn.exceptions import ConvergenceWarning

    for category in (ConvergenceWarning, FutureWarning, DeprecationWarning, RuntimeWarning):
        warnings.simplefilter("ignore", category)


def _pipeline(options: argparse.Namespace) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    from sktransfer.features import PretrainedCNNFeatures

    layer = options.layer
    features = PretrainedCNNFeatures(
        options.backbone,
        weights=options.weights,
        layer=int(layer) if layer.removeprefix("-").isdecimal() else layer,
        pooling=options.pooling,
        image_size=options.image_size,
        batch_size=options.batch_size,
        device=options.device,
        engine=options.engine,
        cache=options.cache,
    )
    head = LogisticRegression(C=0.1, max_iter=1000)
    return Pipeline([("features", features), ("scaler", StandardScaler()), ("head", head)])


def _check_network(features: Any, paths: Any) -> None:
    """Have what is wrong with the options raise before the work, not in every section."""
    from sklearn.base import clone

    layer = "penultimate" if features.layer == "auto" else features.layer
    clone(features).set_params(layer=layer, on_error="nan").fit(paths)


def _check_classes(directory: str, paths: Any, labels: Any, n_folds: int) -> None:
    counts = Counter(labels.tolist())
    if len(counts) < 2:
        raise ValueError(
            f"{directory} must hold one subfolder of images per class, two at least; found "
            f"{len(counts)}. `sktransfer extract` needs no classes"
        )
    if n_folds < 2:
        raise ValueError(f"--folds must be at least 2, got {n_folds}")
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
