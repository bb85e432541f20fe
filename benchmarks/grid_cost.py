"""Measure the cost of a grid search with a feature store and in other ways.

The search: 4 layers x 2 poolings x 4 heads x 5 folds on scikit-learn's 1,797 digits,
Pipeline(features, StandardScaler, PCA(30), head), without refit. The contestants:

    store         cache= a fresh feature store
    memory        Pipeline(memory=) in a fresh folder: each candidate's test fold runs again
    neither       the plain search: each candidate runs all images again
    heads only    the search over heads alone, summed over the eight ready feature matrices
    one pass      a cold fit_transform into a fresh store
    new process   the search once more with the first one's store, in a fresh interpreter
    two workers   n_jobs=2 and a fresh store; the workers start and load the network anew

Rounds are interleaved; `memory` and `neither` take part in the first ones only, if at all, as
they are slow. The network is loaded and compiled before. The store counts the passes per image. An
independent check follows: the searches once more with a small
network that itself counts the images it is given (by torch, as a compiled net runs no
Python).

Targets: memory / store >= 20; store / (heads only + one pass) <= 1.15; passes per image 1.00,
with two workers <= 1.02, in a new process 0.
"""

import argparse
import json
import os
import statistics
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import (
    disturbance,
    in_fresh_process,
    parser,
    ratio,
    timed,
    timed_watching,
    write_result,
)
from _counting import COUNT_FILE, CountingCNN
from joblib.externals.loky import get_reusable_executor
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from sktransfer import FeatureStore, PretrainedCNNFeatures

HEADS = [
    LogisticRegression(C=0.01),
    LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    GaussianNB(),
    KNeighborsClassifier(),
]


class Search:
    """The same search, to be run in several ways; ``counting`` takes the small network."""

    def __init__(self, options: argparse.Namespace, *, counting: bool = False) -> None:
        digits = load_digits()
        n_images, n_values, self.folds = (150, 2, 2) if options.quick else (1797, 4, 5)
        self.images, self.labels = digits.images[:n_images] / 16, digits.target[:n_images]
        layers = [0, 1, 2, 3] if counting else ["blocks.2", "blocks.3", "blocks.4", "penultimate"]
        self.heads, self.layers, self.poolings = (
            HEADS[:n_values],
            layers[-n_values:],
            ["mean", "max"],
        )
        self.how: dict[str, Any] = {"image_size": options.image_size, "engine": options.engine}
        if counting:
            self.how |= {"backbone": CountingCNN, "random_state": 0, "engine": "torch"}

    def extract(self, **parameters: Any) -> np.ndarray:
        return PretrainedCNNFeatures(**self.how, **parameters).fit_transform(self.images)

    def run(
        self, cache: Path | None = None, *, memory: Path | None = None, n_jobs: int = 1
    ) -> np.ndarray:
        """Mean accuracy of every candidate."""
        store = FeatureStore(cache) if cache else None
        features = PretrainedCNNFeatures(**self.how, cache=store)
        pipeline = Pipeline([("features", features), *tail()], memory=memory and str(memory))
        grid = {
            "features__layer": self.layers,
            "features__pooling": self.poolings,
            "head": self.heads,
        }
        if n_jobs > 1:  # no workers that an earlier round has warmed up
            get_reusable_executor().shutdown(wait=True)
        search = GridSearchCV(pipeline, grid, cv=self.folds, n_jobs=n_jobs, refit=False)
        return search.fit(self.images, self.labels).cv_results_["mean_test_score"]

    def run_heads(self, matrices: list[np.ndarray]) -> None:
        for matrix in matrices:
            grid = {"head": self.heads}
            search = GridSearchCV(Pipeline(tail()), grid, cv=self.folds, refit=False)
            search.fit(matrix, self.labels)


def tail() -> list[tuple[str, Any]]:
    pca = PCA(30, random_state=0)
    return [("scale", StandardScaler()), ("pca", pca), ("head", GaussianNB())]


def forwarded(folder: Path) -> int:
    """Images that went through the network for a store."""
    return sum(group["n_forward"] for group in FeatureStore(folder).info()["namespaces"])


def measure(search: Search, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds and passes per image of every round."""
    names = ("store", "memory", "neither", "heads only", "one pass", "new process", "two workers")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    passes: dict[str, list[float]] = {name: [] for name in ("store", "new process", "two workers")}
    n, difference = len(search.images), 0.0
    others: list[float] = []
    matrices = [
        search.extract(layer=layer, pooling=pooling)
        for layer, pooling in product(search.layers, search.poolings)
    ]
    for number in range(options.rounds):
        store, other, third = (folder / f"{name}-{number}" for name in ("store", "pass", "two"))
        took: dict[str, float] = {}
        took["one pass"], _, busy_pass = timed_watching(
            lambda path=other: search.extract(cache=FeatureStore(path))
        )
        took["store"], scores, busy_store = timed_watching(lambda path=store: search.run(path))
        passes["store"].append(forwarded(store) / n)
        took["heads only"], _, busy_heads = timed_watching(lambda: search.run_heads(matrices))
        others += [busy_pass, busy_store, busy_heads]

        again = ("--again", store, "--engine", options.engine, "--threads", options.threads)
        again += ("--image-size", options.image_size)
        told = in_fresh_process(__file__, *again, *(["--quick"] if options.quick else []))
        took["new process"], again_scores = told["seconds"], told["scores"]
        passes["new process"].append(forwarded(store) / n - passes["store"][-1])

        took["two workers"], workers_scores = timed(lambda path=third: search.run(path, n_jobs=2))
        passes["two workers"].append(forwarded(third) / n)
        compared = [again_scores, workers_scores]
        if number < options.memory_rounds:
            memory = folder / f"memory-{number}"
            took["memory"], memory_scores, busy = timed_watching(
                lambda path=memory: search.run(memory=path)
            )
            others.append(busy)
            compared.append(memory_scores)
        if number < options.plain_rounds:
            took["neither"], plain_scores = timed(search.run)
            compared.append(plain_scores)
        difference = max(difference, *(float(np.abs(c - scores).max()) for c in compared))
        for name, value in took.items():
            seconds[name].append(value)
        print(f"round {number + 1}: {', '.join(f'{k} {v:.1f} s' for k, v in took.items())}")
    result = {"seconds": seconds, "passes_per_image": passes}
    result["others"] = disturbance(others)
    return {**result, "largest_difference_of_accuracy": difference}


def count(search: Search, folder: Path) -> dict[str, float]:
    """Images that the network itself has seen in four of the searches, per image of X."""
    ways: dict[str, dict[str, Any]] = {
        "store": {"cache": folder / "counted"},
        "same store again": {"cache": folder / "counted"},
        "two workers": {"cache": folder / "counted-two", "n_jobs": 2},
        "memory": {"memory": folder / "counted-memory"},
    }
    counted = {}
    for name, way in ways.items():
        file = folder / f"count {name}"
        os.environ[COUNT_FILE] = str(file)
        search.run(**way)
        counted[name] = sum(map(int, file.read_text().split())) / len(search.images)
    return counted


def main() -> None:
    options_of = parser(__doc__, rounds=3)
    options_of.add_argument("--memory-rounds", type=int, default=1, help="0 leaves it out")
    options_of.add_argument("--plain-rounds", type=int, default=0, help="of neither")
    options_of.add_argument("--engine", default="auto")
    options_of.add_argument("--image-size", type=int, default=32)
    options_of.add_argument("--again", type=Path, help=argparse.SUPPRESS)
    options = options_of.parse_args()
    if options.quick:
        options.rounds = 1
    torch.set_num_threads(options.threads)
    search = Search(options)
    # The classifiers' matrices are tiny: BLAS threads would only get in each other's way.
    with threadpool_limits(1, user_api="blas"):
        if options.again:
            seconds, scores = timed(lambda: search.run(options.again))
            print(json.dumps({"seconds": seconds, "scores": scores.tolist()}))
            return
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            first_use, _ = timed(lambda: search.extract(cache=FeatureStore(folder / "first")))
            result = measure(search, options, folder)
            counted = count(Search(options, counting=True), folder)

    seconds, passes = result["seconds"], result["passes_per_image"]
    print(f"\n{'':<14} {'median s':>9} {'most passes per image':>22}")
    for name, values in filter(lambda item: item[1], seconds.items()):
        seen = f"{max(passes[name]):>22.3f}" if name in passes else ""
        print(f"{name:<14} {statistics.median(values):>9.2f} {seen}")
    floor = [a + b for a, b in zip(seconds["heads only"], seconds["one pass"], strict=True)]
    ratios = {"store / (heads only + one pass)": ratio(seconds["store"], floor)}
    for name in ("memory", "neither"):
        if seconds[name]:
            ratios[f"{name} / store"] = ratio(seconds[name], seconds["store"])
    for name, value in ratios.items():
        print(f"{name}: {value['paired']:.2f} ({value['least']:.2f} to {value['most']:.2f})")
    print("passes per image as a network itself counted them:")
    print("   " + ", ".join(f"{name} {value:.3f}" for name, value in counted.items()))
    print(f"largest difference of an accuracy: {result['largest_difference_of_accuracy']:.4f}")
    others = result["others"]
    print(f"others had {others['median']:.0%} of the machine, {others['most']:.0%} at most")
    print(f"before all this, one pass with loading and compiling the network: {first_use:.1f} s")
    if not options.quick:
        found = {"engine": options.engine, "threads": options.threads, "rounds": options.rounds}
        found |= {**result, "ratios": ratios, "counted_by_network": counted}
        size = options.image_size
        name = "grid_cost" if size == 32 else f"grid_cost_{size}"
        write_result(name, {**found, "first_use_seconds": first_use})


if __name__ == "__main__":
    main()
