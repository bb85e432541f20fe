"""Features of image files with Ray Data: two actors, each of which loads the network once.

Run with: pip install sktransfer "ray[data]"; python ray_data.py
"""

import os
import pickle
import tempfile
from pathlib import Path

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it reports its use to its makers otherwise

import numpy as np
import ray
from PIL import Image
from sklearn.datasets import load_digits

from sktransfer import PretrainedCNNFeatures


class Extractor:
    """An actor: unpickled once, called with many batches."""

    def __init__(self, packed: bytes) -> None:
        self.features = pickle.loads(packed)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        import torch

        n = len(batch["path"])
        return {
            **batch,
            "features": self.features.transform(batch["path"]),
            "process": np.full(n, os.getpid()),
            "threads": np.full(n, torch.get_num_threads()),
        }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{number:04d}.png") for number in range(400)]
        for path, image in zip(paths, load_digits().images, strict=False):
            Image.fromarray((image * 15).astype(np.uint8)).save(path)
        features = PretrainedCNNFeatures(image_size=32, layer="blocks.3", on_error="nan")
        features.fit(paths)

        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        rows = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=8)
        rows = rows.map_batches(
            Extractor,
            fn_constructor_args=(pickle.dumps(features),),
            batch_size=64,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=2),
        )
        rows.write_parquet(f"{folder}/features")  # rows come in any order, so keep the path

        table = ray.data.read_parquet(f"{folder}/features").to_pandas().sort_values("path")
        found = np.stack(table["features"])
        difference = np.abs(found - features.transform(paths)).max() / np.abs(found).max()
        print(f"Ray {ray.__version__}: {found.shape} {found.dtype}")
        print(f"largest difference from transform, relative: {difference:.1e}")
        print(f"actors: {table['process'].nunique()}, threads of each: {set(table['threads'])}")
        ray.shutdown()


if __name__ == "__main__":
    main()
