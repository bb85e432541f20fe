"""Measure images per second from a folder of JPEGs to features.

The network is efficientnet_lite0 at 224 pixels, on photographs of 500 x 375 and of 12 megapixels
(enlarged crops with noise, quality 90). Ours with either engine, with and without fast_decode, into
an empty feature store and from a full one (in a fresh process, so that nothing is remembered but
what is on disk). Beside it the plain timm loop with a torch DataLoader, batches of 32, without and
with two worker processes, and embetter's ImageLoader and TimmEncoder, set to evaluation mode. All
read files that are in the operating system's cache. Interleaved rounds, medians; the fresh
processes run after the rounds.

For fast_decode also: how far pixels and features are from those of the full decoding.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import in_fresh_process, interleaved, medians, parser, ratio, timed, write_result
from _images import write_jpegs
from _peers import embetter, plain
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torch.utils.data import DataLoader, Dataset

from sktransfer import FeatureStore, PretrainedCNNFeatures

FOLDERS = {"500 x 375": (500, 375), "12 megapixels": (4000, 3000)}


class Photographs(Dataset):
    """Files, decoded and transformed as timm's users do it."""

    def __init__(self, paths: list[Path], transform: Callable[[Any], torch.Tensor]) -> None:
        self.paths = paths
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB"))


def plain_loop(network: torch.nn.Module, dataset: Dataset, workers: int) -> np.ndarray:
    loader = DataLoader(dataset, batch_size=32, num_workers=workers)
    with torch.inference_mode():
        return torch.cat([network(batch) for batch in loader]).numpy()


def embetter_run(encode: Callable[[Any], np.ndarray], paths: list[Path]) -> np.ndarray:
    from embetter.vision import ImageLoader

    return encode(ImageLoader().transform(paths))


def into_empty_store(features: PretrainedCNNFeatures, paths: list[Path]) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        return features.set_params(cache=FeatureStore(folder)).transform(paths)


def contestants(paths: list[Path]) -> dict[str, Callable[[], np.ndarray]]:
    """All contestants but the one that needs its own process."""
    made: dict[str, Callable[[], np.ndarray]] = {}
    for engine in ("openvino", "torch"):
        for fast in (False, True):
            features = PretrainedCNNFeatures(engine=engine, fast_decode=fast).fit(paths)
            name = f"ours, {engine}{', fast_decode' if fast else ''}"
            made[name] = partial(features.transform, paths)
    stored = PretrainedCNNFeatures(engine="openvino").fit(paths)
    made["ours, openvino, into an empty store"] = partial(into_empty_store, stored, paths)
    network = plain(features.module_)
    config = resolve_data_config({}, model=network)
    network.reset_classifier(0)
    dataset = Photographs(paths, create_transform(**config))
    for workers in (0, 2):
        name = f"timm loop, DataLoader with {workers} workers"
        made[name] = partial(plain_loop, network, dataset, workers)
    encode = embetter(features.module_, "efficientnet_lite0", tensors=False)
    made["embetter"] = partial(embetter_run, encode, paths)
    return made


def fast_decode_differences(paths: list[Path]) -> dict[str, float]:
    """Pixels in levels of 256, of what the network receives; features by angle and by size."""
    pixels, matrices = [], []
    for fast in (False, True):
        features = PretrainedCNNFeatures(fast_decode=fast).fit(paths)
        read = features._reader(features.fitted_.preprocessing)
        scale = 255 * np.asarray(features.fitted_.preprocessing.std, np.float32)
        pixels.append(np.stack([read(path) * scale for path in paths]))
        matrices.append(features.transform(paths))
    full, fast_features = matrices
    lengths = np.linalg.norm(full, axis=1) * np.linalg.norm(fast_features, axis=1)
    cosine = (full * fast_features).sum(1) / lengths
    return {
        "mean_absolute_pixel": float(np.abs(pixels[0] - pixels[1]).mean()),
        "most_absolute_pixel": float(np.abs(pixels[0] - pixels[1]).max()),
        "mean_cosine_distance": float(1 - cosine.mean()),
        "most_cosine_distance": float(1 - cosine.min()),
        "relative_features": float(np.abs(full - fast_features).max() / np.abs(full).max()),
    }


def measure(size: str, paths: list[Path], folder: Path, rounds: int, threads: int) -> Any:
    runs = contestants(paths)
    store = folder / "store"
    right = PretrainedCNNFeatures(engine="openvino", cache=FeatureStore(store)).fit_transform(paths)
    apart = {name: float(np.abs(run() - right).max() / np.abs(right).max())
             for name, run in runs.items()}  # fmt: skip
    seconds, others = interleaved(runs, rounds, warm_up=False)
    question = ("--from-store", store, paths[0].parent, "--threads", threads)
    told = [in_fresh_process(__file__, *question) for _ in range(rounds)]
    assert not any(each["n_forward"] for each in told)
    seconds["ours, from a full store, fresh process"] = [each["seconds"] for each in told]
    rates = {name: len(paths) / value for name, value in medians(seconds).items()}
    print(f"\n{len(paths)} JPEGs of {size}")
    print(f"{'':<42} {'images/s':>9} {'difference':>11}")
    for name, rate in sorted(rates.items(), key=lambda item: -item[1]):
        shown = f"{apart[name]:>11.1e}" if name in apart else ""
        print(f"{name:<42} {rate:>9.1f} {shown}")
    peers = [name for name in rates if not name.startswith("ours")]
    best = max(peers, key=rates.__getitem__)
    ratios = {name: ratio(seconds[best], seconds[name]) for name in rates if name not in peers}
    for name, value in ratios.items():
        print(f"{name} / {best}: {value['paired']:.2f}")
    print(f"others had {others['median']:.0%} of the machine, {others['most']:.0%} at most")
    differences = fast_decode_differences(paths)
    print("fast_decode: " + ", ".join(f"{k} {v:.2g}" for k, v in differences.items()))
    return {"images": len(paths), "images_per_second": rates, "relative_difference": apart,
            "best_peer": best, "ratios": ratios, "fast_decode": differences,
            "others": others}  # fmt: skip


def from_store(store: Path, folder: Path) -> dict[str, float]:
    paths = sorted(folder.glob("*.jpg"))
    features = PretrainedCNNFeatures(engine="openvino", cache=FeatureStore(store)).fit(paths)
    seconds, _ = timed(lambda: features.transform(paths))
    return {"seconds": seconds, "n_forward": features.n_forward_}


def main() -> None:
    options_of = parser(__doc__, rounds=5)
    options_of.add_argument("--counts", type=int, nargs=2, default=[200, 24])
    options_of.add_argument("--from-store", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = options_of.parse_args()
    torch.set_num_threads(options.threads)
    if options.from_store:
        print(json.dumps(from_store(*options.from_store)))
        return
    if options.quick:
        options.rounds, options.counts = 1, [6, 2]
    result: dict[str, Any] = {"threads": options.threads, "rounds": options.rounds}
    for (size, pixels), count in zip(FOLDERS.items(), options.counts, strict=True):
        with tempfile.TemporaryDirectory() as name:
            paths = write_jpegs(Path(name) / "photographs", count, pixels)
            megabytes = sum(path.stat().st_size for path in paths) / count / 1e6
            found = measure(size, paths, Path(name), options.rounds, options.threads)
        result[size] = {"megabytes_per_file": megabytes, **found}
    if not options.quick:
        write_result("end_to_end", result)


if __name__ == "__main__":
    main()
