"""Four shifts of scikit-learn's digits: accuracy of methods on pixels and on deep features.

    python domain_shifts.py

900 random images are the source and the other 897 the target: turned by 20 degrees, faded to a
contrast of 0.4 on a grey of 0.3, inverted, or with an eighth of the digits 4 to 9. Logistic
regression with the defaults of `AdaptedClassifier`, on pixels from 0 to 1 and on the features of
EfficientNet-Lite0's "blocks.3" at 32 pixels, standardised over both domains. Means of five splits.
"""

from typing import Any

import numpy as np
from _common import parser, write_result
from _domains import METHODS, SOURCE, adapted
from scipy.ndimage import rotate
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from sktransfer import PretrainedCNNFeatures
from sktransfer.adaptation import stack_domains

N_SOURCE, N_SPLITS = 900, 5


def changed(name: str, **parameters: Any) -> Any:
    """A method of the benchmarks with other parameters than its defaults."""
    return clone(METHODS[name]).set_params(**parameters)


COMPARED: dict[str, Any] = {
    SOURCE: "source-only",
    "`KernelMeanMatching(bound=5)`": changed("KMM", bound=5),
    "`KLIEP`": METHODS["KLIEP"],
    "`NearestNeighborWeights`": METHODS["nearest neighbour"],
    "`DomainStandardScaler`": METHODS["domain-wise scaling"],
    "`CORAL`": METHODS["CORAL"],
    "`SubspaceAlignment`": METHODS["subspace alignment"],
    '`TransferComponentAnalysis(20, kernel="linear")`': changed(
        "TCA", n_components=20, kernel="linear"
    ),
    '`OptimalTransportMap("linear")`': METHODS["linear OT"],
    '`OptimalTransportMap("class-regularised", reg=0.02, normalise_cost="max")`': changed(
        "class-regularised OT", reg=0.02, normalise_cost="max"
    ),
    "`SourceMetric`": METHODS["source metric"],
    "`LabelPropagationClassifier`": METHODS["label propagation"],
    "`PrototypeTransferClassifier`": METHODS["prototypes"],
}
"""By the call that makes them, as the tables of the documentation show it."""


def shifted(images: np.ndarray, y: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images and labels of the target under each shift."""
    few = (y < 4) | (np.arange(len(y)) % 8 == 0)
    return {
        "turned": (rotate(images, 20, axes=(1, 2), reshape=False, order=1), y),
        "faded": (0.4 * images + 0.3, y),
        "inverted": (1 - images, y),
        "shares": (images[few], y[few]),
    }


def deep(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standardised features of both domains."""
    images = np.clip(np.concatenate([source, target]), 0, 1)
    features = PretrainedCNNFeatures(image_size=32, layer="blocks.3").fit_transform(images)
    features = StandardScaler().fit_transform(features)
    return features[: len(source)], features[len(source) :]


def flat(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of both domains."""
    return source.reshape(len(source), -1), target.reshape(len(target), -1)


def accuracy(method: Any, data: Any, target: np.ndarray, y_target: np.ndarray) -> float:
    X, y, sample_domain = data
    estimator = adapted(method, LogisticRegression(max_iter=1000))
    return float(estimator.fit(X, y, sample_domain=sample_domain).score(target, y_target))


def main() -> None:
    options = parser(__doc__, rounds=1).parse_args()
    images, y = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8) / 16
    n_splits, n_source, n_rows = (1, 150, 300) if options.quick else (N_SPLITS, N_SOURCE, len(y))
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    with threadpool_limits(options.threads):
        for seed in range(n_splits):
            order = np.random.RandomState(seed).permutation(len(y))[:n_rows]
            rows, others = order[:n_source], order[n_source:]
            for shift, (target, y_target) in shifted(images[others], y[others]).items():
                for kind, features_of in {"pixels": flat, "deep": deep}.items():
                    X_source, X_target = features_of(images[rows], target)
                    data = stack_domains(X_source, X_target, y[rows])
                    cells = found.setdefault(kind, {}).setdefault(shift, {})
                    for name, method in COMPARED.items():
                        value = accuracy(method, data, X_target, y_target)
                        cells.setdefault(name, []).append(value)
                    print(seed, shift, kind, flush=True)
    means = {
        kind: {
            shift: {name: float(np.mean(values)) for name, values in cells.items()}
            for shift, cells in shifts.items()
        }
        for kind, shifts in found.items()
    }
    for name in COMPARED:
        cells = [means[kind][shift][name] for kind in means for shift in means[kind]]
        print(f"{name:<80}" + " ".join(f"{cell:.3f}" for cell in cells))
    if not options.quick:
        write_result("domain_shifts", {"splits": n_splits, "mean": means})


if __name__ == "__main__":
    main()
