"""Which weights are trained: from ``unfreeze=`` to names of parameters."""

import fnmatch
import math
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stages:
    """The weights that features depend on, by stage.

    Parameters
    ----------
    names : tuple of str
        Shallow to deep.
    of : dict of str to int
        Number of the stage of each parameter. What comes before the first stage counts to it,
        and what comes after the last to that.
    """

    names: tuple[str, ...]
    of: Mapping[str, int]


def resolve_unfreeze(unfreeze: Any, stages: Stages) -> tuple[str, ...]:
    """Names of the parameters to train, in the order of the network.

    Raises
    ------
    ValueError
        `unfreeze` is no such thing, asks for more stages than there are, or a pattern matches
        nothing.
    """
    n_stages = len(stages.names)
    if isinstance(unfreeze, str) and unfreeze == "head":
        return ()
    if isinstance(unfreeze, str) and unfreeze == "all":
        return _some_of(stages.of, unfreeze, stages)
    if type(unfreeze) is not bool and isinstance(unfreeze, numbers.Real):
        first = n_stages - _count(unfreeze, stages)
        names = [name for name, stage in stages.of.items() if stage >= first]
        return _some_of(names, unfreeze, stages)
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
                f"unfreeze={pattern!r} matches no weight that the features depend on; stages are "
                f"{list(stages.names)}, and weights {_some(stages.of)}"
            )
        found |= matching
    return tuple(name for name in stages.of if name in found)


_RULE = (
    "unfreeze must be 'head', 'all', a number of stages, a fraction in (0, 1], or names of modules "
    "or parameters, got {!r}"
)


def _some_of(names: Iterable[str], unfreeze: Any, stages: Stages) -> tuple[str, ...]:
    names = tuple(names)
    if not names:
        raise ValueError(
            f"unfreeze={unfreeze!r} finds no weight to train among the stages "
            f"{list(stages.names)}; ask for more stages, or set it to 'head'"
        )
    return names


def _count(unfreeze: Any, stages: Stages) -> int:
    n_stages = len(stages.names)
    if isinstance(unfreeze, numbers.Integral):
        if not 1 <= int(unfreeze) <= n_stages:
            raise ValueError(
                f"unfreeze={unfreeze} asks for {unfreeze} stages; there are 1 to {n_stages} up to "
                f"the layer that is read, {list(stages.names)}. 'head' trains none of them"
            )
        return int(unfreeze)
    if not 0 < unfreeze <= 1:
        raise ValueError(_RULE.format(unfreeze))
    return math.ceil(unfreeze * n_stages - 1e-9)  # 0.28 of 25 is 7, but for rounding


def _matches(name: str, pattern: str) -> bool:
    """Whether a pattern means a parameter, or a module that the parameter is in."""
    parts = name.split(".")
    return any(fnmatch.fnmatchcase(".".join(parts[:n]), pattern) for n in range(1, len(parts) + 1))


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:3]) + (f", ... ({len(listed)} in all)" if len(listed) > 3 else "")
