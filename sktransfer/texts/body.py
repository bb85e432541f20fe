"""The text network as fine-tuning needs it: split into stages, and run from where it is tuned."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer.finetuning.batches import ArrayInputs, Inputs
from sktransfer.finetuning.buffers import roomy
from sktransfer.finetuning.network import Body
from sktransfer.finetuning.strategy import FineTune
from sktransfer.finetuning.unfreezing import Stages
from sktransfer.texts.tokens import Tokens, batches
from sktransfer.texts.tracing import (
    Read,
    TextNetwork,
    Trace,
    probe,
    states_of,
)
from sktransfer.texts.vectors import assembled, joined

_TOLERANCE = 1e-4

Batch = tuple[Tensor, Tensor]
"""Tokens (texts, rows, time), or states (texts, rows, time, width), and their mask (texts, rows,
time): most texts have one row, and those that lack some have an empty mask there."""


class TextBody(Body):
    """A transformer, with the pooling that makes features of its states.

    Parameters
    ----------
    module : nn.Module
        In evaluation mode; it is trained in place.
    reads : tuple of Read
    combine : str
    normalize : bool
    """

    def __init__(
        self,
        module: nn.Module,
        trace: Trace,
        reads: tuple[Read, ...],
        combine: str,
        normalize: bool,
    ) -> None:
        super().__init__()
        self.module = module
        self.trace = trace
        self.reads = reads
        self.combine = combine
        self.normalize = normalize
        self.stages = stages_of(module, trace, reads)
        self.begin: str = "tokens"
        """From where it runs: "tokens", "features" that are already there, or a stage."""

    def forward(self, batch: Batch | Tensor) -> Tensor:
        """Features, in the columns of `PretrainedTextFeatures.transform`."""
        if self.begin == "features":
            assert isinstance(batch, Tensor)
            return batch
        inside, mask = batch
        real = mask.any(2)
        counts = real.sum(1)
        inside, mask = inside[real], mask[real]
        network = TextNetwork(self.module, self.trace, self.reads)
        if self.begin == "tokens":
            rows = network(inside, mask)
        else:
            with resumed(self.module, self.trace, self.begin, inside):
                rows = network(torch.zeros_like(mask), mask)
        n_tokens = mask.sum(1)
        parts = [
            joined(part, read.pooling, counts, n_tokens)
            for part, read in zip(rows, self.reads, strict=True)
        ]
        return assembled(parts, self.reads, self.combine, self.normalize)

    def resume_points(self, trained: Sequence[str]) -> list[str]:
        """Stages that are done before anything that is trained runs, or is read; deepest first."""
        first = min(self.stages.of[name] for name in trained)
        done = self.trace.done
        read = min(done[self.trace.runs[read.layer]] for read in self.reads)
        ends = {name: done[self.trace.runs[name]] for name in self.trace.stages}
        before = [name for name in self.stages.names[:first] if ends.get(name, read + 1) <= read]
        return before[::-1]


@contextmanager
def resumed(
    module: nn.Module, trace: Trace, stage: str, values: Tensor, blank: float = 0.0
) -> Iterator[None]:
    """During the block a stage puts out `values`, and what is before it computes nothing."""

    def given(name: str, tensor: Tensor) -> Callable[..., Any]:
        put = (tensor,) if name in trace.tuples else tensor
        return lambda *_, **__: put

    place = trace.runs[stage].module
    before = trace.stages[: trace.stages.index(stage)]
    # An attribute of the instance comes before the method of its class.
    replaced = {name: module.get_submodule(name) for name in (*before, place)}
    nothing = torch.full_like(values, blank)
    try:
        for name, child in replaced.items():
            child.__dict__["forward"] = given(name, values if name == place else nothing)
        yield
    finally:
        for child in replaced.values():
            child.__dict__.pop("forward", None)


def resumable(body: TextBody, stages: Sequence[str]) -> str | None:
    """The first of some stages from which the network goes on as if it had run as a whole."""
    module, trace = body.module, body.trace
    network = TextNetwork(module, trace, body.reads)
    ids, mask = probe(module, 3, 11)
    for stage in stages:
        try:
            with torch.inference_mode():
                expected = network(ids, mask)
                values = states_of(module, trace, {stage}, ids, mask)[stage]
                with resumed(module, trace, stage, values, blank=torch.nan):
                    found = network(torch.zeros_like(ids), mask)
        except Exception:  # a network of another build may raise anything; it runs as a whole
            continue
        if all(_agree(a, b) for a, b in zip(found, expected, strict=True)):
            return stage
    return None


def _agree(found: Tensor, expected: Tensor) -> bool:
    scale = float(expected.abs().max())
    return bool(torch.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE * scale))


class TextInputs:
    """The tokens of all texts, or what a stage has made of them.

    Parameters
    ----------
    tokens : Tokens
    states : ndarray of shape (n_tokens, width) or None, default=None
        Of all rows, end to end.
    """

    mixable = False

    def __init__(self, tokens: Tokens, states: np.ndarray | None = None) -> None:
        self.tokens = tokens
        self.states = states

    def __len__(self) -> int:
        return len(self.tokens.counts)

    def batch(self, rows: np.ndarray, *, training: bool) -> Batch:
        """Padded at the end, in time and in rows."""
        tokens = self.tokens
        of_texts = tokens.rows_of(rows)
        ids, mask = tokens.padded(of_texts)
        values: np.ndarray = ids
        if self.states is not None:
            values = np.zeros((*ids.shape, self.states.shape[1]), dtype=np.float32)
            for number, row in enumerate(of_texts):
                start, length = tokens.starts[row], tokens.lengths[row]
                values[number, :length] = self.states[start : start + length]
        there = np.arange(tokens.counts[rows].max()) < tokens.counts[rows][:, None]
        return _spread(values, there), _spread(mask, there)


def _spread(of_rows: np.ndarray, there: np.ndarray) -> Tensor:
    """Values of rows, one after the other, at their places (text, row); zero elsewhere."""
    spread = np.zeros((*there.shape, *of_rows.shape[1:]), dtype=of_rows.dtype)
    spread[there] = of_rows
    return torch.from_numpy(spread)


class TunableTexts:
    """Texts and their network, for `sktransfer.finetuning.training.tune`.

    Parameters
    ----------
    body : TextBody
    device : torch.device
    tokens : callable
        Of all texts.
    readable : ndarray of bool
    features : callable
        Features of all texts from the network as it is.
    batch_size : int
        Rows of 128 tokens that run together before the first epoch.
    """

    def __init__(
        self,
        body: TextBody,
        device: torch.device,
        tokens: Callable[[], Tokens],
        readable: np.ndarray,
        features: Callable[[], np.ndarray],
        batch_size: int,
    ) -> None:
        self.body = body
        self.device = device
        self._tokens = tokens
        self._readable = readable
        self._features = features
        self._batch_size = batch_size

    def __len__(self) -> int:
        return len(self._readable)

    def inputs(self, trained: tuple[str, ...], strategy: FineTune) -> tuple[Inputs, np.ndarray]:
        """Features, states or tokens: the deepest that training leaves alone."""
        if strategy.augment is not None:
            raise ValueError("augment changes images, and X holds texts; set augment=None")
        if not trained and strategy.cache_trunk:
            self.body.begin = "features"
            values = self._features()
            return ArrayInputs(values, values.shape[1:]), self._readable
        tokens = self._tokens()
        self.body.begin = "tokens"
        if trained and strategy.cache_trunk:
            stage = resumable(self.body, self.body.resume_points(trained))
            if stage is not None:
                states = self._states(tokens, stage)
                self.body.begin = stage
                return TextInputs(tokens, states), self._readable
        return TextInputs(tokens), self._readable

    def _states(self, tokens: Tokens, stage: str) -> np.ndarray:
        """What a stage puts out for all rows, end to end without padding."""
        module, trace = self.body.module, self.body.trace
        states = roomy((len(tokens.ids), trace.widths[stage]), np.float32)
        with torch.inference_mode():
            for rows in batches(tokens, self._batch_size):
                ids, mask = (torch.from_numpy(a).to(self.device) for a in tokens.padded(rows))
                values = states_of(module, trace, {stage}, ids, mask)[stage].float().cpu().numpy()
                for number, row in enumerate(rows):
                    start, length = tokens.starts[row], tokens.lengths[row]
                    states[start : start + length] = values[number, :length]
        return states


def stages_of(module: nn.Module, trace: Trace, reads: tuple[Read, ...]) -> Stages:
    """The blocks with weights up to what is read, and to which each weight belongs."""
    deepest = max(trace.done[trace.runs[read.layer]] for read in reads)
    ends = {name: trace.done[trace.runs[name]] for name in trace.stages}
    names = [name for name, end in ends.items() if end <= deepest] or [trace.stages[0]]
    first: dict[str, int] = {}
    for run, time in trace.done.items():
        first[run.module] = min(time, first.get(run.module, time))
    # A tied weight goes by several names and belongs to the first place where it is used.
    uses: dict[int, int] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        owner = name.rpartition(".")[0]
        while owner and owner not in first:
            owner = owner.rpartition(".")[0]
        use = first.get(owner, 0)
        uses[id(parameter)] = min(use, uses.get(id(parameter), use))
    of = {
        name: min(sum(ends[stage] < uses[id(p)] for stage in names), len(names) - 1)
        for name, p in module.named_parameters()
        if uses[id(p)] <= deepest
    }
    used = sorted(set(of.values())) or [len(names) - 1]
    return Stages(
        tuple(names[stage] for stage in used), {name: used.index(s) for name, s in of.items()}
    )
