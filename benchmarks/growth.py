"""Measure the growth of time and memory with 1,000, 10,000 and 100,000 images.

The images are scikit-learn's digits with their number written into four pixels, so that all
differ; a sequence makes each on access. efficientnet_lite0 at 32 pixels, layer
blocks.3, once without a store and once with a fresh one, each size in its own process.
Without a store the network ends at blocks.3; with one it runs to its end and all stages are
stored, so that the two lines' slopes differ by more than the writing. Least squares give
seconds and bytes per image, and the constant parts.
"""

import argparse
import json
import resource
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import in_fresh_process, parser, timed, write_result
from sklearn.datasets import load_digits

NO_STORE = "none"


class Digits(Sequence):
    """Any number of different images of 8 x 8, none of which is kept."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.digits = (load_digits().images * 15).astype(np.uint8)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        if not 0 <= index < self.count:
            raise IndexError(index)
        image = self.digits[index % len(self.digits)].copy()
        image[0, :4] = tuple(index.to_bytes(4, "little"))
        return image


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(count: int, store: str, threads: int) -> dict[str, float]:
    """In this fresh process: loading, extraction and the highest memory."""
    from sktransfer import FeatureStore, PretrainedCNNFeatures

    torch.set_num_threads(threads)
    cache = None if store == NO_STORE else FeatureStore(store)
    # Loading and compiling the network costs the same at every size, and is no part of it.
    ready = None if cache is None else FeatureStore(Path(store) / "ready")
    features = PretrainedCNNFeatures(image_size=32, layer="blocks.3", cache=ready)
    loading, _ = timed(lambda: features.fit_transform(Digits(64)))
    features.set_params(cache=cache)
    before = peak_bytes()
    seconds, matrix = timed(lambda: features.transform(Digits(count)))
    found = {"seconds": seconds, "loading_seconds": loading}
    found |= {"peak_bytes": peak_bytes(), "loaded_bytes": before, "output_bytes": matrix.nbytes}
    if cache is not None:
        again, _ = timed(lambda: features.transform(Digits(count)))
        found |= {"store_bytes": cache.info()["bytes"], "again_seconds": again}
    return found


def line(runs: list[dict[str, float]], what: str) -> dict[str, float]:
    slope, start = np.polyfit([run["images"] for run in runs], [run[what] for run in runs], 1)
    return {"per_image": float(slope), "start": float(start)}


def main() -> None:
    options_of = parser(__doc__, rounds=1)
    options_of.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    options_of.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = options_of.parse_args()
    if options.measure:
        print(json.dumps(measure(int(options.measure[0]), options.measure[1], options.threads)))
        return
    if options.quick:
        options.sizes, options.rounds = [200, 400], 1
    runs: dict[str, list[dict[str, float]]] = {"without a store": [], "with a store": []}
    columns = f"{'images':>8} {'seconds':>9} {'images/s':>9} {'peak MB':>8} {'of it output':>13}"
    print(f"{'':<16} {columns}")
    for _ in range(options.rounds):
        for count in options.sizes:
            for name, found in runs.items():
                with tempfile.TemporaryDirectory() as folder:
                    store = NO_STORE if name == "without a store" else folder
                    question = ("--measure", count, store, "--threads", options.threads)
                    run = {"images": count, **in_fresh_process(__file__, *question)}
                found.append(run)
                print(
                    f"{name:<16} {count:>8} {run['seconds']:>9.2f} {count / run['seconds']:>9.0f} "
                    f"{run['peak_bytes'] / 1e6:>8.0f} {run['output_bytes'] / 1e6:>13.1f}"
                )
    lines: dict[str, Any] = {}
    print(f"\n{'':<16} {'ms/image':>9} {'start s':>8} {'bytes/image':>12} {'start MB':>9}")
    for name, found in runs.items():
        time, memory = line(found, "seconds"), line(found, "peak_bytes")
        lines[name] = {"seconds": time, "peak_bytes": memory}
        print(
            f"{name:<16} {1e3 * time['per_image']:>9.3f} {time['start']:>8.2f} "
            f"{memory['per_image']:>12.0f} {memory['start'] / 1e6:>9.0f}"
        )
    disk, again = (line(runs["with a store"], what) for what in ("store_bytes", "again_seconds"))
    print(f"on disk a store takes {disk['per_image']:.0f} bytes per image; a second transform")
    print(f"in the same process takes {1e3 * again['per_image']:.3f} ms per image")
    if not options.quick:
        write_result("growth", {"threads": options.threads, "runs": runs, "lines": lines})


if __name__ == "__main__":
    main()
