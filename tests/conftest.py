"""Pictures and paths shared by the tests."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # Processes share the cores; threads of each on all of them would wait for one another.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images


@pytest.fixture(scope="session")
def photos() -> list[Image.Image]:
    """The two photographs that scikit-learn carries: a palace and a flower."""
    return [Image.fromarray(image) for image in load_sample_images().images]


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images of shape (1797, 8, 8) within [0, 1], and labels."""
    bunch = load_digits()
    return bunch.images / 16, bunch.target


@pytest.fixture
def colour() -> np.ndarray:
    """Six uint8 images of shape (10, 12, 3)."""
    return np.random.RandomState(0).randint(0, 256, (6, 10, 12, 3)).astype(np.uint8)
