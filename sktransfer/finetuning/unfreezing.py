"""Names of the parameters to train for each value of ``unfreeze=``."""

import fnmatch
import math
import numbers
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from sktransfer.networks.layers import Read, Trace


@dataclass(frozen=True)
class Stages:
    """The stages of a network, and the stage of each parameter that features depend on.

    Parameters
    ----------
    names : tuple of str
        Names of the stages, from shallow to deep.
    of : dict of str to int
        Number of the stage of each parameter. Parameters before the first stage belong to it, and
        those after the last to that.
    known : bool, default=True
        False for a network without stages, where the layer that is read stands for all of it.
    """

    names: tuple[str, ...]
    of: Mapping[str, int]
    known: bool = True


def stages_of(module: nn.Module, trace: Trace, reads: Sequence[Read]) -> Stages:
    """The stages with weights up to what is read, and to which each weight belongs."""
    execution = trace.execution
    ends = {name: execution.time(trace.taps[name]) for name in trace.stages}

    def is_read(time: int) -> bool:
        """Whether what has returned by then matters to a layer that is read."""
        return any(
            time < execution.time(tap) if tap.side == "input" else time <= execution.time(tap)
            for tap in (trace.taps[read.layer] for read in reads)
        )

    # Where a layer before the first stage is read, or there are no stages, it is the only one.
    names = [name for name, end in ends.items() if is_read(end)] or [reads[-1].layer]

    def first_use(parameter: str) -> int:
        owner = parameter.rpartition(".")[0]
        while owner and owner not in execution.times:  # as inside nn.MultiheadAttention
            owner = owner.rpartition(".")[0]
        # A module around the stages, such as the one that holds positions, returns after them.
        around = any(stage.startswith(f"{owner}.") or not owner for stage in names)
        return 0 if around else execution.times[owner][0]

    # A tied weight goes by several names and belongs to the first place where it is used.
    uses: dict[int, int] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        uses[id(parameter)] = min(first_use(name), uses.get(id(parameter), sys.maxsize))
    of = {
        name: min(sum(ends.get(s, 0) < uses[id(parameter)] for s in names), len(names) - 1)
        for name, parameter in module.named_parameters()
        if is_read(uses[id(parameter)])
    }
    # Pooling and the like have no weights, and are no stage to unfreeze.
    used = sorted(set(of.values())) or [len(names) - 1]
    return Stages(
        tuple(names[stage] for stage in used),
        {name: used.index(stage) for name, stage in of.items()},
        known=bool(trace.stages),
    )


def stages_before(
    trained: Sequence[str], stages: Stages, trace: Trace, reads: Sequence[Read]
) -> list[str]:
    """Stages that have returned before anything that is trained runs, or is read."""
    first = min(stages.of[name] for name in trained)
    ends = {name: trace.execution.time(trace.taps[name]) for name in trace.stages}
    read = min(trace.execution.time(trace.taps[read.layer]) for read in reads)
    return [name for name in stages.names[:first] if name in ends and ends[name] <= read]


def resolve_unfreeze(unfreeze: Any, stages: Stages, tune: str = "all") -> tuple[str, ...]:
    """Names of the parameters to train, in the order of the network.

    `stages` hold those weights only that `tune` can train; it is for messages.
    """
    n_stages = len(stages.names)
    if isinstance(unfreeze, str) and unfreeze == "head":
        return ()
    if isinstance(unfreeze, str) and unfreeze == "all":
        return _some_of(stages.of, unfreeze, stages, tune)
    if type(unfreeze) is not bool and isinstance(unfreeze, numbers.Real):
        if stages.of and not stages.known:
            raise ValueError(
                f"unfreeze={unfreeze!r} counts stages, and this backbone has none that can be "
                f"read; set it to 'head', 'all', or names of modules or weights, such as "
                f"{_abbreviated(stages.of)}"
            )
        first = n_stages - _count(unfreeze, stages)
        names = [name for name, stage in stages.of.items() if stage >= first]
        return _some_of(names, unfreeze, stages, tune)
    patterns = [unfreeze] if isinstance(unfreeze, str) else unfreeze
    if not isinstance(patterns, Iterable) or not all(isinstance(p, str) for p in patterns):
        raise ValueError(_RULE.format(unfreeze))
    patterns = list(patterns)
    if not patterns:
        raise ValueError("unfreeze must name at least one module, got none; 'head' trains none")
    found: set[str] = set()
    for pattern in patterns:
        matching = {name for name in stages.of if _matches(name, pattern)}
        if not matching:
            raise ValueError(
                f"unfreeze={pattern!r} matches no weight that the features depend on"
                f"{_TRAINABLE[tune]}; stages are {list(stages.names)}, and weights "
                f"{_abbreviated(stages.of)}"
            )
        found |= matching
    return tuple(name for name in stages.of if name in found)


_RULE = (
    "unfreeze must be 'head', 'all', a number of stages, a fraction in (0, 1], or names of modules "
    "or parameters, got {!r}"
)


_TRAINABLE = {
    "all": "",
    "bias": " and tune='bias' trains, which is a bias",
    "norm": " and tune='norm' trains, which is that of a normalisation layer",
    "lora": " and tune='lora' trains, which is the matrix of a linear, attention, recurrent or "
    "convolutional layer",
}
"""What `tune` trains, for messages about weights that are not there."""


def _some_of(names: Iterable[str], unfreeze: Any, stages: Stages, tune: str) -> tuple[str, ...]:
    names = tuple(names)
    if not names:
        cure = "" if tune == "all" else ", tune to 'all'"
        raise ValueError(
            f"unfreeze={unfreeze!r} selects no weight to train among the stages "
            f"{list(stages.names)}{_TRAINABLE[tune].replace(' and', ' that')}; choose more "
            f"stages{cure}, or set it to 'head'"
        )
    return names


def _count(unfreeze: Any, stages: Stages) -> int:
    n_stages = len(stages.names)
    if isinstance(unfreeze, numbers.Integral):
        if not 1 <= int(unfreeze) <= n_stages:
            raise ValueError(
                f"unfreeze must be from 1 to {n_stages}, the number of stages up to the layer of "
                f"the features {list(stages.names)}, or 'head' for none of them; got {unfreeze}"
            )
        return int(unfreeze)
    if not 0 < unfreeze <= 1:
        raise ValueError(_RULE.format(unfreeze))
    return math.ceil(unfreeze * n_stages - 1e-9)  # 0.28 * 25 is 7.000000000000001 in floats


def _matches(name: str, pattern: str) -> bool:
    """Whether a pattern matches a parameter, or a module that contains it."""
    parts = name.split(".")
    return any(fnmatch.fnmatchcase(".".join(parts[:n]), pattern) for n in range(1, len(parts) + 1))


def _abbreviated(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:3]) + (f", ... ({len(listed)} in all)" if len(listed) > 3 else "")
