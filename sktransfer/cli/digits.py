"""A search over layers of a frozen ImageNet network on scikit-learn's digits, with few labels.

A Pipeline of features, scaler, PCA and a classifier in a GridSearchCV, beside the same search on
raw pixels.
"""

import time
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

from sktransfer.cli.demo import LAYERS, RAW
from sktransfer.features import PretrainedCNNFeatures

HEADS = {
    "LDA": LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    "logistic regression": LogisticRegression(max_iter=2000),
}
GRID = {"pca__n_components": [15, 30], "head": list(HEADS.values())}


def run(n_labels: tuple[int, ...] = (50, 200), n_seeds: int = 5) -> dict[str, Any]:
    """Search with each number of labels on random splits, and score on the other digits.

    The result holds the test accuracy of every candidate, and what GridSearchCV chose on each
    split, ready for JSON; `sktransfer.cli.demo.format_table` makes a table of it.
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
