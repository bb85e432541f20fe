"""Compare the speed of two checkouts of the package, such as before and after a change.

    python two_checkouts.py ../other-checkout

Each case runs in a fresh process per round and checkout, which take turns; the time is measured in
the process, after the network has been loaded and has run once. Ratios are of medians, this
checkout over the other: below 1 is faster.

    search        GridSearchCV over 4 layers x 2 heads x 3 folds on digits, with a fresh store
    warm search   the same once more, with the store it has filled
    images        transform of 64 images of 224 pixels, efficientnet_lite0, by each engine
    series        transform of 400 series of 16 to 512 steps, without and with a fresh store
    texts         transform of 300 summaries, by each engine
    store         20,000 vectors of 1,280 written and read
    head          fine-tuning of the head for 3 epochs on 600 digits
    last stage    of the last stage
    all           of the whole network, 1 epoch
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _common import write_result

Case = Callable[[], Iterator[tuple[str, Callable[[], Any]]]]


def timed_cases() -> dict[str, Case]:
    """The cases; each yields what is to be timed, after it has warmed up."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    import sktransfer
    from sktransfer.datasets import load_scipy_summaries

    digits = load_digits()
    rng = np.random.default_rng(0)

    def search() -> Iterator[tuple[str, Callable[[], Any]]]:
        X, y = digits.images / 16, digits.target
        with tempfile.TemporaryDirectory() as folder:
            features = sktransfer.PretrainedCNNFeatures(image_size=32, cache=folder)
            sktransfer.PretrainedCNNFeatures(image_size=32).fit_transform(X[:8])
            pipeline = make_pipeline(features, StandardScaler(), LogisticRegression())
            grid = {
                "pretrainedcnnfeatures__layer": ["blocks.2", "blocks.3", "blocks.4", "penultimate"],
                "logisticregression": [RidgeClassifier(), RidgeClassifier(10.0)],
            }
            run = GridSearchCV(pipeline, grid, cv=3, refit=False)
            yield "search", lambda: run.fit(X, y)
            yield "warm search", lambda: run.fit(X, y)

    def images() -> Iterator[tuple[str, Callable[[], Any]]]:
        pictures = rng.integers(0, 256, (64, 256, 256, 3), dtype=np.uint8)
        for engine in ("openvino", "torch"):
            features = sktransfer.PretrainedCNNFeatures(engine=engine).fit(pictures)
            features.transform(pictures[:8])
            yield f"images, {engine}", lambda f=features: f.transform(pictures)

    def series() -> Iterator[tuple[str, Callable[[], Any]]]:
        lengths = np.exp(rng.uniform(np.log(16), np.log(512), 400)).astype(int)
        walks = [rng.normal(size=n).cumsum() for n in lengths]
        features = sktransfer.RNNSequenceFeatures().fit(walks)
        features.transform(walks[:8])
        yield "series", lambda: features.transform(walks)
        with tempfile.TemporaryDirectory() as folder:
            stored = sktransfer.RNNSequenceFeatures(cache=folder).fit(walks)
            yield "series, cold store", lambda: stored.transform(walks)
            yield "series, warm store", lambda: stored.transform(walks)

    def texts() -> Iterator[tuple[str, Callable[[], Any]]]:
        summaries = load_scipy_summaries().data[:300]
        for engine in ("openvino", "torch"):
            features = sktransfer.PretrainedTextFeatures(engine=engine).fit(summaries)
            features.transform(summaries[:8])
            yield f"texts, {engine}", lambda f=features: f.transform(summaries)

    def store() -> Iterator[tuple[str, Callable[[], Any]]]:
        keys = [i.to_bytes(32, "big") for i in range(20_000)]
        vectors = rng.normal(size=(len(keys), 1280)).astype(np.float32)
        with tempfile.TemporaryDirectory() as folder:
            made = sktransfer.FeatureStore(folder, memory_bytes=0)
            yield "store, write", lambda: made.put("n", keys, {"b": vectors})
            yield "store, read", lambda: made.get("n", "b", keys, 1280)

    def finetuning() -> Iterator[tuple[str, Callable[[], Any]]]:
        X, y = digits.images[:600] / 16, digits.target[:600]
        features = sktransfer.PretrainedCNNFeatures(image_size=32, layer="blocks.3", engine="torch")
        features.fit_transform(X[:8])
        for name, unfreeze, epochs in (
            ("head", "head", 3),
            ("last stage", 1, 3),
            ("all", "all", 1),
        ):
            strategy = sktransfer.FineTune(unfreeze, epochs=epochs, early_stopping=False)
            if "guard" in strategy.get_params():  # which earlier versions had not
                strategy.set_params(guard=False)
            classifier = sktransfer.FineTunedClassifier(features, strategy=strategy, random_state=0)
            yield name, lambda c=classifier: c.fit(X, y)

    return {
        "search": search,
        "images": images,
        "series": series,
        "texts": texts,
        "store": store,
        "finetuning": finetuning,
    }


def measure(name: str) -> None:
    """Time a case of the checkout that is first on the path, and print the seconds."""
    warnings.simplefilter("ignore")
    seconds = {}
    for label, run in timed_cases()[name]():
        start = time.perf_counter()
        run()
        seconds[label] = time.perf_counter() - start
    print(json.dumps(seconds))


def run_in(checkout: Path, name: str) -> dict[str, float]:
    """Seconds of a case in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", name],
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} fails in {checkout}:\n{done.stderr[-2000:]}")
    seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def main() -> None:
    """Run all cases in turn, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, nargs="?", help="folder of the other checkout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", default=list(_CASES), choices=_CASES)
    parser.add_argument("--measure", choices=_CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return
    checkouts = {"this": Path(__file__).parents[1], "other": options.other.resolve()}
    found: dict[str, dict[str, list[float]]] = {}
    for name in options.cases:
        for _ in range(options.rounds):
            for which, checkout in checkouts.items():
                for label, seconds in run_in(checkout, name).items():
                    found.setdefault(label, {"this": [], "other": []})[which].append(seconds)
    result = {}
    for label, of in found.items():
        this, other = statistics.median(of["this"]), statistics.median(of["other"])
        rounds = [a / b for a, b in zip(of["this"], of["other"], strict=True)]
        result[label] = {"this": this, "other": other, "ratio": this / other, "rounds": rounds}
        print(f"{label:20} {this:8.3f} s {other:8.3f} s   {this / other:.2f}", flush=True)
    write_result("two_checkouts", result)


_CASES = ("search", "images", "series", "texts", "store", "finetuning")

if __name__ == "__main__":
    main()
