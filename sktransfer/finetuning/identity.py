"""What identifies a training, so that it is resumed from its own checkpoint and no other."""

import hashlib
import json
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer import __version__
from sktransfer._validation import callers_level
from sktransfer.finetuning.batches import Inputs
from sktransfer.finetuning.network import Body, LinearHead
from sktransfer.finetuning.strategy import FineTune
from sktransfer.finetuning.targets import Targets
from sktransfer.networks.description import Description

_WITHOUT_EFFECT = ("callbacks", "checkpoint", "random_state")
"""Parameters of a strategy that do not identify a training; its seed is known apart."""

_N_SUMS = 4

_DIGITS = 3
"""Decimals to which random sums are rounded. Activations differ by about 1e-6 between machines,
which seldom reaches the third decimal of any sum; other rows change all of them."""


def training_identity(
    body: Body,
    inputs: Inputs,
    features: np.ndarray,
    targets: Targets,
    rows: np.ndarray,
    held_out: np.ndarray | None,
    strategy: FineTune,
    seed: int,
    head: LinearHead | None,
) -> str:
    """A name for a training: the same in every process, and another for any other training.

    Source weights, targets, parameters, seed and samples are known by their bits, activations and
    features by rounded random sums, since they differ a little from machine to machine. A parameter
    that cannot be described makes the name unique, with a warning.

    Parameters
    ----------
    body : Body
        Not tuned yet.
    inputs : Inputs
    features : ndarray of shape (n_some, n_features)
        Features of some rows, which tell how the body reads and pools.
    targets : Targets
    rows : ndarray of int
        Rows to train on.
    held_out : ndarray of int or None
    strategy : FineTune
    seed : int
    head : LinearHead or None
        That of an estimator to start from.
    """
    hashed = hashlib.sha256()

    def add(*values: Any) -> None:
        for value in values:
            data = _bytes_of(value)
            hashed.update(len(data).to_bytes(8, "little") + data)

    add(__version__, torch.__version__, type(body).__qualname__, _description(strategy), seed)
    add(type(body.module).__qualname__, body.stages.names)
    for name, tensor in (*body.module.named_parameters(), *body.module.named_buffers()):
        add(name, tensor)
    for name, tensor in () if head is None else head.state_dict().items():
        add(name, tensor)
    add(targets.task, targets.values, targets.labelled, targets.weights, rows)
    add([] if held_out is None else held_out)
    every = rows if held_out is None else np.union1d(rows, held_out)
    batches = (
        inputs.batch(some, training=False)
        for some in np.array_split(every, -(-len(every) // strategy.batch_size))
    )
    if isinstance(body.begin, str) and body.begin == "input":
        for batch in batches:
            add(*((batch,) if isinstance(batch, Tensor) else batch))
    else:
        add(_random_sums(batches))
    add(_random_sums([torch.from_numpy(features)]))
    return hashed.hexdigest()[:32]


def _description(strategy: FineTune) -> str:
    """The parameters of a strategy, with the code of functions among them."""
    parameters = strategy.get_params(deep=False)
    holder = nn.Module()
    # An attribute as any other, which a description of a module covers.
    vars(holder)["settings"] = {k: v for k, v in parameters.items() if k not in _WITHOUT_EFFECT}
    first, again = (Description(holder).digest("") for _ in range(2))
    if first != again:
        warnings.warn(
            "checkpoint: a parameter of the strategy cannot be recognised in another process, such "
            "as an augment or an optimizer with a state of its own, so this training would begin "
            "anew after a kill; make it a function, a class or a torchvision transform",
            stacklevel=callers_level(),
        )
    return first


def _bytes_of(value: Any) -> bytes:
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous()
        shown = f"{value.dtype}{tuple(value.shape)}".encode()
        return shown + value.reshape(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    return json.dumps(value).encode()


def _random_sums(batches: Iterable[Any]) -> list[float]:
    """Sums of all numbers with random weights, relative to their size, and its logarithm."""
    draw = np.random.default_rng(0)
    weights: dict[int, np.ndarray] = {}
    sums, size = np.zeros(_N_SUMS), 0.0
    for batch in batches:
        for tensor in (batch,) if isinstance(batch, Tensor) else batch:
            table = np.nan_to_num(tensor.reshape(len(tensor), -1).double().cpu().numpy())
            width = table.shape[1]
            if width not in weights:
                weights[width] = np.random.default_rng(width).standard_normal((width, _N_SUMS))
            rows = table @ weights[width]
            sums += draw.standard_normal(len(rows)) @ rows
            size += float((rows**2).mean(1).sum())
    size = size or 1.0
    found = np.array([*(sums / np.sqrt(size)), np.log(size)]).round(_DIGITS)
    return (found + 0.0).tolist()  # adding zero makes one number of 0 and -0
