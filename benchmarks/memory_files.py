"""Measure the peak memory of extraction from 2,000 and from 20,000 image files.

Each size runs in its own process, so that the operating system's peak counts
one run. The files are noise over a gradient, made here, 320 x 240 JPEGs. Target:
at most 300 MB more for ten times the files.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from _common import write_result
from PIL import Image


def make_files(folder: Path, count: int) -> None:
    """Write `count` different JPEGs that resemble photographs."""
    y, x = np.mgrid[0:240, 0:320]
    base = np.stack([y, x * 0.7, (x + y) * 0.4], axis=2)

    def write(i: int) -> None:
        noise = np.random.default_rng(i).normal(0, 12, (60, 80, 3)).repeat(4, 0).repeat(4, 1)
        pixels = np.clip(base + noise + i % 50, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:05d}.jpg", quality=85)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(count)))


def measure(folder: str, count: int, image_size: int) -> None:
    """Extract in this process and print seconds and peak memory as JSON."""
    from sktransfer import PretrainedCNNFeatures
    from sktransfer.datasets import list_images

    paths = list_images(folder)[0][:count]
    extractor = PretrainedCNNFeatures(image_size=image_size).fit(paths)
    started = time.perf_counter()
    features = extractor.transform(paths)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"files": count, "peak_MB": peak, "output_MB": features.nbytes / 2**20,
                      "seconds": seconds}))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--measure", nargs=2, metavar=("FOLDER", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure[0], int(options.measure[1]), options.image_size)
        return
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), max(options.sizes))
        print(f"{'files':>8} {'peak MB':>9} {'of it output':>13} {'images/s':>9}")
        for count in options.sizes:
            command = [sys.executable, __file__, "--image-size", str(options.image_size)]
            printed = subprocess.run(
                [*command, "--measure", folder, str(count)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            run = json.loads(printed)
            runs.append(run)
            rate = count / run["seconds"]
            print(f"{count:>8} {run['peak_MB']:>9.0f} {run['output_MB']:>13.1f} {rate:>9.0f}")
    growth = runs[-1]["peak_MB"] - runs[0]["peak_MB"]
    print(f"growth of the peak: {growth:.0f} MB")
    write_result("memory_files", {"image_size": options.image_size, "runs": runs,
                                  "growth_MB": growth})  # fmt: skip


if __name__ == "__main__":
    main()
