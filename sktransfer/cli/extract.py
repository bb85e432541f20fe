"""Features of a folder of images, written to a file: ``python -m sktransfer extract``."""

import argparse
import csv
import json
import os
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sktransfer._files import replacing
from sktransfer.cli.options import (
    MIN_IMAGES,
    N_FOLDS,
    add_backbone,
    add_directory,
    add_extraction,
    extractor_of,
    layer_or_stage,
)
from sktransfer.cli.printing import one_line, printable, some, warn

# The rest is imported where it is used: mistakes in a call are told before torch is loaded.
if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

    from sktransfer.features import PretrainedCNNFeatures

_FORMATS = (".parquet", ".csv", ".npy")
_INDEX = ["path", "label", "error"]


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "Features of every image below a folder. With one subfolder per class, and five images "
        "or more in each, every layer is also scored by cross-validation (scaler, PCA, LDA); "
        "files beside the subfolders have no class and do not count there. "
        "Files that cannot be read are listed and become rows of NaN."
    )
    add_directory(command)
    command.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help="features.parquet, .csv, or .npy (with an .index.csv of paths and labels beside it)",
    )
    add_backbone(command)
    command.add_argument(
        "--layer",
        type=layer_or_stage,
        action="append",
        metavar="NAME",
        help="layer to read; repeat for several (default: penultimate)",
    )
    add_extraction(command)


def main(options: argparse.Namespace) -> int:
    """Run the command and return its exit status: 1 if some files failed."""
    output = Path(options.output)
    targets = _targets(output)
    with replacing(*targets) as files:  # before the work, which would be lost without a file
        from sktransfer.datasets import list_images

        paths, labels = list_images(options.directory)
        extractor = extractor_of(
            options,
            backbone=options.backbone,
            weights=options.weights,
            layer=tuple(options.layer or ["penultimate"]),
            on_error="nan",
            verbose=not options.quiet,
        )
        started = time.perf_counter()
        with warnings.catch_warnings():
            # The failures are listed below; any other warning is the user's to see.
            warnings.filterwarnings("ignore", ".*images could not be read", UserWarning)
            features = extractor.fit_transform(paths)
        seconds = time.perf_counter() - started
        errors = {failed.index: failed.message for failed in extractor.errors_}
        names = [str(name) for name in extractor.get_feature_names_out()]
        index = [
            (_utf8(path), _utf8(label), _utf8(errors.get(i, "")))
            for i, (path, label) in enumerate(zip(paths, labels, strict=True))
        ]
        _write(files, output.suffix, index, names, features)

    rows = [i for i, label in enumerate(labels) if label and i not in errors]
    unscored = _why_no_scores(Counter(labels[rows].tolist()))
    scores = {} if unscored else _score_layers(extractor, features[rows], labels[rows])
    notes = _notes(labels, unscored)
    if options.json:
        summary = {
            "output": str(output),
            "images": len(paths),
            "features": features.shape[1],
            "layers": list(extractor.layer_),
            "classes": dict(Counter(labels.tolist())),
            "failed": [{"path": paths[i], "error": message} for i, message in errors.items()],
            "cross_validated_accuracy": scores,
            "warnings": notes,
            "weights_sha256": extractor.weights_sha256_,
            "forwarded": extractor.n_forward_,
            "seconds": round(seconds, 3),
        }
        print(json.dumps(summary, indent=2, allow_nan=False))
    else:
        print(
            f"{len(paths)} images, {features.shape[1]} features -> {printable(output)} "
            f"({seconds:.1f} s)"
        )
        for name, accuracy in scores.items():
            print(f"{printable(name)}: cross-validated accuracy {accuracy:.3f} (scaler, PCA, LDA)")
    for i, message in errors.items():
        print(f"failed: {printable(paths[i])}: {one_line(message)}", file=sys.stderr)
    for note in notes:
        warn(note)
    return 1 if errors else 0


def _write(
    files: list[Path],
    suffix: str,
    index: list[tuple[str, str, str]],
    names: list[str],
    features: "np.ndarray",
) -> None:
    """Write one row per image, in order, in the format of a suffix.

    Parquet and CSV hold the columns path, label, error and the features. A ``.npy`` file holds
    the features alone, and a second file the rest.
    """
    import numpy as np

    if suffix == ".npy":
        with files[0].open("wb") as stream:
            np.save(stream, features)
        _write_csv(files[1], _INDEX, index)
    elif suffix == ".csv":
        rows = ([*start, *row.tolist()] for start, row in zip(index, features, strict=True))
        _write_csv(files[0], [*_INDEX, *names], rows)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns: dict[str, Any] = {
            name: pa.array([row[i] for row in index], pa.string()) for i, name in enumerate(_INDEX)
        }
        columns |= {name: np.ascontiguousarray(features[:, i]) for i, name in enumerate(names)}
        pq.write_table(pa.table(columns), files[0])


def _utf8(text: str) -> str:
    """File names need not be UTF-8, but what is written here is."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _targets(output: Path) -> list[Path]:
    """The files that an output consists of, which must be ours to write."""
    if output.suffix not in _FORMATS:
        raise ValueError(f"--output must end in {', '.join(_FORMATS)}, got {output}")
    if output.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise ImportError(
                'Parquet needs pyarrow: run `pip install "sktransfer[parquet]"`, or write .csv or '
                ".npy"
            ) from error
    if output.suffix != ".npy":
        return [output]
    index = output.with_suffix(".index.csv")
    if index.is_file():
        with index.open(encoding="utf-8", errors="replace") as file:
            header = file.readline().rstrip("\n")
        if header != ",".join(_INDEX):
            raise FileExistsError(
                f"{index} would hold paths and labels of {output.name}, and was not written by "
                "`sktransfer extract`; move it away, or give another --output"
            )
    return [output, index]


def _why_no_scores(classes: Counter[str]) -> str:
    """Why layers cannot be scored by cross-validation, or empty."""
    if len(classes) < 2:
        found = ", ".join(map(repr, classes)) or "none"
        return f"two classes or more, as subfolders with readable images, are needed; found {found}"
    few = [f"{label!r} has {n}" for label, n in classes.items() if n < MIN_IMAGES]
    if few:
        return f"each class needs {MIN_IMAGES} readable images; {some(few)}"
    return ""


def _notes(labels: "np.ndarray", unscored: str) -> list[str]:
    """Warnings about the scores; none if no image has a class."""
    classes = Counter(labels.tolist())
    n_unlabelled = classes.pop("", 0)
    if not classes:
        return []
    if unscored:
        return [f"no cross-validated accuracy: {unscored}"]
    if n_unlabelled:
        return [
            f"files beside the subfolders, {n_unlabelled} of {len(labels)}, have no class and do "
            "not count in the accuracy"
        ]
    return []


def _score_layers(
    extractor: "PretrainedCNNFeatures", features: "np.ndarray", labels: "np.ndarray"
) -> dict[str, float]:
    """Cross-validated accuracy of each layer."""
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=0)
    n_train = len(labels) - -(-len(labels) // N_FOLDS)
    scores = {}
    for name, columns in extractor.feature_slices_.items():
        head = make_pipeline(
            StandardScaler(),
            PCA(min(40, n_train, columns.stop - columns.start), svd_solver="full"),
            LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        )
        scores[name] = float(cross_val_score(head, features[:, columns], labels, cv=folds).mean())
    return scores


def _write_csv(path: Path, header: list[str], rows: "Iterable[Iterable[object]]") -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
