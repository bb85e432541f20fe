"""Measure the share of peak arithmetic that resnet50 reaches, relative to matrix products.

The peak is the best rate of float32 matrix products at several sizes, by torch (MKL) or NumPy
(OpenBLAS): which of the two is faster depends on the maker of the CPU. resnet50 (random
weights, 224 pixels, no classifier) is counted by torch's own counter, two operations per
multiplication and addition; folding batch norm or another memory layout does not change
that number. Rounds are interleaved, and each round's rates are divided by that
round's peak, so that a slow moment of the machine slows both.
"""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from _common import disturbance, parser, timed, timed_quietly, write_result
from _peers import eager_loop
from threadpoolctl import threadpool_limits
from torch.utils.flop_counter import FlopCounterMode

from sktransfer import PretrainedCNNFeatures


def products(sizes: list[int], repeats: int) -> dict[str, float]:
    """Best GFLOP/s of square matrix products, by each of the libraries here."""
    best = {"torch": 0.0, "NumPy": 0.0}
    for size in sizes:
        a, b, out = (np.random.default_rng(0).random((size, size), np.float32) for _ in range(3))
        tensors = [torch.from_numpy(array) for array in (a, b, out)]
        works = {
            "torch": partial(torch.mm, *tensors[:2], out=tensors[2]),
            "NumPy": partial(np.matmul, a, b, out=out),
        }
        for name, work in [*works.items()] * repeats:
            best[name] = max(best[name], 2 * size**3 / timed(work)[0] / 1e9)
    return best


def contestants(pixels: np.ndarray) -> tuple[dict[str, Callable[[], Any]], float]:
    """The ways to run the network on all pixels, and the GFLOP of one image."""
    made: dict[str, Callable[[], Any]] = {}
    for engine in ("openvino", "torch"):
        features = PretrainedCNNFeatures(
            "resnet50", weights="random", random_state=0, engine=engine, image_size=224
        ).fit(np.zeros((1, 224, 224, 3), np.uint8))
        made[f"ours, {engine}"] = partial(
            features._engine(features.fitted_, features.fitted_.reads), pixels
        )
    images = list(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous())
    for size in (8, 32):
        loop = eager_loop(features.module_, "resnet50", None, size)
        made[f"eager loop, batch {size}"] = partial(loop, images)
    with FlopCounterMode(display=False) as counter:
        eager_loop(features.module_, "resnet50", None, 1)(images[:1])
    return made, counter.get_total_flops() / 1e9


def main() -> None:
    options_of = parser(__doc__, rounds=7)
    options_of.add_argument("--images", type=int, default=32)
    options_of.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048, 4096])
    options = options_of.parse_args()
    repeats = 5
    if options.quick:
        options.rounds, options.images, options.sizes, repeats = 2, 4, [1024], 2
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((options.images, 224, 224, 3), dtype=np.float32)
    runs, gflop = contestants(pixels)
    for run in runs.values():
        run()
    peaks: list[dict[str, float]] = []
    rates: dict[str, list[float]] = {name: [] for name in runs}
    others: list[float] = []
    with threadpool_limits(options.threads, user_api="blas"):
        for _ in range(options.rounds):
            before = products(options.sizes, repeats)
            for name, run in runs.items():
                seconds, share = timed_quietly(run)
                rates[name].append(gflop * options.images / seconds)
                others.append(share)
            after = products(options.sizes, repeats)
            peaks.append({name: max(before[name], after[name]) for name in before})
    best = [max(peak.values()) for peak in peaks]

    found = {
        name: {
            "gflop_per_second": statistics.median(values),
            "of_the_rounds_peak": statistics.median(
                rate / peak for rate, peak in zip(values, best, strict=True)
            ),
            "of_the_best_peak": statistics.median(values) / max(best),
        }
        for name, values in rates.items()
    }
    print(f"resnet50 at 224 pixels: {gflop:.2f} GFLOP per image, {options.threads} threads")
    print(f"{'':<24} {'GFLOP/s':>8} {'of the peak':>12} {'of the best peak':>17}")
    for library in peaks[0]:
        rate = statistics.median(peak[library] for peak in peaks)
        share = statistics.median(p[library] / top for p, top in zip(peaks, best, strict=True))
        print(f"{'matrix product, ' + library:<24} {rate:>8.0f} {share:>12.0%}")
    for name, value in found.items():
        shares = f"{value['of_the_rounds_peak']:>12.0%} {value['of_the_best_peak']:>17.0%}"
        print(f"{name:<24} {value['gflop_per_second']:>8.0f} {shares}")
    disturbed = disturbance(others)
    print(f"others had {disturbed['median']:.0%} of the machine, {disturbed['most']:.0%} at most")
    if not options.quick:
        write_result(
            "peak_fraction",
            {
                "threads": options.threads,
                "rounds": options.rounds,
                "gflop_per_image": gflop,
                "matrix_product_gflop_per_second": peaks,
                "contestants": found,
                "others": disturbed,
            },
        )


if __name__ == "__main__":
    main()
