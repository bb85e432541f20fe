"""Images for the benchmarks, all cut from the two photographs that come with scikit-learn."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images


def crops(count: int, side: int, seed: int = 0) -> list[Image.Image]:
    """Different square RGB images with a photograph's statistics."""
    rng = np.random.default_rng(seed)
    photographs = load_sample_images().images
    images = []
    for i in range(count):
        photograph = photographs[i % len(photographs)]
        top, left = (int(rng.integers(0, length - side)) for length in photograph.shape[:2])
        crop = photograph[top : top + side, left : left + side]
        images.append(Image.fromarray(np.ascontiguousarray(crop[:, :: rng.choice((1, -1))])))
    return images


def write_jpegs(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """Different JPEGs of quality 90: crops enlarged to (width, height), with a sensor's noise."""
    folder.mkdir(parents=True, exist_ok=True)

    def write(numbered: tuple[int, Image.Image]) -> Path:
        number, crop = numbered
        rng = np.random.default_rng(number)
        pixels = np.asarray(crop.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
        noise = rng.standard_normal(pixels.shape, dtype=np.float32)
        noisy = np.clip(pixels + 5 * noise, 0, 255).astype(np.uint8)
        path = folder / f"{number:05d}.jpg"
        Image.fromarray(noisy).save(path, quality=90)
        return path

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(write, enumerate(crops(count, 256))))
