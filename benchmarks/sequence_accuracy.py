"""Compare accuracy and transform time on time series classification with peers.

The data sets are the eight that come with aeon (no download), in their official splits, or with
--folder any others as NAME_TRAIN.ts and NAME_TEST.ts. The methods:

    default               RNNSequenceFeatures with its defaults
    random                the same with weights="random"
    ordinary GRU          an untrained torch.nn.GRU of 128 units, torch's initialisation, last state
    MiniRocket            aeon's
    default + MiniRocket  features of both, concatenated
    Catch22               aeon's
    1-NN                  Euclidean, on normalised series
    1-NN DTW              aeon's, only with --dtw, as it is slow

The head of all features is StandardScaler and RidgeClassifierCV, as MiniRocket's authors
recommend. Methods with a seed run with several; accuracies are their means, with the standard
deviation. Seconds are medians of transforming the test set (for 1-NN, of predicting it) in
interleaved rounds after a warm-up, in which numba compiles. All have the same number of threads.
"""

import argparse
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from _common import Seconds, interleaved, medians, parser, ratio, timed, write_result
from aeon.classification.distance_based import KNeighborsTimeSeriesClassifier
from aeon.datasets import load_classification, load_from_ts_file
from aeon.transformations.collection.convolution_based import MiniRocket
from aeon.transformations.collection.feature_based import Catch22
from sklearn.linear_model import RidgeClassifierCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from sktransfer import RNNSequenceFeatures

DATASETS = (
    *("ACSF1", "ArrowHead", "BasicMotions", "GunPoint", "ItalyPowerDemand", "JapaneseVowels"),
    *("OSULeaf", "PickupGestureWiimoteZ"),
)
QUICK = ("GunPoint", "ItalyPowerDemand")
OURS, PEER, JOINED = "default", "MiniRocket", "default + MiniRocket"
ONE_NN, DTW = "1-NN", "1-NN DTW"
FEATURES = (OURS, "random", "ordinary GRU", PEER, JOINED, "Catch22")
SEEDLESS = (OURS, "Catch22")
PADDINGS = {"zeros": "constant", "last value": "edge"}  # names, and what np.pad calls them
LEAST_STEPS = 9  # the length of MiniRocket's kernels

Collection = np.ndarray | list[np.ndarray]
Pair = tuple[Any, Any]


class Data(NamedTuple):
    """A data set: n series of (channels, time) each, and their classes."""

    train: Collection
    y_train: np.ndarray
    test: Collection
    y_test: np.ndarray

    @property
    def series(self) -> Pair:
        return self.train, self.test


def load(name: str, file: Path | None) -> Data:
    """One of aeon's data sets, or with the path of its training file any other."""
    if file is None:
        parts = [load_classification(name, split=split) for split in ("train", "test")]
    else:
        files = (file, file.with_name(f"{name}_TEST.ts"))
        parts = [load_from_ts_file(str(path)) for path in files]
    return Data(*parts[0], *parts[1])


def filled(one: np.ndarray) -> np.ndarray:
    """A series without padding of NaN, its gaps interpolated.

    Ours does so by itself; the peers refuse NaN.
    """
    there = ~np.isnan(one).all(axis=0)
    one = one[:, : len(there) - int(there[::-1].argmax())].astype(np.float64)
    steps = np.arange(one.shape[1])
    for channel in one:
        gaps = np.isnan(channel)
        known = channel[~gaps]
        channel[gaps] = np.interp(steps[gaps], steps[~gaps], known) if len(known) else 0.0
    return one


def normalised(one: np.ndarray) -> np.ndarray:
    """Each channel with mean 0 and standard deviation 1; a constant one 0."""
    std = one.std(axis=1, keepdims=True)
    return (one - one.mean(axis=1, keepdims=True)) / np.where(std > 1e-9, std, 1.0)


def mapped(work: Callable[[np.ndarray], np.ndarray], data: Data) -> Data:
    """The same to each series."""
    train, test = ([work(one) for one in part] for part in data.series)
    return data._replace(train=train, test=test)


def without_gaps(data: Data) -> Data:
    return mapped(filled, data)


def of_equal_length(data: Data, paddings: Sequence[str] = tuple(PADDINGS)) -> dict[str, Data]:
    """Arrays of (n, channels, longest), padded in several ways if need be; nothing is cut."""
    data = without_gaps(data)
    lengths = [one.shape[1] for part in data.series for one in part]
    longest = max(*lengths, LEAST_STEPS)
    found = {}
    for how in paddings if min(lengths) < longest else ["none"]:
        train, test = (
            np.stack([extended(one, longest, PADDINGS.get(how, "edge")) for one in part])
            for part in data.series
        )
        found[how] = data._replace(train=train, test=test)
    return found


def extended(one: np.ndarray, length: int, mode: str) -> np.ndarray:
    return np.pad(one, ((0, 0), (0, length - one.shape[1])), mode=mode)


def head_score(features: Pair, data: Data) -> float:
    """Test accuracy of the head that all features have."""
    head = make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=np.logspace(-3, 3, 10)))
    train, test = features
    return float(head.fit(train, data.y_train).score(test, data.y_test))


def transformers(
    data: Data, equal: dict[str, Data], seed: int, threads: int
) -> dict[str, tuple[Any, Pair]]:
    """One of each kind that makes features, and the training and test series it is given."""
    n_channels = data.train[0].shape[0]
    ordinary = RNNSequenceFeatures(
        partial(torch.nn.GRU, n_channels, 128),
        views="z",
        pooling="last",
        append_stats=False,
        channels="first",
        random_state=seed,
    )
    rockets = {
        f"{PEER}, {how}": (MiniRocket(n_jobs=threads, random_state=seed), same.series)
        for how, same in equal.items()
    }
    random = RNNSequenceFeatures(weights="random", channels="first", random_state=seed)
    # With mean and standard deviation, as aeon's own Catch22Classifier has it.
    catch22 = Catch22(catch24=True, replace_nans=True, n_jobs=threads)
    # It takes unequal lengths, but no NaN.
    given = next(iter(equal.values())) if len(equal) == 1 else without_gaps(data)
    return {
        OURS: (RNNSequenceFeatures(channels="first"), data.series),
        "random": (random, data.series),
        "ordinary GRU": (ordinary, data.series),
        **rockets,
        "Catch22": (catch22, given.series),
    }


def measure(data: Data, options: argparse.Namespace) -> dict[str, Any]:
    """Accuracies of all seeds, and seconds of all rounds, on one data set."""
    lengths = [one.shape[1] for part in without_gaps(data).series for one in part]
    equal = of_equal_length(data)
    scores: dict[str, list[float]] = defaultdict(list)
    works: dict[str, Callable[[], Any]] = {}
    ours: Pair = ()
    for seed in range(options.seeds):
        for method, made in transformers(data, equal, seed, options.threads).items():
            if seed and method in SEEDLESS:
                continue
            transformer, (train, test) = made
            features = transformer.fit_transform(train), transformer.transform(test)
            scores[method].append(head_score(features, data))
            works.setdefault(method, partial(transformer.transform, test))
            if method == OURS:
                ours = features
            if method.startswith(PEER):
                both = tuple(np.hstack(sides) for sides in zip(ours, features, strict=True))
                scores[method.replace(PEER, JOINED)].append(head_score(both, data))

    # The better way to pad counts, by MiniRocket's accuracy on the test set: a choice that no
    # user could make, to the peer's benefit. Nor is padding part of its time.
    of_padding = {how: statistics.mean(scores[f"{PEER}, {how}"]) for how in equal}
    best = max(of_padding, key=of_padding.__getitem__)
    accuracy = {name: scores[name if name in scores else f"{name}, {best}"] for name in FEATURES}
    ready = {
        name: works[name if name in works else f"{name}, {best}"]
        for name in FEATURES
        if name != JOINED
    }
    accuracy[ONE_NN], ready[ONE_NN] = neighbour(data, options.threads)
    seconds, others = interleaved(ready, options.rounds)
    # Both transforms one after the other need no measurement of their own.
    seconds[JOINED] = [a + b for a, b in zip(seconds[OURS], seconds[PEER], strict=True)]
    if options.dtw:
        accuracy[DTW], seconds[DTW] = warped(data, options.threads)
    for values in accuracy.values():  # what has no seed is the same with any
        values += values[:1] * (options.seeds - len(values))
    return {
        "train": len(data.train),
        "test": len(data.test),
        "channels": data.train[0].shape[0],
        "steps": [min(lengths), max(lengths)],
        "accuracy": accuracy,
        "padding": {"used": best, "accuracy": of_padding},
        "transform_seconds": medians(seconds),
        "seconds": seconds,
        "others": others,
    }


def neighbour(data: Data, threads: int) -> tuple[list[float], Callable[[], Any]]:
    """1-NN on flat series, normalised and then padded: its accuracy, and how it predicts."""
    same = of_equal_length(mapped(normalised, without_gaps(data)), ["zeros"])
    train, test = (part.reshape(len(part), -1) for part in next(iter(same.values())).series)
    model = KNeighborsClassifier(1, n_jobs=threads).fit(train, data.y_train)
    return [float(model.score(test, data.y_test))], partial(model.predict, test)


def warped(data: Data, threads: int) -> tuple[list[float], list[float]]:
    """1-NN with dynamic time warping: accuracy, and seconds of a single round, as it is slow."""
    train, test = mapped(normalised, without_gaps(data)).series
    model = KNeighborsTimeSeriesClassifier(distance="dtw", n_jobs=threads)
    model.fit(train, data.y_train)
    model.predict(test[:1])  # compiles
    seconds, predicted = timed(partial(model.predict, test))
    return [float(np.mean(predicted == data.y_test))], [seconds]


def overall(found: dict[str, Any]) -> dict[str, Any]:
    """Means over data sets, and what is asked of ours beside MiniRocket."""
    methods = list(next(iter(found.values()))["accuracy"])
    accuracy: dict[str, dict[str, float]] = {}
    for method in methods:
        several = [one["accuracy"][method] for one in found.values()]
        of_seeds = [statistics.mean(values) for values in zip(*several, strict=True)]
        accuracy[method] = {"mean": statistics.mean(of_seeds), "std": statistics.pstdev(of_seeds)}
    summed: Seconds = {}  # over the data sets, round by round
    for method in (OURS, PEER):
        several = [one["seconds"][method] for one in found.values()]
        summed[method] = [sum(values) for values in zip(*several, strict=True)]
    return {
        "accuracy": accuracy,
        "transform_seconds": {
            method: sum(one["transform_seconds"][method] for one in found.values())
            for method in methods
        },
        f"{OURS} / {PEER}, seconds": ratio(summed[OURS], summed[PEER]),
        **{
            f"{name} - {PEER}, accuracy": accuracy[name]["mean"] - accuracy[PEER]["mean"]
            for name in (OURS, JOINED)
        },
    }


def show(found: dict[str, Any], total: dict[str, Any]) -> None:
    widths = {method: max(len(method), 15) + 2 for method in total["accuracy"]}
    heads = "".join(f"{method:>{width}}" for method, width in widths.items())
    print(f"\n{'accuracy (std over seeds)':<26}{heads}")
    rows = {
        name: {m: (statistics.mean(a), statistics.pstdev(a)) for m, a in one["accuracy"].items()}
        for name, one in found.items()
    }
    rows["mean"] = {method: tuple(value.values()) for method, value in total["accuracy"].items()}
    for name, values in rows.items():
        cells = {method: f"{mean:.4f} ({std:.4f})" for method, (mean, std) in values.items()}
        print(f"{name:<26}" + "".join(f"{cells[m]:>{width}}" for m, width in widths.items()))
    print(f"\n{'transform, seconds':<26}{heads}")
    for name, one in {**found, "sum": total}.items():
        taken = one["transform_seconds"]
        print(f"{name:<26}" + "".join(f"{taken[m]:>{width}.4f}" for m, width in widths.items()))
    speed = total[f"{OURS} / {PEER}, seconds"]
    spread = f"({speed['least']:.2f} to {speed['most']:.2f})"
    print(f"\n{OURS} / {PEER}, seconds: {speed['paired']:.2f} {spread}")
    for name in (OURS, JOINED):
        what = f"{name} - {PEER}, accuracy"
        print(f"{what}: {total[what]:+.4f}")
    for name, one in found.items():
        if len(of_each := one["padding"]["accuracy"]) > 1:
            listed = ", ".join(f"by {how} {score:.4f}" for how, score in of_each.items())
            print(f"{name}, {PEER} padded {listed}: {one['padding']['used']} counts")
    most = max(one["others"]["most"] for one in found.values())
    print(f"others had {most:.0%} of the machine at most")


def run(options: argparse.Namespace, files: dict[str, Path | None]) -> dict[str, Any]:
    found = {}
    for name in options.datasets:
        found[name] = measure(load(name, files[name]), options)
        scores = (f"{m} {statistics.mean(a):.4f}" for m, a in found[name]["accuracy"].items())
        print(f"{name}: {', '.join(scores)}", flush=True)
    total = overall(found)
    show(found, total)
    return {
        "threads": options.threads,
        "rounds": options.rounds,
        "seeds": options.seeds,
        "peers": {package: version(package) for package in ("aeon", "numba")},
        "datasets": found,
        "all": total,
    }


def main() -> None:
    options_of = parser(__doc__, rounds=3)
    options_of.set_defaults(threads=1)
    options_of.add_argument("--seeds", type=int, default=5)
    options_of.add_argument("--datasets", nargs="+", help="of aeon's eight, or of --folder")
    options_of.add_argument("--folder", type=Path, help="measure the pairs of .ts files in there")
    options_of.add_argument("--dtw", action="store_true", help="1-NN DTW as well; slow")
    options = options_of.parse_args()
    files: dict[str, Path | None] = dict.fromkeys(DATASETS)
    chosen: Sequence[str] = QUICK if options.quick else DATASETS
    if options.folder:
        paths = sorted(options.folder.rglob("*_TRAIN.ts"))
        more = {path.name.removesuffix("_TRAIN.ts"): path for path in paths}
        files, chosen = {**files, **more}, list(more)
    options.datasets = options.datasets or chosen
    if not options.datasets or not set(options.datasets) <= set(files):
        options_of.error(f"the data sets are {', '.join(files)}; got {options.datasets}")
    if options.quick:
        options.rounds, options.seeds = 1, 2
    torch.set_num_threads(options.threads)
    numba.set_num_threads(options.threads)
    with threadpool_limits(options.threads):
        result = run(options, files)
    if not options.quick:
        suffix = f"_{options.folder.resolve().name}" if options.folder else ""
        write_result(f"sequence_accuracy{suffix}", result)


if __name__ == "__main__":
    main()
