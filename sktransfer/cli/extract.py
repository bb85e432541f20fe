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

from sktransfer.cli.printing import one_line, printable, some, warn

# The rest is imported where it is used: mistakes in a call are told before torch is loaded.
if TYPE_CHECKING:
    import numpy as np

    from sktransfer.features import PretrainedCNNFeatures

_FORMATS = (".parquet", ".csv", ".npy")
_N_FOLDS = 5
_INDEX = ["path", "label", "error"]


def main(options: argparse.Namespace) -> int:
    """Run the command and return its exit status: 1 if some files failed."""
    output = Path(options.output)
    _check_output(output)
    partial = output.with_name(f"{output.name}.{os.getpid()}.part")
    partial.open("xb").close()  # is it allowed? Better to know before the work
    try:
        return _run(options, output, partial)
    finally:
        partial.unlink(missing_ok=True)


def _run(options: argparse.Namespace, output: Path, partial: Path) -> int:
    from sktransfer.datasets import list_images

    paths, labels = list_images(options.directory)
    layers = tuple(layers_of(options))
    extractor = extractor_of(
        options,
        backbone=options.backbone,
        weights=options.weights,
        layer=layers,
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
    _write_features(partial, output, index, names, features)
    os.replace(partial, output)

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
        for layer, accuracy in scores.items():
            print(f"{printable(layer)}: cross-validated accuracy {accuracy:.3f} (scaler, PCA, LDA)")
    for i, message in errors.items():
        print(f"failed: {printable(paths[i])}: {one_line(message)}", file=sys.stderr)
    for note in notes:
        warn(note)
    return 1 if errors else 0


def layers_of(options: argparse.Namespace) -> list[str | int]:
    """What ``--layer`` named, numbers as numbers."""
    return [
        int(layer) if layer.removeprefix("-").isdecimal() else layer
        for layer in options.layer or ["penultimate"]
    ]


def extractor_of(options: argparse.Namespace, **parameters: Any) -> "PretrainedCNNFeatures":
    """The transformer that a command line asks for; what cannot be read becomes NaN."""
    from sktransfer.features import PretrainedCNNFeatures

    return PretrainedCNNFeatures(
        pooling=options.pooling,
        image_size=options.image_size,
        batch_size=options.batch_size,
        device=options.device,
        engine=options.engine,
        precision=options.precision,
        cache=options.cache,
        fast_decode=options.fast_decode,
        on_error="nan",
        **parameters,
    )


def _write_features(
    file: Path,
    output: Path,
    index: list[tuple[str, str, str]],
    names: list[str],
    features: "np.ndarray",
) -> None:
    """Write one row per image, in order, to `file`, in the format of `output`.

    Parquet and CSV hold the columns path, label, error and the features. A ``.npy``
    file holds the features alone, and ``<name>.index.csv`` beside it the rest.
    """
    import numpy as np

    if output.suffix == ".npy":
        with file.open("wb") as stream:
            np.save(stream, features)
        _write_csv(output.with_suffix(".index.csv"), _INDEX, index)
    elif output.suffix == ".csv":
        rows = ([*start, *row.tolist()] for start, row in zip(index, features, strict=True))
        _write_csv(file, [*_INDEX, *names], rows)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns: dict[str, Any] = {
            name: pa.array([row[i] for row in index], pa.string()) for i, name in enumerate(_INDEX)
        }
        columns |= {name: np.ascontiguousarray(features[:, i]) for i, name in enumerate(names)}
        pq.write_table(pa.table(columns), file)


def _utf8(text: str) -> str:
    """File names need not be UTF-8, but what is written here is."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _check_output(output: Path) -> None:
    """Find out before the long work what would go wrong after it."""
    if output.suffix not in _FORMATS:
        raise ValueError(f"--output must end in {', '.join(_FORMATS)}, got {output}")
    if not output.absolute().parent.is_dir():
        raise ValueError(f"the folder of --output {output} does not exist; create it first")
    if output.is_dir():
        raise ValueError(f"--output {output} is a directory; give the name of a file")
    if output.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise ImportError(
                'Parquet needs pyarrow: run `pip install "sktransfer[parquet]"`, or write .csv or '
                ".npy"
            ) from error


def _why_no_scores(classes: Counter[str]) -> str:
    """Why layers cannot be scored by cross-validation, or empty."""
    if len(classes) < 2:
        found = ", ".join(map(repr, classes)) or "none"
        return f"two classes or more, as subfolders with readable images, are needed; found {found}"
    few = [f"{label!r} has {n}" for label, n in classes.items() if n < _N_FOLDS]
    if few:
        return f"each class needs {_N_FOLDS} readable images; {some(few)}"
    return ""


def _notes(labels: "np.ndarray", unscored: str) -> list[str]:
    """What to tell about the scores; nothing if the folder has no classes and wants none."""
    classes = Counter(labels.tolist())
    loose = classes.pop("", 0)
    if not classes:
        return []
    if unscored:
        return [f"no cross-validated accuracy: {unscored}"]
    if loose:
        return [
            f"files beside the subfolders, {loose} of {len(labels)}, have no class and do not "
            "count in the accuracy"
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

    folds = StratifiedKFold(_N_FOLDS, shuffle=True, random_state=0)
    n_train = len(labels) - -(-len(labels) // _N_FOLDS)
    scores = {}
    for layer, columns in extractor.feature_slices_.items():
        head = make_pipeline(
            StandardScaler(),
            PCA(min(40, n_train, columns.stop - columns.start), svd_solver="full"),
            LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        )
        scores[layer] = float(cross_val_score(head, features[:, columns], labels, cv=folds).mean())
    return scores


def _write_csv(path: Path, header: list[str], rows: Any) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
