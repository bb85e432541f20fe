"""The text network as fine-tuning trains it, and the inputs of its training."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer.finetuning.batches import ArrayInputs, Inputs
from sktransfer.finetuning.buffers import allocate
from sktransfer.finetuning.network import Body
from sktransfer.finetuning.protocols import Tunable
from sktransfer.finetuning.strategy import FineTune
from sktransfer.finetuning.unfreezing import stages_of
from sktransfer.networks.early_exit import LayerReader, read_activation
from sktransfer.networks.layers import Read
from sktransfer.networks.resuming import Resumption
from sktransfer.sequences.batching import batches_by_length
from sktransfer.texts.tokens import Tokens
from sktransfer.texts.tracing import TextTrace
from sktransfer.texts.vectors import assembled, joined

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

    learning_rate = 1e-4
    trace: TextTrace

    def __init__(
        self,
        module: nn.Module,
        trace: TextTrace,
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

    def forward(self, batch: Batch | Tensor) -> Tensor:
        """Features, in the columns of `PretrainedTextFeatures.transform`."""
        if self.begin == "features":
            assert isinstance(batch, Tensor)
            return batch
        inside, mask = batch
        real = mask.any(2)
        counts = real.sum(1)
        inside, mask = inside[real], mask[real]
        n_tokens = mask.sum(1)
        run = self._by_length if self.trace.sees_padding else self._together
        rows = run(inside, mask)
        parts = [
            joined(part, read.pooling, counts, n_tokens)
            for part, read in zip(rows, self.reads, strict=True)
        ]
        return assembled(parts, self.reads, self.combine, self.normalize)

    def _together(self, inside: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Vectors of rows, a matrix per read, from one pass."""
        reader = LayerReader(self.module, self.trace, self.reads)
        if not isinstance(self.begin, Resumption):
            return reader(inside, mask)
        with self.begin(self.module, inside):
            return reader(torch.zeros_like(mask), mask)

    def _by_length(self, inside: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """The same from a pass for each length, without padding."""
        n_tokens = mask.sum(1)
        lengths = torch.unique(n_tokens).tolist()
        each = [torch.nonzero(n_tokens == length)[:, 0] for length in lengths]
        found = [
            self._together(inside[rows, :length], mask[rows, :length])
            for rows, length in zip(each, lengths, strict=True)
        ]
        back = torch.cat(each).argsort()
        return tuple(torch.cat(parts)[back] for parts in zip(*found, strict=True))


class TextInputs:
    """The tokens of all texts, or the states of a stage, (n_tokens, width), for all of them."""

    mixable = False

    def __init__(self, tokens: Tokens, states: np.ndarray | None = None) -> None:
        self.tokens = tokens
        self.states = states

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
        exists = np.arange(tokens.counts[rows].max()) < tokens.counts[rows][:, None]
        return _by_text(values, exists), _by_text(mask, exists)


def _by_text(values: np.ndarray, exists: np.ndarray) -> Tensor:
    """Values of rows as (text, row, ...), zero for the rows that a text lacks."""
    by_text = np.zeros((*exists.shape, *values.shape[1:]), dtype=values.dtype)
    by_text[exists] = values
    return torch.from_numpy(by_text)


class TunableTexts(Tunable):
    """Texts and their network, for `sktransfer.finetuning.training.tune`.

    Parameters
    ----------
    body : TextBody
    device : torch.device
    tokens : callable
        Returns the tokens of all texts.
    readable : ndarray of bool
    features : callable
        Returns the features of all texts from the untuned network.
    batch_size : int
        Rows of 128 tokens that run together before the first epoch.
    """

    samples = "texts"
    body: TextBody

    def __init__(
        self,
        body: TextBody,
        device: torch.device,
        tokens: Callable[[], Tokens],
        readable: np.ndarray,
        features: Callable[[], np.ndarray],
        batch_size: int,
    ) -> None:
        super().__init__(body, device)
        self._tokens = tokens
        self._readable = readable
        self._compute = features
        self._batch_size = batch_size

    def _features(self) -> tuple[Inputs, np.ndarray]:
        values = self._compute()
        return ArrayInputs(values, values.shape[1:]), self._readable

    def _samples(self, strategy: FineTune) -> tuple[Inputs, np.ndarray]:
        return TextInputs(self._tokens()), self._readable

    def _activations(self, layer: str) -> tuple[Inputs, np.ndarray]:
        """States of all rows, one after the other without padding."""
        tokens = self._tokens()
        module, trace = self.body.module, self.body.trace
        states = allocate((len(tokens.ids), trace.widths[layer]), np.float32)
        with torch.inference_mode():
            batches = batches_by_length(tokens.lengths, self._batch_size, equal=trace.sees_padding)
            for rows in batches:
                ids, mask = (torch.from_numpy(a).to(self.device) for a in tokens.padded(rows))
                activation = read_activation(module, trace, layer, ids, mask)
                values = activation.float().cpu().numpy()
                for number, row in enumerate(rows):
                    start, length = tokens.starts[row], tokens.lengths[row]
                    states[start : start + length] = values[number, :length]
        return TextInputs(tokens, states), self._readable
