"""Compare transferability metrics of networks and layers with accuracies of trained heads.

    python ranking.py measured     EfficientNet-Lite0, 1 and 2, all their layers, three data sets
    python ranking.py published    the tables of tllib, correlations computed again

Agreement is the weighted Kendall tau of scores and accuracies, as in tllib. Measured: the
candidates are all layers of three networks at 32 pixels, 24 in all, given to `rank_backbones` with
one feature store and each metric; the labelled images are drawn by a seed, and all others test
StandardScaler and LogisticRegression, trained on the same labelled ones. "Lost" is how much less
accurate the candidate with the highest score is than the best of all. Two other
scores are shown: the number of features, and the three-fold accuracy of the head itself, which the
metrics should replace. Seconds are of scoring all candidates once, their features given.

Published: accuracies after fine-tuning ten networks and the scores of four metrics, in the eight
tables of tllib's examples/model_selection/README.md (github.com/thuml/Transfer-Learning-Library,
commit 56ccfd74), with the tau that stands below each.
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import parser, write_result
from auto_layer import HEADS, MOST, Pool, all_layers, estimator, pools
from finetuning import DATA
from scipy.stats import weightedtau
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.preprocessing import scale
from threadpoolctl import threadpool_limits

from sktransfer import FeatureStore
from sktransfer.metrics import h_score, logme, transrate
from sktransfer.model_selection import rank_backbones

Metric = Callable[[np.ndarray, np.ndarray], float]

BACKBONES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
SIZES = (200, 1000)
FOLDS = 3
HEAD = HEADS["logistic regression"]
SHRUNK: Metric = partial(h_score, shrinkage="auto")
# H-score without shrinkage is the same for standardised features.
METRICS: dict[str, Metric] = {
    "logme": logme,
    "logme, standardised": lambda Z, y: logme(scale(Z.astype(np.float64)), y),
    "h_score": h_score,
    "h_score, shrinkage": SHRUNK,
    "the same, standardised": lambda Z, y: SHRUNK(scale(Z.astype(np.float64)), y),
    "transrate": transrate,
    "transrate, standardised": lambda Z, y: transrate(scale(Z.astype(np.float64)), y),
    "number of features": lambda Z, y: Z.shape[1],
    "cross-validation": lambda Z, y: cross_val_score(HEAD(), Z, y, cv=FOLDS).mean(),
}

# GoogLeNet, Inception v3, ResNet 50, 101 and 152, DenseNet 121, 169 and 201, MobileNet v2 and
# MNASNet: accuracies, the scores of the four metrics, and the tau that is printed for each.
COLUMNS = ("H-score", "LEEP", "LogME", "NCE")
Table = tuple[tuple[float, ...], ...]
PUBLISHED: dict[str, Table] = {
    "Aircraft": (
        (82.7, 88.8, 86.6, 85.6, 85.3, 85.4, 84.5, 84.6, 82.8, 72.8),
        (28.37, 43.89, 46.23, 46.13, 46.25, 31.53, 41.81, 46.01, 34.43, 35.28),
        (-4.310, -4.202, -4.215, -4.230, -4.230, -4.228, -4.245, -4.206, -4.198, -4.192),
        (0.934, 0.953, 0.946, 0.948, 0.950, 0.938, 0.943, 0.942, 0.941, 0.948),
        (-4.248, -4.170, -4.201, -4.222, -4.229, -4.215, -4.270, -4.189, -4.208, -4.195),
        (0.664, -0.264, 0.595, 0.002),
    ),
    "Caltech101": (
        (91.7, 94.3, 91.8, 93.1, 93.2, 91.9, 92.5, 93.4, 89.1, 91.5),
        (75.88, 93.73, 91.65, 92.54, 92.91, 75.02, 86.37, 89.90, 75.82, 77.00),
        (-1.462, -1.119, -1.020, -0.899, -0.875, -0.979, -0.864, -0.914, -1.115, -1.043),
        (1.228, 1.387, 1.262, 1.305, 1.324, 1.172, 1.212, 1.228, 1.150, 1.178),
        (-0.665, -0.560, -0.616, -0.603, -0.605, -0.609, -0.580, -0.590, -0.693, -0.690),
        (0.721, 0.127, 0.697, 0.810),
    ),
    "CIFAR10": (
        (96.2, 97.5, 96.8, 97.7, 97.9, 97.2, 97.4, 97.4, 95.7, 96.8),
        (5.911, 6.363, 6.567, 6.901, 6.945, 6.210, 6.547, 6.706, 5.928, 6.018),
        (-1.385, -1.259, -1.010, -0.829, -0.838, -1.035, -0.934, -0.888, -1.100, -1.066),
        (0.293, 0.349, 0.388, 0.463, 0.469, 0.302, 0.343, 0.369, 0.291, 0.304),
        (-1.139, -1.060, -1.007, -0.838, -0.851, -1.006, -0.946, -0.866, -1.089, -1.086),
        (0.800, 0.638, 0.785, 0.714),
    ),
    "CIFAR100": (
        (83.2, 86.6, 84.5, 87.0, 87.6, 84.8, 85.0, 86.0, 80.8, 83.9),
        (29.33, 36.47, 40.20, 43.80, 44.19, 32.13, 37.51, 39.75, 30.36, 32.05),
        (-3.234, -2.995, -2.612, -2.365, -2.410, -2.665, -2.494, -2.470, -2.800, -2.732),
        (1.037, 1.070, 1.099, 1.130, 1.133, 1.029, 1.051, 1.061, 1.039, 1.051),
        (-2.751, -2.615, -2.516, -2.285, -2.369, -2.504, -2.418, -2.305, -2.653, -2.643),
        (0.775, 0.659, 0.790, 0.654),
    ),
    "DTD": (
        (73.6, 77.2, 75.2, 76.2, 75.4, 74.9, 74.8, 74.5, 72.9, 72.8),
        (34.61, 57.17, 78.26, 117.23, 32.30, 35.23, 43.36, 45.96, 37.99, 38.03),
        (-2.333, -2.135, -1.985, -1.974, -1.924, -2.001, -1.817, -1.926, -2.098, -2.033),
        (0.682, 0.691, 0.695, 0.689, 0.698, 0.670, 0.686, 0.689, 0.664, 0.679),
        (0.682, 0.691, 0.695, 0.689, 0.698, 0.670, 0.686, 0.689, 0.664, 0.679),
        (0.416, -0.004, 0.550, 0.083),
    ),
    "OxfordIIITPets": (
        (91.9, 93.5, 92.5, 94.0, 94.5, 92.9, 93.1, 92.8, 90.5, 89.4),
        (28.02, 33.29, 32.55, 32.76, 32.86, 27.09, 30.09, 31.25, 27.83, 27.95),
        (-1.064, -0.888, -0.805, -0.769, -0.732, -0.837, -0.779, -0.810, -0.902, -0.854),
        (0.854, 1.119, 0.952, 0.985, 1.009, 0.797, 0.829, 0.860, 0.765, 0.785),
        (-0.815, -0.711, -0.721, -0.717, -0.679, -0.753, -0.699, -0.716, -0.822, -0.812),
        (0.425, -0.143, 0.502, 0.119),
    ),
    "StanfordCars": (
        (91.0, 92.3, 91.7, 91.7, 92.0, 91.5, 91.5, 91.0, 91.0, 88.5),
        (41.47, 73.68, 72.94, 73.98, 76.17, 45.82, 63.40, 70.50, 51.12, 51.91),
        (-4.612, -4.268, -4.366, -4.281, -4.215, -4.437, -4.286, -4.319, -4.463, -4.423),
        (1.246, 1.259, 1.253, 1.255, 1.260, 1.249, 1.252, 1.251, 1.250, 1.254),
        (-4.312, -4.110, -4.221, -4.218, -4.142, -4.271, -4.175, -4.151, -4.306, -4.338),
        (0.638, 0.703, 0.654, 0.750),
    ),
    "SUN397": (
        (62.0, 65.7, 64.7, 64.8, 66.0, 62.3, 63.0, 64.7, 60.5, 60.7),
        (71.35, 114.21, 110.39, 113.63, 116.51, 72.16, 95.80, 103.09, 75.90, 80.91),
        (-3.744, -3.372, -3.198, -3.103, -3.056, -3.311, -3.165, -3.205, -3.338, -3.234),
        (1.621, 1.648, 1.638, 1.642, 1.646, 1.614, 1.623, 1.624, 1.617, 1.625),
        (-3.055, -2.844, -2.894, -2.837, -2.822, -2.945, -2.903, -2.896, -2.968, -2.933),
        (0.918, 0.581, 0.748, 0.873),
    ),
}


def tau(accuracies: Iterable[float], scores: Iterable[float]) -> float:
    """Weighted Kendall tau; nothing where all scores are equal."""
    return float(weightedtau(list(accuracies), list(scores)).statistic)


# Published


def recomputed(table: Table) -> dict[str, dict[str, float]]:
    """Of each metric: the tau that its column gives, and the one that is printed."""
    accuracies, *columns, printed = table
    return {
        name: {"recomputed": tau(accuracies, column), "published": value}
        for name, column, value in zip(COLUMNS, columns, printed, strict=True)
    }


def published() -> dict[str, Any]:
    found = {name: recomputed(table) for name, table in PUBLISHED.items()}
    print(f"{'recomputed (published)':<24}" + "".join(f"{name:>18}" for name in COLUMNS))
    for name, of_metric in found.items():
        cells = (f"{t['recomputed']:.3f} ({t['published']:.3f})" for t in of_metric.values())
        print(f"{name:<24}" + "".join(f"{cell:>18}" for cell in cells))
    off = [abs(t["recomputed"] - t["published"]) for of in found.values() for t in of.values()]
    print(f"{sum(value < 0.0006 for value in off)} of {len(off)} to three digits")
    return found


# Measured


class Timed:
    """A metric that notes how long it took."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.seconds = 0.0

    def __call__(self, Z: np.ndarray, y: np.ndarray) -> float:
        started = time.perf_counter()
        value = float(self.metric(Z, y))
        self.seconds += time.perf_counter() - started
        return value


def candidates(
    options: argparse.Namespace, pool: Pool, store: FeatureStore
) -> tuple[dict[str, Any], dict[str, np.ndarray], int]:
    """Transformers for each layer of each network, their features, and images that were run."""
    transformers, features, n_forward = {}, {}, 0
    for backbone in options.backbones:
        layers = all_layers(options, pool.images, store, backbone=backbone)
        n_forward += layers.n_forward
        for layer, values in layers.features.items():
            name = f"{backbone} {layer}"
            transformers[name] = estimator(options, layer, backbone=backbone)
            features[name] = values
    return transformers, features, n_forward


def split(
    options: argparse.Namespace, pool: Pool, store: FeatureStore, size: int, seed: int,
    transformers: dict[str, Any], features: dict[str, np.ndarray],
) -> dict[str, Any]:  # fmt: skip
    """Accuracy of the head for each candidate, and how each metric's scores go with it."""
    train, test = train_test_split(
        np.arange(len(pool.labels)), train_size=size, stratify=pool.labels, random_state=seed
    )
    images, labels, asked = pool.images[train], pool.labels[train], pool.labels[test]
    accuracy = {
        name: float(HEAD().fit(values[train], labels).score(values[test], asked))
        for name, values in features.items()
    }
    metrics, n_forward = {}, 0
    for name, metric in METRICS.items():
        timed = Timed(metric)
        ranking = rank_backbones(transformers, images, labels, metric=timed, cache=store)
        scores = {row.backbone: row.score for row in ranking}
        metrics[name] = {**agreement(accuracy, scores), "seconds": timed.seconds}
        n_forward += sum(row.n_forward for row in ranking)
    return {"accuracy": accuracy, "metrics": metrics, "n_forward": n_forward}


def agreement(accuracy: dict[str, float], scores: dict[str, float]) -> dict[str, float]:
    """How the scores of candidates go with their accuracies."""
    of_network: dict[str, list[str]] = defaultdict(list)
    for name in accuracy:
        of_network[name.split()[0]].append(name)
    within = [
        tau((accuracy[n] for n in names), (scores[n] for n in names))
        for names in of_network.values()
    ]
    chosen = max(accuracy, key=scores.__getitem__)
    return {
        "tau": tau(accuracy.values(), (scores[name] for name in accuracy)),
        "tau of layers": statistics.mean(within),
        "lost": max(accuracy.values()) - accuracy[chosen],
    }


def averaged(several: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.mean(one[name] for one in several) for name in several[0]}


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    store = FeatureStore(folder / "features")
    found: dict[str, Any] = {}
    for name, pool in pools(options.data, options.most).items():
        transformers, features, n_forward = candidates(options, pool, store)
        passes = n_forward / len(pool.labels) / len(options.backbones)
        found[name] = {"passes_per_image_and_network": passes, "labels": {}}
        for size in options.sizes:
            runs = [
                split(options, pool, store, size, seed, transformers, features)
                for seed in range(options.seeds)
            ]
            of_metric = {m: averaged([run["metrics"][m] for run in runs]) for m in METRICS}
            found[name]["labels"][str(size)] = {"metrics": of_metric, "runs": runs}
            print(f"{name}, {size}", flush=True)
    total = {
        str(size): {
            m: averaged([one["labels"][str(size)]["metrics"][m] for one in found.values()])
            for m in METRICS
        }
        for size in options.sizes
    }
    show(found, total)
    return {"datasets": found, "mean": total}


def show(found: dict[str, Any], total: dict[str, Any]) -> None:
    for size, means in total.items():
        tables = {name: one["labels"][size]["metrics"] for name, one in found.items()}
        columns = [*tables, "mean", "of layers", "lost", "worst lost", "seconds"]
        head = f"tau, {size} labels"
        print(f"\n{head:<26}" + "".join(f"{column:>14}" for column in columns))
        for m in METRICS:
            worst = max(
                run["metrics"][m]["lost"]
                for one in found.values()
                for run in one["labels"][size]["runs"]
            )
            cells = [table[m]["tau"] for table in tables.values()]
            cells += [means[m]["tau"], means[m]["tau of layers"], means[m]["lost"], worst]
            print(
                f"{m:<26}"
                + "".join(f"{cell:>14.4f}" for cell in cells)
                + f"{means[m]['seconds']:>14.2f}"
            )
    runs = [r for one in found.values() for of in one["labels"].values() for r in of["runs"]]
    passes = {name: one["passes_per_image_and_network"] for name, one in found.items()}
    print(f"passes per image and network: {passes}; {sum(r['n_forward'] for r in runs)} in ranking")


def main() -> None:
    options_of = parser(__doc__, rounds=1)
    options_of.add_argument("command", nargs="?", choices=("measured", "published"))
    options_of.add_argument("--data", type=Path, default=DATA, help="folder of Fashion-MNIST")
    options_of.add_argument("--seeds", type=int, default=3)
    options_of.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options = options_of.parse_args()
    if options.command != "published" and not options.data.is_dir():
        options_of.error(f"no folder {options.data}: install dataset-fashion-mnist or pass --data")
    # What `estimator` of auto_layer.py reads; the backbone is given each time.
    options.backbone, options.image_size, options.most = BACKBONES[0], 32, MOST
    options.backbones = BACKBONES
    if options.quick:
        options.backbones, options.seeds, options.sizes, options.most = BACKBONES[:1], 1, [100], 300
    torch.set_num_threads(options.threads)
    result: dict[str, Any] = {}
    if options.command != "measured":
        result["published"] = published()
    if options.command != "published":
        with threadpool_limits(options.threads), tempfile.TemporaryDirectory() as name:
            how = {name: getattr(options, name) for name in ("threads", "seeds", "sizes")}
            result["measured"] = {**how, **measured(options, Path(name))}
    if not options.quick:
        suffix = f"_{options.command}" if options.command else ""
        write_result(f"ranking{suffix}", result)


if __name__ == "__main__":
    main()
