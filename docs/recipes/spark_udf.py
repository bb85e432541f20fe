"""Features of image files with Spark's predict_batch_udf: a network for each Python worker.

Run with: pip install sktransfer pyspark pandas pyarrow (and Java 17 or later);
python spark_udf.py
"""

import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyspark
from PIL import Image
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import SparkSession
from pyspark.sql.types import ArrayType, FloatType
from sklearn.datasets import load_digits

from sktransfer import PretrainedCNNFeatures


def extractor(packed: bytes) -> Callable[[], Callable[[np.ndarray], np.ndarray]]:
    """What a Python worker calls once, for the function that it then calls with every batch."""

    def make() -> Callable[[np.ndarray], np.ndarray]:
        import torch

        torch.set_num_threads(1)  # a task has one core, unless spark.task.cpus says otherwise
        features = pickle.loads(packed)
        with open(os.environ["LOADED_LOG"], "a") as log:  # for the count below only
            log.write(f"{os.getpid()}\n")
        return lambda paths: features.transform(paths)

    return make


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{number:04d}.png") for number in range(400)]
        for path, image in zip(paths, load_digits().images, strict=False):
            Image.fromarray((image * 15).astype(np.uint8)).save(path)
        features = PretrainedCNNFeatures(image_size=32, layer="blocks.3", on_error="nan")
        features.fit(paths)

        log = Path(folder) / "loaded"
        os.environ["LOADED_LOG"] = str(log)
        spark = (
            SparkSession.builder.master("local[2]")
            .config("spark.ui.enabled", "false")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.driver.host", "127.0.0.1")
            .getOrCreate()
        )
        spark.sparkContext.setLogLevel("ERROR")
        to_features = predict_batch_udf(
            extractor(pickle.dumps(features)),
            return_type=ArrayType(FloatType()),
            batch_size=64,
        )
        rows = spark.createDataFrame([(path,) for path in paths], "path string").repartition(8)
        rows = rows.withColumn("features", to_features("path"))
        rows.write.parquet(f"{folder}/features")

        table = spark.read.parquet(f"{folder}/features").orderBy("path").toPandas()
        found = np.stack(table["features"]).astype(np.float32)
        difference = np.abs(found - features.transform(paths)).max() / np.abs(found).max()
        processes = log.read_text().split()
        print(f"Spark {pyspark.__version__}: {found.shape} {found.dtype}")
        print(f"largest difference from transform, relative: {difference:.1e}")
        print(f"tasks: 8, Python workers: {len(set(processes))}, loads: {len(processes)}")
        spark.stop()


if __name__ == "__main__":
    main()
