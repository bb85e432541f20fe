"""Synthetic time series by concept, on which the included sequence weights are trained.

A concept is a sum of one to three components - a sine, a square, an autoregressive process, a
warped curve and so on - with its parameters. Its variants are drawn with small changes of the
parameters, other phases and positions, and other noise. Sibling concepts share all components but
one, which differs a little, so that telling them apart is hard.
"""

from collections.abc import Callable

import numpy as np

Generator = np.random.Generator
_BURN_IN = 50
_OCTAVES = np.arange(1, 9)


class Component:
    """The parameters that a component is drawn from, for all rows of one kind.

    Parameters
    ----------
    rng : numpy.random.Generator
    u : ndarray of shape (rows, 5)
        Its parameters, in [0, 1].
    seeds : ndarray of shape (rows,)
        What its random curves are drawn from; rows of one concept share it.
    free : ndarray of shape (rows,), bool
        Whether phase and place are another in every variant.
    n_steps : int
    """

    def __init__(
        self, rng: Generator, u: np.ndarray, seeds: np.ndarray, free: np.ndarray, n_steps: int
    ) -> None:
        self.rng, self.u, self.seeds, self.n_steps = rng, u, seeds, n_steps
        self.time = np.linspace(0, 1, n_steps)[None]
        n = len(u)
        place = u[:, 1] + 0.03 * rng.standard_normal(n)
        self.phase = np.where(free, rng.uniform(0, 1, n), place)[:, None]
        self.centre = np.where(free, rng.uniform(0.1, 0.9, n), place)[:, None]
        self.cycles = self._cycles(u[:, 0])

    def column(self, index: int) -> np.ndarray:
        """A parameter as a column."""
        return self.u[:, index : index + 1]

    def _cycles(self, u: np.ndarray) -> np.ndarray:
        """Cycles per series, from 0.7 to a quarter of its steps."""
        low, high = np.log(0.7), np.log(self.n_steps / 4)
        return np.exp(low + u * (high - low))[:, None]

    # --- the kinds ------------------------------------------------------------------------

    def sine(self) -> np.ndarray:
        slow = np.sin(2 * np.pi * (4 * self.column(3) * self.time + self.phase))
        return np.sin(2 * np.pi * (self.cycles * self.time + self.phase)) * (
            1 + self.column(2) * slow
        )

    def square(self) -> np.ndarray:
        position = (self.cycles * self.time + self.phase) % 1
        return np.where(position < 0.1 + 0.8 * self.column(2), 1.0, -1.0)

    def saw(self) -> np.ndarray:
        position = (self.cycles * self.time + self.phase) % 1
        rise = 0.05 + 0.9 * self.column(2)
        return np.where(position < rise, position / rise, (1 - position) / (1 - rise)) * 2 - 1

    def chirp(self) -> np.ndarray:
        faster = self._cycles(self.u[:, 2]) - self.cycles
        turns = self.cycles * self.time + faster * self.time**2 / 2
        return np.sin(2 * np.pi * (turns + self.phase))

    def autoregression(self) -> np.ndarray:
        """An autoregressive process of second order, with poles of this radius and angle."""
        radius, angle = 0.5 + 0.49 * self.u[:, 0], np.pi * self.u[:, 2]
        first, second = 2 * radius * np.cos(angle), -(radius**2)
        noise = self.rng.standard_normal((self.n_steps + _BURN_IN, len(self.u)))
        x = np.zeros_like(noise)
        for t in range(2, len(x)):
            x[t] = first * x[t - 1] + second * x[t - 2] + noise[t]
        return _unit(x[_BURN_IN:].T)

    def power_law_noise(self) -> np.ndarray:
        frequency = np.fft.rfftfreq(self.n_steps)[None]
        frequency[:, 0] = 1
        shape = (len(self.u), frequency.shape[1])
        spectrum = self.rng.standard_normal(shape) + 1j * self.rng.standard_normal(shape)
        spectrum = spectrum * frequency ** (-1.25 * self.column(0))
        spectrum[:, 0] = 0
        return _unit(np.fft.irfft(spectrum, self.n_steps))

    def warped_curve(self) -> np.ndarray:
        """The concept's curve, its time stretched and squeezed."""
        n, knots = len(self.u), 5
        strength = (0.05 + 0.3 * self.column(0)) * self.rng.standard_normal((n, knots))
        reached = np.cumsum(np.exp(strength), axis=1)
        reached = np.concatenate([np.zeros((n, 1)), reached], axis=1) / reached[:, -1:]
        at = np.linspace(0, knots, self.n_steps)
        left = np.minimum(at.astype(int), knots - 1)
        return self._curve(
            reached[:, left] * (1 - (at - left)) + reached[:, left + 1] * (at - left)
        )

    def motif(self) -> np.ndarray:
        """A short curve somewhere, nothing elsewhere."""
        width = np.maximum(0.06, 0.4 * self.column(0))
        within = (self.time - self.centre) / width + 0.5
        inside = (within > 0) & (within < 1)
        return np.where(inside, 2 * self._curve(np.clip(within, 0, 1)), 0)

    def spikes(self) -> np.ndarray:
        """Spikes at random times that decay."""
        shape = (len(self.u), self.n_steps)
        hit = self.rng.uniform(size=shape) < (1 + 10 * self.column(0)) / self.n_steps
        sign = np.sign(self.rng.uniform(size=shape) - 0.5 * self.column(3))
        fade = np.exp(-1 / (1 + self.u[:, 2] * self.n_steps / 12))
        x, level = np.zeros(shape), np.zeros(len(self.u))
        for t in range(self.n_steps):
            level = level * fade + (hit * sign)[:, t]
            x[:, t] = level
        return 2 * x

    def levels(self) -> np.ndarray:
        """The concept's two to six levels, their changes somewhat shifted."""

        def of_concept(rng: Generator, rows: np.ndarray) -> np.ndarray:
            n_levels = rng.integers(2, 7)
            changes = np.sort(rng.uniform(0.05, 0.95, n_levels - 1))
            heights = rng.standard_normal(n_levels)
            shifted = changes + 0.04 * self.rng.standard_normal((len(rows), n_levels - 1))
            passed = self.time[:, :, None] > np.sort(shifted, axis=1)[:, None, :]
            return heights[passed.sum(axis=2)]

        return self._by_concept(of_concept)

    def burst(self) -> np.ndarray:
        """Oscillations that come and go."""
        envelope = ((self.time - self.centre) / (0.03 + 0.2 * self.column(2))) ** 2
        turns = np.maximum(self.cycles, 3) * self.time + self.phase
        return 2 * np.sin(2 * np.pi * turns) * np.exp(-0.5 * envelope)

    def trend(self) -> np.ndarray:
        centred = self.time - 0.5
        bend = 16 * (self.column(2) - 0.5) * centred**2
        return 8 * (self.column(0) - 0.5) * centred + bend

    # --- random curves --------------------------------------------------------------------

    def _curve(self, at: np.ndarray) -> np.ndarray:
        """The concept's smooth random curve at some places in [0, 1]."""

        def of_concept(rng: Generator, rows: np.ndarray) -> np.ndarray:
            height = rng.standard_normal(len(_OCTAVES)) * _OCTAVES ** -rng.uniform(0.3, 1.6)
            phase = rng.uniform(0, 2 * np.pi, len(_OCTAVES))
            turns = _OCTAVES * rng.uniform(0.4, 1.0)
            angles = 2 * np.pi * turns[:, None, None] * at[rows] + phase[:, None, None]
            return np.tensordot(height, np.sin(angles), 1)

        return _unit(self._by_concept(of_concept))

    def _by_concept(self, draw: Callable[[Generator, np.ndarray], np.ndarray]) -> np.ndarray:
        out = np.zeros((len(self.u), self.n_steps))
        for seed in np.unique(self.seeds):
            rows = np.flatnonzero(self.seeds == seed)
            out[rows] = draw(np.random.default_rng(seed), rows)
        return out


KINDS = (
    *(Component.sine, Component.square, Component.saw, Component.chirp),
    *(Component.autoregression, Component.power_law_noise, Component.warped_curve),
    *(Component.motif, Component.spikes, Component.levels, Component.burst, Component.trend),
)


def draw_series(
    rng: Generator, n_families: int, n_siblings: int, n_variants: int, n_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw variants of concepts.

    Returns
    -------
    series : ndarray of shape (n_families * n_siblings * n_variants, n_steps), float32
    concepts : ndarray of int
        Which concept each is of; the variants of one follow each other.
    """
    family = np.repeat(np.arange(n_families), n_siblings)
    n_parts = rng.integers(1, 4, n_families)
    kinds = rng.integers(0, len(KINDS), (n_families, 3))[family]
    u = rng.uniform(size=(n_families, 3, 5))[family]
    seeds = rng.integers(0, 2**31, (n_families, 3))[family]
    free = (rng.uniform(size=(n_families, 3)) < 0.4)[family]
    heights = np.exp(0.5 * rng.standard_normal((n_families, 3)))[family]
    noise = np.exp(rng.uniform(np.log(0.01), np.log(0.6), n_families))[family]
    spread = np.exp(rng.uniform(np.log(0.005), np.log(0.06), n_families))[family]
    for concept in range(len(family)):
        if concept % n_siblings == 0:
            continue
        several = n_parts[family[concept]] > 1
        part = rng.integers(0, n_parts[family[concept]])
        change = rng.uniform()
        if change < 0.3:  # another component
            kinds[concept, part] = rng.integers(0, len(KINDS))
            u[concept, part] = rng.uniform(size=5)
            seeds[concept, part] = rng.integers(2**31)
        elif change < 0.8:  # the same with other parameters
            u[concept, part] = np.clip(u[concept, part] + rng.normal(0, 0.25, 5), 0, 1)
            seeds[concept, part] = rng.integers(2**31)
        else:  # other proportions, other noise
            if several:
                heights[concept, part] *= np.exp(rng.choice([-1, 1]) * rng.uniform(0.4, 1.2))
            noise[concept] *= np.exp(rng.choice([-1, 1]) * rng.uniform(0.5, 1.2))

    def of_variants(values: np.ndarray) -> np.ndarray:
        return np.repeat(values, n_variants, axis=0)

    kinds, u, seeds, free, heights, noise, spread, n_parts = map(
        of_variants, (kinds, u, seeds, free, heights, noise, spread, n_parts[family])
    )
    u = np.clip(u + spread[:, None, None] * rng.standard_normal(u.shape), 0, 1)
    series = np.zeros((len(u), n_steps))
    for part in range(3):
        for number, kind in enumerate(KINDS):
            rows = np.flatnonzero((kinds[:, part] == number) & (n_parts > part))
            if len(rows):
                drawn = Component(rng, u[rows, part], seeds[rows, part], free[rows, part], n_steps)
                height = heights[rows, part] * np.exp(0.1 * rng.standard_normal(len(rows)))
                series[rows] += height[:, None] * kind(drawn)
    own = series.std(axis=1, keepdims=True).clip(0.1)
    series += noise[:, None] * rng.standard_normal(series.shape) * own
    return series.astype(np.float32), of_variants(np.arange(len(family)))


def _unit(x: np.ndarray) -> np.ndarray:
    return x / (x.std(axis=1, keepdims=True) + 1e-6)
