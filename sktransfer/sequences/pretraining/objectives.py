"""Self-supervised objectives for sequences: contrastive, forecast, masked and autoencoding.

Each objective holds the layers that are dropped after training. Steps are time-major: (time, rows,
channels), or (time, rows) for tokens. All rows of a batch have the same length.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sktransfer.sequences.pooling import final_states, pool

States = Callable[[Tensor], Tensor]
"""The network in training, a function of steps that returns states, (time, rows, units)."""

_CROP = 0.5
"""Length of the shortest crop, relative to the sequence."""
_RESCALE, _JITTER = 0.2, 0.1
"""Standard deviations of a crop's log scale, and of its noise relative to a unit deviation."""
_MASKED, _SPAN = 0.25, 8
"""Share of masked steps, and number of consecutive steps in a span."""
_OCTAVES = 6
"""Number of frequencies, each twice the last, in the position encoding of the decoder."""


class Contrastive(nn.Module):
    """Identify the other crop of a sequence among the crops of other sequences (NT-Xent)."""

    def __init__(
        self,
        n_units: int,
        temperature: float,
        attention: nn.Module | None,
        backward: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.backward_units: Tensor | None
        self.register_buffer("backward_units", backward)
        self.attention = attention
        self.poolings = ("last", "mean", "max", *(() if attention is None else ("attention",)))
        width = len(self.poolings) * n_units
        self.project = nn.Sequential(
            nn.BatchNorm1d(width), nn.Linear(width, n_units), nn.ReLU(), nn.Linear(n_units, n_units)
        )

    def forward(self, states_of: States, steps: Tensor) -> Tensor:
        """Cross entropy of identifying the other crop, as a mean over both directions."""
        n_rows = steps.shape[1]
        both = torch.cat([self._embed(states_of, steps) for _ in range(2)])
        similar = both @ both.T / self.temperature
        similar.fill_diagonal_(-torch.inf)  # a crop is no candidate for itself
        partner = torch.arange(2 * n_rows, device=steps.device).roll(n_rows)
        return F.cross_entropy(similar, partner)

    def _embed(self, states_of: States, steps: Tensor) -> Tensor:
        states = states_of(_distorted(_cropped(steps)))
        lengths = torch.full((states.shape[1],), len(states), device=states.device)
        scores = None if self.attention is None else self.attention(states)[:, :, 0]
        pooled = pool(states, lengths, self.poolings, scores=scores, backward=self.backward_units)
        return F.normalize(self.project(torch.cat(pooled, dim=1)), dim=1)


class Forecast(nn.Module):
    """Predict the next step from each state."""

    def __init__(self, n_units: int, n_out: int) -> None:
        super().__init__()
        self.decode = nn.Linear(n_units, n_out)

    def forward(self, states_of: States, steps: Tensor) -> Tensor:
        """Mean squared error, or for tokens cross entropy, of the next step."""
        states = states_of(steps)
        return _error(self.decode(states[:-1]), steps[1:])


class Masked(nn.Module):
    """Predict masked steps from their states."""

    def __init__(self, n_units: int, n_out: int) -> None:
        super().__init__()
        self.decode = nn.Linear(n_units, n_out)

    def forward(self, states_of: States, steps: Tensor) -> Tensor:
        """Error of the masked steps."""
        n_steps, n_rows = steps.shape[:2]
        span = min(_SPAN, n_steps)
        starts = torch.rand(n_steps, n_rows, device=steps.device) < _MASKED / span
        starts[torch.randint(n_steps, (n_rows,)), torch.arange(n_rows)] = True  # at least one
        masked = starts.clone()
        for shift in range(1, span):
            masked[shift:] |= starts[:-shift]
        if steps.is_floating_point():
            shown = steps.masked_fill(masked[:, :, None], 0.0)
        else:  # the vocabulary has no mask token: another row's token, as BERT does for a tenth
            shown = torch.where(masked, steps[:, torch.randperm(n_rows)], steps)
        return _error(self.decode(states_of(shown))[masked], steps[masked])


class Autoencode(nn.Module):
    """Predict every step from the final state and the step's position."""

    def __init__(self, n_units: int, n_out: int, backward: Tensor | None) -> None:
        super().__init__()
        self.backward_units: Tensor | None
        self.register_buffer("backward_units", backward)
        width = n_units + 2 * _OCTAVES
        self.decode = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, n_out)
        )

    def forward(self, states_of: States, steps: Tensor) -> Tensor:
        """Error of all steps."""
        n_steps, n_rows = steps.shape[:2]
        lengths = torch.full((n_rows,), n_steps, device=steps.device)
        summary = final_states(states_of(steps), lengths, self.backward_units)
        position = torch.linspace(0, 1, n_steps, device=steps.device)[:, None]
        angles = torch.pi * position * 2.0 ** torch.arange(_OCTAVES, device=steps.device)
        encoding = torch.cat([angles.sin(), angles.cos()], dim=1)[:, None].expand(-1, n_rows, -1)
        inputs = torch.cat([summary.expand(n_steps, -1, -1), encoding], dim=2)
        return _error(self.decode(inputs), steps)


def _error(predicted: Tensor, steps: Tensor) -> Tensor:
    if steps.is_floating_point():
        return F.mse_loss(predicted, steps)
    return F.cross_entropy(predicted.flatten(0, -2), steps.flatten())


def _cropped(steps: Tensor) -> Tensor:
    """The same number of steps from each row, with a random start in each."""
    n_steps, n_rows = steps.shape[:2]
    shortest = max(1, int(_CROP * n_steps))
    length = int(torch.randint(shortest, n_steps + 1, ()))
    start = torch.randint(n_steps - length + 1, (n_rows,), device=steps.device)
    index = start + torch.arange(length, device=steps.device)[:, None]
    return steps[index, torch.arange(n_rows, device=steps.device)]


def _distorted(steps: Tensor) -> Tensor:
    """Steps with a random scale and noise; tokens are not changed."""
    if not steps.is_floating_point():
        return steps
    scale = torch.exp(_RESCALE * torch.randn(1, steps.shape[1], 1, device=steps.device))
    return steps * scale + _JITTER * torch.randn_like(steps)
