"""The state of a training, written while it runs so that another process can go on from it."""

import copy
import random
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback, EarlyStopping, LRScheduler, PassthroughScoring
from torch import Tensor

from sktransfer.finetuning.batches import TrainingRows
from sktransfer.finetuning.network import TunedNetwork
from sktransfer.finetuning.progress_files import ProgressFile

SECONDS = 60.0
"""Time within an epoch after which its state is written."""


class Checkpoint(Callback):
    """Write all that the rest of a training depends on, and restore it when one begins.

    It must be the last callback: what it writes is the state after the others have acted.

    Parameters
    ----------
    file : ProgressFile
    saved : dict or None
        What `file` held.
    own_code : bool
        Whether training runs code that may draw from the generators of NumPy and Python.
    """

    def __init__(self, file: ProgressFile, saved: dict[str, Any] | None, own_code: bool) -> None:
        self.file = file
        self.saved = saved
        self.own_code = own_code

    def on_train_begin(self, net: Any, X: Any = None, **kwargs: Any) -> None:
        """Restore the state; the epochs that are left follow."""
        self.rows: TrainingRows = X
        self.last_write = time.monotonic()
        if self.saved is not None:
            _restore(net, self.saved)

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """In the first epoch, go on after the batch at which it was broken off."""
        saved, self.saved = self.saved, None
        if saved is None:
            return
        generators, batches = saved["generators"], saved["batches"]
        assert self.rows.rng is not None
        if batches:
            net.history[-1]["batches"] = batches
            self.rows.resume_epoch(saved["epoch_begin"], len(batches), generators["rows"])
        else:
            self.rows.rng.bit_generator.state = generators["rows"]
        torch.default_generator.set_state(generators["torch"])
        if self.own_code:
            np.random.set_state(generators["numpy"])  # noqa: NPY002
            random.setstate(generators["python"])
        if generators["device"] is not None:
            torch.cuda.set_rng_state(generators["device"], net.device)

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        """Write the state of a long epoch."""
        if training and time.monotonic() - self.last_write >= SECONDS:
            self._write(net, net.history[-1]["batches"])

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Write the state after an epoch."""
        # Of an epoch that was resumed, skorch has counted the last batches only.
        batches = net.history[-1]["batches"]
        count = sum("train_batch_size" in batch for batch in batches)
        net.history.record("train_batch_count", count)
        self._write(net, [])

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Let go of the rows, and of a state without an epoch left."""
        del self.rows
        self.saved = None

    def _write(self, net: Any, batches: list[dict[str, Any]]) -> None:
        """Write the state, within an epoch if it has had batches already."""
        n_epochs = len(net.history) - bool(batches)
        assert self.rows.rng is not None
        on_gpu = torch.device(net.device).type == "cuda"
        self.file.write(
            {
                "history": [_plain(epoch) for epoch in net.history[:n_epochs]],
                "batches": batches,
                "epoch_begin": self.rows.epoch_begin,
                "network": dict(_changing(net.module_)),
                "criterion": {**net.criterion_.state_dict(), "progress": net.criterion_.progress},
                "optimizer": net.optimizer_.state_dict(),
                "callbacks": _states_of(net),
                "generators": {
                    "rows": self.rows.rng.bit_generator.state,
                    "torch": torch.default_generator.get_state(),
                    "numpy": np.random.get_state() if self.own_code else None,  # noqa: NPY002
                    "python": random.getstate() if self.own_code else None,
                    "device": torch.cuda.get_rng_state(net.device) if on_gpu else None,
                },
            }
        )
        self.last_write = time.monotonic()


def _changing(network: TunedNetwork) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a network that training may change: trained weights, the head, buffers."""
    trained = {id(parameter) for parameter in network.trained_parameters().values()}
    trained |= {id(parameter) for parameter in network.head.parameters()}
    if network.updates is not None:
        trained |= {id(factor) for factor in network.updates.parameters()}
    for name, parameter in network.named_parameters():
        if id(parameter) in trained:
            yield name, parameter
    yield from network.named_buffers()


def _restore(net: Any, saved: dict[str, Any]) -> None:
    with torch.no_grad():
        for name, tensor in _changing(net.module_):
            value = saved["network"][name]
            if not torch.equal(tensor.cpu(), value):  # a constant need not be a tensor of its own
                tensor.copy_(value)
    criterion = dict(saved["criterion"])
    net.criterion_.progress = criterion.pop("progress")
    net.criterion_.load_state_dict(criterion)
    _restore_optimizer(net.optimizer_, saved["optimizer"])
    net.history.extend(saved["history"])
    net.epochs_before = len(saved["history"])
    for name, callback in net.callbacks_:
        state = saved["callbacks"].get(name)
        if state is None:
            continue
        if isinstance(callback, EarlyStopping):
            _restore_best(net, callback, state)
        elif isinstance(callback, PassthroughScoring):
            callback.best_score_ = state["best"]
        else:
            getattr(callback, "lr_scheduler_", callback).load_state_dict(state)
    # Within an epoch: it has begun already, and is going to begin again.
    if saved["batches"] and "unfreeze" in saved["callbacks"]:
        dict(net.callbacks_)["unfreeze"].epoch -= 1


def _restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    optimizer.load_state_dict(state)
    # Files hold tensors row by row. Fused kernels need those of a weight in the weight's own order.
    for parameter, values in optimizer.state.items():
        for name, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _states_of(net: Any) -> dict[str, Any]:
    """The states of callbacks by name, of those of skorch that the package uses and of others
    that have `state_dict`.
    """
    states: dict[str, Any] = {}
    for name, callback in net.callbacks_:
        if isinstance(callback, EarlyStopping):
            best = callback.best_model_weights_
            now = dict(_changing(net.module_))
            states[name] = {
                "misses": callback.misses_,
                "threshold": callback.dynamic_threshold_,
                "best_epoch": callback.best_epoch_,
                "best": None if best is None else {n: best[n] for n in now if n in best},
            }
        elif isinstance(callback, PassthroughScoring):
            states[name] = {"best": callback.best_score_}
        elif isinstance(callback, LRScheduler):
            states[name] = callback.lr_scheduler_.state_dict()
        elif hasattr(callback, "state_dict") and hasattr(callback, "load_state_dict"):
            states[name] = callback.state_dict()
    return states


def _restore_best(net: Any, callback: EarlyStopping, state: dict[str, Any]) -> None:
    callback.misses_ = state["misses"]
    callback.dynamic_threshold_ = state["threshold"]
    callback.best_epoch_ = state["best_epoch"]
    if state["best"] is not None:
        best = copy.deepcopy(net.module_.state_dict())
        for name, tensor in state["best"].items():
            best[name].copy_(tensor)
        callback.best_model_weights_ = best


def _plain(epoch: dict[str, Any]) -> dict[str, Any]:
    """The record of an epoch, without its batches."""
    return {**epoch, "batches": []}
