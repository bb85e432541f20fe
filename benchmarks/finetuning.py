"""Compare fine-tuning on Fashion-MNIST with peers: accuracy, seconds and memory.

    python finetuning.py compare      ours and the peers at several numbers of labels
    python finetuning.py imbalance    five of the classes at 1:20, with and without a remedy
    python finetuning.py full         all 60,000 images, ours only
    python finetuning.py search       GridSearchCV over layers and strategies, beside two of them

The network is EfficientNet-Lite0 at 32 pixels, with the weights that sktransfer has. The peers:

    hand-written    a plain loop in torch: channels-last, the whole network in every epoch; frozen
                    parts have no gradient and stay in evaluation mode
    skorch          NeuralNetClassifier and its Freezer, float32 arrays in torch's own layout;
                    frozen batch norm still updates its statistics, which Freezer does not prevent
    frozen          features by an eager loop, StandardScaler and LogisticRegression
    pixels          the same head on the raw pixels, and an SVC with C=10

All get raw images. Their time includes preprocessing and making the network, but not reading its
weights. Optimizer (AdamW), learning rate, cosine schedule, epochs and batch size
are the same for all. Contestants take turns in every round, which has a subset and a seed of its
own; each case runs in a fresh process, whose highest memory is measured.

The data are those of Debian's package dataset-fashion-mnist; --data names another folder.
"""

import argparse
import copy
import gzip
import json
import resource
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from _common import disturbance, in_fresh_process, parser, timed_watching, write_result
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, recall_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits
from torch import nn

DATA = Path("/usr/share/datasets/fashion-mnist")
NAME, SIDE, CLASSES = "efficientnet_lite0", 32, 10
# Resized as a whole, as the peers have it: "crop" would cut away the images' rim.
FEATURES: dict[str, Any] = {"image_size": SIDE, "resize": "squash"}
BATCH_SIZE = 64
EPOCHS = ((1_000, 20), (10_000, 10))  # below so many labels; else the last ones
EPOCHS_OF_MANY = 2
MANY = 10_000  # of so many labels skorch is not trained from scratch: it takes as long as "all"
LEARNING_RATE = 1e-3
HEAD_LEARNING_RATE = 1e-2  # peers' heads begin at random, and alone get nowhere with less

UNFREEZE = ("head", 1, "all")
# What is frozen, as patterns of names; "1" is the last stage and the layers after it.
FROZEN = {
    "head": ("conv_stem", "bn1", "blocks", "conv_head", "bn2"),
    "1": ("conv_stem", "bn1", *(f"blocks.{stage}" for stage in range(6))),
    "all": (),
}
# Of a shallower layer and larger images: what we would choose for such small pictures.
SHALLOWER: dict[str, Any] = {"image_size": 48, "layer": "blocks.4"}
LAYERS = ("blocks.4", "penultimate")
STRATEGIES: dict[str, Any] = {
    "frozen": "frozen",
    "head": {"unfreeze": "head"},
    "last stage": {"unfreeze": 1},
    "3 last stages": {"unfreeze": 3},
    "all": {"unfreeze": "all"},
    "all, l2-sp": {"unfreeze": "all", "penalty": "l2-sp"},
}

MAJORITY, MINORITY = 400, 20  # images of a class; 1:20
REMEDIES: dict[str, dict[str, str]] = {
    "no remedy": {},
    "class_weight": {"class_weight": "balanced"},
    "sampler": {"sampler": "balanced"},
    "logit-adjusted": {"loss": "logit-adjusted"},
    "focal": {"loss": "focal"},
}
PRIOR = {"class_prior": "balanced"}  # a remedy without training


class Model(Protocol):
    """A fitted classifier of images."""

    def predict(self, X: np.ndarray) -> np.ndarray: ...


class Data(NamedTuple):
    """Images (n, 28, 28) of bytes and their classes."""

    train: np.ndarray
    y_train: np.ndarray
    test: np.ndarray
    y_test: np.ndarray


# Data


def read_idx(path: Path) -> np.ndarray:
    """An array of bytes from a compressed file in the format of MNIST."""
    with gzip.open(path) as file:
        zeros, kind, n_dimensions = (int.from_bytes(file.read(n), "big") for n in (2, 1, 1))
        if (zeros, kind) != (0, 8):
            raise ValueError(f"{path} is no idx file of bytes")
        shape = [int.from_bytes(file.read(4), "big") for _ in range(n_dimensions)]
        return np.frombuffer(file.read(), dtype=np.uint8).reshape(shape)


def subset(X: np.ndarray, y: np.ndarray, size: int | None, seed: int) -> tuple[Any, Any]:
    """A number of images, equally many of each class; None or all keeps their order."""
    if size is None or size >= len(y):
        return X, y
    X, _, y, _ = train_test_split(X, y, train_size=size, stratify=y, random_state=seed)
    return X, y


def imbalanced(
    X: np.ndarray, y: np.ndarray, majority: int, minority: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Five classes, drawn by the seed, with few images and the other five with many."""
    rng = np.random.default_rng(seed)
    few = set(rng.permutation(CLASSES)[: CLASSES // 2].tolist())
    rows = [
        rng.permutation(np.flatnonzero(y == label))[: minority if label in few else majority]
        for label in range(CLASSES)
    ]
    chosen = rng.permutation(np.concatenate(rows))
    return X[chosen], y[chosen]


def load(case: dict[str, Any]) -> Data:
    """The images that a case asks for."""
    folder = Path(case["data"])
    X, y, X_test, y_test = (
        read_idx(folder / f"{part}-{what}-ubyte.gz")
        for part in ("train", "t10k")
        for what in ("images-idx3", "labels-idx1")
    )
    if "majority" in case:
        X, y = imbalanced(X, y, case["majority"], case["minority"], case["seed"])
    else:
        X, y = subset(X, y, case["size"], case["seed"])
    X_test, y_test = subset(X_test, y_test, case["test"], 0)
    return Data(X, y.astype(np.int64), X_test, y_test.astype(np.int64))


def resized(X: np.ndarray) -> np.ndarray:
    """Images of bytes at the size of the network's input."""
    bicubic = Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(x).resize((SIDE, SIDE), bicubic)) for x in X])


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """Bytes (n, height, width) to three channels, with mean and standard deviation of 0.5."""
    return pixels.unsqueeze(1).expand(-1, 3, -1, -1).float().div_(127.5).sub_(1)


# Peers


@cache
def loaded(weights: str, seed: int) -> nn.Module:
    """The network as sktransfer loads it."""
    from sktransfer import load_backbone

    return load_backbone(NAME, weights, random_state=seed).module


def network(weights: str, seed: int) -> nn.Module:
    """A copy in torch's default layout that can be trained, with a head for the classes."""
    made = copy.deepcopy(loaded(weights, seed)).to(memory_format=torch.contiguous_format)
    torch.manual_seed(seed)
    made.classifier = nn.Linear(made.classifier.in_features, CLASSES)
    return made.requires_grad_(True).train()


class Torch:
    """Predicts by a network of channels-last layout, in batches of raw images."""

    def __init__(self, module: nn.Module, batch_size: int = 256) -> None:
        self.module = module.eval()
        self.batch_size = batch_size

    @torch.inference_mode()
    def outputs(self, X: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(resized(X))
        parts = [
            self.module(normalised(part).contiguous(memory_format=torch.channels_last))
            for part in pixels.split(self.batch_size)
        ]
        return torch.cat(parts).numpy()

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.outputs(X).argmax(axis=1)


def hand_written(
    X: np.ndarray,
    y: np.ndarray,
    unfreeze: str | int,
    epochs: int,
    *,
    weights: str = "default",
    learning_rate: float = LEARNING_RATE,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
) -> Model:
    """Fine-tuning by a loop in torch."""
    module = network(weights, seed).to(memory_format=torch.channels_last)
    for name in FROZEN[str(unfreeze)]:
        module.get_submodule(name).requires_grad_(False).eval()
    trained = [weight for weight in module.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate)
    n_steps = epochs * sum(1 for _ in batches_of(len(X), batch_size))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    pixels, labels = torch.from_numpy(resized(X)), torch.from_numpy(y)
    for _ in range(epochs):
        order = torch.randperm(len(pixels))
        for rows in batches_of(len(pixels), batch_size):
            chosen = order[rows]
            images = normalised(pixels[chosen]).contiguous(memory_format=torch.channels_last)
            loss = nn.functional.cross_entropy(module(images), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return Torch(module)


def batches_of(count: int, size: int) -> Iterator[slice]:
    """Slices of rows, without a last one of a single row, which batch norm cannot take."""
    return (slice(start, start + size) for start in range(0, count, size) if count - start > 1)


class Skorch:
    """A fitted skorch classifier, given raw images."""

    def __init__(self, net: Any) -> None:
        self.net = net

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.net.predict(as_float(X))


def as_float(X: np.ndarray) -> np.ndarray:
    """Float32 arrays (n, 3, height, width), as skorch's users have them."""
    pixels = resized(X).astype(np.float32) / 127.5 - 1
    return np.repeat(pixels[:, None], 3, axis=1)


def by_skorch(
    X: np.ndarray,
    y: np.ndarray,
    unfreeze: str | int,
    epochs: int,
    *,
    weights: str = "default",
    learning_rate: float = LEARNING_RATE,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
) -> Model:
    """Fine-tuning by skorch as its documentation has one do it."""
    from skorch import NeuralNetClassifier
    from skorch.callbacks import Freezer, LRScheduler

    callbacks: list[Any] = [LRScheduler("CosineAnnealingLR", T_max=epochs)]
    if frozen := FROZEN[str(unfreeze)]:
        callbacks.append(Freezer([f"{name}.*" for name in frozen]))
    net = NeuralNetClassifier(
        network(weights, seed),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=learning_rate,
        max_epochs=epochs,
        batch_size=batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=callbacks,
        verbose=0,
    )
    return Skorch(net.fit(as_float(X), y))


def head(class_weight: str | None = None) -> Any:
    """Scaler and logistic regression."""
    regression = LogisticRegression(max_iter=1000, class_weight=class_weight)
    return make_pipeline(StandardScaler(), regression)


class OnFeatures:
    """A classifier of scikit-learn on what a function makes of raw images."""

    def __init__(self, features: Callable[[np.ndarray], np.ndarray], classifier: Any) -> None:
        self.features = features
        self.classifier = classifier

    def fit(self, X: np.ndarray, y: np.ndarray) -> Model:
        self.classifier.fit(self.features(X), y)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classifier.predict(self.features(X))


def frozen_features(X: np.ndarray, y: np.ndarray, *, class_weight: str | None = None) -> Model:
    """Logistic regression on features of the network as it is."""
    module = network("default", 0).to(memory_format=torch.channels_last)
    module.classifier = nn.Identity()
    return OnFeatures(Torch(module, BATCH_SIZE).outputs, head(class_weight)).fit(X, y)


def raw_pixels(X: np.ndarray, y: np.ndarray, classifier: Any) -> Model:
    """A classifier on the pixels themselves."""
    return OnFeatures(lambda images: images.reshape(len(images), -1) / 255, classifier).fit(X, y)


# Ours


def estimator(strategy: Any, weights: str = "default", seed: int = 0, **own: Any) -> Any:
    """Our classifier; a strategy is "frozen", or a dictionary of what FineTune is given."""
    from sktransfer import FineTunedClassifier, PretrainedCNNFeatures

    how = {**FEATURES, **own}
    features = PretrainedCNNFeatures(weights=weights, random_state=seed, **how)
    return FineTunedClassifier(features, strategy=made(strategy, seed))


def made(strategy: Any, seed: int) -> Any:
    """A strategy from its description."""
    from sktransfer import FineTune

    return FineTune(**strategy, random_state=seed) if isinstance(strategy, dict) else strategy


def ours(
    X: np.ndarray,
    y: np.ndarray,
    strategy: Any,
    weights: str,
    seed: int,
    features: dict[str, Any],
    class_prior: str | None = None,
) -> Model:
    """Fine-tuning by this package."""
    chosen = estimator(strategy, weights, seed, **features)
    return chosen.set_params(class_prior=class_prior).fit(X, y)


def learning_rate(unfreeze: str | int, case: dict[str, Any]) -> float:
    """The rate of the case, or one that suits the trained part of the network."""
    return case["learning_rate"] or (HEAD_LEARNING_RATE if unfreeze == "head" else LEARNING_RATE)


def like_peers(unfreeze: str | int, case: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Parameters with which FineTune runs as many epochs on as many images as the peers.

    Its head begins as a linear model, and needs no higher rate when it is alone.
    """
    same = {name: case[name] for name in ("epochs", "batch_size")}
    same["learning_rate"] = case["learning_rate"] or LEARNING_RATE
    # From scratch batch norm has no statistics to keep, and a head nothing to begin from.
    fresh = case["weights"] == "random"
    scratch = {"batch_norm": "update", "head_init": "random"} if fresh else {}
    return {"unfreeze": unfreeze, **same, "early_stopping": False, **scratch, **more}


# A single case, in a process of its own


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fitting(case: dict[str, Any]) -> Callable[[np.ndarray, np.ndarray], Model]:
    """The function that fits the contestant of a case, with everything loaded beforehand."""
    who, weights, seed = case["contestant"], case["weights"], case["seed"]
    if who == "ours":
        how = {"strategy": case["strategy"], "features": case.get("features", {})}
        how["class_prior"] = case.get("class_prior")
        warm_up(weights, seed)
        return partial(ours, weights=weights, seed=seed, **how)
    if who in ("hand-written", "skorch"):
        loaded(weights, seed)
        names = ("unfreeze", "epochs", "weights", "batch_size", "seed")
        work = hand_written if who == "hand-written" else by_skorch
        if who == "skorch":  # not part of the time
            import skorch.callbacks  # noqa: F401
        rate = learning_rate(case["unfreeze"], case)
        return partial(work, learning_rate=rate, **{name: case[name] for name in names})
    if who == "frozen":
        loaded("default", 0)
        return partial(frozen_features, class_weight=case.get("class_weight"))
    classifier = {"pixels": head, "pixels, SVC": lambda: SVC(C=10)}[who]()
    return partial(raw_pixels, classifier=classifier)


def warm_up(weights: str, seed: int) -> None:
    """Imports, and the published weights, which estimators of a process share."""
    from sktransfer import FineTunedClassifier, PretrainedCNNFeatures  # noqa: F401

    features = PretrainedCNNFeatures(weights=weights, random_state=seed, **FEATURES)
    features.fit_transform(np.zeros((2, 28, 28), dtype=np.uint8))


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """In this fresh process: fit, predict, and the highest memory."""
    data = load(case)
    fit = searching(case) if case["contestant"] == "search" else fitting(case)
    before = peak_bytes()
    fit_seconds, model, others = timed_watching(lambda: fit(data.train, data.y_train))
    of_fit = peak_bytes()
    predict_seconds, predicted, others_again = timed_watching(lambda: model.predict(data.test))
    recalls = recall_score(data.y_test, predicted, average=None)
    counts = np.bincount(data.y_train, minlength=CLASSES)
    few = counts < counts.max() / 2
    found = {
        "labels": len(data.y_train),
        "accuracy": float(np.mean(predicted == data.y_test)),
        "balanced_accuracy": float(balanced_accuracy_score(data.y_test, predicted)),
        "fit_seconds": fit_seconds,
        "predict_seconds": predict_seconds,
        "peak_bytes": peak_bytes(),
        "fit_peak_bytes": of_fit,
        "loaded_bytes": before,
        "others": max(others, others_again),
    }
    if few.any():
        found["recall"] = {"few": float(recalls[few].mean()), "many": float(recalls[~few].mean())}
    if case["contestant"] == "search":
        results = model.cv_results_
        scores = map(float, results["mean_test_score"])
        names = [f"{layer}, {strategy}" for layer in LAYERS for strategy in STRATEGIES]
        found |= {
            "chosen": names[model.best_index_],
            "cv_accuracy": dict(zip(names, scores, strict=True)),
            "cv_fit_seconds": dict(zip(names, results["mean_fit_time"], strict=True)),
            "refit_seconds": model.refit_time_,
        }
    return found


def searching(case: dict[str, Any]) -> Callable[[np.ndarray, np.ndarray], Model]:
    """A grid search over layers and strategies."""
    warm_up("default", case["seed"])
    several = [made(described(strategy, case), case["seed"]) for strategy in STRATEGIES.values()]
    grid = {"features__layer": LAYERS, "strategy": several}
    search = GridSearchCV(estimator("frozen", seed=case["seed"]), grid, cv=case["folds"])
    return search.fit


def described(strategy: Any, case: dict[str, Any]) -> Any:
    """A strategy with the epochs of a case and otherwise its defaults."""
    return {**strategy, "epochs": case["epochs"]} if isinstance(strategy, dict) else strategy


# All cases, side by side


def epochs_for(labels: int) -> int:
    """Fewer for more labels."""
    return next((epochs for below, epochs in EPOCHS if labels < below), EPOCHS_OF_MANY)


def base(options: argparse.Namespace, labels: int, seed: int) -> dict[str, Any]:
    """Settings that all cases of a size and a round share."""
    return {
        "data": str(options.data),
        "test": options.test,
        "size": labels,
        "seed": seed,
        "threads": options.threads,
        "epochs": options.epochs or epochs_for(labels),
        "learning_rate": options.learning_rate,
        "batch_size": options.batch_size,
        "weights": "default",
    }


def compared(same: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every contestant of the comparison, by its name."""
    cases: dict[str, dict[str, Any]] = {}
    scratch = {**same, "weights": "random"}
    for unfreeze in (*UNFREEZE, "scratch"):
        case, what = (scratch, "all") if unfreeze == "scratch" else (same, unfreeze)
        many = unfreeze == "scratch" and (same["size"] or 0) > MANY
        for who in ("hand-written",) if many else ("hand-written", "skorch"):
            cases[f"{who}, {unfreeze}"] = {**case, "contestant": who, "unfreeze": what}
        strategy = like_peers(what, case)
        cases[f"ours, {unfreeze}"] = {**case, "contestant": "ours", "strategy": strategy}
    cases["ours, frozen"] = {**same, "contestant": "ours", "strategy": "frozen"}
    for who in ("frozen", "pixels", "pixels, SVC"):
        cases[who] = {**same, "contestant": who}
    return cases


def remedied(same: dict[str, Any], unfreeze: str | int) -> dict[str, dict[str, Any]]:
    """Ours with each remedy for imbalance, and the peers with their own."""
    cases = {
        f"ours, {remedy}": {
            **same, "contestant": "ours", "strategy": like_peers(unfreeze, same, **more)
        }
        for remedy, more in REMEDIES.items()
    }  # fmt: skip
    cases["ours, prior correction"] = {**cases["ours, no remedy"], **PRIOR}
    cases["ours frozen, no remedy"] = {**same, "contestant": "ours", "strategy": "frozen"}
    cases["ours frozen, prior correction"] = {**cases["ours frozen, no remedy"], **PRIOR}
    cases["hand-written, no remedy"] = {**same, "contestant": "hand-written", "unfreeze": unfreeze}
    for remedy in ("no remedy", "class_weight"):
        cases[f"frozen, {remedy}"] = {**same, "contestant": "frozen", **REMEDIES[remedy]}
    return cases


def all_images(same: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Ours on everything."""
    case = {**same, "contestant": "ours"}
    tuned = {f"ours, {what}": {**case, "strategy": like_peers(what, same)} for what in UNFREEZE}
    shallower = {**tuned["ours, all"], "features": SHALLOWER}
    return {"ours, frozen": {**case, "strategy": "frozen"}, **tuned, "ours, shallower": shallower}


def searched(same: dict[str, Any], folds: int) -> dict[str, dict[str, Any]]:
    """The search and its baselines."""
    scratch = {**same, "weights": "random"}
    strategy = like_peers("all", scratch)
    return {
        "search": {**same, "contestant": "search", "folds": folds},
        "ours, frozen": {**same, "contestant": "ours", "strategy": "frozen"},
        "ours, scratch": {**scratch, "contestant": "ours", "strategy": strategy},
    }


def cases_of(options: argparse.Namespace, labels: int, seed: int) -> dict[str, dict[str, Any]]:
    """The cases of a command, by name."""
    same = base(options, labels, seed)
    if options.command == "compare":
        cases = compared(same)
    elif options.command == "imbalance":
        same |= {"majority": options.majority, "minority": options.minority}
        cases = remedied(same, options.unfreeze)
    elif options.command == "full":
        cases = all_images(same)
    else:
        cases = searched(same, options.folds)
    wanted = options.contestants
    return {
        name: case for name, case in cases.items() if not wanted or case["contestant"] in wanted
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All rounds of all sizes: {size: {contestant: what was found}}."""
    found: dict[str, Any] = {}
    for labels in options.sizes:
        runs: dict[str, list[dict[str, Any]]] = {}
        for seed in range(options.rounds):
            cases = cases_of(options, labels, seed)
            runs = runs or {name: [] for name in cases}
            for name in list(cases)[:: -1 if seed % 2 else 1]:
                one = in_fresh_process(__file__, "--measure", json.dumps(cases[name]))
                runs[name].append(one)
                print(f"{labels:>6} {name:<28} {line(one)}", flush=True)
        found[str(labels)] = {name: summary(several) for name, several in runs.items()}
    return found


def line(one: dict[str, Any]) -> str:
    """A run in a line of the table that `heading` is above of."""
    cells = f"{one['accuracy']:>9.4f} {one['balanced_accuracy']:>9.4f} {one['fit_seconds']:>9.2f} "
    cells += f"{one['predict_seconds']:>9.2f} {one['peak_bytes'] / 1e6:>9.0f}"
    if "recall" in one:
        cells += f"  recall of few {one['recall']['few']:.4f}, many {one['recall']['many']:.4f}"
    return cells + (f"  chose {one['chosen']}" if "chosen" in one else "")


def heading() -> str:
    columns = ("accuracy", "balanced", "fit s", "predict s", "peak MB")
    return f"{'labels':>6} {'':<28} " + " ".join(f"{name:>9}" for name in columns)


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means of accuracies, medians of the rest, and the rounds themselves."""
    scores = {
        name: {"mean": statistics.mean(values), "std": statistics.pstdev(values)}
        for name in ("accuracy", "balanced_accuracy")
        if (values := [one[name] for one in runs])
    }
    costs = {
        name: statistics.median(one[name] for one in runs)
        for name in ("fit_seconds", "predict_seconds", "peak_bytes")
    }
    return {**scores, **costs, "others": disturbance([o["others"] for o in runs]), "runs": runs}


def unfreezing(text: str) -> str | int:
    return int(text) if text.isdigit() else text


def options_of_command_line() -> argparse.Namespace:
    made = parser(__doc__, rounds=1)
    made.add_argument("command", nargs="?", choices=("compare", "imbalance", "full", "search"))
    made.add_argument("--data", type=Path, default=DATA, help="folder of the four idx files")
    made.add_argument("--sizes", type=int, nargs="+", help="numbers of labels; for compare, search")
    made.add_argument("--test", type=int, help="so many test images; all by default")
    made.add_argument("--epochs", type=int, help="by default fewer for more labels")
    made.add_argument(
        "--learning-rate",
        type=float,
        help=f"by default {LEARNING_RATE:g}, of a head alone {HEAD_LEARNING_RATE:g}",
    )
    made.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    made.add_argument("--folds", type=int, default=3, help="of the search")
    made.add_argument("--unfreeze", type=unfreezing, default=1, help="for imbalance: head, 1, all")
    made.add_argument("--majority", type=int, default=MAJORITY)
    made.add_argument("--minority", type=int, default=MINORITY)
    made.add_argument("--contestants", nargs="+", help="only these, such as ours or hand-written")
    made.add_argument("--output", type=Path, help="results/finetuning_<command>.json by default")
    made.add_argument("--measure", help=argparse.SUPPRESS)
    options = made.parse_args()
    if options.measure:
        return options
    if options.command is None:
        made.error("say what to measure: compare, imbalance, full or search")
    if not options.data.is_dir():
        made.error(f"no folder {options.data}: install dataset-fashion-mnist or pass --data")
    if options.quick:
        options.sizes, options.rounds, options.epochs = options.sizes or [200], 1, 1
        options.test = options.test or 500
        options.majority, options.minority = 40, 2
    if options.command == "imbalance":
        options.sizes = [CLASSES // 2 * (options.majority + options.minority)]
    elif options.command == "full" and not options.quick:
        options.sizes = [60_000]
    elif options.sizes is None:
        options.sizes = [2_000] if options.command == "search" else [200, 2_000, 20_000]
    return options


def main() -> None:
    options = options_of_command_line()
    if options.measure:
        case = json.loads(options.measure)
        torch.set_num_threads(case["threads"])
        with threadpool_limits(case["threads"]):
            print(json.dumps(measure(case)))
        return
    print(heading())
    result = {
        "command": options.command,
        "threads": options.threads,
        "rounds": options.rounds,
        "test": options.test or "all",
        "epochs": {labels: options.epochs or epochs_for(labels) for labels in options.sizes},
        "learning_rate": options.learning_rate
        or {"head": HEAD_LEARNING_RATE, "others": LEARNING_RATE},
        "batch_size": options.batch_size,
        "peers": {"skorch": version("skorch")},
        "labels": run(options),
    }
    if options.command == "imbalance":
        result |= {name: getattr(options, name) for name in ("majority", "minority", "unfreeze")}
    if not options.quick:
        output = options.output or Path(f"finetuning_{options.command}.json")
        name = output.resolve() if options.output else output
        write_result(str(name.with_suffix("")), result)


if __name__ == "__main__":
    main()
