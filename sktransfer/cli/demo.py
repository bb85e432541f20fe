"""The main job on real data: which layer of a frozen ImageNet network knows digits best?

scikit-learn's digits, few labels, a Pipeline of features, scaler, PCA and a classifier
in a GridSearchCV, beside the same search on raw pixels.
"""

import argparse
import json
import os
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, ParameterGrid, StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from sktransfer.cli.printing import printable

LAYERS = ("blocks.2", "blocks.3", "blocks.4", "penultimate")
RAW = "raw pixels"
HEADS = {
    "LDA": LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    "logistic regression": LogisticRegression(max_iter=2000),
}
GRID = {"pca__n_components": [15, 30], "head": list(HEADS.values())}


def run(n_labels: tuple[int, ...] = (50, 200), n_seeds: int = 5) -> dict[str, Any]:
    """Search and score; see `format_table` for the report.

    Parameters
    ----------
    n_labels : tuple of int
        Sizes of the labelled set; the other digits test.
    n_seeds : int
        Random splits for each size.

    Returns
    -------
    dict
        "candidates": mean and standard deviation of the test accuracy of every
        candidate; "searches": what GridSearchCV chose on each split, and its test
        accuracy; "seconds" in all. Plain numbers and strings, ready for JSON.
    """
    started = time.perf_counter()
    digits = load_digits()
    images, y = digits.images / 16, digits.target
    X = {RAW: images.reshape(len(images), -1), **_all_layers(images)}
    scores: dict[tuple[Any, ...], list[float]] = {}
    searches: list[dict[str, Any]] = []
    splits = [(n, seed) for n in n_labels for seed in range(n_seeds)]
    # The classifiers' matrices are tiny: BLAS threads would only get in the network's way.
    with threadpool_limits(1, user_api="blas"):
        for n, seed in tqdm(splits, desc="searching", unit="split"):
            train, test = train_test_split(
                np.arange(len(y)), train_size=n, stratify=y, random_state=seed
            )
            folds = StratifiedKFold(3, shuffle=True, random_state=seed)
            searches.append(_search(images, X[RAW], y, train, test, folds, n, seed))
            for layer, params in [(layer, p) for layer in X for p in ParameterGrid(GRID)]:
                pipeline = _pipeline().set_params(**params)
                accuracy = pipeline.fit(X[layer][train], y[train]).score(X[layer][test], y[test])
                key = (n, layer, _name(params["head"]), params["pca__n_components"])
                scores.setdefault(key, []).append(float(accuracy))
    candidates = [
        {
            "n_labels": n,
            "layer": layer,
            "head": head,
            "n_components": k,
            "accuracy": float(np.mean(values)),
            "std": float(np.std(values)),
            "gain_over_raw_pixels": float(np.mean(values) - np.mean(scores[n, RAW, head, k])),
        }
        for (n, layer, head, k), values in scores.items()
    ]
    return {
        "dataset": "sklearn.datasets.load_digits",
        "backbone": "efficientnet_lite0, 32 x 32 pixels",
        "n_seeds": n_seeds,
        "candidates": candidates,
        "searches": searches,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _pipeline(*first: tuple[str, Any]) -> Pipeline:
    return Pipeline(
        [
            *first,
            ("scale", StandardScaler()),
            ("pca", PCA(svd_solver="full")),
            ("head", HEADS["LDA"]),
        ]
    )


def _all_layers(images: np.ndarray) -> dict[str, np.ndarray]:
    """Features of each layer from one pass, to score every candidate on the test images."""
    from sktransfer.features import PretrainedCNNFeatures  # torch, which a wrong --plot spares

    extractor = PretrainedCNNFeatures(layer=LAYERS, image_size=32)
    features = extractor.fit_transform(images)
    return {layer: features[:, columns] for layer, columns in extractor.feature_slices_.items()}


def _search(
    images: np.ndarray,
    pixels: np.ndarray,
    y: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    folds: StratifiedKFold,
    n: int,
    seed: int,
) -> dict[str, Any]:
    """Grid search on the labelled images alone, and the same without the network."""
    from sktransfer.features import PretrainedCNNFeatures

    pipeline = _pipeline(("features", PretrainedCNNFeatures(image_size=32)))
    with TemporaryDirectory() as memory:
        # The candidates of a layer share the features of each training fold.
        transfer = GridSearchCV(
            pipeline.set_params(memory=memory), {"features__layer": LAYERS, **GRID}, cv=folds
        ).fit(images[train], y[train])
    raw = GridSearchCV(_pipeline(), GRID, cv=folds).fit(pixels[train], y[train])
    return {
        "n_labels": n,
        "seed": seed,
        "layer": transfer.best_params_["features__layer"],
        "n_components": transfer.best_params_["pca__n_components"],
        "head": _name(transfer.best_params_["head"]),
        "accuracy": float(transfer.score(images[test], y[test])),
        "raw_pixels_accuracy": float(raw.score(pixels[test], y[test])),
    }


def _name(head: Any) -> str:
    return next(name for name, known in HEADS.items() if type(known) is type(head))


def format_table(report: dict[str, Any]) -> str:
    """The report as text: every candidate, then what the search chose."""
    sizes = sorted({c["n_labels"] for c in report["candidates"]})
    lines = [
        f"{report['dataset']}, {report['backbone']}: test accuracy, mean of "
        f"{report['n_seeds']} splits, and gain over raw pixels with the same head",
        "",
        f"{'layer':<12} {'head':<20} {'PCA':>4}"
        + "".join(f"{f'{n} labels':>12} {'gain':>6}" for n in sizes),
    ]
    rows: dict[tuple[Any, ...], dict[int, dict[str, Any]]] = {}
    for c in report["candidates"]:
        rows.setdefault((c["layer"], c["head"], c["n_components"]), {})[c["n_labels"]] = c
    for (layer, head, k), cells in rows.items():
        line = f"{layer:<12} {head:<20} {k:>4}"
        for n in sizes:
            gain = "" if layer == RAW else f"{cells[n]['gain_over_raw_pixels']:+.3f}"
            line += f"{cells[n]['accuracy']:>12.3f} {gain:>6}"
        lines.append(line)
    lines.append("")
    for n in sizes:
        found = [s for s in report["searches"] if s["n_labels"] == n]
        chosen = Counter(s["layer"] for s in found).most_common()
        votes = ", ".join(f"{layer} ({count} of {len(found)} splits)" for layer, count in chosen)
        accuracy, raw = (
            np.mean([s[key] for s in found]) for key in ("accuracy", "raw_pixels_accuracy")
        )
        lines.append(
            f"{n} labels: GridSearchCV chose {votes}: accuracy {accuracy:.3f}, "
            f"raw pixels searched alike {raw:.3f}"
        )
    lines.append(f"{report['seconds']} seconds")
    return "\n".join(lines)


def save_plot(report: dict[str, Any], path: str) -> None:
    """Accuracy by layer, best candidate of each, beside raw pixels."""
    from matplotlib.figure import Figure

    sizes = sorted({c["n_labels"] for c in report["candidates"]})
    figure = Figure(figsize=(4.6 * len(sizes), 3.8), layout="constrained")
    axes = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for ax, n in zip(axes, sizes, strict=True):
        best = {
            layer: max(
                c["accuracy"]
                for c in report["candidates"]
                if c["n_labels"] == n and c["layer"] == layer
            )
            for layer in (RAW, *LAYERS)
        }
        ax.axhline(best[RAW], color="0.4", linestyle="--", label=RAW)
        ax.plot(LAYERS, [best[layer] for layer in LAYERS], marker="o", label="frozen features")
        ax.set_title(f"{n} labels")
        ax.set_xlabel("layer, shallow to deep")
        ax.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("test accuracy")
    axes[0].legend()
    figure.suptitle("Digits from a frozen ImageNet network: the layer decides")
    figure.savefig(path, dpi=150)


def main(options: argparse.Namespace) -> int:
    """Run, print, plot if matplotlib is there; the exit status is 0."""
    _check_plot(options.plot)
    report = run(n_seeds=options.seeds)
    try:
        save_plot(report, options.plot)
        report["plot"] = options.plot
    except ImportError:
        report["plot"] = None
    if options.json:
        print(json.dumps(report, indent=2))
        return 0
    print(format_table(report))
    if report["plot"]:
        print(f"plot: {printable(options.plot)}")
    else:
        print('no plot: matplotlib is not installed; `pip install "sktransfer[plot]"` brings it')
    return 0


def _check_plot(plot: str) -> None:
    """Find out before the long work what would go wrong after it."""
    path = Path(plot).absolute()
    if not path.parent.is_dir():
        raise ValueError(f"the folder of --plot {plot} does not exist; create it first")
    if path.is_dir():
        raise ValueError(f"--plot {plot} is a directory; give the name of a file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise PermissionError(f"--plot {plot} cannot be written; choose another place")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    known = Figure().canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".") not in known:
        raise ValueError(f"--plot must end in one of {', '.join(known)}, got {plot}")
