"""Layers of a transformer, found by watching it run, and pooling of their states over tokens."""

import inspect
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from sktransfer.networks.early_exit import LayerReader
from sktransfer.networks.hooks import Tap
from sktransfer.networks.layers import Execution, Output, Read, first_tensor, watch_execution

POOLINGS = ("mean", "cls", "max")

LAST = "last"
"""Name of the output of the network."""

_PROBE = (3, 11)
"""Rows and tokens that a network is tried on: numbers that no width is likely to have."""

_EXAMPLES = ((11, 10, 9), (3,), (17, 16, 15), (40, 39))
"""Tokens of the rows on which engines are compared: without padding, with it, and longer."""

_LONGEST, _SHORTEST = 300, 3
"""Tokens of two rows that they are compared on, too: most of the shorter one is padding."""

_UNEQUAL = (40, 3)
"""Tokens of two rows that show whether a network sees padding."""

_WINDOWS = ("local_attention", "sliding_window", "attention_window")
"""Entries of configurations for the number of tokens that a token attends to."""

_MAX_LONGEST = 2048
"""Tokens of the longest example, whatever the window."""

_TOLERANCE = 3e-4
"""Difference, relative to the largest state, that padding may make. Rounding differs by some 1e-7,
in deep networks by 1e-5, and networks that see padding by more than 1e-3."""


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
    longest_example : int
        Tokens of the longest row on which engines are compared: more than a window of attention.
    takes_mask : bool
        Whether the network can be told which tokens are padding.
    sees_padding : bool, default=False
        Whether a text has other states beside a longer one. It must then run beside texts of its
        own length only.
    """

    taps: Mapping[str, Tap]
    widths: Mapping[str, int]
    vectors: frozenset[str]
    stages: tuple[str, ...]
    execution: Execution
    vocabulary_size: int
    max_length: int | None
    longest_example: int
    takes_mask: bool
    sees_padding: bool = False

    # --- as `sktransfer.networks.layers.Trace` asks for it --------------------------------

    @property
    def static_shape(self) -> None:
        """Rows and tokens vary from batch to batch."""

    def run(self, module: nn.Module, *inputs: Tensor) -> Any:
        """Call a network on tokens and their mask, both of shape (rows, time)."""
        return module(**_named(*inputs, takes_mask=self.takes_mask))

    def from_arrays(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """Tokens and mask, as they are."""
        return arrays

    def examples(self, thorough: bool = False) -> list[tuple[Tensor, ...]]:
        """Random tokens of several lengths, and their masks."""
        examples = [*_EXAMPLES]
        if not self.sees_padding:  # else rows of one length run together
            examples.append((self.longest_example, _SHORTEST))
        else:
            examples.append((self.longest_example,))
        most = self.max_length or self.longest_example
        return [
            _random_tokens(self.vocabulary_size, [min(length, most) for length in lengths])
            for lengths in examples
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


def _named(input_ids: Tensor, attention_mask: Tensor, *, takes_mask: bool) -> dict[str, Tensor]:
    """Tokens and their mask as a network of transformers takes them."""
    named = {"input_ids": input_ids}
    return {**named, "attention_mask": attention_mask} if takes_mask else named


def _takes_mask(module: nn.Module) -> bool:
    parameters = inspect.signature(module.forward).parameters
    return "attention_mask" in parameters or any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()
    )


def _random_tokens(vocabulary_size: int, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Tokens that mean nothing, in rows of some lengths, and their mask."""
    generator = torch.Generator().manual_seed(0)
    low = min(5, vocabulary_size - 1)  # behind the usual place of padding
    shape = (len(lengths), max(lengths))
    ids = torch.randint(low, vocabulary_size, shape, generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return ids, mask.long()


def _longest_example(config: Any) -> int:
    """More tokens than a window of attention has, as engines may be wrong beyond it."""
    stated = [getattr(config, name, None) for name in _WINDOWS]
    windows = [number for number in stated if isinstance(number, int)]
    return min(max([_LONGEST, *(2 * window for window in windows)]), _MAX_LONGEST)


def _trace(module: nn.Module) -> TextTrace:
    config: Any = module.config
    device = next(module.parameters()).device
    takes_mask = _takes_mask(module)
    rows, time = _PROBE
    ids, mask = (t.to(device) for t in _random_tokens(config.vocab_size, _EXAMPLES[0]))
    inputs: list[tuple[Tap, Tensor]] = []
    outputs: list[tuple[Tap, Tensor]] = []

    def record(tap: Tap, value: Any) -> None:
        tensor = first_tensor(value)
        if tap.module and tensor is not None and len(tensor) == rows:
            (inputs if tap.side == "input" else outputs).append((tap, tensor))

    execution, result = watch_execution(
        module,
        lambda: module(**_named(ids, mask, takes_mask=takes_mask), output_hidden_states=True),
        rows,
        record,
    )
    taps: dict[str, Tap] = {}
    widths: dict[str, int] = {}
    vectors: set[str] = set()
    for tap, value in outputs:
        if not value.is_floating_point():
            continue
        if value.ndim == 3 and value.shape[1] == time:
            vectors.discard(tap.module)
        elif value.ndim == 2 and value.shape[1] != time:
            vectors.add(tap.module)
        else:
            continue
        taps[tap.module] = tap  # the last call counts
        widths[tap.module] = value.shape[-1]
    states = getattr(result, "hidden_states", None) or ()
    _check_lengths(type(module).__name__, states)
    last = _find(outputs, result.last_hidden_state)
    if last is None:
        raise ValueError(
            f"no module of {type(module).__name__} puts out its last hidden state, of shape "
            f"(texts, tokens, units): the network cuts or rearranges what its last module puts "
            "out, as those do that fill up texts to a multiple of their window. It is not "
            "supported; choose another model"
        )
    stages: list[str] = []
    for number, state in enumerate(states):
        # What no module puts out, as sums of embeddings, is what the first block takes.
        stage = _find(outputs, state) or _find(inputs, state)
        if stage is None or stage == last:
            continue
        name = _name_of(stage, number, taps)
        if name not in stages:
            stages.append(name)
            taps[name], widths[name] = stage, state.shape[-1]
    taps[LAST], widths[LAST] = last, widths[last.module]
    ordered = dict(sorted(taps.items(), key=lambda item: execution.time(item[1])))
    trace = TextTrace(
        ordered,
        widths,
        frozenset(vectors),
        (*stages, LAST),
        execution,
        config.vocab_size,
        positions_of(module),
        _longest_example(config),
        takes_mask,
    )
    return replace(trace, sees_padding=_sees_padding(module, trace))


def _check_lengths(kind: str, states: Iterable[Tensor]) -> None:
    """Refuse a network whose blocks put out fewer or more states than there are tokens."""
    for number, state in enumerate(states):
        if tuple(state.shape[:2]) != _PROBE:
            raise ValueError(
                f"{kind} has hidden states of shape {tuple(state.shape)} in block {number} for "
                f"{_PROBE[0]} texts of {_PROBE[1]} tokens. Networks that shorten texts, or put "
                "another axis first, are not supported; choose another model"
            )


def _find(seen: Sequence[tuple[Tap, Tensor]], state: Tensor) -> Tap | None:
    """The outermost module that puts this out or takes it, and the call in which it does."""
    found = [tap for tap, value in seen if value.shape == state.shape and torch.equal(value, state)]
    return min(found, key=lambda tap: tap.module.count("."), default=None)


def _name_of(tap: Tap, number: int, taps: Mapping[str, Tap]) -> str:
    """The name of a stage by that of its module."""
    if tap.side == "input":
        free = number == 0 and "embeddings" not in taps
        return "embeddings" if free else f"{tap.module}.input"
    # A block that runs several times, as ALBERT's, is another stage each time.
    return tap.module if taps.get(tap.module) == tap else f"{tap.module}#{tap.call}"


def _sees_padding(module: nn.Module, trace: TextTrace) -> bool:
    """Whether a text has other states beside a longer one: some look at padding, mask or not."""
    device = next(module.parameters()).device
    most = trace.max_length or max(_UNEQUAL)
    lengths = [min(length, most) for length in _UNEQUAL]
    ids, mask = (t.to(device) for t in _random_tokens(trace.vocabulary_size, lengths))
    layers = dict.fromkeys((*trace.stages, *sorted(trace.vectors)))
    reader = LayerReader(module, trace, trace.reads(tuple(layers), ("mean",)))
    with torch.inference_mode():
        beside = [matrix[1] for matrix in reader(ids, mask)]
        alone = [matrix[0] for matrix in reader(ids[1:, : lengths[1]], mask[1:, : lengths[1]])]
    return any(
        not float((a - b).abs().max()) <= _TOLERANCE * float(b.abs().max())
        for a, b in zip(beside, alone, strict=True)
    )
