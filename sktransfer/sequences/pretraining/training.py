"""The training loop of self-supervised pretraining on sequences."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from sktransfer.networks.modules import evaluate
from sktransfer.networks.seeding import seeded
from sktransfer.sequences.encoding import Encoder, backward_units, recurrent_part
from sktransfer.sequences.pretraining.objectives import Autoencode, Contrastive, Forecast, Masked
from sktransfer.sequences.pretraining.strategy import Pretraining
from sktransfer.sequences.recurrent import RecurrentNetwork
from sktransfer.sequences.source import Sequences, Source
from sktransfer.sequences.vectors import SequencePlan
from sktransfer.sequences.views import show

_GRADIENT_NORM = 1.0
_SHORTEST = 3
"""Least steps of a sequence, so that a forecast of its differences has an input and an output."""


def pretrain(
    module: nn.Module,
    source: Source,
    lengths: np.ndarray,
    plan: SequencePlan,
    strategy: Pretraining,
    seed: int,
    *,
    vocabulary_size: int | None,
    progress: str | None,
) -> list[float]:
    """Train a network in place, and return the mean loss of each epoch.

    Each batch is in a random view; a network of single channels gets a random channel of each
    sequence.

    Parameters
    ----------
    module : nn.Module
        On its device; in evaluation mode and frozen, before and after.
    source : Source
        The sequences.
    lengths : ndarray of shape (n,)
        Number of steps of each, without padding.
    plan : SequencePlan
        Their views and scale.
    strategy : Pretraining
    seed : int
    vocabulary_size : int or None
        For tokens.
    progress : str or None
        Label of the progress bar; None for no bar.

    Raises
    ------
    ValueError
        There are fewer than two sequences of three steps, the network sees the future that it
        should forecast, does not return a state per step, or the loss is not finite.
    """
    draw = np.random.RandomState(seed)
    # The finest views only: features of shapes transfer to coarser steps, too.
    finest = min(view.factor for view in plan.views)
    plan = replace(plan, views=tuple(view for view in plan.views if view.factor == finest))
    shortest = _SHORTEST * finest
    usable = np.flatnonzero(lengths >= shortest)
    if len(usable) < 2:
        raise ValueError(
            f"pretraining needs at least 2 sequences of at least {shortest} steps, got "
            f"{len(usable)}; set pretraining=None"
        )
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    states_of = _states_of(module)
    losses = []
    # Dropout and the objectives draw from torch's generators.
    with seeded(seed):
        objective = _objective(module, strategy, states_of, plan, vocabulary_size, device)
        module.train()
        module.requires_grad_(True)
        parameters = [*module.parameters(), *objective.parameters()]
        # The objective may hold the network's attention, whose parameters are listed twice then.
        parameters = list({id(p): p for p in parameters}.values())
        optimizer = torch.optim.AdamW(
            parameters, lr=strategy.learning_rate, weight_decay=strategy.weight_decay
        )
        n_batches = strategy.epochs * _n_batches(len(usable), strategy.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_batches)
        try:
            bar = tqdm(range(strategy.epochs), desc=progress, disable=progress is None)
            for _ in bar:
                epoch_losses = []
                for rows in _batches(usable, lengths, strategy.batch_size, draw):
                    steps = _steps(source.read(list(rows)), plan, draw).to(device)
                    loss = objective(states_of, steps)
                    epoch_losses.append(float(loss.detach()))
                    if not math.isfinite(epoch_losses[-1]):
                        raise ValueError(
                            f"pretraining diverged: the loss is {epoch_losses[-1]}; lower "
                            f"learning_rate={strategy.learning_rate}"
                        )
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(parameters, _GRADIENT_NORM)
                    optimizer.step()
                    schedule.step()
                losses.append(float(np.mean(epoch_losses)))
                bar.set_postfix(loss=f"{losses[-1]:.3g}")
        finally:
            evaluate(module)
            module.requires_grad_(False)
    if not all(p.isfinite().all() for p in module.parameters()):
        raise ValueError(
            f"pretraining diverged: weights are NaN or infinite; lower learning_rate="
            f"{strategy.learning_rate}"
        )
    return losses


def _objective(
    module: nn.Module,
    strategy: Pretraining,
    states_of: Callable[[Tensor], Tensor],
    plan: SequencePlan,
    vocabulary_size: int | None,
    device: torch.device,
) -> nn.Module:
    rnn = recurrent_part(module)
    name = strategy.objective
    if name == "forecast" and rnn is not None and rnn.bidirectional:
        raise ValueError(
            "pretraining='forecast' needs bidirectional=False: a network that runs backwards sees "
            "the step that it should forecast"
        )
    n_channels = plan.n_channels if plan.joint else 1
    shape = (2, 1) if vocabulary_size else (2, 1, n_channels)
    probe = torch.zeros(shape, dtype=torch.int64 if vocabulary_size else torch.float32)
    with torch.no_grad():
        states = states_of(probe.to(device))
    if states.ndim != 3 or len(states) != 2:
        raise ValueError(
            "pretraining needs a backbone that returns a state per step, (batch, time, units); "
            f"for 2 steps it returned shape {tuple(states.transpose(0, 1).shape)}"
        )
    if name == "forecast":
        _check_causal(states_of, probe.to(device))
    n_units = states.shape[2]
    n_out = vocabulary_size or n_channels
    backward = _backward_units(module, probe)
    built: nn.Module
    if name == "contrastive":
        attention = None
        if isinstance(module, RecurrentNetwork):
            attention = module.with_attention().attention
        built = Contrastive(n_units, strategy.temperature, attention, backward)
    elif name == "autoencode":
        built = Autoencode(n_units, n_out, backward)
    else:
        built = {"forecast": Forecast, "masked": Masked}[name](n_units, n_out)
    return built.to(device)


def _backward_units(module: nn.Module, steps: Tensor) -> Tensor | None:
    """Units of what a network puts out that read from the end; None if none do."""
    rnn = recurrent_part(module)
    output = -1 if rnn is None else rnn.num_layers - 1
    with torch.no_grad():
        found = backward_units(Encoder(module, (output,), "float32"), steps[:, :1])
    return torch.from_numpy(found[0]) if found else None


def _check_causal(states_of: Callable[[Tensor], Tensor], steps: Tensor) -> None:
    """Check that a state does not depend on later steps."""
    changed = steps.clone()
    changed[1] = 1
    with torch.no_grad():
        if not torch.allclose(states_of(steps)[0], states_of(changed)[0], atol=1e-5):
            raise ValueError(
                "pretraining='forecast' needs a network that does not see the step that it should "
                "forecast, but the states of this one depend on later steps"
            )


def _states_of(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """A module as a function from time-major steps to time-major states."""
    if isinstance(module, RecurrentNetwork):
        return module
    rnn = recurrent_part(module)
    batch_first = rnn is None or rnn.batch_first

    def run(steps: Tensor) -> Tensor:
        value = module(steps.transpose(0, 1) if batch_first else steps)
        while isinstance(value, tuple | list):  # torch's recurrent layers return states and more
            value = value[0]
        return value.transpose(0, 1) if batch_first else value

    return run


def _batches(
    usable: np.ndarray, lengths: np.ndarray, batch_size: int, draw: np.random.RandomState
) -> Iterator[np.ndarray]:
    """Batches in random order, each with sequences of similar length."""
    shuffled = usable[draw.permutation(len(usable))]
    # Noise in the lengths makes batches differ between epochs.
    jitter = np.exp(0.1 * draw.standard_normal(len(shuffled)))
    by_length = shuffled[np.argsort(lengths[shuffled] * jitter, kind="stable")]
    n_batches = _n_batches(len(by_length), batch_size)
    batches = np.array_split(by_length, n_batches)
    for number in draw.permutation(n_batches):
        yield batches[number]


def _n_batches(n: int, batch_size: int) -> int:
    """Number of batches, such that only a single one may be smaller than `batch_size`."""
    return max(1, n // batch_size)


def _steps(sequences: Sequences, plan: SequencePlan, draw: np.random.RandomState) -> Tensor:
    """Time-major steps of a batch, cropped at random to the length of the shortest sequence."""
    tokens = sequences.is_tokens
    seen = sequences
    if not tokens:
        seen = show(sequences, plan.views[draw.randint(len(plan.views))], plan.scales)
    length = int(seen.lengths.min())
    cuts = []
    for index in range(len(seen)):
        values = seen.one(index)
        start = draw.randint(len(values) - length + 1)
        values = values[start : start + length]
        if tokens:
            cuts.append(values[:, 0])
        elif plan.joint:
            cuts.append(values.astype(np.float32))
        else:
            channel = draw.randint(values.shape[1])
            cuts.append(values[:, [channel]].astype(np.float32))
    return torch.from_numpy(np.stack(cuts, axis=1))
