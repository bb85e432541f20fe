"""Activation checkpointing: stages whose inner activations are computed again when needed.

Modules are replaced by instance attributes, as a resumption does it, and only while the network
runs forward. The hooks that read layers are set on a module from outside its ``forward``, so that
they act once; a module inside which a layer is read is taken apart.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from sktransfer.finetuning.unfreezing import Stages
from sktransfer.networks.layers import Read, Trace


class StagedBody(Protocol):
    """What is needed of a `sktransfer.finetuning.network.Body`."""

    module: nn.Module
    stages: Stages
    trace: Trace | None
    reads: tuple[Read, ...]


def modules_to_recompute(body: StagedBody, trained: Collection[str]) -> tuple[str, ...]:
    """Names of the stages from the first trained one on, or of the modules that they consist of.

    Raises
    ------
    ValueError
        The network has no stages that run one by one.
    """
    if not trained:
        return ()
    trace, stages = body.trace, body.stages
    if trace is None or not stages.known:
        raise ValueError(
            "recompute_activations=True needs a network that runs stage by stage, which recurrent "
            "networks and those without stages do not; set it to False, and lower batch_size with "
            "accumulate= to save memory"
        )
    read = {trace.taps[each.layer].module for each in body.reads}
    first = min(stages.of[name] for name in trained)
    taps = (trace.taps[name] for name in stages.names[first:])
    names: dict[str, None] = {}
    for tap in taps:
        names |= dict.fromkeys(_without_reads(body.module, tap.module, read, trace))
    return tuple(names)


def _without_reads(module: nn.Module, name: str, read: set[str], trace: Trace) -> list[str]:
    """A module, or the largest modules in it, that run and inside which nothing is read."""
    inside = any(layer.startswith(f"{name}.") or not name for layer in read)
    if not inside and name in trace.execution.times:
        return [name]
    below = [
        f"{name}.{child}".lstrip(".") for child, _ in module.get_submodule(name).named_children()
    ]
    return [each for child in below for each in _without_reads(module, child, read, trace)]


@contextmanager
def recomputed(module: nn.Module, names: Collection[str]) -> Iterator[None]:
    """During the block, some modules of a network keep nothing but their inputs for backward."""
    replaced = [
        (child, child.__dict__.get("forward")) for child in map(module.get_submodule, names)
    ]
    try:
        for child, _ in replaced:
            child.__dict__["forward"] = _recomputing(child, child.forward)
        yield
    finally:
        for child, own in replaced:
            if own is None:
                child.__dict__.pop("forward", None)
            else:
                child.__dict__["forward"] = own


def _recomputing(module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        inputs = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
        versions = [each._version for each in inputs]

        @contextmanager
        def again() -> Iterator[None]:
            # Nothing in torch notices it, and gradients would be wrong.
            if [each._version for each in inputs] != versions:
                raise ValueError(
                    f"recompute_activations=True: the input of a {type(module).__name__} was "
                    "changed in place after it had been used, so that it cannot be run again; set "
                    "recompute_activations=False"
                )
            with _statistics_kept(module):
                yield

        return checkpoint(
            forward,
            *args,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), again()),
            **kwargs,
        )

    return run


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Let batch norm update copies of its statistics, as the first run has updated them."""
    norms = [each for each in module.modules() if isinstance(each, _NormBase) and each.training]
    statistics = [dict(norm._buffers) for norm in norms]
    try:
        for norm in norms:
            for name, values in norm._buffers.items():
                norm._buffers[name] = None if values is None else values.clone()
        yield
    finally:
        for norm, buffers in zip(norms, statistics, strict=True):
            norm._buffers.update(buffers)
