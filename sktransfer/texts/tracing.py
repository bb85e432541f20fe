"""Layers of a transformer, found by watching it run, and pooling of their states over tokens."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from sktransfer.networks.hooks import Tap
from sktransfer.networks.layers import Execution, Output, Read, first_tensor, watch_execution

POOLINGS = ("mean", "cls", "max")

LAST = "last"
"""Name of the output of the network."""

_PROBE = (3, 11)
"""Rows and tokens that a network is tried on: numbers that no width is likely to have."""

_EXAMPLES = ((1, 3), (3, 17), (2, 40))
"""Rows and tokens on which engines are compared: without padding, with it, and longer."""


@dataclass(frozen=True)
class TextTrace:
    """The layers of a transformer.

    Parameters
    ----------
    taps : dict of str to Tap
        The module and call of each layer, in the order of execution.
    widths : dict of str to int
    vectors : frozenset of str
        Layers that return one vector per row, not one per token.
    stages : tuple of str
        The embeddings, and the output of each block, shallow to deep; the last is "last".
    execution : Execution
    vocabulary_size : int
    max_length : int or None
        Tokens that the network has positions for.
    """

    taps: Mapping[str, Tap]
    widths: Mapping[str, int]
    vectors: frozenset[str]
    stages: tuple[str, ...]
    execution: Execution
    vocabulary_size: int
    max_length: int | None

    # --- as `sktransfer.networks.layers.Trace` asks for it --------------------------------

    @property
    def static_shape(self) -> None:
        """Rows and tokens vary from batch to batch."""

    def run(self, module: nn.Module, *inputs: Tensor) -> Any:
        """Call a network on tokens and their mask, both of shape (rows, time)."""
        input_ids, attention_mask = inputs
        return module(input_ids=input_ids, attention_mask=attention_mask)

    def from_arrays(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """Tokens and mask, as they are."""
        return arrays

    def examples(self, thorough: bool = False) -> list[tuple[Tensor, ...]]:
        """Random tokens of several lengths, and their masks."""
        longest = self.max_length or _EXAMPLES[-1][1]
        shapes = [_PROBE, *_EXAMPLES]
        return [
            _random_tokens(self.vocabulary_size, rows, min(length, longest))
            for rows, length in shapes
        ]

    def without_content(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The first token of the vocabulary everywhere, under the same mask."""
        input_ids, attention_mask = inputs
        return torch.zeros_like(input_ids), attention_mask

    def blank_shape(self, output: Output, values: Tensor) -> tuple[int, ...]:
        """Shape of a module's output for as many rows and tokens as there are `values`."""
        rows, time = values.shape[:2]
        return (rows, *(time if axis == _PROBE[1] else axis for axis in output.shape))

    def pool(self, read: Read, value: Any, *inputs: Tensor) -> Tensor:
        """Pool the states of a layer over the tokens that are no padding."""
        tensor = first_tensor(value)
        assert tensor is not None  # as it was when the network was traced
        states, mask = tensor.float(), inputs[1][:, :, None]
        if read.pooling == "mean":
            weights = mask.float()
            return (states * weights).sum(1) / weights.sum(1)
        if read.pooling == "cls":
            return states[:, 0].clone()
        if read.pooling == "max":
            return states.masked_fill(mask == 0, -torch.inf).amax(1)
        return states.clone()

    def reads(self, layers: Sequence[str], poolings: Sequence[str]) -> tuple[Read, ...]:
        """List what pooling these layers takes, by layer and then by pooling."""
        return tuple(
            Read(layer, pooling)
            for layer in layers
            for pooling in (("vector",) if layer in self.vectors else poolings)
        )

    def usual_reads(self) -> tuple[Read, ...]:
        """Every pooling of every stage."""
        return self.reads(self.stages, POOLINGS)

    def width(self, read: Read) -> int:
        """Length of the vector of a read."""
        return self.widths[read.layer]


_TRACES: WeakKeyDictionary[nn.Module, TextTrace] = WeakKeyDictionary()
_TRACING = threading.Lock()


def trace_of(module: nn.Module) -> TextTrace:
    """The layers of a network of transformers; remembered as long as it lives."""
    with _TRACING:
        if module not in _TRACES:
            _TRACES[module] = _trace(module)
        return _TRACES[module]


def positions_of(module: nn.Module) -> int | None:
    """Number of tokens that a network of transformers has positions for, if it is limited."""
    positions = getattr(module.config, "max_position_embeddings", None)
    offset = getattr(getattr(module, "embeddings", None), "padding_idx", None)
    if positions and offset is not None:  # RoBERTa counts positions from there
        positions -= offset + 1
    return int(positions) if positions else None


def _random_tokens(vocabulary_size: int, rows: int, length: int) -> tuple[Tensor, Tensor]:
    """Tokens that mean nothing, in rows that grow shorter, and their mask."""
    generator = torch.Generator().manual_seed(0)
    low = min(5, vocabulary_size - 1)  # behind the usual place of padding
    ids = torch.randint(low, vocabulary_size, (rows, length), generator=generator)
    mask = torch.arange(length) < length - torch.arange(rows).clamp(max=length - 1)[:, None]
    return ids, mask.long()


def _trace(module: nn.Module) -> TextTrace:
    config: Any = module.config
    device = next(module.parameters()).device
    ids, mask = (t.to(device) for t in _random_tokens(config.vocab_size, *_PROBE))
    seen: list[tuple[Tap, Tensor | None]] = []

    def record(tap: Tap, value: Any) -> None:
        if tap.module and tap.side == "output":
            seen.append((tap, first_tensor(value)))

    execution, result = watch_execution(
        module,
        lambda: module(input_ids=ids, attention_mask=mask, output_hidden_states=True),
        _PROBE[0],
        record,
    )
    taps: dict[str, Tap] = {}
    widths: dict[str, int] = {}
    vectors: set[str] = set()
    for tap, value in seen:
        if value is None or value.shape[0] != _PROBE[0] or not value.is_floating_point():
            continue
        if value.ndim == 3 and value.shape[1] == _PROBE[1]:
            vectors.discard(tap.module)
        elif value.ndim == 2 and value.shape[1] != _PROBE[1]:
            vectors.add(tap.module)
        else:
            continue
        taps[tap.module] = tap  # the last call counts
        widths[tap.module] = value.shape[-1]
    last = _find_output(seen, result.last_hidden_state)
    if last is None:
        raise ValueError(
            f"no module of {type(module).__name__} puts out its last hidden state; choose another "
            "model"
        )
    hidden = [_find_output(seen, s) for s in getattr(result, "hidden_states", None) or ()]
    stages = []
    for stage in dict.fromkeys(tap for tap in hidden if tap not in (None, last)):
        assert stage is not None
        # A block that runs several times, as ALBERT's, is another stage each time.
        name = stage.module if taps.get(stage.module) == stage else f"{stage.module}#{stage.call}"
        taps[name], widths[name] = stage, widths[stage.module]
        stages.append(name)
    taps[LAST], widths[LAST] = last, widths[last.module]
    ordered = dict(sorted(taps.items(), key=lambda item: execution.time(item[1])))
    return TextTrace(
        ordered,
        widths,
        frozenset(vectors),
        (*stages, LAST),
        execution,
        config.vocab_size,
        positions_of(module),
    )


def _find_output(seen: list[tuple[Tap, Tensor | None]], state: Tensor) -> Tap | None:
    """The outermost module that puts this out, and the call in which it does."""
    found = [
        tap
        for tap, value in seen
        if value is not None and value.shape == state.shape and torch.equal(value, state)
    ]
    return min(found, key=lambda tap: tap.module.count("."), default=None)
