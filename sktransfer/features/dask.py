"""Dask collections: `transform` as a lazy array, whose blocks the workers compute.

dask itself is imported only once there is a collection of its own.
"""

import hashlib
import io
import threading
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from sklearn.utils._set_output import _get_output_config

_COLLECTIONS = ("Array", "Bag", "Series", "DataFrame")
_PART = {"Array": "X[:1000].compute()", "Bag": "list(X.take(1000))"}

_N_OPENED = 4
_LOCK = threading.Lock()  # a worker may begin with several blocks at once
_OPENED: OrderedDict[str, Any] = OrderedDict()
"""The transformers that this process used last."""


def is_dask(X: Any) -> bool:
    """Whether X is one of dask's collections, which are computed elsewhere and later."""
    return type(X).__module__.partition(".")[0] == "dask"


def refuse_dask(X: Any) -> None:
    """Raise TypeError if X is a dask collection, where all of it would have to be in memory."""
    if is_dask(X):
        kind = type(X).__name__
        raise TypeError(
            f"X must be in memory here, got a dask {kind}. `transform` takes dask collections, and "
            "`fit` does where it looks at the first image only: PretrainedCNNFeatures with "
            "strategy='frozen' and another layer than 'auto'. Fit on a part, such as "
            f"{_PART.get(kind, 'X.head(1000)')}, and transform all"
        )


def first_part(X: Any) -> Any:
    """The first block or partition that holds anything, computed; other than dask's, X itself."""
    if not is_dask(X):
        return X
    _check_kind(X)
    part: Any = []
    for lazy in X.blocks if type(X).__name__ == "Array" else X.to_delayed():
        part = lazy.compute()
        if not hasattr(part, "__len__"):  # a bag's partition may be an iterator
            part = list(part)
        if len(part):
            break
    return part


def transform_lazily(transformer: Any, X: Any) -> Any:
    """The features of a dask collection as a dask array; nothing is computed or read here.

    Later changes of the transformer do not affect it. Its row chunks are those of X, or for a bag,
    Series or DataFrame its partitions, of unknown length.
    """
    import dask.array
    from dask import delayed

    _check_kind(X)
    container = _get_output_config("transform", transformer)["dense"]
    if container != "default":
        raise ValueError(
            f"the features of a dask {type(X).__name__} are a dask array, which "
            f"set_output(transform={container!r}) cannot hold; use set_output(transform='default')"
        )
    n_features = len(transformer.get_feature_names_out())
    meta = np.empty((0, n_features), dtype=np.float32)
    packed = Packed(transformer)
    # A task of its own, so that it travels once to each worker and not with every block.
    shipped = delayed(packed, name=f"transformer-{packed.digest}", traverse=False)
    match type(X).__name__:
        case "Array":
            # An image that is cut into several chunks is put together.
            axes_options = {"new_axes": {"f": n_features}, "concatenate": True}
            axes = "r" + "abcde"[: X.ndim - 1]
            what = (X, axes, shipped, None, n_features, None)
            return dask.array.blockwise(
                _features, "rf", *what, **axes_options, dtype=np.float32, meta=meta
            )
        case "Bag":
            return _of_bag(X, shipped, n_features, meta)
        case _:
            return X.map_partitions(_features, shipped, n_features, meta=meta)


def _of_bag(X: Any, shipped: Any, n_features: int, meta: np.ndarray) -> Any:
    """A block for each partition. Built from Delayed objects, 10,000 would take nine seconds."""
    from dask.array import Array
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph

    name = f"features-{tokenize(X.name, shipped.key)}"
    tasks = {
        (name, number, 0): (_features, key, shipped.key, n_features)
        for number, key in enumerate(X.__dask_keys__())
    }
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=[X, shipped])
    return Array(graph, name, chunks=((np.nan,) * len(tasks), (n_features,)), meta=meta)


class Packed:
    """A fitted transformer as bytes, which are unpickled once in each process.

    dask's scheduler unpickles the objects that it passes on, and would load a network that it does
    not use; it leaves bytes alone. A worker that drops them and fetches them again, or gets them
    for the next computation, still has the unpickled transformer.
    """

    def __init__(self, transformer: Any) -> None:
        import cloudpickle

        worker_copy = object.__new__(type(transformer))
        worker_copy.__dict__.update(vars(transformer))
        worker_copy.verbose = False  # progress is the scheduler's to show
        # dask's own pickler, which takes classes that are defined in a notebook, too.
        self._data = cloudpickle.dumps(worker_copy)
        self.digest = _digest(worker_copy)

    def open(self) -> Any:
        """The transformer, shared by all blocks and threads of this process."""
        import cloudpickle

        with _LOCK:
            if self.digest not in _OPENED:
                _OPENED[self.digest] = cloudpickle.loads(self._data)
                if len(_OPENED) > _N_OPENED:
                    _OPENED.popitem(last=False)
            _OPENED.move_to_end(self.digest)
            return _OPENED[self.digest]


def _digest(transformer: Any) -> str:
    """The same for equal transformers: pickled tensors hold the place where they lay in memory."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):
        def persistent_id(self, item: Any) -> str | None:
            if not isinstance(item, torch.Tensor) or item.is_meta:
                return None
            values = item.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            content = hashlib.sha256(values.numpy().data).hexdigest()
            return f"{item.dtype} {tuple(item.shape)} {content}"

    stream = io.BytesIO()
    Pickler(stream).dump(transformer)
    return hashlib.sha256(stream.getbuffer()).hexdigest()


def _features(part: Any, packed: Packed, n_features: int) -> np.ndarray:
    """The features of a block or partition, which may be empty after a filter."""
    if not hasattr(part, "__len__"):
        part = list(part)
    if not len(part):
        return np.empty((0, n_features), dtype=np.float32)
    return np.asarray(packed.open().transform(part), dtype=np.float32)


def _check_kind(X: Any) -> None:
    kind = type(X).__name__
    if kind not in _COLLECTIONS:
        raise TypeError(
            f"X must be a dask {', '.join(_COLLECTIONS[:-1])} or {_COLLECTIONS[-1]}, got a dask "
            f"{kind}; dask.bag.from_delayed makes a bag of Delayed lists"
        )
