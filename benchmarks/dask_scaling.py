"""Measure the overhead of dask, its scaling from one worker to two, and its unpickling.

There are two kinds of work for efficientnet_lite0, each in blocks of two sizes: JPEG files of 320 x
240 at 224 pixels as a bag of paths, and digits of 8 x 8 at 32 pixels up to blocks.3 as an array.
Workers are processes of one thread on this machine, and `transform` without dask has one thread,
then two. Wall-clock seconds are paired; those of all processors (client, scheduler and workers
together) show the cost of dask even if other processes use the second core. Unpickles of the
estimator are counted for 64 blocks on two workers: passed to map_blocks, passed as dask.delayed,
and by `transform`.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import dask
import dask.array
import dask.bag
import numpy as np
import torch
from _common import disturbance, medians, parser, ratio, timed_watching, write_result
from distributed import Client, LocalCluster
from growth import Digits
from memory_files import make_files

from sktransfer import PretrainedCNNFeatures
from sktransfer.datasets import list_images


class Noting(PretrainedCNNFeatures):
    """An object that records the processes in which it is unpickled."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        with open(os.environ["UNPICKLED_LOG"], "a") as log:
            log.write(f"{os.getpid()}\n")
        super().__setstate__(state)


def cpu_seconds() -> float:
    own = os.times()
    return own.user + own.system


@contextmanager
def cluster_of(n_workers: int) -> Iterator[Client]:
    with (
        LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def workers_cpu(clients: dict[int, Client]) -> float:
    """Processor seconds of all workers so far, which would otherwise count as other processes."""
    return sum(sum(client.run(cpu_seconds).values()) for client in clients.values())


def compare(
    features: PretrainedCNNFeatures,
    items: Any,
    collect: Callable[[Any, int], Any],
    blocks: list[int],
    clients: dict[int, Client],
    rounds: int,
) -> dict[str, Any]:
    """Time of plain `transform` and of dask, by the clock and by the processors."""

    def plain(threads: int) -> np.ndarray:
        torch.set_num_threads(threads)
        return features.transform(items)

    def by_dask(n_workers: int, size: int) -> np.ndarray:
        return clients[n_workers].compute(features.transform(collect(items, size))).result()

    work: dict[str, Callable[[], np.ndarray]] = {}
    for threads in (1, 2):
        work[f"transform, {threads} threads"] = partial(plain, threads)
    for size in blocks:
        for n in clients:
            work[f"dask, {n} workers, blocks of {size}"] = partial(by_dask, n, size)
    expected = plain(1)
    for run in work.values():  # workers load and compile the network once
        np.testing.assert_allclose(run(), expected, rtol=0, atol=1e-4)

    seconds: dict[str, list[float]] = {name: [] for name in work}
    cpu: dict[str, list[float]] = {name: [] for name in work}
    others: list[float] = []
    for number in range(rounds):
        for name in list(work)[:: -1 if number % 2 else 1]:
            own, before = cpu_seconds(), workers_cpu(clients)
            took, _, share = timed_watching(work[name])
            spent = workers_cpu(clients) - before
            seconds[name].append(took)
            cpu[name].append(cpu_seconds() - own + spent)
            others.append(max(0.0, share - spent / took / (os.cpu_count() or 1)))
    processors = medians(cpu)
    result: dict[str, Any] = {
        "images": len(items),
        "seconds": seconds,
        "images_per_second": {k: len(items) / value for k, value in medians(seconds).items()},
        "processor_seconds": processors,
        "others": disturbance(others),
        "two_threads": ratio(seconds["transform, 1 threads"], seconds["transform, 2 threads"]),
        "blocks": {},
    }
    for size in blocks:
        one, two = (f"dask, {n} workers, blocks of {size}" for n in (1, 2))
        result["blocks"][str(size)] = {
            "overhead": ratio(seconds[one], seconds["transform, 1 threads"]),
            "processor_overhead": processors[one] / processors["transform, 1 threads"],
            "two_workers": ratio(seconds[one], seconds[two]),
        }
    return result


def unpickles(client: Client, log: Path) -> dict[str, Any]:
    """How often the estimator is unpickled for 64 blocks, in the workers and elsewhere."""
    images = np.stack([Digits(640)[number] for number in range(640)])
    features = Noting(image_size=32, layer="blocks.3").fit(images)
    source = dask.array.from_array(images, chunks=(10, 8, 8))
    how = {
        "chunks": (source.chunks[0], (80,)),
        "drop_axis": [1, 2],
        "new_axis": 1,
        "dtype": np.float32,
        "meta": np.empty((0, 80), np.float32),
    }
    ways = {
        "as it is": lambda: source.map_blocks(applied, features=features, **how),
        "dask.delayed": lambda: source.map_blocks(applied, features=dask.delayed(features), **how),
        "transform": lambda: features.transform(source),
    }
    counts = {}
    for name, make in ways.items():
        log.unlink(missing_ok=True)
        client.compute(make()).result()
        by_process = Counter(map(int, log.read_text().split()))
        workers = sorted(by_process[pid] for pid in client.run(os.getpid).values())
        counts[name] = {"workers": workers, "elsewhere": by_process.total() - sum(workers)}
    return counts


def applied(block: np.ndarray, features: PretrainedCNNFeatures) -> np.ndarray:
    return features.transform(block)


def bag_of(paths: list[str], size: int) -> Any:
    return dask.bag.from_sequence(paths, partition_size=size)


def array_of(images: np.ndarray, size: int) -> Any:
    return dask.array.from_array(images, chunks=(size, *images.shape[1:]))


def main() -> None:
    options = parser(__doc__, rounds=3).parse_args()
    n_files, n_digits = (24, 400) if options.quick else (192, 10_000)
    rounds = 1 if options.quick else options.rounds
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        log = Path(folder) / "unpickled"
        os.environ["UNPICKLED_LOG"] = str(log)
        clients = {n: stack.enter_context(cluster_of(n)) for n in (1, 2)}
        make_files(Path(folder), n_files)
        paths = list_images(folder)[0]
        images = np.stack([Digits(n_digits)[number] for number in range(n_digits)])
        files = PretrainedCNNFeatures().fit(paths)
        digits = PretrainedCNNFeatures(image_size=32, layer="blocks.3").fit(images)
        result = {
            "unpickles": unpickles(clients[2], log),
            "files at 224 pixels": compare(files, paths, bag_of, [12, 96], clients, rounds),
            "digits at 32 pixels": compare(digits, images, array_of, [100, 2000], clients, rounds),
        }
    report(result)
    if not options.quick:
        write_result("dask_scaling", {"rounds": rounds, **result})


def report(result: dict[str, Any]) -> None:
    print("unpickles of 64 blocks:", result["unpickles"])
    for name in [name for name in result if "pixels" in name]:
        print(f"\n{name}; others had {result[name]['others']['median']:.0%} of the machine")
        for contestant, rate in result[name]["images_per_second"].items():
            cpu = 1e3 * result[name]["processor_seconds"][contestant] / result[name]["images"]
            print(f"{contestant:<36} {rate:>8.0f} images/s {cpu:>8.3f} ms of processor per image")
        for size, figures in result[name]["blocks"].items():
            print(
                f"blocks of {size}: one worker / transform {figures['overhead']['paired']:.2f} "
                f"(processors {figures['processor_overhead']:.2f}), "
                f"two workers {figures['two_workers']['paired']:.2f} times as fast"
            )


if __name__ == "__main__":
    main()
