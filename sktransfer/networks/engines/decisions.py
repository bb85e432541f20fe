"""Numbers that a network takes out of its tensors while it is traced.

A trace holds operations on tensors. What Python code does with a number, such as to choose a
branch, happens once, while tracing. For numbers that follow from shapes or weights this is right,
as they are the same for all samples. Others make the trace wrong for some samples, and no
comparison on examples can find out for which.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Functions of torch that return Python's or NumPy's numbers.
_TO_NUMBERS = {
    *("__bool__", "__int__", "__float__", "__complex__", "__index__", "__contains__"),
    *("__array__", "item", "tolist", "numpy", "is_nonzero", "equal", "allclose"),
}

# Operations that tell about the shape of a tensor, whatever its values are.
_OF_SHAPES = {"aten::size", "aten::numel", "aten::len", "aten::dim"}

# Operations whose output has as many elements as values decide.
_SHAPED_BY_VALUES = (
    *("aten::nonzero", "aten::nonzero_numpy", "aten::argwhere", "aten::masked_select"),
    *("aten::unique", "aten::unique_dim", "aten::unique_consecutive", "aten::_unique"),
    *("aten::_unique2", "aten::bincount", "aten::repeat_interleave"),
)


class NumbersTaken(TorchFunctionMode):
    """While this is active, tracing notes whether code took numbers that depend on the samples.

    Attributes
    ----------
    found : bool
    """

    def __init__(self) -> None:
        super().__init__()
        self.found = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, and see what it was given if it returns numbers."""
        if getattr(func, "__name__", "") in _TO_NUMBERS:
            values = [*args, *(kwargs or {}).values()]
            tensors = [value for value in values if isinstance(value, Tensor)]
            self.found = self.found or any(map(_depends_on_samples, tensors))
        return func(*args, **(kwargs or {}))


def _depends_on_samples(tensor: Tensor) -> bool:
    """Whether the values of a tensor in the graph that is being traced follow from its inputs."""
    if not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False
    value_of: Any = torch._C._get_value_trace  # type: ignore[attr-defined]
    pending = [(value_of(tensor), False)]
    seen = set()
    while pending:
        value, only_shape = pending.pop()
        key = (value.unique(), only_shape)
        if key in seen:
            continue
        seen.add(key)
        node = value.node()
        kind = node.kind()
        if kind == "prim::Param":
            # The first input of a graph is the module, through which weights are reached.
            is_sample = value.unique() != next(iter(value.node().outputs())).unique()
            if is_sample and not only_shape:
                return True
        else:
            only_shape = (only_shape or kind in _OF_SHAPES) and kind not in _SHAPED_BY_VALUES
            pending += [(each, only_shape) for each in node.inputs()]
    return False
