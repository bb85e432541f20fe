"""Compare what may stand between features and a ridge regression, with few labels.

    python ridge_heads.py

Images are rotated by an angle, which is to be predicted, or it is the number of words of a text or
the frequency of a series. Features with hardly any spread in the training rows are the trouble:
divided by their deviation, they put a new row that has more of them very far away. Shown are R2 on
test rows: the median and the least of all tasks and rounds, each of which draws other rows.

All get the same features and RidgeCV with a wide grid of penalties; "FineTunedRegressor" is ours
with strategy="frozen". The images are scikit-learn's digits, Fashion-MNIST (of Debian's package
dataset-fashion-mnist) and icons (of gnome-icon-theme); what is not installed is left out.
"""

import argparse
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _common import parser, write_result
from finetuning import DATA, read_idx
from PIL import Image
from scipy.ndimage import rotate
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, QuantileTransformer, RobustScaler, StandardScaler

ICONS = Path("/usr/share/icons/gnome/48x48")
ALPHAS = np.logspace(-6, 6, 25)
LABELS, TEST = 200, 500
LAYERS: dict[str, Any] = {
    "last layer": "penultimate",
    "middle layer": "blocks.4",
    "three layers": ("blocks.2", "blocks.4", "blocks.6"),
}


class Task(NamedTuple):
    """Training rows and test rows of raw samples, their numbers, and a transformer for them."""

    X: Any
    y: np.ndarray
    X_test: Any
    y_test: np.ndarray
    features: BaseEstimator


def ridge(*steps: BaseEstimator) -> Callable[[], Any]:
    return lambda: make_pipeline(*[type(s)(**s.get_params()) for s in steps], RidgeCV(ALPHAS))


CONTESTANTS: dict[str, Callable[[], Any]] = {
    "StandardScaler": ridge(StandardScaler()),
    "no scaler": ridge(),
    "PCA(50)": ridge(PCA(50)),
    "StandardScaler, PCA(50)": ridge(StandardScaler(), PCA(50)),
    "RobustScaler": ridge(RobustScaler()),
    "MaxAbsScaler": ridge(MaxAbsScaler()),
    "QuantileTransformer": ridge(QuantileTransformer(n_quantiles=100)),
}
OURS = "FineTunedRegressor"


def rotated(images: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Images of bytes (n, height, width), each rotated by an angle in degrees."""
    turned = [
        rotate(x, a, reshape=False, order=1, mode="constant")
        for x, a in zip(images, angles, strict=True)
    ]
    return np.stack(turned)


def pictures(options: argparse.Namespace) -> Iterator[tuple[str, np.ndarray]]:
    """Sets of images of bytes, by name."""
    yield "digits", (load_digits().images * 15.9375).astype(np.uint8)
    if options.data.is_dir():
        yield "Fashion-MNIST", read_idx(options.data / "train-images-idx3-ubyte.gz")
    files = sorted(options.icons.glob("*/*.png"))
    if files:
        white = Image.new("RGBA", (48, 48), "white")
        yield (
            "icons",
            np.stack(
                [
                    np.asarray(
                        Image.alpha_composite(white, Image.open(f).convert("RGBA")).convert("L")
                    )
                    for f in files
                    if Image.open(f).size == (48, 48)
                ]
            ),
        )


def tasks(options: argparse.Namespace, seed: int, cache: str) -> Iterator[tuple[str, Task]]:
    """All tasks of a round, by name."""
    from sktransfer import PretrainedCNNFeatures, PretrainedTextFeatures, RNNSequenceFeatures
    from sktransfer.datasets import load_scipy_summaries

    rng = np.random.default_rng(seed)
    for name, images in pictures(options):
        rows = rng.permutation(len(images))[: options.labels + options.test]
        angles = rng.uniform(-60, 60, len(rows))
        X = rotated(images[rows], angles)
        n = min(options.labels, len(rows) - options.labels // 2)
        for layer, read in LAYERS.items():
            features = PretrainedCNNFeatures(
                image_size=32, resize="squash", layer=read, cache=cache
            )
            yield f"{name}, {layer}", Task(X[:n], angles[:n], X[n:], angles[n:], features)
    n, both = options.labels, options.labels + options.test
    time = np.linspace(0, 6, 80)
    frequency = rng.uniform(1, 5, both)
    phase, slope = rng.uniform(0, 6, (2, both, 1))
    series = np.sin(frequency[:, None] * time + phase) + 0.3 * slope * time / 6
    series += 0.3 * rng.normal(size=series.shape)
    yield (
        "series, frequency",
        Task(
            series[:n],
            frequency[:n],
            series[n:],
            frequency[n:],
            RNNSequenceFeatures(random_state=0),
        ),
    )
    texts = load_scipy_summaries().data
    chosen = [texts[i] for i in rng.permutation(len(texts))[:both]]
    words = np.array([np.log(len(text.split())) for text in chosen])
    yield (
        "texts, words",
        Task(chosen[:n], words[:n], chosen[n:], words[n:], PretrainedTextFeatures(cache=cache)),
    )


def measure(task: Task, wanted: list[str]) -> dict[str, float]:
    """R2 on the test rows of every contestant."""
    from sktransfer import FineTunedRegressor

    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        X = task.features.fit_transform(task.X)
        X_test = task.features.transform(task.X_test)
        for name in wanted:
            if name == OURS:
                model = FineTunedRegressor(task.features, strategy="frozen")
                predicted = model.fit(task.X, task.y).predict(task.X_test)
            else:
                predicted = CONTESTANTS[name]().fit(X, task.y).predict(X_test)
            found[name] = float(r2_score(task.y_test, predicted))
    return found


def main() -> None:
    made = parser(__doc__, rounds=5)
    made.add_argument("--data", type=Path, default=DATA, help="folder of Fashion-MNIST's files")
    made.add_argument("--icons", type=Path, default=ICONS, help="folder of folders of icons")
    made.add_argument("--cache", help="folder that keeps features for another run")
    made.add_argument("--labels", type=int, default=LABELS)
    made.add_argument("--test", type=int, default=TEST)
    options = made.parse_args()
    if options.quick:
        options.rounds, options.labels, options.test = 1, 60, 100
    wanted = [*CONTESTANTS, OURS]
    scores: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.rounds):
            for name, task in tasks(options, seed, options.cache or folder):
                found = measure(task, wanted)
                for contestant, score in found.items():
                    scores.setdefault(name, {}).setdefault(contestant, []).append(score)
                cells = "".join(f"{score:>12.3f}" for score in found.values())
                print(f"{name:<28}{cells}", flush=True)
    summary = {}
    for contestant in wanted:
        every = [score for of_task in scores.values() for score in of_task[contestant]]
        summary[contestant] = {
            "median": statistics.median(every),
            "least": min(every),
            "below_zero": sum(score < 0 for score in every),
        }
        line = "".join(f"{value:>14.3f}" for value in summary[contestant].values())
        print(f"{contestant:<28}{line}")
    result = {
        "labels": options.labels,
        "test": options.test,
        "rounds": options.rounds,
        "contestants": summary,
        "tasks": {
            name: {
                contestant: {"median": statistics.median(several), "runs": several}
                for contestant, several in of_task.items()
            }
            for name, of_task in scores.items()
        },
    }
    if not options.quick:
        write_result("ridge_heads", result)


if __name__ == "__main__":
    main()
