"""Run a network over batches of sequences and give back its states, time-major.

Recurrent networks of torch run layer by layer and direction by direction, so that every layer
can be read and padding is never seen; any other module runs on sequences of equal length only.
"""

from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.networks.hooks import Tap, hooked
from sktransfer.sequences.recurrent import KINDS, RecurrentNetwork, single_layers

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

    Attributes
    ----------
    equal_lengths : bool
        Whether only sequences of equal length can run together.
    """

    def __init__(self, module: nn.Module, layers: tuple[Layer, ...], precision: str) -> None:
        self.device = next((p.device for p in module.parameters()), torch.device("cpu"))
        self._dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.module = module
        self._layers = layers
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
            if number in self._layers:
                found[number] = states.float()
            steps = states
        return [found[layer] for layer in self._layers if isinstance(layer, int)]

    def _run_other(self, steps: Tensor) -> list[Tensor]:
        taps = {layer: Tap(layer) for layer in self._layers if isinstance(layer, str)}
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
        return [_as_states(found, layer, steps) for layer in self._layers]


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
        shape = (n_steps, 2, *steps.shape[2:])
        if steps.is_floating_point():
            drawn = torch.randn(shape, generator=generator)
        else:
            drawn = torch.randint(int(steps.max()) + 1, shape, generator=generator)
        return drawn.to(encoder.device)

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
