"""Run a network over batches of sequences and give back its states, time-major.

Recurrent networks of torch run layer by layer and direction by direction, so that every layer
can be read and padding is never seen; any other module runs on sequences of equal length only.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer.networks.hooks import Tap, hooked
from sktransfer.sequences.recurrent import KINDS, RecurrentNetwork, single_layers
from sktransfer.sequences.source import Sequences

Layer = int | str


class Encoder:
    """A network that turns steps into the states of some of its layers.

    Parameters
    ----------
    module : nn.Module
        On its device.
    layers : tuple of int or str
        Numbers of a recurrent network's layers; for other modules names of submodules, or -1 for
        what the module returns.
    precision : {"float32", "bfloat16"}
        Arithmetic inside the network; states are float32 either way.
    backward : sequence of ndarray of shape (units,), bool, one per layer
        What `backward_units` has found; empty if no unit reads from the end.

    Attributes
    ----------
    equal_lengths : bool
        Whether only sequences of equal length can run together.
    """

    def __init__(
        self,
        module: nn.Module,
        layers: tuple[Layer, ...],
        precision: str,
        backward: Sequence[np.ndarray] = (),
    ) -> None:
        self.device = next((p.device for p in module.parameters()), torch.device("cpu"))
        self._dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.module = module
        self.layers = layers
        self.backward: list[Tensor | None] = [None] * len(layers)
        if backward:
            self.backward = [torch.from_numpy(units).to(self.device) for units in backward]
        rnn = recurrent_part(module)
        self.equal_lengths = rnn is None
        self._stack: list[list[nn.RNNBase]] = []
        if rnn is not None:
            deepest = max(layer for layer in layers if isinstance(layer, int))
            stack = single_layers(rnn)[: deepest + 1]
            self._stack = [[one.to(self._dtype) for one in level] for level in stack]

    def __call__(self, steps: Tensor, lengths: Tensor) -> list[Tensor]:
        """States of each layer.

        Parameters
        ----------
        steps : Tensor of shape (time, rows, channels), float32, or (time, rows), int64
            Padded at the end.
        lengths : Tensor of shape (rows,), int64

        Returns
        -------
        list of Tensor of shape (time, rows, units), float32
            From a module that returns vectors, (1, rows, units).
        """
        if self.equal_lengths:
            return self._run_other(steps)
        if isinstance(self.module, RecurrentNetwork):
            steps = self.module.embed(steps)
        return self._run_recurrent(steps.to(self._dtype), lengths)

    def _run_recurrent(self, steps: Tensor, lengths: Tensor) -> list[Tensor]:
        found = {}
        backwards = None
        if self._stack and len(self._stack[0]) == 2:
            backwards = _reversal(len(steps), lengths)
        for number, level in enumerate(self._stack):
            states = level[0](steps)[0]
            if backwards is not None:
                # Reversing is its own inverse: padding stays at the end.
                behind = level[1](steps.gather(0, backwards.expand(steps.shape)))[0]
                behind = behind.gather(0, backwards.expand(behind.shape))
                states = torch.cat([states, behind], dim=2)
            if number in self.layers:
                found[number] = states.float()
            steps = states
        return [found[layer] for layer in self.layers if isinstance(layer, int)]

    def _run_other(self, steps: Tensor) -> list[Tensor]:
        taps = {layer: Tap(layer) for layer in self.layers if isinstance(layer, str)}
        found: dict[Layer, Any] = {}

        def record(tap: Tap, value: Any) -> None:
            found[tap.module] = value

        bfloat16 = self._dtype == torch.bfloat16
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16)
        with hooked(self.module, set(taps.values()), record), autocast:
            try:
                found[-1] = self.module(steps.transpose(0, 1))
            except (RuntimeError, ValueError, IndexError, TypeError) as error:
                n_steps, rows = steps.shape[:2]
                raise ValueError(
                    f"the backbone cannot run on {rows} sequences of {n_steps} steps ({error}); it "
                    f"must take {'(batch, time)' if steps.ndim == 2 else '(batch, time, channels)'}"
                ) from error
        return [_as_states(found, layer, steps) for layer in self.layers]


def recurrent_part(module: nn.Module) -> nn.RNNBase | None:
    """The module as one of torch's recurrent networks, None if it is something else."""
    if isinstance(module, RecurrentNetwork):
        return module.rnn
    # A subclass, a hook or a parametrisation may do more than the weights say.
    plain = type(module) in KINDS.values() and not (
        module._forward_hooks
        or module._forward_pre_hooks
        or nn.utils.parametrize.is_parametrized(module)
    )
    return module if plain else None  # type: ignore[return-value]


def check_module(encoder: Encoder, steps: Tensor) -> None:
    """See that a module treats the sequences of a batch one by one, batch first, time second.

    Parameters
    ----------
    encoder : Encoder
    steps : Tensor of shape (time, 1, channels) or (time, 1)
        A sequence of the shape that it is to take. It is tried on noise: a network that mixes
        rows may do so unseen when these are constant or alike.

    Raises
    ------
    ValueError
        It mixes rows, as a network that expects time first does, or its time is not where it
        should be.
    """

    def noise(n_steps: int) -> Tensor:
        return _noise(steps, n_steps, 2, generator).to(encoder.device)

    def run(some: Tensor) -> list[Tensor]:
        lengths = torch.full((some.shape[1],), len(some), device=encoder.device)
        return encoder(some, lengths)

    generator = torch.Generator().manual_seed(0)
    pair = noise(len(steps))
    alone = run(pair[:, :1])
    # First and last: a network that takes rows for time still gives the first one its due.
    in_company = run(torch.cat([pair, pair[:, :1]], 1))
    for single, several in zip(alone, in_company, strict=True):
        if not bool(torch.isfinite(single).all()):
            raise ValueError(
                f"the backbone puts out NaN or infinity for noise of {len(steps)} steps; check its "
                "weights, and that it takes any numbers"
            )
        gap = float((several[:, [0, 2]] - single).abs().max())
        if not gap <= 1e-3 * max(1.0, float(single.abs().max())):
            raise ValueError(
                "the backbone gives a sequence other features in company than alone (they differ "
                f"by {gap:.2g}). It must take (batch, time, channels) and treat rows one by one: a "
                "recurrent layer inside needs batch_first=True"
            )
    try:
        longer = run(noise(2 * len(steps))[:, :1])
    except ValueError:  # a module for one length only
        return
    for single, double in zip(alone, longer, strict=True):
        if single.shape[2] != double.shape[2]:
            raise ValueError(
                f"the backbone puts out {single.shape[2]} units for {len(steps)} steps and "
                f"{double.shape[2]} for twice as many: its time axis is the last. It, or the layer "
                "asked for, must put out (batch, time, units)"
            )


def units_from_end(encoder: Encoder, sequences: Sequences) -> tuple[np.ndarray, ...]:
    """`backward_units`, by the longest of some sequences, on which a module is checked, too."""
    values = sequences.one(int(sequences.lengths.argmax()))
    if sequences.is_tokens:
        steps = torch.from_numpy(values)
    else:
        steps = torch.from_numpy(values.astype(np.float32))[:, None]
    with torch.inference_mode():
        if encoder.equal_lengths:
            check_module(encoder, steps.to(encoder.device))
        return backward_units(encoder, steps)


def backward_units(encoder: Encoder, steps: Tensor) -> tuple[np.ndarray, ...]:
    """Units of each layer that read from the end; none at all as an empty tuple.

    The second half of a bidirectional network of torch. In other modules they are found by value:
    where the states at the first step of some noise are the final states (h_n) of a recurrent
    network inside, or those that the module returns behind its states.

    Parameters
    ----------
    encoder : Encoder
    steps : Tensor of shape (time, 1, channels) or (time, 1)
        A sequence of the shape that the network is to take.

    Returns
    -------
    tuple of ndarray of shape (units,), bool
        One per layer, or none.
    """
    rnn = recurrent_part(encoder.module)
    if rnn is not None:
        if not rnn.bidirectional:
            return ()
        size = rnn.proj_size or rnn.hidden_size
        return (np.repeat([False, True], size),) * len(encoder.layers)
    noise = _noise(steps, max(2, len(steps)), 3, torch.Generator().manual_seed(0))
    inner = {n for n, m in encoder.module.named_modules() if isinstance(m, nn.RNNBase)}
    named = {layer for layer in encoder.layers if isinstance(layer, str)}
    final: list[Tensor] = []

    def record(tap: Tap, value: Any) -> None:
        beside = list(_tensors_in(value))[1:]
        final.extend(t.float() for t in beside if t.ndim == 3 and t.shape[1] == noise.shape[1])

    with hooked(encoder.module, {Tap(name) for name in inner | named | {""}}, record):
        try:
            layers = encoder(noise.to(encoder.device), torch.full((noise.shape[1],), len(noise)))
        except ValueError:  # a module for a single step
            return ()
    found = tuple(_first_where_final(states, final) for states in layers)
    return found if any(units.any() for units in found) else ()


def bidirectional_part(module: nn.Module) -> str | None:
    """Name of torch's recurrent network that reads in both directions inside a module, if any."""
    parts = module.named_modules()
    return next((n for n, m in parts if isinstance(m, nn.RNNBase) and m.bidirectional), None)


def _first_where_final(states: Tensor, final: Sequence[Tensor]) -> np.ndarray:
    """Units whose state at the first step, but not at the last, is among some final states."""
    units = np.zeros(states.shape[2], dtype=bool)
    for of_direction in (one for several in final for one in several):
        size = of_direction.shape[1]
        if not 0 < size <= len(units):
            continue
        # Whole directions are compared: a single unit may be 0 at all steps of the noise.
        at_first, at_last = (
            (states[step].unfold(1, size, 1) == of_direction[:, None]).all(2).all(0)
            for step in (0, -1)
        )
        for start in torch.nonzero(at_first & ~at_last).ravel().tolist():
            units[start : start + size] = True
    return units


def _tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors_in(item)


def _noise(steps: Tensor, n_steps: int, n_rows: int, generator: torch.Generator) -> Tensor:
    """Random numbers, or tokens, for a network that takes sequences like `steps`."""
    shape = (n_steps, n_rows, *steps.shape[2:])
    if steps.is_floating_point():
        return torch.randn(shape, generator=generator)
    return torch.randint(int(steps.max()) + 1, shape, generator=generator)


def _reversal(n_steps: int, lengths: Tensor) -> Tensor:
    """Steps of each row in reverse, its padding in place; (time, rows, 1)."""
    steps = torch.arange(n_steps, device=lengths.device)[:, None]
    return torch.where(steps < lengths, lengths - 1 - steps, steps)[:, :, None]


def _as_states(found: dict[Layer, Any], layer: Layer, steps: Tensor) -> Tensor:
    what = "the backbone" if layer == -1 else f"layer {layer!r}"
    if layer not in found:
        raise ValueError(f"{what} did not run; ask for a layer that forward() calls")
    value = found[layer]
    while isinstance(value, tuple | list) and value:
        value = value[0]
    rows = steps.shape[1]
    if not isinstance(value, Tensor) or value.ndim not in (2, 3) or value.shape[0] != rows:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"{what} must put out (batch, time, units) or (batch, units) for a batch of {rows} "
            f"sequences, got {got}. A recurrent layer inside needs batch_first=True"
        )
    if value.ndim == 2:
        value = value[:, None]
    return value.float().transpose(0, 1)
